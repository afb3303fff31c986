//! No request gets larger than allowed: its body, its headers, its URI; and no body comes slower.
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
//! # Slow senders
//!
//! [`body_idle`](RequestLimitLayer::body_idle), [`body_deadline`](RequestLimitLayer::body_deadline) and
//! [`body_rate`](RequestLimitLayer::body_rate) end a body that comes too slowly: 408 with `connection: close` (gRPC
//! `DEADLINE_EXCEEDED`) as long as the response head is unsent, else the body alone ends with an error. The time counts while the
//! handler waits for the body and not while it does something else. What waits so long holds its place in a
//! [`ConcurrencyLimit`](crate::ConcurrencyLimit) no longer.
//!
//! A sender of slow headers has no request yet, and no layer sees it: set hyper's `header_read_timeout` with its timer, as
//! `examples/axum.rs` does. `axum::serve` has none.
//!
//! # Cancellation
//!
//! Dropping the future or the body drops what is inside.
//!
//! # Panics
//!
//! Outside a Tokio runtime with a time driver, when the rest of a body has to be waited for, or one whose pace is limited.
//!
//! # Differences from tower-http
//!
//! `tower_http::limit` replaces the answer only where a length was declared: over a chunked body the client reads whatever
//! the handler makes of the error, 400 or 500 often. It has one limit for all requests, and answers gRPC with HTTP.

mod counted;
mod limit;
mod pace;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use self::counted::Overrun;
use crate::body::Body;
use crate::gate::{Call, CallProj, OVER};
use crate::observe;
use crate::protocol::{
    ByHead, Http, HttpView, Inspect, Memo, NoRule, Protocol, RequestHead, Respond, RespondWith,
    Rule, Wire,
};
use crate::rejection::{Reason, Rejection};

pub use self::counted::{Counted, Rest};
pub use self::limit::{RequestLimit, RequestLimitSnapshot};

/// Answers 413, 414, 431 or 408 (gRPC `RESOURCE_EXHAUSTED`, `DEADLINE_EXCEEDED`) to requests that are too large or too slow.
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

impl<X, D> RequestLimitLayer<X, D> {
    /// Refuses requests whose headers are more than `max_count`, or larger than `max_bytes`, names and values together: 431.
    ///
    /// It is for limits below those of the server, which refuses by itself, with 431, what it cannot take in: hyper's HTTP/1
    /// reads up to 100 headers (`max_headers`) in a buffer of about 400 kB (`max_buf_size`), its HTTP/2 lists of 16 KiB
    /// (`max_header_list_size`).
    ///
    /// Like the setters below it changes the limit's handle: every clone has the same.
    #[must_use]
    pub fn headers(self, max_bytes: u64, max_count: u64) -> Self {
        self.limit.set_headers(max_bytes, max_count);
        self
    }

    /// Refuses requests whose path and query are longer together: 414. Hyper refuses by itself, with 414, what is above 65 534.
    #[must_use]
    pub fn uri(self, max_bytes: u64) -> Self {
        self.limit.set_uri(max_bytes);
        self
    }

    /// Ends a body that is silent for so long while somebody waits for it: 408 as long as the response head is unsent.
    #[must_use]
    pub fn body_idle(self, idle: Duration) -> Self {
        self.limit.set_body_idle(idle);
        self
    }

    /// Ends a body that somebody has waited for so long, all in all: 408 as long as the response head is unsent.
    ///
    /// Not for streams that may live long, gRPC's in both directions among them.
    #[must_use]
    pub fn body_deadline(self, deadline: Duration) -> Self {
        self.limit.set_body_deadline(deadline);
        self
    }

    /// Ends a body that comes more slowly than this on average, once the grace is over: 408 as long as the response head is
    /// unsent. As in Apache's `mod_reqtimeout`, what has come buys time: so many bytes another second.
    #[must_use]
    pub fn body_rate(self, bytes_per_second: u64, grace: Duration) -> Self {
        self.limit.set_body_rate(bytes_per_second, grace);
        self
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
        let head = RequestHead::from(&request);
        let max = self.per_request.apply(&head);
        let max = max.unwrap_or_else(|| self.limit.max_body());
        let hint = request.body().size_hint();
        let too_large = hint.lower().max(declared(head.headers)) > max;
        let refused = shared.refuses(&head);
        let memo = self.protocol.inspect(&request);
        if let Some(reason) = refused.or(too_large.then_some(Reason::BodyTooLarge)) {
            let rejection = shared.meter.reject(reason);
            observe::rejected(&rejection, false);
            let is_sent = !request.body().is_end_stream() && !expects_continue(head.headers);
            return RequestLimitFuture {
                call: Call::refused(rejection),
                memo,
                protocol: self.protocol.clone(),
                overrun: None,
                unread: is_sent.then(|| request.into_body()),
            };
        }
        let bounded = hint.upper().is_some_and(|upper| upper <= max);
        // Of a request without a body nobody asks how it may come.
        let overrun = if request.body().is_end_stream() {
            None
        } else {
            let pace = shared.pace();
            let needs_cell = !bounded || pace.is_any();
            needs_cell.then(|| Arc::new(Overrun::new(shared.meter.clone(), pace)))
        };
        let counted = Counted::new(max, overrun.clone());
        let request = request.map(|body| Body::passing(body, counted));
        RequestLimitFuture {
            call: Call::Inner {
                future: self.inner.call(request),
            },
            memo,
            protocol: self.protocol.clone(),
            overrun,
            unread: None,
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
    let read = |value: &HeaderValue| value.to_str().ok()?.trim().parse().ok();
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
        let (rejection, unread) = match this.call.project() {
            CallProj::Inner { future } => {
                let polled = future.poll(cx);
                if polled.is_pending() {
                    return Poll::Pending;
                }
                let overrun = this.overrun.as_ref().and_then(|cell| cell.take());
                let Some(overrun) = overrun else {
                    let pass = |body| Body::passing(body, Rest::nothing());
                    return polled.map(|result| result.map(|response| response.map(pass)));
                };
                overrun
            }
            CallProj::Refused { rejection } => (rejection.take().expect(OVER), this.unread.take()),
        };
        Poll::Ready(answer(this.protocol, rejection, *this.memo, unread))
    }
}

/// What a client reads whose request is too large or too slow, and what is read of the client before.
#[cold]
fn answer<R, B, ResB, Err>(
    protocol: &Http<NoRule, R>,
    rejection: Rejection,
    memo: Memo,
    unread: Option<B>,
) -> Result<Response<Body<ResB, Rest<B>>>, Err>
where
    R: Respond + Clone,
    ResB: http_body::Body,
    Err: 'static,
{
    // A gRPC answer is trailers and nothing else, so that nothing can be held back; of who is too slow nothing is awaited.
    let unread = unread.filter(|_| memo.wire() != Wire::Grpc);
    let rest = unread.map_or_else(Rest::nothing, Rest::of);
    protocol.reject(rejection, memo, rest)
}

impl<F, B, X> fmt::Debug for RequestLimitFuture<F, B, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLimitFuture")
            .field("call", &self.call.name())
            .field("memo", &self.memo)
            .finish_non_exhaustive()
    }
}
