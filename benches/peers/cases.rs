//! The rows: ours first, then its peers, each as its defaults have it or as it must be to do the same.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use failsafe::{CircuitBreaker as _, Config, backoff, failure_policy};
use http::StatusCode;
use http_body_util::Full;
use recloser::Recloser;
use seawall::circuit_breaker::Window;
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimit, ConcurrencyLimitLayer,
    LagShed, LagShedLayer, RequestLimitLayer, TimeoutLayer,
};
use tower::{BoxError, Layer, Service, ServiceBuilder};
use tower_resilience_adaptive as adaptive;
use tower_resilience_bulkhead as bulkhead;
use tower_resilience_circuitbreaker as resilience;

use crate::bench::{BARE, Bench};
use crate::drive::{Bare, Later, Refused, http, later, plain, runtime};
use crate::stacks;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn all(bench: &mut Bench) {
    // Whatever asks for a runtime finds one.
    let _runtime = runtime().enter();
    bench.case(BARE, "plain", None, || over(Bare::<Refused>::new()));
    bench.case(BARE, "boxed error", None, || over(Bare::<BoxError>::new()));
    bench.case(BARE, "later", None, || over_later(Later));
    bench.case(BARE, "http", None, || over_http(Bare::new()));
    breaker(bench);
    limit(bench);
    lag(bench);
    timeout(bench);
    rest(bench);
    stacks::all(bench);
}

fn over<S: Service<u64>>(mut service: S) -> impl FnMut() {
    move || plain(&mut service)
}

fn over_later<S: Service<u64>>(mut service: S) -> impl FnMut() {
    move || later(&mut service)
}

fn over_http<S>(mut service: S) -> impl FnMut()
where
    S: Service<http::Request<crate::drive::ReqBody>, Response = http::Response<Full<Bytes>>>,
{
    move || http(&mut service)
}

fn breaker(bench: &mut Bench) {
    const CLOSED: &str = "breaker_closed";
    const OPEN: &str = "breaker_open";
    let layer = |breaker| CircuitBreakerLayer::new(breaker).plain();
    let calls = CircuitBreaker::builder().window(Window::calls(100));
    let calls = calls.build().expect("a breaker");
    bench.case(CLOSED, "seawall", "plain", || {
        over(layer(CircuitBreaker::default()).layer(Bare::<Refused>::new()))
    });
    bench.case(CLOSED, "seawall, last 100 calls", "plain", || {
        over(layer(calls.clone()).layer(Bare::<Refused>::new()))
    });
    bench.case(CLOSED, "seawall, handle", None, || {
        let breaker = CircuitBreaker::default();
        move || match breaker.try_acquire() {
            Ok(ticket) => ticket.success(),
            Err(_) => unreachable!("it is closed"),
        }
    });
    bench.case(CLOSED, "recloser", None, || {
        let breaker = Recloser::default();
        move || drop(breaker.call(|| Ok::<_, Infallible>(std::hint::black_box(7))))
    });
    bench.case(CLOSED, "failsafe", None, || {
        let breaker = Config::new().build();
        move || drop(breaker.call(|| Ok::<_, Infallible>(std::hint::black_box(7))))
    });
    let theirs = || resilience::CircuitBreakerLayer::builder();
    bench.case(CLOSED, "tower-resilience", "plain", || {
        let layer = theirs().build().expect("a breaker");
        over(layer.layer(Bare::<Refused>::new()))
    });

    bench.case(OPEN, "seawall", "plain", || {
        let breaker = CircuitBreaker::builder().open_for(MINUTE);
        let breaker = breaker.build().expect("a breaker");
        breaker.trip();
        over(layer(breaker).layer(Bare::<Refused>::new()))
    });
    bench.case(OPEN, "seawall, handle", None, || {
        let breaker = CircuitBreaker::builder().open_for(MINUTE);
        let breaker = breaker.build().expect("a breaker");
        breaker.trip();
        move || drop(breaker.try_acquire())
    });
    bench.case(OPEN, "failsafe", None, || {
        let policy = failure_policy::consecutive_failures(1, backoff::constant(MINUTE));
        let breaker = Config::new().failure_policy(policy).build();
        let _ = breaker.call(|| Err::<u64, _>("fails"));
        move || drop(breaker.call(|| Ok::<_, &str>(7)))
    });
    bench.case(OPEN, "recloser", None, || {
        let breaker = Recloser::custom().open_wait(MINUTE).build();
        for _ in 0..200 {
            let _ = breaker.call(|| Err::<u64, _>("fails"));
        }
        move || drop(breaker.call(|| Ok::<_, &str>(7)))
    });
    bench.case(OPEN, "tower-resilience", "boxed error", || {
        let layer = theirs()
            .consecutive_failures(1)
            .wait_duration_in_open(MINUTE)
            .build();
        let mut fails = true;
        let service = tower::service_fn(move |number: u64| {
            let result = if std::mem::replace(&mut fails, false) {
                Err(BoxError::from("fails"))
            } else {
                Ok(number)
            };
            std::future::ready(result)
        });
        over(layer.expect("a breaker").layer(service))
    });
}

