//! The functions of `series.rs` without the feature `metrics`: they do nothing.

use super::table::SeriesId;
use super::{Reason, Reporter, Write};

#[allow(clippy::unused_self, reason = "the other module needs it")]
impl Reporter {
    pub(super) fn is_registered(&self) -> bool {
        false
    }

    pub(crate) fn register(&self) {}

    /// Registers the series for rejections with these reasons, each with 0, so that an `increase`
    /// sees the first rejection. Call it in [`Policy::register`] of your own policy. Without the
    /// feature `metrics` it does nothing.
    ///
    /// [`Policy::register`]: crate::policy::Policy::register
    pub fn register_reasons(&self, _: &[Reason]) {}

    #[inline(always)]
    pub(crate) fn admitted(&self, _: &dyn Fn()) {}

    #[inline(always)]
    pub(crate) fn arrived(&self, _: &dyn Fn()) {}

    pub(super) fn exempted(&self) {}

    pub(super) fn count_reason(&self, _: Reason, _: bool, _: bool) {}

    pub(crate) fn show_setting(&self, _: SeriesId, _: f64) {}

    #[inline(always)]
    pub(crate) fn write(&self, _: SeriesId, _: Write) {}
}
