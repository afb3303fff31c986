//! B6: an inner layer raises a limit or a timeout of an outer one, for its route.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use seawall::{
    Deadline, GateLayer, RequestBody, RequestLimit, RequestLimitLayer, RequestLimitSettings,
    Timeout, TimeoutLayer, TimeoutSettings,
};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::handler::service_fn;
use crate::support::*;

const DATA: &str = "0123456789012345678901234567890123456789";

fn bytes(count: usize) -> &'static str {
    &DATA[..count]
}

fn chunked(count: usize) -> Request<Script> {
    let (first, rest) = bytes(count).split_at(count / 2);
    post(Script::data(&[first, rest]))
}

fn declared(count: usize) -> Request<Script> {
    let mut request = post(Script::data(&[bytes(count)]).exact(count as u64));
    let length = HeaderValue::from_str(&count.to_string()).unwrap();
    request.headers_mut().insert("content-length", length);
    request
}

/// Reads the whole body, and answers an error with 400.
async fn read<B: Body>(request: Request<B>) -> Result<Response<Script>, Infallible> {
    let mut response = ok(Script::data(&["fine"]));
    if request.into_body().collect().await.is_err() {
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

/// The statuses of two requests of this size: one declares its length, the other does not.
async fn statuses<S, B>(service: S, size: usize) -> (u16, u16)
where
    S: Service<Request<Script>, Response = Response<B>, Error = Infallible> + Clone,
{
    let declared = service.clone().oneshot(declared(size)).await.unwrap();
    let chunked = service.oneshot(chunked(size)).await.unwrap();
    (declared.status().as_u16(), chunked.status().as_u16())
}

#[tokio::test]
async fn b6_an_inner_limit_raises_the_outer_one() {
    let (outer, inner) = (
        RequestLimit::new(RequestLimitSettings::new(10).raisable_to(30)).unwrap(),
        RequestLimit::from(20),
    );
    let route = ServiceBuilder::new()
        .layer(RequestLimitLayer::new(outer.clone()))
        .layer(RequestLimitLayer::new(inner.clone()))
        .service(service_fn(read));
    assert_eq!(statuses(route.clone(), 10).await, (200, 200));
    assert_eq!(statuses(route.clone(), 20).await, (200, 200));
    assert_eq!(outer.snapshot().rejected, 0);
    assert_eq!(statuses(route.clone(), 21).await, (413, 413));
    assert_eq!(statuses(route.clone(), 30).await, (413, 413));
    assert_eq!(inner.snapshot().rejected, 4);
    assert_eq!(outer.snapshot().rejected, 0);

    // Without an inner limit, or with one that is smaller.
    let other = RequestLimitLayer::new(outer.clone()).layer(service_fn(read));
    assert_eq!(statuses(other, 11).await, (413, 413));
    assert_eq!(outer.snapshot().rejected, 2);
    let smaller = ServiceBuilder::new()
        .layer(RequestLimitLayer::new(outer.clone()))
        .layer(RequestLimitLayer::new(5))
        .service(service_fn(read));
    assert_eq!(statuses(smaller.clone(), 5).await, (200, 200));
    assert_eq!(statuses(smaller, 6).await, (413, 413));
    assert_eq!(outer.snapshot().rejected, 2);
}

#[tokio::test]
async fn b6_a_limit_that_is_not_raisable_applies() {
    let route = ServiceBuilder::new()
        .layer(RequestLimitLayer::new(10))
        .layer(RequestLimitLayer::new(20))
        .service(service_fn(read));
    assert_eq!(statuses(route, 11).await, (413, 413));
}

#[tokio::test]
async fn b6_a_limit_is_raised_to_its_bound_at_most() {
    let called = Arc::new(AtomicU32::new(0));
    let counted = called.clone();
    let outer = RequestLimit::new(RequestLimitSettings::new(10).raisable_to(30)).unwrap();
    let route = ServiceBuilder::new()
        .layer(RequestLimitLayer::new(outer.clone()))
        .layer(RequestLimitLayer::new(1000))
        .service(service_fn(move |request| {
            counted.fetch_add(1, Relaxed);
            read(request)
        }));
    assert_eq!(statuses(route.clone(), 30).await, (200, 200));
    assert_eq!(called.load(Relaxed), 2);
    assert_eq!(statuses(route, 31).await, (413, 413));
    // A larger declared length is rejected at once.
    assert_eq!(called.load(Relaxed), 3);
    assert_eq!(outer.snapshot().rejected, 2);
}

#[tokio::test]
async fn b6_an_inner_limit_raises_all_that_are_raisable() {
    let raisable = || {
        RequestLimitLayer::new(
            RequestLimit::new(RequestLimitSettings::new(10).raisable_to(30)).unwrap(),
        )
    };
    let three = ServiceBuilder::new()
        .layer(raisable())
        .layer(raisable())
        .layer(RequestLimitLayer::new(20))
        .service(service_fn(read));
    assert_eq!(statuses(three.clone(), 20).await, (200, 200));
    assert_eq!(statuses(three, 21).await, (413, 413));
    let fixed = ServiceBuilder::new()
        .layer(raisable())
        .layer(RequestLimitLayer::new(15))
        .layer(RequestLimitLayer::new(20))
        .service(service_fn(read));
    assert_eq!(statuses(fixed.clone(), 15).await, (200, 200));
    assert_eq!(statuses(fixed, 16).await, (413, 413));
}

/// The body of another request that a handler sends does not use the limit of the route.
#[tokio::test]
async fn b6_a_clients_limit_raises_nothing() {
    let upstream = RequestLimitLayer::new(30).layer(service_fn(read));
    let route = RequestLimitLayer::new(
        RequestLimit::new(RequestLimitSettings::new(10).raisable_to(30)).unwrap(),
    )
    .layer(service_fn(
        move |request: Request<seawall::RequestBody<Script>>| {
            let upstream = upstream.clone();
            async move {
                let sent = upstream.oneshot(declared(30)).await.unwrap();
                assert_eq!(sent.status(), 200);
                read(request).await
            }
        },
    ));
    assert_eq!(statuses(route, 11).await, (413, 413));
}

/// A handler that does not read a body that is too large, and one that reads what it gets.
#[tokio::test]
async fn b6_a_raisable_limit_passes_nothing_of_a_body_that_declares_too_much() {
    let outer = RequestLimitLayer::new(
        RequestLimit::new(RequestLimitSettings::new(10).raisable_to(30)).unwrap(),
    );
    let ignores = outer.clone().layer(answers(|| ok(Script::data(&["fine"]))));
    let response = ignores.oneshot(declared(20)).await.unwrap();
    assert_eq!(response.status(), 200);

    let first = outer.layer(service_fn(|request: Request<_>| async move {
        let frame = Limited::new(request.into_body(), 100).frame().await;
        assert!(frame.unwrap().is_err(), "no byte");
        Ok::<_, Infallible>(ok(Script::data(&["fine"])))
    }));
    let mut request = declared(20);
    *request.body_mut() = Script::data(&["01234", "56789", "0123456789"]).exact(20);
    assert_eq!(first.oneshot(request).await.unwrap().status(), 413);
}

/// Answers after a time.
fn after(
    time: Duration,
) -> impl Service<
    Request<Script>,
    Response = Response<Script>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Script>, Infallible>>,
> + Clone {
    service_fn(move |_| async move {
        sleep(time).await;
        Ok(ok(Script::data(&["fine"])))
    })
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn raisable() -> Timeout {
    Timeout::new(TimeoutSettings::new(secs(5)).raisable_to(secs(60))).unwrap()
}

#[tokio::test(start_paused = true)]
async fn b6_an_inner_timeout_raises_the_outer_one() {
    let (outer, inner) = (raisable(), Timeout::from(secs(20)));
    let layers = ServiceBuilder::new()
        .layer(TimeoutLayer::new(outer.clone()))
        .layer(TimeoutLayer::new(inner.clone()));
    let (response, took) = timed(layers.service(after(secs(10))).oneshot(get())).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (200, secs(10)));
    let (response, took) = timed(layers.service(after(secs(30))).oneshot(get())).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (504, secs(20)));
    assert_eq!(inner.snapshot().timed_out, 1);
    assert_eq!(outer.snapshot().timed_out, 0);

    let other = TimeoutLayer::new(outer.clone()).layer(after(secs(30)));
    let (response, took) = timed(other.oneshot(get())).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (504, secs(5)));
    assert_eq!(outer.snapshot().timed_out, 1);
}

