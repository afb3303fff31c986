//! Sheds load when the Tokio runtime is behind: it rejects the requests that have waited too long
//! in the runtime's queue.
//!
//! # Where it goes
//!
//! Outside all other layers of this crate except [`CatchPanicLayer`](crate::CatchPanicLayer); see
//! [the reasons for the order](crate::stack#the-parts-of-a-server). Under overload, most requests
//! are rejected, so that the cost of a rejection decides how much load the service withstands.
//! Around the router, as below, it costs less than with `Router::layer`;
//! [`docs::cost`](crate::docs::cost#rejections) has the figures.
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
//! It detects handlers that compute, which a concurrency limit and a timeout do not detect. Such
//! handlers keep their worker. Requests then wait in the runtime's queue before the service is
//! called, where no layer counts them.
//!
//! # How it decides
//!
//! 1. A worker of the runtime serves its queue in order. Hyper calls the service when the task of
//!    the connection has reached the head of the queue.
//! 2. A probe measures the lag of the runtime from outside; see
//!    [`lag_monitor`](crate::lag_monitor).
//! 3. While the lag is above [`target`](LagThresholds::target()), each worker has a mark in its
//!    queue: a task that measures how long the queue takes. It waits until the worker next reads
//!    its sockets (a turn of Tokio's driver), then goes to the back of the queue, and starts again
//!    when it is polled.
//! 4. A request that the worker runs between two marks arrived between two turns of the driver:
//!    those at which the two marks joined the queue. The number of requests since the last mark
//!    gives the position in between, and so the wait of the request. An HTTP/2 connection spawns a
//!    task for each request, so that requests also wait after the call: the shedder adds the number
//!    of those that have not started, times the mean service time.
//! 5. A lag of 80 ms ([`arm`](LagThresholds::arm())) in two readings while requests arrive arms the
//!    shedder. So does one request that has waited for this long.
//! 6. While it is armed, the shedder rejects the requests that have waited longer than 30 ms
//!    ([`bound`](LagThresholds::bound())), or longer than their worker takes for 128 requests.
//!    It also rejects the requests that arrive while the runtime's injection queue, which all
//!    workers share, has more than 32 tasks for each worker.
//! 7. While it is armed, the queue therefore holds about the arrivals of the last 30 ms: the server
//!    always has work, and an admitted request waits for about the bound before its own service
//!    time. The requests of the onset, before the shedder is armed, wait longer.
//! 8. The residual service time is the mean time that a handler still computes when another request
//!    arrives. `arm` (step 5) and `bound` (step 6) grow with it, up to a maximum, since long
//!    handlers wait for each other at any load.
//! 9. Requests that begin to await leave the queue. While the shedder is armed, a quota limits how
//!    many requests begin to await between two readings: to 1.5 times the average. The quota grows
//!    while no request waits for long.
//! 10. The shedder is disarmed when the lag has been low, and no request was rejected for its wait,
//!     for half a second ([`disarm_after`](LagThresholds::disarm_after())).
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
//! A lag during which no request arrives and no poll of a handler ends is a stall, and not a queue.
//! The shedder ignores a stall. It also ignores the backlog after a stall, as long as the backlog
//! becomes shorter. It does not ignore a second stall right after the first: that is a queue of
//! long handlers.
//!
//! The guide [`docs::numbers`](crate::docs::numbers#the-lag-shedder) has figures, and
//! `cargo run --release -p overload` compares the shedder with other algorithms on a real
//! server.
//!
//! # What it does not detect
//!
//! - **Handlers that await.** They cause no lag. The quota of step 9 bounds their number only while
//!   the shedder is armed. Only a [`ConcurrencyLimit`](crate::ConcurrencyLimit) bounds it before
//!   that: use both.
//! - **Tasks in a `LocalSet`.** They share one task of the runtime, and wait for each other in a
//!   queue that the shedder does not measure. Spawn the connections on the runtime (`tokio::spawn`
//!   on a `current_thread` runtime) instead, or use a concurrency limit.
//! - **Requests in the buffers of a connection.** The age of a request starts when the task of its
//!   connection is polled.
//! - **Calls outside a task**, for example in the future of `block_on`: only the probe counts.
//!
//! Each runtime is measured separately, from its first request or from [`LagShed::start`], and
//! sheds for itself. Outside a runtime, the shedder admits all requests. If the last reading is
//! older than half a second, the shedder admits a request that this reading would reject, and
//! counts it as [`fail_open`](LagShedSnapshot::fail_open).
//!
//! # Cost
//!
//! While the lag is low, an admitted request compares one shared word, which each reading of the
//! probe changes, with the word that its thread saw last: no allocation, no lock and no clock read.
//! The first request of a thread after a reading also reads the clock, and may take a lock.
//! While the lag is above its target, the shedder reads the clock once for each call and twice for
//! each poll of a handler. See [`cost`](crate::docs::cost) for figures.
//!
//! # Cancellation
//!
//! A request holds no permit, so that there is nothing to release.
//!
//! # Panics
//!
//! The layer does not panic.
//!
//! # Differences from tower 0.5
//!
//! `tower::load_shed` rejects when the inner service is not ready, but an axum router is always
//! ready.

