//! The calls that a breaker evaluates: the last calls, or those of a time span.
//!
//! Nothing is cleared. Each word has a tag, and a word whose tag is not the current one counts as
//! empty. In a window of time, the tag is the number of a slice of time. In a window of calls, it
//! is the era of the breaker: the number of times that the breaker has started to count. A new era
//! therefore starts with an empty window, and does not contain late records of an older one. One
//! atomic operation changes each word, and no word depends on another.

mod count;
mod counts;
mod time;

use self::count::CountWindow;
pub(crate) use self::counts::{Counts, Sample, Tallies};
use self::time::TimeWindow;

/// The upper bound for the calls in a window of calls.
pub(crate) const MAX_CALLS: u32 = 4096;

/// The upper bound for the buckets of a window of time.
pub(crate) const MAX_BUCKETS: u32 = 60;

/// The window of a breaker, and the counts of all calls so far.
#[derive(Debug)]
pub(crate) enum Window {
    Count(CountWindow),
    Time(TimeWindow),
}

/// Divides by a number that is known early, with a multiplication (Granlund and Montgomery,
/// "Division by invariant integers using multiplication", 1994). It is exact below 2^63.
#[derive(Clone, Copy, Debug)]
struct Divisor {
    multiplier: u64,
    shift: u32,
}

// === impl Window ===

impl Window {
    /// The last `calls` calls, at most [`MAX_CALLS`].
    pub(crate) fn count_based(calls: u32) -> Self {
        Self::Count(CountWindow::new(calls))
    }

    /// The calls of the last `span` nanoseconds, in `buckets` slices.
    pub(crate) fn time_based(span: u64, buckets: u32) -> Self {
        Self::Time(TimeWindow::new(span, buckets))
    }

    /// Counts a call, and returns the counts of the window with it. Returns `None` if the window
    /// has only fast successes, or if the sample is too late for it. A window of time reads `now`.
    #[inline(always)]
    pub(crate) fn record(
        &self,
        era: u64,
        now: impl FnOnce() -> u64,
        sample: Sample,
    ) -> Option<Counts> {
        match self {
            Self::Count(window) => window.record(era, sample),
            Self::Time(window) => window.record(era, now(), sample),
        }
    }

    /// The counts of the window.
    pub(crate) fn counts(&self, era: u64, now: u64) -> Counts {
        match self {
            Self::Count(window) => window.counts(era),
            Self::Time(window) => window.counts(era, now),
        }
    }

    /// The counts of all calls that the window has recorded, also of those that have left it. While
    /// other threads record, a call may appear a moment late.
    pub(crate) fn totals(&self) -> Counts {
        match self {
            Self::Count(window) => window.totals(),
            Self::Time(window) => window.totals(),
        }
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

#[cfg(all(test, not(seawall_loom)))]
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
