//! Settings of a breaker: values that are checked, applied and read back as a whole.

use std::time::Duration;

use seawall::circuit_breaker::{OpenDuration, SlowCall, Window};
use seawall::{CircuitBreaker, CircuitBreakerSettings, CircuitState};
use tokio::time::advance;

const SECOND: Duration = Duration::from_secs(1);

/// Every setting other than its default.
fn all() -> CircuitBreakerSettings {
    let open = OpenDuration::exponential(2 * SECOND, 1.5, 60 * SECOND).jitter(0.25);
    CircuitBreakerSettings::default()
        .failure_rate(0.25)
        .slow_call(1500 * Duration::from_millis(1), 0.75)
        .consecutive_failures(7)
        .window(Window::time_based(30 * SECOND).buckets(15))
        .minimum_calls(12)
        .open_duration(open)
        .half_open_probes(3)
        .half_open_timeout(4 * SECOND)
}

#[tokio::test]
async fn what_is_applied_is_read_back() {
    let breaker = CircuitBreaker::new(all()).unwrap();
    assert_eq!(breaker.settings(), all());
    let other = all()
        .failure_rate(None)
        .consecutive_failures(None)
        .half_open_timeout(None)
        .open_duration(SECOND);
    breaker.set(other.clone()).unwrap();
    assert_eq!(breaker.settings(), other);

    breaker.set_failure_rate(0.9).unwrap();
    breaker.set_slow_call(SlowCall::new(SECOND, 0.6)).unwrap();
    breaker.set_minimum_calls(5).unwrap();
    let two = OpenDuration::from_fn(|_| 2 * SECOND);
    breaker.set_open_duration(two.clone()).unwrap();
    let changed = other
        .failure_rate(0.9)
        .slow_call(SECOND, 0.6)
        .minimum_calls(5)
        .open_duration(two);
    assert_eq!(breaker.settings(), changed);
    breaker.set_slow_call(None).unwrap();
    assert_eq!(breaker.settings().slow_call, None);
    assert_eq!(
        CircuitBreaker::default().settings(),
        CircuitBreakerSettings::default()
    );
}

#[tokio::test]
async fn settings_that_make_no_sense_change_nothing() {
    let breaker = CircuitBreaker::new(all()).unwrap();
    let bad = [
        ("failure_rate", all().failure_rate(1.5)),
        ("slow_call.duration", all().slow_call(Duration::ZERO, 0.5)),
        ("slow_call.rate", all().slow_call(SECOND, 0.0)),
        ("consecutive_failures", all().consecutive_failures(0)),
        ("window", all().window(Window::count_based(0))),
        ("window", all().window(Window::time_based(29 * SECOND))),
        (
            "window.buckets",
            all().window(Window::time_based(SECOND).buckets(61)),
        ),
        ("minimum_calls", all().minimum_calls(0)),
        ("open_duration", all().open_duration(Duration::ZERO)),
        ("half_open_probes", all().half_open_probes(0)),
        ("half_open_timeout", all().half_open_timeout(Duration::ZERO)),
    ];
    for (field, settings) in bad {
        // An invalid change together with a valid one.
        let error = breaker.set(settings.failure_rate_or(0.5)).unwrap_err();
        assert_eq!(error.field(), field);
        assert_eq!(breaker.settings(), all(), "{field}");
    }
    let mut none = all().failure_rate(None).consecutive_failures(None);
    none.slow_call = None;
    assert_eq!(breaker.set(none).unwrap_err().field(), "failure_rate");
    assert_eq!(breaker.settings(), all());
}

trait Or {
    fn failure_rate_or(self, rate: f64) -> Self;
}

impl Or for CircuitBreakerSettings {
    /// Another failure rate, unless the failure rate is the invalid value.
    fn failure_rate_or(self, rate: f64) -> Self {
        if self.failure_rate == Some(0.25) {
            self.failure_rate(rate)
        } else {
            self
        }
    }
}

/// A change applies to the next outcome, and the window stays.
#[tokio::test(start_paused = true)]
async fn a_change_applies_at_once() {
    let settings = CircuitBreakerSettings::default().minimum_calls(1000);
    let breaker = CircuitBreaker::new(settings).unwrap();
    for _ in 0..4 {
        breaker.try_acquire().unwrap().failure();
    }
    assert_eq!(breaker.state(), CircuitState::Closed);
    let settings = breaker
        .settings()
        .minimum_calls(5)
        .open_duration(3 * SECOND);
    breaker.set(settings).unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
    breaker.try_acquire().unwrap().failure();
    let open = CircuitState::Open {
        retry_in: 3 * SECOND,
    };
    assert_eq!(breaker.state(), open);
}

