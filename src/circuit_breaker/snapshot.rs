//! The state of a breaker at one moment.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::CircuitBreaker;
use crate::control::circuit_breaker::transition::CircuitState;

/// The state of a [`CircuitBreaker`] and its counters at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CircuitBreakerSnapshot {
    /// The state that the next call finds, with the time until the next probe. With `serde`, it is
    /// the field `state`, for example `"closed"`; while open, `retry_in` is beside it.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub state: CircuitState,
    /// The time since the breaker has been in that state.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub in_state: Duration,
    /// The number of changes of state, up to the state that is shown.
    pub transitions: u64,
    /// The number of times that the breaker has opened again since it was last closed.
    pub failed_recoveries: u32,
    /// The number of probes without an outcome.
    pub probes_in_flight: u32,
    /// Closed or observe-only: the number of calls in the window. Half-open: the number of probes
    /// with an outcome. Open: the number of calls or probes on which the breaker opened, 0 after
    /// `trip`. Forced: 0.
    pub calls: u64,
    /// The number of these calls that failed.
    pub failures: u64,
    /// The number of these calls that were slow.
    pub slow_calls: u64,
    /// The number of these calls that failed and were slow.
    pub slow_failures: u64,
    /// The share of failures in the window, `0.0..=1.0`; `None` below the minimum number of calls.
    pub failure_rate: Option<f64>,
    /// The share of slow calls in the window, `0.0..=1.0`; `None` below the minimum number of
    /// calls.
    pub slow_call_rate: Option<f64>,
    /// The mean duration of the measured ones of these calls. Calls are measured if there is a
    /// slow-call threshold.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::optional"))]
    pub mean_duration: Option<Duration>,
    /// The number of calls rejected so far.
    pub rejected: u64,
    /// The number of calls so far that a layer in dry run would have rejected.
    pub would_reject: u64,
    /// The outcomes of all calls so far.
    pub totals: CircuitTotals,
    /// The number of times that each threshold was reached.
    pub thresholds_reached: ThresholdsReached,
}

/// The outcomes of all calls that a breaker has admitted, in any state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CircuitTotals {
    /// Successes.
    pub successes: u64,
    /// Failures, including calls that panicked, and calls that were already slow when they were
    /// dropped.
    pub failures: u64,
    /// Calls that were ignored, or dropped before they were slow.
    pub ignored: u64,
    /// Calls that were slow, among the successes and failures.
    pub slow_calls: u64,
    /// Calls that panicked, among the failures.
    pub panicked: u64,
    /// Calls that were dropped, among the failures and the ignored.
    pub cancelled: u64,
}

/// The number of times that each threshold was reached while the breaker was closed. In
/// observe-only, the number of times that the threshold would have opened the breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ThresholdsReached {
    /// The failure rate.
    pub failure_rate: u64,
    /// The rate of slow calls.
    pub slow_call_rate: u64,
    /// Consecutive failures.
    pub consecutive_failures: u64,
}

// === impl CircuitBreaker ===

impl CircuitBreaker {
    /// The state, and what the breaker has counted. `rejected`, `would_reject`, `totals` and
    /// `thresholds_reached` count since the breaker was made. All other fields belong to the state
    /// that is shown.
    pub fn snapshot(&self) -> CircuitBreakerSnapshot {
        let shared = &self.shared;
        let look = shared.look();
        let (circuit, counts) = (&look.circuit, &look.counts);
        let totals = shared.breaker.totals();
        let [failure_rate, slow_call_rate, consecutive_failures] =
            shared.reached.each_ref().map(|total| total.load(Relaxed));
        let is_enough = counts.calls >= shared.breaker.rules().minimum_calls.into();
        let rate = |part| is_enough.then(|| part as f64 / counts.calls as f64);
        let mean_micros = counts.took.checked_div(counts.timed);
        CircuitBreakerSnapshot {
            state: look.state(),
            in_state: Duration::from_nanos(look.now.saturating_sub(circuit.since)),
            transitions: circuit.transitions,
            failed_recoveries: circuit.failed_recoveries,
            probes_in_flight: circuit.probes.outstanding,
            calls: counts.calls,
            failures: counts.failures,
            slow_calls: counts.slow,
            slow_failures: counts.slow_failures,
            failure_rate: rate(counts.failures),
            slow_call_rate: rate(counts.slow),
            mean_duration: mean_micros.map(Duration::from_micros),
            rejected: shared.reporter.rejected(),
            would_reject: shared.reporter.would_reject(),
            totals: CircuitTotals {
                successes: totals.calls - totals.failures,
                failures: totals.failures,
                ignored: shared.ignored.load(Relaxed),
                slow_calls: totals.slow,
                panicked: shared.panicked.load(Relaxed),
                cancelled: shared.cancelled.load(Relaxed),
            },
            thresholds_reached: ThresholdsReached {
                failure_rate,
                slow_call_rate,
                consecutive_failures,
            },
        }
    }
}
