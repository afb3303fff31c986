//! Services that have waited for the request body and then do something else, and rejections that
//! wait for the rest of it: what counts as the caller's fault.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use seawall::{
    CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, GateLayer, RequestLimit,
    RequestLimitLayer, Timeout, TimeoutLayer,
};
use tokio::time::{advance, sleep, timeout};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};
use tower::{Layer, Service};

use super::size::{Once, Twice, handler};
use crate::handler::{Handler, service_fn};
use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// A breaker for which calls of 100 ms are slow.
pub(super) fn breaker() -> CircuitBreaker {
    let settings = CircuitBreakerSettings::default().slow_call(100 * MS, 1.0);
    CircuitBreaker::new(settings.minimum_calls(100)).unwrap()
}

/// The failures, the slow calls and the ignored calls.
pub(super) fn counted(breaker: &CircuitBreaker) -> (u64, u64, u64) {
    let totals = breaker.snapshot().totals;
    (totals.failures, totals.slow_calls, totals.ignored)
}

/// Waits for the body for a moment, and keeps it.
async fn gives_up<B>(body: &mut B)
where
    B: http_body::Body + Unpin,
{
    assert!(timeout(20 * MS, body.frame()).await.is_err());
}

/// Waits for the body for a moment, keeps it, and hangs.
fn keeps_the_body<B>() -> Handler<Request<B>, Response<Script>, Infallible>
where
    B: http_body::Body + Send + Unpin + 'static,
{
    service_fn(async |request: Request<B>| {
        let mut kept = request.into_body();
        gives_up(&mut kept).await;
        pending::<Result<Response<Script>, Infallible>>().await
    })
}

fn grpc<B>(mut request: Request<B>) -> Request<B> {
    let content = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert("content-type", content);
    request
}

fn silent() -> Request<Script> {
    post(Script::new([Step::Silent]))
}

/// The service hangs in something else when its time is over.
#[tokio::test(start_paused = true)]
async fn a_service_that_gave_up_on_the_body_does_not_wait_for_it() {
    let breaker = breaker();
    let time = Timeout::from(200 * MS);
    let policies = (breaker.clone(), time, RequestLimit::from(1000));
    let mut service = GateLayer::from_policy(policies).layer(keeps_the_body());
    let mut call = spawn(service.call(silent()));
    assert_pending!(call.poll());
    advance(20 * MS).await;
    assert_pending!(call.poll());
    advance(180 * MS).await;
    assert_pending!(call.poll()); // it reads the rest
    assert_eq!(counted(&breaker).0, 1);
    advance(1000 * MS).await;
    assert_eq!(assert_ready!(call.poll()).unwrap().status(), 504);
}

/// Over HTTP/2, a client may declare the length 0, and end the body later.
#[tokio::test(start_paused = true)]
async fn a_service_waits_for_the_end_of_a_body_of_length_0() {
    let breaker = breaker();
    let policies = (
        breaker.clone(),
        Timeout::from(200 * MS),
        RequestLimit::from(1000),
    );
    let mut service = GateLayer::from_policy(policies).layer(handler::<Once>());
    let request = post(Script::new([Step::Silent]).exact(0));
    assert_eq!(service.call(request).await.unwrap().status(), 408);
    assert_eq!(counted(&breaker).0, 0);
}

/// The timeout of a route, inside a limit of the whole server.
#[tokio::test(start_paused = true)]
async fn nor_does_it_for_a_timeout_inside_the_limit() {
    let breaker = breaker();
    let policies = (breaker.clone(), Timeout::from(200 * MS));
    let route = GateLayer::from_policy(policies).layer(keeps_the_body());
    let mut service = RequestLimitLayer::new(1000).layer(route);
    let mut call = spawn(service.call(silent()));
    assert_pending!(call.poll());
    advance(20 * MS).await;
    assert_pending!(call.poll());
    advance(180 * MS).await;
    assert_pending!(call.poll()); // the limit reads the rest
    assert_eq!(counted(&breaker).0, 1);
    advance(1000 * MS).await;
    assert_eq!(assert_ready!(call.poll()).unwrap().status(), 504);
}

