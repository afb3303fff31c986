//! A failure that the caller caused does not count as a failure of the service (guarantee 7; A3 of
//! the faults from production).
//!
//! The breaker is inside the request limit, in the same gate, or outside it, as the layers of a
//! router may be. It must record the same outcome in each position.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use seawall::{
    CircuitBreaker, CircuitBreakerLayer, GateLayer, Outcome, Reason, RequestBody, RequestLimit,
    RequestLimitLayer, Timeout, TimeoutLayer,
};
use tokio::time::advance;
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};
use tower::{BoxError, Layer, Service, ServiceBuilder};

use crate::circuit_breaker::layer::{SECOND, breaker, settings};
use crate::handler::service_fn;
use crate::support::*;

type Call = std::pin::Pin<Box<dyn Future<Output = Result<Response<AnyBody>, Infallible>> + Send>>;
type AnyBody = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>;
type AnyService = Box<dyn FnMut(Request<Script>) -> Call>;

/// The service behind a request limit, a timeout of two seconds, and the breaker in each position.
fn everywhere<H, F, B>(
    handler: H,
    breaker: impl Fn() -> CircuitBreaker,
) -> Vec<(&'static str, AnyService, CircuitBreaker)>
where
    H: Fn(Request<AnyBody>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn boxed<S, B>(mut service: S) -> AnyService
    where
        S: Service<Request<Script>, Response = Response<B>, Error = Infallible, Future: Send>
            + 'static,
        S::Future: 'static,
        B: Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Box::new(move |request| {
            let call = service.call(request);
            Box::pin(async move {
                let response = call.await?;
                Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            })
        })
    }
    fn erased<B>(request: Request<B>) -> Request<AnyBody>
    where
        B: Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        request.map(|body| body.map_err(Into::into).boxed_unsync())
    }
    macro_rules! inner {
        () => {{
            let handler = handler.clone();
            service_fn(move |request| {
                let response = handler(erased(request));
                async move { Ok::<_, Infallible>(response.await) }
            })
        }};
    }
    let timeout = || TimeoutLayer::new(2 * SECOND).including_body();
    let limit = || RequestLimit::from(1000);
    let [inside, same, outside, around] = [(); 4].map(|()| breaker());
    vec![
        (
            "inside",
            boxed(
                ServiceBuilder::new()
                    .layer(GateLayer::from_policy((
                        timeout().policy().clone(),
                        limit(),
                    )))
                    .layer(CircuitBreakerLayer::new(inside.clone()))
                    .service(inner!()),
            ),
            inside,
        ),
        (
            "in the same gate",
            boxed(
                ServiceBuilder::new()
                    .layer(GateLayer::from_policy((
                        same.clone(),
                        timeout().policy().clone(),
                        limit(),
                    )))
                    .service(inner!()),
            ),
            same,
        ),
        (
            "outside",
            boxed(
                ServiceBuilder::new()
                    .layer(CircuitBreakerLayer::new(outside.clone()))
                    .layer(GateLayer::from_policy((
                        timeout().policy().clone(),
                        limit(),
                    )))
                    .service(inner!()),
            ),
            outside,
        ),
        (
            "around single layers",
            boxed(
                ServiceBuilder::new()
                    .layer(CircuitBreakerLayer::new(around.clone()))
                    .layer(timeout())
                    .layer(RequestLimitLayer::new(limit()))
                    .service(inner!()),
            ),
            around,
        ),
    ]
}

pub(super) fn counted(breaker: &CircuitBreaker) -> (u64, u64, u64) {
    let now = breaker.snapshot();
    (now.calls, now.failures, now.slow_calls)
}

fn waits() -> Script {
    Script::new(std::iter::repeat_n(Step::Pending, 1000))
}

/// A sender that is slower than the timeout: 408, which is not a failure of the service.
#[tokio::test(start_paused = true)]
async fn a3_a_timeout_while_the_body_is_waited_for_is_the_callers() {
    let reads = async |request: Request<AnyBody>| {
        let _ = request.into_body().collect().await;
        ok(Script::default())
    };
    for (place, mut service, breaker) in everywhere(reads, breaker) {
        let mut call = spawn(service(post(waits())));
        assert_pending!(call.poll(), "{place}");
        advance(2 * SECOND).await;
        let response = assert_ready!(call.poll(), "{place}").unwrap();
        assert_eq!(response.status(), 408, "{place}");
        assert_eq!(reason(&response), Some(Reason::Timeout), "{place}");
        assert_eq!(response.headers()["connection"], "close", "{place}");
        drop(response);
        assert_eq!(counted(&breaker), (0, 0, 0), "{place}");
    }
}

