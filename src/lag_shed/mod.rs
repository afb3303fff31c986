//! Sheds load when the Tokio runtime is behind: rejects the requests that have waited too long in
//! its queue.
//!
//! # Where it goes
//!
//! Outermost, before routing. Under overload most requests are rejected, and the less a rejection
//! costs, the more load the service withstands. One core rejects about 85 000 requests a second
//! there, 70 000 inside `Router::layer`, and 50 000 in a handler. Only
//! [`CatchPanicLayer`](crate::CatchPanicLayer) goes around it; see [the order of
//! layers](crate#the-layers).
//!
//! ```no_run
//! use axum::{Router, response::Response};
//! use seawall::{LagShed, LagShedLayer};
//! use tower::{ServiceBuilder, make::Shared};
//!
//! # async fn serve(router: Router, listener: tokio::net::TcpListener) -> std::io::Result<()> {
//! let lag = LagShed::default();
//! let app = ServiceBuilder::new()
//!     .map_response(|response: Response<_>| response.map(axum::body::Body::new))
//!     .layer(LagShedLayer::new(lag.clone()).exempt(|head| head.uri.path() == "/health"))
//!     .service(router.with_state(()));
//! axum::serve(listener, Shared::new(app)).await // lag.state() says Normal, Warn or Shedding
//! # }
//! ```
//!
//! It sees handlers that compute, which a concurrency limit and a timeout do not see. They keep
//! their worker, so that requests wait in the runtime's queue, where nothing counts them, before
//! the service is called. For handlers that await, use a
//! [`ConcurrencyLimit`](crate::ConcurrencyLimit) as well.
//!
//! # How it decides
//!
//! 1. A worker of the runtime serves its queue in order, and hyper calls the service when the
//!    request has reached the head of the queue.
//! 2. A probe measures the lag of the runtime from outside; see
//!    [`lag_monitor`](crate::lag_monitor).
//! 3. While the lag is above [`target`](LagThresholds::target()), a mark goes around with the
//!    requests of each worker: it waits for a turn of the driver, which reads the sockets, then
//!    goes to the back of the queue, and starts again when it is polled.
//! 4. A request that is served between two marks arrived between their two turns; the number of
//!    requests since the last mark says when. That is how long the request has waited.
//!    An HTTP/2 connection spawns a task for each request, so that requests wait after the call,
//!    too: those that have not begun, times the mean service time, are added.
//! 5. A lag of 80 ms ([`arm`](LagThresholds::arm())) in two readings while requests arrive, or one
//!    request that has waited for so long, arms the shedder.
//! 6. While it is armed, it rejects the requests that have waited longer than 30 ms
//!    ([`bound`](LagThresholds::bound())) or than 128 requests of their worker take, and those that
//!    come while more than 32 tasks for each worker are in the runtime's injection queue.
//! 7. So the queue holds the arrivals of the last 30 ms at any overload: the server always has
//!    work, and the latency is the bound plus the service itself.
//! 8. Both thresholds grow with the residual service time of the handlers, up to a maximum, since
//!    long handlers wait for each other at any load.
//! 9. Requests that begin to await leave the queue, so that their number is limited to 1.5 times
//!    its average, which grows while no request waits for long.
//! 10. It is disarmed when the lag has been low, and nothing was rejected, for half a second
//!     ([`disarm_after`](LagThresholds::disarm_after())).
//!
//! ```text
//!                     driver turn                    driver turn
//!                          │                              │
//!  arrivals   ──r──r─r──r──┼──r───r──r──r──r───r──r───r───┼──r──r──▶ time
//!                          │                              │
//!  queue      head ◀── r r r r [mark] r r r r r r r r [mark] r r
//!                              └──── the age of the request
//!                                    at the head: from here
//! ```
//!
//! A lag during which no request passes is a stall and not a queue: it is forgiven, and so is the
//! backlog that it leaves, while that drains. A second stall right after the first is a queue of
//! long handlers, and is not forgiven. Between two readings of the probe, a request costs one load
//! while nothing is watched.
//!
//! In simulation, with handlers of 2 ms on one worker and the onset included:
//!
//! | load | goodput of the bound | p50 | p99 |
//! |---|---|---|---|
//! | 2x | 0.998 | 35 ms | 76 ms |
//! | 5x | 0.998 | 36 ms | 82 ms |
//! | 10x | 0.998 | 27 ms | 83 ms |
//! | 20x | 0.998 | 14 ms | 66 ms |
//!
//! `cargo run --release --example overload` compares it with other algorithms on a real server. The
//! classic latch, which rejects everything from a lag of 100 ms until it has been lower for 30 s,
//! serves 0.05 of the bound in the same simulation; you find it there as a policy of its own.
//!
//! # What it does not see
//!
//! - **Handlers that await.** They cause no lag. The quota holds their p99 once it is armed, but
//!   only a [`ConcurrencyLimit`](crate::ConcurrencyLimit) bounds the onset: use both.
//! - **Tasks in a `LocalSet`.** They share one task of the runtime, so that they wait for each
//!   other where neither the probe nor a mark is. Spawn the connections on the runtime
//!   (`tokio::spawn` on a `current_thread` runtime) instead, or use a concurrency limit.
//! - **What waits in the buffers of a connection.** A request has an age from the moment at which
//!   its connection's task is polled.
//! - **Calls outside of a task**, for example in the future of `block_on`: only the probe counts.
//!
//! Each runtime is measured separately, from its first request or from [`LagShed::start`], and
//! sheds for itself. Outside a runtime, everything is admitted. If the last reading is older than
//! half a second, everything is admitted too, and counted as
//! [`fail_open`](LagShedSnapshot::fail_open). A mark that does not return for half a second, while
//! more requests pass than its queue can hold or the probe finds no lag, counts as lost, and
//! another one starts.
//!
//! # Cancellation
//!
//! A request holds no permit: there is nothing to release.
//!
//! # Panics
//!
//! The layer does not panic.
//!
//! # Differences from tower
//!
//! `tower::load_shed` rejects when the inner service is not ready, but an axum router is always
//! ready.

