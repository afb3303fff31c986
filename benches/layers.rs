//! What each layer costs per request beside its peer in tower or tower-http: `cargo bench --bench layers`.
//!
//! Every pair runs in the same process over the same service, which is ready at its first poll; the ratio is what counts.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use divan::{Bencher, black_box};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use seawall::{
    CatchPanicLayer, ConcurrencyLimit, ConcurrencyLimitLayer, LagShed, LagShedLayer, LoadSignal,
    RequestLimitLayer, TimeoutLayer,
};
use tower::{BoxError, Layer, Service, ServiceBuilder};

type ReqBody = Empty<Bytes>;
type ResBody = Full<Bytes>;

/// Where every layer is measured against.
#[derive(Clone)]
struct Bare;

impl<B> Service<Request<B>> for Bare {
    type Response = Response<ResBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<ResBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        drop(request);
        ready(Ok(Response::new(Full::from("hello"))))
    }
}

impl Service<u64> for Bare {
    type Response = u64;
    type Error = BoxError;
    type Future = Ready<Result<u64, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, number: u64) -> Self::Future {
        ready(Ok(number))
    }
}

/// Readiness, the call, and the response body to its end.
fn http<S, B>(bencher: Bencher<'_, '_>, mut service: S)
where
    S: Service<Request<ReqBody>, Response = Response<B>, Error: std::fmt::Debug>,
    B: http_body::Body,
{
    bencher
        .with_inputs(|| Request::new(Empty::new()))
        .bench_local_values(|request| {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(service.poll_ready(&mut cx).is_ready());
            let mut call = std::pin::pin!(service.call(request));
            let Poll::Ready(Ok(response)) = call.as_mut().poll(&mut cx) else {
                unreachable!("ready at the first poll");
            };
            let mut body = std::pin::pin!(response.into_body());
            while !matches!(
                black_box(body.as_mut().poll_frame(&mut cx)),
                Poll::Ready(None)
            ) {}
        });
}

fn plain<S>(bencher: Bencher<'_, '_>, mut service: S)
where
    S: Service<u64, Response = u64>,
{
    bencher.bench_local(|| {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let mut call = std::pin::pin!(service.call(black_box(7)));
        black_box(call.as_mut().poll(&mut cx).is_ready())
    });
}

fn main() {
    divan::main();
}

#[divan::bench]
fn http_bare(bencher: Bencher<'_, '_>) {
    http(bencher, Bare);
}

#[divan::bench]
fn plain_bare(bencher: Bencher<'_, '_>) {
    plain(bencher, Bare);
}

mod limit {
    use super::*;

    #[divan::bench]
    fn seawall(bencher: Bencher<'_, '_>) {
        plain(bencher, ConcurrencyLimitLayer::new(1).plain().layer(Bare));
    }

    #[divan::bench]
    fn tower(bencher: Bencher<'_, '_>) {
        let stack = ServiceBuilder::new().load_shed().concurrency_limit(1);
        plain(bencher, stack.service(Bare));
    }

    #[divan::bench]
    fn seawall_full(bencher: Bencher<'_, '_>) {
        let limit = ConcurrencyLimit::new(1);
        let _permit = limit.try_acquire().unwrap();
        plain(
            bencher,
            ConcurrencyLimitLayer::new(limit).plain().layer(Bare),
        );
    }

    #[divan::bench]
    fn seawall_http(bencher: Bencher<'_, '_>) {
        http(bencher, ConcurrencyLimitLayer::new(1).layer(Bare));
    }

    #[divan::bench]
    fn seawall_http_full(bencher: Bencher<'_, '_>) {
        let limit = ConcurrencyLimit::new(1);
        let _permit = limit.try_acquire().unwrap();
        http(bencher, ConcurrencyLimitLayer::new(limit).layer(Bare));
    }
}

mod lag_shed {
    use super::*;

