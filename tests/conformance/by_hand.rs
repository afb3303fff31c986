//! The rows that are not sequences of words.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use seawall::circuit_breaker::{OpenDuration, SlowCall, Window};
use seawall::{CircuitBreaker, CircuitBreakerSettings, CircuitState, Outcome, Rejection};
use tokio::time::advance;

use crate::play::{Play, play};
use crate::rows::{k, q};

#[tokio::test(start_paused = true)]
async fn p1_the_code_behind_an_open_breaker_is_not_run() {
    let play = play("P1", q(), "F F F F =O").await;
    let ran = play
        .breaker
        .run(async { panic!("P1: it ran") as Result<(), Rejection> })
        .await;
    assert!(ran.is_err(), "P1");
}

#[tokio::test(start_paused = true)]
async fn p19_the_open_time_knows_how_often_it_was_in_vain() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = asked.clone();
    let open_duration = OpenDuration::from_fn(move |failed_recoveries| {
        asking.lock().unwrap().push(failed_recoveries);
        Duration::from_secs(1)
    });
    let config = q().minimum_calls(2).open_duration(open_duration);
    let mut play = Play::new("P19", config);
    play.go("F F =O @1 F =O @2 F =O @3 F =O @4 F =O @5 S =C")
        .await;
    assert_eq!(*asked.lock().unwrap(), [0, 1, 2, 3, 4], "P19");
    asked.lock().unwrap().clear();
    play.go("F F =O @6 F =O @7 F =O").await;
    assert_eq!(
        *asked.lock().unwrap(),
        [0, 1, 2],
        "P19, after it was closed"
    );
}

/// One control for several breakers, including later ones.
#[cfg(feature = "keyed")]
#[tokio::test(start_paused = true)]
async fn p20b_one_control_for_several() {
    let breakers = seawall::circuit_breaker::CircuitBreakers::new(q()).unwrap();
    let one = breakers.get_or_insert(&"one".to_owned());
    breakers.force_open();
    let two = breakers.get_or_insert(&"two".to_owned());
    for breaker in [&one, &two] {
        assert_eq!(breaker.state(), CircuitState::ForcedOpen, "P20b");
        assert_eq!(
            breaker.try_acquire().unwrap_err().retry_after(),
            None,
            "P20b"
        );
    }
    breakers.reset();
    let three = breakers.get_or_insert(&"three".to_owned());
    for breaker in [&one, &two, &three] {
        assert!(breaker.try_acquire().is_ok(), "P20b");
    }
    breakers.force_closed();
    assert_eq!(one.state(), CircuitState::ForcedClosed);
    breakers.observe_only();
    let four = breakers.get_or_insert(&"four".to_owned());
    assert_eq!(four.state(), CircuitState::ObserveOnly);
}

/// Decision of this crate: the open time saturates.
#[tokio::test(start_paused = true)]
async fn p26_the_end_of_time() {
    let config = q().open_duration(OpenDuration::from_fn(|_| Duration::MAX));
    let mut play = play("P26", config, "@1 F F F F =O @100000000 A- =O").await;
    play.go("A- reset =C").await;
    let day = Duration::from_secs(86400);
    let growing = OpenDuration::exponential(Duration::from_secs(1), 100.0, day);
    let config = q().minimum_calls(1).open_duration(growing);
    let mut play = Play::new("P26, growing", config);
    play.go("F").await;
    for _ in 0..300 {
        advance(day).await;
        play.go("F =O").await;
    }
    play.go("failed_recoveries:300 retry:86400").await;
}

