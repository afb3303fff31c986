//! Six parts around an axum router and through `Router::layer`. All routers have their state, like
//! those that `axum::serve` serves: without it, axum makes the route, layers included, for each
//! request.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::http::StatusCode;
use axum::routing::{any, get};
use seawall::{
    CatchPanic, CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimit,
    ConcurrencyLimitLayer, GateLayer, LagShed, LagShedLayer, LagThresholds, RequestLimit,
    RequestLimitLayer, Stack, Timeout, TimeoutLayer, stack::Server,
};
use tower::{BoxError, ServiceBuilder};
use tower_resilience_bulkhead as bulkhead;
use tower_resilience_circuitbreaker as resilience;
use tower_resilience_timelimiter as timelimiter;

use crate::bench::{BARE, Bench};
use crate::drive::{axum_body, http, pending_once, runtime, six_headers_later};

const SECOND: Duration = Duration::from_secs(1);
const BODY: usize = 1000;

/// All six in one gate.
type Six = (
    CatchPanic,
    LagShed,
    CircuitBreaker,
    Timeout,
    RequestLimit,
    ConcurrencyLimit,
);

fn router() -> Router {
    Router::new().route("/", get(async || "hello"))
}

/// Its handler is pending once.
fn later() -> Router {
    let handler = async || {
        pending_once().await;
        "hello"
    };
    Router::new().route("/", any(handler))
}

/// A shedder that finds no lag, also on a machine that does other work: with lag, a request reads
/// the clock.
pub(crate) fn lag() -> LagShed {
    let day = Duration::from_secs(24 * 60 * 60);
    let calm = LagThresholds::default().max_arm(day).arm(day).target(day);
    let lag = LagShed::new(calm).expect("a shedder");
    lag.start(runtime().handle());
    lag
}

pub(crate) fn one_gate() -> GateLayer<Six> {
    GateLayer::from_policy((
        CatchPanic::new(),
        lag(),
        CircuitBreaker::default(),
        Timeout::from(SECOND),
        RequestLimit::from(BODY as u64),
        ConcurrencyLimit::from(512),
    ))
}

/// The recommended stack with its defaults, but for the [lag](lag).
pub(crate) fn server() -> Stack<Server> {
    let stack = seawall::server().lag_shed(lag()).build();
    stack.expect("a stack")
}

/// The same six as nested layers.
macro_rules! six_layers {
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

async fn rejected(_: BoxError) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

/// The nearest layers of the peers: panics, overload, a breaker, the size of request bodies, then a
/// timeout and a limit.
macro_rules! theirs {
    ($timeout:expr, $limit:expr) => {
        ServiceBuilder::new()
            .layer(tower_http::catch_panic::CatchPanicLayer::new())
            .layer(HandleErrorLayer::new(rejected))
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

/// With tower-http's timeout and tower's limit.
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

/// The layers of these rows around a router, through `Router::layer`, and around a router whose
/// handler is pending once, with six headers in the request.
macro_rules! rows {
    ($bench:expr, $($subject:literal: $layers:expr),* $(,)?) => {
        $($bench.service("stack", $subject, "router", http, || {
            ServiceBuilder::new().layer($layers).service(router().with_state(()))
        });)*
        $bench.service("stack_router", "an identity layer", "router", http, || {
            router().layer(tower::layer::util::Identity::new()).with_state(())
        });
        $($bench.service("stack_router", $subject, "router", http, || {
            router().layer($layers).with_state(())
        });)*
        $($bench.service("stack_pending", $subject, "router, pending", six_headers_later, || {
            ServiceBuilder::new().layer($layers).service(later().with_state(()))
        });)*
    };
}

/// The same with axum's own body in the request, around a router and through `Router::layer`.
macro_rules! axum_rows {
    ($bench:expr, $($subject:literal: $layers:expr),* $(,)?) => {
        $($bench.service("stack_axum", $subject, "router, axum", axum_body, || {
            ServiceBuilder::new().layer($layers).service(router().with_state(()))
        });)*
        $($bench.service("stack_router_axum", $subject, "router, axum", axum_body, || {
            router().layer($layers).with_state(())
        });)*
    };
}

pub(crate) fn all(bench: &mut Bench) {
    bench.service(BARE, "router", None, http, || router().with_state(()));
    bench.service(BARE, "router, axum", None, axum_body, || {
        router().with_state(())
    });
    bench.service(BARE, "router, pending", None, six_headers_later, || {
        later().with_state(())
    });
    rows! {
        bench,
        "seawall": one_gate(),
        "seawall, server()": server(),
        "seawall, six layers": six_layers!(),
        "tower": tower!(),
        "tower-resilience": resilience!(),
    }
    axum_rows! {
        bench,
        "seawall": one_gate(),
        "seawall, same request body": one_gate().request_body(Body::new),
        "seawall, same body": one_gate().request_body(Body::new).response_body(Body::new),
        "seawall, server()": server(),
        "seawall, server(), same body": server().request_body(Body::new).response_body(Body::new),
        "tower": tower!(),
    }
}
