//! The contract of every layer, tested for each of them and for the whole stack.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use seawall::circuit_breaker::CircuitBreakerReadyLayer;
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimit, ConcurrencyLimitLayer,
    ConcurrencyLimitSettings, GateLayer, LagShed, LagShedLayer, RequestLimit, RequestLimitLayer,
    RequestLimitSettings, ResponseBodyTimeoutSettings, TimeoutLayer,
};
#[cfg(feature = "keyed")]
use seawall::{
    CircuitBreakerSettings, RequestHead,
    circuit_breaker::{CircuitBreakers, CircuitBreakersLayer, PerKey},
};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready_ok};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};

use crate::handler::service_fn;
use crate::support::*;

/// A service polled ready, which some layers need.
fn made_ready<S: Service<Request<Script>>>(service: &mut S) -> &mut S {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    service
}

/// Runs the tests below for each layer.
macro_rules! every_layer {
    ($($name:ident: $layer:expr;)+) => {$(
        mod $name {
            use super::*;

            fn infallible<S>(service: &S) -> &S
            where
                S: Service<Request<Script>, Error = Infallible>,
            {
                service
            }

            #[tokio::test]
            async fn types_stay_what_they_were() {
                let service = Layer::layer(&$layer, answers(|| ok(Script::default())));
                fn shared<T: Clone + Send + Sync + Unpin + 'static + std::fmt::Debug>(_: &T) {}
                fn sent<T: Send + std::fmt::Debug>(_: &T) {}
                shared(&$layer);
                let layered = Layer::layer(&$layer, NoService);
                shared(&layered);
                infallible(&service);
                let future = made_ready(&mut service.clone()).call(get());
                sent(&future);
                let response = future.await.unwrap();
                sent(response.body());
                fn boxes<B>(body: B) -> axum::body::Body
                where
                    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
                {
                    axum::body::Body::new(body)
                }
                let _ = boxes(response.into_body());
            }

            #[tokio::test]
            async fn the_body_passes_as_it_is() {
                let through = async |script: fn() -> Script| {
                    let mut service = Layer::layer(&$layer, answers(move || ok(script())));
                    Box::pin(made_ready(&mut service).call(get()).await.unwrap().into_body())
                };
                let body = through(|| Script::data(&["abc"]).exact(3)).await;
                assert_eq!(body.size_hint().exact(), Some(3));
                assert!(!body.is_end_stream());
                let body = through(|| Script::data(&["abc"])).await;
                assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (0, None));
                let body = through(|| Script::default().knowing_its_end()).await;
                assert!(body.is_end_stream());
                let mut body = through(|| Script::data(&["abc"]).knowing_its_end()).await;
                body.frame().await.unwrap().unwrap();
                assert!(body.is_end_stream());
                let body = through(|| {
                    Script::new([Step::Data("a"), Step::Pending, Step::Trailers("x", "y")])
                });
                let collected = body.await.collect().await.unwrap();
                assert_eq!(collected.trailers().unwrap()["x"], "y");
                assert_eq!(collected.to_bytes(), "a");
                let mut body = through(|| Script::new([Step::Error])).await;
                let error = body.frame().await.unwrap().unwrap_err();
                let source = std::error::Error::source(&error).unwrap();
                assert!(source.downcast_ref::<std::io::Error>().is_some());
            }

            #[tokio::test]
            async fn readiness_is_the_inner_services() {
                let mut service = Layer::layer(&$layer, MustBeReady::new(answers(|| ok(Script::default()))));
                for _ in 0..3 {
                    let ready = service.ready().await.unwrap();
                    ready.call(get()).await.unwrap();
                }
                let mut service = Layer::layer(&$layer, Busy);
                let mut cx = Context::from_waker(Waker::noop());
                assert!(Service::<Request<Script>>::poll_ready(&mut service, &mut cx).is_pending());
            }

            /// A request that is dropped at every point, and one that panics at every point: the
            /// inner values are dropped exactly once.
            #[tokio::test(start_paused = true)]
            async fn nothing_is_kept_when_it_ends_early() {
                let token = Arc::new(());
                let held = token.clone();
                let mut service = Layer::layer(&$layer, service_fn(move |_| {
                    let held = held.clone();
                    async move {
                        let _held = held;
                        pending::<Result<Response<Script>, Infallible>>().await
                    }
                }));
                assert_eq!(Arc::strong_count(&token), 2, "the service's own");
                drop(made_ready(&mut service).call(get()));
                assert_eq!(Arc::strong_count(&token), 2, "before the first poll");
                let mut future = spawn(made_ready(&mut service).call(get()));
                assert_pending!(future.poll());
                assert_eq!(Arc::strong_count(&token), 3);
                drop(future);
                assert_eq!(Arc::strong_count(&token), 2, "after the first poll");
                drop(service);

                let held = token.clone();
                let script = [Step::Data("a"), Step::Pending, Step::Data("b"), Step::Panic];
                let mut service = Layer::layer(&$layer, answers(move || ok(Script::new(script.clone()).holding(&held))));
                let response = assert_ready_ok!(spawn(made_ready(&mut service).call(get())).poll());
                drop(response);
                assert_eq!(Arc::strong_count(&token), 2, "at the head");
                let mut body = Box::pin(made_ready(&mut service).call(get()).await.unwrap().into_body());
                body.frame().await.unwrap().unwrap();
                drop(body);
                assert_eq!(Arc::strong_count(&token), 2, "in the middle of the body");
                let mut body = Box::pin(made_ready(&mut service).call(get()).await.unwrap().into_body());
                body.frame().await.unwrap().unwrap();
                body.frame().await.unwrap().unwrap();
                let poll = AssertUnwindSafe(|| {
                    let mut cx = Context::from_waker(Waker::noop());
                    let _ = body.as_mut().poll_frame(&mut cx);
                });
                let _ = std::panic::catch_unwind(poll);
                drop(body);
                assert_eq!(Arc::strong_count(&token), 2, "at a panic of the body");
            }

            #[tokio::test]
            async fn a_panic_of_the_future_leaves_it_usable() {
                let mut service = Layer::layer(&$layer, service_fn(async |request: Request<_>| {
                    assert_ne!(request.uri().path(), "/panic", "scripted");
                    Ok::<_, Infallible>(ok(Script::default()))
                }));
                for path in ["/panic", "/", "/panic", "/"] {
                    let mut request = get();
                    *request.uri_mut() = path.parse().unwrap();
                    let call = made_ready(&mut service).call(request);
                    let mut call = spawn(call);
                    let poll = AssertUnwindSafe(|| assert_ready_ok!(call.poll()).status());
                    match std::panic::catch_unwind(poll) {
                        Ok(status) => assert_eq!(status, if path == "/" { 200 } else { 500 }),
                        Err(_) => assert_eq!(path, "/panic"),
                    }
                }
            }
        }
    )+};
}

