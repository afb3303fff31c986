//! What is measured and told, by the names in the docs.

use std::collections::BTreeSet;
use std::time::Duration;

use seawall::policy::{Admission, NoWait, Policy, RequestKind};
use seawall::{
    CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, ConcurrencyLimit,
    ConcurrencyLimitLayer, ConcurrencyLimitSettings, GateLayer, Reason, Rejection, TimeoutLayer,
};
use tower::{Layer, Service};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_scrape_shows_every_metric_of_the_docs_and_no_other() {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use seawall::{CatchPanicLayer, RequestLimitLayer, Timeout};

    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);

    let settings = ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(1));
    let limit = ConcurrencyLimit::new(settings).unwrap().named("db");
    let mut limited =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::data(&["a"]))));
    let body = limited.call(get()).await.unwrap();
    let waiting = limited.call(get());
    limited.call(get()).await.unwrap();
    limit.set_limit(7).unwrap();
    drop(waiting);
    limit.set_limit(1).unwrap();
    let waiting = limited.call(get());

    let never =
        tower::service_fn(|_| std::future::pending::<Result<_, std::convert::Infallible>>());
    let timeout = Timeout::from(Duration::from_secs(1)).named("api");
    let mut late = TimeoutLayer::new(timeout).layer(never);
    let mut malformed = grpc();
    let headers = malformed.headers_mut();
    headers.insert("grpc-timeout", "soon".parse().unwrap());
    let _: http::Response<seawall::Body<Script, seawall::Timeout>> =
        late.call(malformed).await.unwrap();
    let mut panics = CatchPanicLayer::new().layer(answers(|| panic!("scripted")));
    panics.call(get()).await.unwrap();
    let mut large = RequestLimitLayer::new(1).layer(answers(|| ok(Script::default())));
    large.call(post(Script::default().exact(2))).await.unwrap();
    let mut dry = GateLayer::from_policy(Never)
        .dry_run()
        .layer(answers(|| ok(Script::default())));
    dry.call(get()).await.unwrap();

    let settings = CircuitBreakerSettings::default().minimum_calls(2);
    let breaker = CircuitBreaker::new(settings).unwrap().named("api");
    let mut failing = CircuitBreakerLayer::new(breaker.clone()).layer(answers(|| {
        let mut response = ok(Script::default());
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        response
    }));
    assert_states(&handle.render(), None);
    failing.call(get()).await.unwrap();
    assert_states(&handle.render(), Some("closed"));
    for _ in 0..2 {
        failing.call(get()).await.unwrap();
    }
    assert_states(&handle.render(), Some("open"));

    let page = handle.render();
    for line in [
        r#"seawall_circuit_outcomes_total{layer="circuit_breaker",name="api",reason="failure"} 2"#,
        r#"seawall_circuit_transitions_total{layer="circuit_breaker",name="api",state="open"} 1"#,
        r#"seawall_circuit_transitions_total{layer="circuit_breaker",name="api",state="half_open"} 0"#,
        r#"seawall_circuit_thresholds_reached_total{layer="circuit_breaker",name="api",reason="failure_rate"} 1"#,
        r#"seawall_requests_rejected_total{layer="circuit_breaker",name="api",reason="circuit_open"} 1"#,
        r#"seawall_requests_admitted_total{layer="concurrency_limit",name="db"} 1"#,
        r#"seawall_requests_rejected_total{layer="concurrency_limit",name="db",reason="concurrency_limit"} 1"#,
        r#"seawall_requests_rejected_total{layer="request_limit",name="",reason="body_too_large"} 1"#,
        r#"seawall_requests_would_reject_total{layer="custom",name="",reason="overloaded"} 1"#,
        r#"seawall_requests_in_flight{layer="concurrency_limit",name="db"} 1"#,
        r#"seawall_requests_queued{layer="concurrency_limit",name="db"} 1"#,
        r#"seawall_concurrency_limit{layer="concurrency_limit",name="db"} 1"#,
        r#"seawall_timeouts_total{layer="timeout",name="api"} 1"#,
        r#"seawall_malformed_timeouts_total{layer="timeout",name="api"} 1"#,
        r#"seawall_panics_total{layer="catch_panic",name=""} 1"#,
    ] {
        assert!(page.contains(line), "{line}\nis not in\n{page}");
    }
    let scraped: BTreeSet<_> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split('{').next())
        .filter(|name| !name.is_empty())
        .collect();
    let docs = include_str!("../../src/observe/mod.rs");
    let documented: BTreeSet<_> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split('`').next())
        // Measured on a thread of its own, which knows no local recorder: `tests/lag` has them.
        .filter(|name| !name.starts_with("seawall_lag_"))
        .collect();
    assert_eq!(scraped, documented);
    for name in documented {
        assert!(page.contains(&format!("# HELP {name} ")), "{name}");
    }

    tokio::time::advance(Duration::from_secs(5)).await;
    let probe = breaker.try_acquire().unwrap();
    assert_states(&handle.render(), Some("half_open"));
    drop(probe);
    breaker.force_open();
    assert_states(&handle.render(), Some("forced_open"));
    drop((breaker, failing));
    assert_states(&handle.render(), Some("none: the breaker is gone"));

    drop((body, waiting));
    let page = handle.render();
    for line in [
        r#"seawall_requests_in_flight{layer="concurrency_limit",name="db"} 0"#,
        r#"seawall_requests_queued{layer="concurrency_limit",name="db"} 0"#,
    ] {
        assert!(page.contains(line), "{line}\nis not in\n{page}");
    }
}

