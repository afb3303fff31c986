//! The calls of a time span, in buckets.

use std::array;

#[cfg(all(test, seawall_loom))]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(all(test, seawall_loom)))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::counts::{CLASSES, Counts, Sample, Tallies};

/// The calls of a time span, in slices of it.
#[derive(Debug)]
pub(super) struct Buckets {
    /// Nanoseconds.
    width: u64,
    /// How many slices are in the window.
    count: u32,
    /// A power of two, so that finding one takes no division.
    slices: Box<[Bucket]>,
    /// The newest slice with a sample that is not a fast success. Without one in the window there is nothing to add up.
    worst: AtomicU32,
}

/// One slice of time, alone on its cache lines, since only the newest is written.
#[derive(Debug)]
#[repr(align(64))]
struct Bucket {
    counts: [AtomicU64; CLASSES],
    took: AtomicU64,
}

/// Loom takes accesses that are `SeqCst` for `AcqRel`, but knows a fence.
#[cfg(all(test, seawall_loom))]
fn fence() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}

#[cfg(not(all(test, seawall_loom)))]
fn fence() {}

// === impl Buckets ===

/// A count of a slice: `| slice: 32 | count: 32 |`.
mod tally {
    pub(super) const fn slice_of(word: u64) -> u32 {
        (word >> 32) as u32
    }

    pub(super) const fn count(word: u64) -> u32 {
        word as u32
    }

    /// Whether a slice comes after the other, and not so long after that the numbers have rather come round.
    pub(super) const fn is_soon(slice: u32, after: u32) -> bool {
        slice.wrapping_sub(after).wrapping_sub(1) < 1 << 20
    }

    /// One more in the slice. `None` if the word is of a later one, a whole window or a era ahead.
    pub(super) const fn increment(word: u64, slice: u32) -> Option<u64> {
        if slice_of(word) == slice {
            // Full, it stays full: 4 billion calls in a slice are enough for a rate.
            Some(if count(word) == u32::MAX {
                word
            } else {
                word + 1
            })
        } else if is_soon(slice_of(word), slice) {
            None
        } else {
            // However long nobody has written it: the numbers come round.
            Some((slice as u64) << 32 | 1)
        }
    }
}

/// A sum of durations: `| slice: 20 | microseconds: 44 |`.
mod took {
    const BITS: u32 = 44;
    const SUM: u64 = (1 << BITS) - 1;

    pub(super) const fn sum(word: u64, slice: u32) -> Option<u64> {
        if word >> BITS == tag(slice) {
            Some(word & SUM)
        } else {
            None
        }
    }

    const fn tag(slice: u32) -> u64 {
        slice as u64 & (u64::MAX >> BITS)
    }

    pub(super) fn add(word: u64, slice: u32, took: u64) -> u64 {
        let sum = sum(word, slice).unwrap_or(0).saturating_add(took).min(SUM);
        tag(slice) << BITS | sum
    }
}

impl Bucket {
    fn new() -> Self {
        Self {
            counts: array::from_fn(|_| AtomicU64::new(0)),
            took: AtomicU64::new(0),
        }
    }
}

impl Buckets {
    /// `span` in nanoseconds.
    pub(super) fn new(span: u64, buckets: u32) -> Self {
        Self {
            width: (span / u64::from(buckets)).max(1),
            count: buckets,
            slices: (0..buckets.next_power_of_two())
                .map(|_| Bucket::new())
                .collect(),
            // Half the range away from the first slice.
            worst: AtomicU32::new(1 << 31),
        }
    }

    pub(super) fn counts_at(&self, era: u64, now: u64) -> Counts {
        let slice = self.slice(era, now / self.width);
        Counts {
            took: self.took(slice),
            ..self.counts(slice)
        }
    }

    /// The slice of time of that number; in a later era it is a window ahead at least.
    #[inline]
    fn slice(&self, era: u64, number: u64) -> u32 {
        let windows = (era as u32).wrapping_mul(self.slices.len() as u32);
        (number as u32).wrapping_add(windows)
    }

