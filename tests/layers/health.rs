//! Health checks, under virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use http::{Method, Request, Response};
use seawall::policy::{Mode, Switch};
use seawall::{
    CircuitBreaker, CircuitBreakerSettings, Drain, GateLayer, Health, LagShed, LagShedLayer,
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt};

use crate::support::{self, Script, answers};

const SECOND: Duration = Duration::from_secs(1);

async fn ask(health: &Health, method: Method, path: &str) -> Response<String> {
    let request = Request::builder().method(method).uri(path);
    let request = request.body(()).unwrap();
    health.clone().oneshot(request).await.unwrap()
}

async fn get(health: &Health, path: &str) -> (u16, String) {
    let response = ask(health, Method::GET, path).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    (response.status().as_u16(), response.into_body())
}

async fn ready(health: &Health) -> (u16, String) {
    let answer = get(health, "/readyz").await;
    assert_eq!(health.is_ready(), answer.0 == 200);
    answer
}

fn ok() -> (u16, String) {
    (200, "ready\n".to_owned())
}

fn off(reasons: &str) -> (u16, String) {
    (503, format!("not ready: {reasons}\n"))
}

#[tokio::test(start_paused = true)]
async fn it_is_not_ready_while_it_drains_and_live_as_long_as_it_answers() {
    let drain = Drain::default();
    let health = Health::new(drain.clone());
    assert_eq!(ready(&health).await, ok());
    drain.begin();
    assert_eq!(ready(&health).await, off("draining"));
    advance(60 * SECOND).await;
    assert_eq!(ready(&health).await, off("draining"));
    assert_eq!(get(&health, "/livez").await, (200, "live\n".to_owned()));
}

#[tokio::test]
async fn paths_and_methods() {
    let health = Health::new(Drain::default());
    assert_eq!(get(&health, "/statusz").await.0, 404, "there is none");
    for path in ["/", "", "/livez/", "/livez/x", "/LIVEZ", "/healthz"] {
        let path = if path.is_empty() { "*" } else { path };
        assert!(!Health::has_path(path));
        assert_eq!(get(&health, path).await.0, 404, "{path}");
    }
    for method in ["Check", "Watch", "List"] {
        assert!(Health::has_path(&format!(
            "/grpc.health.v1.Health/{method}"
        )));
    }
    for path in [
        "/grpc.health.v1.Healthy/Check",
        "/grpc.health.v1.Health/Other",
    ] {
        assert!(!Health::has_path(path));
    }
    assert_eq!(get(&health, "/grpc.health.v1.Health/Check").await.0, 404);
    assert_eq!(get(&health, "/livez?verbose").await.0, 200);
    assert_eq!(get(&health, "http://admin/livez").await.0, 200);
    for path in ["/livez", "/readyz", "/statusz"] {
        assert!(Health::has_path(path));
        let response = ask(&health, Method::POST, path).await;
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "GET, HEAD");
    }
    let response = ask(&health, Method::HEAD, "/readyz").await;
    assert_eq!(
        (response.status().as_u16(), &response.body()[..]),
        (200, "")
    );
    assert_eq!(response.headers()["content-length"], "6");
}

#[tokio::test]
async fn a_status_is_json_or_an_error() {
    let health = Health::new(Drain::default());
    let clone = health.clone();
    let health = health.status(|| Ok::<_, std::fmt::Error>("{}".to_owned()));
    for health in [&health, &clone] {
        let response = ask(health, Method::GET, "/statusz").await;
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(
            (response.status().as_u16(), &response.body()[..]),
            (200, "{}")
        );
    }
    let health = health.status(|| Err("broken"));
    assert_eq!(get(&health, "/statusz").await, (500, "broken\n".to_owned()));
}

/// A condition must hold, and must be absent, for the given time.
#[tokio::test(start_paused = true)]
async fn a_condition_has_hysteresis() {
    let holds = Arc::new(AtomicBool::new(false));
    let seen = holds.clone();
    let health =
        Health::new(Drain::default())
            .not_ready_while("disk full", 10 * SECOND, move || seen.load(SeqCst));
    assert_eq!(ready(&health).await, ok());
    holds.store(true, SeqCst);
    assert_eq!(ready(&health).await, ok());
    advance(9 * SECOND).await;
    assert_eq!(ready(&health).await, ok());
    // The condition flaps: the time starts again.
    holds.store(false, SeqCst);
    assert_eq!(ready(&health).await, ok());
    holds.store(true, SeqCst);
    assert_eq!(ready(&health).await, ok());
    advance(9 * SECOND).await;
    assert_eq!(ready(&health).await, ok());
    advance(SECOND).await;
    assert_eq!(ready(&health).await, off("disk full"));
    holds.store(false, SeqCst);
    assert_eq!(ready(&health).await, off("disk full"));
    advance(10 * SECOND).await;
    assert_eq!(ready(&health).await, ok());
}

