//! What came back lately: a ring of the last calls, or buckets of the last time span.
//!
//! Nothing is ever cleared. Every word carries a tag, and a word whose tag is not of now counts as empty: for a bucket the tag
//! is the number of its slice of time, for a ring the era of the breaker: how often it began to count. So a silent window is
//! empty for whoever reads it, a new era begins with an empty window, and what comes late from an older one finds its tag outdated. Each word
//! is changed by one compare-exchange loop over a pure function, so that none needs another to be consistent.

use super::buckets::Buckets;
use super::counts::{Counts, Sample, Tallies};
use super::ring::Ring;

/// The most calls that a ring remembers.
pub(crate) const MAX_CALLS: u32 = 4096;

/// The most buckets of a time window.
pub(crate) const MAX_BUCKETS: u32 = 60;

/// The window of a breaker, and the number of all calls that ever went through it.
#[derive(Debug)]
pub(crate) struct Window {
    calls: Calls,
    /// Samples that are in no word any more, or never were.
    past: Tallies,
}

#[derive(Debug)]
enum Calls {
    Last(Ring),
    Within(Buckets),
}

// === impl Window ===

impl Window {
    /// The last `calls` calls, at most [`MAX_CALLS`].
    pub(crate) fn last(calls: u32) -> Self {
        Self::new(Calls::Last(Ring::new(calls)))
    }

    /// The calls of the last `span` nanoseconds, in slices of `span / buckets`.
    pub(crate) fn within(span: u64, buckets: u32) -> Self {
        Self::new(Calls::Within(Buckets::new(span, buckets)))
    }

    fn new(calls: Calls) -> Self {
        Self {
            calls,
            past: Tallies::new(),
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

    /// How long a slice of it is, in nanoseconds; `None` if it is not one of time.
    pub(crate) fn slice(&self) -> Option<u64> {
        match &self.calls {
            Calls::Last(_) => None,
            Calls::Within(buckets) => Some(buckets.width()),
        }
    }

    /// Counts a fast success where there is nothing else to do; the time is the number of a [`slice`](Self::slice). `None` if
    /// there is. Says whether the window holds nothing but fast successes.
    #[inline]
    pub(crate) fn record_success(&self, era: u64, slice: impl FnOnce() -> u64) -> Option<bool> {
        match &self.calls {
            Calls::Last(_) => None,
            Calls::Within(buckets) => buckets.record_success(era, slice()),
        }
    }

    /// Counts a call that belongs into no window, being of an older era.
    pub(crate) fn record_past(&self, sample: Sample) {
        self.past.add(sample.class(), 1);
    }

    /// What the window holds now.
    pub(crate) fn counts(&self, era: u64, now: u64) -> Counts {
        match &self.calls {
            Calls::Last(ring) => ring.counts(era),
            Calls::Within(buckets) => buckets.counts_at(era, now),
        }
    }

    /// All calls that were ever recorded. While others record, a call may be seen a moment late.
    pub(crate) fn totals(&self) -> Counts {
        let mut totals = match &self.calls {
            Calls::Last(ring) => ring.ever(),
            Calls::Within(buckets) => buckets.ever(),
        };
        totals.took = 0;
        self.past.add_to(&mut totals);
        totals
    }
}
