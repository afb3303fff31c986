//! Layers in front of recorders of the user, and the series that a recorder gets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use seawall::policy::{Admission, NoWait, Policy, RequestKind};
use seawall::{
    CircuitBreaker, ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings,
    CustomReason, Drain, DrainLayer, GateLayer, LagShed, LagShedLayer, Reason, Reporter,
    RequestLimit, Timeout, TimeoutLayer,
};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};
use tower::{Layer, Service};

use crate::support::*;

/// A recorder that panics when a series is registered.
struct Panics;

/// A recorder whose counters and gauges panic when they change, from a moment on.
#[derive(Clone, Default)]
struct PanicsLater(Arc<AtomicBool>);

/// A recorder of gauges. A gauge that is set to 7 raises the limit before it has the value.
#[derive(Clone)]
struct Gauges {
    limit: ConcurrencyLimit,
    values: Arc<Mutex<HashMap<String, f64>>>,
}

struct OneGauge {
    name: String,
    of: Gauges,
}

/// A Prometheus recorder that calls a closure at the first change of a series.
struct Reacts {
    inner: PrometheusRecorder,
    name: &'static str,
    react: React,
    /// It reacts when a counter is registered with 0.
    is_early: bool,
}

type React = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

struct Reacting<T> {
    inner: T,
    react: React,
    is_early: bool,
}

// === impl Reacts ===

impl Reacts {
    fn new(name: &'static str, react: impl FnOnce() + Send + 'static) -> Self {
        Self {
            inner: PrometheusBuilder::new().build_recorder(),
            name,
            react: Arc::new(Mutex::new(Some(Box::new(react)))),
            is_early: false,
        }
    }

    fn reacting<T>(&self, inner: T) -> Arc<Reacting<T>> {
        Arc::new(Reacting {
            inner,
            react: self.react.clone(),
            is_early: self.is_early,
        })
    }
}

impl Recorder for Reacts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let counter = self.inner.register_counter(key, metadata);
        if key.name() == self.name {
            return Counter::from_arc(self.reacting(counter));
        }
        counter
    }
    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let gauge = self.inner.register_gauge(key, metadata);
        if key.name() == self.name {
            return Gauge::from_arc(self.reacting(gauge));
        }
        gauge
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl<T> Reacting<T> {
    fn react(&self) {
        let react = self.react.lock().unwrap().take();
        if let Some(react) = react {
            react();
        }
    }
}

impl CounterFn for Reacting<Counter> {
    fn increment(&self, value: u64) {
        if value > 0 || self.is_early {
            self.react();
        }
        self.inner.increment(value);
    }
    fn absolute(&self, value: u64) {
        self.inner.absolute(value);
    }
}

impl GaugeFn for Reacting<Gauge> {
    fn increment(&self, value: f64) {
        if value > 0.0 {
            self.react();
        }
        self.inner.increment(value);
    }
    fn decrement(&self, value: f64) {
        self.inner.decrement(value);
    }
    fn set(&self, value: f64) {
        self.react();
        self.inner.set(value);
    }
}

// === impl Panics ===

impl Recorder for Panics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        unwind()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        unwind()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        unwind()
    }
}

// === impl PanicsLater ===

impl PanicsLater {
    fn change(&self) {
        if self.0.load(Relaxed) {
            unwind();
        }
    }
}

impl Recorder for PanicsLater {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(self.clone()))
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(self.clone()))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl CounterFn for PanicsLater {
    fn increment(&self, _: u64) {
        self.change();
    }
    fn absolute(&self, _: u64) {
        self.change();
    }
}

impl GaugeFn for PanicsLater {
    fn increment(&self, _: f64) {
        self.change();
    }
    fn decrement(&self, _: f64) {
        self.change();
    }
    fn set(&self, _: f64) {
        self.change();
    }
}

// === impl Gauges ===

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(OneGauge {
            name: key.name().to_owned(),
            of: self.clone(),
        }))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl GaugeFn for OneGauge {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}
    fn set(&self, value: f64) {
        if self.name == "seawall_concurrency_limit" && (value - 7.0).abs() < 0.1 {
            self.of.limit.set_limit(8).unwrap();
        }
        let mut values = self.of.values.lock().unwrap();
        values.insert(self.name.clone(), value);
    }
}

