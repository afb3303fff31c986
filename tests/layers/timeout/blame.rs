//! How a breaker records a call that ends at the caller's deadline. If a handler makes the call,
//! the handler is the caller.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use seawall::{
    CircuitBreaker, CircuitBreakerLayer, GateLayer, RequestBody, RequestLimitLayer,
    ResponseBodyTimeout, Timeout, TimeoutLayer, TimeoutSettings,
};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt};

use super::body::asking;
use crate::handler::service_fn;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);
const NEARLY: Duration = Duration::from_millis(900);

/// A gRPC response, with the status of a trailers-only answer.
fn grpc_response(body: Script, status: Option<&'static str>) -> Response<Script> {
    let mut response = ok(body);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    if let Some(status) = status {
        headers.insert("grpc-status", HeaderValue::from_static(status));
    }
    response
}

/// A stream that stops after its first frame.
fn stops() -> Script {
    Script::new(vec![Step::Data("a"), Step::Silent])
}

fn failures_and_ignored(breaker: &CircuitBreaker) -> (u64, u64) {
    let totals = breaker.snapshot().totals;
    (totals.failures, totals.ignored)
}

/// The handler makes a gRPC call with a deadline of its own, and answers in the poll in which the
/// call ends. The dependency answers shortly before the deadline, or the layer ends the call or its
/// stream. Only a gRPC `DEADLINE_EXCEEDED` is ignored, since it may be the result of the call.
#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_call_does_not_excuse_the_answer_of_the_handler() {
    let answers = [
        (504, None, 1),
        (500, None, 1),
        (200, Some("13"), 1),
        (200, Some("14"), 1),
        (200, Some("4"), 0),
    ];
    for ends in ["answer", "call", "stream"] {
        for (status, grpc_status, failures) in answers {
            let handler = service_fn(move |_: Request<Script>| async move {
                let dependency = service_fn(move |_: Request<Script>| async move {
                    match ends {
                        "stream" => return Ok::<_, Infallible>(grpc_response(stops(), None)),
                        "call" => std::future::pending().await,
                        _ => sleep(NEARLY).await,
                    }
                    Ok(grpc_response(
                        Script::default().knowing_its_end(),
                        Some("4"),
                    ))
                });
                let layer = TimeoutLayer::new(2 * SECOND).including_body();
                let response = layer.layer(dependency).call(asking("1S")).await.unwrap();
                let end = response.into_body().collect().await.unwrap();
                assert_eq!(end.trailers().is_some(), ends == "stream");
                let mut response = match grpc_status {
                    Some(_) => grpc_response(Script::default().knowing_its_end(), grpc_status),
                    None => ok(Script::default()),
                };
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                Ok::<_, Infallible>(response)
            });
            let breaker = CircuitBreaker::default();
            let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(handler);
            let request = if grpc_status.is_some() { grpc() } else { get() };
            service.call(request).await.unwrap();
            let expected = (failures, 1 - failures);
            assert_eq!(
                failures_and_ignored(&breaker),
                expected,
                "{ends} {status} {grpc_status:?}"
            );
        }
    }
}

/// The handler's call, or its stream, ends at the deadline; the handler fails one second later.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_call_does_not_excuse_the_handler_later() {
    for stops_early in [true, false] {
        let handler = service_fn(move |_: Request<Script>| async move {
            let dependency = service_fn(move |_: Request<Script>| async move {
                if stops_early {
                    return std::future::pending().await;
                }
                Ok::<_, Infallible>(grpc_response(stops(), None))
            });
            let layer = TimeoutLayer::new(2 * SECOND).including_body();
            let response = layer.layer(dependency).call(asking("1S")).await.unwrap();
            response.into_body().collect().await.unwrap();
            sleep(SECOND).await;
            let end = Script::default().knowing_its_end();
            Ok::<_, Infallible>(grpc_response(end, Some("4")))
        });
        let breaker = CircuitBreaker::default();
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(handler);
        service.call(grpc()).await.unwrap();
        assert_eq!(failures_and_ignored(&breaker), (1, 0));
    }
}

