//! Metrics and events, under the names in the docs.

use std::collections::BTreeSet;
use std::time::Duration;

use seawall::observe::METRICS;
use seawall::policy::{Admission, NoWait, Policy, RequestKind};
use seawall::{
    CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, ConcurrencyLimit,
    ConcurrencyLimitLayer, ConcurrencyLimitSettings, CustomReason, GateLayer, Reason, Rejection,
    ResponseBodyTimeoutSettings, TimeoutLayer,
};
use tower::{Layer, Service, ServiceExt};

use crate::support::*;

#[tokio::test(start_paused = true)]
#[expect(clippy::too_many_lines, reason = "one page has all metrics")]
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
    let mut waiting = tokio_test::task::spawn(limited.call(get()));
    tokio_test::assert_pending!(waiting.poll());
    limited.call(get()).await.unwrap();
    limit.set_limit(7).unwrap();
    drop(waiting);
    limit.set_limit(1).unwrap();
    let mut waiting = tokio_test::task::spawn(limited.call(get()));
    tokio_test::assert_pending!(waiting.poll());

    let never = crate::handler::service_fn(|_| {
        std::future::pending::<Result<_, std::convert::Infallible>>()
    });
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
    let mut drained = seawall::DrainLayer::new(seawall::Drain::default())
        .layer(answers(|| ok(Script::default())));
    drained.call(get()).await.unwrap();
    let slow = seawall::SlowPoll::new(Duration::ZERO).unwrap();
    let mut slow =
        seawall::SlowPollLayer::new(slow.named("api")).layer(answers(|| ok(Script::default())));
    slow.call(get()).await.unwrap();
    let mut exempt = GateLayer::from_policy(Never)
        .exempt(|_| true)
        .layer(answers(|| ok(Script::default())));
    exempt.call(get()).await.unwrap();

    let settings = CircuitBreakerSettings::default()
        .minimum_calls(2)
        .slow_call(Duration::from_secs(1), 0.9);
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
        r#"seawall_circuit_outcomes_total{layer="circuit_breaker",name="api",outcome="failure"} 2"#,
        r#"seawall_circuit_transitions_total{layer="circuit_breaker",name="api",state="open"} 1"#,
        r#"seawall_circuit_transitions_total{layer="circuit_breaker",name="api",state="half_open"} 0"#,
        r#"seawall_circuit_thresholds_reached_total{layer="circuit_breaker",name="api",threshold="failure_rate"} 1"#,
        r#"seawall_requests_rejected_total{layer="circuit_breaker",name="api",reason="circuit_open"} 1"#,
        r#"seawall_requests_admitted_total{layer="concurrency_limit",name="db"} 1"#,
        r#"seawall_requests_rejected_total{layer="concurrency_limit",name="db",reason="concurrency_limit"} 1"#,
        r#"seawall_requests_rejected_total{layer="request_limit",name="",reason="body_too_large"} 1"#,
        r#"seawall_requests_would_reject_total{layer="custom",name="",reason="overloaded"} 1"#,
        r#"seawall_requests_in_flight{layer="concurrency_limit",name="db"} 1"#,
        r#"seawall_requests_queued{layer="concurrency_limit",name="db"} 1"#,
        r#"seawall_concurrency_limit{layer="concurrency_limit",name="db"} 1"#,
        r#"seawall_timeouts_total{layer="timeout",name="api",cause="service"} 1"#,
        r#"seawall_timeouts_total{layer="timeout",name="api",cause="caller"} 0"#,
        r#"seawall_malformed_timeouts_total{layer="timeout",name="api"} 1"#,
        r#"seawall_panics_total{layer="catch_panic",name=""} 1"#,
        r#"seawall_requests_exempt_total{layer="gate",name=""} 1"#,
        r#"seawall_queue_limit{layer="concurrency_limit",name="db"} 1"#,
        r#"seawall_queue_seconds_count{layer="concurrency_limit",name="db"} 1"#,
        r#"seawall_timeout_seconds{layer="timeout",name="api"} 1"#,
        r#"seawall_slow_poll_seconds_count{layer="slow_poll",name="api"} 1"#,
        r#"seawall_slow_poll_threshold_seconds{layer="slow_poll",name="api"} 0"#,
        r#"seawall_request_body_limit_bytes{layer="request_limit",name=""} 1"#,
        r#"seawall_circuit_threshold{layer="circuit_breaker",name="api",threshold="failure_rate"} 0.5"#,
        r#"seawall_circuit_threshold{layer="circuit_breaker",name="api",threshold="slow_call_rate"} 0.9"#,
        r#"seawall_circuit_threshold{layer="circuit_breaker",name="api",threshold="consecutive_failures"} 0"#,
        r#"seawall_circuit_call_seconds_count{layer="circuit_breaker",name="api"} 2"#,
        // Events that have not happened are 0.
        r#"seawall_requests_rejected_total{layer="concurrency_limit",name="db",reason="queue_timeout"} 0"#,
        r#"seawall_circuit_outcomes_total{layer="circuit_breaker",name="api",outcome="panicked"} 0"#,
    ] {
        assert!(page.contains(line), "{line}\nis not in\n{page}");
    }
    let scraped: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
        .collect();
    let documented = METRICS
        .iter()
        .map(|metric| format!("{} {}", metric.name, metric.help));
    let documented: BTreeSet<_> = documented
        // A thread of its own measures them, which does not use the local recorder. The tests are
        // in `tests/lag`.
        .filter(|line| !line.starts_with("seawall_lag_"))
        .collect();
    assert_eq!(scraped, documented.iter().map(String::as_str).collect());

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

