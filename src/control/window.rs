//! What came back lately: a ring of the last calls, or buckets of the last time span.
//!
//! Nothing is ever cleared. Every word carries a tag, and a word whose tag is not of now counts as empty: for a bucket the tag
//! is the number of its slice of time, for a ring the era of the breaker: how often it began to count. So a silent window is
//! empty for whoever reads it, a new era begins with an empty window, and what comes late from an older one finds its tag outdated. Each word
//! is changed by one compare-exchange loop over a pure function, so that none needs another to be consistent.

use std::array;

#[cfg(all(test, seawall_loom))]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(all(test, seawall_loom)))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The most calls that a ring remembers.
pub(crate) const MAX_CALLS: u32 = 4096;

/// The most buckets of a time window.
pub(crate) const MAX_BUCKETS: u32 = 60;

/// What one call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
    /// Microseconds; 0 where nobody measures.
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

/// The window of a breaker, and the number of all calls that ever went through it.
#[derive(Debug)]
pub(crate) struct Window {
    calls: Calls,
    /// Samples that are in no word any more, or never were, by [`Sample::class`].
    past: [AtomicU64; CLASSES],
}

#[derive(Debug)]
enum Calls {
    Last(Ring),
    Within(Buckets),
}

/// The last calls, one by one.
#[derive(Debug)]
struct Ring {
    /// `| era: 22 | index: 42 |`.
    next: AtomicU64,
    slots: Box<[AtomicU64]>,
    sums: AtomicU64,
}

/// The calls of a time span, in slices of it.
#[derive(Debug)]
struct Buckets {
    /// Nanoseconds.
    width: u64,
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

const CLASSES: usize = 4;

/// Loom takes accesses that are `SeqCst` for `AcqRel`, but knows a fence.
#[cfg(all(test, seawall_loom))]
fn fence() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}

#[cfg(not(all(test, seawall_loom)))]
fn fence() {}

// === impl Sample ===

impl Sample {
    const fn class(self) -> usize {
        self.failed as usize | (self.slow as usize) << 1
    }