/// A response body that gave up on the request body, and hangs.
#[tokio::test(start_paused = true)]
async fn a_response_body_that_gave_up_on_the_request_body_does_not_wait_for_it() {
    for is_outside in [true, false] {
        let breaker = breaker();
        let service = service_fn(async |request: Request<Once>| {
            let mut kept = request.into_body();
            let frames = async move {
                gives_up(&mut kept).await;
                pending::<Result<Frame<Bytes>, Infallible>>().await
            };
            let mut response = Response::new(StreamBody::new(Box::pin(stream::once(frames))));
            *response.headers_mut() = grpc(silent()).headers().clone();
            Ok::<_, Infallible>(response)
        });
        let (time, limit) = (TimeoutLayer::new(200 * MS), RequestLimitLayer::new(1000));
        let (time, circuit) = (
            time.including_body(),
            CircuitBreakerLayer::new(breaker.clone()),
        );
        let response = if is_outside {
            let mut service = limit.layer(circuit.layer(time.layer(service)));
            service
                .call(grpc(silent()))
                .await
                .unwrap()
                .map(BodyExt::boxed_unsync)
        } else {
            let mut service = circuit.layer(time.layer(limit.layer(service)));
            service
                .call(grpc(silent()))
                .await
                .unwrap()
                .map(BodyExt::boxed_unsync)
        };
        let mut body = spawn(response.into_body().collect());
        assert_pending!(body.poll());
        advance(20 * MS).await;
        assert_pending!(body.poll());
        let body = tokio::time::timeout(680 * MS, body).await.unwrap().unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "4");
        assert_eq!(counted(&breaker).0, 1, "the limit is outside: {is_outside}");
    }
}

/// A stream that waits for its silent caller ends with a status of its own, in a poll that looks at
/// its timer first. It is the same for a breaker around the limit, in the same gate, or inside.
#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_because_its_caller_is_silent_is_no_failure() {
    let holder = Arc::new(Mutex::new(Vec::new()));
    let service = || {
        let holds = holder.clone();
        service_fn(move |request: Request<Once>| {
            let (mut kept, holds) = (request.into_body(), holds.clone());
            let frames = async move {
                tokio::select! {
                    biased;
                    () = sleep(20 * MS) => {}
                    _ = kept.frame() => panic!("it is silent"),
                }
                let late = HeaderMap::from_iter([(
                    HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("4"),
                )]);
                holds.lock().unwrap().push(kept);
                Ok::<_, Infallible>(Frame::<Bytes>::trailers(late))
            };
            let mut response = Response::new(StreamBody::new(Box::pin(stream::once(frames))));
            *response.headers_mut() = grpc(silent()).headers().clone();
            async { Ok::<_, Infallible>(response) }
        })
    };
    let limit = || RequestLimitLayer::new(1000);
    let circuit = |breaker: &CircuitBreaker| CircuitBreakerLayer::new(breaker.clone());

    let (around, beside, inside) = (breaker(), breaker(), breaker());
    let one = GateLayer::from_policy((beside.clone(), RequestLimit::from(1000)));
    let first = circuit(&around).layer(limit().layer(service()));
    let second = one.layer(service());
    let third = limit().layer(circuit(&inside).layer(service()));
    ends_late(first).await;
    ends_late(second).await;
    ends_late(third).await;
    for breaker in [around, beside, inside] {
        assert_eq!(counted(&breaker).0, 0);
    }
    drop(holder);
}

/// The response ends with `DEADLINE_EXCEEDED`.
async fn ends_late<S, B>(mut service: S)
where
    S: Service<Request<Script>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let response = service.call(grpc(silent())).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "4");
}

