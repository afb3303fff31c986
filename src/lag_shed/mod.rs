//! Answers 503 before the service drowns: refuses a share of the requests that grows with how far the Tokio runtime is
//! behind.
//!
//! # Where it goes
//!
//! Outermost, before routing: refusing is what it does most under overload, and the cheaper a refusal, the more load it
//! withstands. One core refuses about 85 000 requests a second there, 70 000 from inside `Router::layer`, 50 000 from a handler.
//! Only [`CatchPanicLayer`](crate::CatchPanicLayer) belongs around it; see [the order of layers](crate#the-order-of-layers).
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
//! It sees what no limit and no time-out sees: handlers that compute. They keep their worker, so that requests wait in the
//! runtime's queue, where nothing counts them, before the service is called at all. Handlers that await are what a
//! [`ConcurrencyLimit`](crate::ConcurrencyLimit) is for: use both.
//!
//! # How it decides
//!
//! [`LagMonitor`](crate::LagMonitor) measures and [`LagLaw`] decides, every 10 ms, less often while all is calm; between
//! two readings a request costs one load (with up to four handles in a process). What it makes of the same overload as other laws is shown by `cargo run --release --example overload`.
//!
//! - A lag above 20 ms for 300 ms arms it, or one of 300 ms at once, or one of 150 ms that requests keep running into. Short
//!   bursts and a worker that was held up for a moment refuse nothing.
//! - Armed, it refuses between nothing at a lag of 20 ms and everything at 100 ms.
//! - It is disarmed when the lag has been low for half a second.
//! - A lag during which no request came through was a stall and not a queue: it is taken back with the first request that
//!   does, which is admitted. One stall right after the other is a queue of long handlers.
//!
//! Each runtime is measured and decided about by itself, at the first request in it or from [`LagShed::start`]. Outside any
//! runtime everything is admitted. So it is when the last reading is older than half a second, which is counted as
//! [`fail_open`](LagShedSnapshot::fail_open).
//!
//! # Cancellation
//!
//! There is nothing to give back.
//!
//! # Panics
//!
//! None of its own.
//!
//! # Differences from tower
//!
//! `tower::load_shed` refuses when the inner service is not ready, which an axum router always is.

mod pair;
mod shared;
mod signal;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use self::shared::Shared;
pub use self::signal::LoadSignal;
use crate::config::ConfigError;
use crate::control::lag::{LagLaw, LagState};
use crate::gate::GateLayer;
use crate::policy::{Admission, NoWait, Policy};
use crate::protocol::{Http, View};

/// Puts a [`LagShed`] in front of a service: `LagShedLayer::new(LagShed::default())`, or `::new(lag.clone())`.
pub type LagShedLayer<X = Http> = GateLayer<LagShed, X>;

/// Refuses requests while the runtime is behind. A cheap `Clone`: every clone is the same.
///
/// Refused requests get 503 with `Retry-After` (gRPC: `UNAVAILABLE` with a pushback): the lag, and what is left of
/// [`exit`](LagLaw::exit), at least a second.
#[derive(Clone)]
pub struct LagShed {
    shared: Arc<Shared>,
}

/// What a [`LagShed`] is doing now.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LagShedSnapshot {
    /// The state of the runtime that is worst off.
    pub state: LagState,
    /// The longest lag of any runtime, as of the last reading; a load signal counts as the lag that it stands for,
    /// and a stall that is over does not count.
    pub lag: Duration,
    /// The largest share of requests that is refused in any runtime, `0.0..=1.0`.
    pub shed: f64,
    /// Runtimes that are measured.
    pub runtimes: usize,
    /// Requests turned away so far.
    pub rejected: u64,
    /// Requests that a layer in dry run would have turned away so far.
    pub would_reject: u64,
    /// Requests admitted only because the last reading was too old to refuse them.
    pub fail_open: u64,
}

// === impl LagShed ===

impl LagShed {
    /// By the preset [`LagLaw::strict`].
    pub fn strict() -> Self {
        Self::by(LagLaw::strict(), true)
    }