/// The page of the recorder has this line.
fn assert_shows(handle: &PrometheusHandle, line: &str) {
    let page = handle.render();
    let is_shown = page.lines().any(|shown| shown == line);
    assert!(is_shown, "{line}\nis not in\n{page}");
}

/// A panic in the registration ends no request, and no permit stays in use.
#[tokio::test(start_paused = true)]
async fn a_recorder_that_panics_costs_no_permit() {
    let _guard = metrics::set_default_local_recorder(&Panics);
    let limit = ConcurrencyLimit::from(1);
    let layer = ConcurrencyLimitLayer::new(limit.clone()).exempt(|head| head.path() == "/exempt");
    let mut service = layer.layer(answers(|| ok(Script::data(&["a"]))));
    for path in ["/", "/exempt", "/"] {
        let mut request = get();
        *request.uri_mut() = path.parse().unwrap();
        let response = service.call(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(limit.in_flight(), usize::from(path == "/"), "{path}");
        let second = service.call(get()).await.unwrap();
        let expected = (path == "/").then_some(Reason::ConcurrencyLimit);
        assert_eq!(reason(&second), expected);
    }
    assert_eq!(limit.in_flight(), 0);

    let permit = limit.try_acquire().unwrap();
    assert_eq!(limit.in_flight(), 1);
    drop(permit);
    assert_eq!(limit.in_flight(), 0);
}

/// A higher limit admits the queued requests before a gauge shows it.
#[tokio::test(start_paused = true)]
async fn a_gauge_that_panics_does_not_keep_the_queue() {
    let recorder = PanicsLater::default();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let settings = ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(1));
    let limit = ConcurrencyLimit::new(settings).unwrap();
    let layer = ConcurrencyLimitLayer::new(limit.clone());
    let mut service = layer.layer(answers(|| ok(Script::data(&["a"]))));
    let _permit = limit.try_acquire().unwrap();
    let mut queued = spawn(service.call(get()));
    assert_pending!(queued.poll());
    recorder.0.store(true, Relaxed);
    limit.set_limit(2).unwrap();
    recorder.0.store(false, Relaxed);
    assert!(queued.is_woken());
    assert_eq!(assert_ready!(queued.poll()).unwrap().status(), 200);
}

/// A counter that panics ends no request: neither a permit nor the count of a drain stays.
#[tokio::test(start_paused = true)]
async fn counters_that_panic_cost_no_token() {
    let recorder = PanicsLater::default();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (drain, limit) = (Drain::default(), ConcurrencyLimit::from(1));
    let service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::data(&["a"]))));
    let mut service = DrainLayer::new(drain.clone()).layer(service);
    for panics in [false, true, false] {
        recorder.0.store(panics, Relaxed);
        let response = service.call(get()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!((drain.in_flight(), limit.in_flight()), (1, 1));
        drop(response);
        assert_eq!((drain.in_flight(), limit.in_flight()), (0, 0));
        drop(limit.try_acquire().unwrap());
        assert_eq!(limit.in_flight(), 0);
    }

    let settings = ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(1));
    let limit = ConcurrencyLimit::new(settings).unwrap();
    let mut service = GateLayer::from_policy((drain.clone(), limit.clone()))
        .layer(answers(|| ok(Script::data(&["a"]))));
    drop(service.call(get()).await.unwrap());
    recorder.0.store(true, Relaxed);
    let first = service.call(get()).await.unwrap();
    let mut queued = spawn(service.call(get()));
    assert_pending!(queued.poll());
    drop(first);
    let second = assert_ready!(queued.poll()).unwrap();
    assert_eq!((drain.in_flight(), limit.in_flight()), (1, 1));
    drop((queued, second));
    assert_eq!((drain.in_flight(), limit.in_flight()), (0, 0));
}

/// A breaker calls its hooks, and is dropped, although its series panic.
#[tokio::test(start_paused = true)]
async fn a_gauge_that_panics_does_not_stop_a_breaker() {
    let recorder = PanicsLater::default();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let breaker = CircuitBreaker::default();
    let told = Arc::new(AtomicBool::new(false));
    let tells = told.clone();
    breaker.on_transition(move |_| tells.store(true, Relaxed));
    breaker.try_acquire().unwrap().success(); // registers the series
    recorder.0.store(true, Relaxed);
    breaker.trip();
    assert!(told.load(Relaxed));
    drop(breaker);
}