/// A breaker that is open. Without calls, the service is ready again when the breaker would admit a
/// probe.
#[tokio::test(start_paused = true)]
async fn an_essential_breaker_is_open() {
    let settings = CircuitBreakerSettings::default()
        .failure_rate(None)
        .consecutive_failures(1);
    let database = CircuitBreaker::new(settings).unwrap().named("database");
    let drain = Drain::default();
    let health = Health::new(drain.clone()).essential(&database, 3 * SECOND);
    assert_eq!(ready(&health).await, ok());
    database.try_acquire().unwrap().failure();
    assert_eq!(ready(&health).await, off("circuit open: database"));
    advance(4 * SECOND).await;
    assert_eq!(ready(&health).await, off("circuit open: database"));
    advance(SECOND).await;
    // Half-open, without a call.
    assert_eq!(ready(&health).await, off("circuit open: database"));
    advance(3 * SECOND).await;
    assert_eq!(ready(&health).await, ok());
    // The first probe fails.
    database.try_acquire().unwrap().failure();
    assert_eq!(ready(&health).await, off("circuit open: database"));
    drain.begin();
    assert_eq!(
        ready(&health).await,
        off("draining, circuit open: database")
    );
    database.reset();
    advance(3 * SECOND).await;
    let _ = ready(&health).await;
    advance(3 * SECOND).await;
    assert_eq!(ready(&health).await, off("draining"));
    database.force_open();
    assert_eq!(
        ready(&health).await,
        off("draining, circuit open: database")
    );
}

/// A dry run rejects nothing, and so the service stays ready.
#[tokio::test(start_paused = true)]
async fn a_dry_run_is_no_reason() {
    let (shed, database) = (LagShed::default(), CircuitBreaker::default());
    let switch = Switch::new(Mode::DryRun);
    let policies = (shed.clone(), database.clone());
    let mut service = GateLayer::from_policy(policies)
        .switched_by(switch.clone())
        .layer(answers(|| support::ok(Script::default())));
    let health = Health::new(Drain::default())
        .not_ready_while_shedding(&shed, Duration::ZERO)
        .essential(&database, Duration::ZERO);
    for (mode, reason) in [(Mode::DryRun, ok()), (Mode::Enforce, off("shedding"))] {
        switch.set(mode);
        shed.force_shedding(true);
        service.call(support::get()).await.unwrap();
        assert_eq!(ready(&health).await, reason);
        shed.force_shedding(false);
    }
    for (mode, reason) in [(Mode::DryRun, ok()), (Mode::Enforce, off("circuit open"))] {
        switch.set(mode);
        database.force_open();
        service.call(support::get()).await.unwrap();
        assert_eq!(ready(&health).await, reason);
        database.reset();
    }
}

/// A shedder that would reject, but whose layer is off, or that gets no requests.
#[tokio::test(start_paused = true)]
async fn a_shedder_that_rejects_nothing_is_no_reason() {
    let shed = LagShed::default();
    let switch = Switch::new(Mode::Off);
    let mut service = LagShedLayer::new(shed.clone())
        .switched_by(switch.clone())
        .layer(answers(|| support::ok(Script::default())));
    let health = Health::new(Drain::default()).not_ready_while_shedding(&shed, Duration::ZERO);
    for _ in 0..2 {
        switch.set(Mode::Off);
        shed.force_shedding(true);
        service.call(support::get()).await.unwrap();
        assert_eq!(ready(&health).await, ok());
        switch.set(Mode::Enforce);
        assert_eq!(ready(&health).await, ok());
        service.call(support::get()).await.unwrap();
        assert_eq!(ready(&health).await, off("shedding"));
        // The load balancer sends no more requests.
        assert_eq!(ready(&health).await, off("shedding"));
        shed.force_shedding(false);
        assert_eq!(ready(&health).await, ok());
    }
}

/// The closure of a condition may call the service itself.
#[tokio::test]
async fn a_condition_is_asked_without_a_lock() {
    let health = Health::new(Drain::default());
    let asked = health.clone();
    let again = AtomicBool::new(false);
    let health = health.not_ready_while("asks", Duration::ZERO, move || {
        !again.swap(true, SeqCst) && asked.is_ready()
    });
    assert!(!health.is_ready());
}
