//! A handler that calls another gate with a request limit: the response of that gate also belongs
//! to the upload of the handler's request.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use seawall::{
    BodyError, CatchPanic, CircuitBreaker, CircuitBreakerLayer, GateLayer, RequestLimit,
    RequestLimitLayer, Timeout, TimeoutLayer,
};
use tokio::task::yield_now;
use tokio::time::advance;
use tower::{BoxError, Layer, Service};

use super::size::Once;
use crate::handler::service_fn;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

/// The body of a gRPC response of a gate whose request has no body.
async fn inner_body(body: Script) -> impl Body<Data = Bytes, Error = BodyError> + Unpin + Send {
    let response = Arc::new(Mutex::new(Some(grpc_response(body))));
    let mut inner = RequestLimitLayer::new(100).layer(answers(move || {
        response.lock().unwrap().take().expect("it is called once")
    }));
    let mut request = grpc();
    *request.body_mut() = Script::default().knowing_its_end();
    inner.call(request).await.unwrap().into_body()
}

fn grpc_response<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let grpc = "application/grpc".parse().unwrap();
    response.headers_mut().insert("content-type", grpc);
    response
}

/// Another thread reads that response while the handler runs. The gate still reads the rest of the
/// request body.
#[tokio::test(start_paused = true)]
async fn a_body_on_another_thread_does_not_end_the_service_of_this_one() {
    async fn handler(request: Request<Once>) -> Result<Response<Script>, Infallible> {
        let mut body = inner_body(Script::data(&["x"])).await;
        thread::spawn(move || {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut body).poll_frame(&mut cx).is_ready());
        })
        .join()
        .unwrap();
        drop(request);
        unwind()
    }
    let policies = (CatchPanic::default(), RequestLimit::from(1000));
    let mut service = GateLayer::from_policy(policies).layer(service_fn(handler));
    let response = service.call(post(Script::data(&["ab"]))).await.unwrap();
    assert_eq!(response.status(), 500);
    assert!(!response.headers().contains_key("connection"));
}

/// The handler waits for its request body, and for that response, in one poll.
#[tokio::test(start_paused = true)]
async fn a_service_that_also_polls_another_body_waits_for_the_request_body() {
    let policies = (Timeout::from(SECOND), RequestLimit::from(1000));
    let service = service_fn(async move |request: Request<Once>| {
        let mut other = inner_body(Script::new([Step::Silent])).await;
        let mut body = request.into_body();
        let _ = tokio::join!(biased; body.frame(), other.frame());
        Ok::<_, Infallible>(ok(Script::default()))
    });
    let mut service = GateLayer::from_policy(policies).layer(service);
    let response = service
        .call(post(Script::new([Step::Silent])))
        .await
        .unwrap();
    assert_eq!(response.status(), 408);
}

/// The handler drops its request, then reads that response, then panics.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_dropped_body_is_kept_while_another_body_is_read() {
    async fn handler(request: Request<Once>) -> Result<Response<Script>, Infallible> {
        let mut body = inner_body(Script::data(&["x"])).await;
        drop(request);
        let _ = body.frame().await;
        unwind()
    }
    let policies = (CatchPanic::default(), RequestLimit::from(2_000_000));
    let mut service = GateLayer::from_policy(policies).layer(service_fn(handler));
    let request = post(Script::data(&["ab"]).exact(1_000_000));
    let response = service.call(request).await.unwrap();
    assert_eq!(response.status(), 500);
    assert!(response.headers().contains_key("connection"));
}

type Slot = Arc<Mutex<Option<Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>>>>;

/// A response body that waits for the request body. While it is dropped, it polls the body in the
/// slot.
struct Waits(Once, Slot);

impl Body for Waits {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut slot = self.1.lock().unwrap();
        if let Some(body) = &mut *slot {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(body.as_mut().poll_frame(&mut cx).is_pending());
        }
    }
}

/// The connection polls a body while a deadline ends it: what it reads says that the caller caused
/// it, which is known when the body has been dropped.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_polled_while_it_is_ended_has_its_cause() {
    let timeout = TimeoutLayer::new(Timeout::from(SECOND)).including_body();
    let policies = (timeout.policy().clone(), RequestLimit::from(1000));
    let slot = Slot::default();
    let polled = slot.clone();
    let service = service_fn(move |request: Request<Once>| {
        let body = Waits(request.into_body(), slot.clone());
        std::future::ready(Ok::<_, Infallible>(grpc_response(body)))
    });
    let breaker = CircuitBreaker::default();
    let gate = GateLayer::from_policy(policies).layer(service);
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(gate);
    let mut request = grpc();
    *request.body_mut() = Script::new([Step::Silent]);
    let body = service.call(request).await.unwrap().into_body();
    let mut body = Box::pin(body.map_err(BoxError::from));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(body.as_mut().poll_frame(&mut cx).is_pending());
    *polled.lock().unwrap() = Some(body);
    for _ in 0..8 {
        advance(SECOND / 4).await;
        yield_now().await;
    }
    let mut body = polled.lock().unwrap().take().unwrap();
    let last = pin!(body.frame()).await.unwrap().unwrap();
    assert!(last.is_trailers());
    let counted = breaker.snapshot();
    assert_eq!((counted.calls, counted.failures), (0, 0));
}
