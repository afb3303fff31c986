//! Panic isolation: a panic of a handler ends its own request and no other.
//!
//! # Where it goes
//!
//! Outermost, so that it catches the panics of all other layers; see [the order of
//! layers](crate#the-layers).
//!
//! ```
//! use axum::{Router, routing::get};
//! use seawall::CatchPanicLayer;
//!
//! let app: Router = Router::new()
//!     .route("/", get(async || { if true { panic!("oh no") } }))
//!     .layer(CatchPanicLayer::new().on_panic(|panic| {
//!         let path = panic.request().map(|request| request.uri.path());
//!         eprintln!("{path:?} panicked: {}", panic.message().unwrap_or("?"));
//!     }));
//! # let _ = app;
//! ```
//!
//! The layer catches panics in `call`, in the future, in `poll_frame` of the response body, in
//! `respond_with`, and in the policies and closures of the same gate, except the closure of
//! `response_body`. It answers a panic in `poll_ready` at the next `call` of that instance. It does
//! not catch panics in `size_hint` or `is_end_stream` of a body.
//!
//! - Before the response head is sent, the client reads 500 (gRPC `INTERNAL`). The connection stays
//!   open, over HTTP/1 only if the request body was read.
//! - After the response head, the body ends with an error: HTTP/1 closes the connection, HTTP/2
//!   resets the stream. A gRPC client reads the reset as `INTERNAL`, without trailers.
//!
//! The payload of the panic does not reach the client. A hook and `tracing` get it.
//!
//! The crate must be compiled with `panic = "unwind"`, which is the default.
//!
//! A service that panics again and again may have inconsistent state, for example behind a poisoned
//! lock. [`CatchPanic::set_escalation`] drains such a process or ends it, so that it starts again.
//!
//! # Cost
//!
//! A request that does not panic costs no allocation, no boxed body and no clock read. A hook
//! ([`on_panic`](crate::GateLayer::on_panic)) costs three reference counts for each request.
//!
//! # Cancellation
//!
//! Dropping the future drops the inner future, and dropping the body drops the inner body. The
//! layer does not catch a panic in that drop.
//!
//! # Panics
//!
//! The layer catches a panic of the hook and ignores it.
//!
//! # Differences from tower-http 0.7
//!
//! `tower_http::catch_panic` boxes the response body of every request. It does not catch panics in
//! `poll_ready` and in the body, answers gRPC with an HTTP 500, and does not pass the request to
//! its responder.

mod escalation;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

pub use self::escalation::PanicEscalation;
use crate::config::ConfigError;
use crate::gate::GateLayer;
use crate::observe::Reporter;
pub use crate::panic_report::PanicReport;
use crate::panic_report::{Hook, RequestSummary};
use crate::policy::{Admission, Isolated, Isolation, NoWait, Panics, Parts, Policy};
use crate::protocol::Http;
use crate::request::RequestKind;

/// A layer that answers 500 (gRPC `INTERNAL`) when the inner service panics.
pub type CatchPanicLayer<X = Http> = GateLayer<CatchPanic, X>;

/// Catches and counts panics: the handle of a [`CatchPanicLayer`]. A cheap `Clone`: all clones
/// share one counter. Keep a clone to read the counter, or to [escalate](Self::set_escalation).
#[derive(Clone, Debug)]
pub struct CatchPanic {
    panics: Arc<Panics>,
}

/// A [`CatchPanic`] with a hook. [`CatchPanicLayer::on_panic`](GateLayer::on_panic) makes it.
#[derive(Clone)]
pub struct OnPanic {
    handle: CatchPanic,
    hook: Hook,
}

/// The state of a [`CatchPanic`] at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CatchPanicSnapshot {
    /// The number of panics caught so far.
    pub panics: u64,
}

// === impl CatchPanic ===

impl CatchPanic {
    /// Makes a handle that has counted no panic.
    pub fn new() -> Self {
        Self {
            panics: Arc::new(Panics {
                reporter: Reporter::new("catch_panic"),
                escalation: OnceLock::new(),
            }),
        }
    }

