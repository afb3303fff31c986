//! Reports to the hooks of a monitor.

use std::sync::Mutex;
use std::time::Duration;

use crate::observe;
use crate::sync::lock;
use crate::unwind;

/// A report of a lag that went above a threshold, or is below it again. A hook of
/// [`on_lag`](super::LagMonitor::on_lag) gets it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LagReport {
    /// The current lag of the runtime.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub lag: Duration,
    /// The longest lag since it went above the threshold.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub peak: Duration,
    /// The time for which the lag has been, or was, above the threshold.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub lasted: Duration,
    /// Whether it is below the threshold again.
    pub is_over: bool,
    /// Whether the host is short of CPU, rather than the service using too much: in the last
    /// second, tasks were ready to run and got no core for more than a fifth of the time, although
    /// this process used less than nine tenths of its cores.
    ///
    /// Linux reports that time as [pressure stall information][psi]: `cpu.pressure` of the
    /// process's own control group (cgroup v2), or else `/proc/pressure/cpu`. `false` where neither
    /// can be read. The pressure does not say which process had the cores, so that the CPU time of
    /// this process is compared too. The comparison can be wrong: if the threads of this process
    /// wait for each other in bursts, or for the quota of its own control group, the host looks
    /// short of CPU as long as the process uses less than nine tenths of its cores on average.
    ///
    /// [psi]: https://docs.kernel.org/accounting/psi.html
    pub host_is_short: bool,
}

/// A hook.
pub(super) struct Watch {
    threshold: Duration,
    hook: Box<dyn Fn(&LagReport) + Send + Sync>,
    /// While the lag is above the threshold: since when, and the peak.
    above: Mutex<Option<(Duration, Duration)>>,
}

// === impl Watch ===

impl Watch {
    pub(super) fn new(threshold: Duration, hook: Box<dyn Fn(&LagReport) + Send + Sync>) -> Self {
        Self {
            threshold,
            hook,
            above: Mutex::default(),
        }
    }

    pub(super) fn look(&self, now: Duration, lag: Duration, host_is_short: bool) {
        let is_over = lag <= self.threshold;
        let mut above = lock(&self.above);
        let was_above = above.is_some();
        let (since, peak) = above.unwrap_or((now, lag));
        let peak = peak.max(lag);
        *above = (!is_over).then_some((since, peak));
        drop(above);
        if was_above != is_over {
            return;
        }
        let report = LagReport {
            lag,
            peak,
            lasted: now.saturating_sub(since),
            is_over,
            host_is_short,
        };
        if unwind::without_panics(|| (self.hook)(&report)).is_none() {
            observe::sampler_failed("a hook panicked", false);
        }
    }
}