    const fn of_class(class: usize, took: u64) -> Self {
        Self {
            failed: class & 1 != 0,
            slow: class & 2 != 0,
            took,
        }
    }
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, sample: Sample, times: u64) {
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

// === impl Window ===

impl Window {
    /// The last `calls` calls, at most [`MAX_CALLS`].
    pub(crate) fn last(calls: u32) -> Self {
        Self::new(Calls::Last(Ring {
            next: AtomicU64::new(0),
            slots: (0..calls).map(|_| AtomicU64::new(slot::EMPTY)).collect(),
            sums: AtomicU64::new(sums::fresh(0)),
        }))
    }

    /// The calls of the last `span` nanoseconds, in slices of `span / buckets`.
    pub(crate) fn within(span: u64, buckets: u32) -> Self {
        Self::new(Calls::Within(Buckets {
            width: (span / u64::from(buckets)).max(1),
            slices: (0..buckets).map(|_| Bucket::new()).collect(),
            worst: AtomicU32::new(0),
        }))
    }

    fn new(calls: Calls) -> Self {
        Self {
            calls,
            past: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Counts a call, and says what the window holds with it; `None` if there is nothing in it but fast successes, or if the
    /// sample came too late to be in it.
    #[inline]
    pub(crate) fn record(&self, era: u64, now: impl Fn() -> u64, sample: Sample) -> Option<Counts> {
        match &self.calls {
            Calls::Last(ring) => ring.record(era, sample, &self.past),
            Calls::Within(buckets) => buckets.record(era, now(), sample, &self.past),
        }
    }

    /// Counts a call that belongs into no window, being of an older era.
    pub(crate) fn record_past(&self, sample: Sample) {
        self.past[sample.class()].fetch_add(1, Ordering::Relaxed);
    }

    /// What the window holds now.
    pub(crate) fn counts(&self, era: u64, now: u64) -> Counts {
        match &self.calls {
            Calls::Last(ring) => ring.scan(|tag| tag == slot::tag(era)),
            Calls::Within(buckets) => {
                let mut counts = buckets.counts(buckets.slice(era, now));
                counts.took = buckets.took(buckets.slice(era, now));
                counts
            }
        }
    }

    /// All calls that were ever recorded. While others record, a call may be seen a moment late.
    pub(crate) fn totals(&self) -> Counts {
        let mut totals = match &self.calls {
            Calls::Last(ring) => ring.scan(|_| true),
            Calls::Within(buckets) => buckets.ever(),
        };
        totals.took = 0;
        for (class, past) in self.past.iter().enumerate() {
            totals.add(Sample::of_class(class, 0), past.load(Ordering::Relaxed));
        }
        totals
    }
}

// === impl Ring ===

/// A slot: `| era: 22 | taken: 1 | class: 2 | microseconds: 39 |`.
mod slot {
    use super::Sample;

    pub(super) const EMPTY: u64 = 0;
    const TAKEN: u64 = 1 << 41;
    const CLASS_SHIFT: u32 = 39;
    const TOOK: u64 = (1 << CLASS_SHIFT) - 1;
    const TAG_SHIFT: u32 = 42;

    pub(super) const fn tag(era: u64) -> u64 {
        era & (u64::MAX >> TAG_SHIFT)
    }

    pub(super) const fn tag_of(word: u64) -> u64 {
        word >> TAG_SHIFT
    }

    /// Whether the tag is of a later era; they are compared around the end of their range.
    pub(super) const fn is_later(tag: u64, than: u64) -> bool {
        let ahead = self::tag(tag.wrapping_sub(than));
        ahead != 0 && ahead < 1 << 21
    }

    pub(super) fn new(era: u64, sample: Sample) -> u64 {
        tag(era) << TAG_SHIFT
            | TAKEN
            | (sample.class() as u64) << CLASS_SHIFT
            | sample.took.min(TOOK)
    }

    pub(super) const fn next(tag: u64, index: u64) -> u64 {
        tag << TAG_SHIFT | index
    }

    pub(super) const fn index(next: u64) -> u64 {
        next & ((1 << TAG_SHIFT) - 1)
    }

    pub(super) const fn sample(word: u64) -> Option<Sample> {
        if word & TAKEN == 0 {
            return None;
        }
        let class = (word >> CLASS_SHIFT & 0b11) as usize;
        Some(Sample::of_class(class, word & TOOK))
    }
}

/// The sums over the slots: `| era: 22 | calls: 14 | failures: 14 | slow: 14 |`. The sums are moved up by [`BIAS`]:
/// whoever evicts a failure may subtract it before the one who put it there has added it.
mod sums {
    use super::{Counts, Sample, slot};

    const BITS: u32 = 14;
    const FIELD: u64 = (1 << BITS) - 1;
    const BIAS: u64 = 1 << 12;
    const TAG_SHIFT: u32 = 3 * BITS;

    pub(super) const fn fresh(era: u64) -> u64 {
        slot::tag(era) << TAG_SHIFT | BIAS << (2 * BITS) | BIAS << BITS | BIAS
    }

    pub(super) const fn tag_of(word: u64) -> u64 {
        word >> TAG_SHIFT
    }

    const fn one(sample: Sample) -> u64 {
        1 << (2 * BITS) | (sample.failed as u64) << BITS | sample.slow as u64
    }

    pub(super) fn replace(word: u64, evicted: Option<Sample>, added: Sample) -> u64 {
        (word + one(added)).wrapping_sub(evicted.map_or(0, one))
    }

    pub(super) fn counts(word: u64) -> Counts {
        let field = |index: u32| (word >> (index * BITS) & FIELD).saturating_sub(BIAS);
        Counts {
            calls: field(2),
            failures: field(1),
            slow: field(0),
            ..Counts::default()
        }
    }
}

impl Ring {
    fn record(&self, era: u64, sample: Sample, past: &[AtomicU64; CLASSES]) -> Option<Counts> {
        let replaced = self.claim(era).and_then(|index| {
            let word = slot::new(era, sample);
            self.slots[index].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                (!slot::is_later(slot::tag_of(old), slot::tag(era))).then_some(word)
            })
        });
        let Ok(old) = replaced else {
            past[sample.class()].fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let evicted = slot::sample(old);
        if let Some(evicted) = evicted {
            past[evicted.class()].fetch_add(1, Ordering::Relaxed);
        }
        let evicted = evicted.filter(|_| slot::tag_of(old) == slot::tag(era));
        let update = |old: u64| {
            let tag = sums::tag_of(old);
            if tag == slot::tag(era) {
                Some(sums::replace(old, evicted, sample))
            } else if slot::is_later(tag, slot::tag(era)) {
                None
            } else {
                Some(sums::replace(sums::fresh(era), evicted, sample))
            }
        };
        let old = self
            .sums
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, update)
            .ok()?;
        let counts = sums::counts(update(old)?);
        (counts.failures + counts.slow > 0).then_some(counts)
    }

    /// The slot that is next; `Err` if a later era has begun.
    fn claim(&self, era: u64) -> Result<usize, u64> {
        let slots = self.slots.len() as u64;
        let claimed = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                let tag = slot::tag(era);
                if slot::tag_of(old) == tag {
                    let next = slot::index(old) + 1;
                    Some(slot::next(tag, if next < slots { next } else { 0 }))
                } else if slot::is_later(slot::tag_of(old), tag) {
                    None
                } else {
                    Some(slot::next(tag, 1 % slots))
                }
            })?;
        let is_first = slot::tag_of(claimed) != slot::tag(era);
        Ok(if is_first {
            0
        } else {
            slot::index(claimed) as usize
        })
    }

    fn scan(&self, is_wanted: impl Fn(u64) -> bool) -> Counts {
        let mut counts = Counts::default();
        for word in &self.slots {
            let word = word.load(Ordering::Relaxed);
            if let Some(sample) = slot::sample(word).filter(|_| is_wanted(slot::tag_of(word))) {
                counts.add(sample, 1);
            }
        }
        counts
    }
}

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
    /// The number of the slice of time; that of a later era is a window ahead at least.
    fn slice(&self, era: u64, now: u64) -> u32 {
        let windows = era.wrapping_mul(self.slices.len() as u64);
        (now / self.width).wrapping_add(windows) as u32
    }

    fn bucket(&self, now: u64) -> &Bucket {
        &self.slices[(now / self.width % self.slices.len() as u64) as usize]
    }

    fn is_in_window(&self, slice: u32, now: u32) -> bool {
        (now.wrapping_sub(slice) as usize) < self.slices.len()
    }

    #[inline]
    fn record(
        &self,
        era: u64,
        now: u64,
        sample: Sample,
        past: &[AtomicU64; CLASSES],
    ) -> Option<Counts> {
        let slice = self.slice(era, now);
        let bucket = self.bucket(now);
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
                past[class].fetch_add(u64::from(tally::count(old)), Ordering::Relaxed);
            }
            Err(_) => {
                past[class].fetch_add(1, Ordering::Relaxed);
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

    fn ever(&self) -> Counts {
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