/// One state is 1, the others are 0; or there is no gauge.
fn assert_states(page: &str, state: Option<&str>) {
    let states = [
        "closed",
        "open",
        "half_open",
        "forced_open",
        "forced_closed",
        "observe_only",
    ];
    for each in states {
        let series = format!(
            r#"seawall_circuit_state{{layer="circuit_breaker",name="api",state="{each}"}}"#
        );
        match state {
            None => assert!(!page.contains(&series), "{page}"),
            Some(state) => {
                let line = format!("{series} {}", u8::from(each == state));
                assert!(page.contains(&line), "{line}\nis not in\n{page}");
            }
        }
    }
}

/// A policy without a reporter.
#[derive(Clone)]
struct Never;

impl<R: RequestKind> Policy<R> for Never {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
        Admission::Reject(Rejection::new(Reason::Overloaded))
    }
}

/// What this thread logs from now on: the lines since the last call. One test at a time, since all
/// share the number of events in a second.
fn logged() -> (impl Fn() -> Vec<String>, impl Sized) {
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    static ONE: Mutex<()> = Mutex::new(());

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    // With a single dispatcher alive, tracing lets any thread disable a callsite for all.
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    let lines = move || {
        let text = String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap();
        text.lines()
            .map(|line| line.trim().to_owned())
            .collect::<Vec<_>>()
    };
    (lines, (second, guard, one))
}

#[tokio::test(start_paused = true)]
async fn one_event_per_rejection_and_panic() {
    let (lines, _guards) = logged();
    let lines = || {
        let mut lines = lines();
        // Of the test before.
        lines.retain(|line| !line.contains("left_out"));
        lines
    };
    let limit = ConcurrencyLimit::from(1).named("db");
    let mut limited =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::default())));
    let _permit = limit.try_acquire().unwrap();
    limited.call(get()).await.unwrap();
    assert_eq!(
        lines(),
        [
            r#"DEBUG seawall: request rejected layer="concurrency_limit" name="db" reason="concurrency_limit" retry_after_ms=1000 dry_run=false method="GET" path="/""#
        ]
    );

    let mut dry = GateLayer::from_policy(No::new(Reason::Overloaded))
        .dry_run()
        .layer(answers(|| ok(Script::default())));
    dry.call(get()).await.unwrap();
    assert_eq!(
        lines(),
        [
            r#"DEBUG seawall: request rejected layer="no" name="" reason="overloaded" retry_after_ms=7000 dry_run=true method="GET" path="/""#
        ]
    );

    let mut late = TimeoutLayer::new(Duration::ZERO).layer(tower::service_fn(|_| {
        std::future::pending::<Result<http::Response<Script>, std::convert::Infallible>>()
    }));
    late.call(get()).await.unwrap();
    assert_eq!(
        lines(),
        [r#"WARN seawall: request timed out layer="timeout" name="" reason="timeout""#]
    );

    let mut panics = seawall::CatchPanicLayer::new().layer(answers(|| panic!("scripted")));
    panics.call(get()).await.unwrap();
    assert_eq!(
        lines(),
        [
            r#"ERROR seawall: panic caught layer="catch_panic" name="" reason="panicked" panic="scripted""#
        ]
    );

    let breaker = CircuitBreaker::default().named("api");
    breaker.trip();
    tokio::time::advance(Duration::from_secs(5)).await;
    drop(breaker.try_acquire());
    assert_eq!(
        lines(),
        [
            r#"WARN seawall: circuit opened layer="circuit_breaker" name="api" from="closed" state="open" reason="by_hand" open_ms=5000"#,
            r#"INFO seawall: circuit changed layer="circuit_breaker" name="api" from="open" state="half_open" reason="open_time_over""#
        ]
    );
}

