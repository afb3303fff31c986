//! Bounds for requests: the size of the body, of the headers and of the URI, and the pace of the
//! body.
//!
//! # Where it goes
//!
//! Innermost, next to the code that reads the body; see [the order of layers](crate#the-layers).
//! Axum's extractors have their own limit of 2 MiB: if your limit is larger, disable axum's with
//! `DefaultBodyLimit::disable()`.
//!
//! ```
//! use axum::{Router, body::Bytes, extract::DefaultBodyLimit, routing::post};
//! use seawall::RequestLimitLayer;
//!
//! let app: Router = Router::new()
//!     .route("/upload", post(async |body: Bytes| body.len().to_string()))
//!     .layer(DefaultBodyLimit::disable()) // axum's own
//!     .layer(RequestLimitLayer::new(8 << 20).per_request(|head| {
//!         (head.path() == "/login").then_some(4096)
//!     }));
//! # let _ = app;
//! ```
//!
//! Inner services get the body as a [`RequestBody`]. Most take any body type; for those that take
//! one type, such as `axum::middleware::from_fn`, keep it with
//! [`request_body(axum::body::Body::new)`](crate::GateLayer::request_body), which also saves an
//! allocation in axum.
//!
//! If limits are nested, the smaller one applies. An inner layer can raise an outer limit that is
//! [`raisable`](RequestLimit::raisable_to).
//!
//! # What the client reads
//!
//! The answer is 413 (gRPC `RESOURCE_EXHAUSTED`) if the response head is not sent yet. If a
//! `content-length` or a `size_hint` is above the limit, the inner service is not called; of a
//! [`raisable`](RequestLimit::raisable_to) limit, if it is above that bound. The bytes
//! of every body are counted. At the frame that exceeds the limit, the inner service reads a
//! [`BodyError`](crate::BodyError), and the gate replaces its answer. If the response head is
//! already sent, the request body ends with that error, and the response is not replaced.
//!
//! A `content-length` that cannot be read counts as none, and of several the largest counts: bytes
//! are counted in any case. Hyper itself answers such requests with 400.
//!
//! # A client that is still sending
//!
//! An HTTP/1 connection with unread data is reset when it closes, and the client may lose the
//! answer with it. Some HTTP/2 clients do not read the answer on a stream that is reset while they
//! send. So a gate with a request limit reads up to 256 KiB of the rest, for at most one second,
//! and drops it. It does so when it rejects: at a full limit, a shed request, a timeout, a panic of
//! the handler's future. If the handler has taken the body, the gate reads the rest only if the
//! body is dropped together with the handler. The rest of a body that is too slow is not read.
//!
//! - Over HTTP/2, the answer is sent at once, and a task reads the rest.
//! - Over HTTP/1, the gate first reads the rest if its length is known and at most 256 KiB. If the
//!   length is unknown, it first reads up to 128 KiB, for at most half a second. If it reaches the
//!   end, the connection stays open. If not, the answer says `connection: close`, and a task reads
//!   on. If the declared length is above 256 KiB, or the client waits for `100 Continue`, the gate
//!   reads nothing first and answers at once with `connection: close`.
//!
//! A gate without a request limit drops the body with the rejection. Over HTTP/1 it then answers
//! one poll later, so that hyper can add `connection: close` if it closes the connection. Over
//! HTTP/2 hyper resets the stream with `NO_ERROR`.
//!
//! To read the rest, the layer takes the request body out of the call: the body must be `Unpin`,
//! `Send` and `'static`, as those of hyper, axum and tonic are; put any other into a `Pin<Box<_>>`.
//!
//! # What the caller caused
//!
//! The gate knows whether its service waits for the request body, and whether the body failed. A
//! timeout while the service waits is answered with 408, and is no failure of the service for a
//! [circuit breaker](crate::circuit_breaker#what-the-caller-caused), in this gate or any other
//! around it or inside it.
//!
//! # Slow senders
//!
//! [`body_idle_timeout`](RequestLimitLayer::body_idle_timeout),
//! [`body_timeout`](RequestLimitLayer::body_timeout) and
//! [`min_body_rate`](RequestLimitLayer::min_body_rate) end a body that comes too slowly: 408 with
//! `connection: close` (gRPC `DEADLINE_EXCEEDED`) as long as the response head is unsent, else the
//! body alone ends with an error. Time counts while the handler waits for the body, and not while
//! it does something else. The request then releases its permit of a
//! [`ConcurrencyLimit`](crate::ConcurrencyLimit).
//!
//! A sender of slow headers has no request yet, and no layer sees it: set hyper's
//! `header_read_timeout` with its timer, as `examples/axum.rs` does. `axum::serve` has none.
//!
//! # Cancellation
//!
//! Dropping the future or the body drops what is inside.
//!
//! # Panics
//!
//! Outside a Tokio runtime with a time driver, when the rest of a body has to be waited for, or a
//! body whose pace is limited.
//!
//! # Differences from tower-http
//!
//! `tower_http::limit` replaces the answer only where a length was declared: over a chunked body
//! the client reads what the handler makes of the error, often 400 or 500. It has one limit for all
//! requests, and answers gRPC with HTTP.

