//! A request that takes too long gets its answer in time.
//!
//! # Where it goes
//!
//! Outside the concurrency limit, so that waiting for a place counts, and inside what must see the failure, a circuit
//! breaker for example; see [the order of layers](crate#the-order-of-layers).
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use seawall::TimeoutLayer;
//!
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .layer(
//!         TimeoutLayer::new(Duration::from_secs(5)).per_request(|head| {
//!             head.uri.path().starts_with("/reports/").then_some(Duration::from_secs(60))
//!         }),
//!     );
//! # let _ = app;
//! ```
//!
//! The time runs from the first poll of the call to the response head. A head that is ready wins over a timer that is due:
//! finished work is never thrown away, even if a stalled runtime polls both too late. A call that is ready at its first
//! poll costs no timer and no look at the clock.
//!
//! Over gRPC the caller's `grpc-timeout` counts where it is shorter. One that cannot be read is ignored, and counted
//! ([`TimeoutSnapshot::malformed`]). A call that its caller gave too little time does not speak against the service: a circuit
//! breaker further out ignores it, unless it was a stream that had begun, as its trailers do not say whose time it was.
//!
//! # Beyond the head
//!
//! [`including_body`](TimeoutLayer::including_body) makes it one time for head and body; [`body_idle`](TimeoutLayer::body_idle) bounds
//! the silence between two frames of the body, for streams that may live long. A body whose time is up ends with a
//! [`BodyError`](crate::BodyError), so that the client sees it cut and not complete; over gRPC it ends with trailers,
//! `DEADLINE_EXCEEDED`. What is ready wins, as a head does: a body is cut when it is waited for, or after 64 more frames.
//!
//! It is the service that is bounded here, and not a client that reads slowly or no longer: hyper asks for no frame that it
//! cannot send, so that nothing here is polled, and the response keeps its place in a limit. Only what writes to the connection
//! can bound that: a proxy in front, or a time for progress around the socket.
//!
//! [`expose_deadline`](TimeoutLayer::expose_deadline) tells handlers and inner layers when the answer is due, as a
//! [`Deadline`]: a [`ConcurrencyLimit`](crate::ConcurrencyLimit) inside lets nobody wait beyond it, and calls to others can pass on what
//! is left.
//!
//! Nested, the shorter time wins, and whoever it is answers.
//!
//! # Cancellation
//!
//! Dropping the future drops the inner future and the timer. When the time is up, the inner future is dropped: what it
//! awaits is cancelled, what it has spawned goes on.
//!
//! # Panics
//!
//! Outside a Tokio runtime with a time driver, once a call or a body is pending.
//!
//! # Differences from tower and tower-http
//!
//! `tower::timeout` returns a boxed error, which axum needs a `HandleErrorLayer` for; here the answer is a response and
//! the service stays infallible. `tower_http::timeout` registers its timer before the first poll, answers the same status
//! over gRPC, and knows one duration for all requests. Its body time-out is
//! a layer of its own with a timer of its own, and knows no deadline for the whole of a response.

mod timed;

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use crate::clock;
use crate::deadline::Deadline;
use crate::observe::Meter;
use crate::protocol::{Asked, ByHead, Http, Inspect, Kind, NoRule, Plain, Protocol, Rule};

#[cfg(feature = "http")]
pub use self::timed::WithBody;
use self::timed::{End, Until};
pub use self::timed::{Extent, HeadOnly};

/// How long a request may take until its response head. A cheap `Clone`: every clone is the same setting.
#[derive(Clone)]
pub struct Timeout {
    shared: Arc<Shared>,
}

struct Shared {
    nanos: AtomicU64,
    malformed: AtomicU64,
    meter: Meter,
}

/// What a [`Timeout`] has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TimeoutSnapshot {
    /// The time that a request has by default.
    pub duration: Duration,
    /// Requests whose time was up so far.
    pub timed_out: u64,
    /// Requests so far whose `grpc-timeout` could not be read.
    pub malformed: u64,
}

/// Answers 504 (gRPC `DEADLINE_EXCEEDED`) when a response head takes too long.
#[derive(Clone)]
pub struct TimeoutLayer<X = Http, D = NoRule, E = HeadOnly> {
    timeout: Timeout,
    protocol: X,
    per_request: D,
    extent: E,
    exposes: bool,
}

/// A service with a [`Timeout`]; made by [`TimeoutLayer`].
#[derive(Clone)]
pub struct TimeoutService<S, X = Http, D = NoRule, E = HeadOnly> {
    inner: S,
    timeout: Timeout,
    protocol: X,
    per_request: D,
    extent: E,
    exposes: bool,
}

pin_project! {
    /// The future of a [`TimeoutService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct TimeoutFuture<F, X: Kind, E = HeadOnly> {
        #[pin]
        inner: Option<F>,
        #[pin]
        timer: Option<Sleep>,
        until: Until,
        of_caller: bool,
        memo: X::Memo,
        protocol: X,
        extent: E,
        timeout: Timeout,
    }
}

// === impl Timeout ===