/// A4 of the faults that were found in the field: what clients cause does not fill a log.
#[tokio::test(start_paused = true)]
async fn a4_five_events_of_a_reason_each_second_and_a_summary() {
    let (lines, _guards) = logged();
    let limit = ConcurrencyLimit::from(1);
    let _permit = limit.try_acquire().unwrap();
    let mut limited = ConcurrencyLimitLayer::new(limit).layer(answers(|| ok(Script::default())));
    let panic = || -> http::Response<Script> { unwind() };
    let mut panics = seawall::CatchPanicLayer::new()
        .on_panic(|_| {})
        .layer(answers(panic));
    let mut late = TimeoutLayer::new(Duration::ZERO).layer(tower::service_fn(|_| {
        std::future::pending::<Result<http::Response<Script>, std::convert::Infallible>>()
    }));
    // Whatever was left out before.
    tokio::time::advance(Duration::from_secs(10)).await;
    limited.call(get()).await.unwrap();
    panics.call(get()).await.unwrap();
    late.call(get()).await.unwrap();
    lines();
    for second in 0..3 {
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..100 {
            limited.call(get()).await.unwrap();
            panics.call(get()).await.unwrap();
            late.call(get()).await.unwrap();
        }
        let lines = lines();
        for (message, reason) in [
            ("request rejected", "concurrency_limit"),
            ("panic caught", "panicked"),
            ("request timed out", "timeout"),
        ] {
            let of = |line: &&String| line.contains(reason);
            let events = lines.iter().filter(of);
            let summaries = events.clone().filter(|line| line.contains("left_out=95"));
            let events = events.filter(|line| line.contains(message)).count();
            assert_eq!((events, summaries.count()), (5, usize::from(second > 0)));
        }
        assert_eq!(lines.len(), if second > 0 { 18 } else { 15 });
    }
}

/// A path and the message of a panic are the client's: neither reaches a terminal raw.
#[tokio::test(start_paused = true)]
async fn a4_what_a_client_chooses_is_escaped() {
    let (lines, _guards) = logged();
    let mut panics = seawall::CatchPanicLayer::new()
        .on_panic(|_| {})
        .layer(answers(|| -> http::Response<Script> {
            std::panic::resume_unwind(Box::new("\x1b[31m\u{202e}\nred"))
        }));
    let mut request = get();
    let path = "/panic\u{9b}31m\u{202e}".as_bytes();
    *request.uri_mut() = http::Uri::try_from(path).unwrap();
    panics.call(request).await.unwrap();
    let mut lines = lines();
    // Of the test before.
    lines.retain(|line| !line.contains("left_out"));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains(r#"method="GET" path="/panic\u{9b}31m\u{202e}""#),
        "{lines:?}"
    );
    assert!(
        lines[0].contains(r#"panic="\u{1b}[31m\u{202e}\nred""#),
        "{lines:?}"
    );
}

/// Each snapshot, as an admin page would show it.
#[cfg(feature = "serde")]
#[tokio::test(start_paused = true)]
async fn snapshots_are_serialised() {
    use serde_json::{json, to_value};

    let settings = CircuitBreakerSettings::default().half_open_probes(1);
    let breaker = CircuitBreaker::new(settings).unwrap();
    let now = to_value(breaker.snapshot()).unwrap();
    assert_eq!(
        (&now["state"], &now["calls"]),
        (&json!("closed"), &json!(0))
    );
    breaker.trip();
    let now = to_value(breaker.snapshot()).unwrap();
    assert_eq!(
        now["state"],
        json!({"open": {"retry_in": {"secs": 5, "nanos": 0}}})
    );
    let limit = to_value(ConcurrencyLimit::from(3).snapshot()).unwrap();
    assert_eq!(limit["limit"], 3);
    let lag = to_value(seawall::LagShed::default().snapshot()).unwrap();
    assert_eq!(lag["state"], "normal");
    let timeout = seawall::Timeout::from(Duration::from_secs(1));
    to_value(timeout.snapshot()).unwrap();
    to_value(seawall::RequestLimit::from(1).snapshot()).unwrap();
    to_value(seawall::CatchPanic::default().snapshot()).unwrap();
}