/// The state is shown from the first call on, also after an outcome that the breaker did not admit,
/// and with the layer for load balancers.
#[tokio::test]
async fn a_breaker_shows_its_state_from_its_first_call_on() {
    use seawall::circuit_breaker::CircuitBreakerReadyLayer;

    for is_ready_layer in [false, true] {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let breaker = CircuitBreaker::default().named("api");
        let inner = answers(|| ok(Script::default()));
        if is_ready_layer {
            let mut service = CircuitBreakerReadyLayer::new(breaker.clone()).layer(inner);
            service.ready().await.unwrap().call(get()).await.unwrap();
        } else {
            breaker.record(seawall::Outcome::Success);
            let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(inner);
            service.call(get()).await.unwrap();
        }
        assert_states(&handle.render(), Some("closed"));
    }
}

/// However a permit was taken, it counts while it is held.
#[tokio::test(start_paused = true)]
async fn every_permit_is_in_flight() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let settings = ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(1));
    let limit = ConcurrencyLimit::new(settings).unwrap().named("db");
    let series = r#"seawall_requests_in_flight{layer="concurrency_limit",name="db"}"#;
    let shows = |count: u8, when| {
        let (page, line) = (handle.render(), format!("{series} {count}\n"));
        assert!(page.contains(&line), "{when}: {page}");
    };
    let mut limited =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::data(&["a"]))));
    let permit = limit.try_acquire().unwrap();
    shows(1, "taken by hand");
    let mut queued = tokio_test::task::spawn(limited.call(get()));
    tokio_test::assert_pending!(queued.poll());
    assert_eq!(limit.snapshot().queued, 1);
    tokio::time::advance(Duration::from_millis(500)).await;
    drop(permit);
    let response = tokio_test::assert_ready!(queued.poll()).unwrap();
    shows(1, "taken after the queue");
    let waited = r#"seawall_queue_seconds_sum{layer="concurrency_limit",name="db"} 0.5"#;
    assert!(handle.render().contains(waited), "{}", handle.render());
    // A dry run queues nothing.
    let layer = ConcurrencyLimitLayer::new(limit).dry_run();
    let mut dry = layer.layer(answers(|| ok(Script::default())));
    dry.call(get()).await.unwrap();
    let waits = r#"seawall_queue_seconds_count{layer="concurrency_limit",name="db"} 1"#;
    assert!(handle.render().contains(waits), "{}", handle.render());
    drop(response);
    shows(0, "released");
}

/// The value of a series.
fn value(page: &str, series: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series));
    let value = line.unwrap_or_else(|| panic!("{series}\nis not in\n{page}"));
    value.trim().parse().unwrap()
}

