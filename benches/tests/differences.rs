//! Asserts the sections "Differences from" of the docs, against tower 0.5 and tower-http 0.7.

use std::convert::Infallible;
use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use seawall::{CatchPanicLayer, RequestLimitLayer, ResponseBodyTimeoutSettings, TimeoutLayer};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::{catch_panic, limit, timeout};

const MINUTE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(1);

type Body = Full<Bytes>;

fn theirs(after: Duration) -> timeout::TimeoutLayer {
    timeout::TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, after)
}

fn hello(_: Request<Body>) -> std::future::Ready<Result<Response<Body>, Infallible>> {
    ready(Ok(Response::new(Full::from("hello"))))
}

async fn never(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    pending().await
}

async fn panics(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    panic!("oh no");
}

fn grpc() -> Request<Body> {
    let mut request = Request::post("/").body(Body::default()).unwrap();
    *request.version_mut() = Version::HTTP_2;
    let content_type = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert(CONTENT_TYPE, content_type);
    request
}

/// The status, and that of gRPC in a response without a body.
fn statuses<B>(response: &Response<B>) -> (u16, Option<&str>) {
    let grpc = response.headers().get("grpc-status");
    let grpc = grpc.and_then(|status| status.to_str().ok());
    (response.status().as_u16(), grpc)
}

// === timeout ===

#[test]
fn tower_http_registers_a_timer_for_a_call_that_is_ready_at_once() {
    // There is no runtime, so a timer panics.
    let mut service = theirs(MINUTE).layer(service_fn(hello));
    let call = AssertUnwindSafe(|| drop(service.call(Request::default())));
    assert!(catch_unwind(call).is_err());

    let mut service = TimeoutLayer::new(MINUTE).layer(service_fn(hello));
    let mut call = pin!(service.call(Request::default()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_ready());
}

#[tokio::test]
async fn tower_http_answers_the_same_status_over_grpc() {
    let Ok(response) = theirs(MOMENT)
        .layer(service_fn(never))
        .oneshot(grpc())
        .await;
    assert_eq!(statuses(&response), (504, None));
    let layer = TimeoutLayer::new(MOMENT);
    let Ok(response) = layer.layer(service_fn(never)).oneshot(grpc()).await;
    assert_eq!(statuses(&response), (200, Some("4")));
}

/// Polls the call once, and again when its timer has fired and the response is ready.
async fn late<S, B>(mut service: S) -> StatusCode
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    let mut call = pin!(service.call(Request::default()));
    let first = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
    assert!(first.is_pending());
    // A timer that is due later fires later.
    let _ = tokio::time::timeout(MOMENT * 5, pending::<()>()).await;
    let Ok(response) = call.await;
    response.status()
}

#[tokio::test]
async fn tower_http_drops_a_response_that_is_ready_when_its_timer_is_due() {
    async fn second_poll(request: Request<Body>) -> Result<Response<Body>, Infallible> {
        tokio::task::yield_now().await;
        hello(request).await
    }
    let theirs = late(theirs(MOMENT).layer(service_fn(second_poll))).await;
    assert_eq!(theirs, StatusCode::GATEWAY_TIMEOUT);
    let ours = late(TimeoutLayer::new(MOMENT).layer(service_fn(second_poll))).await;
    assert_eq!(ours, StatusCode::OK);
}

#[tokio::test]
async fn the_body_of_tower_http_s_body_timeout_has_no_size() {
    let layer = timeout::ResponseBodyTimeoutLayer::new(MINUTE);
    let Ok(response) = layer
        .layer(service_fn(hello))
        .oneshot(Request::default())
        .await;
    assert_eq!(response.body().size_hint().exact(), None);
    let layer = TimeoutLayer::new(MINUTE)
        .response_body_timeout(ResponseBodyTimeoutSettings::default().idle_timeout(MINUTE));
    let Ok(response) = layer
        .layer(service_fn(hello))
        .oneshot(Request::default())
        .await;
    assert_eq!(response.body().size_hint().exact(), Some(5));
}

// === request_limit ===

#[tokio::test]
async fn tower_http_answers_413_over_grpc() {
    let declared = || {
        let mut request = grpc();
        let length = HeaderValue::from_static("9");
        request.headers_mut().insert(CONTENT_LENGTH, length);
        request.map(|_| Body::from("nine long"))
    };
    async fn ok<B>(_: Request<B>) -> Result<Response<Body>, Infallible> {
        Ok(Response::default())
    }
    let layer = limit::RequestBodyLimitLayer::new(8);
    let response = layer.layer(service_fn(ok)).oneshot(declared()).await;
    assert_eq!(statuses(&response.expect("infallible")), (413, None));
    let layer = RequestLimitLayer::new(8);
    let Ok(response) = layer.layer(service_fn(ok)).oneshot(declared()).await;
    assert_eq!(statuses(&response), (200, Some("8")));
}

// === catch_panic ===

/// Panics when it is polled.
struct Panics;

impl http_body::Body for Panics {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("oh no");
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[tokio::test]
async fn tower_http_answers_a_panic_over_grpc_with_500() {
    let layer = catch_panic::CatchPanicLayer::new();
    let Ok(response) = layer.layer(service_fn(panics)).oneshot(grpc()).await;
    assert_eq!(statuses(&response), (500, None));
    let layer = CatchPanicLayer::new();
    let Ok(response) = layer.layer(service_fn(panics)).oneshot(grpc()).await;
    assert_eq!(statuses(&response), (200, Some("13")));
}

#[tokio::test]
async fn tower_http_does_not_catch_a_panic_of_the_body() {
    let body = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Panics)));
    let mut cx = Context::from_waker(Waker::noop());

    let layer = catch_panic::CatchPanicLayer::new();
    let Ok(response) = layer.layer(body).oneshot(Request::default()).await;
    let mut frames = pin!(response.into_body());
    let poll = AssertUnwindSafe(|| drop(frames.as_mut().poll_frame(&mut cx)));
    assert!(catch_unwind(poll).is_err());

    let Ok(response) = CatchPanicLayer::new()
        .layer(body)
        .oneshot(Request::default())
        .await;
    assert!(response.into_body().collect().await.is_err());
}

/// Panics in `poll_ready`.
#[derive(Clone)]
struct NeverReady;

impl Service<Request<Body>> for NeverReady {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        panic!("oh no");
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        hello(request)
    }
}

#[test]
fn tower_http_does_not_catch_a_panic_of_poll_ready() {
    let mut cx = Context::from_waker(Waker::noop());
    let mut service = catch_panic::CatchPanicLayer::new().layer(NeverReady);
    let poll = AssertUnwindSafe(|| Service::<Request<Body>>::poll_ready(&mut service, &mut cx));
    assert!(catch_unwind(poll).is_err());

    let mut service = CatchPanicLayer::new().layer(NeverReady);
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut call = pin!(service.call(Request::default()));
    let Poll::Ready(Ok(response)) = call.as_mut().poll(&mut cx) else {
        panic!("it is ready");
    };
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}
