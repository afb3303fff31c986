//! The calls that a breaker judges: the last so many, or those of a time span.
//!
//! Nothing is cleared. Each word has a tag, and a word whose tag is not the current one counts as
//! empty. In a window of time the tag is the number of a slice of time; in a window of calls it is
//! the era of the breaker, which is how often the breaker began to count. So a new era begins with
//! an empty window, and what an older one records late is not in it. Each word is changed by one
//! atomic operation, and does not depend on another.

mod count;
mod counts;
mod time;

use self::count::CountWindow;
use self::counts::Tallies;
pub(crate) use self::counts::{Counts, Sample};
use self::time::TimeWindow;

/// The most calls that a window of calls has.
pub(crate) const MAX_CALLS: u32 = 4096;

/// The most buckets of a window of time.
pub(crate) const MAX_BUCKETS: u32 = 60;

/// The window of a breaker, and the number of all calls that were ever recorded.
#[derive(Debug)]
pub(crate) struct Window {
    calls: Calls,
    /// Samples that are in no word any more, or never were.
    past: Tallies,
}

#[derive(Debug)]
enum Calls {
    Count(CountWindow),
    Time(TimeWindow),
}

/// Divides by a number that is known early, with a multiplication (Granlund and Montgomery,
/// "Division by invariant integers using multiplication", 1994). Exact below 2^63.
#[derive(Clone, Copy, Debug)]
struct Divisor {
    multiplier: u64,
    shift: u32,
}

// === impl Window ===

impl Window {
    /// The last `calls` calls, at most [`MAX_CALLS`].
    pub(crate) fn count_based(calls: u32) -> Self {
        Self::new(Calls::Count(CountWindow::new(calls)))
    }

    /// The calls of the last `span` nanoseconds, in `buckets` slices.
    pub(crate) fn time_based(span: u64, buckets: u32) -> Self {
        Self::new(Calls::Time(TimeWindow::new(span, buckets)))
    }

    fn new(calls: Calls) -> Self {
        Self {
            calls,
            past: Tallies::new(),
        }
    }

    /// Counts a call, and returns what the window holds with it; `None` if it holds only fast
    /// successes, or if the sample is too late to be in it. `now` is read by a window of time.
    #[inline]
    pub(crate) fn record(
        &self,
        era: u64,
        now: impl FnOnce() -> u64,
        sample: Sample,
    ) -> Option<Counts> {
        match &self.calls {
            Calls::Count(window) => window.record(era, sample, &self.past),
            Calls::Time(window) => window.record(era, now(), sample, &self.past),
        }
    }

    /// Counts a call that belongs into no window: it is of an older era.
    pub(crate) fn record_past(&self, sample: Sample) {
        self.past.add(sample.class(), 1);
    }

    /// What the window holds.
    pub(crate) fn counts(&self, era: u64, now: u64) -> Counts {
        match &self.calls {
            Calls::Count(window) => window.counts(era),
            Calls::Time(window) => window.counts(era, now),
        }
    }

    /// All calls that were ever recorded. While others record, a call may be seen a moment late.
    pub(crate) fn totals(&self) -> Counts {
        let mut totals = match &self.calls {
            Calls::Count(window) => window.ever(),
            Calls::Time(window) => window.ever(),
        };
        self.past.add_to(&mut totals);
        totals
    }
}

// === impl Divisor ===

impl Divisor {
    /// `divisor` is at least 2.
    fn new(divisor: u64) -> Self {
        let shift = (divisor - 1).ilog2();
        let multiplier = (1_u128 << (64 + shift)) / u128::from(divisor) + 1;
        Self {
            multiplier: multiplier as u64,
            shift,
        }
    }

    #[inline]
    fn divide(self, number: u64) -> u64 {
        ((u128::from(number) * u128::from(self.multiplier)) >> 64) as u64 >> self.shift
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Divisor;

    proptest! {
        #[test]
        fn a_divisor_divides(number in 0..1_u64 << 63, divisor in 2_u64..) {
            prop_assert_eq!(Divisor::new(divisor).divide(number), number / divisor);
        }

        #[test]
        fn a_divisor_divides_at_its_multiples(times in 0..1_u64 << 40, divisor in 2..1_u64 << 23) {
            let divides = |number| Divisor::new(divisor).divide(number) == number / divisor;
            let number = times * divisor;
            prop_assert!(divides(number) && divides(number.saturating_sub(1)));
        }
    }
}
