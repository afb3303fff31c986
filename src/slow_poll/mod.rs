//! Reports the handlers that block the runtime: polls that take too long.
//!
//! A poll of a future must return soon, because its worker serves no other task until then. A lag
//! monitor shows *that* a runtime is behind; this layer shows *which* handler keeps it busy.
//!
//! # Where it goes
//!
//! Inside all other layers, next to the handler. Its reports then cover only the polls of the
//! handler. In axum's `Router::layer`, the request has the route that matched:
//!
//! ```
//! use axum::{Router, extract::MatchedPath, routing::get};
//! use seawall::{SlowPoll, SlowPollLayer};
//!
//! let slow = SlowPoll::default().named("api");
//! let app: Router = Router::new()
//!     .route("/users/{id}", get(async || "hello"))
//!     .layer(SlowPollLayer::new(slow.clone()).route(|head| {
//!         let path = head.extensions.get::<MatchedPath>();
//!         path.map(|path| path.as_str().into())
//!     }));
//! for report in slow.snapshot().worst {
//!     println!("{:?} {:?} took {:?}", report.method, report.route, report.took);
//! }
//! # let _ = app;
//! ```
//!
//! As a part of a stack, it measures the handler and the layers inside the stack:
//! `seawall::server().policy(slow.clone())`.
//!
//! # What it reports
//!
//! A poll of the inner future that takes [`SlowPollSettings::threshold`] or longer (default: 10 ms)
//! is one entry of the histogram `seawall_slow_poll_seconds`, and a `WARN` with `took_ms`,
//! `method`, `path` and `route`; the process writes at most five of these events in a second. The
//! [snapshot](SlowPoll::snapshot) has the ten longest polls.
//!
//! The layer measures elapsed time, so that a poll which the operating system interrupts is slow
//! too. Move work that computes for long to `tokio::task::spawn_blocking`, and use the asynchronous
//! version of a call that blocks.
//!
//! The layer measures neither the polls of the response body nor the tasks that a handler spawns.
//! The crate `tokio-metrics` has counters for all polls of a task or a runtime, without requests.
//!
//! # Cost
//!
//! - Each poll costs two clock reads.
//! - Each request costs three reference counts: while it runs, the gate keeps its method, URI and
//!   `x-request-id`. If there is a closure for the route, the gate keeps the route too.
//! - A slow poll also allocates its report and takes a lock.
//! - A layer that is [switched off](GateLayer::switched_by) reads no clock and keeps nothing.
//!
//! # Cancellation
//!
//! Dropping the future drops the inner future. There is nothing to release.
//!
//! # Panics
//!
//! The layer does not panic. A poll that panics is not reported.

pub(crate) mod report;
mod settings;
pub(crate) mod shared;

use std::borrow::Cow;
#[cfg(feature = "http")]
use std::fmt;
use std::sync::Arc;

pub use self::report::SlowPollReport;
pub use self::settings::SlowPollSettings;
pub use self::shared::SlowPollSnapshot;
use self::shared::{Shared, SlowPolls};
use crate::config::{ConfigError, Configurable, Settings};
use crate::gate::GateLayer;
use crate::panic_report::RequestSummary;
#[cfg(feature = "http")]
use crate::policy::HttpRequest;
use crate::policy::{Admission, NoWait, Parts, Policy, SlowPolled};
use crate::protocol::Http;
use crate::request::RequestKind;

/// A layer that reports slow polls of the inner future.
pub type SlowPollLayer<X = Http> = GateLayer<SlowPoll, X>;

/// Counts and reports slow polls. A cheap `Clone`: all clones share their settings and reports.
#[derive(Clone, Debug)]
pub struct SlowPoll {
    shared: Arc<Shared>,
}

/// A [`SlowPoll`] whose reports have the route of the request. [`SlowPoll::with_route`] makes it.
#[derive(Clone)]
#[cfg(feature = "http")]
pub struct RoutedSlowPoll<F> {
    handle: SlowPoll,
    route: F,
}

// === impl SlowPoll ===

impl SlowPoll {
    /// Makes a handle with these [`SlowPollSettings`], or with a threshold.
    ///
    /// # Errors
    ///
    /// Returns an error if a setting is outside its range.
    pub fn new(settings: impl Into<SlowPollSettings>) -> Result<Self, ConfigError> {
        let settings = settings.into();
        settings.check()?;
        Ok(Self {
            shared: Arc::new(Shared::new(settings)),
        })
    }

