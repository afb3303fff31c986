//! The behaviour of the peers and of this crate, as `docs::migration` describes it.
//!
//! The tests have no paused time: it needs tokio's `test-util`, which the benchmarks of this
//! package must not have. In a test that needs a timeout, nothing else can end the call.

use std::convert::Infallible;
use std::future::pending;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::error_handling::HandleErrorLayer;
use axum::extract::DefaultBodyLimit;
use axum::http::{Request, Response, StatusCode};
use axum::routing::{get, post};
use axum::{BoxError, Router};
use futures_util::stream;
use seawall::circuit_breaker::Window;
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, CircuitState,
    ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings, Reason, Rejection,
    RequestLimit, RequestLimitLayer, RequestLimitSettings, ResponseBodyTimeoutSettings,
    TimeoutLayer,
};
use tower::limit::{ConcurrencyLimitLayer as TowerLimitLayer, GlobalConcurrencyLimitLayer};
use tower::load_shed::error::Overloaded;
use tower::timeout::error::Elapsed;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_resilience_bulkhead::{BulkheadError, BulkheadLayer, BulkheadServiceError};
use tower_resilience_circuitbreaker as resilience;
use tower_resilience_timelimiter::{TimeLimiterError, TimeLimiterLayer};

const MOMENT: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

fn get_root() -> Request<Body> {
    Request::get("/").body(Body::empty()).expect("a request")
}

fn post_root(body: Body) -> Request<Body> {
    Request::post("/").body(body).expect("a request")
}

async fn status(app: &Router, request: Request<Body>) -> u16 {
    let Ok(response) = app.clone().oneshot(request).await;
    response.status().as_u16()
}

/// The error handler that axum needs around layers with errors.
async fn answer(error: BoxError) -> StatusCode {
    match (error.is::<Elapsed>(), error.is::<Overloaded>()) {
        (true, _) => StatusCode::GATEWAY_TIMEOUT,
        (_, true) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

// === tower ===

#[tokio::test]
async fn tower_releases_a_permit_at_the_head_and_ours_at_the_end_of_the_body() {
    let app = Router::new().route("/", get(async || "hello"));
    let theirs = app.clone().layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(answer))
            .timeout(MINUTE)
            .load_shed()
            .layer(GlobalConcurrencyLimitLayer::new(1)),
    );
    let limit = ConcurrencyLimit::from(1);
    let ours = app.layer(
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(MINUTE))
            .layer(ConcurrencyLimitLayer::new(limit.clone())),
    );

    let _unread = theirs.clone().oneshot(get_root()).await;
    assert_eq!(status(&theirs, get_root()).await, 200);
    let unread = ours.clone().oneshot(get_root()).await;
    assert_eq!(status(&ours, get_root()).await, 503);
    assert_eq!(limit.in_flight(), 1);
    drop(unread);
    assert_eq!(limit.in_flight(), 0);
}

#[tokio::test]
async fn tower_answers_a_timeout_with_a_boxed_error_and_ours_with_504() {
    let app = Router::new().route("/", get(pending::<()>));
    let theirs = app.clone().layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(answer))
            .timeout(MOMENT),
    );
    let ours = app.layer(TimeoutLayer::new(MOMENT));
    assert_eq!(status(&theirs, get_root()).await, 504);
    assert_eq!(status(&ours, get_root()).await, 504);

    let service = service_fn(async |(): ()| pending::<Result<(), BoxError>>().await);
    let theirs = ServiceBuilder::new().timeout(MOMENT).service(service);
    let error = theirs.oneshot(()).await.expect_err("it is pending");
    assert!(error.is::<Elapsed>());
    let ours = TimeoutLayer::new(MOMENT).plain().layer(service);
    let error = ours.oneshot(()).await.expect_err("it is pending");
    let rejection = error.downcast_ref::<Rejection>();
    assert_eq!(rejection.map(Rejection::reason), Some(Reason::Timeout));
}

