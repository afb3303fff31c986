//! The services that everything is measured around, and one request through them.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use seawall::Rejection;
use tokio::runtime::{Builder, Runtime};
use tower::Service;

pub(crate) type ReqBody = Full<Bytes>;

/// Ready at once; `E` is its error.
pub(crate) struct Bare<E>(PhantomData<fn() -> E>);

/// Pending once.
#[derive(Clone)]
pub(crate) struct Later;

/// The smallest error that a layer over a plain service asks for.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Rejection);

impl<E> Bare<E> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E> Clone for Bare<E> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<E> Service<u64> for Bare<E> {
    type Response = u64;
    type Error = E;
    type Future = Ready<Result<u64, E>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, number: u64) -> Self::Future {
        ready(Ok(number))
    }
}

impl<B> Service<Request<B>> for Bare<Infallible> {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        drop(request);
        ready(Ok(Response::new(Full::from("hello"))))
    }
}

pub(crate) struct Pending(Option<u64>);

impl Future for Pending {
    type Output = Result<u64, tower::BoxError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.take() {
            None => Poll::Ready(Ok(7)),
            Some(_) => Poll::Pending,
        }
    }
}

impl Service<u64> for Later {
    type Response = u64;
    type Error = tower::BoxError;
    type Future = Pending;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, number: u64) -> Pending {
        Pending(Some(number))
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self(rejection)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refused {}

/// Readiness and a call, which is ready at once.
#[inline]
pub(crate) fn plain<S: Service<u64>>(service: &mut S) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut call = pin!(service.call(black_box(7)));
    assert!(call.as_mut().poll(&mut cx).is_ready());
}

/// The same for what may have to wait for another thread.
#[inline]
pub(crate) fn shared<S: Service<u64>>(service: &mut S) {
    let mut cx = Context::from_waker(Waker::noop());
    while service.poll_ready(&mut cx).is_pending() {}
    let mut call = pin!(service.call(black_box(7)));
    while call.as_mut().poll(&mut cx).is_pending() {}
}

/// The same for [`Later`].
#[inline]
pub(crate) fn later<S: Service<u64>>(service: &mut S) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut call = pin!(service.call(black_box(7)));
    assert!(call.as_mut().poll(&mut cx).is_pending());
    assert!(call.as_mut().poll(&mut cx).is_ready());
}

/// Readiness, a call, and the response body to its end.
#[inline]
pub(crate) fn http<S, B>(service: &mut S)
where
    S: Service<Request<ReqBody>, Response = Response<B>>,
    B: http_body::Body,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut call = pin!(service.call(Request::new(Full::default())));
    let Poll::Ready(Ok(response)) = call.as_mut().poll(&mut cx) else {
        panic!("ready at the first poll");
    };
    let mut body = pin!(response.into_body());
    while !matches!(
        black_box(body.as_mut().poll_frame(&mut cx)),
        Poll::Ready(None)
    ) {}
}

/// A runtime whose worker has nothing to do.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).enable_time();
        builder.build().expect("a runtime")
    })
}
