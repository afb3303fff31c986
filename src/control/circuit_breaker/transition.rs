//! The states of a breaker, and the changes between them, as users see them.

use std::fmt;
use std::time::Duration;

use super::word::Mode;
use crate::label::labels;

/// The state of a [`CircuitBreaker`](crate::CircuitBreaker). With `serde`, it is a map with `state`
/// and, while open, `retry_in` in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "state", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum CircuitState {
    /// The breaker admits and counts calls.
    Closed,
    /// The breaker rejects calls.
    Open {
        /// The time until it admits the first probe.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
        retry_in: Duration,
    },
    /// The breaker admits some calls as probes.
    HalfOpen,
    /// The breaker rejects calls until it is reset.
    ForcedOpen,
    /// The breaker admits calls, and counts them in the totals only, until it is reset.
    ForcedClosed,
    /// The breaker admits and counts calls, and does not open, until it is reset.
    ObserveOnly,
}

/// A change of a breaker's state, as a hook of
/// [`on_transition`](crate::CircuitBreaker::on_transition) gets it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Transition {
    /// The state before the change. In an open state, `retry_in` is 0.
    pub from: CircuitState,
    /// The state after the change. In an open state, `retry_in` is the whole open time.
    pub to: CircuitState,
    /// The cause of the change.
    pub cause: TransitionCause,
    /// The number of the change: 1 for the first of this breaker.
    pub number: u64,
    /// The number of calls on which the breaker decided: those in the window if a threshold was
    /// reached, the probes with an outcome if these have decided, else 0.
    pub calls: u64,
    /// The number of these calls that failed.
    pub failures: u64,
    /// The number of these calls that were slow.
    pub slow_calls: u64,
}

/// The cause of a change of state of a circuit breaker.
///
/// If several thresholds are reached at the same time, the first one of this list is the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum TransitionCause {
    /// The failure rate of the window reached its threshold.
    FailureRate,
    /// The rate of slow calls in the window reached its threshold.
    SlowCallRate,
    /// This number of consecutive calls failed.
    ConsecutiveFailures,
    /// The open time is over, and the breaker admits probes.
    OpenTimeOver,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// Too many probes failed, or were slow.
    ProbesFailed,
    /// The half-open time was over before enough probes had succeeded.
    HalfOpenTimeOver,
    /// A method of the handle changed the state.
    ByHand,
}

// === impl CircuitState ===

labels!(CircuitState {
    CircuitState::Closed => "closed",
    CircuitState::Open { .. } => "open",
    CircuitState::HalfOpen => "half_open",
    CircuitState::ForcedOpen => "forced_open",
    CircuitState::ForcedClosed => "forced_closed",
    CircuitState::ObserveOnly => "observe_only",
});

impl CircuitState {
    pub(crate) fn new(mode: Mode, retry_in: u64) -> Self {
        match mode {
            Mode::Closed => CircuitState::Closed,
            Mode::Open => CircuitState::Open {
                retry_in: Duration::from_nanos(retry_in),
            },
            Mode::HalfOpen => CircuitState::HalfOpen,
            Mode::ForcedOpen => CircuitState::ForcedOpen,
            Mode::ForcedClosed => CircuitState::ForcedClosed,
            Mode::ObserveOnly => CircuitState::ObserveOnly,
        }
    }
}

// === impl Transition ===

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.from, self.to, self.cause)?;
        if let CircuitState::Open { retry_in } = self.to {
            write!(f, ", for {retry_in:?}")?;
        }
        Ok(())
    }
}

// === impl TransitionCause ===

labels!(TransitionCause {
    TransitionCause::FailureRate => "failure_rate", "the failure rate reached its threshold",
    TransitionCause::SlowCallRate =>
        "slow_call_rate", "the rate of slow calls reached its threshold",
    TransitionCause::ConsecutiveFailures => "consecutive_failures", "too many failures in a row",
    TransitionCause::OpenTimeOver => "open_time_over", "the open time is over",
    TransitionCause::ProbesSucceeded => "probes_succeeded", "the probes succeeded",
    TransitionCause::ProbesFailed => "probes_failed", "the probes failed",
    TransitionCause::HalfOpenTimeOver => "half_open_time_over", "the half-open time is over",
    TransitionCause::ByHand => "by_hand", "by hand",
});
