//! The rows: seawall first, then its peers, with their defaults or with the settings that do the
//! same.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use failsafe::{CircuitBreaker as _, Config, backoff, failure_policy};
use http::StatusCode;
use recloser::Recloser;
use seawall::circuit_breaker::Window;
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, ConcurrencyLimit,
    ConcurrencyLimitLayer, LagShedLayer, RequestLimitLayer, ResponseBodyTimeoutSettings,
    TimeoutLayer,
};
use tower::{BoxError, Layer, Service, ServiceBuilder};
use tower_resilience_adaptive as adaptive;
use tower_resilience_bulkhead as bulkhead;
use tower_resilience_circuitbreaker as resilience;

use crate::bench::{BARE, Bench, FEATURES};
use crate::drive::{Bare, Later, Rejected, Streamed, http, later, plain, runtime, six_headers};
use crate::stacks;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

type Plain = Bare<Rejected>;
type Boxed = Bare<BoxError>;
type Http = Bare<Infallible>;

pub(crate) fn all(bench: &mut Bench) {
    // Some layers need a runtime.
    let _runtime = runtime().enter();
    // The features change the cost of the stack. The single layers are measured without them.
    if FEATURES.is_empty() {
        bench.service(BARE, "plain", None, plain, Plain::new);
        bench.service(BARE, "boxed error", None, plain, Boxed::new);
        bench.service(BARE, "later", None, later, || Later);
        bench.service(BARE, "http", None, http, Http::new);
        bench.service(BARE, "six headers", None, six_headers, Http::new);
        bench.service(BARE, "streamed", None, http, || Streamed);
        breaker(bench);
        limit(bench);
        lag(bench);
        timeout(bench);
        watched(bench);
        request(bench);
        panic(bench);
    }
    stacks::all(bench);
}

fn breaker(bench: &mut Bench) {
    const CLOSED: &str = "breaker_closed";
    const HTTP: &str = "breaker_closed_http";
    const OPEN: &str = "breaker_open";
    let layer = |breaker| CircuitBreakerLayer::new(breaker).plain();
    let calls = CircuitBreakerSettings::default().window(Window::count_based(100));
    let calls = CircuitBreaker::new(calls).expect("a breaker");
    bench.service(CLOSED, "seawall", "plain", plain, || {
        layer(CircuitBreaker::default()).layer(Plain::new())
    });
    bench.service(CLOSED, "seawall, last 100 calls", "plain", plain, || {
        layer(calls.clone()).layer(Plain::new())
    });
    let handle = |breaker: CircuitBreaker| {
        move || match breaker.try_acquire() {
            Ok(permit) => permit.success(),
            Err(_) => unreachable!("it is closed"),
        }
    };
    bench.case(CLOSED, "seawall, handle", None, || {
        handle(CircuitBreaker::default())
    });
    bench.case(CLOSED, "seawall, handle, last 100 calls", None, || {
        handle(calls.clone())
    });
    bench.case(CLOSED, "recloser", None, || {
        let breaker = Recloser::default();
        move || drop(breaker.call(|| Ok::<_, Infallible>(black_box(7))))
    });
    bench.case(CLOSED, "failsafe", None, || {
        let breaker = Config::new().build();
        move || drop(breaker.call(|| Ok::<_, Infallible>(black_box(7))))
    });
    let theirs = || resilience::CircuitBreakerLayer::builder();
    bench.service(CLOSED, "tower-resilience", "plain", plain, || {
        theirs().build().expect("a breaker").layer(Plain::new())
    });

    bench.service(HTTP, "seawall", "http", http, || {
        CircuitBreakerLayer::new(CircuitBreaker::default()).layer(Http::new())
    });
    bench.service(HTTP, "tower-resilience", "http", http, || {
        theirs().build().expect("a breaker").layer(Http::new())
    });

    let open = || {
        let settings = CircuitBreakerSettings::default().open_duration(MINUTE);
        let breaker = CircuitBreaker::new(settings).expect("a breaker");
        breaker.trip();
        breaker
    };
    bench.service(OPEN, "seawall", "plain", plain, || {
        layer(open()).layer(Plain::new())
    });
    bench.case(OPEN, "seawall, handle", None, || {
        let breaker = open();
        move || drop(breaker.try_acquire())
    });
    bench.case(OPEN, "recloser", None, || {
        let breaker = Recloser::custom().open_wait(MINUTE).build();
        for _ in 0..200 {
            let _ = breaker.call(|| Err::<u64, _>("fails"));
        }
        move || drop(breaker.call(|| Ok::<_, &str>(7)))
    });
    bench.case(OPEN, "failsafe", None, || {
        let policy = failure_policy::consecutive_failures(1, backoff::constant(MINUTE));
        let breaker = Config::new().failure_policy(policy).build();
        let _ = breaker.call(|| Err::<u64, _>("fails"));
        move || drop(breaker.call(|| Ok::<_, &str>(7)))
    });
    bench.service(OPEN, "tower-resilience", "boxed error", plain, || {
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
        layer.expect("a breaker").layer(service)
    });
    bench.service("breaker_open_http", "seawall", "http", http, || {
        CircuitBreakerLayer::new(open()).layer(Http::new())
    });
}

