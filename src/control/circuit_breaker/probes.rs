//! The probes of a half-open breaker.

use super::window::{Counts, Sample};

/// The probes of one half-open state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Probes {
    /// The number of probes without an outcome.
    pub(crate) outstanding: u32,
    /// The number of these whose response has begun.
    pub(super) begun: u32,
    /// The number of probes with an outcome.
    pub(super) done: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
}

// === impl Probes ===

impl Probes {
    /// The number of calls that were admitted and have not released their slot.
    pub(super) const fn admitted(self) -> u32 {
        self.outstanding + self.done
    }

    pub(super) fn counts(self) -> Counts {
        Counts {
            calls: self.done.into(),
            failures: self.failed.into(),
            slow: self.slow.into(),
            ..Counts::default()
        }
    }

    /// Removes a probe without an outcome.
    pub(super) fn release(&mut self, has_begun: bool) {
        self.outstanding -= 1;
        self.begun -= u32::from(has_begun);
    }

    /// Records the outcome of a probe.
    pub(super) fn finish(&mut self, has_begun: bool, sample: Sample) {
        self.release(has_begun);
        self.done += 1;
        self.failed += u32::from(sample.failed());
        self.slow += u32::from(sample.slow());
    }
}
