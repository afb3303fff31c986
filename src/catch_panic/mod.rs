//! A handler that panics costs its own request and nothing else.
//!
//! # Where it goes
//!
//! Outermost, so that nothing of the stack can unwind past it; see [the order of layers](crate#the-order-of-layers).
//!
//! ```
//! use axum::{Router, routing::get};
//! use seawall::CatchPanicLayer;
//!
//! let app: Router = Router::new()
//!     .route("/", get(async || { if true { panic!("oh no") } }))
//!     .layer(CatchPanicLayer::new().on_panic(|panic| {
//!         let at = panic.request().map(|request| request.uri.path());
//!         eprintln!("{at:?} panicked: {}", panic.message().unwrap_or("?"));
//!     }));
//! # let _ = app;
//! ```
//!
//! A panic is caught in `call`, in the future, in the response body and in `respond_with`; one in `poll_ready` is answered
//! at the next `call` of that same instance. Before the response head is out the client reads 500 (gRPC `INTERNAL`) and the
//! connection goes on, over HTTP/1 provided that the request body was read. After it, the body ends with an error: HTTP/1 closes the connection, HTTP/2 resets the stream. The
//! payload never reaches the client; a hook and `tracing` get it.
//!
//! Needs `panic = "unwind"`, the default.
//!
//! # Cancellation
//!
//! Dropping the future or the body drops what is inside. A panic in the drop itself is not caught.
//!
//! # Panics
//!
//! A panic in the hook is swallowed.
//!
//! # Differences from tower-http
//!
//! `tower_http::catch_panic` boxes the response body of every request, lets panics in `poll_ready` and in the body through,
//! answers gRPC with an HTTP 500, and does not tell its responder which request it was.

mod hook;
mod isolate;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use self::hook::{OnPanic, Report};
use crate::gate::{Call, CallProj, OVER};
use crate::observe::Meter;
use crate::protocol::{Http, Inspect, Kind, Plain, Protocol};
use crate::rejection::Rejection;

pub use self::hook::{Hook, NoHook, PanicReport};
pub use self::isolate::Isolate;

/// Counts panics. A cheap `Clone`: every clone counts the same.
#[derive(Clone, Debug)]
pub struct CatchPanic {
    meter: Meter,
}

/// What a [`CatchPanic`] has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CatchPanicSnapshot {
    /// Panics caught so far.
    pub panics: u64,
}

/// Answers 500 (gRPC `INTERNAL`) when the inner service panics.
#[derive(Clone)]
pub struct CatchPanicLayer<X = Http, H = NoHook> {
    handle: CatchPanic,
    protocol: X,
    hook: H,
}

/// A service whose panics are caught; made by [`CatchPanicLayer`].
pub struct CatchPanicService<S, X = Http, H = NoHook> {
    inner: S,
    handle: CatchPanic,
    protocol: X,
    hook: H,
    /// `poll_ready` panicked with this: the next call is answered without the inner service. The lock is never taken; it
    /// is there since a payload need not be `Sync`.
    unready: Mutex<Option<Box<dyn Any + Send>>>,
}

pin_project! {
    /// The future of a [`CatchPanicService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct CatchPanicFuture<F, X: Kind, H, K> {
        #[pin]
        call: Call<F>,
        memo: X::Memo,
        protocol: X,
        isolate: Option<Isolate<H, K>>,
    }
}

// === impl CatchPanic ===

impl CatchPanic {
    /// A counter of panics.
    pub fn new() -> Self {
        Self {
            meter: Meter::new("catch_panic"),
        }
    }

    /// Names it in rejections, metrics and events. The first name stays.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.meter.set_name(name);
        self
    }

    /// Panics caught so far.
    pub fn panics(&self) -> u64 {
        self.meter.rejected()
    }

    /// All of it at once.
    pub fn snapshot(&self) -> CatchPanicSnapshot {
        CatchPanicSnapshot {
            panics: self.panics(),
        }
    }
}

impl Default for CatchPanic {
    fn default() -> Self {
        Self::new()
    }
}

// === impl CatchPanicLayer ===

impl CatchPanicLayer {
    /// Catches panics, with a counter of its own.
    pub fn new() -> Self {
        CatchPanic::new().into()
    }
}

impl<H> CatchPanicLayer<Http, H> {
    /// For services that are not HTTP: the rejection is returned as the error, `S::Error: From<Rejection>`.
    #[must_use]
    pub fn plain(self) -> CatchPanicLayer<Plain, H> {
        self.with(|_, hook| (Plain::default(), hook))
    }
}

impl Default for CatchPanicLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl From<CatchPanic> for CatchPanicLayer {
    /// Catches panics and counts them with a handle that is kept.
    fn from(handle: CatchPanic) -> Self {
        Self {
            handle,
            protocol: Http::default(),
            hook: NoHook,
        }
    }
}