#[test]
fn tower_queues_in_poll_ready_and_ours_in_the_call() {
    let mut cx = Context::from_waker(Waker::noop());
    let service = service_fn(async |(): ()| pending::<Result<(), BoxError>>().await);

    let mut theirs = GlobalConcurrencyLimitLayer::new(1).layer(service);
    // An idle clone that is ready holds the permit.
    assert!(theirs.clone().poll_ready(&mut cx).is_ready());
    let holder = theirs.clone();
    let mut holder = holder;
    assert!(holder.poll_ready(&mut cx).is_ready());
    assert!(theirs.poll_ready(&mut cx).is_pending());

    let limit = ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, MINUTE)).unwrap();
    let mut ours = ConcurrencyLimitLayer::new(limit.clone())
        .plain()
        .layer(service);
    assert!(ours.clone().poll_ready(&mut cx).is_ready());
    assert!(ours.poll_ready(&mut cx).is_ready());
    assert_eq!(limit.in_flight(), 0);
}

#[tokio::test]
async fn tower_makes_a_limit_for_each_route_and_ours_is_one_for_all() {
    let routes = || {
        Router::new()
            .route("/", get(async || "hello"))
            .route("/other", get(pending::<()>))
    };
    let shed = || {
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(answer))
            .load_shed()
    };
    let get_other = || {
        Request::get("/other")
            .body(Body::empty())
            .expect("a request")
    };
    let mut cx = Context::from_waker(Waker::noop());

    let theirs = routes()
        .layer(shed().layer(TowerLimitLayer::new(1)))
        .with_state(());
    let mut held = Box::pin(theirs.clone().oneshot(get_other()));
    assert!(held.as_mut().poll(&mut cx).is_pending());
    assert_eq!(status(&theirs, get_root()).await, 200);

    let ours = routes().layer(ConcurrencyLimitLayer::new(1));
    let mut held = Box::pin(ours.clone().oneshot(get_other()));
    assert!(held.as_mut().poll(&mut cx).is_pending());
    assert_eq!(status(&ours, get_root()).await, 503);
}

#[tokio::test]
async fn load_shed_around_our_limit_sheds_nothing() {
    let limit = ConcurrencyLimit::from(1);
    let _permit = limit.try_acquire().expect("a permit");
    let service = service_fn(async |(): ()| Ok::<_, BoxError>(()));
    let stack = ServiceBuilder::new()
        .load_shed()
        .layer(ConcurrencyLimitLayer::new(limit.clone()).plain())
        .service(service);
    let error = stack.oneshot(()).await.expect_err("the limit is reached");
    assert!(!error.is::<Overloaded>());
    let rejection = Rejection::find(&*error).map(Rejection::reason);
    assert_eq!(rejection, Some(Reason::ConcurrencyLimit));
}

// === tower-http ===

fn silent() -> Body {
    Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())
}

#[tokio::test]
async fn a_silent_request_body_is_a_400_with_tower_http_and_a_408_with_ours() {
    use tower_http::timeout;
    let app = Router::new().route("/", post(async |body: Bytes| body.len().to_string()));
    let theirs = app.clone().layer(
        ServiceBuilder::new()
            .layer(timeout::ResponseBodyTimeoutLayer::new(MOMENT))
            .layer(timeout::TimeoutLayer::with_status_code(
                StatusCode::GATEWAY_TIMEOUT,
                MINUTE,
            ))
            .layer(timeout::RequestBodyTimeoutLayer::new(MOMENT)),
    );
    let ours = app.layer(
        ServiceBuilder::new()
            .layer(
                TimeoutLayer::new(MINUTE).response_body_timeout(
                    ResponseBodyTimeoutSettings::default().idle_timeout(MOMENT),
                ),
            )
            .layer(RequestLimitLayer::new(
                RequestLimit::new(RequestLimitSettings::new(u64::MAX).body_idle_timeout(MOMENT))
                    .unwrap(),
            )),
    );
    assert_eq!(status(&theirs, post_root(silent())).await, 400);
    assert_eq!(status(&ours, post_root(silent())).await, 408);
}

