//! The last calls, in a ring.

#[cfg(all(test, seawall_loom))]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(all(test, seawall_loom)))]
use std::sync::atomic::{AtomicU64, Ordering};

use super::counts::{Counts, Sample, Tallies};

/// The last calls, one by one.
#[derive(Debug)]
pub(super) struct Ring {
    slots: Box<[AtomicU64]>,
    heads: Heads,
    /// Samples that were in a slot, but for fast successes, which are all the others that were claimed one for.
    evicted: Tallies,
}

/// What is written with every call, apart from what is only read.
#[derive(Debug)]
#[repr(align(64))]
struct Heads {
    /// `| era: 22 | slots claimed in it: 42 |`.
    claims: AtomicU64,
    /// Slots claimed in earlier eras.
    earlier: AtomicU64,
    sums: AtomicU64,
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

    pub(super) const fn claims(tag: u64, claims: u64) -> u64 {
        tag << TAG_SHIFT | claims
    }

    pub(super) const fn claims_of(word: u64) -> u64 {
        word & ((1 << TAG_SHIFT) - 1)
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
    pub(super) fn new(calls: u32) -> Self {
        Self {
            slots: (0..calls).map(|_| AtomicU64::new(slot::EMPTY)).collect(),
            heads: Heads {
                claims: AtomicU64::new(0),
                earlier: AtomicU64::new(0),
                sums: AtomicU64::new(sums::fresh(0)),
            },
            evicted: Tallies::new(),
        }
    }

    pub(super) fn counts(&self, era: u64) -> Counts {
        self.scan(|tag| tag == slot::tag(era))
    }

    #[inline]
    pub(super) fn record(&self, era: u64, sample: Sample, past: &Tallies) -> Option<Counts> {
        let Ok(index) = self.claim(era) else {
            past.add(sample.class(), 1);
            return None;
        };
        let word = slot::new(era, sample);
        let replaced =
            self.slots[index].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                (!slot::is_later(slot::tag_of(old), slot::tag(era))).then_some(word)
            });
        let Ok(old) = replaced else {
            self.evict(sample);
            return None;
        };
        let evicted = slot::sample(old);
        if let Some(evicted) = evicted {
            self.evict(evicted);
        }
        let evicted = evicted.filter(|_| slot::tag_of(old) == slot::tag(era));
        // What replaces its like changes no sum.
        let is_like = evicted.is_some_and(|evicted| evicted.class() == sample.class());
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
        let sums = if is_like {
            self.heads.sums.load(Ordering::Acquire)
        } else {
            let sums = &self.heads.sums;
            let old = sums.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
            update(old.ok()?)?
        };
        let counts = sums::counts(sums);
        (counts.failures + counts.slow > 0).then_some(counts)
    }

    /// The slot that is next; `Err` if a later era has begun.
    #[inline]
    fn claim(&self, era: u64) -> Result<usize, u64> {
        let tag = slot::tag(era);
        let claims = &self.heads.claims;
        let old = claims.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            if slot::tag_of(old) == tag {
                Some(old + 1)
            } else if slot::is_later(slot::tag_of(old), tag) {
                None
            } else {
                Some(slot::claims(tag, 1))
            }
        })?;
        if slot::tag_of(old) != tag {
            let earlier = &self.heads.earlier;
            earlier.fetch_add(slot::claims_of(old), Ordering::Relaxed);
            return Ok(0);
        }
        Ok((slot::claims_of(old) % self.slots.len() as u64) as usize)
    }

    fn evict(&self, sample: Sample) {
        if sample.class() != 0 {
            self.evicted.add(sample.class(), 1);
        }
    }

    pub(super) fn ever(&self) -> Counts {
        let mut ever = self.scan(|_| true);
        self.evicted.add_to(&mut ever);
        let earlier = self.heads.earlier.load(Ordering::Relaxed);
        let bad = ever.failures + ever.slow - ever.slow_failures;
        // A slot that was claimed may not be written yet.
        ever.calls =
            (earlier + slot::claims_of(self.heads.claims.load(Ordering::Relaxed))).max(bad);
        ever
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