/// An inner gate has rejected an upload, and reads its rest. An outer timeout is shorter.
#[tokio::test(start_paused = true)]
async fn a_rejection_that_waits_for_the_rest_is_no_failure_for_a_breaker_around_it() {
    let breaker = breaker();
    let inner = RequestLimitLayer::new(10).layer(handler::<Once>());
    let inner = TimeoutLayer::new(50 * MS).layer(inner);
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(inner);
    let request = post(Script::new([Step::Silent]).exact(1000));
    let response = service.call(request).await.unwrap();
    assert_eq!(response.status(), 408);
    assert_eq!(counted(&breaker), (0, 0, 1));
}

/// The service itself limits the time in which it reads the body, and drops the body.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_the_callers_also_if_the_service_stops_to_wait() {
    let breaker = breaker();
    let policies = (breaker.clone(), RequestLimit::from(1000));
    let service = service_fn(|request: Request<Once>| async {
        tokio::select! {
            () = sleep(300 * MS) => {
                let mut response = ok(Script::default());
                *response.status_mut() = http::StatusCode::GATEWAY_TIMEOUT;
                Ok::<_, Infallible>(response)
            }
            _ = request.into_body().collect() => unreachable!("it is silent"),
        }
    });
    let mut service = GateLayer::from_policy(policies).layer(service);
    for calls in 1..=20 {
        assert_eq!(service.call(silent()).await.unwrap().status(), 504);
        assert_eq!(counted(&breaker), (0, 0, calls));
    }
}

/// The service has dropped the body, and hangs; the caller leaves.
#[tokio::test(start_paused = true)]
async fn a_service_that_dropped_the_body_and_hangs_is_slow() {
    let breaker = breaker();
    let policies = (breaker.clone(), RequestLimit::from(1000));
    let service = service_fn(|request: Request<Once>| async {
        gives_up(&mut request.into_body()).await;
        pending::<Result<Response<Script>, Infallible>>().await
    });
    let mut service = GateLayer::from_policy(policies).layer(service);
    let mut call = spawn(service.call(silent()));
    assert_pending!(call.poll());
    advance(20 * MS).await;
    assert_pending!(call.poll());
    advance(1000 * MS).await;
    drop(call);
    assert_eq!(counted(&breaker), (1, 1, 0));
}

/// An inner gate answers a hanging service, and reads the rest. This is a failure of the service.
#[tokio::test(start_paused = true)]
async fn a_timeout_that_waits_for_the_rest_is_a_failure() {
    let breaker = breaker();
    let service = service_fn(|request: Request<Once>| async {
        let _kept = request.into_body();
        pending::<Result<Response<Script>, Infallible>>().await
    });
    let policies = (Timeout::from(30 * MS), RequestLimit::from(1 << 20));
    let inner = GateLayer::from_policy(policies).layer(service);
    let inner = TimeoutLayer::new(50 * MS).layer(inner);
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(inner);
    let request = post(Script::new([Step::Silent]).exact(100_000));
    assert_eq!(service.call(request).await.unwrap().status(), 504);
    assert_eq!(counted(&breaker), (1, 0, 0));
}

/// The same, where the rest is that of a body which the breaker's gate limits too.
#[tokio::test(start_paused = true)]
async fn a_timeout_that_waits_for_the_rest_of_a_body_with_two_limits_is_a_failure() {
    let breaker = breaker();
    let service = service_fn(|request: Request<Twice>| async {
        let _kept = request.into_body();
        pending::<Result<Response<Script>, Infallible>>().await
    });
    let policies = (Timeout::from(30 * MS), RequestLimit::from(1 << 20));
    let inner = GateLayer::from_policy(policies).layer(service);
    let inner = TimeoutLayer::new(50 * MS).layer(inner);
    let policies = (breaker.clone(), RequestLimit::from(1 << 20));
    let mut service = GateLayer::from_policy(policies).layer(inner);
    let request = post(Script::new([Step::Silent]).exact(100_000));
    assert_eq!(service.call(request).await.unwrap().status(), 504);
    assert_eq!(counted(&breaker), (1, 0, 0));
}