pub(crate) mod bounds;
pub(crate) mod kept;
mod pace;
pub(crate) mod request_body;
mod unread;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::bounds::Bounds;
#[doc(hidden)]
pub use self::kept::{Kept, KeptBody, Sent};
pub use self::request_body::RequestBody;
#[doc(hidden)]
pub use self::unread::Unread;
use crate::gate::GateLayer;
use crate::http::head::RequestHead;
use crate::policy::{Admission, Limited, NoWait, Parts, PerRequest, Policy};
use crate::protocol::Http;
use crate::request::RequestKind;
#[doc(hidden)]
pub use crate::upload::Scope;

/// Bounds requests with a [`RequestLimit`]: 413, 414, 431 or 408 (gRPC `RESOURCE_EXHAUSTED`,
/// `DEADLINE_EXCEEDED`).
pub type RequestLimitLayer<X = Http> = GateLayer<RequestLimit, X>;

/// How large and how slow a request may be. A cheap `Clone`: every clone is the same setting.
///
/// One gate has one request limit; for another one nest a layer. Over [`Plain`](crate::Plain)
/// services it does nothing.
#[derive(Clone)]
pub struct RequestLimit {
    bounds: Arc<Bounds>,
}

/// What a [`RequestLimit`] has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RequestLimitSnapshot {
    /// The largest body that passes by default, in bytes.
    pub max_body: u64,
    /// The largest headers, in bytes; `None` for no limit.
    pub max_header_bytes: Option<u64>,
    /// The most headers; `None` for no limit.
    pub max_headers: Option<u64>,
    /// The longest path and query, in bytes; `None` for no limit.
    pub max_uri: Option<u64>,
    /// The longest silence of a body; `None` for no limit.
    pub body_idle_timeout: Option<Duration>,
    /// The longest time that a body is waited for; `None` for no limit.
    pub body_timeout: Option<Duration>,
    /// The least rate of a body, in bytes a second, and its grace; `None` for no limit.
    pub min_body_rate: Option<(u64, Duration)>,
    /// Requests rejected so far.
    pub rejected: u64,
}

// === impl RequestLimit ===

impl RequestLimit {
    /// Bodies of up to `max_body` bytes pass; 0 lets only empty ones pass.
    pub fn new(max_body: u64) -> Self {
        Self {
            bounds: Arc::new(Bounds::new(max_body)),
        }
    }