#[tokio::test(start_paused = true)]
async fn b6_a_timeout_is_raised_to_its_bound_at_most() {
    for longer in [secs(100), Duration::MAX] {
        let layers = ServiceBuilder::new()
            .layer(TimeoutLayer::new(raisable()))
            .layer(TimeoutLayer::new(longer));
        let (response, took) = timed(layers.service(after(secs(59))).oneshot(get())).await;
        assert_eq!((response.unwrap().status().as_u16(), took), (200, secs(59)));
        let (response, took) = timed(layers.service(after(secs(90))).oneshot(get())).await;
        assert_eq!((response.unwrap().status().as_u16(), took), (504, secs(60)));
    }
}

/// The shorter of two timeouts in a gate applies, and is raised as far as both allow.
#[tokio::test(start_paused = true)]
async fn b6_another_timeout_of_the_gate_bounds_what_is_raised() {
    macro_rules! play {
        ($policy:expr) => {{
            let route = TimeoutLayer::new(secs(40)).layer(after(secs(90)));
            let gate = GateLayer::from_policy($policy).layer(route);
            let (response, took) = timed(gate.oneshot(get())).await;
            assert_eq!(response.unwrap().status(), 504);
            took
        }};
    }
    let fixed = || Timeout::from(secs(10));
    assert_eq!(play!((raisable(), fixed())), secs(10));
    assert_eq!(play!((fixed(), raisable())), secs(10));
    let longer = || Timeout::new(TimeoutSettings::new(secs(10)).raisable_to(secs(30))).unwrap();
    assert_eq!(play!((raisable(), longer())), secs(30));
    assert_eq!(play!((Timeout::from(secs(3)), raisable())), secs(3));
}