fn limit(bench: &mut Bench) {
    const ADMIT: &str = "limit_admit";
    const FULL: &str = "limit_full";
    bench.case(ADMIT, "seawall", "plain", || {
        over(
            ConcurrencyLimitLayer::new(1)
                .plain()
                .layer(Bare::<Refused>::new()),
        )
    });
    bench.case(ADMIT, "tower", "boxed error", || {
        let stack = ServiceBuilder::new().load_shed().concurrency_limit(1);
        over(stack.service(Bare::<BoxError>::new()))
    });
    bench.case(ADMIT, "tower-resilience", "boxed error", || {
        let layer = bulkhead::BulkheadLayer::builder().max_concurrent_calls(1);
        over(
            layer
                .build()
                .expect("a limit")
                .layer(Bare::<BoxError>::new()),
        )
    });

    bench.case(FULL, "seawall", "plain", || {
        let limit = ConcurrencyLimit::new(1);
        let permit = limit.try_acquire().expect("a place");
        let layer = ConcurrencyLimitLayer::new(limit).plain();
        let mut service = layer.layer(Bare::<Refused>::new());
        move || {
            let _held = &permit;
            plain(&mut service);
        }
    });
    bench.case(FULL, "tower", "boxed error", || {
        let layer = tower::limit::GlobalConcurrencyLimitLayer::new(1);
        let mut holder = layer.layer(Bare::<BoxError>::new());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        // Ready, it holds the place.
        assert!(Service::<u64>::poll_ready(&mut holder, &mut cx).is_ready());
        let stack = ServiceBuilder::new().load_shed().layer(layer);
        let mut service = stack.service(Bare::<BoxError>::new());
        move || {
            let _held = &holder;
            plain(&mut service);
        }
    });
}

fn lag(bench: &mut Bench) {
    const LAG: &str = "lag_shed";
    bench.case(LAG, "seawall", "plain", || {
        let lag = LagShed::default();
        lag.start(runtime().handle());
        over(LagShedLayer::new(lag).plain().layer(Bare::<Refused>::new()))
    });
    bench.case(LAG, "tower-resilience adaptive", "boxed error", || {
        let limit = adaptive::Aimd::builder().initial_limit(100).build();
        let layer = adaptive::AdaptiveLimiterLayer::new(limit.expect("a limit"));
        over(layer.layer(Bare::<BoxError>::new()))
    });
    bench.case(LAG, "little-loadshedder", "boxed error", || {
        let layer = little_loadshedder::LoadShedLayer::new(0.01, MINUTE);
        over(layer.layer(Bare::<BoxError>::new()))
    });
}

fn timeout(bench: &mut Bench) {
    const READY: &str = "timeout_ready";
    const PENDING: &str = "timeout_pending";
    const HTTP: &str = "timeout_ready_http";
    bench.case(READY, "seawall", "plain", || {
        over(
            TimeoutLayer::new(SECOND)
                .plain()
                .layer(Bare::<Refused>::new()),
        )
    });
    bench.case(READY, "tower", "boxed error", || {
        let stack = ServiceBuilder::new().timeout(SECOND);
        over(stack.service(Bare::<BoxError>::new()))
    });
    bench.case(PENDING, "seawall", "later", || {
        over_later(TimeoutLayer::new(SECOND).plain().layer(Later))
    });
    bench.case(PENDING, "tower", "later", || {
        over_later(ServiceBuilder::new().timeout(SECOND).service(Later))
    });
    bench.case(HTTP, "seawall", "http", || {
        let mut service = TimeoutLayer::new(SECOND).layer(Bare::<Infallible>::new());
        move || http(&mut service)
    });
    bench.case(HTTP, "tower-http", "http", || {
        let status = StatusCode::GATEWAY_TIMEOUT;
        let layer = tower_http::timeout::TimeoutLayer::with_status_code(status, SECOND);
        let mut service = layer.layer(Bare::<Infallible>::new());
        move || http(&mut service)
    });
}

fn rest(bench: &mut Bench) {
    const REQUEST: &str = "request_limit";
    const PANIC: &str = "catch_panic";
    bench.case(REQUEST, "seawall", "http", || {
        let mut service = RequestLimitLayer::new(1000).layer(Bare::<Infallible>::new());
        move || http(&mut service)
    });
    bench.case(REQUEST, "tower-http", "http", || {
        let layer = tower_http::limit::RequestBodyLimitLayer::new(1000);
        let mut service = layer.layer(Bare::<Infallible>::new());
        move || http(&mut service)
    });
    bench.case(PANIC, "seawall", "plain", || {
        over(CatchPanicLayer::new().plain().layer(Bare::<Refused>::new()))
    });
    bench.case(PANIC, "seawall, http", "http", || {
        let mut service = CatchPanicLayer::new().layer(Bare::<Infallible>::new());
        move || http(&mut service)
    });
    bench.case(PANIC, "tower-http", "http", || {
        let layer = tower_http::catch_panic::CatchPanicLayer::new();
        let mut service = layer.layer(Bare::<Infallible>::new());
        move || http(&mut service)
    });
    // A gate alone over HTTP, as others have none.
    bench.case("breaker_http", "seawall", "http", || {
        let layer = CircuitBreakerLayer::new(CircuitBreaker::default());
        let mut service = layer.layer(Bare::<Infallible>::new());
        move || http(&mut service)
    });
    bench.case("limit_http", "seawall", "http", || {
        let mut service = ConcurrencyLimitLayer::new(1).layer(Bare::<Infallible>::new());
        move || http(&mut service)
    });
    bench.case("lag_shed_http", "seawall", "http", || {
        let lag = LagShed::default();
        lag.start(runtime().handle());
        let mut service = LagShedLayer::new(lag).layer(Bare::<Infallible>::new());
        move || http(&mut service)
    });
}
