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
use tower::{BoxError, Layer, Service};

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

/// Two limits, one after the other.
#[tokio::test(start_paused = true)]
async fn a_later_request_keeps_the_callers_fault() {
    for later in [vec![], vec![Step::Pending]] {
        let breaker = slow_calls();
        let between = service_fn(move |request| {
            let limit = RequestLimitLayer::new(1000);
            let body = later.iter().cloned().chain([Step::Data("a")]);
            let later = limit.layer(service_fn(reads)).call(post(Script::new(body)));
            let call = limit.layer(service_fn(reads)).call(request);
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
}

/// A handler has waited for a body that its caller does not send, and has answered. Then another
/// service fails: the caller does not cause that.
#[tokio::test(start_paused = true)]
async fn a_later_failure_is_not_the_callers() {
    let breaker = breaker();
    let gives_up = async |request: Request<RequestBody<Script>>| {
        let mut body = request.into_body();
        let read = tokio::time::timeout(SECOND, body.frame()).await;
        read.unwrap_err();
        Ok::<_, BoxError>(status(200))
    };
    let between = service_fn(move |request| {
        let limit = RequestLimitLayer::new(1000);
        let call = limit.layer(service_fn(gives_up)).call(request);
        async move {
            call.await?;
            tokio::time::sleep(SECOND).await;
            Err::<Response<Script>, _>(BoxError::from("the database is down"))
        }
    });
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(between);
    let silent = Script::new([Step::Silent]);
    service.call(post(silent)).await.unwrap_err();
    assert_eq!(counted(&breaker), (1, 1, 0));
}

/// A permit that a layer takes after a slow upload is measured by its own time.
#[tokio::test(start_paused = true)]
async fn a_slow_upload_does_not_make_a_later_permit_fast() {
    let audit = slow_calls();
    let permits = audit.clone();
    let between = service_fn(move |request| {
        let limit = RequestLimitLayer::new(1000);
        let call = limit.layer(service_fn(reads)).call(request);
        let permits = permits.clone();
        async move {
            let response = call.await;
            let permit = permits.try_acquire().unwrap();
            tokio::time::sleep(2 * SECOND).await;
            permit.success();
            response
        }
    });
    let mut service = CircuitBreakerLayer::new(slow_calls()).layer(between);
    let mut call = spawn(service.call(post(Script::new([Step::Pending, Step::Data("a")]))));
    assert_pending!(call.poll());
    advance(3 * SECOND).await;
    assert_pending!(call.poll());
    advance(2 * SECOND).await;
    drop(assert_ready!(call.poll()).unwrap());
    assert_eq!(counted(&audit), (1, 0, 1));
}

/// A handler reads a slow upload, and sends a permit to a task that takes no time.
#[tokio::test(start_paused = true)]
async fn a_permit_in_another_task_is_measured_by_its_own_time() {
    let breaker = slow_calls();
    let permits = breaker.clone();
    let handler = service_fn(move |request: Request<RequestBody<Script>>| {
        let permits = permits.clone();
        async move {
            let _ = request.into_body().collect().await;
            let permit = permits.try_acquire_owned().unwrap();
            tokio::spawn(async move { permit.success() }).await.unwrap();
            Ok::<_, Infallible>(status(200))
        }
    });
    let mut service = RequestLimitLayer::new(9).layer(handler);
    let body = Script::new([Step::Pending, Step::Data("a")]);
    let mut call = spawn(service.call(post(body)));
    assert_pending!(call.poll());
    advance(3 * SECOND).await;
    assert_pending!(call.poll());
    tokio::task::yield_now().await;
    drop(assert_ready!(call.poll()).unwrap());
    assert_eq!(counted(&breaker), (1, 0, 0));
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

/// Reads the body, and then ends with the status 13, or with an error of its own.
fn stream(
    request: Request<impl Body + Send + 'static>,
    fails: bool,
) -> Response<impl Body<Data = Bytes, Error = BoxError> + Unpin> {
    let body = request.into_body();
    let frames = futures_util::stream::once(async move {
        assert!(body.collect().await.is_err());
        let status = [("grpc-status".parse().unwrap(), "13".parse().unwrap())];
        let trailers = HeaderMap::from_iter(status);
        if fails {
            return Err(BoxError::from("the stream failed"));
        }
        Ok(Frame::<Bytes>::trailers(trailers))
    });
    let mut response = Response::new(StreamBody::new(Box::pin(frames)));
    let grpc = "application/grpc".parse().unwrap();
    response.headers_mut().insert("content-type", grpc);
    response
}

/// The outcome of a gRPC call is in its trailers, which a layer between two limits passes on one
/// poll later. The caller aborts its upload, or sends more than the inner limit.
#[tokio::test(start_paused = true)]
async fn a_body_that_awaits_before_the_trailers_keeps_the_callers_fault() {
    let too_large = [Step::Pending, Step::Data("ab"), Step::Data("cd")];
    for (upload, fails) in [
        (vec![Step::Data("ab"), Step::Error], false),
        (too_large.to_vec(), false),
        (too_large.to_vec(), true),
    ] {
        let breaker = breaker();
        let handler = move |request: Request<RequestBody<RequestBody<Script>>>| async move {
            Ok::<_, Infallible>(stream(request, fails))
        };
        let between = service_fn(move |request| {
            let limit = RequestLimitLayer::new(3);
            let call = limit.layer(service_fn(handler)).call(request);
            async move {
                let response = call.await?;
                let polled = Poll::Pending;
                Ok::<_, Infallible>(response.map(|body| Delayed { body, polled }))
            }
        });
        let limited = RequestLimitLayer::new(1000).layer(between);
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(limited);
        let request = grpc().map(|_| Script::new(upload));
        let response = service.call(request).await.unwrap();
        drop(response.into_body().collect().await);
        let totals = breaker.snapshot().totals;
        assert_eq!((totals.failures, totals.ignored), (0, 1));
    }
}

/// A classifier that judges the trailers of a response that is not gRPC.
#[cfg(feature = "tower-http-07")]
#[tokio::test(start_paused = true)]
async fn an_upload_that_fails_after_the_head_is_the_callers_for_a_classifier() {
    let breaker = breaker();
    let policies = (breaker.clone(), seawall::RequestLimit::from(1000));
    let layer = seawall::GateLayer::from_policy(policies)
        .classify_with(tower_http_07::classify::GrpcErrorsAsFailures::new());
    let mut service = layer.layer(service_fn(async |request| {
        let mut response = stream(request, false);
        response.headers_mut().clear();
        Ok::<_, Infallible>(response)
    }));
    let aborted = Script::new([Step::Data("ab"), Step::Error]);
    let response = service.call(post(aborted)).await.unwrap();
    response.into_body().collect().await.unwrap();
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.failures, totals.ignored), (0, 1));
}

/// A call fails while the handler also waits for the body of its caller: the caller does not cause
/// that.
#[tokio::test(start_paused = true)]
async fn a_future_that_fails_beside_the_body_is_not_the_callers() {
    let breaker = breaker();
    let runs = breaker.clone();
    let handler = service_fn(move |request: Request<RequestBody<Script>>| {
        let runs = runs.clone();
        async move {
            let mut body = request.into_body();
            let query = runs.run(async { Err::<(), _>(BoxError::from("the database is down")) });
            let (_, failed) = futures_util::future::join(body.frame(), query).await;
            failed.unwrap_err();
            Ok::<_, Infallible>(status(500))
        }
    });
    let mut service = RequestLimitLayer::new(9).layer(handler);
    let mut call = spawn(service.call(post(Script::new([Step::Silent]))));
    assert_pending!(call.poll());
    assert_eq!(counted(&breaker), (1, 1, 0));
}

/// A handler calls its client with `run`.
#[tokio::test(start_paused = true)]
async fn a_future_that_fails_because_of_the_body_is_the_callers() {
    let breaker = breaker();
    let runs = breaker.clone();
    let handler = service_fn(move |request: Request<RequestBody<Script>>| {
        let runs = runs.clone();
        async move {
            let sends = async { request.into_body().collect().await.map_err(BoxError::from) };
            let sent = runs.run(sends).await;
            Ok::<_, Infallible>(status(if sent.is_ok() { 200 } else { 502 }))
        }
    });
    let mut service = RequestLimitLayer::new(9).layer(handler);
    let aborted = Script::new([Step::Data("a"), Step::Error]);
    assert_eq!(service.call(post(aborted)).await.unwrap().status(), 502);
    assert_eq!(counted(&breaker), (0, 0, 0));
}