every_layer! {
    gate: GateLayer::from_policy(Recorder::new());
    tuple: GateLayer::from_policy((Recorder::new(), ConcurrencyLimit::from(1)));
    exempting: GateLayer::from_policy(Recorder::new()).exempt(|_| true);
    circuit_breaker: CircuitBreakerLayer::new(CircuitBreaker::default());
    concurrency_limit: ConcurrencyLimitLayer::new(1);
    waiting: ConcurrencyLimitLayer::new(ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(1))).unwrap());
    lag_shed: LagShedLayer::new(LagShed::default());
    catch_panic: CatchPanicLayer::new();
    catch_panic_hooked: CatchPanicLayer::new().on_panic(|_| {});
    timeout: TimeoutLayer::new(Duration::from_secs(1));
    timeout_with_body: TimeoutLayer::new(Duration::from_secs(1)).response_body_timeout(ResponseBodyTimeoutSettings::default().deadline(true).idle_timeout(Duration::from_secs(1))).expose_deadline();
    request_limit: RequestLimitLayer::new(1000);
    request_limit_by_pace: RequestLimitLayer::new(RequestLimit::new(RequestLimitSettings::new(1000).max_header_bytes(1000).max_headers(10).max_uri(100).body_idle_timeout(Duration::from_secs(1)).min_body_rate(10, Duration::from_secs(1))).unwrap());
    circuit_breaker_ready: CircuitBreakerReadyLayer::new(CircuitBreaker::default());
    server: seawall::server().build().unwrap();
    client: seawall::client().build().unwrap();
    stack: ServiceBuilder::new()
        .layer(CatchPanicLayer::new())
        .layer(LagShedLayer::new(LagShed::default()))
        .layer(CircuitBreakerLayer::new(CircuitBreaker::default()))
        .layer(CircuitBreakerReadyLayer::new(CircuitBreaker::default()))
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(RequestLimitLayer::new(1000));
}

