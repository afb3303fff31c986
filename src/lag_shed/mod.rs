//! Sheds load when the Tokio runtime is behind: rejects a share of the requests that grows with the
//! lag.
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
//! [`LagMonitor`](crate::LagMonitor) measures the lag and [`LagLaw`] decides, every 10 ms, and less
//! often while the lag is low. Between two readings, a request costs one load (with up to four
//! handles in a process). `cargo run --release --example overload` compares it with other
//! algorithms under the same overload.
//!
//! - It is armed by a lag above 20 ms for 300 ms, by a lag of 300 ms at once, or by a lag of 150 ms
//!   that grows while requests arrive. Short bursts and a worker that is blocked for a moment do
//!   not arm it.
//! - While it is armed, it rejects a share of the requests: none at a lag of 20 ms, all at 100 ms.
//! - It is disarmed when the lag has been low for half a second.
//! - A lag during which no request arrived was a stall and not a queue. It is forgiven with the
//!   next request, which is admitted. A second stall right after the first is a queue of long
//!   handlers, and is not forgiven.
//!
//! Each runtime is measured separately, from its first request or from [`LagShed::start`], and
//! sheds for itself. Outside a runtime, everything is admitted. If the last reading is older than
//! half a second, everything is admitted too, and counted as
//! [`fail_open`](LagShedSnapshot::fail_open).
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
use crate::control::lag::law::{LagLaw, LagState};
use crate::gate::GateLayer;
use crate::policy::{Admission, NoWait, Nothing, Policy};
use crate::protocol::Http;
use crate::request::RequestKind;

/// Puts a [`LagShed`] in front of a service: `LagShedLayer::new(LagShed::default())`, or
/// `::new(lag.clone())`.
pub type LagShedLayer<X = Http> = GateLayer<LagShed, X>;

/// Rejects requests while the runtime is behind. A cheap `Clone`: every clone is the same shedder.
///
/// Rejected requests get 503 with `Retry-After` (gRPC: `UNAVAILABLE` with a pushback): the lag plus
/// the rest of [`exit`](LagLaw::exit), at least a second.
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
    /// The longest lag of any runtime, as of the last reading. A load signal counts as the lag that
    /// it is equivalent to. A stall that is over does not count.
    pub lag: Duration,
    /// The largest share of requests that is rejected in any runtime, `0.0..=1.0`.
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
    /// A shedder with the preset [`LagLaw::strict`].
    pub fn strict() -> Self {
        Self::by(LagLaw::strict(), true)
    }

    /// A shedder with the preset [`LagLaw::burst_tolerant`].
    pub fn burst_tolerant() -> Self {
        Self::by(LagLaw::burst_tolerant(), true)
    }

    /// The classic latch: a lag above `threshold` rejects all requests until it has been below
    /// `threshold` for `hold`.
    ///
    /// Use it only to compare with other runtimes: the default serves more. With a threshold of 100
    /// ms and a hold of 30 s, the latch served 0.06 of the possible requests in the first five
    /// seconds of an overload at twice the capacity, the default 0.97; at ten times the capacity,
    /// 0.05 and 0.89. The latch then rejects all requests for the rest of the 30 s, whatever the
    /// load is. `cargo run --release --example overload -- --law latch,seawall --loads 2,10` shows
    /// this.
    ///
    /// # Errors
    ///
    /// If `threshold` or `hold` is 0 or longer than a day.
    pub fn latched(threshold: Duration, hold: Duration) -> Result<Self, ConfigError> {
        Self::with_law(LagLaw::latched(threshold, hold))
    }

    /// A shedder with your own constants.
    ///
    /// # Errors
    ///
    /// If a time is 0 or longer than a day, `lo` is not below `hi`, `surge` or `hard` is below
    /// `target`, a share is outside `0.0..=1.0`, or `min_shed` is above `max_shed`.
    pub fn with_law(law: LagLaw) -> Result<Self, ConfigError> {
        Ok(Self::by(law.check()?, true))
    }

    fn by(law: LagLaw, minds_lag: bool) -> Self {
        Self {
            shared: Arc::new(Shared::new(law, minds_lag)),
        }
    }

    /// Sheds for another load as well; the highest one counts. This applies to every clone of the
    /// handle.
    #[must_use]
    pub fn with_signal(self, signal: LoadSignal) -> Self {
        self.shared.add_signal(signal);
        self
    }

    /// Names the shedder in rejections, metrics and events. The first name stays.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.shared.reporter.set_name(name);
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

    /// Changes the constants for the next reading; the lag so far is kept.
    ///
    /// # Errors
    ///
    /// As [`with_law`](Self::with_law); nothing is changed then.
    pub fn set_law(&self, law: LagLaw) -> Result<(), ConfigError> {
        self.shared.set_law(law.check()?);
        Ok(())
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

impl Default for LagShed {
    /// A shedder with [`LagLaw::default`].
    fn default() -> Self {
        Self::by(LagLaw::default(), true)
    }
}

impl From<LoadSignal> for LagShed {
    /// Sheds for this load only and not for lag, with [`LagLaw::default`]:
    /// `LagShedLayer::new(LoadSignal::cgroup_memory()?)`.
    fn from(signal: LoadSignal) -> Self {
        Self::by(LagLaw::default(), false).with_signal(signal)
    }
}

impl<R: RequestKind> Policy<R> for LagShed {
    type Token = ();
    type Wait = NoWait<(), Nothing>;

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
