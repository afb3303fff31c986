//! The same functions without the feature `metrics`: they do nothing.

use std::time::Duration;

use super::{Change, LagState, Mode, Outcome, Reached, Reason, Reporter, Setting};

#[derive(Default)]
pub(super) struct Series {}

#[allow(clippy::unused_self, reason = "the other module needs it")]
impl Series {
    #[inline(always)]
    pub(super) fn admitted(&self, _: &Reporter, _: &dyn Fn()) {}

    #[inline(always)]
    pub(super) fn arrived(&self, _: &Reporter, _: &dyn Fn()) {}

    pub(super) fn register(&self, _: &Reporter) {}

    pub(super) fn exempt(&self, _: &Reporter) {}

    pub(super) fn rejected(&self, _: &Reporter, _: Reason, _: bool) {}

    pub(super) fn timed_out(&self, _: &Reporter) {}

    pub(super) fn malformed_timeout(&self, _: &Reporter) {}

    pub(super) fn panicked(&self, _: &Reporter) {}

    pub(super) fn set(&self, _: Setting, _: f64) {}

    pub(super) fn slow_poll(&self, _: &Reporter, _: Duration) {}

    pub(super) fn draining(&self, _: &Reporter) {}

    #[inline]
    pub(super) fn entered(&self, _: &Reporter) {}

    #[inline]
    pub(super) fn left(&self, _: &Reporter) {}

    pub(super) fn queued(&self, _: &Reporter) {}

    pub(super) fn left_queue(&self, _: &Reporter, _: Duration) {}

    pub(super) fn lag(&self, _: &Reporter, _: Duration) {}

    pub(super) fn probe_returned(&self, _: &Reporter, _: Duration, _: bool) {}

    pub(super) fn shed(&self, _: &Reporter, _: f64) {}

    pub(super) fn lag_state(&self, _: &Reporter, _: LagState) {}

    pub(super) fn failed_open(&self, _: &Reporter) {}

    pub(super) fn sampler_failed(&self, _: &Reporter) {}

    #[inline]
    pub(super) fn circuit_seen(&self, _: &Reporter, _: impl FnOnce() -> Mode) {}

    #[inline]
    pub(super) fn circuit_outcome(&self, _: &Reporter, _: Outcome, _: Option<u64>) {}

    pub(super) fn circuit_reached(&self, _: &Reporter, _: Reached) {}

    pub(super) fn circuit_changed(&self, _: &Reporter, _: &Change) {}

    pub(super) fn circuit_gone(&self) {}
}
