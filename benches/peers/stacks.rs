//! Six layers around an axum router, outside of it and through `Router::layer`. All routers have their state, as those that
//! `axum::serve` serves: without, axum makes each request's route anew, layers included.

use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::http::StatusCode;
use axum::routing::get;
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimit, ConcurrencyLimitLayer,
    GateLayer, LagShed, LagShedLayer, RequestLimitLayer, TimeoutLayer,
};
use tower::{BoxError, ServiceBuilder};
use tower_resilience_bulkhead as bulkhead;
use tower_resilience_circuitbreaker as resilience;
use tower_resilience_timelimiter as timelimiter;

use crate::bench::{BARE, Bench};
use crate::drive::{http, runtime};

const SECOND: Duration = Duration::from_secs(1);
const BODY: usize = 1000;

fn router() -> Router {
    Router::new().route("/", get(async || "hello"))
}

fn lag() -> LagShed {
    let lag = LagShed::default();
    lag.start(runtime().handle());
    lag
}

/// All six, as the crate's documentation has them.
macro_rules! ours {
    () => {
        ServiceBuilder::new()
            .layer(CatchPanicLayer::new())
            .layer(LagShedLayer::new(lag()))
            .layer(CircuitBreakerLayer::new(CircuitBreaker::default()))
            .layer(TimeoutLayer::new(SECOND))
            .layer(ConcurrencyLimitLayer::new(512))
            .layer(RequestLimitLayer::new(BODY as u64))
    };
}

/// The same in one gate: what decides at the door is asked at once.
macro_rules! one_gate {
    () => {
        ServiceBuilder::new()
            .layer(CatchPanicLayer::new())
            .layer(TimeoutLayer::new(SECOND))
            .layer(GateLayer::from_policy((
                lag(),
                CircuitBreaker::default(),
                ConcurrencyLimit::new(512),
            )))
            .layer(RequestLimitLayer::new(BODY as u64))
    };
}

async fn refused(_: BoxError) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

/// What comes nearest to it: panics, overload, a breaker, a body's size, then a time-out and a limit.
macro_rules! theirs {
    ($timeout:expr, $limit:expr) => {
        ServiceBuilder::new()
            .layer(tower_http::catch_panic::CatchPanicLayer::new())
            .layer(HandleErrorLayer::new(refused))
            .load_shed()
            .layer(
                resilience::CircuitBreakerLayer::builder()
                    .build()
                    .expect("a breaker"),
            )
            .layer(tower_http::limit::RequestBodyLimitLayer::new(BODY))
            .layer($timeout)
            .layer($limit)
    };
}

/// With tower-http's time-out and tower's limit.
macro_rules! tower {
    () => {
        theirs!(
            tower_http::timeout::TimeoutLayer::with_status_code(
                StatusCode::GATEWAY_TIMEOUT,
                SECOND,
            ),
            tower::limit::ConcurrencyLimitLayer::new(512)
        )
    };
}

/// With tower-resilience's time limiter and bulkhead.
macro_rules! resilience {
    () => {
        theirs!(
            timelimiter::TimeLimiterLayer::builder()
                .timeout_duration(SECOND)
                .build(),
            bulkhead::BulkheadLayer::builder()
                .max_concurrent_calls(512)
                .build()
                .expect("a limit")
        )
    };
}

macro_rules! cases {
    ($bench:expr, $subject:literal, $stack:ident) => {
        $bench.case("stack", $subject, "router", || {
            let mut service = $stack!().service(router().with_state(()));
            move || http(&mut service)
        });
        $bench.case("stack_router", $subject, "router", || {
            let mut service = router().layer($stack!()).with_state(());
            move || http(&mut service)
        });
    };
}

pub(crate) fn all(bench: &mut Bench) {
    bench.case(BARE, "router", None, || {
        let mut service = router().with_state(());
        move || http(&mut service)
    });
    bench.case("stack_router", "an identity layer", "router", || {
        let mut service = router()
            .layer(tower::layer::util::Identity::new())
            .with_state(());
        move || http(&mut service)
    });
    cases!(bench, "seawall", ours);
    cases!(bench, "seawall, one gate", one_gate);
    cases!(bench, "tower", tower);
    cases!(bench, "tower-resilience", resilience);
}