    /// The same for a slice of any era, as these are a number of windows apart.
    #[inline]
    fn bucket(&self, slice: u32) -> &Bucket {
        &self.slices[slice as usize & (self.slices.len() - 1)]
    }

    #[inline]
    fn is_in_window(&self, slice: u32, now: u32) -> bool {
        now.wrapping_sub(slice) < self.count
    }

    /// Nanoseconds.
    pub(super) fn width(&self) -> u64 {
        self.width
    }

    /// Counts a fast success in the slice of time of that number, unless something else is to be done: `None` then. Says
    /// whether the window holds nothing but fast successes.
    #[inline]
    pub(super) fn record_success(&self, era: u64, number: u64) -> Option<bool> {
        let slice = self.slice(era, number);
        let word = &self.bucket(slice).counts[0];
        let mut now = word.load(Ordering::Relaxed);
        loop {
            if tally::slice_of(now) != slice || tally::count(now) == u32::MAX {
                return None;
            }
            match word.compare_exchange_weak(now, now + 1, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break,
                Err(seen) => now = seen,
            }
        }
        fence();
        Some(!self.is_in_window(self.worst.load(Ordering::SeqCst), slice))
    }

    #[inline]
    pub(super) fn record(
        &self,
        era: u64,
        now: u64,
        sample: Sample,
        past: &Tallies,
    ) -> Option<Counts> {
        let slice = self.slice(era, now / self.width);
        let bucket = self.bucket(slice);
        let class = sample.class();
        if class != 0 {
            self.note_worst(slice);
        }
        let counted =
            bucket.counts[class].fetch_update(Ordering::SeqCst, Ordering::Acquire, |word| {
                tally::increment(word, slice)
            });
        match counted {
            Ok(old) if tally::slice_of(old) == slice => {}
            Ok(old) => {
                past.add(class, u64::from(tally::count(old)));
            }
            Err(_) => {
                past.add(class, 1);
                return None;
            }
        }
        if sample.took > 0 {
            let _ = bucket
                .took
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                    Some(took::add(word, slice, sample.took))
                });
        }
        fence();
        if class == 0 && !self.is_in_window(self.worst.load(Ordering::SeqCst), slice) {
            return None;
        }
        Some(self.counts(slice))
    }

    /// Before the sample is counted: of a failure and a success at once, one sees both.
    fn note_worst(&self, slice: u32) {
        let worst = self.worst.load(Ordering::SeqCst);
        if worst != slice && !tally::is_soon(worst, slice) {
            let _ = self
                .worst
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |worst| {
                    (!tally::is_soon(worst, slice)).then_some(slice)
                });
        }
    }

    fn counts(&self, now: u32) -> Counts {
        let mut counts = Counts::default();
        self.each(|class, word| {
            if self.is_in_window(tally::slice_of(word), now) {
                counts.add(Sample::of_class(class, 0), tally::count(word).into());
            }
        });
        counts
    }

    fn took(&self, now: u32) -> u64 {
        let mut total = 0;
        for bucket in &self.slices {
            let slice = bucket
                .counts
                .iter()
                .map(|word| tally::slice_of(word.load(Ordering::Relaxed)))
                .find(|slice| self.is_in_window(*slice, now));
            let word = bucket.took.load(Ordering::Relaxed);
            total += slice.and_then(|slice| took::sum(word, slice)).unwrap_or(0);
        }
        total
    }

    pub(super) fn ever(&self) -> Counts {
        let mut counts = Counts::default();
        self.each(|class, word| {
            counts.add(Sample::of_class(class, 0), tally::count(word).into());
        });
        counts
    }

    fn each(&self, mut see: impl FnMut(usize, u64)) {
        for bucket in &self.slices {
            for (class, word) in bucket.counts.iter().enumerate() {
                see(class, word.load(Ordering::SeqCst));
            }
        }
    }
}