mod binding;
mod shared;
mod signal;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use self::shared::Shared;
pub use self::signal::LoadSignal;
use crate::config::{ConfigError, Configurable, Current, Settings};
use crate::control::lag::law::LagState;
use crate::control::lag::thresholds::LagThresholds;
use crate::gate::GateLayer;
use crate::policy::{Admission, NoWait, Policy, Polled};
use crate::protocol::Http;
use crate::request::RequestKind;

/// Puts a [`LagShed`] in front of a service: `LagShedLayer::new(LagShed::default())`, or
/// `::new(lag.clone())`.
pub type LagShedLayer<X = Http> = GateLayer<LagShed, X>;

/// Rejects requests while the runtime is behind. A cheap `Clone`: every clone is the same shedder.
///
/// Rejected requests get 503 with `Retry-After` (gRPC: `UNAVAILABLE` with a pushback): the lag plus
/// the rest of [`disarm_after`](LagThresholds::disarm_after()), at least a second.
#[derive(Clone)]
pub struct LagShed {
    shared: Arc<Shared>,
}

/// What a [`LagShed`] is doing now.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LagShedSnapshot {
    /// The worst state of any runtime.
    pub state: LagState,
    /// The longest lag of any runtime, as of the last reading. A stall that is over does not count.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub lag: Duration,
    /// The largest share of requests that was rejected in any runtime between the last two
    /// readings, `0.0..=1.0`; at the least the share for load signals.
    pub shed: f64,
    /// Runtimes that are measured.
    pub runtimes: usize,
    /// Requests rejected so far.
    pub rejected: u64,
    /// Requests that a layer in dry run would have rejected so far.
    pub would_reject: u64,
    /// Requests admitted only because the last reading was too old.
    pub fail_open: u64,
}

// === impl LagShed ===

impl LagShed {
    /// A shedder with these [`LagThresholds`].
    ///
    /// # Errors
    ///
    /// If a threshold is outside its range.
    pub fn new(settings: impl Into<LagThresholds>) -> Result<Self, ConfigError> {
        let settings = settings.into();
        settings.check()?;
        Ok(Self::by(settings, true))
    }

    fn by(settings: LagThresholds, minds_lag: bool) -> Self {
        Self {
            shared: Arc::new(Shared::new(settings, minds_lag)),
        }
    }

    /// Sheds for another load as well; the highest one counts. This applies to every clone of the
    /// handle.
    #[must_use]
    pub fn with_signal(self, signal: LoadSignal) -> Self {
        self.shared.add_signal(signal);
        self
    }

    /// Names the shedder in rejections, metrics and events, and the series of the runtimes that it
    /// measures. The first name stays.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.shared.set_name(name);
        self
    }

    /// Starts measuring a runtime before its first request comes.
    pub fn start(&self, runtime: &Handle) {
        self.shared.bind(runtime);
    }

    /// The thresholds.
    pub fn settings(&self) -> LagThresholds {
        self.current().get()
    }

    /// Replaces the thresholds for the next reading; what was measured so far is kept.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); nothing is changed then.
    pub fn set(&self, settings: impl Into<LagThresholds>) -> Result<(), ConfigError> {
        self.change(|_| settings.into())
    }

    /// Rejects every request, in every runtime, while it is `true`: for drills and tests. Exempt
    /// requests are served.
    pub fn force_shedding(&self, force: bool) {
        self.shared.force(force);
    }

    /// The worst state of any runtime.
    pub fn state(&self) -> LagState {
        self.snapshot().state
    }

    /// Its state and its counters.
    pub fn snapshot(&self) -> LagShedSnapshot {
        let worst = self.shared.worst();
        LagShedSnapshot {
            state: worst.state,
            lag: worst.lag,
            shed: worst.shed,
            runtimes: self.shared.runtimes(),
            rejected: self.shared.reporter.rejected(),
            would_reject: self.shared.reporter.would_reject(),
            fail_open: self.shared.fail_open(),
        }
    }
}

impl Configurable for LagShed {
    type Settings = LagThresholds;

    fn current(&self) -> &Current<LagThresholds> {
        self.shared.current()
    }
}

impl Default for LagShed {
    /// A shedder with [`LagThresholds::default`].
    fn default() -> Self {
        Self::by(LagThresholds::default(), true)
    }
}

impl From<LoadSignal> for LagShed {
    /// Sheds for this load only and not for lag:
    /// `LagShedLayer::new(LoadSignal::cgroup_memory()?)`.
    fn from(signal: LoadSignal) -> Self {
        Self::by(LagThresholds::default(), false).with_signal(signal)
    }
}

impl<R: RequestKind> Policy<R> for LagShed {
    type Token = ();
    type Wait = NoWait<(), Polled>;

    const IS_OURS: bool = true;

    #[inline]
    fn admit(&self, _: &R::Head<'_>) -> Admission<(), Self::Wait> {
        match self.shared.sheds() {
            None => Admission::Admit(()),
            Some(rejection) => Admission::Reject(rejection),
        }
    }

    fn register(&self) {
        self.shared.reporter.register();
    }
}

impl fmt::Debug for LagShed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

// === impl LagShedLayer ===

impl LagShedLayer {
    /// Sheds load with a [`LagShed`], or for a [`LoadSignal`] only.
    pub fn new(lag: impl Into<LagShed>) -> Self {
        let lag = lag.into();
        let reporter = lag.shared.reporter.clone();
        Self::with_reporter(lag, reporter)
    }
}