#[tokio::test(start_paused = true)]
async fn b6_a_timeout_between_that_is_not_raisable_applies() {
    let layers = ServiceBuilder::new()
        .layer(TimeoutLayer::new(raisable()))
        .layer(TimeoutLayer::new(secs(10)))
        .layer(TimeoutLayer::new(secs(20)));
    let (response, took) = timed(layers.service(after(secs(30))).oneshot(get())).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (504, secs(10)));
}

#[tokio::test(start_paused = true)]
async fn b6_an_inner_timeout_raises_all_that_are_raisable() {
    let layers = ServiceBuilder::new()
        .layer(TimeoutLayer::new(raisable()))
        .layer(TimeoutLayer::new(raisable()))
        .layer(TimeoutLayer::new(secs(20)));
    let (response, took) = timed(layers.service(after(secs(10))).oneshot(get())).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (200, secs(10)));
}

/// A pooled timer that the next request gets is not raised any more.
#[tokio::test(start_paused = true)]
async fn b6_a_raise_ends_with_its_request() {
    seawall::pool_timers_when_paused();
    let layers = ServiceBuilder::new()
        .layer(TimeoutLayer::new(raisable()))
        .layer(TimeoutLayer::new(secs(20)));
    let (response, took) = timed(layers.service(after(secs(10))).oneshot(get())).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (200, secs(10)));
    let next = || TimeoutLayer::new(secs(5)).layer(after(secs(30)));
    let (one, other) = (next().oneshot(get()), next().oneshot(get()));
    let ((one, other), took) = timed(async { tokio::join!(one, other) }).await;
    assert_eq!(one.unwrap().status(), 504);
    assert_eq!(other.unwrap().status(), 504);
    assert_eq!(took, secs(5));
}

#[tokio::test(start_paused = true)]
async fn b6_a_clients_timeout_raises_nothing() {
    let upstream = TimeoutLayer::new(secs(50)).layer(after(secs(30)));
    let route = TimeoutLayer::new(raisable()).layer(service_fn(move |_: Request<Script>| {
        upstream.clone().oneshot(get())
    }));
    let (response, took) = timed(route.oneshot(get())).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (504, secs(5)));
}