#[cfg(feature = "keyed")]
fn by_path()
-> PerKey<String, impl Fn(&RequestHead<'_>) -> Option<String> + Clone + Send + Sync + Unpin> {
    let breakers = CircuitBreakers::new(CircuitBreakerSettings::default()).unwrap();
    breakers.by_head(|head: &RequestHead<'_>| Some(head.path().to_owned()))
}

#[cfg(feature = "keyed")]
every_layer! {
    keyed: CircuitBreakersLayer::new(by_path());
    stack_with_keyed: ServiceBuilder::new()
        .layer(CatchPanicLayer::new())
        .layer(LagShedLayer::new(LagShed::default()))
        .layer(CircuitBreakersLayer::new(by_path()))
        .layer(CircuitBreakerReadyLayer::new(CircuitBreaker::default()))
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(RequestLimitLayer::new(1000));
    client_per_host: seawall::client().per_host().build().unwrap();
}

/// A type that is no service: layers have no bounds on the inner type.
#[derive(Clone, Debug)]
struct NoService;

/// Never ready.
#[derive(Clone, Debug)]
struct Busy;

impl<B> Service<Request<B>> for Busy {
    type Response = Response<Script>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Script>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        unreachable!("never ready")
    }
}

/// A policy that never waits needs only a service.
#[tokio::test]
async fn a_service_that_is_not_clone_fits_behind_a_policy_that_does_not_wait() {
    struct NotClone;
    impl Service<u32> for NotClone {
        type Response = u32;
        type Error = BoxError;
        type Future = std::future::Ready<Result<u32, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, n: u32) -> Self::Future {
            std::future::ready(Ok(n))
        }
    }
    let gate = GateLayer::from_policy(Recorder::new()).plain();
    assert_eq!(gate.layer(NotClone).call(1).await.unwrap(), 1);
}

/// The bytes that each layer adds to a future: a policy that does not wait adds at most a cache
/// line.
#[test]
fn futures_are_small() {
    fn size<S, F>(service: S) -> usize
    where
        S: Service<Request<Script>, Future = F>,
        F: Future,
    {
        let _ = service;
        size_of::<F>()
    }
    fn inner<B>()
    -> impl Service<Request<B>, Response = Response<Script>, Error = Infallible> + Clone {
        tower::service_fn(async |request: Request<B>| {
            tokio::task::yield_now().await;
            drop(request);
            Ok(ok(Script::default()))
        })
    }
    let bare = size(inner());
    let gate = size(GateLayer::from_policy(Recorder::new()).layer(inner())) - bare;
    let catch_panic = size(CatchPanicLayer::new().layer(inner())) - bare;
    let limit = size(ConcurrencyLimitLayer::new(1).layer(inner())) - bare;
    let breaker = size(CircuitBreakerLayer::new(CircuitBreaker::default()).layer(inner())) - bare;
    let timeout = size(TimeoutLayer::new(Duration::MAX).layer(inner())) - bare;
    println!(
        "bytes added: gate {gate}, catch_panic {catch_panic}, limit {limit}, breaker {breaker}, timeout {timeout}"
    );
    assert!(breaker <= 64, "{breaker}");
    assert!(gate <= 64 && catch_panic <= 64, "{gate} {catch_panic}");
}

/// The inner service of a gate can be read, changed and taken back.
#[test]
fn the_inner_service_of_a_gate_is_accessible() {
    let mut gate = ConcurrencyLimitLayer::new(1).layer(7);
    *gate.get_mut() += 1;
    assert_eq!(*gate.get_ref(), 8);
    assert_eq!(gate.into_inner(), 8);
}