/// A handler that is slow after it has read the body is a failure.
#[tokio::test(start_paused = true)]
async fn a_timeout_after_the_body_is_the_services() {
    let reads = async |request: Request<AnyBody>| {
        let _ = request.into_body().collect().await;
        pending::<Response<Script>>().await
    };
    for (place, mut service, breaker) in everywhere(reads, breaker) {
        let mut call = spawn(service(post(Script::new([Step::Pending, Step::Data("a")]))));
        assert_pending!(call.poll());
        assert_pending!(call.poll());
        advance(2 * SECOND).await;
        // Over HTTP/1, hyper reads more between two polls.
        assert_pending!(call.poll(), "{place}");
        let response = assert_ready!(call.poll(), "{place}").unwrap();
        assert_eq!(response.status(), 504, "{place}");
        if place != "inside" {
            assert_eq!(counted(&breaker), (1, 1, 0), "{place}");
        }
    }
}

/// A caller aborts its upload: the answer of the handler to the error does not count.
#[tokio::test(start_paused = true)]
async fn a3_a_body_that_fails_is_the_callers() {
    let reads = async |request: Request<AnyBody>| {
        let status = match request.into_body().collect().await {
            Ok(_) => 200,
            Err(_) => 500,
        };
        let mut response = ok(Script::default());
        *response.status_mut() = status.try_into().unwrap();
        response
    };
    for (place, mut service, breaker) in everywhere(reads, breaker) {
        let aborted = Script::new([Step::Data("a"), Step::Error]);
        let response = service(post(aborted)).await.unwrap();
        assert_eq!(response.status(), 500, "{place}");
        drop(response);
        assert_eq!(counted(&breaker), (0, 0, 0), "{place}");
        // The same with a declared length.
        let aborted = Script::new([Step::Data("a"), Step::Error]).exact(3);
        drop(service(post(aborted)).await.unwrap());
        assert_eq!(counted(&breaker), (0, 0, 0), "{place}");
        // The next failure of the service itself counts.
        let mut failing = answers(|| crate::circuit_breaker::layer::status(500));
        let mut layered = CircuitBreakerLayer::new(breaker.clone()).layer(&mut failing);
        drop(layered.call(get()).await.unwrap());
        assert_eq!(counted(&breaker), (1, 1, 0), "{place}");
    }
}

/// The time for which the handler waits for the body does not make a call slow.
#[tokio::test(start_paused = true)]
async fn a3_a_slow_upload_is_no_slow_call() {
    let reads = async |request: Request<AnyBody>| {
        let _ = request.into_body().collect().await;
        ok(Script::default())
    };
    let timed = || CircuitBreaker::new(settings().slow_call(SECOND, 0.5)).unwrap();
    for (place, mut service, breaker) in everywhere(reads, timed) {
        let body = Script::new([Step::Pending, Step::Data("a")]);
        let mut call = spawn(service(post(body)));
        assert_pending!(call.poll(), "{place}");
        advance(SECOND + Duration::from_millis(500)).await;
        let response = assert_ready!(call.poll(), "{place}").unwrap();
        assert_eq!(response.status(), 200, "{place}");
        drop(response.into_body().collect().await);
        assert_eq!(counted(&breaker), (1, 0, 0), "{place}");

        // The caller drops the call in the middle of its slow upload.
        let mut call = spawn(service(post(waits())));
        assert_pending!(call.poll(), "{place}");
        advance(SECOND + Duration::from_millis(500)).await;
        drop(call);
        assert_eq!(counted(&breaker), (1, 0, 0), "{place}");
    }
    // A handler that is slow by itself is slow.
    let slow = async |request: Request<AnyBody>| {
        let _ = request.into_body().collect().await;
        tokio::time::sleep(SECOND + Duration::from_millis(500)).await;
        ok(Script::default())
    };
    for (place, mut service, breaker) in everywhere(slow, timed) {
        let response = service(post(Script::data(&["a"]))).await.unwrap();
        drop(response.into_body().collect().await);
        assert_eq!(counted(&breaker), (1, 0, 1), "{place}");
        let mut call = spawn(service(post(Script::data(&["a"]))));
        assert_pending!(call.poll(), "{place}");
        advance(SECOND + Duration::from_millis(500)).await;
        // The report of another request on this thread has no effect.
        let mut other = spawn(service(post(waits())));
        assert_pending!(other.poll(), "{place}");
        drop(other);
        drop(call);
        assert_eq!(counted(&breaker), (2, 1, 2), "{place}");
    }
}

