//! Measures the lag of a Tokio runtime: how far it is behind, like the event-loop lag of other
//! runtimes.
//!
//! A monitor only reports the lag; a [`LagShed`](crate::LagShed) sheds load because of it. Each
//! runtime has one monitor, which all handles share.
//!
//! ```
//! use std::time::Duration;
//! use seawall::LagMonitor;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() {
//!     let monitor = LagMonitor::current();
//!     monitor.on_lag(Duration::from_millis(10), |report| {
//!         if report.is_over {
//!             eprintln!("the runtime was up to {:?} behind for {:?}", report.peak, report.lasted);
//!         }
//!     });
//!     assert!(monitor.lag() < Duration::from_secs(60));
//! }
//! ```
//!
//! # How it measures
//!
//! One thread of the process, named `seawall-lag`, sends a probe to the runtime every 10 ms: it
//! wakes a resident task. It does so every 20 ms after the lag has been low for half a second, and
//! every 100 ms if the [`LagShed`](crate::LagShed)s of the runtime have had no request for a
//! second. The task needs two polls. The first comes through the runtime's injection queue, the
//! second from the back of a worker's local queue, where requests wait. The lag is the longer of
//! the two waits. While a probe is under way, the lag is at least the age of the probe. The thread
//! reads the age outside the runtime, so that the lag is visible while all workers are blocked. The
//! lag of a monitor includes the stalls that a `LagShed` ignores. One blocked worker of several is
//! no lag, since the other workers steal its tasks.
//!
//! The usual way to measure lag is a timer inside the runtime. Such a timer measures one turn of
//! the driver and not the queue: with short handlers under overload, it often measures a low lag
//! while requests wait for long.
//!
//! A runtime that is not driven always lags, for example a `current_thread` runtime outside
//! `block_on`.
//!
//! # Lifetime
//!
//! The thread starts with the first monitor, and is parked while there is none. It does not keep a
//! runtime alive: when the runtime ends, its monitors read zero. Until then, the resident task
//! counts as one of the runtime's `num_alive_tasks`. If the thread cannot start, or ends,
//! [`observe`](crate::observe) reports it, and no request is rejected. The next runtime that is
//! measured starts the thread again. A forked child has no such thread: nothing is measured or
//! rejected in it.
//!
//! The monitor reads the time of the operating system. It neither depends on a test's paused clock
//! nor moves it.

mod host;
mod probe;
mod sampler;
pub(crate) mod stamp;
mod watch;
mod worker;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use self::watch::Watch;
use crate::sync::lock;

pub(crate) use self::probe::{Follow, Probe};
pub(crate) use self::sampler::probe;
pub use self::watch::LagReport;
pub(crate) use self::worker::{MeasuredPoll, Unpolled, Worker};

/// Measures how far one Tokio runtime is behind. A cheap `Clone`: all monitors of a runtime are the
/// same.
#[derive(Clone)]
pub struct LagMonitor {
    probe: Arc<Probe>,
}

/// The state of a [`LagMonitor`] at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LagMonitorSnapshot {
    /// The current lag.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub lag: Duration,
    /// The longest lag so far.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub peak: Duration,
    /// The number of finished probes.
    pub probes: u64,
    /// Whether the host rather than the service was short of CPU in the last second; see
    /// [`LagReport::host_is_short`].
    pub host_is_short: bool,
    /// Whether the runtime has ended.
    pub is_closed: bool,
}

// === impl LagMonitor ===

impl LagMonitor {
    /// The monitor of a runtime. The first call for the runtime starts the measurement.
    pub fn start(runtime: &Handle) -> Self {
        Self {
            probe: sampler::probe(runtime),
        }
    }

    /// The monitor of the current runtime.
    ///
    /// # Panics
    ///
    /// Panics outside a Tokio runtime.
    #[track_caller]
    pub fn current() -> Self {
        Self::start(&Handle::current())
    }

    /// Names the monitor in metrics. A second call has no effect.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.probe.reporter.set_name(name);
        self
    }

    /// The name; empty if it has none.
    pub fn name(&self) -> &str {
        self.probe.reporter.name()
    }

    /// The current lag; zero after the runtime has ended.
    pub fn lag(&self) -> Duration {
        self.probe.lag()
    }

    /// Calls `hook` when the lag goes above `threshold`, and again, with the peak, when it is below
    /// the threshold again, unless the runtime ends first.
    ///
    /// The hook stays until the runtime ends, with or without a handle. It runs on the thread that
    /// measures and delays all monitors, so it must not block. A panic of the hook is reported as a
    /// failed measurement, and the hook stays.
    pub fn on_lag(&self, threshold: Duration, hook: impl Fn(&LagReport) + Send + Sync + 'static) {
        self.probe.add_hook(Watch::new(threshold, Box::new(hook)));
    }

    /// The lag and the counters.
    pub fn snapshot(&self) -> LagMonitorSnapshot {
        let seen = *lock(&self.probe.seen);
        let lag = self.probe.lag();
        LagMonitorSnapshot {
            lag,
            peak: seen.peak.max(lag),
            probes: seen.probes,
            host_is_short: seen.host_is_short,
            is_closed: self.probe.is_closed(),
        }
    }
}

impl fmt::Debug for LagMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LagMonitor")
            .field("runtime", &self.probe.runtime)
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}
