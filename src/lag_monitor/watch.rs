//! Reports the lag to hooks and metrics.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::observe::{self, Reporter};
use crate::sync::lock;

/// A report of a lag that went above a threshold, or is below it again. A hook of
/// [`on_lag`](super::LagMonitor::on_lag) gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LagReport {
    /// The current lag of the runtime.
    pub lag: Duration,
    /// The longest lag since it went above the threshold.
    pub peak: Duration,
    /// The time for which the lag has been, or was, above the threshold.
    pub lasted: Duration,
    /// Whether it is below the threshold again.
    pub is_over: bool,
    /// Whether the host is short of CPU, rather than the service using too much: in the last
    /// second, tasks were ready to run and got no core for more than a fifth of the time, although
    /// this process used less than nine tenths of its cores.
    ///
    /// Linux reports that time as [pressure stall information][psi]: `cpu.pressure` of the
    /// process's own control group (cgroup v2), or else `/proc/pressure/cpu`. `false` where neither
    /// can be read. The pressure does not say who had the cores, which is why the CPU time of the
    /// process is compared: threads of this process that wait for each other in bursts, or for
    /// the quota of its own control group, look like a host that is short while the process uses
    /// less than nine tenths of its cores on average.
    ///
    /// [psi]: https://docs.kernel.org/accounting/psi.html
    pub host_is_short: bool,
}

type Hook = Box<dyn Fn(&LagReport) + Send + Sync>;

/// A hook, and the current time above its threshold.
pub(super) struct Watch {
    threshold: Duration,
    hook: Hook,
    episode: Mutex<Option<Episode>>,
}

#[derive(Clone, Copy, Debug)]
struct Episode {
    since: Duration,
    peak: Duration,
}

/// The hooks and counters of one probe.
pub(super) struct Watches {
    hooks: Mutex<Vec<Arc<Watch>>>,
    seen: Mutex<Seen>,
    pub(super) reporter: Reporter,
}

/// Sums since the probe was started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) peak: Duration,
    pub(super) probes: u64,
    pub(super) host_is_short: bool,
}

// === impl Watch ===

impl Watch {
    pub(super) fn new(
        threshold: Duration,
        hook: impl Fn(&LagReport) + Send + Sync + 'static,
    ) -> Self {
        Self {
            threshold,
            hook: Box::new(hook),
            episode: Mutex::new(None),
        }
    }

    fn look(&self, now: Duration, lag: Duration, host_is_short: bool) {
        let mut episode = lock(&self.episode);
        let is_over = lag <= self.threshold;
        let report = match &mut *episode {
            None if is_over => return,
            None => {
                *episode = Some(Episode {
                    since: now,
                    peak: lag,
                });
                LagReport {
                    lag,
                    peak: lag,
                    lasted: Duration::ZERO,
                    is_over,
                    host_is_short,
                }
            }
            Some(running) => {
                running.peak = running.peak.max(lag);
                if !is_over {
                    return;
                }
                let Episode { since, peak } = *running;
                *episode = None;
                LagReport {
                    lag,
                    peak,
                    lasted: now.saturating_sub(since),
                    is_over,
                    host_is_short,
                }
            }
        };
        drop(episode);
        if panic::catch_unwind(AssertUnwindSafe(|| (self.hook)(&report))).is_err() {
            observe::sampler_failed("a hook panicked");
        }
    }
}

// === impl Watches ===

impl Watches {
    pub(super) fn new() -> Self {
        Self {
            hooks: Mutex::default(),
            seen: Mutex::default(),
            reporter: Reporter::new("lag_monitor"),
        }
    }

    pub(super) fn add(&self, watch: Watch) {
        lock(&self.hooks).push(Arc::new(watch));
    }

    /// Drops the hooks. A hook may hold a monitor, and so a reference to itself.
    pub(super) fn close(&self) {
        let hooks = std::mem::take(&mut *lock(&self.hooks));
        observe::without_panics(|| drop(hooks));
    }

    pub(super) fn seen(&self) -> Seen {
        *lock(&self.seen)
    }

    /// Records a reading, and the result of a probe if one has finished.
    pub(super) fn look(
        &self,
        now: Duration,
        lag: Duration,
        found: Option<Duration>,
        host_is_short: bool,
    ) {
        let mut seen = lock(&self.seen);
        seen.peak = seen.peak.max(lag);
        seen.probes += u64::from(found.is_some());
        seen.host_is_short = host_is_short;
        drop(seen);
        self.reporter.lag(lag);
        if let Some(found) = found {
            self.reporter.probe_returned(found, host_is_short);
        }
        let hooks = lock(&self.hooks).clone();
        for hook in hooks {
            hook.look(now, lag, host_is_short);
        }
    }
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches")
            .field("seen", &self.seen())
            .finish_non_exhaustive()
    }
}