/// The last of two changes is shown, also if the second one is made while the first one is shown:
/// by a change, or when the gauge is registered.
#[test]
fn a_gauge_has_the_last_setting() {
    for first in [1, 7] {
        let limit = ConcurrencyLimit::from(first);
        let values = Arc::default();
        let recorder = Gauges {
            limit: limit.clone(),
            values: Arc::clone(&values),
        };
        metrics::with_local_recorder(&recorder, || {
            drop(limit.try_acquire()); // registers the gauges
            limit.set_limit(7).unwrap();
        });
        assert_eq!(limit.limit(), 8);
        let shown = values.lock().unwrap()["seawall_concurrency_limit"];
        assert!((shown - 8.0).abs() < 0.1, "{shown}");
    }
}

/// A recorder opens the breaker while it gets the state, or a setting, of the breaker for the first
/// time.
#[test]
fn a_gauge_that_opens_its_breaker_shows_the_open_state() {
    for series in ["seawall_circuit_state", "seawall_circuit_threshold"] {
        let breaker = CircuitBreaker::default().named("db");
        let opens = breaker.clone();
        let recorder = Reacts::new(series, move || opens.trip());
        let handle = recorder.inner.handle();
        metrics::with_local_recorder(&recorder, || drop(breaker.try_acquire()));
        for line in [
            r#"seawall_circuit_state{layer="circuit_breaker",name="db",state="closed"} 0"#,
            r#"seawall_circuit_state{layer="circuit_breaker",name="db",state="open"} 1"#,
        ] {
            assert_shows(&handle, line);
        }
    }
}

/// A recorder calls the gate while the gate registers a counter of its requests.
#[tokio::test(start_paused = true)]
async fn a_recorder_that_calls_the_gate_does_not_wait_for_itself() {
    for series in [
        "seawall_requests_admitted_total",
        "seawall_requests_exempt_total",
        "seawall_requests_rejected_total",
    ] {
        let limit = ConcurrencyLimit::from(2).named("api");
        let mut service = ConcurrencyLimitLayer::new(limit.clone())
            .exempt(|head| head.path() == "/exempt")
            .layer(answers(|| ok(Script::default())));
        let mut calls = service.clone();
        let mut recorder = Reacts::new(series, move || drop(calls.call(get())));
        recorder.is_early = true;
        let handle = recorder.inner.handle();
        let _guard = metrics::set_default_local_recorder(&recorder);
        drop(service.call(get()).await.unwrap());
        assert_eq!(limit.in_flight(), 0);
        let line = r#"seawall_requests_admitted_total{layer="concurrency_limit",name="api"} 2"#;
        assert_shows(&handle, line);
    }
}

/// A recorder starts the shedding while it gets the state of the shedder for the first time.
#[tokio::test(start_paused = true)]
async fn a_gauge_that_forces_a_shedder_shows_that_it_sheds() {
    let shedder = LagShed::default().named("api");
    let forces = shedder.clone();
    let recorder = Reacts::new("seawall_lag_state", move || forces.force_shedding(true));
    let handle = recorder.inner.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let mut service = LagShedLayer::new(shedder).layer(answers(|| ok(Script::default())));
    drop(service.call(get()).await.unwrap());
    for line in [
        r#"seawall_lag_state{layer="lag_shed",name="api",state="normal"} 0"#,
        r#"seawall_lag_state{layer="lag_shed",name="api",state="shedding"} 1"#,
    ] {
        assert_shows(&handle, line);
    }
}

/// A change of state before the first request registers nothing: there may be no recorder yet, and
/// the shedder may get its name later.
#[tokio::test(start_paused = true)]
async fn the_first_request_shows_the_state_of_a_shedder() {
    let shedder = LagShed::default();
    shedder.force_shedding(true);
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let layer = LagShedLayer::new(shedder.named("late"));
    let mut service = layer.layer(answers(|| ok(Script::default())));
    drop(service.call(get()).await.unwrap());
    for line in [
        r#"seawall_lag_state{layer="lag_shed",name="late",state="shedding"} 1"#,
        r#"seawall_requests_rejected_total{layer="lag_shed",name="late",reason="overloaded"} 1"#,
    ] {
        assert_shows(&handle, line);
    }
}