impl Timeout {
    /// Requests have `duration` until the response head. [`Duration::MAX`] is no limit; zero lets hardly more through
    /// than what is ready at once.
    pub fn new(duration: Duration) -> Self {
        let this = Self {
            shared: Arc::new(Shared {
                nanos: AtomicU64::new(0),
                malformed: AtomicU64::new(0),
                meter: Meter::new("timeout"),
            }),
        };
        this.set_duration(duration);
        this
    }

    /// Names the time-out in rejections, metrics and events. The first name stays.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.shared.meter.set_name(name);
        self
    }

    /// The time that a request has by default; what is above 584 years reads as [`Duration::MAX`].
    #[inline]
    pub fn duration(&self) -> Duration {
        match self.shared.nanos.load(Relaxed) {
            u64::MAX => Duration::MAX,
            nanos => Duration::from_nanos(nanos),
        }
    }

    /// Changes it for the requests to come.
    pub fn set_duration(&self, duration: Duration) {
        self.shared.nanos.store(clock::nanos(duration), Relaxed);
    }

    /// All of it at once.
    pub fn snapshot(&self) -> TimeoutSnapshot {
        TimeoutSnapshot {
            duration: self.duration(),
            timed_out: self.shared.meter.rejected(),
            malformed: self.shared.malformed.load(Relaxed),
        }
    }
}

impl Shared {
    /// Somebody's `grpc-timeout` cannot be read: it is ignored, and told.
    #[cold]
    fn malformed(&self) {
        self.malformed.fetch_add(1, Relaxed);
        self.meter.malformed_timeout();
    }
}

impl From<Duration> for Timeout {
    fn from(duration: Duration) -> Self {
        Self::new(duration)
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("duration", &self.duration())
            .field("meter", &self.shared.meter)
            .finish()
    }
}

// === impl TimeoutLayer ===

impl TimeoutLayer {
    /// Gives every request the time of a [`Timeout`]: a `Duration`, or a handle that is kept.
    pub fn new(timeout: impl Into<Timeout>) -> Self {
        Self {
            timeout: timeout.into(),
            protocol: Http::default(),
            per_request: NoRule,
            extent: HeadOnly,
            exposes: false,
        }
    }

    /// For services that are not HTTP: the rejection is returned as the error, `S::Error: From<Rejection>`.
    #[must_use]
    pub fn plain(self) -> TimeoutLayer<Plain> {
        self.with(|_, rule| (Plain::default(), rule))
    }
}

impl<X, D, E> TimeoutLayer<X, D, E> {
    fn with<Y, F>(self, change: impl FnOnce(X, D) -> (Y, F)) -> TimeoutLayer<Y, F, E> {
        let (protocol, per_request) = change(self.protocol, self.per_request);
        TimeoutLayer {
            timeout: self.timeout,
            protocol,
            per_request,
            extent: self.extent,
            exposes: self.exposes,
        }
    }
}

#[cfg(feature = "http")]
impl<C, R, D, E> TimeoutLayer<Http<C, R>, D, E>
where
    E: Extent + Into<WithBody>,
{
    /// One time for response head and body, from the request's arrival.
    #[must_use]
    pub fn including_body(self) -> TimeoutLayer<Http<C, R>, D, WithBody> {
        self.extending(|extent| extent.including = true)
    }

    /// Ends a response body that is silent for so long between two frames. Zero is no limit.
    ///
    /// As with [`including_body`](Self::including_body), the timer is in the response's body, which is not `Unpin` then.
    #[must_use]
    pub fn body_idle(self, idle: Duration) -> TimeoutLayer<Http<C, R>, D, WithBody> {
        self.extending(|extent| extent.idle = Some(idle).filter(|idle| !idle.is_zero()))
    }

    fn extending(
        self,
        change: impl FnOnce(&mut WithBody),
    ) -> TimeoutLayer<Http<C, R>, D, WithBody> {
        let mut extent = self.extent.into();
        change(&mut extent);
        TimeoutLayer {
            timeout: self.timeout,
            protocol: self.protocol,
            per_request: self.per_request,
            extent,
            exposes: self.exposes,
        }
    }
}

#[cfg(feature = "http")]
impl<C, R, D, E> TimeoutLayer<Http<C, R>, D, E> {
    /// Puts a [`Deadline`] into the request's extensions, no later than one that is there. It costs a look at the clock and
    /// an allocation for each request.
    #[must_use]
    pub fn expose_deadline(mut self) -> Self {
        self.exposes = true;
        self
    }
}

#[cfg(feature = "http")]
impl<D, E> TimeoutLayer<Http, D, E> {
    /// Makes the answer; see [`GateLayer::respond_with`](crate::GateLayer::respond_with).
    #[must_use]
    pub fn respond_with<F>(
        self,
        respond: F,
    ) -> TimeoutLayer<Http<NoRule, crate::protocol::RespondWith<F>>, D, E>
    where
        F: Fn(&crate::Rejection, crate::Wire) -> http::Response<bytes::Bytes> + Clone,
    {
        self.with(|http, rule| (http.respond_with(respond), rule))
    }
}

