//! A window of time: the calls of the last time span, divided into slices.

use crate::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use super::Divisor;
use super::counts::{CLASSES, Counts, Sample, Tallies};

/// The calls of a time span. Slices are numbered from the origin of time. Each era starts as many
/// slices after the previous one as there are buckets. A word has at least 32 bits for the number
/// of its slice, which are enough for 50 million eras, and in a window of ten seconds for 300
/// years.
#[derive(Debug)]
pub(crate) struct TimeWindow {
    width: Divisor,
    /// The number of slices in the window.
    slices: u64,
    /// A power of two, so that a slice finds its bucket without a division.
    buckets: Box<[Bucket]>,
    /// Its logarithm.
    era_shift: u32,
    /// A count of a slice is `| slice | count: bits |`.
    bits: u32,
    /// The newest slice with a sample that is not a fast success. If it is not in the window, there
    /// is nothing to add up.
    worst: AtomicU64,
    /// The samples that are in no bucket any more, or never were.
    past: Tallies,
}

/// The counts of a slice of time, on their own cache lines, since only the newest is written.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket {
    counts: [AtomicU64; CLASSES],
    timed: AtomicU64,
    took: AtomicU64,
}

/// A sum of durations: `| slice: 20 | microseconds: 44 |`. It is read only if the bucket's count of
/// timed calls is of the same slice.
mod took {
    const BITS: u32 = 44;
    const SUM: u64 = (1 << BITS) - 1;

    const fn tag(slice: u64) -> u64 {
        slice << BITS
    }

    pub(super) const fn sum(word: u64, slice: u64) -> u64 {
        let is_same = word & !SUM == tag(slice);
        if is_same { word & SUM } else { 0 }
    }

    pub(super) fn add(word: u64, slice: u64, took: u64) -> u64 {
        tag(slice) | sum(word, slice).saturating_add(took).min(SUM)
    }
}

// === impl TimeWindow ===

impl TimeWindow {
    /// `span` in nanoseconds.
    pub(super) fn new(span: u64, slices: u32) -> Self {
        let width = span / u64::from(slices);
        // A count can hold a billion calls a second, or four billion calls. It then stays at its
        // maximum, which is enough for a rate.
        let shortest = (width / 10_000_000).max(1).next_power_of_two();
        let buckets = slices.next_power_of_two();
        Self {
            width: Divisor::new(width.max(2)),
            slices: slices.into(),
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            era_shift: buckets.ilog2(),
            bits: (24 + shortest.ilog2()).min(32),
            worst: AtomicU64::new(0),
            past: Tallies::default(),
        }
    }

    /// The slice of a time. The first slice is one window after that of words that are not written
    /// yet.
    #[inline]
    fn slice(&self, era: u64, now: u64) -> u64 {
        self.width.divide(now) + ((era + 1) << self.era_shift)
    }

    /// Eras are a whole number of windows apart, so that this is correct for slices of any era.
    #[inline]
    fn bucket(&self, slice: u64) -> &Bucket {
        &self.buckets[slice as usize & (self.buckets.len() - 1)]
    }

    /// Returns whether a slice is in the window that ends with `last`.
    #[inline]
    fn is_in(&self, last: u64, slice: u64) -> bool {
        last.wrapping_sub(slice) < self.slices
    }

    const fn slice_of(&self, word: u64) -> u64 {
        word >> self.bits
    }

    const fn count_of(&self, word: u64) -> u64 {
        word & ((1 << self.bits) - 1)
    }

    /// Adds one to the slice; `None` if the word is of a later slice.
    #[inline]
    const fn increment(&self, word: u64, slice: u64) -> Option<u64> {
        let held = self.slice_of(word);
        if held == slice {
            let is_full = self.slice_of(word.wrapping_add(1)) != slice;
            Some(if is_full { word } else { word + 1 })
        } else if held > slice {
            None
        } else {
            Some(slice << self.bits | 1)
        }
    }

    /// The end of the window that has a sample to evaluate, if there is one with a sample of
    /// `slice`. It is later than `slice` if another call was later.
    #[inline]
    fn judged(&self, slice: u64) -> Option<u64> {
        let worst = self.worst.load(Acquire);
        let last = slice.max(worst);
        self.is_in(last, worst).then_some(last)
    }

