//! The sample of one call, and the sums of many.

use crate::sync::atomic::{AtomicU64, Ordering};

/// The sample of one call: two values, so that it is passed in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The sum of `FAILED` and `SLOW`.
    pub(crate) class: usize,
    /// In microseconds; 0 if it is not measured.
    pub(super) took: u64,
}

/// The calls in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) slow: u64,
    pub(crate) slow_failures: u64,
    /// The number of calls whose duration is known.
    pub(crate) timed: u64,
    /// The total duration of these, in microseconds.
    pub(crate) took: u64,
}

/// The number of samples of each [`Sample::class`].
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Tallies([AtomicU64; CLASSES]);

pub(super) const CLASSES: usize = 4;

// === impl Sample ===

impl Sample {
    /// A success that is not timed.
    pub(crate) const SUCCESS: Self = Self::new(false, false, 0);

    const FAILED: usize = 1;
    const SLOW: usize = 2;

    pub(crate) const fn new(failed: bool, slow: bool, took: u64) -> Self {
        Self {
            class: (failed as usize * Self::FAILED) | (slow as usize * Self::SLOW),
            took,
        }
    }

    pub(crate) const fn failed(self) -> bool {
        self.class & Self::FAILED != 0
    }

    pub(crate) const fn slow(self) -> bool {
        self.class & Self::SLOW != 0
    }
}

// === impl Counts ===

impl Counts {
    pub(crate) fn add(&mut self, sample: Sample, times: u64) {
        self.calls += times;
        self.failures += u64::from(sample.failed()) * times;
        self.slow += u64::from(sample.slow()) * times;
        self.slow_failures += u64::from(sample.failed() && sample.slow()) * times;
        self.timed += u64::from(sample.took > 0) * times;
        self.took += sample.took;
    }
}

// === impl Tallies ===

impl Tallies {
    pub(crate) fn add(&self, class: usize, times: u64) {
        self.0[class].fetch_add(times, Ordering::Relaxed);
    }

    pub(crate) fn add_to(&self, counts: &mut Counts) {
        for (class, tally) in self.0.iter().enumerate() {
            counts.add(Sample { class, took: 0 }, tally.load(Ordering::Relaxed));
        }
    }
}