/// Decision of this crate: the allowed ranges.
#[test]
fn p27_limits() {
    let b = CircuitBreakerSettings::default;
    let rate = |rate: f64| CircuitBreaker::new(b().failure_rate(rate));
    for bad in [0.0, -0.1, 1.000_001, f64::NAN, f64::INFINITY] {
        let error = rate(bad).unwrap_err();
        assert_eq!(error.field(), "failure_rate", "P27");
    }
    rate(1.0).expect("P27");
    rate(0.0001).expect("P27");
    let nano = Duration::from_nanos(1);
    let day = Duration::from_secs(86400);
    for (field, bad) in [
        ("minimum_calls", b().minimum_calls(0)),
        (
            "minimum_calls",
            b().minimum_calls(11).window(Window::count_based(10)),
        ),
        ("window", b().window(Window::count_based(0))),
        ("window", b().window(Window::count_based(4097))),
        (
            "window",
            b().window(Window::time_based(Duration::from_nanos(9_999_999))),
        ),
        ("window", b().window(Window::time_based(day + nano))),
        (
            "window.buckets",
            b().window(Window::time_based(day).buckets(0)),
        ),
        (
            "window.buckets",
            b().window(Window::time_based(day).buckets(61)),
        ),
        ("open_duration", b().open_duration(Duration::ZERO)),
        ("open_duration", b().open_duration(day + nano)),
        (
            "open_duration.factor",
            b().open_duration(OpenDuration::exponential(day, 0.5, day)),
        ),
        (
            "open_duration.max",
            b().open_duration(OpenDuration::exponential(
                day,
                2.0,
                Duration::from_secs(86399),
            )),
        ),
        (
            "open_duration.jitter",
            b().open_duration(OpenDuration::from(day).jitter(1.1)),
        ),
        ("half_open_probes", b().half_open_probes(0)),
        ("half_open_probes", b().half_open_probes(1001)),
        ("half_open_timeout", b().half_open_timeout(Duration::ZERO)),
        ("slow_call.duration", b().slow_call(Duration::ZERO, 0.5)),
        ("slow_call.rate", b().slow_call(day, 0.0)),
        ("consecutive_failures", b().consecutive_failures(0)),
        ("failure_rate", b().failure_rate(None)),
    ] {
        let error = CircuitBreaker::new(bad).unwrap_err();
        assert_eq!(error.field(), field, "P27");
    }
    CircuitBreaker::new(b().failure_rate(None).consecutive_failures(3)).expect("P27");
    let error = CircuitBreaker::new(b().half_open_probes(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`half_open_probes` must be within 1..=1000, not 0"
    );
}

/// A window below 200 ms is one bucket: all its calls leave it at once.
#[tokio::test(start_paused = true)]
async fn p27_short_windows() {
    for (millis, id, later) in [(199, "P27 single", 0), (200, "P27 rolling", 1)] {
        let window = Window::time_based(Duration::from_millis(millis));
        let play = play(id, crate::rows::only(window), "observe @0.15 S 1/0").await;
        advance(Duration::from_millis(50)).await;
        assert_eq!(play.breaker.snapshot().calls, later, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn thresholds_change_while_it_runs() {
    let mut play = Play::new("live", q());
    let breaker = play.breaker.clone();
    play.go("F F F").await;
    breaker.set_minimum_calls(5).unwrap();
    play.go("F =C").await;
    assert!(
        breaker.set_failure_rate(None).is_err(),
        "nothing would open it"
    );
    breaker
        .set(breaker.settings().consecutive_failures(9))
        .unwrap();
    breaker.set_failure_rate(None).unwrap();
    play.go("F F F F =C S F F F F F F F F =C F =O").await;
    let none = breaker.settings().consecutive_failures(None);
    assert!(breaker.set(none).is_err());
    breaker.set_failure_rate(0.5).unwrap();
    let settings = breaker
        .settings()
        .consecutive_failures(None)
        .half_open_probes(2)
        .half_open_timeout(Duration::from_secs(3));
    breaker.set(settings).unwrap();
    breaker.set_open_duration(Duration::from_secs(7)).unwrap();
    play.go("@30 A+ A+ A- @33 =O retry:7 reset").await;
    let long = Duration::from_secs(2);
    breaker.set_slow_call(SlowCall::new(long, 0.5)).unwrap();
    play.go("S(2) S(2) S(2) S(3) S(3) =C S(3) =O").await;
    play.go("reset").await;
    breaker.set_slow_call(None).unwrap();
    play.go("Ss Ss Ss Ss Ss Ss =C slow_calls:0").await;
    assert!(breaker.set_failure_rate(2.0).is_err());
    assert!(
        breaker
            .set_slow_call(SlowCall::new(Duration::ZERO, 0.5))
            .is_err()
    );
    assert!(breaker.set_minimum_calls(0).is_err());
    assert!(breaker.set_open_duration(Duration::ZERO).is_err());
    let now = breaker.settings();
    for bad in [
        now.clone().consecutive_failures(0),
        now.clone().half_open_probes(0),
        now.clone().half_open_timeout(Duration::ZERO),
    ] {
        assert!(breaker.set(bad).is_err());
    }
    assert_eq!(breaker.settings(), now, "nothing was changed");
}

/// A call that is not slow has enough time to end, unless a setting says otherwise.
#[tokio::test(start_paused = true)]
async fn the_half_open_time_is_long_enough_for_calls_that_are_not_slow() {
    let slow = |open| {
        q().slow_call(Duration::from_secs(2), 0.5)
            .open_duration(open)
    };
    let short = slow(Duration::from_secs(1));
    play("short", short, "trip @1 A+ @2.9 =H kS =C").await;
    let long = slow(Duration::from_secs(10));
    play("long", long, "trip @10 A+ @19.9 =H @20 =O").await;
}

/// Two reads return the same state, and the next call finds that state.
#[tokio::test(start_paused = true)]
async fn jitter_is_drawn_once() {
    let open_duration = OpenDuration::from(Duration::from_secs(10)).jitter(0.5);
    let settings = q()
        .open_duration(open_duration)
        .half_open_timeout(Duration::from_secs(1));
    let breaker = CircuitBreaker::new(settings).unwrap();
    breaker.trip();
    advance(Duration::from_secs(15)).await;
    let _probe = breaker.try_acquire().unwrap();
    advance(Duration::from_secs(1)).await;
    let looked = breaker.state();
    assert!(matches!(looked, CircuitState::Open { .. }));
    for _ in 0..10 {
        assert_eq!(breaker.state(), looked);
    }
    assert!(breaker.try_acquire().is_err());
    assert_eq!(breaker.snapshot().transitions, 3);
    assert_eq!(breaker.state(), looked);
}

/// Fewer probes than have ended by then: the next call finds that they are enough.
#[tokio::test(start_paused = true)]
async fn fewer_probes_than_have_come_back() {
    let mut play = Play::new("fewer", q().half_open_probes(10));
    play.go("trip @30 S S S S =H").await;
    let settings = play.breaker.settings().half_open_probes(4);
    play.breaker.set(settings).unwrap();
    play.go("S =C").await;
}

/// A breaker that reads as half-open is half-open, for the methods of the handle and for calls.
#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_due_can_be_tripped() {
    play("trip, due", q(), "trip @30 =H trip =O @59 =O @60 =H open:2").await;
    play(
        "trip, over",
        q(),
        "trip @30 A+ =H @61 =O @100 trip =O @129 =O @130 =H",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn in_half_open_it_is_worth_coming_back_soon() {
    play("retry in H", q(), "trip @30 A+ A- retry:1 @59.5 retry:0.5").await;
}

/// A function of the user can neither block nor break the breaker.
#[tokio::test(start_paused = true)]
async fn open_times_that_make_no_sense() {
    let zero = q().open_duration(OpenDuration::from_fn(|_| Duration::ZERO));
    play(
        "zero",
        zero,
        "trip =O @0.001- =O @0.001 =H A+ =H @0.002- =H @0.002 =O",
    )
    .await;
    let panics = q().open_duration(OpenDuration::from_fn(|_| panic!("a user's")));
    play("panics", panics, "trip =O @5- =O @5 F =O @10 S =C").await;
}

/// Without this rule, one call a second, ten probes and five seconds would never close the breaker.
#[tokio::test(start_paused = true)]
async fn few_calls_close_it_as_well() {
    let breaker = CircuitBreaker::default();
    breaker.trip();
    advance(Duration::from_secs(5)).await;
    for _ in 0..5 {
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        breaker.try_acquire().unwrap().success();
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(breaker.state(), CircuitState::Closed);
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.snapshot().transitions, 3);
}

/// At the end of the half-open time, a probe that hangs counts as a failure.
#[tokio::test(start_paused = true)]
async fn what_has_come_back_decides_at_the_end() {
    play(
        "two of three, one hangs",
        k(),
        "trip @5 A+ S S =H @6 =C A+ transitions:3",
    )
    .await;
    play(
        "one of two, one hangs",
        k(),
        "trip @5 A+ S =H @6 =O A- transitions:3 failed_recoveries:1",
    )
    .await;
    play(
        "a probe dropped after the end",
        k(),
        "trip @5 A+ S =H @6 =O @6.5 Rel =O transitions:3",
    )
    .await;
    play("one failed of two", k(), "trip @5 F S =H @6 =O").await;
    play(
        "a result after the end",
        k(),
        "trip @5 A+ S S =H @6 kF =C 0/0 total_failures:1",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn any_metric() {
    let settings = q().slow_call(Duration::from_secs(1), 0.5);
    let breaker = CircuitBreaker::new(settings).unwrap();
    for _ in 0..2 {
        breaker.record(Outcome::Failure);
        breaker.record(Outcome::Ignored);
    }
    breaker.record_timed(Outcome::Success, Duration::from_secs(1));
    assert_eq!(breaker.state(), CircuitState::Closed);
    breaker.record(Outcome::Panicked);
    assert!(matches!(breaker.state(), CircuitState::Open { .. }));
    // A read of the state is not a probe.
    advance(Duration::from_secs(30)).await;
    let probe = breaker.try_acquire().unwrap();
    breaker.record(Outcome::Success);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    probe.success();
    assert_eq!(breaker.state(), CircuitState::Closed);
    let totals = breaker.snapshot().totals;
    assert_eq!(
        (
            totals.successes,
            totals.failures,
            totals.ignored,
            totals.panicked
        ),
        (3, 3, 2, 1)
    );
}