#[tokio::test(start_paused = true)]
async fn b6_a_callers_own_time_is_not_raised() {
    let layers = ServiceBuilder::new()
        .layer(TimeoutLayer::new(raisable()))
        .layer(TimeoutLayer::new(secs(20)));
    let call = |time: &'static str| {
        let mut request = grpc();
        let time = HeaderValue::from_static(time);
        request.headers_mut().insert("grpc-timeout", time);
        timed(layers.service(after(secs(30))).oneshot(request))
    };
    for (time, took) in [("2S", 2), ("12S", 12), ("50S", 20)] {
        let (response, time) = call(time).await;
        assert_eq!(response.unwrap().headers()["grpc-status"], "4");
        assert_eq!(time, secs(took));
    }
}

/// The deadline that a handler reads, from the outermost layer.
async fn left(
    layers: impl Layer<Left, Service = impl Service<Request<Script>, Error = Infallible>>,
) -> Option<Duration> {
    let left = Left(Arc::default());
    let read = left.clone();
    let _ = layers.layer(left).oneshot(get()).await;
    read.0.lock().unwrap().take()
}

#[derive(Clone)]
struct Left(Arc<std::sync::Mutex<Option<Duration>>>);

impl Service<Request<Script>> for Left {
    type Response = Response<Script>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Script>, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Script>) -> Self::Future {
        let deadline = request.extensions().get::<Deadline>();
        *self.0.lock().unwrap() = deadline.map(Deadline::remaining);
        std::future::ready(Ok(ok(Script::data(&["fine"]))))
    }
}

#[tokio::test(start_paused = true)]
async fn b6_the_deadline_of_a_handler_is_the_raised_one() {
    let outer = || TimeoutLayer::new(raisable()).expose_deadline();
    let layers = ServiceBuilder::new().layer(outer());
    assert_eq!(left(layers.clone()).await, Some(secs(5)));
    let inner = layers.clone().layer(TimeoutLayer::new(secs(20)));
    assert_eq!(left(inner).await, Some(secs(20)));
    // It is raised at most to the bound, also by an infinite time, and not beyond a layer in
    // between.
    let inner = layers.clone().layer(TimeoutLayer::new(Duration::MAX));
    assert_eq!(left(inner).await, Some(secs(60)));
    let inner = layers.clone().layer(TimeoutLayer::new(secs(100)));
    assert_eq!(left(inner).await, Some(secs(60)));
    let between = layers.clone().layer(TimeoutLayer::new(secs(10)));
    let inner = between.layer(TimeoutLayer::new(secs(20)));
    assert_eq!(left(inner).await, Some(secs(10)));
    let between = layers.layer(TimeoutLayer::new(secs(10)).expose_deadline());
    let inner = between.layer(TimeoutLayer::new(secs(20)));
    assert_eq!(left(inner).await, Some(secs(10)));
    let fixed = ServiceBuilder::new().layer(TimeoutLayer::new(secs(8)).expose_deadline());
    let inner = fixed.layer(outer()).layer(TimeoutLayer::new(secs(20)));
    assert_eq!(left(inner).await, Some(secs(8)));
}

/// A deadline of another layer, outside or in between, is not raised.
#[tokio::test(start_paused = true)]
async fn b6_a_deadline_of_another_layer_stays() {
    let outer = || TimeoutLayer::new(raisable()).expose_deadline();
    let deadline = |time| {
        tower::util::MapRequestLayer::new(move |mut request: Request<Script>| {
            request.extensions_mut().insert(Deadline::after(time));
            request
        })
    };
    let outside = ServiceBuilder::new()
        .layer(deadline(secs(3)))
        .layer(outer());
    let inner = outside.layer(TimeoutLayer::new(secs(20)));
    assert_eq!(left(inner.clone()).await, Some(secs(3)));
    let (response, took) = timed(inner.service(after(secs(30))).oneshot(get())).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (504, secs(3)));
    let between = ServiceBuilder::new()
        .layer(outer())
        .layer(deadline(secs(2)));
    let inner = between.layer(TimeoutLayer::new(secs(20)));
    assert_eq!(left(inner).await, Some(secs(2)));
}

