//! One breaker per key.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use seawall::circuit_breaker::{CircuitBreakers, CircuitBreakersLayer, CircuitBreakersSettings};
use seawall::{CircuitBreaker, CircuitState, Reason};
use tower::{BoxError, Layer, Service};

use crate::circuit_breaker::layer::{SECOND, is_open, settings, status};
use crate::handler::service_fn;
use crate::support::*;

fn family() -> CircuitBreakersSettings {
    settings().into()
}

fn upstream(settings: CircuitBreakersSettings) -> CircuitBreakers<String> {
    CircuitBreakers::new(settings).unwrap().named("upstream")
}

fn at(path: &str) -> Request<Script> {
    let mut request = get();
    *request.uri_mut() = path.parse().unwrap();
    request
}

/// Fails on `/bad`.
fn service()
-> impl Service<Request<Script>, Response = Response<Script>, Error = Infallible> + Clone {
    service_fn(async |request: Request<Script>| {
        Ok(status(if request.uri().path() == "/bad" {
            500
        } else {
            200
        }))
    })
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own() {
    let breakers = upstream(family());
    let by_path = breakers.by_head(|head| {
        let path = head.uri.path();
        (path != "/none").then(|| path.to_owned())
    });
    let mut service = CircuitBreakersLayer::new(by_path).layer(service());
    for _ in 0..4 {
        for path in ["/bad", "/good", "/none"] {
            service.call(at(path)).await.unwrap();
        }
    }
    let refused = service.call(at("/bad")).await.unwrap();
    assert_eq!(reason(&refused), Some(Reason::CircuitOpen));
    assert_eq!(service.call(at("/good")).await.unwrap().status(), 200);
    assert_eq!(service.call(at("/none")).await.unwrap().status(), 200);
    let all = breakers.snapshot();
    let seen: Vec<_> = all
        .keys
        .iter()
        .map(|(key, now)| (&key[..], now.calls, now.failures, now.rejected))
        .collect();
    assert_eq!(seen, [("/bad", 4, 4, 1), ("/good", 5, 0, 0)]);
    assert_eq!(breakers.len(), 2);
    assert!(breakers.get("/else").is_none());
    assert!(breakers.get("/good").is_some());
    assert_eq!((breakers.len(), breakers.all().len()), (2, 2));
    assert!(is_open(&breakers.get("/bad").unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_plain_request_has_a_key_as_well() {
    let breakers: CircuitBreakers<u32> = CircuitBreakers::new(settings().minimum_calls(1)).unwrap();
    let mut service = CircuitBreakersLayer::new(breakers.by_request(|n: &u32| *n % 2))
        .plain()
        .layer(service_fn(async |n: u32| {
            if n == 1 {
                Err(BoxError::from("scripted"))
            } else {
                Ok(n)
            }
        }));
    service.call(1).await.unwrap_err();
    assert!(
        service
            .call(3)
            .await
            .unwrap_err()
            .is::<seawall::Rejection>()
    );
    assert_eq!(service.call(2).await.unwrap(), 2);
    assert!(is_open(&breakers.get(&1).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn settings_hooks_and_hands_are_for_all_and_those_to_come() {
    let breakers = upstream(family());
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let old = breakers.get_or_insert(&"old".to_owned());
    breakers.on_transition(|_, _| crate::support::unwind());
    breakers.on_transition(move |key, transition| {
        telling
            .lock()
            .unwrap()
            .push(format!("{key}: {}", transition.to));
    });
    let set = |family: &CircuitBreakers<String>, each| family.set(family.settings().breaker(each));
    set(
        &breakers,
        settings().minimum_calls(1).slow_call(SECOND, 1.0),
    )
    .unwrap();
    let error = set(&breakers, settings().half_open_probes(0)).unwrap_err();
    assert_eq!(error.field(), "breaker.half_open_probes");
    let new = breakers.get_or_insert(&"new".to_owned());
    for breaker in [&old, &new] {
        let ticket = breaker.try_acquire().unwrap();
        tokio::time::advance(2 * SECOND).await;
        ticket.success();
        assert!(is_open(breaker), "its calls are timed");
    }
    assert_eq!(*told.lock().unwrap(), ["old: open", "new: open"]);
    // The window stays as it was.
    let ring = settings()
        .window(seawall::circuit_breaker::Window::count_based(3))
        .minimum_calls(3);
    let ring: CircuitBreakers<String> = CircuitBreakers::new(ring).unwrap();
    let error = set(&ring, settings().minimum_calls(4)).unwrap_err();
    assert_eq!(error.field(), "breaker.minimum_calls");
    let other = seawall::circuit_breaker::Window::count_based(4);
    let error = set(&ring, settings().window(other)).unwrap_err();
    assert_eq!(error.field(), "breaker.window");
    set(&ring, settings().minimum_calls(3).failure_rate(1.0)).unwrap();
    let breaker = ring.get_or_insert(&"a".to_owned());
    for _ in 0..5 {
        breaker.try_acquire().unwrap().success();
    }
    assert_eq!(breaker.snapshot().calls, 3);
    for _ in 0..3 {
        breaker.try_acquire().unwrap().failure();
    }
    assert!(is_open(&breaker), "the minimum is within the window");
    // One breaker may have its own settings.
    old.reset();
    new.reset();
    old.set_minimum_calls(3).unwrap();
    old.try_acquire().unwrap().failure();
    new.try_acquire().unwrap().failure();
    assert!(!is_open(&old) && is_open(&new));
}

/// It makes no transition, which would be reported while the family is locked.
#[test]
fn a_breaker_of_a_forced_family_begins_in_that_state() {
    let breakers = upstream(family());
    breakers.force_open();
    let one = breakers.get_or_insert(&"one".to_owned());
    assert_eq!(one.state(), CircuitState::ForcedOpen);
    assert_eq!(one.snapshot().transitions, 0);
    assert!(one.try_acquire().is_err());
    breakers.reset();
    assert_eq!(one.state(), CircuitState::Closed);
    let other = breakers.get_or_insert(&"other".to_owned());
    assert_eq!(other.state(), CircuitState::Closed);
    assert_eq!(other.snapshot().transitions, 0);
}

#[test]
fn keys_are_bounded() {
    let breakers = upstream(family().max_keys(10));
    for n in 0..1000 {
        let _ = breakers.get_or_insert(&n.to_string());
    }
    assert!(breakers.len() <= 10, "{}", breakers.len());
    // The family keeps the key that was used last, even if other keys were used more often before.
    assert!(breakers.get("999").is_some());
    let error = breakers.set(family().max_keys(11)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`max_keys` must be the one with which the family was made, 10, not 11",
    );
    let idle = breakers.settings().idle_timeout(SECOND);
    assert_eq!(breakers.set(idle).unwrap_err().field(), "idle_timeout");
    let error = CircuitBreakers::<String>::new(family().max_keys(0)).unwrap_err();
    assert_eq!(error.field(), "max_keys");
    let error = CircuitBreakers::<String>::new(family().idle_timeout(Duration::ZERO)).unwrap_err();
    assert_eq!(error.field(), "idle_timeout");
}

/// The clock of the map is real: the test waits for the state, with a bound for a test that hangs.
#[tokio::test]
async fn an_idle_key_is_forgotten() {
    let breakers = upstream(family().idle_timeout(Duration::from_millis(1)));
    let held = breakers.get_or_insert(&"a".to_owned());
    held.force_open();
    let forgotten = async {
        while !breakers.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let forgotten = tokio::time::timeout(30 * SECOND, forgotten).await;
    assert!(forgotten.is_ok(), "it is remembered");
    assert_eq!(
        breakers.get_or_insert(&"a".to_owned()).state(),
        CircuitState::Closed
    );
    assert_eq!(
        held.state(),
        CircuitState::ForcedOpen,
        "whoever holds it has it"
    );
}

/// A key has one breaker, however many threads ask at the same time.
#[test]
fn a_key_has_one_breaker() {
    let breakers = upstream(family());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let breaker = breakers.get_or_insert(&"a".to_owned());
                breaker.try_acquire().unwrap().success();
            });
        }
    });
    assert_eq!(breakers.snapshot().keys["a"].totals.successes, 8);
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn keys_are_in_the_metrics_only_if_asked_for() {
    use metrics_exporter_prometheus::PrometheusBuilder;

    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let fail = |breakers: &CircuitBreakers<String>| {
        for key in ["a", "b"] {
            let breaker: CircuitBreaker = breakers.get_or_insert(&key.to_owned());
            for _ in 0..4 {
                breaker.try_acquire().unwrap().failure();
            }
        }
    };
    let quiet = upstream(family());
    fail(&quiet);
    let page = handle.render();
    let outcomes = r#"seawall_circuit_outcomes_total{layer="circuit_breaker",name="upstream",outcome="failure"} 8"#;
    assert!(page.contains(outcomes), "{page}");
    let open = r#"seawall_circuit_state{layer="circuit_breaker",name="upstream",state="open"} 2"#;
    assert!(page.contains(open) && !page.contains("key="), "{page}");

    let told = CircuitBreakers::new(settings()).unwrap().named("told");
    told.put_keys_in_metrics();
    fail(&told);
    let page = handle.render();
    for line in [
        r#"seawall_circuit_outcomes_total{layer="circuit_breaker",name="told",key="a",outcome="failure"} 4"#,
        r#"seawall_circuit_state{layer="circuit_breaker",name="told",key="b",state="open"} 1"#,
        r#"seawall_circuit_state{layer="circuit_breaker",name="told",key="b",state="closed"} 0"#,
        r#"seawall_circuit_transitions_total{layer="circuit_breaker",name="told",key="a",state="open"} 1"#,
    ] {
        assert!(page.contains(line), "{line}\nis not in\n{page}");
    }
}

/// The gate of a family has no thresholds of its own: only the breakers show theirs.
#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn the_gate_of_a_family_shows_no_thresholds() {
    use metrics_exporter_prometheus::PrometheusBuilder;

    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let breakers = CircuitBreakers::<String>::new(settings()).unwrap();
    breakers.put_keys_in_metrics();
    let breakers = breakers.by_head(|head| Some(head.path().to_owned()));
    let mut service = CircuitBreakersLayer::new(breakers).layer(answers(|| ok(Script::default())));
    drop(service.call(get()).await.unwrap());
    let page = handle.render();
    let thresholds = page
        .lines()
        .filter(|line| line.starts_with("seawall_circuit_threshold{"));
    let keys: Vec<_> = thresholds.map(|line| line.contains("key=")).collect();
    assert_eq!(keys, [true; 3], "{page}");
}

/// A hook resets the family while it is forced open: the last command applies to all breakers.
#[test]
fn the_last_forced_state_of_a_family_is_that_of_all() {
    let breakers = upstream(family());
    let all = ["a", "b"].map(|key| breakers.get_or_insert(&key.to_owned()));
    let resets = breakers.clone();
    breakers.on_transition(move |_, transition| {
        if transition.to == CircuitState::ForcedOpen {
            resets.reset();
        }
    });
    breakers.force_open();
    let states = all.map(|breaker| breaker.state());
    assert_eq!(states, [CircuitState::Closed; 2]);
    let future = breakers.get_or_insert(&"c".to_owned());
    assert_eq!(future.state(), CircuitState::Closed);
}

/// Two threads force different states: all breakers, present and future, have the same.
#[test]
fn a_family_that_is_forced_twice_at_once_has_one_state() {
    for _ in 0..100 {
        let breakers = CircuitBreakers::<u32>::new(family()).unwrap();
        for key in 0..20 {
            breakers.get_or_insert(&key);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| breakers.force_open());
            scope.spawn(|| breakers.force_closed());
        });
        let future = breakers.get_or_insert(&100).state();
        for (key, breaker) in breakers.all() {
            assert_eq!(breaker.state(), future, "{key}");
        }
    }
}

/// A key is shown, and a breaker is forgotten, outside the lock of the settings.
#[cfg(feature = "metrics")]
#[test]
fn the_text_of_a_key_and_a_recorder_may_read_the_settings_of_the_family() {
    use std::fmt;
    use std::sync::OnceLock;

    use metrics::{
        Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    static FAMILY: OnceLock<CircuitBreakers<Shown>> = OnceLock::new();

    fn read() {
        let family = FAMILY.get().unwrap();
        assert_eq!(family.settings().breaker, settings());
    }

    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Shown(u32);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            read();
            self.0.fmt(f)
        }
    }

    struct Reads;

    impl GaugeFn for Reads {
        fn increment(&self, _: f64) {}
        fn decrement(&self, _: f64) {
            read();
        }
        fn set(&self, _: f64) {}
    }

    impl Recorder for Reads {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Arc::new(Reads))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    metrics::with_local_recorder(&Reads, || {
        let settings = CircuitBreakersSettings::from(settings()).max_keys(1);
        let family = CircuitBreakers::new(settings).unwrap();
        family.put_keys_in_metrics();
        let family = FAMILY.get_or_init(|| family);
        for key in 0..1000 {
            drop(family.get_or_insert(&Shown(key)).try_acquire());
        }
    });
}

/// A family is forced open while a breaker is made, before the family has it: so is the breaker.
#[test]
fn a_breaker_does_not_miss_a_change_while_it_is_made() {
    use std::fmt;
    use std::sync::OnceLock;

    static FAMILY: OnceLock<CircuitBreakers<Forces>> = OnceLock::new();

    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Forces;

    impl fmt::Display for Forces {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            FAMILY.get().unwrap().force_open();
            f.write_str("key")
        }
    }

    let family = CircuitBreakers::new(family()).unwrap();
    family.put_keys_in_metrics();
    let breaker = FAMILY.get_or_init(|| family).get_or_insert(&Forces);
    assert_eq!(breaker.state(), CircuitState::ForcedOpen);
}
