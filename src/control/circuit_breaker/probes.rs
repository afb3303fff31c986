//! The probes of a half-open breaker, in one word, so that every decision reads a consistent value.

use super::window::Counts;
use super::word::era;

/// The probes of one half-open state:
/// `| generation: 14 | outstanding: 10 | begun: 10 | done: 10 | failed: 10 | slow: 10 |`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probes(pub(super) u64);

// === impl Probes ===

impl Probes {
    const BITS: u32 = 10;
    const FIELD: u64 = (1 << Self::BITS) - 1;
    const TAG_SHIFT: u32 = 5 * Self::BITS;
    const OUTSTANDING: u64 = 1 << (4 * Self::BITS);
    const BEGUN: u64 = 1 << (3 * Self::BITS);
    const DONE: u64 = 1 << (2 * Self::BITS);
    const FAILED: u64 = 1 << Self::BITS;
    const SLOW: u64 = 1;

    pub(super) const fn new(generation: u64) -> Self {
        // Consecutive eras have different tags, and so have the generations of an era. Any odd
        // factor has this property.
        let tag = era(generation).wrapping_mul(0x9e5).wrapping_add(generation);
        Self(tag << Self::TAG_SHIFT)
    }

    pub(super) const fn is_of(self, generation: u64) -> bool {
        self.0 >> Self::TAG_SHIFT == Self::new(generation).0 >> Self::TAG_SHIFT
    }

    const fn field(self, unit: u64) -> u32 {
        ((self.0 / unit) & Self::FIELD) as u32
    }

    /// The number of probes without an outcome.
    pub(super) const fn outstanding(self) -> u32 {
        self.field(Self::OUTSTANDING)
    }

    /// The number of probes without an outcome whose response has begun.
    pub(super) const fn begun(self) -> u32 {
        self.field(Self::BEGUN)
    }

    /// The number of probes with an outcome.
    pub(super) const fn done(self) -> u32 {
        self.field(Self::DONE)
    }

    pub(super) const fn failed(self) -> u32 {
        self.field(Self::FAILED)
    }

    pub(super) const fn slow(self) -> u32 {
        self.field(Self::SLOW)
    }

    pub(super) fn counts(self) -> Counts {
        Counts {
            calls: self.done().into(),
            failures: self.failed().into(),
            slow: self.slow().into(),
            ..Counts::default()
        }
    }

    /// Adds a probe, if fewer than `most` are outstanding or done.
    pub(super) fn enter(self, most: u32) -> Option<Self> {
        (self.outstanding() + self.done() < most).then_some(Self(self.0 + Self::OUTSTANDING))
    }

    /// Notes that the response of a probe has begun.
    #[allow(dead_code, reason = "without a protocol nothing begins before it ends")]
    pub(super) fn begin(self) -> Self {
        Self(self.0 + Self::BEGUN)
    }

    /// Removes a probe without an outcome.
    pub(super) fn release(self, has_begun: bool) -> Self {
        debug_assert!(self.outstanding() > 0, "no slot is released twice");
        debug_assert!(!has_begun || self.begun() > 0, "no response begins twice");
        Self(self.0 - Self::OUTSTANDING - u64::from(has_begun) * Self::BEGUN)
    }

    /// Records the outcome of a probe.
    pub(super) fn finish(self, has_begun: bool, failed: bool, slow: bool) -> Self {
        let failed = u64::from(failed) * Self::FAILED;
        let slow = u64::from(slow) * Self::SLOW;
        Self(self.release(has_begun).0 + Self::DONE + failed + slow)
    }
}