/// Work that is no request counts as one.
#[tokio::test(start_paused = true)]
async fn permits_outside_a_gate_are_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let limit = ConcurrencyLimit::from(1).named("sockets");
    let permit = limit.try_acquire().unwrap();
    limit.try_acquire().unwrap_err();
    drop(permit);
    let drain = Drain::default().named("sockets");
    drop(drain.try_acquire().unwrap());
    for line in [
        r#"seawall_requests_admitted_total{layer="concurrency_limit",name="sockets"} 1"#,
        r#"seawall_requests_rejected_total{layer="concurrency_limit",name="sockets",reason="concurrency_limit"} 1"#,
        r#"seawall_requests_admitted_total{layer="drain",name="sockets"} 1"#,
        r#"seawall_requests_rejected_total{layer="drain",name="sockets",reason="draining"} 0"#,
    ] {
        assert_shows(&handle, line);
    }
}

/// A recorder drops a response body while it gets the timeout of that body.
#[tokio::test(start_paused = true)]
async fn a_counter_that_drops_the_body_does_not_lock_it() {
    let second = Duration::from_secs(1);
    let slot: Arc<Mutex<Option<Response<_>>>> = Arc::default();
    let drops = slot.clone();
    let recorder = Reacts::new("seawall_timeouts_total", move || {
        drop(drops.lock().unwrap().take());
    });
    let _guard = metrics::set_default_local_recorder(&recorder);
    let endless = || ok(Script::new(vec![Step::Data("abc"); 1000]));
    let layer = TimeoutLayer::new(second).including_body();
    let response = layer.layer(answers(endless)).call(get()).await.unwrap();
    *slot.lock().unwrap() = Some(response);
    for _ in 0..16 {
        tokio::time::advance(second / 4).await;
        tokio::task::yield_now().await;
    }
    assert!(slot.lock().unwrap().is_none());
}