impl<X, H> CatchPanicLayer<X, H> {
    /// Tells `hook` of every panic, before the answer is made. For that the request's method, URI and `x-request-id` are
    /// kept while it runs, which costs three reference counts.
    #[must_use]
    pub fn on_panic<F>(self, hook: F) -> CatchPanicLayer<X, Hook<F>>
    where
        F: Fn(&PanicReport<'_>) + Clone,
    {
        self.with(|protocol, _| (protocol, Hook(hook)))
    }

    fn with<Y, I>(self, change: impl FnOnce(X, H) -> (Y, I)) -> CatchPanicLayer<Y, I> {
        let (protocol, hook) = change(self.protocol, self.hook);
        CatchPanicLayer {
            handle: self.handle,
            protocol,
            hook,
        }
    }
}

#[cfg(feature = "http")]
impl<H> CatchPanicLayer<Http, H> {
    /// Makes the answer; see [`GateLayer::respond_with`](crate::GateLayer::respond_with). If this panics as well, the
    /// client gets the default answer.
    #[must_use]
    pub fn respond_with<F>(
        self,
        respond: F,
    ) -> CatchPanicLayer<Http<crate::protocol::NoRule, crate::protocol::RespondWith<F>>, H>
    where
        F: Fn(&crate::Rejection, crate::Wire) -> http::Response<bytes::Bytes> + Clone,
    {
        self.with(|http, hook| (http.respond_with(respond), hook))
    }
}

impl<S, X: Clone, H: Clone> Layer<S> for CatchPanicLayer<X, H> {
    type Service = CatchPanicService<S, X, H>;

    fn layer(&self, inner: S) -> Self::Service {
        CatchPanicService {
            inner,
            handle: self.handle.clone(),
            protocol: self.protocol.clone(),
            hook: self.hook.clone(),
            unready: Mutex::default(),
        }
    }
}

impl<X: fmt::Debug, H> fmt::Debug for CatchPanicLayer<X, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchPanicLayer")
            .field("handle", &self.handle)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

// === impl CatchPanicService ===

impl<S, X, H, Req> Service<Req> for CatchPanicService<S, X, H>
where
    S: Service<Req>,
    X: Inspect<Req> + Protocol<S::Response, S::Error>,
    H: OnPanic<X::View> + Report<H::Kept>,
{
    type Response = X::Response<Option<Isolate<H, H::Kept>>>;
    type Error = S::Error;
    type Future = CatchPanicFuture<S::Future, X, H, H::Kept>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let unready = self
            .unready
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if unready.is_some() {
            return Poll::Ready(Ok(()));
        }
        let inner = &mut self.inner;
        match panic::catch_unwind(AssertUnwindSafe(|| inner.poll_ready(cx))) {
            Ok(polled) => polled,
            Err(payload) => {
                // There is no request yet that could be answered.
                *unready = Some(payload);
                Poll::Ready(Ok(()))
            }
        }
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let memo = self.protocol.inspect(&request);
        let hook = &self.hook;
        let isolate = Isolate {
            kept: self.protocol.with_head(&request, |head| hook.keep(head)),
            hook: self.hook.clone(),
            handle: self.handle.clone(),
        };
        let inner = &mut self.inner;
        let unready = self
            .unready
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let call = match unready.take() {
            Some(payload) => Call::refused(isolate.caught(payload)),
            None => match panic::catch_unwind(AssertUnwindSafe(|| inner.call(request))) {
                Ok(future) => Call::Inner { future },
                Err(payload) => Call::refused(isolate.caught(payload)),
            },
        };
        CatchPanicFuture {
            call,
            memo,
            protocol: self.protocol.clone(),
            isolate: Some(isolate),
        }
    }
}

impl<S: Clone, X: Clone, H: Clone> Clone for CatchPanicService<S, X, H> {
    /// The clone is ready or not by itself: a panic of this instance's `poll_ready` is answered here alone.
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            handle: self.handle.clone(),
            protocol: self.protocol.clone(),
            hook: self.hook.clone(),
            unready: Mutex::default(),
        }
    }
}

impl<S: fmt::Debug, X: fmt::Debug, H> fmt::Debug for CatchPanicService<S, X, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchPanicService")
            .field("inner", &self.inner)
            .field("handle", &self.handle)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

// === impl CatchPanicFuture ===

impl<F, X, H, K, Res, Err> Future for CatchPanicFuture<F, X, H, K>
where
    F: Future<Output = Result<Res, Err>>,
    X: Protocol<Res, Err>,
    H: Report<K>,
{
    type Output = Result<X::Response<Option<Isolate<H, K>>>, Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (call, protocol, isolate) = (this.call, this.protocol, this.isolate);
        let rejection = match call.project() {
            CallProj::Refused { rejection } => rejection.take().expect(OVER),
            CallProj::Inner { future } => {
                // The response is wrapped in here, so that it is moved out once and whole.
                let poll = || {
                    future.poll(cx).map(|result| {
                        let isolate = isolate.take();
                        result.map(|response| protocol.wrap(response, isolate))
                    })
                };
                match panic::catch_unwind(AssertUnwindSafe(poll)) {
                    Ok(polled) => return polled,
                    Err(payload) => isolate.as_ref().expect(OVER).caught(payload),
                }
            }
        };
        let isolate = isolate.take().expect(OVER);
        Poll::Ready(answer(protocol, rejection, *this.memo, &isolate))
    }
}

/// The answer to a panic, also where the user's responder panics in turn.
#[cold]
fn answer<X, H, K, Res, Err>(
    protocol: &X,
    rejection: Rejection,
    memo: X::Memo,
    isolate: &Isolate<H, K>,
) -> Result<X::Response<Option<Isolate<H, K>>>, Err>
where
    X: Protocol<Res, Err>,
    H: Report<K>,
{
    let again = rejection.clone();
    isolate
        .run(|| protocol.reject(rejection, memo, None))
        .unwrap_or_else(|_| protocol.reject_by_default(again, memo, None))
}

impl<F, X: Kind, H, K> fmt::Debug for CatchPanicFuture<F, X, H, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchPanicFuture")
            .field("call", &self.call.name())
            .finish_non_exhaustive()
    }
}
