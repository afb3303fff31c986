//! The bare services around which everything is measured, and one request through them.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, poll_fn, ready};
use std::hint::black_box;
use std::marker::PhantomData;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use http_body::Frame;
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

/// Ready at once, with a response body of unknown size.
#[derive(Clone)]
pub(crate) struct Streamed;

/// One frame of a body whose size is unknown.
#[derive(Default)]
pub(crate) struct Stream(Option<Bytes>);

/// The smallest error that a layer over a plain service accepts.
#[derive(Debug)]
pub(crate) struct Rejected(pub(crate) Rejection);

pub(crate) struct Pending(Option<u64>);

// === impl Bare ===

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

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        drop(request);
        ready(Ok(Response::new(Full::from("hello"))))
    }
}

// === impl Later ===

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

// === impl Streamed ===

impl<B> Service<Request<B>> for Streamed {
    type Response = Response<Stream>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Stream>, Infallible>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        drop(request);
        ready(Ok(Response::new(Stream(Some(Bytes::from("hello"))))))
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }
}

// === impl Rejected ===

impl From<Rejection> for Rejected {
    fn from(rejection: Rejection) -> Self {
        Self(rejection)
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Rejected {}

// === one request ===

/// Readiness and a call, which is ready at once.
#[inline(always)]
pub(crate) fn plain<S: Service<u64>>(service: &mut S) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut call = pin!(service.call(black_box(7)));
    assert!(call.as_mut().poll(&mut cx).is_ready());
}

/// The same for a service that may wait for another thread.
#[inline]
pub(crate) fn shared<S: Service<u64>>(service: &mut S) {
    let mut cx = Context::from_waker(Waker::noop());
    while service.poll_ready(&mut cx).is_pending() {}
    let mut call = pin!(service.call(black_box(7)));
    while call.as_mut().poll(&mut cx).is_pending() {}
}

/// The same for [`Later`].
#[inline(always)]
pub(crate) fn later<S: Service<u64>>(service: &mut S) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut call = pin!(service.call(black_box(7)));
    assert!(call.as_mut().poll(&mut cx).is_pending());
    assert!(call.as_mut().poll(&mut cx).is_ready());
}

/// Readiness, a call without headers, which is ready at once, and the response body to its end.
#[inline(always)]
pub(crate) fn http<S, B>(service: &mut S)
where
    S: Service<Request<ReqBody>, Response = Response<B>>,
    B: http_body::Body,
{
    exchange(service, Request::new(Full::default()), 0);
}

/// The same with the body that `axum::serve` passes to a service.
#[inline(always)]
pub(crate) fn axum_body<S, B>(service: &mut S)
where
    S: Service<Request<axum::body::Body>, Response = Response<B>>,
    B: http_body::Body,
{
    exchange(service, Request::new(axum::body::Body::empty()), 0);
}

/// The same with six headers, one of them the length of the body.
#[inline(always)]
pub(crate) fn six_headers<S, B>(service: &mut S)
where
    S: Service<Request<ReqBody>, Response = Response<B>>,
    B: http_body::Body,
{
    exchange(service, with_six_headers(), 0);
}

/// The same for a service that is pending once.
#[inline(always)]
pub(crate) fn six_headers_later<S, B>(service: &mut S)
where
    S: Service<Request<ReqBody>, Response = Response<B>>,
    B: http_body::Body,
{
    exchange(service, with_six_headers(), 1);
}

#[inline(always)]
fn exchange<S, R, B>(service: &mut S, request: Request<R>, pending: usize)
where
    S: Service<Request<R>, Response = Response<B>>,
    B: http_body::Body,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut call = pin!(service.call(request));
    for _ in 0..pending {
        assert!(call.as_mut().poll(&mut cx).is_pending());
    }
    let Poll::Ready(Ok(response)) = call.as_mut().poll(&mut cx) else {
        panic!("it is ready at this poll");
    };
    let mut body = pin!(response.into_body());
    while !matches!(
        black_box(body.as_mut().poll_frame(&mut cx)),
        Poll::Ready(None)
    ) {}
}

/// The headers of a browser or a client library.
#[inline(never)]
fn with_six_headers() -> Request<ReqBody> {
    const ID: HeaderName = HeaderName::from_static("x-request-id");
    let mut request = Request::new(Full::from("hello"));
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, HeaderValue::from_static("curl/8.0"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
    headers.insert(ID, HeaderValue::from_static("1"));
    request
}

/// Pending at its first poll.
pub(crate) async fn pending_once() {
    let mut is_first = true;
    poll_fn(|_| {
        if mem::take(&mut is_first) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}

/// A runtime whose worker is idle.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).enable_time();
        builder.build().expect("a runtime")
    })
}