    /// Names the limit in rejections, metrics and events. The first name stays.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.bounds.reporter().set_name(name);
        self
    }

    /// Lets an inner `RequestLimit` replace the body size of this one by a larger one, up to `most`
    /// bytes. By default, the smaller of two nested limits applies. If `most` is not above the
    /// limit of a request, this has no effect. All clones of the handle become raisable.
    ///
    /// An inner layer raises only the size of the body. This layer's limits of headers and URI, its
    /// body timeouts and its least rate still apply.
    ///
    /// It is for a layer around a router, where some routes have a limit of their own:
    ///
    /// ```
    /// use axum::{Router, body::Bytes, extract::DefaultBodyLimit, routing::post};
    /// use seawall::{RequestLimit, RequestLimitLayer};
    ///
    /// let uploads = Router::new()
    ///     .route("/upload", post(async |body: Bytes| body.len().to_string()))
    ///     .layer(DefaultBodyLimit::disable()) // axum's own
    ///     .layer(RequestLimitLayer::new(16 << 20));
    /// let app: Router = Router::new()
    ///     .route("/", post(async |name: String| format!("hello, {name}")))
    ///     .merge(uploads)
    ///     .layer(RequestLimitLayer::new(RequestLimit::new(64 << 10).raisable_to(64 << 20)));
    /// # let _ = app;
    /// ```
    ///
    /// If the declared size of a body is above this limit, but not above `most`, the gate calls the
    /// inner service, because an inner layer may raise the limit. If none does, the service reads a
    /// [`BodyError`](crate::BodyError) instead of the first frame, and the gate answers 413. A
    /// service that does not read the body answers as usual.
    ///
    /// The inner limit finds this one as an inner timeout does; see
    /// [`Timeout::raisable_to`](crate::Timeout::raisable_to). It costs two allocations and a clock
    /// read for each request with a body.
    #[must_use]
    pub fn raisable_to(self, most: u64) -> Self {
        crate::raise::use_it();
        self.bounds.set_most_body(most);
        self
    }

    /// The largest body that passes by default, in bytes.
    pub fn max_body(&self) -> u64 {
        self.bounds.max_body()
    }

    /// Changes the largest body for later requests.
    pub fn set_max_body(&self, max_body: u64) {
        self.bounds.set_max_body(max_body);
    }

    /// Changes how large the headers may be for later requests; see
    /// [`RequestLimitLayer::headers`].
    pub fn set_headers(&self, max_bytes: u64, max_count: u64) {
        self.bounds.set_headers(max_bytes, max_count);
    }

    /// Changes how long the URI may be for later requests; see [`RequestLimitLayer::uri`].
    pub fn set_uri(&self, max_bytes: u64) {
        self.bounds.set_uri(max_bytes);
    }

    /// Changes the longest silence of a body for later requests; see
    /// [`RequestLimitLayer::body_idle_timeout`]. Zero is no limit.
    pub fn set_body_idle_timeout(&self, idle: Duration) {
        self.bounds.set_idle(idle);
    }

    /// Changes the time for a body for later requests; see [`RequestLimitLayer::body_timeout`].
    /// Zero is no limit.
    pub fn set_body_timeout(&self, timeout: Duration) {
        self.bounds.set_timeout(timeout);
    }

    /// Changes the least rate of a body for later requests; see
    /// [`RequestLimitLayer::min_body_rate`]. Zero is no limit.
    pub fn set_min_body_rate(&self, bytes_per_second: u64, grace: Duration) {
        self.bounds.set_rate(bytes_per_second, grace);
    }

    /// Its settings and what it has seen.
    pub fn snapshot(&self) -> RequestLimitSnapshot {
        let bounds = &self.bounds;
        let limited = |most: u64| Some(most).filter(|most| *most != u64::MAX);
        let (max_header_bytes, max_headers) = bounds.max_headers();
        let pace = bounds.pace();
        RequestLimitSnapshot {
            max_body: bounds.max_body(),
            max_header_bytes: limited(max_header_bytes),
            max_headers: limited(max_headers),
            max_uri: limited(bounds.max_uri()),
            body_idle_timeout: pace.idle,
            body_timeout: pace.timeout,
            min_body_rate: pace.rate,
            rejected: bounds.reporter().rejected(),
        }
    }

    fn limit(&self) -> &Self {
        self
    }

    #[inline(always)]
    fn parts_of(&self, max: Option<&u64>) -> Parts<'_> {
        Parts {
            limit: Some((&self.bounds, max.copied().unwrap_or(u64::MAX))),
            ..Parts::default()
        }
    }
}

impl From<u64> for RequestLimit {
    fn from(max_body: u64) -> Self {
        Self::new(max_body)
    }
}

impl<R: RequestKind> Policy<R> for RequestLimit {
    /// The most that the body may have, in bytes.
    type Token = u64;
    type Wait = NoWait<u64, Limited>;

    const IS_OURS: bool = true;

    #[inline(always)]
    fn admit(&self, _: &R::Head<'_>) -> Admission<u64, Self::Wait> {
        Admission::Admit(self.bounds.max_body())
    }

    #[inline(always)]
    fn parts<'a>(&'a self, max: Option<&'a u64>) -> Parts<'a> {
        self.parts_of(max)
    }
}