#[cfg(feature = "http")]
impl<C, R, E> TimeoutLayer<Http<C, R>, NoRule, E> {
    /// Gives some requests another time: a `Duration`, or `None` for the default. Here belongs what a header of your callers'
    /// says about their patience.
    #[must_use]
    pub fn per_request<F, O>(self, per_request: F) -> TimeoutLayer<Http<C, R>, ByHead<F>, E>
    where
        F: Fn(&crate::RequestHead<'_>) -> O + Clone,
        O: Into<Option<Duration>>,
    {
        self.with(|http, _| (http, ByHead(per_request)))
    }
}

impl<C> TimeoutLayer<Plain<C>> {
    /// Gives some requests another time: a `Duration`, or `None` for the default.
    #[must_use]
    pub fn per_request<F, O, Req>(self, per_request: F) -> TimeoutLayer<Plain<C>, ByHead<F>>
    where
        F: Fn(&Req) -> O + Clone,
        O: Into<Option<Duration>>,
    {
        self.with(|plain, _| (plain, ByHead(per_request)))
    }
}

impl<S, X: Clone, D: Clone, E: Clone> Layer<S> for TimeoutLayer<X, D, E> {
    type Service = TimeoutService<S, X, D, E>;

    fn layer(&self, inner: S) -> Self::Service {
        TimeoutService {
            inner,
            timeout: self.timeout.clone(),
            protocol: self.protocol.clone(),
            per_request: self.per_request.clone(),
            extent: self.extent.clone(),
            exposes: self.exposes,
        }
    }
}

impl<X: fmt::Debug, D, E: fmt::Debug> fmt::Debug for TimeoutLayer<X, D, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutLayer")
            .field("timeout", &self.timeout)
            .field("protocol", &self.protocol)
            .field("extent", &self.extent)
            .finish_non_exhaustive()
    }
}

// === impl TimeoutService ===

impl<S, X, D, E, Req> Service<Req> for TimeoutService<S, X, D, E>
where
    S: Service<Req>,
    X: Inspect<Req> + Protocol<S::Response, S::Error>,
    D: Rule<X::View, Duration>,
    E: Extent,
{
    type Response = X::Response<E::Watch>;
    type Error = S::Error;
    type Future = TimeoutFuture<S::Future, X, E>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let rule = &self.per_request;
        let duration = self.protocol.with_head(&request, |head| rule.apply(head));
        let nanos = duration.map_or_else(|| self.timeout.shared.nanos.load(Relaxed), clock::nanos);
        let memo = self.protocol.inspect(&request);
        let mut until = Until::after(nanos);
        let mut of_caller = false;
        match self.protocol.asked(&request, memo) {
            Asked::For(time) if clock::nanos(time) < nanos => {
                until = Until::after(clock::nanos(time));
                // The caller's clock runs already, and so does that of tonic's server around us, which would say `CANCELLED`.
                until.resolve();
                of_caller = true;
            }
            Asked::Nothing | Asked::For(_) => {}
            Asked::Malformed => self.timeout.shared.malformed(),
        }
        if self.exposes {
            if let Some(at) = until.resolve() {
                let deadline = self.protocol.expose(&mut request, Deadline::new(at));
                until = Until::At(deadline.at());
            }
        }
        TimeoutFuture {
            until,
            of_caller,
            memo,
            protocol: self.protocol.clone(),
            extent: self.extent.clone(),
            timeout: self.timeout.clone(),
            timer: None,
            inner: Some(self.inner.call(request)),
        }
    }
}

impl<S: fmt::Debug, X: fmt::Debug, D, E> fmt::Debug for TimeoutService<S, X, D, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutService")
            .field("inner", &self.inner)
            .field("timeout", &self.timeout)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

// === impl TimeoutFuture ===

impl<F, X, E, Res, Err> Future for TimeoutFuture<F, X, E>
where
    F: Future<Output = Result<Res, Err>>,
    X: Protocol<Res, Err>,
    E: Extent,
{
    type Output = Result<X::Response<E::Watch>, Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inner = this.inner.as_mut().as_pin_mut();
        let polled = inner.expect("polled after completion").poll(cx);
        if polled.is_pending() {
            ready!(this.until.poll(this.timer, cx));
        }
        let end = End {
            until: *this.until,
            timeout: this.timeout,
            is_grpc: X::is_grpc(*this.memo),
        };
        let watch = this.extent.watch(end);
        if let Poll::Ready(result) = polled {
            return Poll::Ready(result.map(|response| this.protocol.wrap(response, watch)));
        }
        this.inner.set(None);
        let rejection = timed::time_is_up(&this.timeout.shared.meter).of_caller(*this.of_caller);
        Poll::Ready(this.protocol.reject(rejection, *this.memo, watch))
    }
}

impl<F, X: Kind, E> fmt::Debug for TimeoutFuture<F, X, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutFuture")
            .field("until", &self.until)
            .field("memo", &self.memo)
            .finish_non_exhaustive()
    }
}