    /// Names the handle in rejections, metrics and events. A second call has no effect.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.panics.reporter.set_name(name);
        self
    }

    /// The name; empty if it has none.
    pub fn name(&self) -> &str {
        self.panics.reporter.name()
    }

    /// Drains or ends the process after too many panics; see [`PanicEscalation`].
    ///
    /// # Errors
    ///
    /// Returns an error if a setting of the escalation is outside its range, or if the handle has
    /// an escalation. It then changes nothing.
    pub fn set_escalation(&self, escalation: PanicEscalation) -> Result<(), ConfigError> {
        let escalate = escalation.start(self.panics.reporter.clone())?;
        let set = self.panics.escalation.set(escalate);
        set.map_err(|_| ConfigError::new("escalation", "a second one", "set once"))
    }

    /// The number of panics caught so far.
    pub fn panics(&self) -> u64 {
        self.panics.reporter.rejected()
    }

    /// The counter of panics.
    pub fn snapshot(&self) -> CatchPanicSnapshot {
        CatchPanicSnapshot {
            panics: self.panics(),
        }
    }

    pub(crate) fn with_hook<F>(self, hook: F) -> OnPanic
    where
        F: Fn(&PanicReport<'_>) + Send + Sync + 'static,
    {
        OnPanic {
            handle: self,
            hook: Arc::new(hook),
        }
    }

    #[inline(always)]
    fn isolation(&self) -> Isolation<'_> {
        Isolation {
            panics: &self.panics,
            hook: None,
            request: None,
        }
    }
}

impl Default for CatchPanic {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: RequestKind> Policy<R> for CatchPanic {
    type Token = ();
    type Wait = NoWait<(), Isolated>;

    const IS_OURS: bool = true;

    #[inline(always)]
    fn admit(&self, _: &R::Head<'_>) -> Admission<(), Self::Wait> {
        Admission::Admit(())
    }

    fn register(&self) {
        self.panics.reporter.register();
    }

    #[inline(always)]
    fn parts<'a>(&'a self, _: Option<&'a ()>) -> Parts<'a> {
        Parts {
            isolation: Some(self.isolation()),
            ..Parts::default()
        }
    }
}

impl AsRef<CatchPanic> for CatchPanic {
    fn as_ref(&self) -> &CatchPanic {
        self
    }
}

// === impl OnPanic ===

/// Without a hook; it keeps the requests.
impl From<CatchPanic> for OnPanic {
    fn from(catch_panic: CatchPanic) -> Self {
        catch_panic.with_hook(|_| {})
    }
}

impl AsRef<CatchPanic> for OnPanic {
    fn as_ref(&self) -> &CatchPanic {
        &self.handle
    }
}

impl<R: RequestKind> Policy<R> for OnPanic {
    /// The part of the request that the gate keeps for the hook.
    type Token = Option<RequestSummary>;
    type Wait = NoWait<Self::Token, Isolated>;

    const IS_OURS: bool = true;

    #[inline]
    fn admit(&self, head: &R::Head<'_>) -> Admission<Self::Token, Self::Wait> {
        Admission::Admit(R::summary(head))
    }

    fn register(&self) {
        self.handle.panics.reporter.register();
    }

    #[inline(always)]
    fn parts<'a>(&'a self, summary: Option<&'a Self::Token>) -> Parts<'a> {
        let isolation = Isolation {
            hook: Some(&self.hook),
            request: summary.and_then(Option::as_ref),
            ..self.handle.isolation()
        };
        Parts {
            isolation: Some(isolation),
            ..Parts::default()
        }
    }
}

impl fmt::Debug for OnPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnPanic")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

// === impl CatchPanicLayer ===

impl CatchPanicLayer {
    /// A layer that catches panics with a counter of its own. To keep the handle, use
    /// `CatchPanicLayer::from`.
    pub fn new() -> Self {
        CatchPanic::new().into()
    }
}

impl Default for CatchPanicLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl From<CatchPanic> for CatchPanicLayer {
    fn from(handle: CatchPanic) -> Self {
        Self::from_handle(handle, |handle| &handle.panics.reporter)
    }
}

impl<X> CatchPanicLayer<X> {
    /// Calls `hook` for every panic, before the answer is made. For the hook, the gate keeps the
    /// request's method, URI and `x-request-id` while the request runs. This costs three reference
    /// counts. A panic of the hook is caught.
    #[must_use]
    pub fn on_panic<F>(self, hook: F) -> GateLayer<OnPanic, X>
    where
        F: Fn(&PanicReport<'_>) + Send + Sync + 'static,
    {
        self.map_policy(|handle| handle.with_hook(hook))
    }

    /// Keeps the request's method, URI and `x-request-id` while the request runs, as
    /// [`on_panic`](Self::on_panic) does. The event of a panic, and that of a timeout in the same
    /// gate, then have the method and the path. This costs three reference counts.
    #[must_use]
    pub fn keep_requests(self) -> GateLayer<OnPanic, X> {
        self.on_panic(|_| {})
    }
}