fn limit(bench: &mut Bench) {
    const ADMIT: &str = "limit_admit";
    const FULL: &str = "limit_full";
    bench.service(ADMIT, "seawall", "plain", plain, || {
        ConcurrencyLimitLayer::new(1).plain().layer(Plain::new())
    });
    bench.service(ADMIT, "tower", "boxed error", plain, || {
        let stack = ServiceBuilder::new().load_shed().concurrency_limit(1);
        stack.service(Boxed::new())
    });
    bench.service(ADMIT, "tower-resilience", "boxed error", plain, || {
        let layer = bulkhead::BulkheadLayer::builder().max_concurrent_calls(1);
        layer.build().expect("a limit").layer(Boxed::new())
    });
    bench.service("limit_admit_http", "seawall", "http", http, || {
        ConcurrencyLimitLayer::new(1).layer(Http::new())
    });

    let full = || {
        let limit = ConcurrencyLimit::from(1);
        let permit = limit.try_acquire_owned().expect("a permit");
        (limit, permit)
    };
    bench.case(FULL, "seawall", "plain", || {
        let (limit, permit) = full();
        let mut service = ConcurrencyLimitLayer::new(limit)
            .plain()
            .layer(Plain::new());
        move || {
            let _held = &permit;
            plain(&mut service);
        }
    });
    bench.case(FULL, "tower", "boxed error", || {
        let layer = tower::limit::GlobalConcurrencyLimitLayer::new(1);
        let mut holder = layer.layer(Boxed::new());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        // The service that is ready holds the permit.
        assert!(Service::<u64>::poll_ready(&mut holder, &mut cx).is_ready());
        let mut service = ServiceBuilder::new()
            .load_shed()
            .layer(layer)
            .service(Boxed::new());
        move || {
            let _held = &holder;
            plain(&mut service);
        }
    });
    bench.case("limit_full_http", "seawall", "http", || {
        let (limit, permit) = full();
        let mut service = ConcurrencyLimitLayer::new(limit).layer(Http::new());
        move || {
            let _held = &permit;
            http(&mut service);
        }
    });
}

fn lag(bench: &mut Bench) {
    const LAG: &str = "lag_shed";
    let layer = || LagShedLayer::new(stacks::lag());
    bench.service(LAG, "seawall", "plain", plain, || {
        layer().plain().layer(Plain::new())
    });
    bench.service(LAG, "tower, load_shed", "boxed error", plain, || {
        ServiceBuilder::new().load_shed().service(Boxed::new())
    });
    bench.service(
        LAG,
        "tower-resilience adaptive",
        "boxed error",
        plain,
        || {
            let limit = adaptive::Aimd::builder().initial_limit(100).build();
            adaptive::AdaptiveLimiterLayer::new(limit.expect("a limit")).layer(Boxed::new())
        },
    );
    bench.service(LAG, "little-loadshedder", "boxed error", plain, || {
        little_loadshedder::LoadShedLayer::new(0.01, MINUTE).layer(Boxed::new())
    });
    bench.service("lag_shed_http", "seawall", "http", http, || {
        layer().layer(Http::new())
    });
}

