//! The functions of `series.rs` without the feature `metrics`: they do nothing.

use super::table::SeriesId;
use super::{Reason, Reporter, Write};

#[allow(clippy::unused_self, reason = "the other module needs it")]
impl Reporter {
    /// Registers the series that a layer of this crate has, each with 0, if they are not registered
    /// yet. A reporter of your own policy has none: its series are registered at the first
    /// rejection for each reason. Without the feature `metrics` it does nothing.
    pub fn register(&self) {}

    #[inline(always)]
    pub(crate) fn admitted(&self, _: &dyn Fn()) {}

    #[inline(always)]
    pub(crate) fn arrived(&self, _: &dyn Fn()) {}

    pub(super) fn exempted(&self) {}

    pub(super) fn rejected_for(&self, _: Reason) {}

    pub(super) fn would_reject_for(&self, _: Reason) {}

    pub(crate) fn show_setting(&self, _: SeriesId, _: f64) {}

    #[inline(always)]
    pub(crate) fn write(&self, _: SeriesId, _: Write) {}
}
