//! A window of calls: the last calls, in a ring.

use crate::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use super::counts::{Counts, Sample, Tallies};

/// The last calls, one in each slot.
#[derive(Debug)]
pub(crate) struct CountWindow {
    slots: Box<[AtomicU64]>,
    heads: Heads,
    /// The samples that are in no slot any more, or never were, except fast successes: those are
    /// all other samples.
    past: Tallies,
}

/// The words that each call writes, apart from words that are only read.
#[derive(Debug)]
#[repr(align(64))]
struct Heads {
    /// `| era: 22 | slots claimed in it: 42 |`.
    claims: AtomicU64,
    /// The number of slots claimed in earlier eras, and of samples that claimed none.
    earlier: AtomicU64,
    sums: AtomicU64,
}

/// The tag of an era, in the upper bits of every word.
mod tag {
    pub(super) const SHIFT: u32 = 42;

    pub(super) const fn of_era(era: u64) -> u64 {
        era & (u64::MAX >> SHIFT)
    }

    pub(super) const fn of(word: u64) -> u64 {
        word >> SHIFT
    }

    /// Returns whether the tag is of a later era. The comparison wraps around at the end of the
    /// range. A record that is late is late by a few eras only, while a word that was not written
    /// for long may be older than half of the range.
    pub(super) const fn is_later(tag: u64, than: u64) -> bool {
        let ahead = of_era(tag.wrapping_sub(than));
        ahead != 0 && ahead < 1 << 16
    }
}

/// A slot: `| era: 22 | taken: 1 | class: 2 | microseconds: 39 |`.
mod slot {
    use super::{Sample, tag};

    const TAKEN: u64 = 1 << 41;
    const CLASS_SHIFT: u32 = 39;
    const TOOK: u64 = (1 << CLASS_SHIFT) - 1;

    #[inline(always)]
    pub(super) fn new(tag: u64, sample: Sample) -> u64 {
        let class = (sample.class as u64) << CLASS_SHIFT;
        tag << tag::SHIFT | TAKEN | class | sample.took.min(TOOK)
    }

    /// Returns whether both have a sample of the same era and class.
    pub(super) const fn is_like(word: u64, taken: u64) -> bool {
        (word ^ taken) >> CLASS_SHIFT == 0
    }

    pub(super) const fn sample(word: u64) -> Option<Sample> {
        if word & TAKEN == 0 {
            return None;
        }
        let class = (word >> CLASS_SHIFT & 0b11) as usize;
        let took = word & TOOK;
        Some(Sample { class, took })
    }
}

/// The sums over the slots: `| era: 22 | calls: 14 | failures: 14 | slow: 14 |`. Each has an offset
/// of `BIAS`, because a thread that evicts a failure may subtract it before the thread that
/// recorded it has added it.
mod sums {
    use super::{Counts, Sample, tag};

    const BITS: u32 = 14;
    const FIELD: u64 = (1 << BITS) - 1;
    const BIAS: u64 = 1 << 12;

    pub(super) const fn fresh(tag: u64) -> u64 {
        tag << tag::SHIFT | BIAS << (2 * BITS) | BIAS << BITS | BIAS
    }

    const fn one(sample: Sample) -> u64 {
        1 << (2 * BITS) | (sample.failed() as u64) << BITS | sample.slow() as u64
    }

    pub(super) fn replace(word: u64, evicted: Option<Sample>, added: Sample) -> u64 {
        (word + one(added)).wrapping_sub(evicted.map_or(0, one))
    }

    /// The counts, if the era has failures or slow calls.
    #[inline(always)]
    pub(super) fn counts(word: u64, tag: u64) -> Option<Counts> {
        let has_bad = word & (FIELD << BITS | FIELD) != BIAS << BITS | BIAS;
        let field = |index: u32| (word >> (index * BITS) & FIELD).saturating_sub(BIAS);
        (has_bad && tag::of(word) == tag).then(|| Counts {
            calls: field(2),
            failures: field(1),
            slow: field(0),
            ..Counts::default()
        })
    }
}

const CLAIMS: u64 = (1 << tag::SHIFT) - 1;

// === impl CountWindow ===

impl CountWindow {
    pub(super) fn new(calls: u32) -> Self {
        Self {
            slots: (0..calls).map(|_| AtomicU64::new(0)).collect(),
            heads: Heads {
                claims: AtomicU64::new(0),
                earlier: AtomicU64::new(0),
                sums: AtomicU64::new(sums::fresh(0)),
            },
            past: Tallies::default(),
        }
    }

    #[inline(always)]
    pub(super) fn record(&self, era: u64, sample: Sample) -> Option<Counts> {
        let tag = tag::of_era(era);
        let Some(index) = self.claim(tag) else {
            self.heads.earlier.fetch_add(1, Relaxed);
            self.evict(sample);
            return None;
        };
        let new = slot::new(tag, sample);
        let Some(old) = self.put(index, new, tag) else {
            self.evict(sample);
            return None;
        };
        if !slot::is_like(old, new) {
            return self.replace(tag, old, sample);
        }
        // A sample that replaces one of its class changes no sum.
        self.evict(sample);
        sums::counts(self.heads.sums.load(Acquire), tag)
    }