/// The first request registers the series of all parts of a stack, so that the first rejection is
/// an increase.
#[tokio::test]
async fn the_series_of_a_stack_begin_with_0() {
    use metrics_exporter_prometheus::PrometheusBuilder;

    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let stack = seawall::server().named("api").build().unwrap();
    // Its probe would report from a thread that does not know the local recorder.
    stack.switches().lag_shed.set(seawall::policy::Mode::Off);
    let breaker = CircuitBreaker::default().named("api");
    let mut service = tower::ServiceBuilder::new()
        .layer(stack)
        .layer(CircuitBreakerLayer::new(breaker))
        .service(answers(|| ok(Script::default())));
    service.call(get()).await.unwrap();
    let page = handle.render();
    for (layer, reason) in [
        ("lag_shed", "overloaded"),
        ("drain", "draining"),
        ("concurrency_limit", "concurrency_limit"),
        ("concurrency_limit", "queue_timeout"),
        ("request_limit", "body_too_large"),
        ("request_limit", "body_too_slow"),
        ("circuit_breaker", "circuit_open"),
    ] {
        let labels = format!(r#"{{layer="{layer}",name="api",reason="{reason}"}} "#);
        assert_eq!(
            value(&page, &format!("seawall_requests_rejected_total{labels}")),
            0
        );
        assert_eq!(
            value(
                &page,
                &format!("seawall_requests_would_reject_total{labels}")
            ),
            0
        );
    }
    for (series, expected) in [
        (
            r#"seawall_requests_admitted_total{layer="stack",name="api"} "#,
            1,
        ),
        (
            r#"seawall_timeouts_total{layer="timeout",name="api",cause="caller"} "#,
            0,
        ),
        (
            r#"seawall_panics_total{layer="catch_panic",name="api"} "#,
            0,
        ),
        (r#"seawall_draining{layer="drain",name="api"} "#, 0),
        (
            r#"seawall_concurrency_limit{layer="concurrency_limit",name="api"} "#,
            1024,
        ),
        (
            r#"seawall_timeout_seconds{layer="timeout",name="api"} "#,
            30,
        ),
        (
            r#"seawall_circuit_state{layer="circuit_breaker",name="api",state="closed"} "#,
            1,
        ),
    ] {
        assert_eq!(value(&page, series), expected, "{series}");
    }
}

/// A request that is exempt and has too large a body does not hide another one.
#[tokio::test(start_paused = true)]
async fn an_exempt_request_that_the_limit_rejects_counts_once() {
    use metrics_exporter_prometheus::PrometheusBuilder;

    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let stack = seawall::server()
        .named("api")
        .request_body_limit(1)
        .exempt(|head| head.method == http::Method::POST)
        .build()
        .unwrap();
    let mut service = stack.layer(answers(|| ok(Script::default())));
    let large = service
        .call(post(Script::default().exact(2)))
        .await
        .unwrap();
    assert_eq!(reason(&large), Some(Reason::BodyTooLarge));
    service.call(get()).await.unwrap();
    let page = handle.render();
    for line in [
        r#"seawall_requests_admitted_total{layer="stack",name="api"} 1"#,
        r#"seawall_requests_exempt_total{layer="stack",name="api"} 1"#,
        r#"seawall_requests_rejected_total{layer="request_limit",name="api",reason="body_too_large"} 1"#,
    ] {
        assert!(page.contains(line), "{line}\nis not in\n{page}");
    }
}

/// After any mixture of ends: each request was admitted, rejected or exempt once, each admitted one
/// has one outcome, and the snapshots agree.
#[tokio::test(start_paused = true)]
#[expect(clippy::too_many_lines, reason = "one storm has all counts")]
async fn counts_add_up() {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio_test::task::spawn;

    const CALLS: u64 = 1000;

    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let settings = CircuitBreakerSettings::default().open_duration(Duration::from_millis(20));
    let breaker = CircuitBreaker::new(settings).unwrap();
    let limit = ConcurrencyLimit::from(3);
    let layer = GateLayer::from_policy((breaker.clone(), limit.clone()))
        .exempt(|head| head.path() == "/exempt");
    let mut service = layer.layer(crate::handler::service_fn(
        async |request: http::Request<Script>| {
            let path = request.uri().path().to_owned();
            match path.as_str() {
                "/panics" => std::panic::resume_unwind(Box::new("scripted")),
                "/hangs" => std::future::pending().await,
                _ => {}
            }
            let mut response = ok(Script::data(&["a"]));
            if path == "/fails" {
                *response.status_mut() = http::StatusCode::BAD_GATEWAY;
            }
            Ok::<_, std::convert::Infallible>(response)
        },
    ));
    let mut dice = fastrand::Rng::with_seed(1);
    let (mut exempt, mut rejected, mut panicked, mut kept) = (0, 0, 0, Vec::new());
    for call in 0..CALLS {
        let path = match dice.u8(..10) {
            0 => "/exempt",
            1 => "/panics",
            2 => "/hangs",
            3 => "/fails",
            _ => "/works",
        };
        exempt += u64::from(path == "/exempt");
        let mut request = get();
        *request.uri_mut() = path.parse().unwrap();
        let mut future = spawn(service.call(request));
        let poll = std::panic::AssertUnwindSafe(|| future.poll());
        match std::panic::catch_unwind(poll) {
            Ok(std::task::Poll::Ready(response)) => {
                let response = response.unwrap();
                rejected += u64::from(reason(&response).is_some());
                if dice.bool() {
                    kept.push(response);
                }
            }
            Ok(std::task::Poll::Pending) => {}
            Err(_) => panicked += 1,
        }
        if call % 16 == 0 {
            kept.clear();
            tokio::time::advance(Duration::from_millis(5)).await;
        }
    }
    kept.clear();
    let page = handle.render();
    let gate = r#"{layer="gate",name=""} "#;
    let admitted = value(&page, &format!("seawall_requests_admitted_total{gate}"));
    let of = |layer: &str, reason: &str| {
        value(
            &page,
            &format!(
                "seawall_requests_rejected_total{{layer=\"{layer}\",name=\"\",reason=\"{reason}\"}} "
            ),
        )
    };
    let open = of("circuit_breaker", "circuit_open");
    let full = of("concurrency_limit", "concurrency_limit");
    assert_eq!(
        (open, full),
        (breaker.snapshot().rejected, limit.snapshot().rejected)
    );
    assert_eq!(open + full, rejected);
    assert_eq!(admitted + rejected + exempt, CALLS);
    assert_eq!(
        value(&page, &format!("seawall_requests_exempt_total{gate}")),
        exempt
    );
    let outcome = |outcome: &str| {
        value(
            &page,
            &format!(
                "seawall_circuit_outcomes_total{{layer=\"circuit_breaker\",name=\"\",outcome=\"{outcome}\"}} "
            ),
        )
    };
    let totals = breaker.snapshot().totals;
    assert_eq!(outcome("success"), totals.successes);
    assert_eq!(outcome("failure") + outcome("panicked"), totals.failures);
    assert_eq!(
        (outcome("panicked"), outcome("cancelled")),
        (totals.panicked, totals.cancelled)
    );
    assert_eq!(outcome("ignored") + outcome("cancelled"), totals.ignored);
    let outcomes: u64 = ["success", "failure", "ignored", "cancelled", "panicked"]
        .map(outcome)
        .iter()
        .sum();
    // The breaker before the limit ignores a request that the limit rejects.
    assert_eq!(outcomes, admitted + full);
    assert!(panicked > 0 && open > 0 && full > 0 && exempt > 0);
    assert_eq!(limit.in_flight(), 0);

    #[cfg(feature = "serde")]
    {
        let registry = seawall::Registry::new();
        registry.add("breaker", &breaker).unwrap();
        registry.add("limit", &limit).unwrap();
        let json = serde_json::to_value(registry.snapshot()).unwrap();
        let of = |handle: &str, count: &str| json[handle][count].as_u64().unwrap();
        assert_eq!(
            (of("breaker", "rejected"), of("limit", "rejected")),
            (open, full)
        );
        assert_eq!(of("limit", "in_flight"), 0);
        let total = |count: &str| json["breaker"]["totals"][count].as_u64().unwrap();
        assert_eq!(total("successes"), outcome("success"));
        assert_eq!(total("failures"), outcome("failure") + outcome("panicked"));
        assert_eq!(total("ignored"), outcome("ignored") + outcome("cancelled"));
        assert_eq!(total("panicked"), outcome("panicked"));
        assert_eq!(total("cancelled"), outcome("cancelled"));
    }
}

/// One state is 1 and the others are 0, or there is no gauge.
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

/// The lines that this thread logs from now on, since the last call. Only one test runs at a time,
/// since all share the limits of events in a second.
fn logged() -> (impl Fn() -> Vec<String>, impl Sized) {
    logged_at(tracing::Level::DEBUG)
}

fn logged_at(level: tracing::Level) -> (impl Fn() -> Vec<String>, impl Sized) {
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
        .with_max_level(level)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    // With a single live dispatcher, tracing lets any thread disable a callsite for all threads.
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
async fn a_server_that_ends_without_a_drain_writes_no_event() {
    let (lines, _guards) = logged();
    let drain = seawall::Drain::default();
    let _permit = drain.try_acquire().unwrap();
    let server = |_| async { Ok::<_, std::io::Error>(()) };
    let report = drain.serve(server, Duration::from_secs(1)).await.unwrap();
    assert_eq!(report.left, 1);
    let lines = lines();
    assert!(
        lines.iter().all(|line| !line.contains("drain")),
        "{lines:?}"
    );
}

/// The gate ends a body before it reports the timeout.
#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_keeps_no_body() {
    let panics = || -> std::io::Sink { unwind() };
    let subscriber = tracing_subscriber::fmt().with_writer(panics).finish();
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);
    let timeout = seawall::Timeout::from(Duration::from_secs(9));
    let limit = ConcurrencyLimit::from(1);
    let endless = || ok(Script::new(vec![Step::Data("abc"); 1000]));
    let service = ConcurrencyLimitLayer::new(limit.clone()).layer(answers(endless));
    let layer = TimeoutLayer::new(timeout.clone()).response_body_timeout(
        ResponseBodyTimeoutSettings::default().progress_timeout(Duration::from_secs(1)),
    );
    let response = layer.layer(service).call(get()).await.unwrap();
    assert_eq!(limit.in_flight(), 1);
    for _ in 0..16 {
        tokio::time::advance(Duration::from_millis(250)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!((limit.in_flight(), timeout.snapshot().timed_out), (0, 1));
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn one_event_per_rejection_and_panic() {
    let (lines, _guards) = logged();
    let lines = || {
        let mut lines = lines();
        // A line of the previous test.
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

    // The path is that of the client.
    let mut long = get();
    *long.uri_mut() = format!("/{}", "a".repeat(10_000)).parse().unwrap();
    limited.call(long).await.unwrap();
    let line = lines().concat();
    assert!(
        line.ends_with(&format!(r#"path="/{}""#, "a".repeat(255))),
        "{line}"
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

    let mut late = TimeoutLayer::new(Duration::ZERO).layer(crate::handler::service_fn(|_| {
        std::future::pending::<Result<http::Response<Script>, std::convert::Infallible>>()
    }));
    late.call(get()).await.unwrap();
    assert_eq!(
        lines(),
        [r#"WARN seawall: request timed out layer="timeout" name="" reason="timeout""#]
    );

    // The caller's own deadline is shorter.
    let mut late =
        TimeoutLayer::new(Duration::from_secs(5)).layer(crate::handler::service_fn(|_| {
            std::future::pending::<Result<http::Response<Script>, std::convert::Infallible>>()
        }));
    let mut request = grpc();
    let headers = request.headers_mut();
    headers.insert("grpc-timeout", "1S".parse().unwrap());
    late.call(request).await.unwrap();
    assert_eq!(
        lines(),
        [
            r#"DEBUG seawall: request rejected layer="timeout" name="" reason="timeout" dry_run=false"#
        ]
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
            r#"WARN seawall: circuit opened layer="circuit_breaker" name="api" from="closed" state="open" cause="by_hand" open_ms=5000"#,
            r#"INFO seawall: circuit changed layer="circuit_breaker" name="api" from="open" state="half_open" cause="open_time_over""#
        ]
    );
}

/// A4 of the faults from production: events that clients cause do not fill a log.
#[tokio::test(start_paused = true)]
async fn a4_five_events_of_a_reason_each_second_and_a_summary() {
    let (lines, _guards) = logged();
    let limit = ConcurrencyLimit::from(1);
    let _permit = limit.try_acquire_owned().unwrap();
    let mut limited = ConcurrencyLimitLayer::new(limit).layer(answers(|| ok(Script::default())));
    let panic = || -> http::Response<Script> { unwind() };
    let mut panics = seawall::CatchPanicLayer::new()
        .on_panic(|_| {})
        .layer(answers(panic));
    let mut late = TimeoutLayer::new(Duration::ZERO).layer(crate::handler::service_fn(|_| {
        std::future::pending::<Result<http::Response<Script>, std::convert::Infallible>>()
    }));
    // Lets the summary of earlier events pass.
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

/// Before the response head and after it, in a stack that keeps requests.
#[tokio::test(start_paused = true)]
async fn the_event_of_a_timeout_has_its_request() {
    let (lines, _guards) = logged();
    tokio::time::advance(Duration::from_secs(200)).await;
    let stack = seawall::server().named("api").keep_requests();
    let bodies =
        seawall::ResponseBodyTimeoutSettings::default().idle_timeout(Duration::from_secs(1));
    let stack = stack.response_body_timeout(bodies).build().unwrap();
    let handler = crate::handler::service_fn(async |request: http::Request<_>| {
        if request.uri().path() == "/head" {
            std::future::pending::<()>().await;
        }
        Ok::<_, std::convert::Infallible>(ok(Script::new([Step::Data("abc"), Step::Silent])))
    });
    for path in ["/head", "/body"] {
        let mut request = get();
        *request.uri_mut() = path.parse().unwrap();
        let response = stack.layer(handler.clone()).call(request).await.unwrap();
        drop(http_body_util::BodyExt::collect(response.into_body()).await);
        let event =
            r#"WARN seawall: request timed out layer="timeout" name="api" reason="timeout""#;
        assert_eq!(lines(), [format!(r#"{event} method="GET" path="{path}""#)]);
    }
}

/// A timeout of the service is written, although callers cause more than five in the same second.
#[tokio::test(start_paused = true)]
async fn timeouts_of_callers_have_a_limit_of_their_own() {
    let (lines, _guards) = logged();
    let never = crate::handler::service_fn(|_| {
        std::future::pending::<Result<http::Response<Script>, std::convert::Infallible>>()
    });
    tokio::time::advance(Duration::from_secs(100)).await;
    for _ in 0..10 {
        let mut request = grpc();
        let headers = request.headers_mut();
        headers.insert("grpc-timeout", "1m".parse().unwrap());
        let mut late = TimeoutLayer::new(Duration::from_secs(5)).layer(never.clone());
        late.call(request).await.unwrap();
    }
    assert_eq!(lines().len(), 5);
    let mut late = TimeoutLayer::new(Duration::ZERO).layer(never);
    late.call(get()).await.unwrap();
    assert_eq!(
        lines(),
        [r#"WARN seawall: request timed out layer="timeout" name="" reason="timeout""#]
    );
    // The summary is written here, and not in another test.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        lines(),
        [r#"WARN seawall: events left out reason="timeout" left_out=5"#]
    );
}

/// Custom reasons share one limit, and so its summary has no reason of one of them.
#[tokio::test(start_paused = true)]
async fn a4_a_summary_of_custom_reasons_has_a_common_name() {
    static A: CustomReason = CustomReason::new("a", "the first");
    static B: CustomReason = CustomReason::new("b", "the second");

    let (lines, _guards) = logged();
    let with = |reason| {
        GateLayer::from_policy(No::new(Reason::Custom(reason)))
            .layer(answers(|| ok(Script::default())))
    };
    let (mut a, mut b) = (with(&A), with(&B));
    tokio::time::advance(Duration::from_secs(10)).await;
    a.call(get()).await.unwrap();
    lines();
    tokio::time::advance(Duration::from_secs(1)).await;
    for _ in 0..100 {
        a.call(get()).await.unwrap();
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    b.call(get()).await.unwrap();
    let mut lines = lines();
    lines.retain(|line| line.contains("left_out"));
    let summary = r#"WARN seawall: events left out reason="custom" left_out=95"#;
    assert_eq!(lines, [summary]);
}

/// A client may choose the keys of a family, and so cause a change of state of each.
#[cfg(feature = "keyed")]
#[tokio::test(start_paused = true)]
async fn a4_the_breakers_of_a_family_write_five_events_each_second() {
    let (lines, _guards) = logged();
    let family = seawall::circuit_breaker::CircuitBreakers::<u32>::new(
        CircuitBreakerSettings::default().consecutive_failures(1),
    );
    let family = family.unwrap();
    tokio::time::advance(Duration::from_secs(10)).await;
    for key in 0..100 {
        family.get_or_insert(&key).try_acquire().unwrap().failure();
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    family.get_or_insert(&100).try_acquire().unwrap().failure();
    let of_family = lines();
    let count = |text| of_family.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("circuit opened"), count("left_out=95")), (6, 1));
    // Those of others have no limit.
    for _ in 0..9 {
        CircuitBreaker::default().trip();
    }
    assert_eq!(lines().len(), 9);
}

/// The other changes of a family do not displace its openings, and the level of each
/// applies.
#[cfg(feature = "keyed")]
#[tokio::test(start_paused = true)]
async fn a_breaker_of_a_family_writes_that_it_opens() {
    let family = || {
        let settings = CircuitBreakerSettings::default();
        seawall::circuit_breaker::CircuitBreakers::<u32>::new(settings).unwrap()
    };
    for (level, expected) in [(tracing::Level::WARN, 1), (tracing::Level::DEBUG, 6)] {
        let (lines, _guards) = logged_at(level);
        tokio::time::advance(Duration::from_secs(10)).await;
        let family = family();
        for key in 0..9 {
            family.get_or_insert(&key).force_closed();
        }
        family.get_or_insert(&9).trip();
        let mut lines = lines();
        lines.retain(|line| !line.contains("left_out"));
        assert_eq!(lines.len(), expected, "{lines:?}");
        assert!(lines[expected - 1].contains("circuit opened"));
    }
}

/// A path and the message of a panic come from the client: neither reaches a terminal unescaped.
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
    // A line of the previous test.
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

/// The message of a panic may contain a request.
#[tokio::test(start_paused = true)]
async fn a4_a_long_message_of_a_panic_is_cut() {
    let (lines, _guards) = logged();
    let mut panics =
        seawall::CatchPanicLayer::new().layer(answers(|| -> http::Response<Script> {
            std::panic::resume_unwind(Box::new("x".repeat(1 << 20)))
        }));
    tokio::time::advance(Duration::from_secs(10)).await;
    panics.call(get()).await.unwrap();
    let line = lines().concat();
    assert!(line.contains(&format!(r#"panic="{}""#, "x".repeat(1024))));
}

/// Each snapshot, as an admin page shows it.
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
        (&now["state"], &now["retry_in"]),
        (&json!("open"), &json!(5.0))
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

/// D8: times in snapshots are seconds, as a number.
#[cfg(feature = "serde")]
#[tokio::test(start_paused = true)]
async fn d8_times_are_seconds() {
    use seawall::{LagMonitor, Timeout};
    use serde_json::{Value, json, to_value};

    const MS: Duration = Duration::from_millis(1);

    /// As `Duration` is written by itself.
    fn has_parts(value: &Value) -> bool {
        match value {
            Value::Object(fields) => {
                let mut fields = fields.iter();
                fields.any(|(name, value)| name == "nanos" || has_parts(value))
            }
            Value::Array(values) => values.iter().any(has_parts),
            _ => false,
        }
    }

    let server = seawall::server().timeout(250 * MS).build().unwrap();
    let now = to_value(server.snapshot()).unwrap();
    assert!(!has_parts(&now), "{now}");
    assert_eq!(now["timeout"]["duration"], json!(0.25));
    assert_eq!(now["lag_shed"]["lag"], json!(0.0));
    let endless = to_value(Timeout::from(Duration::MAX).snapshot()).unwrap();
    assert_eq!(endless["duration"], json!(Duration::MAX.as_secs_f64()));

    let settings = CircuitBreakerSettings::default().slow_call(60_000 * MS, 1.0);
    let client = seawall::client()
        .circuit_breaker(CircuitBreaker::new(settings).unwrap())
        .build()
        .unwrap();
    let breaker = client.circuit_breaker();
    breaker.record_timed(seawall::Outcome::Success, 750 * MS);
    tokio::time::advance(1250 * MS).await;
    let now = to_value(client.snapshot()).unwrap();
    assert!(!has_parts(&now), "{now}");
    assert_eq!(now["circuit_breaker"]["mean_duration"], json!(0.75));
    assert_eq!(now["circuit_breaker"]["in_state"], json!(1.25));
    breaker.trip();
    tokio::time::advance(500 * MS).await;
    let now = to_value(breaker.snapshot()).unwrap();
    assert_eq!(
        (&now["state"], &now["retry_in"]),
        (&json!("open"), &json!(4.5))
    );

    let monitor = LagMonitor::start(&tokio::runtime::Handle::current());
    let now = to_value(monitor.snapshot()).unwrap();
    assert!(
        !has_parts(&now) && now["lag"].is_f64() && now["peak"].is_f64(),
        "{now}"
    );
}