    /// By the preset [`LagLaw::burst_tolerant`].
    pub fn burst_tolerant() -> Self {
        Self::by(LagLaw::burst_tolerant(), true)
    }

    /// The classic latch: a lag above `threshold` refuses everything until it has been below it for `hold`.
    ///
    /// For who wants what other runtimes have. It is no match for the default: with a threshold of 100 ms and a hold of 30 s,
    /// in the first five seconds of an overload it served 0.06 of what the server could do at twice its capacity, against 0.97,
    /// and 0.05 at ten times, against 0.89; whatever the load does then, it refuses everything for the rest of the half
    /// minute. `cargo run --release --example overload -- --law latch,seawall --loads 2,10` shows it.
    ///
    /// # Errors
    ///
    /// If one of them is 0 or longer than a day.
    pub fn latched(threshold: Duration, hold: Duration) -> Result<Self, ConfigError> {
        Self::with_law(LagLaw::latched(threshold, hold))
    }

    /// By a law with constants of your own.
    ///
    /// # Errors
    ///
    /// If they make no sense: a time that is 0 or longer than a day, `lo` not below `hi`, `surge` or `hard` below `target`, a
    /// share outside `0.0..=1.0`, `min_shed` above `max_shed`.
    pub fn with_law(law: LagLaw) -> Result<Self, ConfigError> {
        Ok(Self::by(law.check()?, true))
    }

    fn by(law: LagLaw, minds_lag: bool) -> Self {
        Self {
            shared: Arc::new(Shared::new(law, minds_lag)),
        }
    }

    /// Sheds for another load as well: what is highest, counts. Every clone of the handle does.
    #[must_use]
    pub fn with_signal(self, signal: LoadSignal) -> Self {
        self.shared.add_signal(signal);
        self
    }

    /// Names the shedder in rejections, metrics and events. The first name stays.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.shared.meter.set_name(name);
        self
    }

    /// Starts measuring a runtime before its first request comes.
    pub fn start(&self, runtime: &Handle) {
        self.shared.bind(runtime);
    }

    /// The constants of the law.
    pub fn law(&self) -> LagLaw {
        self.shared.law()
    }

    /// Changes them from the next reading on; what was seen so far stays.
    ///
    /// # Errors
    ///
    /// As [`with_law`](Self::with_law); nothing is changed then.
    pub fn set_law(&self, law: LagLaw) -> Result<(), ConfigError> {
        self.shared.set_law(law.check()?);
        Ok(())
    }

    /// The state of the runtime that is worst off.
    pub fn state(&self) -> LagState {
        self.snapshot().state
    }

    /// All of it at once.
    pub fn snapshot(&self) -> LagShedSnapshot {
        let worst = self.shared.worst();
        LagShedSnapshot {
            state: worst.state,
            lag: worst.lag,
            shed: worst.shed,
            runtimes: self.shared.runtimes(),
            rejected: self.shared.meter.rejected(),
            would_reject: self.shared.meter.would_reject(),
            fail_open: self.shared.fail_open(),
        }
    }
}

impl Default for LagShed {
    /// By [`LagLaw::default`].
    fn default() -> Self {
        Self::by(LagLaw::default(), true)
    }
}

impl From<LoadSignal> for LagShed {
    /// Sheds for this load alone and not for lag, by [`LagLaw::default`]: `LagShedLayer::new(LoadSignal::cgroup_memory()?)`.
    fn from(signal: LoadSignal) -> Self {
        Self::by(LagLaw::default(), false).with_signal(signal)
    }
}

impl<V: View> Policy<V> for LagShed {
    type Ticket = ();
    type Wait = NoWait;

    #[inline]
    fn admit(&self, _: &V::Head<'_>) -> Admission<(), NoWait> {
        match self.shared.refuses() {
            None => {
                self.shared.meter.admitted();
                Admission::Admit(())
            }
            Some(rejection) => Admission::Reject(rejection),
        }
    }
}

impl fmt::Debug for LagShed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}