    /// Writes a slot. Returns the word before, or `None` if it is of a later era.
    #[inline]
    fn put(&self, index: usize, new: u64, tag: u64) -> Option<u64> {
        let slot = &self.slots[index];
        let old = slot.load(Relaxed);
        // A success that is not timed mostly replaces an equal one.
        if old == new {
            return Some(old);
        }
        let is_later = |old| !slot::is_like(old, new) && tag::is_later(tag::of(old), tag);
        let replace = |old| (!is_later(old)).then_some(new);
        slot.fetch_update(Relaxed, Relaxed, replace).ok()
    }

    /// The next slot; `None` if a later era has begun.
    #[inline]
    fn claim(&self, tag: u64) -> Option<usize> {
        // The word in this era while nothing is claimed.
        let first = tag << tag::SHIFT;
        let claim = |old: u64| {
            if old.wrapping_sub(first) < CLAIMS {
                Some(old + 1)
            } else if tag::is_later(tag::of(old), tag) {
                None
            } else {
                Some(first + 1)
            }
        };
        let old = self.heads.claims.fetch_update(Relaxed, Relaxed, claim);
        let old = old.ok()?;
        let claimed = old.wrapping_sub(first);
        if claimed >= CLAIMS {
            self.heads.earlier.fetch_add(old & CLAIMS, Relaxed);
            return Some(0);
        }
        Some((claimed % self.slots.len() as u64) as usize)
    }

    /// The sample has replaced `old` in its slot: changes the sums.
    #[cold]
    fn replace(&self, tag: u64, old: u64, sample: Sample) -> Option<Counts> {
        let evicted = slot::sample(old);
        if let Some(evicted) = evicted {
            self.evict(evicted);
        }
        let evicted = evicted.filter(|_| tag::of(old) == tag);
        let update = |old: u64| {
            if tag::of(old) == tag {
                Some(sums::replace(old, evicted, sample))
            } else if tag::is_later(tag::of(old), tag) {
                None
            } else {
                Some(sums::replace(sums::fresh(tag), evicted, sample))
            }
        };
        let old = self.heads.sums.fetch_update(AcqRel, Acquire, update);
        sums::counts(update(old.ok()?)?, tag)
    }

    fn evict(&self, sample: Sample) {
        if sample.class != 0 {
            self.past.add(sample.class, 1);
        }
    }

    pub(super) fn counts(&self, era: u64) -> Counts {
        self.scan(|tag| tag == tag::of_era(era))
    }

    pub(super) fn totals(&self) -> Counts {
        let mut totals = self.scan(|_| true);
        self.past.add_to(&mut totals);
        let earlier = self.heads.earlier.load(Relaxed);
        let bad = totals.failures + totals.slow - totals.slow_failures;
        // A slot that is claimed may not be written yet.
        totals.calls = (earlier + (self.heads.claims.load(Relaxed) & CLAIMS)).max(bad);
        totals
    }

    fn scan(&self, is_wanted: impl Fn(u64) -> bool) -> Counts {
        let mut counts = Counts::default();
        for word in &self.slots {
            let word = word.load(Relaxed);
            if let Some(sample) = slot::sample(word).filter(|_| is_wanted(tag::of(word))) {
                counts.add(sample, 1);
            }
        }
        counts
    }
}

#[cfg(all(test, not(seawall_loom)))]
mod tests {
    use super::*;

    /// A success replaces one of its era before that one has changed the sums. The failures of the
    /// era before must not count for it.
    #[test]
    fn sums_of_an_older_era_judge_nothing() {
        let window = CountWindow::new(1);
        let failed = Sample::new(true, false, 0);
        assert_eq!(window.record(0, failed).unwrap().failures, 1);
        // A call of era 1 has written its slot, and is interrupted.
        assert_eq!(window.claim(1), Some(0));
        window.slots[0].store(slot::new(1, Sample::SUCCESS), Relaxed);
        assert_eq!(window.record(1, Sample::SUCCESS), None);
    }

    /// Half of all eras later, and when the number of claims is at its end.
    #[test]
    fn a_window_that_was_idle_or_full_counts() {
        let window = CountWindow::new(2);
        let failed = Sample::new(true, false, 0);
        for era in [0, (1 << 21) + 1, (1 << 21) + 2] {
            assert_eq!(window.record(era, failed).unwrap().failures, 1);
            assert_eq!(window.record(era, failed).unwrap().failures, 2);
        }
        let tag = tag::of_era((1 << 21) + 2);
        let full = tag << tag::SHIFT | CLAIMS;
        window.heads.claims.store(full, Relaxed);
        assert_eq!(window.claim(tag), Some(0));
        assert_eq!(window.claim(tag), Some(1));
    }
}