/// The error of a client at the caller's deadline, for a breaker over `Plain`.
#[tokio::test(start_paused = true)]
async fn an_error_at_the_deadline_is_the_callers_without_http() {
    let dependency = service_fn(|_: Request<Script>| {
        std::future::pending::<Result<Response<Script>, Infallible>>()
    });
    let channel = TimeoutLayer::new(2 * SECOND).layer(dependency);
    let client = tower::service_fn(move |(): ()| {
        let mut channel = channel.clone();
        async move {
            let response = channel.call(asking("1S")).await.unwrap();
            let status = response.headers()["grpc-status"]
                .to_str()
                .unwrap()
                .to_owned();
            Err::<(), _>(tower::BoxError::from(status))
        }
    });
    let breaker = CircuitBreaker::default();
    let mut service = CircuitBreakerLayer::new(breaker.clone())
        .plain()
        .layer(client);
    service.call(()).await.unwrap_err();
    assert_eq!(failures_and_ignored(&breaker), (0, 1));
}

/// A proxy that does not speak gRPC answers 504 to a gRPC request.
#[tokio::test(start_paused = true)]
async fn a_504_at_the_callers_deadline_is_the_callers() {
    let service = service_fn(move |_: Request<Script>| async move {
        sleep(NEARLY).await;
        let mut response = ok(Script::default());
        *response.status_mut() = http::StatusCode::GATEWAY_TIMEOUT;
        Ok::<_, Infallible>(response)
    });
    let breaker = CircuitBreaker::default();
    let policies = (breaker.clone(), Timeout::from(2 * SECOND));
    let mut gate = GateLayer::from_policy(policies).layer(service);
    gate.call(asking("1S")).await.unwrap();
    assert_eq!(failures_and_ignored(&breaker), (0, 1));
}

/// A handler answers 504 to a gRPC request because of its own deadline for a call.
#[tokio::test(start_paused = true)]
async fn a_504_at_the_deadline_of_the_handler_is_a_failure() {
    let handler = service_fn(move |_: Request<RequestBody<Script>>| async move {
        let dependency = service_fn(move |_: Request<Script>| async move {
            sleep(NEARLY).await;
            let end = Script::default().knowing_its_end();
            Ok::<_, Infallible>(grpc_response(end, Some("4")))
        });
        let mut client = TimeoutLayer::new(2 * SECOND).layer(dependency);
        client.call(asking("1S")).await.unwrap();
        let mut response = ok(Script::default());
        *response.status_mut() = http::StatusCode::GATEWAY_TIMEOUT;
        Ok::<_, Infallible>(response)
    });
    let breaker = CircuitBreaker::default();
    let policies = (breaker.clone(), seawall::RequestLimit::from(1000));
    let mut gate = GateLayer::from_policy(policies).layer(handler);
    gate.call(grpc()).await.unwrap();
    assert_eq!(failures_and_ignored(&breaker), (1, 0));
}

/// The handler makes the call inside `run`.
#[tokio::test(start_paused = true)]
async fn a_run_inside_the_handler_passes_the_end_of_the_call_on() {
    let runs = CircuitBreaker::default();
    let handler = service_fn(move |_: Request<Script>| {
        let runs = runs.clone();
        async move {
            let dependency = service_fn(move |_: Request<Script>| async move {
                sleep(NEARLY).await;
                let end = Script::default().knowing_its_end();
                Ok::<_, Infallible>(grpc_response(end, Some("4")))
            });
            let mut client = TimeoutLayer::new(2 * SECOND).layer(dependency);
            let call = async {
                client
                    .call(asking("1S"))
                    .await
                    .map_err(tower::BoxError::from)
            };
            runs.run(call).await.unwrap();
            let end = Script::default().knowing_its_end();
            Ok::<_, Infallible>(grpc_response(end, Some("4")))
        }
    });
    let breaker = CircuitBreaker::default();
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(handler);
    service.call(grpc()).await.unwrap();
    assert_eq!(failures_and_ignored(&breaker), (0, 1));
}