mod shared;
mod signal;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;

pub use self::shared::LagShedSnapshot;
use self::shared::Shared;
pub use self::signal::LoadSignal;
use crate::config::{ConfigError, Configurable, Current, Settings};
pub use crate::control::lag::law::LagState;
pub use crate::control::lag::thresholds::LagThresholds;
use crate::gate::GateLayer;
use crate::policy::{Admission, NoWait, Policy, Polled};
use crate::protocol::Http;
use crate::request::RequestKind;
use crate::sync::lock;

/// A layer that sheds load with a [`LagShed`]: `LagShedLayer::new(LagShed::default())`, or
/// `::new(lag.clone())`.
pub type LagShedLayer<X = Http> = GateLayer<LagShed, X>;

/// Rejects requests while the runtime is behind. A cheap `Clone`: all clones are the same shedder.
///
/// A rejected request gets 503 with `Retry-After` (gRPC: `UNAVAILABLE` with a pushback). The retry
/// time is the lag plus the rest of [`disarm_after`](LagThresholds::disarm_after()), at least a
/// second.
#[derive(Clone)]
pub struct LagShed {
    shared: Arc<Shared>,
}

// === impl LagShed ===

impl LagShed {
    /// Makes a shedder with these [`LagThresholds`].
    ///
    /// # Errors
    ///
    /// Returns an error if a threshold is outside its range.
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

    /// Sheds for another load as well. If there are several signals, the highest counts.
    pub fn add_signal(&self, signal: LoadSignal) {
        lock(&self.shared.signals).push(signal);
    }

    /// Names the shedder in rejections, metrics and events, and the series of the runtimes that it
    /// measures. A second call has no effect.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.shared.set_name(name.into());
        self
    }

    /// The name; empty if it has none.
    pub fn name(&self) -> &str {
        self.shared.reporter.name()
    }

    /// Starts to measure a runtime before its first request arrives.
    pub fn start(&self, runtime: &Handle) {
        self.shared.bind(runtime);
    }

    /// The current thresholds.
    pub fn settings(&self) -> LagThresholds {
        self.shared.settings.get()
    }

    /// Replaces the thresholds for the next reading. The measurements so far are kept.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new), and then changes nothing.
    pub fn set(&self, settings: LagThresholds) -> Result<(), ConfigError> {
        self.change(|_| settings)
    }

    /// Rejects every request in every runtime while `force` is `true`. Use it for drills and tests.
    /// Exempt requests are served.
    pub fn force_shedding(&self, force: bool) {
        self.shared.force(force);
    }

    /// The worst state of any runtime.
    pub fn state(&self) -> LagState {
        self.snapshot().state
    }

    /// The state and the counters.
    pub fn snapshot(&self) -> LagShedSnapshot {
        self.shared.snapshot()
    }
}

impl Configurable for LagShed {
    type Settings = LagThresholds;

    fn current(&self) -> &Current<LagThresholds> {
        &self.shared.settings
    }
}

impl Default for LagShed {
    /// Makes a shedder with [`LagThresholds::default`].
    fn default() -> Self {
        Self::by(LagThresholds::default(), true)
    }
}

impl From<LoadSignal> for LagShed {
    /// Makes a shedder for this load only, without lag:
    /// `LagShedLayer::new(LoadSignal::cgroup_memory()?)`.
    fn from(signal: LoadSignal) -> Self {
        let shed = Self::by(LagThresholds::default(), false);
        shed.add_signal(signal);
        shed
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
        self.shared.register();
    }
}

impl fmt::Debug for LagShed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LagShed")
            .field("settings", &self.settings())
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

// === impl LagShedLayer ===

impl LagShedLayer {
    /// A layer that sheds load with a [`LagShed`], or only for a [`LoadSignal`].
    pub fn new(lag: impl Into<LagShed>) -> Self {
        Self::from_handle(lag.into(), |lag| &lag.shared.reporter)
    }
}
