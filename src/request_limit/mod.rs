//! No request body gets larger than allowed.
//!
//! # Where it goes
//!
//! Innermost, next to whatever reads the body; see [the order of layers](crate#the-order-of-layers). Axum's extractors
//! have a limit of their own, 2 MB, which would cut in below a larger one given here: switch it off.
//!
//! ```
//! use axum::{Router, body::Bytes, extract::DefaultBodyLimit, routing::post};
//! use seawall::RequestLimitLayer;
//!
//! let app: Router = Router::new()
//!     .route("/upload", post(async |body: Bytes| body.len().to_string()))
//!     .layer(DefaultBodyLimit::disable()) // axum's own: ours decides
//!     .layer(RequestLimitLayer::new(8 << 20).per_request(|head| {
//!         (head.uri.path() == "/login").then_some(4096)
//!     }));
//! # let _ = app;
//! ```
//!
//! What is inside reads the body through a type of ours. Most services take any; `axum::middleware::from_fn` takes axum's
//! own, so put `.map_request(|request: Request<_>| request.map(axum::body::Body::new))` between this layer and such a one.
//!
//! # What the client reads
//!
//! 413 (gRPC `RESOURCE_EXHAUSTED`) as long as the response head is unsent, on every path: a `content-length` or an exact
//! `size_hint` above the limit is answered without calling the inner service; a body of unknown length is counted, and
//! once it is over the limit the inner service reads an error in place of the frame that was too much, and whatever it
//! answers to that is replaced. After the head, the body only ends with the error, a [`BodyError`](crate::BodyError).
//!
//! An unreadable `content-length` counts as none, of several the largest: bytes are counted in any case. Hyper answers
//! such requests itself, with 400.
//!
//! An HTTP/1 connection with unread data is reset when it closes, and the answer may go down with it; some HTTP/2 clients
//! do not look for an answer on a stream that is reset while they send. So the head goes out at once, and then up to 256 KiB
//! of the rest, for at most one second, are read and thrown away before the end of the answer. If that was all, the
//! connection goes on; if not, hyper closes it, over HTTP/2 the stream with `NO_ERROR`. With `Expect: 100-continue` nothing
//! is read, nor for gRPC, where the head is all of the answer.
//!
//! For this the layer takes the request body back in the middle, so that the body must be `Unpin`, as those of hyper, axum
//! and tonic are; any other is in a `Pin<Box<_>>`.
//!
//! # Cancellation
//!
//! Dropping the future or the body drops what is inside.
//!
//! # Panics
//!
//! Outside a Tokio runtime with a time driver, when the rest of a body has to be waited for.
//!
//! # Differences from tower-http
//!
//! `tower_http::limit` replaces the answer only where a length was declared: over a chunked body the client reads whatever
//! the handler makes of the error, 400 or 500 often. It has one limit for all requests, and answers gRPC with HTTP.

mod counted;

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use self::counted::Overrun;
use crate::body::Body;
use crate::gate::Call;
use crate::observe::{self, Meter};
use crate::protocol::{
    ByHead, Http, HttpView, Inspect, Memo, NoRule, Protocol, RequestHead, Respond, RespondWith,
    Rule, Wire,
};
use crate::rejection::{Reason, Rejection};

pub use self::counted::{Counted, Rest};

/// How large a request body may be. A cheap `Clone`: every clone is the same setting.
#[derive(Clone)]
pub struct RequestLimit {
    shared: Arc<Shared>,
}

struct Shared {
    max_body: AtomicU64,
    meter: Meter,
}

/// What a [`RequestLimit`] has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RequestLimitSnapshot {
    /// The largest body that is let through by default, in bytes.
    pub max_body: u64,
    /// Requests turned away so far.
    pub rejected: u64,
}

/// Answers 413 (gRPC `RESOURCE_EXHAUSTED`) to requests whose body is too large.
#[derive(Clone)]
pub struct RequestLimitLayer<X = Http, D = NoRule> {
    limit: RequestLimit,
    protocol: X,
    per_request: D,
}

/// A service with a [`RequestLimit`]; made by [`RequestLimitLayer`].
#[derive(Clone)]
pub struct RequestLimitService<S, X = Http, D = NoRule> {
    inner: S,
    limit: RequestLimit,
    protocol: X,
    per_request: D,
}

pin_project! {
    /// The future of a [`RequestLimitService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct RequestLimitFuture<F, B, X> {
        #[pin]
        call: Call<F>,
        memo: Memo,
        protocol: X,
        overrun: Option<Arc<Overrun<B>>>,
        // Not polled in here, so it may still move into the response.
        unread: Option<B>,
    }
}

// === impl RequestLimit ===

impl RequestLimit {
    /// Bodies of up to `max_body` bytes pass; 0 lets none pass but empty ones.
    pub fn new(max_body: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                max_body: AtomicU64::new(max_body),
                meter: Meter::new("request_limit"),
            }),
        }
    }

    /// Names the limit in rejections, metrics and events. The first name stays.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.shared.meter.set_name(name);
        self
    }

    /// The largest body that is let through by default, in bytes.
    pub fn max_body(&self) -> u64 {
        self.shared.max_body.load(Relaxed)
    }

    /// Changes it for the requests to come.
    pub fn set_max_body(&self, max_body: u64) {
        self.shared.max_body.store(max_body, Relaxed);
    }

    /// All of it at once.
    pub fn snapshot(&self) -> RequestLimitSnapshot {
        RequestLimitSnapshot {
            max_body: self.max_body(),
            rejected: self.shared.meter.rejected(),
        }
    }
}

impl From<u64> for RequestLimit {
    fn from(max_body: u64) -> Self {
        Self::new(max_body)
    }
}

