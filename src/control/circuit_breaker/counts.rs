//! What a call says, and sums of it.

use std::array;

#[cfg(all(test, seawall_loom))]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(all(test, seawall_loom)))]
use std::sync::atomic::{AtomicU64, Ordering};

/// What one call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
    /// Microseconds; 0 if it is not measured.
    pub(crate) took: u64,
}

/// The calls in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) slow: u64,
    pub(crate) slow_failures: u64,
    /// Microseconds of all calls together.
    pub(crate) took: u64,
}

/// How many there were of each [`Sample::class`].
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Tallies([AtomicU64; CLASSES]);

pub(super) const CLASSES: usize = 4;

// === impl Sample ===

impl Sample {
    pub(super) const fn class(self) -> usize {
        self.failed as usize | (self.slow as usize) << 1
    }

    pub(super) const fn of_class(class: usize, took: u64) -> Self {
        Self {
            failed: class & 1 != 0,
            slow: class & 2 != 0,
            took,
        }
    }
}

// === impl Counts ===

impl Counts {
    pub(super) fn add(&mut self, sample: Sample, times: u64) {
        self.calls += times;
        self.failures += if sample.failed { times } else { 0 };
        self.slow += if sample.slow { times } else { 0 };
        self.slow_failures += if sample.failed && sample.slow {
            times
        } else {
            0
        };
        self.took += sample.took;
    }

    fn rate(&self, part: u64) -> Option<f64> {
        (self.calls > 0).then(|| part as f64 / self.calls as f64)
    }

    /// `None` without calls.
    pub(crate) fn failure_rate(&self) -> Option<f64> {
        self.rate(self.failures)
    }

    /// `None` without calls.
    pub(crate) fn slow_rate(&self) -> Option<f64> {
        self.rate(self.slow)
    }
}

// === impl Tallies ===

impl Tallies {
    pub(super) fn new() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }

    pub(super) fn add(&self, class: usize, times: u64) {
        self.0[class].fetch_add(times, Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, counts: &mut Counts) {
        for (class, tally) in self.0.iter().enumerate() {
            counts.add(Sample::of_class(class, 0), tally.load(Ordering::Relaxed));
        }
    }
}