/// Over gRPC, the deadline ends a stream whose handler waits for the caller.
#[tokio::test(start_paused = true)]
async fn a3_a_stream_that_waits_for_its_caller_is_the_callers() {
    let chats = async |request: Request<AnyBody>| {
        let mut response = Response::new(request.into_body());
        let grpc = "application/grpc".parse().unwrap();
        response.headers_mut().insert("content-type", grpc);
        response
    };
    for (place, mut service, breaker) in everywhere(chats, breaker) {
        let mut request = grpc();
        *request.body_mut() = Script::new([Step::Silent]);
        let response = service(request).await.unwrap();
        assert_eq!(response.status(), 200, "{place}");
        let mut body = response.into_body();
        let frame = body.frame().await.unwrap().unwrap();
        let trailers = frame.into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "4", "{place}");
        drop(body);
        assert_eq!(counted(&breaker).1, 0, "{place}");
    }
}

/// A handler with its own timeout for the body, over gRPC and over HTTP.
#[tokio::test(start_paused = true)]
async fn a3_a_handler_that_gives_up_on_the_body_is_not_to_blame() {
    let gives_up = async |request: Request<AnyBody>| {
        let is_grpc = request.headers().contains_key("content-type");
        let mut body = request.into_body();
        let waits = tokio::time::timeout(SECOND, body.frame()).await;
        waits.unwrap_err();
        if is_grpc {
            let mut response = ok(Script::default().knowing_its_end());
            let headers = response.headers_mut();
            headers.insert("content-type", "application/grpc".parse().unwrap());
            headers.insert("grpc-status", "4".parse().unwrap());
            return response;
        }
        crate::circuit_breaker::layer::status(504)
    };
    for (place, mut service, breaker) in everywhere(gives_up, breaker) {
        for mut request in [post(Script::default()), grpc()] {
            *request.body_mut() = Script::new([Step::Silent]);
            let response = service(request).await.unwrap();
            drop(response.into_body().collect().await);
            assert_eq!(counted(&breaker), (0, 0, 0), "{place}");
        }
    }
}

/// A policy of the gate is settled as in the table of the docs.
#[tokio::test(start_paused = true)]
async fn a3_policies_before_the_deadline_are_settled_with_ignored() {
    let recorder = Recorder::new();
    let policies = (
        recorder.clone(),
        Timeout::from(SECOND),
        RequestLimit::from(9),
    );
    let reads = service_fn(async |request: Request<seawall::RequestBody<Script>>| {
        let _ = request.into_body().collect().await;
        Ok::<_, Infallible>(ok(Script::default()))
    });
    let mut service = GateLayer::from_policy(policies).layer(reads);
    let mut call = spawn(service.call(post(waits())));
    assert_pending!(call.poll());
    advance(SECOND).await;
    assert_eq!(assert_ready!(call.poll()).unwrap().status(), 408);
    assert_eq!(recorder.told()[0], Told::Settled(Outcome::Ignored));
}

/// An error while the handler waits for the body, such as that of another crate's timeout.
#[tokio::test(start_paused = true)]
async fn a3_an_error_while_the_body_is_waited_for_is_the_callers() {
    for waits_for_body in [true, false] {
        let recorder = Recorder::new();
        let policies = (recorder.clone(), RequestLimit::from(9));
        let inner = service_fn(
            move |request: Request<seawall::RequestBody<Script>>| async move {
                let mut body = request.into_body();
                if waits_for_body {
                    std::future::poll_fn(|cx| {
                        assert!(std::pin::Pin::new(&mut body).poll_frame(cx).is_pending());
                        std::task::Poll::Ready(())
                    })
                    .await;
                }
                Err::<Response<Script>, _>(BoxError::from("late"))
            },
        );
        let mut service = GateLayer::from_policy(policies).layer(inner);
        service.call(post(waits())).await.unwrap_err();
        let expected = if waits_for_body {
            Outcome::Ignored
        } else {
            Outcome::Failure
        };
        assert_eq!(recorder.told()[0], Told::Settled(expected));
    }
}

