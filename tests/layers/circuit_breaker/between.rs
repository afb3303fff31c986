//! Layers between the breaker and the request limit that await after the answer of the limit: the
//! breaker still distinguishes what the caller caused (guarantee 7).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use seawall::{CircuitBreaker, CircuitBreakerLayer, RequestBody, RequestLimitLayer};
use tokio::time::advance;
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};
use tower::{Layer, Service};

use super::callers::counted;
use super::layer::{SECOND, breaker, settings, status};
use crate::handler::service_fn;
use crate::support::*;

fn slow_calls() -> CircuitBreaker {
    CircuitBreaker::new(settings().slow_call(SECOND, 0.5)).unwrap()
}

/// Answers 500 if it cannot read the body.
async fn reads(request: Request<RequestBody<Script>>) -> Result<Response<Script>, Infallible> {
    let body = request.into_body().collect().await;
    Ok(status(if body.is_ok() { 200 } else { 500 }))
}

/// The layer in between calls another service, with a breaker of its own, after the answer.
#[tokio::test(start_paused = true)]
async fn a_layer_that_awaits_after_the_answer_keeps_the_callers_fault() {
    let slow = [Step::Pending, Step::Data("a")];
    let aborted = [Step::Pending, Step::Error];
    for (body, is_dropped, expected) in [
        (slow.clone(), false, (1, 0, 0)),
        (slow, true, (0, 0, 0)),
        (aborted, false, (0, 0, 0)),
    ] {
        let breaker = slow_calls();
        let between = service_fn(|request| {
            let call = RequestLimitLayer::new(1000)
                .layer(service_fn(reads))
                .call(request);
            let audit = CircuitBreakerLayer::new(self::breaker())
                .layer(answers(|| status(200)))
                .call(get());
            async move {
                let response = call.await;
                tokio::task::yield_now().await;
                audit.await?;
                response
            }
        });
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(between);
        let mut call = spawn(service.call(post(Script::new(body))));
        assert_pending!(call.poll());
        advance(SECOND + Duration::from_millis(500)).await;
        assert_pending!(call.poll());
        if !is_dropped {
            drop(assert_ready!(call.poll()).unwrap());
        }
        drop(call);
        assert_eq!(counted(&breaker), expected);
    }
}

/// Two limits, one after the other, in one poll of the breaker.
#[tokio::test(start_paused = true)]
async fn a_later_request_keeps_the_callers_fault() {
    let breaker = slow_calls();
    let between = service_fn(|request| {
        let limit = RequestLimitLayer::new(1000);
        let call = limit.layer(service_fn(reads)).call(request);
        let later = limit
            .layer(service_fn(reads))
            .call(post(Script::data(&["a"])));
        async move {
            let response = call.await;
            later.await?;
            response
        }
    });
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(between);
    let aborted = Script::new([Step::Data("a"), Step::Error]);
    drop(service.call(post(aborted)).await.unwrap());
    assert_eq!(counted(&breaker), (0, 0, 0));
}

/// Passes each frame on at the poll after the one that got it.
struct Delayed<B: Body> {
    body: B,
    polled: Poll<FrameOf<B>>,
}

type FrameOf<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

impl<B: Body<Data: Unpin, Error: Unpin> + Unpin> Body for Delayed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<FrameOf<B>> {
        let this = self.get_mut();
        let polled = std::mem::replace(&mut this.polled, Poll::Pending);
        if polled.is_pending() {
            this.polled = Pin::new(&mut this.body).poll_frame(cx);
            cx.waker().wake_by_ref();
        }
        polled
    }
}

/// The status of a gRPC response is in its trailers, which the layer in between passes on later.
#[tokio::test(start_paused = true)]
async fn a_body_that_awaits_before_the_trailers_keeps_the_callers_fault() {
    let breaker = breaker();
    let handler = async |request: Request<RequestBody<Script>>| {
        let body = request.into_body();
        let frames = futures_util::stream::once(async move {
            body.collect().await.unwrap_err();
            let status = [("grpc-status".parse().unwrap(), "13".parse().unwrap())];
            let trailers = HeaderMap::from_iter(status);
            Ok::<_, Infallible>(Frame::<Bytes>::trailers(trailers))
        });
        let mut response = Response::new(StreamBody::new(Box::pin(frames)));
        let grpc = "application/grpc".parse().unwrap();
        response.headers_mut().insert("content-type", grpc);
        Ok::<_, Infallible>(response)
    };
    let between = service_fn(move |request| {
        let limit = RequestLimitLayer::new(1000);
        let call = limit.layer(service_fn(handler)).call(request);
        async move {
            let response = call.await?;
            let polled = Poll::Pending;
            Ok::<_, Infallible>(response.map(|body| Delayed { body, polled }))
        }
    });
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(between);
    let request = grpc().map(|_| Script::new([Step::Data("ab"), Step::Error]));
    let response = service.call(request).await.unwrap();
    drop(response.into_body().collect().await);
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.failures, totals.ignored), (0, 1));
}