#[tokio::test]
async fn a_large_chunked_body_is_a_500_with_tower_http_and_a_413_with_ours() {
    async fn upload(body: Body) -> Result<String, StatusCode> {
        let read = to_bytes(body, usize::MAX).await;
        let length = read.map(|bytes| bytes.len().to_string());
        length.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    }
    let app = Router::new()
        .route("/", post(upload))
        .layer(DefaultBodyLimit::disable());
    let theirs = app
        .clone()
        .layer(tower_http::limit::RequestBodyLimitLayer::new(8));
    let ours = app.layer(RequestLimitLayer::new(8));
    let chunked = || {
        let chunk = Ok::<_, Infallible>(Bytes::from_static(b"nine bytes"));
        post_root(Body::from_stream(stream::iter([chunk])))
    };
    assert_eq!(status(&theirs, chunked()).await, 500);
    assert_eq!(status(&ours, chunked()).await, 413);

    let declared = || {
        let mut request = post_root(Body::from("nine bytes"));
        let length = axum::http::HeaderValue::from_static("10");
        let headers = request.headers_mut();
        headers.insert(axum::http::header::CONTENT_LENGTH, length);
        request
    };
    assert_eq!(status(&theirs, declared()).await, 413);
    assert_eq!(status(&ours, declared()).await, 413);
}

#[tokio::test]
async fn both_answer_a_panic_with_500() {
    async fn panics() {
        panic!("oh no");
    }
    let app = Router::new().route("/", get(panics));
    let theirs = tower_http::catch_panic::CatchPanicLayer::custom(
        |panic: Box<dyn std::any::Any + Send + 'static>| {
            let message = panic.downcast_ref::<&str>().copied();
            let mut response = Response::new(Body::from(message.unwrap_or("?")));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        },
    );
    let theirs = app.clone().layer(theirs).oneshot(get_root()).await;
    let ours = app.layer(CatchPanicLayer::new()).oneshot(get_root()).await;
    let (Ok(theirs), Ok(ours)) = (theirs, ours);
    assert_eq!(
        (theirs.status(), ours.status()),
        (StatusCode::INTERNAL_SERVER_ERROR, theirs.status())
    );
    // The responder of tower-http gets the payload, ours does not.
    let text = to_bytes(theirs.into_body(), 1000).await.expect("a body");
    assert_eq!(text, "oh no");
    let text = to_bytes(ours.into_body(), 1000).await.expect("a body");
    assert!(!String::from_utf8_lossy(&text).contains("oh no"));
}

// === tower-resilience ===

async fn circuit_open(_: resilience::CircuitBreakerError<Infallible>) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

#[tokio::test]
async fn an_open_breaker_is_an_error_with_tower_resilience_and_a_503_with_ours() {
    let app = Router::new().route("/", get(async || "from a database"));
    let (layer, handle) = resilience::CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .wait_duration_in_open(MINUTE)
        .build_with_handle()
        .expect("a breaker");
    let theirs = app.clone().layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(circuit_open))
            .layer(layer.clone()),
    );
    let settings = CircuitBreakerSettings::default()
        .failure_rate(0.5)
        .window(Window::count_based(100))
        .minimum_calls(100)
        .open_duration(MINUTE);
    let breaker = CircuitBreaker::new(settings).expect("a breaker");
    let ours = app.layer(CircuitBreakerLayer::new(breaker.clone()));
    handle.force_open().await;
    breaker.trip();
    assert_eq!(status(&theirs, get_root()).await, 503);
    assert_eq!(status(&ours, get_root()).await, 503);

    let (layer, handle) = resilience::CircuitBreakerLayer::builder()
        .build_with_handle()
        .expect("a breaker");
    let service = service_fn(async |(): ()| Ok::<_, BoxError>(()));
    let theirs = layer.layer(service);
    handle.force_open().await;
    let error = theirs.oneshot(()).await.expect_err("it is open");
    assert!(matches!(
        error,
        resilience::CircuitBreakerError::OpenCircuit
    ));
    let ours = CircuitBreakerLayer::new(breaker).plain().layer(service);
    let error = ours.oneshot(()).await.expect_err("it is open");
    let reason = error.downcast_ref::<Rejection>().map(Rejection::reason);
    assert_eq!(reason, Some(Reason::CircuitOpen));
}

/// Answers 500.
async fn fails(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    Ok(response)
}