/// The first response body stops sending. The second one forwards the request body, whose client
/// stops sending.
#[tokio::test(start_paused = true)]
async fn a_timeout_of_a_body_has_its_cause() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let second = Duration::from_secs(1);
    let timeout = TimeoutLayer::new(Timeout::from(second).named("api")).including_body();
    let timeout = timeout.policy().clone();
    let layer = GateLayer::from_policy((timeout, RequestLimit::from(1000)));
    let silent = || Script::new(vec![Step::Data("abc"), Step::Silent]);
    for (cause, counts) in [("service", [1, 0]), ("caller", [1, 1])] {
        let mut service = layer.clone().layer(tower::service_fn(
            async |request: http::Request<seawall::RequestBody<Script>>| {
                let body = match cause {
                    "caller" => request
                        .into_body()
                        .map_err(Into::<tower::BoxError>::into)
                        .boxed_unsync(),
                    _ => silent()
                        .map_err(Into::<tower::BoxError>::into)
                        .boxed_unsync(),
                };
                let mut response = Response::new(body);
                let grpc = "application/grpc".parse().unwrap();
                response.headers_mut().insert("content-type", grpc);
                Ok::<_, std::convert::Infallible>(response)
            },
        ));
        let response = service.call(grpc().map(|_| silent())).await.unwrap();
        let mut body = spawn(response.into_body().collect());
        assert_pending!(body.poll());
        tokio::time::sleep(2 * second).await;
        let end = assert_ready!(body.poll()).unwrap();
        assert_eq!(end.trailers().unwrap()["grpc-status"], "4");
        for (cause, count) in ["service", "caller"].into_iter().zip(counts) {
            let series = r#"seawall_timeouts_total{layer="timeout",name="api",cause="#;
            assert_shows(&handle, &format!(r#"{series}"{cause}"}} {count}"#));
        }
    }
}

/// A recorder calls a breaker while it gets an exempt request: each counts once for its layer.
#[tokio::test(start_paused = true)]
async fn an_exempt_request_counts_once_if_its_counter_calls_another_layer() {
    let breaker = CircuitBreaker::default().named("db");
    let recorder = Reacts::new("seawall_requests_exempt_total", move || {
        breaker.try_acquire().unwrap().success();
    });
    let handle = recorder.inner.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let limit = ConcurrencyLimit::from(1).named("api");
    let layer = ConcurrencyLimitLayer::new(limit).exempt(|_| true);
    let mut service = layer.layer(answers(|| ok(Script::default())));
    drop(service.call(get()).await.unwrap());
    for line in [
        r#"seawall_requests_exempt_total{layer="concurrency_limit",name="api"} 1"#,
        r#"seawall_requests_admitted_total{layer="concurrency_limit",name="api"} 0"#,
        r#"seawall_requests_admitted_total{layer="circuit_breaker",name="db"} 1"#,
    ] {
        assert_shows(&handle, line);
    }
}

/// A gate whose first requests are rejected has all of its series, so that a share of them can be
/// computed; and the shedder's state is the forced one.
#[tokio::test(start_paused = true)]
async fn a_stack_that_rejects_from_its_first_request_has_all_series() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let stack = seawall::server()
        .named("api")
        .lag_shed(LagShed::default())
        .build()
        .unwrap();
    stack.lag_shed().force_shedding(true);
    let mut service = stack.layer(answers(|| ok(Script::default())));
    for _ in 0..3 {
        let response = service.call(get()).await.unwrap();
        assert_eq!(reason(&response), Some(Reason::Overloaded));
    }
    let page = handle.render();
    for line in [
        r#"seawall_requests_admitted_total{layer="stack",name="api"} 0"#,
        r#"seawall_requests_exempt_total{layer="stack",name="api"} 0"#,
        r#"seawall_requests_rejected_total{layer="lag_shed",name="api",reason="overloaded"} 3"#,
        r#"seawall_requests_rejected_total{layer="drain",name="api",reason="draining"} 0"#,
        r#"seawall_requests_in_flight{layer="concurrency_limit",name="api"} 0"#,
        r#"seawall_timeouts_total{layer="timeout",name="api",cause="service"} 0"#,
        r#"seawall_panics_total{layer="catch_panic",name="api"} 0"#,
        r#"seawall_lag_state{layer="lag_shed",name="api",state="shedding"} 1"#,
        r#"seawall_lag_state{layer="lag_shed",name="api",state="normal"} 0"#,
        r#"seawall_lag_shed_ratio{layer="lag_shed",name="api"} 1"#,
    ] {
        assert!(page.contains(line), "{line}\nis not in\n{page}");
    }
    stack.lag_shed().force_shedding(false);
    let page = handle.render();
    let line = r#"seawall_lag_state{layer="lag_shed",name="api",state="normal"} 1"#;
    assert!(page.contains(line), "{page}");
}

/// A policy of the user with a reason of its own.
#[derive(Clone)]
struct Registers(Reporter);

static UNPAID: CustomReason = CustomReason::new("unpaid", "Please pay.");

impl<R: RequestKind> Policy<R> for Registers {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), Self::Wait> {
        Admission::Admit(())
    }

    fn register(&self) {
        let reasons = [
            Reason::RateLimited,
            Reason::Custom(&UNPAID),
            Reason::Timeout,
        ];
        self.0.register_reasons(&reasons);
    }
}

#[tokio::test(start_paused = true)]
async fn the_reasons_of_your_own_policy_start_with_0() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let policy = Registers(Reporter::new("tenant"));
    let mut service = GateLayer::from_policy(policy).layer(answers(|| ok(Script::default())));
    drop(service.call(get()).await.unwrap());
    assert_shows(
        &handle,
        r#"seawall_timeouts_total{layer="tenant",name="",cause="caller"} 0"#,
    );
    let page = handle.render();
    assert!(
        !page.contains(r#"rejected_total{layer="tenant",name="",reason="timeout""#),
        "{page}"
    );
    for reason in ["rate_limited", "unpaid"] {
        for metric in ["rejected", "would_reject"] {
            let labels = format!(r#"layer="tenant",name="",reason="{reason}""#);
            assert_shows(
                &handle,
                &format!("seawall_requests_{metric}_total{{{labels}}} 0"),
            );
        }
    }
}
