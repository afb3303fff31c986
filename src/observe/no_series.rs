//! The same without the `metrics` feature: nothing.

use std::time::Duration;

use super::{Change, Exceeded, LagState, Meter, Mode, Outcome, Reason};

#[derive(Default)]
pub(super) struct Series {}

#[allow(clippy::unused_self, reason = "the other module needs it")]
impl Series {
    #[inline]
    pub(super) fn admitted(&self, _: &Meter) {}

    pub(super) fn rejected(&self, _: &Meter, _: Reason, _: bool) {}

    pub(super) fn timed_out(&self, _: &Meter) {}

    pub(super) fn malformed_timeout(&self, _: &Meter) {}

    pub(super) fn panicked(&self, _: &Meter) {}

    #[inline]
    pub(super) fn entered(&self, _: &Meter, _: impl FnOnce() -> usize) {}

    #[inline]
    pub(super) fn left(&self) {}

    pub(super) fn limit_changed(&self, _: usize) {}

    #[inline]
    pub(super) fn waiting(&self, _: &Meter, _: bool) {}

    pub(super) fn lag(&self, _: &Meter, _: Duration) {}

    pub(super) fn probe_back(&self, _: &Meter, _: Duration, _: bool) {}

    pub(super) fn shed(&self, _: &Meter, _: f64) {}

    pub(super) fn lag_state(&self, _: &Meter, _: LagState) {}

    pub(super) fn failed_open(&self, _: &Meter) {}

    #[inline]
    pub(super) fn circuit_seen(&self, _: &Meter, _: impl FnOnce() -> Mode) {}

    #[inline]
    pub(super) fn circuit_outcome(&self, _: &Meter, _: Outcome) {}

    pub(super) fn circuit_reached(_: &Meter, _: Exceeded) {}

    pub(super) fn circuit_changed(&self, _: &Meter, _: &Change) {}

    pub(super) fn circuit_gone(&self) {}

    pub(super) fn sampler_failed(&self, _: &Meter) {}
}
