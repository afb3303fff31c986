//! Guarantee 3: no allocation for an admitted request, none for a plain rejection, and at most five
//! for an HTTP rejection.

use std::convert::Infallible;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use http::{Request, Response};
use seawall::circuit_breaker::Window;
use seawall::policy::{Admission, NoWait, Policy, RequestKind};
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, ConcurrencyLimit,
    ConcurrencyLimitLayer, ConcurrencyLimitSettings, Drain, DrainLayer, GateLayer, LagShed,
    LagShedLayer, Reason, Rejection, RequestLimit, RequestLimitLayer, RequestLimitSettings,
    ResponseBodyTimeoutSettings, TimeoutLayer,
};
use tower::{Layer, Service, ServiceBuilder, service_fn};

use crate::support::*;

/// The allocations of one call up to the end of its response body, after a few calls.
fn per_call<S, B, ResB>(mut service: S, request: impl Fn() -> Request<B>) -> u64
where
    S: Service<Request<B>, Response = Response<ResB>>,
    ResB: http_body::Body,
{
    let mut count = 0;
    for _ in 0..3 {
        let request = black_box(request());
        let info = measure(|| {
            let mut cx = Context::from_waker(Waker::noop());
            let mut call = std::pin::pin!(service.call(request));
            let response = loop {
                if let Poll::Ready(result) = call.as_mut().poll(&mut cx) {
                    break result.ok().expect("the mocks do not fail");
                }
            };
            let mut body = std::pin::pin!(response.into_body());
            while !matches!(body.as_mut().poll_frame(&mut cx), Poll::Ready(None)) {}
        });
        count = info.count_total;
    }
    count
}

/// Answers at once, or is pending once, so that timers and queue slots are used. It is one type, so
/// that each gate over it is compiled once.
#[derive(Clone, Copy)]
struct Answers {
    is_pending: bool,
}

impl<B> Service<Request<B>> for Answers {
    type Response = Response<Script>;
    type Error = Infallible;
    type Future = Self;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self {
        *self
    }
}

impl Future for Answers {
    type Output = Result<Response<Script>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::take(&mut self.is_pending) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(ok(Script::default())))
    }
}

fn empty() -> Answers {
    Answers { is_pending: false }
}

fn later() -> Answers {
    Answers { is_pending: true }
}

/// A policy of a user.
#[derive(Clone)]
struct Free;

impl<R: RequestKind> Policy<R> for Free {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
        Admission::Admit(())
    }
}

#[tokio::test]
async fn an_admitted_request_costs_no_allocation() {
    let second = Duration::from_secs(1);
    assert_eq!(per_call(empty(), get), 0, "the mock itself");
    let settings = CircuitBreakerSettings::default()
        .window(Window::count_based(100))
        .slow_call(second, 0.5)
        .consecutive_failures(5);
    macro_rules! none {
        ($($layer:expr),+ $(,)?) => {$(
            let of = stringify!($layer);
            assert_eq!(per_call(Layer::layer(&$layer, empty()), get), 0, "{of}");
            assert_eq!(per_call(Layer::layer(&$layer, later()), get), 0, "pending: {of}");
        )+};
    }
    none!(
        GateLayer::from_policy(ConcurrencyLimit::from(1)),
        GateLayer::from_policy((Free, ConcurrencyLimit::from(1))),
        ConcurrencyLimitLayer::new(1).exempt(|head| head.uri.path() == "/"),
        ConcurrencyLimitLayer::new(
            ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, second)).unwrap()
        ),
        LagShedLayer::new(LagShed::default()),
        GateLayer::from_policy((LagShed::default(), ConcurrencyLimit::from(1))),
        CircuitBreakerLayer::new(CircuitBreaker::default()),
        CircuitBreakerLayer::new(CircuitBreaker::new(settings.clone()).unwrap()),
        CatchPanicLayer::new(),
        CatchPanicLayer::new().on_panic(|_| {}),
        TimeoutLayer::new(second),
        RequestLimitLayer::new(10),
        ServiceBuilder::new()
            .layer(CatchPanicLayer::new())
            .layer(LagShedLayer::new(LagShed::default()))
            .layer(TimeoutLayer::new(second))
            .layer(ConcurrencyLimitLayer::new(1))
            .layer(RequestLimitLayer::new(10)),
    );
}

#[test]
fn a_request_body_costs_nothing_once_there_is_an_upload_in_the_pool() {
    let unknown = || post(Script::data(&[]));
    assert_eq!(
        per_call(RequestLimitLayer::new(10).layer(empty()), unknown),
        0
    );
    let known = || post(Script::data(&["abc"]).exact(3));
    assert_eq!(
        per_call(RequestLimitLayer::new(10).layer(empty()), known),
        0
    );
}