impl fmt::Debug for RequestLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLimit")
            .field("max_body", &self.max_body())
            .field("meter", &self.shared.meter)
            .finish()
    }
}

// === impl RequestLimitLayer ===

impl RequestLimitLayer {
    /// Lets bodies pass that are within a [`RequestLimit`]: a number of bytes, or a handle that is kept.
    pub fn new(limit: impl Into<RequestLimit>) -> Self {
        Self {
            limit: limit.into(),
            per_request: NoRule,
            protocol: Http::default(),
        }
    }
}

impl<X> RequestLimitLayer<X> {
    /// Gives some requests another limit: bytes, or `None` for the default.
    #[must_use]
    pub fn per_request<F, O>(self, per_request: F) -> RequestLimitLayer<X, ByHead<F>>
    where
        F: Fn(&RequestHead<'_>) -> O + Clone,
        O: Into<Option<u64>>,
    {
        RequestLimitLayer {
            limit: self.limit,
            per_request: ByHead(per_request),
            protocol: self.protocol,
        }
    }
}

impl<D> RequestLimitLayer<Http, D> {
    /// Makes the answer; see [`GateLayer::respond_with`](crate::GateLayer::respond_with).
    #[must_use]
    pub fn respond_with<F>(self, respond: F) -> RequestLimitLayer<Http<NoRule, RespondWith<F>>, D>
    where
        F: Fn(&Rejection, Wire) -> Response<Bytes> + Clone,
    {
        RequestLimitLayer {
            limit: self.limit,
            per_request: self.per_request,
            protocol: self.protocol.respond_with(respond),
        }
    }
}

impl<S, X: Clone, D: Clone> Layer<S> for RequestLimitLayer<X, D> {
    type Service = RequestLimitService<S, X, D>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestLimitService {
            inner,
            limit: self.limit.clone(),
            per_request: self.per_request.clone(),
            protocol: self.protocol.clone(),
        }
    }
}

impl<X, D> fmt::Debug for RequestLimitLayer<X, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLimitLayer")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

// === impl RequestLimitService ===

impl<S, R, D, ReqB, ResB> Service<Request<ReqB>> for RequestLimitService<S, Http<NoRule, R>, D>
where
    S: Service<Request<Body<ReqB, Counted<ReqB>>>, Response = Response<ResB>, Error: 'static>,
    D: Rule<HttpView, u64>,
    R: Respond + Clone,
    ReqB: http_body::Body + Unpin,
    ResB: http_body::Body,
{
    type Response = Response<Body<ResB, Rest<ReqB>>>;
    type Error = S::Error;
    type Future = RequestLimitFuture<S::Future, ReqB, Http<NoRule, R>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let shared = &self.limit.shared;
        let memo = self.protocol.inspect(&request);
        let head = RequestHead::from(&request);
        let max = self.per_request.apply(&head);
        let max = max.unwrap_or_else(|| shared.max_body.load(Relaxed));
        let hint = request.body().size_hint();
        let (call, overrun, unread);
        if hint.lower().max(declared(head.headers)) > max {
            let rejection = shared.meter.reject(Reason::BodyTooLarge);
            observe::rejected(&rejection, false);
            call = Call::refused(rejection);
            overrun = None;
            let is_sent = !expects_continue(head.headers);
            unread = is_sent.then(|| request.into_body());
        } else {
            let bounded =
                hint.upper().is_some_and(|upper| upper <= max) || request.body().is_end_stream();
            overrun = (!bounded).then(|| Arc::new(Overrun::new(shared.meter.clone())));
            let counted = Counted::new(max, overrun.clone());
            let request = request.map(|body| Body::passing(body, counted));
            let future = self.inner.call(request);
            call = Call::Inner { future };
            unread = None;
        }
        RequestLimitFuture {
            call,
            memo,
            protocol: self.protocol.clone(),
            overrun,
            unread,
        }
    }
}

impl<S: fmt::Debug, X, D> fmt::Debug for RequestLimitService<S, X, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLimitService")
            .field("inner", &self.inner)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// The largest length that the headers declare.
fn declared(headers: &HeaderMap) -> u64 {
    if !headers.contains_key(header::CONTENT_LENGTH) {
        return 0; // cheaper than an iterator over none
    }
    let read = |value: &http::HeaderValue| value.to_str().ok()?.trim().parse().ok();
    let lengths = headers.get_all(header::CONTENT_LENGTH).into_iter();
    lengths.filter_map(read).max().unwrap_or(0)
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

// === impl RequestLimitFuture ===

impl<F, B, R, ResB, Err> Future for RequestLimitFuture<F, B, Http<NoRule, R>>
where
    F: Future<Output = Result<Response<ResB>, Err>>,
    R: Respond + Clone,
    ResB: http_body::Body,
    Err: 'static,
{
    type Output = Result<Response<Body<ResB, Rest<B>>>, Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (rejection, unread) = match ready!(this.call.poll(cx)) {
            Ok(result) => {
                let Some(overrun) = this.overrun.as_ref().and_then(|cell| cell.take()) else {
                    let pass = |body| Body::passing(body, Rest::new(None));
                    return Poll::Ready(result.map(|response| response.map(pass)));
                };
                overrun
            }
            Err(rejection) => (rejection, this.unread.take()),
        };
        // A gRPC answer is trailers and nothing else, so that nothing can be held back.
        let unread = unread.filter(|_| this.memo.wire() != Wire::Grpc);
        Poll::Ready(
            this.protocol
                .reject(rejection, *this.memo, Rest::new(unread)),
        )
    }
}

impl<F, B, X> fmt::Debug for RequestLimitFuture<F, B, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLimitFuture")
            .field("call", &self.call.name())
            .field("memo", &self.memo)
            .finish_non_exhaustive()
    }
}