/// A client over `Plain`, such as reqwest's, which a handler calls for its caller.
#[tokio::test(start_paused = true)]
async fn a3_a_plain_client_fails_because_of_the_body() {
    let breaker = breaker();
    let client = CircuitBreakerLayer::new(breaker.clone())
        .plain()
        .layer(service_fn(
            async |body: seawall::RequestBody<Script>| match body.collect().await {
                Ok(_) => Ok(()),
                Err(_) => Err(BoxError::from("the request could not be sent")),
            },
        ));
    let handler = service_fn(move |request: Request<seawall::RequestBody<Script>>| {
        let mut client = client.clone();
        async move {
            let sent = client.call(request.into_body()).await;
            Ok::<_, Infallible>(crate::circuit_breaker::layer::status(if sent.is_ok() {
                200
            } else {
                502
            }))
        }
    });
    let mut service = RequestLimitLayer::new(9).layer(handler);
    let aborted = Script::new([Step::Data("a"), Step::Error]);
    assert_eq!(service.call(post(aborted)).await.unwrap().status(), 502);
    assert_eq!(
        service
            .call(post(Script::data(&["0123456789"])))
            .await
            .unwrap()
            .status(),
        413
    );
    assert_eq!(counted(&breaker), (0, 0, 0));
}

/// A call that begins after a slow upload is measured by its own duration.
#[tokio::test(start_paused = true)]
async fn a_slow_upload_does_not_make_a_later_call_fast() {
    let breaker = CircuitBreaker::new(settings().slow_call(SECOND, 0.5)).unwrap();
    let client =
        CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(async |_: Request<Script>| {
            tokio::time::sleep(2 * SECOND).await;
            Ok::<_, Infallible>(crate::circuit_breaker::layer::status(200))
        }));
    let handler = service_fn(move |request: Request<seawall::RequestBody<Script>>| {
        let mut client = client.clone();
        async move {
            let mut body = request.into_body();
            let first = tokio::time::timeout(20 * SECOND, body.frame());
            first.await.unwrap_err();
            drop(body);
            client.call(get()).await
        }
    });
    let mut service = RequestLimitLayer::new(9).layer(handler);
    let upload = Script::new([Step::Silent]);
    assert_eq!(service.call(post(upload)).await.unwrap().status(), 200);
    assert_eq!(counted(&breaker), (1, 0, 1));
}

/// The service does not wait for a body that the handler has dropped: behind a limit of its own,
/// or in another task.
#[tokio::test(start_paused = true)]
async fn a_body_that_was_dropped_is_not_waited_for() {
    type Never = Result<Response<Script>, Infallible>;

    async fn gives_up<B: Body>(request: Request<B>) {
        let first = tokio::time::timeout(SECOND, request.into_body().collect());
        assert!(first.await.is_err());
        tokio::task::yield_now().await;
    }
    is_the_services(service_fn(async |request| {
        gives_up::<RequestBody<Script>>(request).await;
        pending::<Never>().await
    }))
    .await;
    let on_route = RequestLimitLayer::new(9);
    is_the_services(on_route.layer(service_fn(async |request| {
        gives_up::<RequestBody<RequestBody<Script>>>(request).await;
        pending::<Never>().await
    })))
    .await;
    is_the_services(service_fn(async |request| {
        tokio::spawn(gives_up::<RequestBody<Script>>(request));
        pending::<Never>().await
    }))
    .await;
}

async fn is_the_services<S, B>(hangs: S)
where
    S: Service<Request<RequestBody<Script>>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let breaker = breaker();
    let policies = (
        breaker.clone(),
        Timeout::from(5 * SECOND),
        RequestLimit::from(9),
    );
    let mut service = GateLayer::from_policy(policies).layer(hangs);
    let mut request = post(Script::new([Step::Silent]));
    *request.version_mut() = http::Version::HTTP_2;
    assert_eq!(service.call(request).await.unwrap().status(), 504);
    assert_eq!(counted(&breaker), (1, 1, 0));
}

/// An outcome of an inner gate is not classified again.
#[tokio::test(start_paused = true)]
async fn a_rejection_is_judged_once() {
    let breaker = breaker();
    let hangs = service_fn(
        async |_: Request<seawall::RequestBody<seawall::RequestBody<Script>>>| {
            pending::<Result<Response<Script>, Infallible>>().await
        },
    );
    let inner = GateLayer::from_policy((Timeout::from(SECOND), RequestLimit::from(100_000)));
    let outer = GateLayer::from_policy((breaker.clone(), RequestLimit::from(100_000)));
    let mut service = outer.layer(inner.layer(hangs));
    let stalls = Script::new([Step::Data("a"), Step::Silent]).exact(20_000);
    assert_eq!(service.call(post(stalls)).await.unwrap().status(), 504);
    assert_eq!(counted(&breaker), (1, 1, 0));
}