fn timeout(bench: &mut Bench) {
    const READY: &str = "timeout_ready";
    const HTTP: &str = "timeout_ready_http";
    const PENDING: &str = "timeout_pending";
    bench.service(READY, "seawall", "plain", plain, || {
        TimeoutLayer::new(SECOND).plain().layer(Plain::new())
    });
    bench.service(READY, "tower", "boxed error", plain, || {
        ServiceBuilder::new().timeout(SECOND).service(Boxed::new())
    });
    bench.service(HTTP, "seawall", "http", http, || {
        TimeoutLayer::new(SECOND).layer(Http::new())
    });
    bench.service(HTTP, "tower-http", "http", http, || {
        let status = StatusCode::GATEWAY_TIMEOUT;
        tower_http::timeout::TimeoutLayer::with_status_code(status, SECOND).layer(Http::new())
    });
    bench.service(PENDING, "seawall", "later", later, || {
        TimeoutLayer::new(SECOND).plain().layer(Later)
    });
    bench.service(PENDING, "tower", "later", later, || {
        ServiceBuilder::new().timeout(SECOND).service(Later)
    });
}

/// Response bodies of unknown size that a timeout can end.
fn watched(bench: &mut Bench) {
    const WATCHED: &str = "response_timeout";
    bench.service(WATCHED, "seawall", "streamed", http, || {
        let layer = TimeoutLayer::new(SECOND)
            .response_body_timeout(ResponseBodyTimeoutSettings::default().progress_timeout(MINUTE));
        layer.layer(Streamed)
    });
    bench.service(WATCHED, "seawall, idle alone", "streamed", http, || {
        let layer = TimeoutLayer::new(SECOND)
            .response_body_timeout(ResponseBodyTimeoutSettings::default().idle_timeout(MINUTE));
        layer.layer(Streamed)
    });
    // It bounds the silence between two frames, while the connection polls the body.
    bench.service(WATCHED, "tower-http, idle alone", "streamed", http, || {
        ServiceBuilder::new()
            .layer(tower_http::timeout::ResponseBodyTimeoutLayer::new(MINUTE))
            .layer(tower_http::timeout::TimeoutLayer::with_status_code(
                StatusCode::GATEWAY_TIMEOUT,
                SECOND,
            ))
            .service(Streamed)
    });
}

fn request(bench: &mut Bench) {
    const REQUEST: &str = "request_limit";
    const DECLARED: &str = "request_limit_declared";
    let ours = || RequestLimitLayer::new(1000).layer(Http::new());
    let theirs = || tower_http::limit::RequestBodyLimitLayer::new(1000).layer(Http::new());
    bench.service(REQUEST, "seawall", "http", http, ours);
    bench.service(REQUEST, "tower-http", "http", http, theirs);
    bench.service(DECLARED, "seawall", "six headers", six_headers, ours);
    bench.service(DECLARED, "tower-http", "six headers", six_headers, theirs);
}

fn panic(bench: &mut Bench) {
    const HTTP: &str = "catch_panic_http";
    bench.service("catch_panic", "seawall", "plain", plain, || {
        CatchPanicLayer::new().plain().layer(Plain::new())
    });
    bench.service(HTTP, "seawall", "http", http, || {
        CatchPanicLayer::new().layer(Http::new())
    });
    bench.service(HTTP, "tower-http", "http", http, || {
        tower_http::catch_panic::CatchPanicLayer::new().layer(Http::new())
    });
}