/// An outer layer does not raise the limit of an inner one.
#[tokio::test(start_paused = true)]
async fn b6_an_outer_layer_raises_no_inner_one() {
    let inner = || {
        RequestLimitLayer::new(
            RequestLimit::new(RequestLimitSettings::new(10).raisable_to(30)).unwrap(),
        )
    };
    let raisable_around = RequestLimit::new(RequestLimitSettings::new(20).raisable_to(30)).unwrap();
    for around in [RequestLimit::from(20), raisable_around] {
        let route = ServiceBuilder::new()
            .layer(inner())
            .layer(RequestLimitLayer::new(around))
            .layer(inner())
            .service(service_fn(read));
        assert_eq!(statuses(route.clone(), 10).await, (200, 200));
        assert_eq!(statuses(route, 15).await, (413, 413));
    }
    let layers = ServiceBuilder::new()
        .layer(TimeoutLayer::new(
            Timeout::new(TimeoutSettings::new(secs(1)).raisable_to(secs(60))).unwrap(),
        ))
        .layer(TimeoutLayer::new(secs(20)))
        .layer(TimeoutLayer::new(raisable()));
    let (response, took) = timed(layers.service(after(secs(30))).oneshot(get())).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (504, secs(5)));
}

/// A deadline for head and body is raised for both.
#[tokio::test(start_paused = true)]
async fn b6_the_deadline_of_a_body_is_raised() {
    let answer = || answers(|| ok(Script::new([Step::Data("first"), Step::Silent])));
    async fn ends<S, B: Body>(service: S) -> Duration
    where
        S: Service<Request<Script>, Response = Response<B>, Error = Infallible>,
    {
        let response = service.oneshot(get()).await.unwrap();
        let (read, took) = timed(response.into_body().collect()).await;
        assert!(read.is_err());
        took
    }
    let outer = TimeoutLayer::new(raisable()).including_body();
    assert_eq!(ends(outer.clone().layer(answer())).await, secs(5));
    let route = ServiceBuilder::new()
        .layer(outer)
        .layer(TimeoutLayer::new(secs(20)))
        .service(answer());
    assert_eq!(ends(route).await, secs(20));
}

/// One gate has both limits, and an inner gate raises both.
#[tokio::test(start_paused = true)]
async fn b6_a_stack_is_raised_by_the_layers_of_a_route() {
    let stack = seawall::server()
        .timeout(raisable())
        .request_limit(RequestLimit::new(RequestLimitSettings::new(10).raisable_to(30)).unwrap())
        .build()
        .unwrap();
    let slow = || {
        service_fn(async |request| {
            sleep(secs(10)).await;
            read(request).await
        })
    };
    let route = ServiceBuilder::new()
        .layer(stack.clone())
        .layer(TimeoutLayer::new(secs(20)))
        .layer(RequestLimitLayer::new(20))
        .service(slow());
    assert_eq!(statuses(route.clone(), 20).await, (200, 200));
    assert_eq!(statuses(route, 21).await, (413, 413));
    let route = stack.layer(service_fn(async |request| {
        let _ = read(request).await;
        pending::<Result<Response<Script>, Infallible>>().await
    }));
    let (response, took) = timed(route.oneshot(get())).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (504, secs(5)));
}

/// Another task has a body whose limit may be raised when the gate answers.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_raisable_body_elsewhere_is_dropped() {
    let (token, kept) = (Arc::new(()), Arc::new(Mutex::new(None)));
    let keeps = kept.clone();
    let settings = RequestLimitSettings::new(3).raisable_to(4);
    let limit = RequestLimit::new(settings).unwrap();
    let policies = (Timeout::from(secs(1)), limit);
    let handler = service_fn(move |request: Request<RequestBody<Script>>| {
        *keeps.lock().unwrap() = Some(request.into_body());
        pending::<Result<Response<Script>, Infallible>>()
    });
    let body = Script::data(&["abc", "def"]).holding(&token);
    let service = GateLayer::from_policy(policies).layer(handler);
    assert_eq!(service.oneshot(post(body)).await.unwrap().status(), 504);
    let mut body = kept.lock().unwrap().take().unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(Arc::strong_count(&token), 2);
    body.frame().await.unwrap().unwrap_err();
    assert_eq!(Arc::strong_count(&token), 1);
}