/// Passes a stream on as tonic's encoder does: it returns the buffered data first, and the trailers
/// in the next poll.
struct Buffers<B> {
    inner: Pin<Box<B>>,
    buffered: &'static str,
    end: Option<HeaderMap>,
}

impl<B: Body<Data = Bytes>> Body for Buffers<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(end) = self.end.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(end))));
        }
        let polled = self.inner.as_mut().poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = polled {
            match frame.into_trailers() {
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
                Ok(end) => self.end = Some(end),
            }
            let buffered = Bytes::from_static(self.buffered.as_bytes());
            return Poll::Ready(Some(Ok(Frame::data(buffered))));
        }
        polled
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_that_a_proxy_passes_on_later_is_the_callers() {
    let service = service_fn(move |_: Request<Script>| async move {
        Ok::<_, Infallible>(grpc_response(stops(), None))
    });
    let breaker = CircuitBreaker::default();
    let inner = TimeoutLayer::new(2 * SECOND)
        .including_body()
        .layer(service);
    let proxy = tower::util::MapResponse::new(inner, |response: Response<_>| {
        response.map(|body| Buffers {
            inner: Box::pin(body),
            buffered: "b",
            end: None,
        })
    });
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(proxy);
    let response = service.call(asking("1S")).await.unwrap();
    let end = response.into_body().collect().await.unwrap();
    assert_eq!(end.trailers().unwrap()["grpc-status"], "4");
    assert_eq!(failures_and_ignored(&breaker), (0, 1));
}

/// Ends with an error in place of trailers.
struct Fails<B>(Pin<Box<B>>);

impl<B: Body<Data = Bytes>> Body for Fails<B> {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.as_mut().poll_frame(cx).map(|polled| match polled? {
            Ok(frame) if frame.is_data() => Some(Ok(frame)),
            _ => Some(Err(std::io::Error::other("the status is 4"))),
        })
    }
}

/// The upload of the same request is dropped together with the stream, which is reported too.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_with_an_upload_is_the_callers() {
    let service = service_fn(move |request: Request<RequestBody<Script>>| async move {
        let mut upload = request.into_body();
        let frames = futures_util::stream::poll_fn(move |cx| {
            let _ = Pin::new(&mut upload).poll_frame(cx);
            Poll::<Option<Result<Frame<Bytes>, Infallible>>>::Pending
        });
        let body = http_body_util::StreamBody::new(frames);
        Ok::<_, Infallible>(grpc_response(Script::default(), None).map(|_| body))
    });
    let breaker = CircuitBreaker::default();
    let timed = TimeoutLayer::new(2 * SECOND)
        .including_body()
        .layer(service);
    let limited = RequestLimitLayer::new(1000).layer(timed);
    let fails = |response: Response<_>| response.map(|body| Fails(Box::pin(body)));
    let adapter = tower::util::MapResponse::new(limited, fails);
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(adapter);
    let response = service.call(asking("1S").map(|_| stops())).await.unwrap();
    response.into_body().collect().await.unwrap_err();
    assert_eq!(failures_and_ignored(&breaker), (0, 1));
}

