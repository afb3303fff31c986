//! How far a Tokio runtime is behind: the "event-loop lag" of a runtime that has none.
//!
//! A [`LagShed`](crate::LagShed) acts on it; by itself a monitor only tells. There is one per runtime, whoever asks.
//!
//! ```
//! use std::time::Duration;
//! use seawall::LagMonitor;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() {
//!     let monitor = LagMonitor::current();
//!     monitor.on_lag(LagMonitor::WARN, |report| {
//!         if report.is_over {
//!             eprintln!("the runtime was up to {:?} behind for {:?}", report.peak, report.lasted);
//!         }
//!     });
//!     assert!(monitor.lag() < Duration::from_secs(60));
//! }
//! ```
//!
//! # What is measured
//!
//! A thread of the operating system, named `seawall-lag`, one per process, wakes a resident task of the runtime every
//! 10 ms, or every 50 ms once all has been calm for half a second, or every 100 ms if a [`LagShed`](crate::LagShed) asks for
//! it and has seen no request for a second: an idle server pays some 0.2 % of a core. The task wants two polls: the first comes through the
//! runtime's injection queue, the second from the back of a worker's local queue, where requests wait. The lag is the longer
//! of the two waits; while a probe is on its way it is at least the probe's age, which is read from outside the runtime, so
//! that a runtime whose every worker is blocked is seen during the block. One blocked worker of several is no lag: the
//! others steal its work.
//!
//! A timer inside the runtime, the usual way to measure lag, reads the length of one turn of the driver and not the queue:
//! with handlers of 100 µs at twice the capacity it read under 20 ms in a third of the samples while requests waited for
//! more than 100 ms.
//!
//! A runtime that nobody drives, say a `current_thread` one outside `block_on`, lags all the time.
//!
//! # Lifetime
//!
//! The thread starts with the first monitor and is parked while there is none. It keeps no runtime alive: when the runtime
//! ends its monitors read zero. Until then the resident task counts among the runtime's `num_alive_tasks`. If it cannot be started, or ends, that is told through [`observe`](crate::observe), nothing
//! is refused any more, and the next runtime that is looked at starts it again. It is not carried across `fork`: a forked
//! child has no such thread, and nothing is measured or refused in it.
//!
//! Time is read from the operating system, so that a test's paused clock neither disturbs the measurement nor is disturbed.

mod host;
mod probe;
mod sampler;
mod watch;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use self::watch::Watch;

pub(crate) use self::probe::{Follow, Probe, lock};
pub(crate) use self::sampler::probe;
pub use self::watch::LagReport;

/// How far one Tokio runtime is behind. A cheap `Clone`; every monitor of a runtime is the same.
#[derive(Clone)]
pub struct LagMonitor {
    probe: Arc<Probe>,
}

/// What a [`LagMonitor`] has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LagMonitorSnapshot {
    /// How far the runtime is behind now.
    pub lag: Duration,
    /// The most that it was behind so far.
    pub peak: Duration,
    /// Probes that came back so far.
    pub probes: u64,
    /// Whether the host rather than the service was short of CPU in the last second; see [`LagReport::host_is_short`].
    pub host_is_short: bool,
    /// Whether the runtime has ended.
    pub is_closed: bool,
}

// === impl LagMonitor ===

impl LagMonitor {
    /// The lag that is worth a word, 10 ms: what a handler may compute before it should move to `spawn_blocking`.
    pub const WARN: Duration = Duration::from_millis(10);

    /// The monitor of the runtime behind a handle; starts measuring if nobody did before.
    pub fn start(runtime: &Handle) -> Self {
        Self {
            probe: sampler::probe(runtime),
        }
    }

    /// The monitor of the runtime that this runs in.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    #[track_caller]
    pub fn current() -> Self {
        Self::start(&Handle::current())
    }

    /// Names the monitor in metrics. The first name stays.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.probe.watches.meter.set_name(name);
        self
    }

    /// How far the runtime is behind now; zero once it has ended.
    pub fn lag(&self) -> Duration {
        self.probe.lag()
    }

    /// Calls `hook` when the lag goes above `threshold`, and again when it is back below it, then with what its peak was.
    ///
    /// The hook stays until the runtime ends, with or without a handle. It runs on the thread that measures: it must not
    /// block, and what it does takes the time of all monitors. If it panics that is told like a
    /// failed measurement, and the hook stays.
    pub fn on_lag(&self, threshold: Duration, hook: impl Fn(&LagReport) + Send + Sync + 'static) {
        self.probe.watches.add(Watch::new(threshold, hook));
        sampler::pin(&self.probe);
    }

    /// All of it at once.
    pub fn snapshot(&self) -> LagMonitorSnapshot {
        let seen = self.probe.watches.seen();
        LagMonitorSnapshot {
            lag: self.probe.lag(),
            peak: seen.peak,
            probes: seen.probes,
            host_is_short: seen.host_is_short,
            is_closed: self.probe.is_closed(),
        }
    }
}

impl fmt::Debug for LagMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.probe.fmt(f)
    }
}
