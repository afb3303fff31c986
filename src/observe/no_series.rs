//! The functions of `series.rs` without the feature `metrics`: they do nothing.

use std::time::Duration;

use super::{Change, LagState, Mode, Outcome, Reached, Reason, Reporter, Setting};

#[allow(clippy::unused_self, reason = "the other module needs it")]
impl Reporter {
    /// Registers the series of the handle, each with 0, if they are not registered yet. Without the
    /// feature `metrics` it does nothing. Call it in [`Policy::register`] of your own policy.
    ///
    /// [`Policy::register`]: crate::policy::Policy::register
    pub fn register(&self) {}

    #[inline(always)]
    pub(crate) fn admitted(&self, _: &dyn Fn()) {}

    #[inline(always)]
    pub(crate) fn arrived(&self, _: &dyn Fn()) {}

    pub(super) fn exempted(&self) {}

    pub(super) fn rejected_for(&self, _: Reason) {}

    pub(super) fn would_reject_for(&self, _: Reason) {}

    pub(super) fn count_malformed_timeout(&self) {}

    pub(crate) fn set(&self, _: Setting, _: f64) {}

    pub(super) fn record_slow_poll(&self, _: Duration) {}

    pub(super) fn show_draining(&self) {}

    #[inline]
    pub(crate) fn entered(&self) {}

    #[inline]
    pub(crate) fn left(&self) {}

    pub(crate) fn queued(&self) {}

    pub(crate) fn left_queue(&self, _: Duration) {}

    pub(crate) fn lag(&self, _: Duration) {}

    pub(crate) fn probe_returned(&self, _: Duration, _: bool) {}

    pub(super) fn count_sampler_failure(&self) {}

    pub(crate) fn show_lag_state(&self, _: LagState) {}

    pub(crate) fn shed(&self, _: f64) {}

    pub(crate) fn failed_open(&self) {}

    #[inline]
    pub(crate) fn circuit_seen(&self, _: impl FnOnce() -> Mode) {}

    pub(super) fn show_circuit_change(&self, _: &Change) {}

    pub(crate) fn circuit_reached(&self, _: Reached) {}

    #[inline]
    pub(crate) fn circuit_outcome(&self, _: Outcome, _: Option<u64>) {}

    pub(crate) fn circuit_gone(&self) {}
}
