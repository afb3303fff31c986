//! Bounds for requests: the size of the body, of the headers and of the URI, and the pace of the
//! body.
//!
//! # Where it goes
//!
//! Innermost, next to the code that reads the body; see [the order of layers](crate#the-layers).
//! Axum's extractors have their own limit of 2 MiB. If your limit is larger, disable axum's with
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
//! The inner service gets the body as a [`RequestBody`]. Most services take any body type. For
//! those that take one type, such as `axum::middleware::from_fn`, keep the type with
//! [`request_body(axum::body::Body::new)`](crate::GateLayer::request_body), which also saves an
//! allocation in axum.
//!
//! If you nest limits, the smaller one applies. An inner layer can raise an outer limit that is
//! [`raisable`](RequestLimitSettings::raisable_to()).
//!
//! # What the client reads
//!
//! As long as the response head is not sent, the answer is 413 (gRPC `RESOURCE_EXHAUSTED`), unless
//! a timeout passes before the inner service answers:
//!
//! - The gate does not call the inner service if a `content-length` or a `size_hint` is above the
//!   limit. For a [`raisable`](RequestLimitSettings::raisable_to()) limit, it must be above the
//!   bound up to which inner layers may raise it.
//! - The gate counts the bytes of every body. At the frame that exceeds the limit, the inner
//!   service reads a [`BodyError`](crate::BodyError), and the gate replaces its answer.
//!
//! After the response head, the request body ends with that error, and the response stays as it is.
//!
//! The gate ignores a `content-length` that is not a number, and takes the largest of several: it
//! counts the bytes in any case. Hyper itself answers such requests with 400.
//!
//! # A client that is still sending
//!
//! A client that is still sending may lose the answer to a rejected request. When a server closes
//! an HTTP/1 connection that has unread data, the kernel resets the connection. Some HTTP/2 clients
//! do not read the answer on a stream that is reset while they send.
//!
//! For this reason a gate with a request limit reads the rest of a rejected body and drops the
//! bytes: up to 256 KiB, for at most one second. It does so for every rejection of the gate: at a
//! reached limit, for a shed request, at a timeout, and after a panic of the handler's future.
//! There are exceptions:
//!
//! - If another task has the body, the gate reads the rest only over HTTP/2, after that task has
//!   dropped the body.
//! - If the handler drops the body and the rest is known to have at most 16 KiB, the gate does not
//!   read it.
//! - It does not read the rest of a body that is too slow.
//! - If the gate rejects a request with `Expect: 100-continue` over HTTP/1 before the call, it does
//!   not read the body. The answer has `connection: close`. The connection stays open for a second,
//!   since the client may already send.
//!
//! - Over HTTP/2, the gate sends the answer at once, and a task reads the rest.
//! - Over HTTP/1, the gate first reads the rest if its length is known and at most 256 KiB, or up
//!   to 128 KiB if the length is unknown, for at most half a second. If it reaches the end, the
//!   connection stays open. If not, the answer has `connection: close`, and a task reads on. If the
//!   task stops before the end, it keeps the connection open for clients that read while they send:
//!   until a second after the answer, or half a second if the gate has read a part before it. If
//!   the declared length is above 256 KiB, the gate reads nothing first and answers at once with
//!   `connection: close`.
//!
//! A gate without a request limit drops the body of a request that it rejects. Over HTTP/1 it
//! answers one poll later, so that hyper can add `connection: close` if it closes the connection.
//! Over HTTP/2, hyper resets the stream with `NO_ERROR`, unless there is a request limit around the
//! gate, as around a breaker on a route: if the gate rejects the request before the call, or at a
//! timeout, a task then reads the rest, up to 256 KiB for at most one second. The task also reads
//! the rest if the inner service has given the body to another task, which drops it after the
//! timeout. Hyper's client does this. It also reads the rest of a body that the handler drops after
//! another call of that handler has timed out. After a rejection by a gate over
//! [`Plain`](crate::Plain), nothing reads the rest.
//!
//! To read the rest, the layer takes the request body out of the call. The body must therefore be
//! `Unpin`, `Send` and `'static`, as those of hyper, axum and tonic are. Put any other body into a
//! `Pin<Box<_>>`.
//!
//! # What the caller caused
//!
//! The gate knows whether its service waits for the request body, and whether the body failed. The
//! service waits if its last poll has polled the body, which had no data, or if another task has
//! the body and waits for it. The gate then answers a timeout with 408. For a [circuit
//! breaker](crate::circuit_breaker#what-the-caller-caused), such a timeout is not a failure of the
//! service, whether the breaker is in this gate, around it or inside it.
//!
//! # Slow senders
//!
//! [`body_idle_timeout`](RequestLimitSettings::body_idle_timeout()),
//! [`body_timeout`](RequestLimitSettings::body_timeout()) and
//! [`min_body_rate`](RequestLimitSettings::min_body_rate()) end a body that arrives too slowly. As
//! long as the response head is not sent, the answer is 408 with `connection: close` (gRPC
//! `DEADLINE_EXCEEDED`); after that, the body alone ends with an error. Time counts while the
//! handler waits for the body, and not while it does something else. If another task reads the body
//! for the handler, the time also counts while that task does something else, until bytes arrive.
//! With the answer 408, the request releases its permit of a
//! [`ConcurrencyLimit`](crate::ConcurrencyLimit).
//!
//! No layer sees a client that sends its headers slowly, since there is no request yet. Set hyper's
//! `header_read_timeout` with its timer, as `examples/testbed` does. `axum::serve` sets none.
//!
//! # Cost
//!
//! A request without a body costs the comparison of its length. A request body has a state from a
//! pool of its thread, which allocates when it is empty. A limit for the size of headers reads all
//! headers. Each wait for a body costs two clock reads and two locks of its state. If the pace is
//! limited, the wait also costs another clock read, and the first wait of a body an allocation. See
//! [`cost`](crate::docs::cost) for figures.
//!
//! # Cancellation
//!
//! Dropping the future drops the inner future and the request body. Dropping the response body
//! drops the inner body.
//!
//! # Panics
//!
//! A gate that waits for the rest of a body, or for a body whose pace is limited, panics outside a
//! Tokio runtime with a time driver.
//!
//! # Differences from tower-http 0.7
//!
//! `tower_http::limit` replaces the answer only if the request declares a length. Over a chunked
//! body, the client reads the answer that the handler gives to the error, often 400 or 500. It has
//! one limit for all requests, and answers gRPC with an HTTP status. Do not put it outside a layer
//! of this crate: axum's extractors do not find its error behind a [`BodyError`](crate::BodyError),
//! and answer 400 instead of 413.