    /// Names the handle in metrics and events. A second call has no effect.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.shared.reporter.set_name(name);
        self
    }

    /// The name; empty if it has none.
    pub fn name(&self) -> &str {
        self.shared.reporter.name()
    }

    /// Adds the route of the request to the reports. A gate calls the closure for each request. It
    /// returns `None` for a request without a route.
    #[cfg(feature = "http")]
    pub fn with_route<F>(self, route: F) -> RoutedSlowPoll<F>
    where
        F: Fn(&crate::RequestHead<'_>) -> Option<Arc<str>> + Clone,
    {
        RoutedSlowPoll {
            handle: self,
            route,
        }
    }

    /// The settings.
    pub fn settings(&self) -> SlowPollSettings {
        self.shared.current().get()
    }

    /// Replaces the settings for all clones of the handle, from the next poll on.
    ///
    /// # Errors
    ///
    /// Returns an error if a setting is outside its range, and then changes nothing.
    pub fn set(&self, settings: SlowPollSettings) -> Result<(), ConfigError> {
        self.shared.change(|_| settings)
    }

    /// The number of slow polls, and the ten longest ones.
    pub fn snapshot(&self) -> SlowPollSnapshot {
        self.shared.snapshot()
    }

    /// Forgets the longest polls, so that the snapshot has those from now on. The number of slow
    /// polls stays.
    pub fn forget_worst(&self) {
        self.shared.forget_worst();
    }
}

impl Default for SlowPoll {
    /// A handle with [`SlowPollSettings::default`].
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared::new(SlowPollSettings::default())),
        }
    }
}

impl<R: RequestKind> Policy<R> for SlowPoll {
    /// The part of the request that the gate keeps for the reports.
    type Token = Option<RequestSummary>;
    type Wait = NoWait<Self::Token, SlowPolled>;

    const IS_OURS: bool = true;

    #[inline]
    fn admit(&self, head: &R::Head<'_>) -> Admission<Self::Token, Self::Wait> {
        Admission::Admit(R::summary(head))
    }

    fn register(&self) {
        self.shared.reporter.register();
    }

    #[inline(always)]
    fn parts<'a>(&'a self, summary: Option<&'a Self::Token>) -> Parts<'a> {
        let slow_polls = summary.map(|summary| SlowPolls {
            shared: &self.shared,
            request: summary.as_ref(),
            route: None,
        });
        Parts {
            slow_polls,
            ..Parts::default()
        }
    }
}

// === impl RoutedSlowPoll ===

#[cfg(feature = "http")]
impl<F> Policy<HttpRequest> for RoutedSlowPoll<F>
where
    F: Fn(&crate::RequestHead<'_>) -> Option<Arc<str>> + Clone,
{
    type Token = (Option<RequestSummary>, Option<Arc<str>>);
    type Wait = NoWait<Self::Token, SlowPolled>;

    #[inline]
    fn admit(&self, head: &crate::RequestHead<'_>) -> Admission<Self::Token, Self::Wait> {
        let summary = HttpRequest::summary(head);
        Admission::Admit((summary, (self.route)(head)))
    }

    fn register(&self) {
        self.handle.shared.reporter.register();
    }

    #[inline(always)]
    fn parts<'a>(&'a self, token: Option<&'a Self::Token>) -> Parts<'a> {
        let slow_polls = token.map(|(summary, route)| SlowPolls {
            shared: &self.handle.shared,
            request: summary.as_ref(),
            route: route.as_ref(),
        });
        Parts {
            slow_polls,
            ..Parts::default()
        }
    }
}

#[cfg(feature = "http")]
impl<F> fmt::Debug for RoutedSlowPoll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutedSlowPoll")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

// === impl SlowPollLayer ===

impl SlowPollLayer {
    /// A layer that reports to this handle.
    pub fn new(handle: impl Into<SlowPoll>) -> Self {
        Self::from_handle(handle.into(), |handle| &handle.shared.reporter)
    }
}

#[cfg(feature = "http")]
impl<In, Out, E> SlowPollLayer<Http<In, Out, E>> {
    /// Adds the route of the request to the reports; see [`SlowPoll::with_route`].
    #[must_use]
    pub fn route<F>(self, route: F) -> GateLayer<RoutedSlowPoll<F>, Http<In, Out, E>>
    where
        F: Fn(&crate::RequestHead<'_>) -> Option<Arc<str>> + Clone,
    {
        self.map_policy(|handle| handle.with_route(route))
    }
}