#[tokio::test]
async fn a_500_is_a_failure_for_ours_and_by_default_none_for_tower_resilience() {
    let (layer, handle) = resilience::CircuitBreakerLayer::builder()
        .sliding_window_size(20)
        .build_with_handle()
        .expect("a breaker");
    let mut theirs = layer.layer(service_fn(fails));
    let breaker = CircuitBreaker::default();
    let mut ours = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(fails));
    for _ in 0..20 {
        let response = theirs.ready().await.expect("ready").call(get_root()).await;
        assert!(response.is_ok());
        let _ = ours.ready().await.expect("ready").call(get_root()).await;
    }
    assert!(!handle.is_open());
    assert!(matches!(breaker.state(), CircuitState::Open { .. }));
}

#[tokio::test]
async fn tower_resilience_decides_when_its_window_of_calls_is_full() {
    let service = service_fn(async |(): ()| Err::<(), _>(BoxError::from("fails")));
    let (layer, handle) = resilience::CircuitBreakerLayer::builder()
        .sliding_window_size(100)
        .build_with_handle()
        .expect("a breaker");
    let mut theirs = layer.layer(service);
    let settings = CircuitBreakerSettings::default().window(Window::count_based(100));
    let breaker = CircuitBreaker::new(settings).expect("a breaker");
    let mut ours = CircuitBreakerLayer::new(breaker.clone())
        .plain()
        .layer(service);
    for _ in 0..20 {
        let _ = theirs.ready().await.expect("ready").call(()).await;
        let _ = ours.ready().await.expect("ready").call(()).await;
    }
    assert!(!handle.is_open());
    assert!(matches!(breaker.state(), CircuitState::Open { .. }));
    for _ in 20..100 {
        let _ = theirs.ready().await.expect("ready").call(()).await;
    }
    assert!(handle.is_open());
}

#[tokio::test]
async fn a_timeout_of_the_time_limiter_is_an_error_of_its_own_and_ours_a_rejection() {
    let service = service_fn(async |(): ()| pending::<Result<(), BoxError>>().await);
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(25);
    let theirs = ServiceBuilder::new()
        .layer(TimeLimiterLayer::builder().timeout_duration(MOMENT).build())
        .layer(bulkhead.max_wait_duration(MOMENT).build().expect("a limit"))
        .service(service);
    let limit =
        ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(25).queue(100, MOMENT)).unwrap();
    let ours = ServiceBuilder::new()
        .layer(TimeoutLayer::new(MOMENT).plain())
        .layer(ConcurrencyLimitLayer::new(limit).plain())
        .service(service);
    let error = theirs.oneshot(()).await.expect_err("it is pending");
    assert!(matches!(error, TimeLimiterError::Timeout));
    let error = ours.oneshot(()).await.expect_err("it is pending");
    let reason = error.downcast_ref::<Rejection>().map(Rejection::reason);
    assert_eq!(reason, Some(Reason::Timeout));
}

#[tokio::test]
async fn a_bulkhead_has_one_error_where_ours_has_two_reasons() {
    let service = service_fn(async |(): ()| pending::<Result<(), BoxError>>().await);
    let mut cx = Context::from_waker(Waker::noop());
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(1);
    let mut theirs = bulkhead
        .max_wait_duration(MOMENT)
        .build()
        .expect("a limit")
        .layer(service);
    let mut held = Box::pin(theirs.ready().await.expect("ready").call(()));
    assert!(held.as_mut().poll(&mut cx).is_pending());
    let error = theirs.oneshot(()).await.expect_err("it is full");
    let BulkheadServiceError::Bulkhead(error) = error else {
        panic!("it is the bulkhead's");
    };
    assert!(matches!(error, BulkheadError::Timeout));

    let limit = ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, MOMENT)).unwrap();
    let _permit = limit.try_acquire().expect("a permit");
    let ours = ConcurrencyLimitLayer::new(limit.clone())
        .plain()
        .layer(service);
    let mut queued = Box::pin(ours.clone().oneshot(()));
    assert!(matches!(queued.as_mut().poll(&mut cx), Poll::Pending));
    let reason = |error: BoxError| error.downcast_ref::<Rejection>().map(Rejection::reason);
    let error = ours.oneshot(()).await.expect_err("the queue is full");
    assert_eq!(reason(error), Some(Reason::ConcurrencyLimit));
    let error = queued.await.expect_err("no permit is released");
    assert_eq!(reason(error), Some(Reason::QueueTimeout));
}