/// A drain that has not begun; a body of unknown size has a cell.
#[tokio::test]
async fn a_drain_costs_no_allocation_but_that_cell() {
    let layer = DrainLayer::new(Drain::default());
    let exact = service_fn(|_| {
        let body = Script::default().exact(3);
        std::future::ready(Ok::<_, Infallible>(ok(body)))
    });
    assert_eq!(per_call(layer.layer(exact), get), 0);
    assert_eq!(per_call(layer.layer(empty()), get), 1);
}

/// The cell of a body of unknown size; a small one of known size has none.
#[tokio::test]
async fn a_response_that_can_be_ended_from_outside_costs_one_cell() {
    let second = Duration::from_secs(1);
    let layer = TimeoutLayer::new(second).response_body_timeout(
        ResponseBodyTimeoutSettings::default()
            .deadline(true)
            .idle_timeout(second),
    );
    let exact = service_fn(|_| {
        let body = Script::default().exact(3);
        std::future::ready(Ok::<_, Infallible>(ok(body)))
    });
    let large = service_fn(|_| {
        let body = Script::default().exact(1 << 20);
        std::future::ready(Ok::<_, Infallible>(ok(body)))
    });
    assert_eq!(per_call(Layer::layer(&layer, empty()), get), 1);
    assert_eq!(per_call(Layer::layer(&layer, large), get), 1);
    assert_eq!(per_call(Layer::layer(&layer, exact), get), 0);
}

/// Extensions are a boxed map, which the first entry allocates.
#[tokio::test]
async fn an_exposed_deadline_costs_an_entry() {
    let layer = TimeoutLayer::new(Duration::from_secs(1)).expose_deadline();
    let count = per_call(Layer::layer(&layer, empty()), get);
    assert!((1..=3).contains(&count), "{count}");
    println!("an exposed deadline: {count}");
}

/// The timer, once the service waits for the body.
#[tokio::test]
async fn a_body_whose_pace_matters_costs_a_timer() {
    let second = Duration::from_secs(1);
    let layer = RequestLimitLayer::new(
        RequestLimit::new(
            RequestLimitSettings::new(10)
                .body_idle_timeout(second)
                .min_body_rate(10, second),
        )
        .unwrap(),
    );
    let reads = service_fn(async |request: Request<seawall::RequestBody<Script>>| {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        Ok::<_, Infallible>(ok(Script::default()))
    });
    let at_once = || post(Script::data(&[]).exact(0));
    let waited_for = || post(Script::new([Step::Pending]).exact(0));
    let mut service = layer.layer(reads);
    let sent = per_call(&mut service, at_once);
    let awaited = per_call(&mut service, waited_for);
    assert_eq!((sent, awaited), (0, 1));
}

#[test]
fn an_http_rejection_costs_the_header_map_and_one_extension() {
    for request in [get, http2, grpc] {
        let gate = GateLayer::from_policy(No::new(Reason::ConcurrencyLimit)).layer(empty());
        let count = per_call(gate, request);
        assert!((1..=5).contains(&count), "{count}");
    }
    // One more for the rest of the request, which the gate reads before the answer ends.
    let limit = RequestLimitLayer::new(1).layer(empty());
    let count = per_call(limit, || post(Script::default().exact(2)));
    assert!((1..=6).contains(&count), "{count}");
}

#[test]
fn a_plain_rejection_costs_none() {
    #[derive(Debug)]
    struct Refused;
    impl From<Rejection> for Refused {
        fn from(_: Rejection) -> Self {
            Refused
        }
    }
    let limit = ConcurrencyLimit::from(1);
    let _permit = limit.try_acquire_owned().unwrap();
    let mut service = ConcurrencyLimitLayer::new(limit)
        .plain()
        .layer(service_fn(async |n: u32| Ok::<_, Refused>(n)));
    let mut reject = || {
        let mut call = std::pin::pin!(service.call(1));
        let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Err(Refused))));
    };
    reject(); // registers the counter
    assert_eq!(measure(reject).count_total, 0);
}

#[tokio::test]
async fn a_waiter_costs_one_allocation_and_a_slot_that_is_used_again() {
    let limit =
        ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(8, Duration::from_secs(1)))
            .unwrap();
    let mut service = ConcurrencyLimitLayer::new(limit.clone()).layer(empty());
    let _permit = limit.try_acquire().unwrap();
    let _other = service.call(get()); // keeps the queue from being emptied
    drop([service.call(get()), service.call(get())]);
    let info = measure(|| drop(service.call(get())));
    assert_eq!(info.count_total, 1, "the waiter itself");
}