/// A layer that exposes its deadline applies an earlier one that it finds in the extensions. The
/// caller is blamed if that is the caller's own, but not for the deadline of another layer, or for
/// the bound of an outer timeout.
#[tokio::test(start_paused = true)]
async fn an_earlier_deadline_that_is_not_the_callers_is_a_failure() {
    let raisable = TimeoutSettings::new(SECOND).raisable_to(3 * SECOND);
    let raisable = Timeout::new(raisable).unwrap();
    let (short, long) = (Timeout::from(SECOND), Timeout::from(60 * SECOND));
    for (outer, asks, ends, failures) in [
        (None, None, 1, 1),
        (None, Some("10S"), 1, 1),
        (Some(&short), None, 1, 1),
        (Some(&short), Some("10S"), 1, 1),
        (Some(&raisable), None, 3, 1),
        (Some(&raisable), Some("5S"), 3, 1),
        (Some(&long), Some("5S"), 5, 0),
    ] {
        for streams in [false, true] {
            let breaker = CircuitBreaker::default();
            let mut route = tower::ServiceBuilder::new()
                .layer(CircuitBreakerLayer::new(breaker.clone()))
                .layer(exposing(30 * SECOND))
                .service(service_fn(move |_: Request<Script>| async move {
                    if !streams {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, Infallible>(grpc_response(stops(), None))
                }));
            let mut request = asks.map_or_else(grpc, asking);
            let ((), took) = timed(async {
                let response = if let Some(outer) = outer {
                    // The inner layer is called later, as if the request had been queued.
                    let later = service_fn(move |request: Request<Script>| {
                        let mut route = route.clone();
                        async move {
                            sleep(NEARLY).await;
                            route.call(request).await
                        }
                    });
                    let mut outer = exposing(outer.clone()).layer(later);
                    outer.call(request).await.unwrap().map(BodyExt::boxed)
                } else {
                    let deadline = seawall::Deadline::after(SECOND);
                    request.extensions_mut().insert(deadline);
                    route.call(request).await.unwrap().map(BodyExt::boxed)
                };
                drop(response.into_body().collect().await);
            })
            .await;
            let name = format!("{outer:?} {asks:?} {streams}");
            // Before a deadline of the caller, the layer answers a little earlier.
            assert_eq!((took + SECOND / 100).as_secs(), ends, "{name}");
            let expected = (failures, 1 - failures);
            assert_eq!(failures_and_ignored(&breaker), expected, "{name}");
        }
    }
}

/// A handler passes the deadline of its caller on to a call that is not gRPC, also through a
/// timeout that inner layers may raise.
#[tokio::test(start_paused = true)]
async fn the_callers_deadline_is_the_callers_in_a_call_of_the_handler() {
    let plain = || TimeoutLayer::new(30 * SECOND).including_body();
    let fixed = TimeoutSettings::new(60 * SECOND);
    let raisable = TimeoutSettings::new(10 * SECOND).raisable_to(60 * SECOND);
    let raised = TimeoutSettings::new(SECOND).raisable_to(60 * SECOND);
    for (between, inner) in [
        (fixed, exposing(30 * SECOND)),
        (raisable, exposing(30 * SECOND)),
        (raised, plain()),
    ] {
        let breaker = CircuitBreaker::default();
        let client = tower::ServiceBuilder::new()
            .layer(CircuitBreakerLayer::new(breaker.clone()))
            .layer(TimeoutLayer::new(Timeout::new(between).unwrap()))
            .layer(inner)
            .service(service_fn(|_: Request<Script>| async {
                std::future::pending::<Result<Response<Script>, Infallible>>().await
            }));
        let ((), took) = timed(pass_on(client, get)).await;
        assert_eq!((took + SECOND / 100).as_secs(), 5);
        assert_eq!(failures_and_ignored(&breaker), (0, 1));
    }
}

/// An inner layer raises the timeout of a stream up to the caller's deadline, but not further.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_raised_to_the_callers_deadline_is_the_callers() {
    let raisable = TimeoutSettings::new(SECOND / 4).raisable_to(60 * SECOND);
    for (asks, failures) in [("1S", 0), ("5S", 1)] {
        for exposes in [false, true] {
            let breaker = CircuitBreaker::default();
            let outer = TimeoutLayer::new(Timeout::new(raisable.clone()).unwrap());
            let outer = outer.including_body();
            let outer = if exposes {
                outer.expose_deadline()
            } else {
                outer
            };
            let service = tower::ServiceBuilder::new()
                .layer(CircuitBreakerLayer::new(breaker.clone()))
                .layer(outer)
                .layer(TimeoutLayer::new(2 * SECOND))
                .service(service_fn(|_: Request<Script>| async {
                    Ok::<_, Infallible>(grpc_response(stops(), None))
                }));
            let response = service.oneshot(asking(asks)).await.unwrap();
            drop(response.into_body().collect().await);
            let expected = (failures, 1 - failures);
            assert_eq!(failures_and_ignored(&breaker), expected, "{asks} {exposes}");
        }
    }
}