/// The report of a request about its upload does not reach an unrelated call.
#[tokio::test(start_paused = true)]
async fn an_upload_does_not_make_a_call_of_another_task_fast() {
    let breaker = CircuitBreaker::new(settings().slow_call(SECOND, 0.5)).unwrap();
    let reads = service_fn(async |request: Request<seawall::RequestBody<Script>>| {
        let _ = request.into_body().collect().await;
        Ok::<_, Infallible>(ok(Script::default()))
    });
    let mut service = RequestLimitLayer::new(9).layer(reads);
    let mut upload = spawn(service.call(post(waits())));
    assert_pending!(upload.poll());
    let query = breaker.run(async {
        tokio::time::sleep(2 * SECOND).await;
        Ok::<_, BoxError>(())
    });
    let mut query = spawn(query);
    assert_pending!(query.poll());
    advance(2 * SECOND).await;
    assert_pending!(upload.poll());
    assert!(assert_ready!(query.poll()).is_ok());
    assert_eq!(counted(&breaker), (1, 0, 1));
}

/// A limit in between, which has nothing to report, keeps the report of an inner one.
#[tokio::test(start_paused = true)]
async fn a_report_passes_the_limits_in_between() {
    let breaker = breaker();
    let inner = service_fn(async |request: Request<RequestBody<RequestBody<Script>>>| {
        let mut request = request.into_body();
        let frames = futures_util::stream::once(async move {
            while request.frame().await.is_some_and(|frame| frame.is_ok()) {}
            let status = [("grpc-status".parse().unwrap(), "13".parse().unwrap())];
            let trailers = http::HeaderMap::from_iter(status);
            Ok::<_, Infallible>(http_body::Frame::<bytes::Bytes>::trailers(trailers))
        });
        let mut response = Response::new(http_body_util::StreamBody::new(Box::pin(frames)));
        let grpc = "application/grpc".parse().unwrap();
        response.headers_mut().insert("content-type", grpc);
        Ok::<_, Infallible>(response)
    });
    let mut service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(RequestLimitLayer::new(1000))
        .layer(RequestLimitLayer::new(3))
        .service(inner);
    let request = grpc().map(|_| Script::data(&["ab", "cd"]));
    let response = service.call(request).await.unwrap();
    let _ = response.into_body().collect().await;
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.failures, totals.ignored), (0, 1));
}

/// An inner limit reads the rest of a body that it rejects: that waits for the caller too.
#[tokio::test(start_paused = true)]
async fn a_slow_rest_of_a_rejected_body_is_the_callers() {
    let slow = settings().slow_call(SECOND / 10, 0.5);
    let breaker = CircuitBreaker::new(slow).unwrap();
    let policies = (breaker.clone(), RequestLimit::from(1000));
    let mut service = ServiceBuilder::new()
        .layer(GateLayer::from_policy(policies))
        .layer(RequestLimitLayer::new(3))
        .service(service_fn(
            async |request: Request<RequestBody<RequestBody<Script>>>| {
                let _ = request.into_body().collect().await;
                Ok::<_, Infallible>(ok(Script::default()))
            },
        ));
    let body = Script::new([Step::Data("four"), Step::Silent]);
    let mut call = spawn(service.call(post(body)));
    assert_pending!(call.poll());
    advance(SECOND / 3).await;
    drop(call);
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.failures, totals.cancelled), (0, 1));
}

/// A call of `run` that is dropped while it waits for the body of the caller, or after such a wait.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_keeps_what_the_caller_caused() {
    for (body, waits) in [
        (Script::new([Step::Silent]), true),
        (Script::new([Step::Quiet, Step::Data("a")]), false),
    ] {
        let reads = service_fn(async |request: Request<RequestBody<Script>>| {
            let _ = request.into_body().collect().await;
            pending::<Result<Response<Script>, Infallible>>().await
        });
        let call = RequestLimitLayer::new(1000).layer(reads).call(post(body));
        let breaker = CircuitBreaker::new(settings().slow_call(SECOND, 0.5)).unwrap();
        let mut run = spawn(breaker.run(async { call.await.map_err(BoxError::from) }));
        assert_pending!(run.poll());
        advance(2 * SECOND).await;
        if !waits {
            assert_pending!(run.poll());
            advance(SECOND / 2).await;
        }
        drop(run);
        let totals = breaker.snapshot().totals;
        assert_eq!((totals.failures, totals.ignored), (0, 1), "{waits}");
    }
}
