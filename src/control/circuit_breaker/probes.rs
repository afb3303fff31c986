//! The probes of a half-open breaker.

use super::window::{Counts, Sample};

/// The probes of one half-open state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Probes {
    /// The number of probes without an outcome.
    pub(crate) outstanding: u32,
    /// The number of these whose response has begun.
    pub(super) begun: u32,
    /// The number of these that are reserved: the call is not made yet.
    pub(super) reserved: u32,
    /// The outcomes of the others.
    pub(super) counts: Counts,
}

// === impl Probes ===

impl Probes {
    /// The number of calls that were admitted and have not released their slot.
    pub(super) const fn admitted(self) -> u32 {
        self.outstanding + self.counts.calls as u32
    }

    /// Removes a probe without an outcome.
    pub(super) fn release(&mut self, has_begun: bool) {
        self.outstanding -= 1;
        self.begun -= u32::from(has_begun);
    }

    /// Records the outcome of a probe.
    pub(super) fn finish(&mut self, has_begun: bool, sample: Sample) {
        self.release(has_begun);
        self.counts.add(sample, 1);
    }
}