    /// It decides by the runtime that a request is in.
    fn in_runtime() -> tokio::runtime::EnterGuard<'static> {
        runtime().enter()
    }

    #[divan::bench]
    fn seawall(bencher: Bencher<'_, '_>) {
        let _runtime = in_runtime();
        let lag = LagShed::from(LoadSignal::new("calm", || 0.0));
        plain(bencher, LagShedLayer::new(lag).plain().layer(Bare));
    }

    #[divan::bench]
    fn seawall_shedding(bencher: Bencher<'_, '_>) {
        let _runtime = in_runtime();
        let lag = LagShed::from(LoadSignal::new("overloaded", || 10.0));
        lag.start(runtime().handle());
        while lag.snapshot().shed < 1.0 {
            std::thread::yield_now();
        }
        plain(bencher, LagShedLayer::new(lag).plain().layer(Bare));
    }

    /// No peer measures lag; this one sheds when the inner service is not ready.
    #[divan::bench]
    fn tower_load_shed(bencher: Bencher<'_, '_>) {
        plain(bencher, ServiceBuilder::new().load_shed().service(Bare));
    }

    #[divan::bench]
    fn seawall_http(bencher: Bencher<'_, '_>) {
        let _runtime = in_runtime();
        let lag = LagShed::from(LoadSignal::new("calm", || 0.0));
        http(bencher, LagShedLayer::new(lag).layer(Bare));
    }
}

mod timeout {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[divan::bench]
    fn seawall(bencher: Bencher<'_, '_>) {
        plain(bencher, TimeoutLayer::new(SECOND).plain().layer(Bare));
    }

    #[divan::bench]
    fn tower(bencher: Bencher<'_, '_>) {
        let _runtime = runtime().enter();
        plain(bencher, ServiceBuilder::new().timeout(SECOND).service(Bare));
    }

    #[divan::bench]
    fn seawall_http(bencher: Bencher<'_, '_>) {
        http(bencher, TimeoutLayer::new(SECOND).layer(Bare));
    }

    #[divan::bench]
    fn seawall_http_including_body(bencher: Bencher<'_, '_>) {
        let layer = TimeoutLayer::new(SECOND).including_body();
        http(bencher, layer.body_idle(SECOND).layer(Bare));
    }

    #[divan::bench]
    fn seawall_http_expose_deadline(bencher: Bencher<'_, '_>) {
        let layer = TimeoutLayer::new(SECOND).expose_deadline();
        http(bencher, layer.layer(Bare));
    }

    #[divan::bench]
    fn tower_http(bencher: Bencher<'_, '_>) {
        let _runtime = runtime().enter();
        let status = http::StatusCode::GATEWAY_TIMEOUT;
        let layer = tower_http::timeout::TimeoutLayer::with_status_code(status, SECOND);
        http(bencher, layer.layer(Bare));
    }
}

mod catch_panic {
    use super::*;

    #[divan::bench]
    fn seawall(bencher: Bencher<'_, '_>) {
        http(bencher, CatchPanicLayer::new().layer(Bare));
    }

    #[divan::bench]
    fn tower_http(bencher: Bencher<'_, '_>) {
        http(
            bencher,
            tower_http::catch_panic::CatchPanicLayer::new().layer(Bare),
        );
    }
}

mod request_limit {
    use super::*;

    #[divan::bench]
    fn seawall(bencher: Bencher<'_, '_>) {
        http(bencher, RequestLimitLayer::new(1000).layer(Bare));
    }

    #[divan::bench]
    fn seawall_all_limits(bencher: Bencher<'_, '_>) {
        let second = Duration::from_secs(1);
        let layer = RequestLimitLayer::new(1000)
            .headers(16_384, 100)
            .uri(8192)
            .body_idle(second)
            .body_deadline(second)
            .body_rate(500, second);
        http(bencher, layer.layer(Bare));
    }

    #[divan::bench]
    fn tower_http(bencher: Bencher<'_, '_>) {
        http(
            bencher,
            tower_http::limit::RequestBodyLimitLayer::new(1000).layer(Bare),
        );
    }
}

mod stack {
    use super::*;

    #[divan::bench]
    fn seawall(bencher: Bencher<'_, '_>) {
        let stack = ServiceBuilder::new()
            .layer(CatchPanicLayer::new())
            .layer(LagShedLayer::new(LagShed::default()))
            .layer(TimeoutLayer::new(Duration::from_secs(1)))
            .layer(ConcurrencyLimitLayer::new(1))
            .layer(RequestLimitLayer::new(1000));
        http(bencher, stack.service(Bare));
    }
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
    })
}
