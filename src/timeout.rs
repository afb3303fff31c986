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
//! # Cancellation
//!
//! Dropping the future drops the inner future and the timer. When the time is up, the inner future is dropped: what it
//! awaits is cancelled, what it has spawned goes on.
//!
//! # Panics
//!
//! Outside a Tokio runtime with a time driver, once a call is pending.
//!
//! # Differences from tower and tower-http
//!
//! `tower::timeout` returns a boxed error, which axum needs a `HandleErrorLayer` for; here the answer is a response and
//! the service stays infallible. `tower_http::timeout` registers its timer before the first poll, answers the same status
//! over gRPC, and knows one duration for all requests.

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
use crate::observe::{self, Meter};
use crate::protocol::{ByHead, Http, Inspect, Kind, NoRule, Plain, Protocol, Rule};
use crate::rejection::Reason;

/// How long a request may take until its response head. A cheap `Clone`: every clone is the same setting.
#[derive(Clone)]
pub struct Timeout {
    shared: Arc<Shared>,
}

struct Shared {
    nanos: AtomicU64,
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
}

/// Answers 504 (gRPC `DEADLINE_EXCEEDED`) when a response head takes too long.
#[derive(Clone)]
pub struct TimeoutLayer<X = Http, D = NoRule> {
    timeout: Timeout,
    protocol: X,
    per_request: D,
}

/// A service with a [`Timeout`]; made by [`TimeoutLayer`].
#[derive(Clone)]
pub struct TimeoutService<S, X = Http, D = NoRule> {
    inner: S,
    timeout: Timeout,
    protocol: X,
    per_request: D,
}

pin_project! {
    /// The future of a [`TimeoutService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct TimeoutFuture<F, X: Kind> {
        #[pin]
        inner: Option<F>,
        #[pin]
        timer: Option<Sleep>,
        duration: Duration,
        memo: X::Memo,
        protocol: X,
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
    pub fn duration(&self) -> Duration {
        match self.shared.nanos.load(Relaxed) {
            u64::MAX => Duration::MAX,
            nanos => Duration::from_nanos(nanos),
        }
    }

    /// Changes it for the requests to come.
    pub fn set_duration(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.shared.nanos.store(nanos, Relaxed);
    }

    /// All of it at once.
    pub fn snapshot(&self) -> TimeoutSnapshot {
        TimeoutSnapshot {
            duration: self.duration(),
            timed_out: self.shared.meter.rejected(),
        }
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
        }
    }

    /// For services that are not HTTP: the rejection is returned as the error, `S::Error: From<Rejection>`.
    #[must_use]
    pub fn plain(self) -> TimeoutLayer<Plain> {
        self.with(|_, rule| (Plain::default(), rule))
    }
}

impl<X, D> TimeoutLayer<X, D> {
    fn with<Y, E>(self, change: impl FnOnce(X, D) -> (Y, E)) -> TimeoutLayer<Y, E> {
        let (protocol, per_request) = change(self.protocol, self.per_request);
        TimeoutLayer {
            timeout: self.timeout,
            protocol,
            per_request,
        }
    }
}

#[cfg(feature = "http")]
impl<D> TimeoutLayer<Http, D> {
    /// Makes the answer; see [`GateLayer::respond_with`](crate::GateLayer::respond_with).
    #[must_use]
    pub fn respond_with<F>(
        self,
        respond: F,
    ) -> TimeoutLayer<Http<NoRule, crate::protocol::RespondWith<F>>, D>
    where
        F: Fn(&crate::Rejection, crate::Wire) -> http::Response<bytes::Bytes> + Clone,
    {
        self.with(|http, rule| (http.respond_with(respond), rule))
    }
}

#[cfg(feature = "http")]
impl<C, R> TimeoutLayer<Http<C, R>> {
    /// Gives some requests another time: a `Duration`, or `None` for the default.
    #[must_use]
    pub fn per_request<F, O>(self, per_request: F) -> TimeoutLayer<Http<C, R>, ByHead<F>>
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

impl<S, X: Clone, D: Clone> Layer<S> for TimeoutLayer<X, D> {
    type Service = TimeoutService<S, X, D>;

    fn layer(&self, inner: S) -> Self::Service {
        TimeoutService {
            inner,
            timeout: self.timeout.clone(),
            protocol: self.protocol.clone(),
            per_request: self.per_request.clone(),
        }
    }
}

impl<X: fmt::Debug, D> fmt::Debug for TimeoutLayer<X, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutLayer")
            .field("timeout", &self.timeout)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

// === impl TimeoutService ===

impl<S, X, D, Req> Service<Req> for TimeoutService<S, X, D>
where
    S: Service<Req>,
    X: Inspect<Req> + Protocol<S::Response, S::Error>,
    D: Rule<X::View, Duration>,
{
    type Response = X::Response<()>;
    type Error = S::Error;
    type Future = TimeoutFuture<S::Future, X>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let rule = &self.per_request;
        let duration = self.protocol.with_head(&request, |head| rule.apply(head));
        TimeoutFuture {
            duration: duration.unwrap_or_else(|| self.timeout.duration()),
            memo: self.protocol.inspect(&request),
            protocol: self.protocol.clone(),
            timeout: self.timeout.clone(),
            timer: None,
            inner: Some(self.inner.call(request)),
        }
    }
}

impl<S: fmt::Debug, X: fmt::Debug, D> fmt::Debug for TimeoutService<S, X, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutService")
            .field("inner", &self.inner)
            .field("timeout", &self.timeout)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

// === impl TimeoutFuture ===

impl<F, X, Res, Err> Future for TimeoutFuture<F, X>
where
    F: Future<Output = Result<Res, Err>>,
    X: Protocol<Res, Err>,
{
    type Output = Result<X::Response<()>, Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inner = this.inner.as_mut().as_pin_mut();
        if let Poll::Ready(result) = inner.expect("polled after completion").poll(cx) {
            return Poll::Ready(result.map(|response| this.protocol.wrap(response, ())));
        }
        if *this.duration == Duration::MAX {
            return Poll::Pending;
        }
        if this.timer.is_none() {
            this.timer.set(Some(clock::sleep(*this.duration)));
        }
        let timer = this.timer.as_pin_mut().expect("it was just set");
        ready!(clock::poll(timer, cx));
        this.inner.set(None);
        let rejection = this.timeout.shared.meter.reject(Reason::Timeout);
        observe::rejected(&rejection, false);
        Poll::Ready(this.protocol.reject(rejection, *this.memo, ()))
    }
}

impl<F, X: Kind> fmt::Debug for TimeoutFuture<F, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutFuture")
            .field("duration", &self.duration)
            .field("memo", &self.memo)
            .finish_non_exhaustive()
    }
}
