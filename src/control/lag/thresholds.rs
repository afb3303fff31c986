//! The thresholds of a lag shedder.

use std::time::Duration;

use super::Nanos;
use crate::config::{ConfigError, Settings, fields};

/// The thresholds of a [`LagShed`](crate::LagShed): a value that you can read, compare, change, and
/// apply to a shedder while it runs.
///
/// ```
/// use std::time::Duration;
/// use seawall::{LagShed, LagThresholds};
///
/// let lag = LagShed::new(LagThresholds::strict())?;
/// lag.set(lag.settings().disarm_after(Duration::from_secs(1)))?; // while it runs
/// assert_eq!(lag.settings().disarm_after, Duration::from_secs(1));
/// # Ok::<_, seawall::ConfigError>(())
/// ```
///
/// [`LagShed::new`](crate::LagShed::new) and [`set`](crate::LagShed::set) check the values. With
/// the feature `serde`, thresholds implement `Serialize` and `Deserialize`. Durations are strings
/// such as `"30ms"`. A missing field has its default, and an unknown field is an error:
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use std::time::Duration;
/// use seawall::LagThresholds;
///
/// let thresholds: LagThresholds = toml::from_str(r#"bound = "50ms""#)?;
/// assert_eq!(thresholds, LagThresholds::default().bound(Duration::from_millis(50)));
/// # }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// The [module docs](crate::lag_shed) describe their use.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use = "settings do nothing until they are applied"]
#[non_exhaustive]
pub struct LagThresholds {
    /// See [`target`](Self::target()).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub target: Duration,
    /// See [`bound`](Self::bound()).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub bound: Duration,
    /// See [`max_bound`](Self::max_bound()).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub max_bound: Duration,
    /// See [`arm`](Self::arm()).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub arm: Duration,
    /// See [`max_arm`](Self::max_arm()).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub max_arm: Duration,
    /// See [`disarm_after`](Self::disarm_after()).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub disarm_after: Duration,
}

/// A bound is at least this number of residual service times, and the lag that arms is at least
/// twice the number.
const RESIDUALS: Nanos = 20;

// === impl LagThresholds ===

impl LagThresholds {
    const fn preset(bound: u64, arm: u64, max_bound: u64, max_arm: u64) -> Self {
        Self {
            target: Duration::from_millis(20),
            bound: Duration::from_millis(bound),
            max_bound: Duration::from_millis(max_bound),
            arm: Duration::from_millis(arm),
            max_arm: Duration::from_millis(max_arm),
            disarm_after: Duration::from_millis(500),
        }
    }

    /// Thresholds for services that prefer a rejection to a slow response: bound 20 ms, armed at 50
    /// ms; at most 120 and 200 ms for long handlers.
    pub const fn strict() -> Self {
        Self::preset(20, 50, 120, 200)
    }

    /// Thresholds for services whose load comes in bursts, which they prefer to serve slowly: bound
    /// 60 ms, armed at 300 ms; at most 300 and 600 ms for long handlers.
    pub const fn burst_tolerant() -> Self {
        Self::preset(60, 300, 300, 600)
    }

    /// The lag up to which the shedder does not watch, 1 ns to a day.
    ///
    /// Default: 20 ms, two readings of the probe.
    pub const fn target(mut self, target: Duration) -> Self {
        self.target = target;
        self
    }

    /// While it is armed, the shedder rejects the requests that have waited longer than this, 1 ns
    /// to [`max_bound`](Self::max_bound()). Long handlers raise the bound up to that maximum. Many
    /// short requests lower it to the time in which 128 of them reach the worker.
    ///
    /// Default: 30 ms. Under any overload, the queue holds the arrivals of this time, so that the
    /// server always has work. Half of it loses goodput; twice as much adds itself to the latency.
    pub const fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// The upper bound to which long handlers raise the bound, `bound` to a day.
    ///
    /// Default: 240 ms. The bound is raised to 20 times the residual service time, but not above
    /// this.
    pub const fn max_bound(mut self, max_bound: Duration) -> Self {
        self.max_bound = max_bound;
        self
    }

    /// The lag that arms the shedder, `target` to `max_arm`: in two consecutive readings while
    /// requests arrive, or as the wait of one request. Long handlers raise it up to
    /// [`max_arm`](Self::max_arm()).
    ///
    /// Default: 80 ms. A smaller lag arms for short bursts. The requests of the onset wait for this
    /// long.
    pub const fn arm(mut self, arm: Duration) -> Self {
        self.arm = arm;
        self
    }

    /// The upper bound to which long handlers raise the lag that arms, `arm` to a day. While the
    /// durations of the handlers are unknown, only this lag arms.
    ///
    /// Default: 400 ms.
    pub const fn max_arm(mut self, max_arm: Duration) -> Self {
        self.max_arm = max_arm;
        self
    }

    /// The shedder is disarmed when the lag has stayed at or below [`target`](Self::target()), and
    /// no request was rejected, for this time, 1 ns to a day.
    ///
    /// Default: 500 ms. An armed shedder rejects nothing while no request waits too long. After a
    /// [`LoadSignal`](crate::LoadSignal) has rejected requests, the state stays
    /// [`Shedding`](crate::LagState::Shedding) for this time as well, so that a load near 0 does
    /// not change it often.
    pub const fn disarm_after(mut self, time: Duration) -> Self {
        self.disarm_after = time;
        self
    }

    /// B: the wait from which on a request is rejected.
    pub(super) fn bound_at(&self, residual: Nanos) -> Nanos {
        let raised = nanos(self.bound).max(RESIDUALS.saturating_mul(residual));
        raised.min(nanos(self.max_bound))
    }

    /// A: the lag that arms.
    pub(super) fn arm_at(&self, residual: Nanos) -> Nanos {
        let raised = nanos(self.arm).max((2 * RESIDUALS).saturating_mul(residual));
        raised.min(nanos(self.max_arm))
    }
}

fields!(LagThresholds {
    target,
    bound,
    max_bound,
    arm,
    max_arm,
    disarm_after,
});

impl Settings for LagThresholds {
    fn check(&self) -> Result<(), ConfigError> {
        let (least, most) = (Duration::from_nanos(1), Duration::from_secs(24 * 60 * 60));
        ConfigError::check("target", self.target, least..=most)?;
        ConfigError::check("bound", self.bound, least..=most)?;
        ConfigError::check("max_bound", self.max_bound, self.bound..=most)?;
        ConfigError::check("arm", self.arm, self.target..=most)?;
        ConfigError::check("max_arm", self.max_arm, self.arm..=most)?;
        ConfigError::check("disarm_after", self.disarm_after, least..=most)
    }
}

impl Default for LagThresholds {
    /// Bound 30 ms, armed at 80 ms; at most 240 and 400 ms for long handlers.
    fn default() -> Self {
        Self::preset(30, 80, 240, 400)
    }
}

/// A checked time is at most a day.
pub(super) fn nanos(time: Duration) -> Nanos {
    time.as_nanos() as Nanos
}
