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
//! [`raisable`](RequestLimitSettings::raisable_to()).
//!
//! # What the client reads
//!
//! The answer is 413 (gRPC `RESOURCE_EXHAUSTED`) if the response head is not sent yet. If a
//! `content-length` or a `size_hint` is above the limit, the inner service is not called; of a
//! [`raisable`](RequestLimitSettings::raisable_to()) limit, if it is above that bound. The bytes
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
//! [`body_idle_timeout`](RequestLimitSettings::body_idle_timeout()),
//! [`body_timeout`](RequestLimitSettings::body_timeout()) and
//! [`min_body_rate`](RequestLimitSettings::min_body_rate()) end a body that comes too slowly: 408
//! with `connection: close` (gRPC `DEADLINE_EXCEEDED`) as long as the response head is unsent, else
//! the body alone ends with an error. Time counts while the handler waits for the body, and not
//! while it does something else. The request then releases its permit of a
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
mod settings;
mod unread;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::bounds::Bounds;
#[doc(hidden)]
pub use self::kept::{Kept, KeptBody, Sent};
pub use self::request_body::RequestBody;
pub use self::settings::{MinBodyRate, RequestLimitSettings};
#[doc(hidden)]
pub use self::unread::Unread;
use crate::config::ConfigError;
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
    /// The least rate of a body; `None` for no limit.
    pub min_body_rate: Option<MinBodyRate>,
    /// Requests rejected so far.
    pub rejected: u64,
}

// === impl RequestLimit ===

impl RequestLimit {
    /// A limit: the largest body that passes, in bytes, or [`RequestLimitSettings`].
    ///
    /// # Errors
    ///
    /// If a setting is outside its range.
    pub fn new(settings: impl Into<RequestLimitSettings>) -> Result<Self, ConfigError> {
        let settings = settings.into();
        settings.check()?;
        Ok(Self::from_checked(settings))
    }

    fn from_checked(settings: RequestLimitSettings) -> Self {
        Self {
            bounds: Arc::new(Bounds::new(settings)),
        }
    }

    /// Names the limit in rejections, metrics and events. The first name stays.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.bounds.reporter().set_name(name);
        self
    }

    /// The largest body that passes by default, in bytes.
    pub fn max_body(&self) -> u64 {
        self.bounds.max_body()
    }

    /// The settings.
    pub fn settings(&self) -> RequestLimitSettings {
        self.bounds.settings()
    }

    /// Replaces the settings for later requests.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); nothing is changed then.
    pub fn set(&self, settings: RequestLimitSettings) -> Result<(), ConfigError> {
        self.bounds.change(|_| settings)
    }

    /// Changes the largest body for later requests.
    ///
    /// # Errors
    ///
    /// If `max_body` is above [`raisable_to`](RequestLimitSettings::raisable_to()); nothing is
    /// changed then.
    pub fn set_max_body(&self, max_body: u64) -> Result<(), ConfigError> {
        self.bounds.change(|settings| RequestLimitSettings {
            max_body,
            ..settings
        })
    }

    /// Its settings and what it has seen.
    pub fn snapshot(&self) -> RequestLimitSnapshot {
        let settings = self.settings();
        RequestLimitSnapshot {
            max_body: settings.max_body,
            max_header_bytes: settings.max_header_bytes,
            max_headers: settings.max_headers,
            max_uri: settings.max_uri,
            body_idle_timeout: settings.body_idle_timeout,
            body_timeout: settings.body_timeout,
            min_body_rate: settings.min_body_rate,
            rejected: self.bounds.reporter().rejected(),
        }
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
        Self::from_checked(RequestLimitSettings::new(max_body))
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

    fn register(&self) {
        self.bounds.reporter().register();
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

    fn register(&self) {
        self.policy.bounds.reporter().register();
    }

    #[inline(always)]
    fn parts<'a>(&'a self, max: Option<&'a u64>) -> Parts<'a> {
        self.policy.parts_of(max)
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