/// The settings that a breaker is given need not repeat its window.
#[test]
fn a_change_without_a_window_keeps_the_window() {
    let ten = Window::count_based(10);
    let breaker = CircuitBreaker::new(CircuitBreakerSettings::default().window(ten)).unwrap();
    let change = CircuitBreakerSettings::default().failure_rate(0.3);
    breaker.set(change.clone()).unwrap();
    assert_eq!(breaker.settings(), change.clone().window(ten));
    let error = breaker.set(change.minimum_calls(11)).unwrap_err();
    assert_eq!(error.field(), "minimum_calls");

    let breaker = CircuitBreaker::default();
    let default = Window::time_based(10 * SECOND);
    for same in [default, default.buckets(10)] {
        let change = CircuitBreakerSettings::default().window(same);
        breaker.set(change).unwrap();
        assert_eq!(breaker.settings(), CircuitBreakerSettings::default());
    }
    let change = CircuitBreakerSettings::default().window(default.buckets(5));
    assert_eq!(breaker.set(change).unwrap_err().field(), "window");
}

#[test]
fn functions_are_equal_if_they_are_the_same() {
    let one = OpenDuration::from_fn(|_| SECOND);
    assert_eq!(one, one.clone());
    assert_ne!(one, OpenDuration::from_fn(|_| SECOND));
    assert_ne!(one, SECOND.into());
    assert_eq!(
        all().slow_call,
        Some(SlowCall::new(Duration::from_millis(1500), 0.75))
    );
}

/// The half-open time is over, and no call has come since: the settings of that time decide.
#[tokio::test(start_paused = true)]
async fn a_change_does_not_decide_about_probes_of_before() {
    let settings = CircuitBreakerSettings::default().open_duration(SECOND);
    let breaker = CircuitBreaker::new(settings.clone()).unwrap();
    breaker.trip();
    advance(SECOND).await;
    for ok in [true, true, false] {
        let permit = breaker.try_acquire().unwrap();
        if ok {
            permit.success();
        } else {
            permit.failure();
        }
    }
    advance(SECOND).await;
    assert_eq!(breaker.state(), CircuitState::Closed);
    breaker.set_failure_rate(0.3).unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);

    let breaker = CircuitBreaker::new(settings).unwrap();
    breaker.trip();
    advance(SECOND).await;
    drop(breaker.try_acquire().unwrap());
    advance(5 * SECOND).await;
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    breaker.set_open_duration(3600 * SECOND).unwrap();
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
}

#[cfg(feature = "serde")]
mod serialized {
    use super::*;

    #[test]
    fn settings_survive_toml_and_json() {
        let counts = all()
            .window(Window::count_based(50))
            .open_duration(SECOND)
            .half_open_timeout(None);
        let mut off = all().failure_rate(None);
        off.slow_call = None;
        let jittered = all().open_duration(OpenDuration::from(SECOND).jitter(0.5));
        for settings in [
            CircuitBreakerSettings::default(),
            all(),
            counts,
            off,
            jittered,
        ] {
            let toml = toml::to_string(&settings).unwrap();
            let read: CircuitBreakerSettings = toml::from_str(&toml).unwrap();
            assert_eq!(read, settings, "{toml}");
            let json = serde_json::to_string(&settings).unwrap();
            let read: CircuitBreakerSettings = serde_json::from_str(&json).unwrap();
            assert_eq!(read, settings, "{json}");
        }
    }

    #[test]
    fn durations_are_human() {
        let json = serde_json::to_value(all()).unwrap();
        assert_eq!(json["slow_call"]["duration"], "1s 500ms");
        assert_eq!(json["window"]["duration"], "30s");
        assert_eq!(json["open_duration"]["max"], "1m");
        assert_eq!(json["half_open_timeout"], "4s");
        let fixed = CircuitBreakerSettings::default().open_duration(90 * SECOND);
        let json = serde_json::to_value(fixed).unwrap();
        assert_eq!(json["open_duration"], "1m 30s");
        let off = serde_json::to_value(all().failure_rate(None)).unwrap();
        assert_eq!(off["failure_rate"], "off");
    }

    #[test]
    fn a_typing_error_is_an_error() {
        let read = |text| toml::from_str::<CircuitBreakerSettings>(text);
        assert_eq!(read("").unwrap(), CircuitBreakerSettings::default());
        assert!(read("failure_rates = 0.5").is_err());
        assert!(read("open_duration = 5").is_err());
        assert!(read(r#"open_duration = ["5s", 2.0, "1m"]"#).is_err());
        assert!(read("window = { call = 5 }").is_err());
        let rate = read("failure_rate = 7").unwrap();
        assert_eq!(
            CircuitBreaker::new(rate).unwrap_err().field(),
            "failure_rate"
        );
    }

    #[test]
    fn a_function_is_not_written() {
        let settings = all().open_duration(OpenDuration::from_fn(|_| SECOND));
        assert!(serde_json::to_string(&settings).is_err());
    }
}