pub(crate) mod bounds;
pub(crate) mod kept;
mod pace;
pub(crate) mod request_body;
mod settings;
mod unread;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use self::bounds::Bounds;
#[doc(hidden)]
pub use self::kept::{Kept, Sent};
pub use self::request_body::RequestBody;
pub use self::settings::{MinBodyRate, RequestLimitSettings};
#[doc(hidden)]
pub use self::unread::Unread;
use crate::config::{ConfigError, Configurable, Current, Settings};
use crate::gate::GateLayer;
use crate::http::head::RequestHead;
use crate::policy::{Admission, Limited, NoWait, Parts, PerRequest, Policy};
use crate::protocol::Http;
use crate::request::RequestKind;
#[doc(hidden)]
pub use crate::upload::{BodyUpload, Scope};

/// A layer that bounds requests with a [`RequestLimit`]. It answers 413, 414, 431 or 408 (gRPC
/// `RESOURCE_EXHAUSTED`, `DEADLINE_EXCEEDED`).
pub type RequestLimitLayer<X = Http> = GateLayer<RequestLimit, X>;

/// The limits for the size and the pace of requests. A cheap `Clone`: all clones share the
/// settings.
///
/// A gate uses one request limit: in a tuple of policies, the first that is neither exempt nor off.
/// To use two, nest two layers. Over [`Plain`](crate::Plain)
/// services it does nothing.
#[derive(Clone)]
pub struct RequestLimit {
    bounds: Arc<Bounds>,
}

/// The state of a [`RequestLimit`] at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RequestLimitSnapshot {
    /// The default limit for the body, in bytes.
    pub max_body: u64,
    /// The number of requests rejected so far.
    pub rejected: u64,
}

// === impl RequestLimit ===

impl RequestLimit {
    /// Makes a limit from the largest body in bytes, or from [`RequestLimitSettings`].
    ///
    /// # Errors
    ///
    /// Returns an error if a setting is outside its range.
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

    /// Names the limit in rejections, metrics and events. A second call has no effect.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.bounds.reporter().set_name(name);
        self
    }

    /// The name; empty if it has none.
    pub fn name(&self) -> &str {
        self.bounds.reporter().name()
    }

    /// The default limit for the body, in bytes.
    pub fn max_body(&self) -> u64 {
        self.bounds.max_body()
    }

    /// The current settings.
    pub fn settings(&self) -> RequestLimitSettings {
        self.current().get()
    }

    /// Replaces the settings for later requests. The new pace also applies to bodies that no
    /// handler has waited for yet.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new), and then changes nothing.
    pub fn set(&self, settings: RequestLimitSettings) -> Result<(), ConfigError> {
        self.change(|_| settings)
    }

    /// Changes the default limit for the body, in bytes, for later requests.
    ///
    /// # Errors
    ///
    /// Returns an error if `max_body` is above
    /// [`raisable_to`](RequestLimitSettings::raisable_to()), and then changes nothing.
    pub fn set_max_body(&self, max_body: u64) -> Result<(), ConfigError> {
        self.change(|settings| RequestLimitSettings {
            max_body,
            ..settings
        })
    }

    /// The default limit and the counter. For the other bounds, see [`settings`](Self::settings).
    pub fn snapshot(&self) -> RequestLimitSnapshot {
        RequestLimitSnapshot {
            max_body: self.max_body(),
            rejected: self.bounds.reporter().rejected(),
        }
    }
}

impl Configurable for RequestLimit {
    type Settings = RequestLimitSettings;

    fn current(&self) -> &Current<RequestLimitSettings> {
        self.bounds.current()
    }

    fn publish(&self, settings: &RequestLimitSettings) {
        self.bounds.publish(settings);
    }

    fn replaced(&self) {
        self.bounds.show();
    }
}

impl From<u64> for RequestLimit {
    fn from(max_body: u64) -> Self {
        Self::from_checked(RequestLimitSettings::new(max_body))
    }
}

impl<R: RequestKind> Policy<R> for RequestLimit {
    /// The limit for the body of this request, in bytes.
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
        Parts {
            limit: Some((&self.bounds, max.copied().unwrap_or(u64::MAX))),
            ..Parts::default()
        }
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
        Policy::<R>::parts(&self.policy, max)
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
    /// A layer that bounds requests with a [`RequestLimit`]: a number of bytes for the body, or a
    /// handle.
    pub fn new(limit: impl Into<RequestLimit>) -> Self {
        Self::from_handle(limit.into(), |limit| limit.bounds.reporter())
    }
}

impl<In, Out, E> RequestLimitLayer<Http<In, Out, E>> {
    /// Gives some requests another limit for the body: the closure returns bytes, or `None` for the
    /// default.
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