    /// If a failure and a success are recorded in a slice at the same time, one of them sees both.
    /// The failure first writes `worst`, and then changes the word of the successes. If the success
    /// changes that word later, it sees `worst`; if earlier, the failure sees the success.
    #[inline(always)]
    pub(super) fn record(&self, era: u64, now: u64, sample: Sample) -> Option<Counts> {
        let slice = self.slice(era, now);
        let bucket = self.bucket(slice);
        let class = sample.class;
        if class != 0 && self.worst.load(Acquire) < slice {
            self.worst.fetch_max(slice, AcqRel);
        }
        let Some(before) = self.count(&bucket.counts[class], slice) else {
            self.past.add(class, 1);
            return None;
        };
        if self.slice_of(before) != slice {
            self.past.add(class, self.count_of(before));
        }
        if sample.took > 0 {
            self.time(bucket, slice, sample.took);
        }
        if class != 0 {
            bucket.counts[0].fetch_add(0, AcqRel);
        }
        let last = self.judged(slice)?;
        Some(self.sum(|slice| self.is_in(last, slice), false))
    }

    /// Adds one. Returns the word before, or `None` if it is of a later slice.
    #[inline]
    fn count(&self, word: &AtomicU64, slice: u64) -> Option<u64> {
        let increment = |word| self.increment(word, slice);
        word.fetch_update(AcqRel, Acquire, increment).ok()
    }

    #[inline(never)]
    fn time(&self, bucket: &Bucket, slice: u64, took: u64) {
        if self.count(&bucket.timed, slice).is_some() {
            let add = |word| Some(took::add(word, slice, took));
            let _ = bucket.took.fetch_update(Relaxed, Relaxed, add);
        }
    }

    pub(super) fn counts(&self, era: u64, now: u64) -> Counts {
        let last = self.slice(era, now);
        self.sum(|slice| self.is_in(last, slice), true)
    }

    pub(super) fn totals(&self) -> Counts {
        let mut totals = self.sum(|_| true, false);
        self.past.add_to(&mut totals);
        totals
    }

    /// The counts of these slices. Those of the durations are not compared with thresholds.
    #[cold]
    fn sum(&self, is_wanted: impl Fn(u64) -> bool, with_durations: bool) -> Counts {
        let mut counts = Counts::default();
        for bucket in &self.buckets {
            for (class, word) in bucket.counts.iter().enumerate() {
                let word = word.load(Acquire);
                if is_wanted(self.slice_of(word)) {
                    counts.add(Sample { class, took: 0 }, self.count_of(word));
                }
            }
            if !with_durations {
                continue;
            }
            let timed = bucket.timed.load(Acquire);
            let slice = self.slice_of(timed);
            if is_wanted(slice) {
                counts.timed += self.count_of(timed);
                counts.took += took::sum(bucket.took.load(Relaxed), slice);
            }
        }
        counts
    }
}

#[cfg(all(test, not(seawall_loom)))]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    /// C7: a count is never that of an older slice, however long its bucket was not written.
    #[test]
    fn c7_numbers_of_slices_do_not_come_round() {
        let window = TimeWindow::new(10 * MILLI, 1);
        let failed = Sample::new(true, false, 5);
        assert_eq!(window.record(0, 0, failed).unwrap().failures, 1);
        for bits in [20, 31, 32, 36] {
            let later = (10 * MILLI) << bits;
            assert_eq!(window.counts(0, later), Counts::default(), "{bits}");
        }
        assert_eq!(window.totals().failures, 1);
    }

    #[test]
    fn a_full_count_stays_full() {
        let window = TimeWindow::new(10 * MILLI, 1);
        let full = 7 << window.bits | ((1 << window.bits) - 1);
        assert_eq!(window.increment(full, 7), Some(full));
        assert_eq!(window.increment(full, 6), None);
        assert_eq!(window.increment(full, 8), Some(8 << window.bits | 1));
        let parts = (window.slice_of(full), window.count_of(full));
        assert_eq!(parts, (7, (1 << 24) - 1));
    }

    /// A breaker that closes often has many eras, even with a long window.
    #[test]
    fn numbers_of_slices_last_for_many_eras() {
        let day = 24 * 60 * 60 * 1_000 * MILLI;
        let window = TimeWindow::new(day, 60);
        let failed = Sample::new(true, false, 0);
        for era in [0, 1 << 17, (1 << 25) - 1] {
            for calls in 1..3 {
                let counts = window.record(era, 60 * day, failed).unwrap();
                assert_eq!((counts.calls, counts.failures), (calls, calls), "{era}");
            }
        }
    }

    /// A failure that is recorded one slice late, after one of the next slice, is evaluated with
    /// it.
    #[test]
    fn a_late_failure_is_judged_in_the_window_of_the_latest() {
        let window = TimeWindow::new(100 * MILLI, 10);
        let failed = Sample::new(true, false, 0);
        assert_eq!(window.record(0, 10 * MILLI, failed).unwrap().calls, 1);
        assert_eq!(window.record(0, 9 * MILLI, failed).unwrap().calls, 2);
        assert_eq!(
            window.record(0, 9 * MILLI, Sample::SUCCESS).unwrap().calls,
            3
        );
    }
}