impl<R, F, O> Policy<R> for PerRequest<RequestLimit, F>
where
    R: RequestKind,
    F: Fn(&R::Head<'_>) -> O + Clone,
    O: Into<Option<u64>>,
{
    type Token = u64;
    type Wait = NoWait<u64, Limited>;

    #[inline(always)]
    fn admit(&self, head: &R::Head<'_>) -> Admission<u64, Self::Wait> {
        let max = (self.rule)(head).into();
        Admission::Admit(max.unwrap_or_else(|| self.policy.bounds.max_body()))
    }

    #[inline(always)]
    fn parts<'a>(&'a self, max: Option<&'a u64>) -> Parts<'a> {
        self.policy.parts_of(max)
    }
}

impl<F> PerRequest<RequestLimit, F> {
    fn limit(&self) -> &RequestLimit {
        &self.policy
    }
}

impl fmt::Debug for RequestLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLimit")
            .field("max_body", &self.max_body())
            .field("reporter", self.bounds.reporter())
            .finish()
    }
}

// === impl RequestLimitLayer ===

impl RequestLimitLayer {
    /// Lets bodies pass that are within a [`RequestLimit`]: a number of bytes, or a handle.
    pub fn new(limit: impl Into<RequestLimit>) -> Self {
        let limit = limit.into();
        let reporter = limit.bounds.reporter().clone();
        Self::with_reporter(limit, reporter)
    }
}

/// The setters of the layer, whether or not some requests have another limit.
macro_rules! setters {
    ([$($generics:tt)*] $policy:ty) => {
        impl<$($generics)*> GateLayer<$policy, X> {
            /// Rejects requests with more than `max_count` headers, or whose headers are larger
            /// than `max_bytes`, names and values together: 431.
            ///
            /// Use it for limits below those of the server, which itself rejects with 431 what it
            /// cannot read: hyper's HTTP/1 reads up to 100 headers (`max_headers`) in a buffer of
            /// about 400 kB (`max_buf_size`), its HTTP/2 lists of 16 KiB (`max_header_list_size`).
            ///
            /// Like the setters below it changes the limit's handle: every clone has the same.
            #[must_use]
            pub fn headers(self, max_bytes: u64, max_count: u64) -> Self {
                self.policy().limit().set_headers(max_bytes, max_count);
                self
            }

            /// Rejects requests whose path and query together are longer: 414. Hyper itself rejects
            /// with 414 what is above 65 534 bytes.
            #[must_use]
            pub fn uri(self, max_bytes: u64) -> Self {
                self.policy().limit().set_uri(max_bytes);
                self
            }

            /// Ends a body that is silent for this long while the handler waits for it: 408 as long
            /// as the response head is unsent.
            #[must_use]
            pub fn body_idle_timeout(self, idle: Duration) -> Self {
                self.policy().limit().set_body_idle_timeout(idle);
                self
            }

            /// Ends a body that the handler has waited for this long in total: 408 as long as the
            /// response head is unsent.
            ///
            /// Not for streams that may live long, such as gRPC streams in both directions.
            #[must_use]
            pub fn body_timeout(self, timeout: Duration) -> Self {
                self.policy().limit().set_body_timeout(timeout);
                self
            }

            /// Ends a body that comes more slowly than this on average, once the grace is over: 408
            /// as long as the response head is unsent. As in Apache's `mod_reqtimeout`, the bytes
            /// that have come earn time: so many bytes another second.
            #[must_use]
            pub fn min_body_rate(self, bytes_per_second: u64, grace: Duration) -> Self {
                self.policy().limit().set_min_body_rate(bytes_per_second, grace);
                self
            }

        }
    };
}

setters!([X] RequestLimit);
setters!([F, X] PerRequest<RequestLimit, F>);

impl<In, Out, E> RequestLimitLayer<Http<In, Out, E>> {
    /// Gives some requests another limit: bytes, or `None` for the default.
    #[must_use]
    pub fn per_request<F, O>(
        self,
        rule: F,
    ) -> GateLayer<PerRequest<RequestLimit, F>, Http<In, Out, E>>
    where
        F: Fn(&RequestHead<'_>) -> O + Clone,
        O: Into<Option<u64>>,
    {
        self.map_policy(|limit| PerRequest::new(limit, rule))
    }
}