/// A handler passes its request on with a `grpc-timeout` of its own, which is shorter than the time
/// of the layer around it, and then hangs.
#[tokio::test(start_paused = true)]
async fn a_shorter_time_of_an_inner_call_does_not_excuse_the_handler() {
    let raisable = TimeoutSettings::new(5 * SECOND).raisable_to(60 * SECOND);
    let breaker = CircuitBreaker::default();
    let mut service = tower::ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(TimeoutLayer::new(Timeout::new(raisable).unwrap()))
        .service(service_fn(async |request: Request<Script>| {
            let never = service_fn(async |_: Request<Script>| {
                std::future::pending::<Result<Response<Script>, Infallible>>().await
            });
            let mut call = asking("1S");
            *call.extensions_mut() = request.extensions().clone();
            let answer = TimeoutLayer::new(30 * SECOND).layer(never).call(call).await;
            assert_eq!(answer.unwrap().headers()["grpc-status"], "4");
            std::future::pending::<Result<Response<Script>, Infallible>>().await
        }));
    let (response, took) = timed(service.call(get())).await;
    assert_eq!(
        (response.unwrap().status().as_u16(), took),
        (504, 5 * SECOND)
    );
    assert_eq!(failures_and_ignored(&breaker), (1, 0));
}

/// An answer is the caller's if it comes shortly before the deadline that was passed on, whatever
/// the time of the layer is.
#[tokio::test(start_paused = true)]
async fn an_answer_long_before_a_deadline_that_is_passed_on_is_a_failure() {
    let never = Duration::from_secs(u32::MAX.into());
    for (time, answers, failures) in [
        (30 * SECOND, 2 * SECOND, 1),
        (30 * SECOND, 5 * NEARLY, 0),
        (never, 2 * SECOND, 1),
        (never, 5 * NEARLY, 0),
    ] {
        let breaker = CircuitBreaker::default();
        let client = tower::ServiceBuilder::new()
            .layer(CircuitBreakerLayer::new(breaker.clone()))
            .layer(exposing(time))
            .service(service_fn(move |_: Request<Script>| async move {
                sleep(answers).await;
                let body = Script::default().knowing_its_end();
                Ok::<_, Infallible>(grpc_response(body, Some("4")))
            }));
        pass_on(client, grpc).await;
        let expected = (failures, 1 - failures);
        assert_eq!(
            failures_and_ignored(&breaker),
            expected,
            "{time:?} {answers:?}"
        );
    }
}

/// A server whose caller has 5 s, and whose handler passes that deadline on to a call of `client`.
async fn pass_on<S, B>(client: S, call: fn() -> Request<Script>)
where
    S: Service<Request<Script>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let handler = service_fn(move |request: Request<Script>| {
        let mut client = client.clone();
        async move {
            let deadline = *request.extensions().get::<seawall::Deadline>().unwrap();
            let mut call = call();
            call.extensions_mut().insert(deadline);
            let response = client.call(call).await?;
            Ok::<_, Infallible>(response.map(|_| Script::default()))
        }
    });
    drop(
        exposing(60 * SECOND)
            .layer(handler)
            .call(asking("5S"))
            .await,
    );
}

fn exposing(time: impl Into<Timeout>) -> GateLayer<(ResponseBodyTimeout, Timeout)> {
    TimeoutLayer::new(time).including_body().expose_deadline()
}
