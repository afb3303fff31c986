//! A limit for the events that clients can cause, so that they do not fill a log.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The number of events of a kind that are written in a second.
const EACH_SECOND: u32 = 5;

/// Counts the events of one kind: `| second: 32 | events in it: 32 |`.
#[derive(Debug)]
pub(crate) struct EventLimit(AtomicU64);

/// The decision about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Write the event, and before it the number of events that were left out, if there are any.
    Write { left_out: u32 },
    /// Leave the event out. The first one of a second requires a [summary](EventLimit::summarize)
    /// of that second later.
    LeaveOut { first_of: Option<u32> },
}

// === impl EventLimit ===

impl EventLimit {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Decides about an event in this second of a clock. An event of the second before the current
    /// one belongs to the current one: its thread has read the clock a moment too early.
    pub(crate) fn decide(&self, second: u32) -> Decision {
        let mut before = self.0.load(Relaxed);
        loop {
            let (current, events) = ((before >> 32) as u32, before as u32);
            let is_new = current.wrapping_sub(second) > 1;
            let second = if is_new { second } else { current };
            let (after, decision) = if is_new {
                let left_out = events.saturating_sub(EACH_SECOND);
                (1, Decision::Write { left_out })
            } else if events < EACH_SECOND {
                (events + 1, Decision::Write { left_out: 0 })
            } else {
                let first_of = (events == EACH_SECOND).then_some(second);
                (events.saturating_add(1), Decision::LeaveOut { first_of })
            };
            let after = u64::from(second) << 32 | u64::from(after);
            match self
                .0
                .compare_exchange_weak(before, after, Relaxed, Relaxed)
            {
                Ok(_) => return decision,
                Err(now) => before = now,
            }
        }
    }

    /// The number of events of a second that were left out, unless a later event has reported it.
    pub(crate) fn summarize(&self, second: u32) -> u32 {
        let none = u64::from(second) << 32;
        let summarized = self.0.fetch_update(Relaxed, Relaxed, |state| {
            let is_it = (state >> 32) as u32 == second && state as u32 > EACH_SECOND;
            is_it.then_some(none | u64::from(EACH_SECOND))
        });
        summarized.map_or(0, |state| state as u32 - EACH_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_written(decision: Decision) -> bool {
        matches!(decision, Decision::Write { .. })
    }

    #[test]
    fn a_summary_is_written_once() {
        let limit = EventLimit::new();
        for _ in 0..9 {
            limit.decide(3);
        }
        assert_eq!(limit.summarize(2), 0);
        assert_eq!(limit.summarize(3), 4);
        assert_eq!(limit.summarize(3), 0);
        assert_eq!(limit.decide(4), Decision::Write { left_out: 0 });
        assert_eq!(limit.summarize(4), 0);
    }

    #[test]
    fn five_each_second_and_then_a_summary() {
        let limit = EventLimit::new();
        let write = |left_out| Decision::Write { left_out };
        for second in 1..4 {
            for event in 0..1000 {
                let expected = match event {
                    0 if second > 1 => write(995),
                    0..5 => write(0),
                    event => Decision::LeaveOut {
                        first_of: (event == 5).then_some(second),
                    },
                };
                assert_eq!(limit.decide(second), expected, "{event} in {second}");
            }
        }
        // Much later, and after a second with fewer events.
        assert_eq!(limit.decide(90), write(995));
        assert_eq!(limit.decide(90), write(0));
        assert_eq!(limit.decide(91), write(0));
    }

    #[test]
    fn the_first_second_of_a_clock_has_five_too() {
        let limit = EventLimit::new();
        let written = (0..9).filter(|_| is_written(limit.decide(0)));
        assert_eq!(written.count(), 5);
    }

    /// Threads read the clock on both sides of a tick, before they decide.
    #[test]
    fn two_seconds_in_turn_have_five_each() {
        let limit = EventLimit::new();
        let decided: Vec<_> = (0..20).map(|event| limit.decide(7 + event % 2)).collect();
        let written = decided.iter().filter(|decision| is_written(**decision));
        assert_eq!(written.count(), 1 + 5);
        let first_of = Some(8);
        assert!(decided.contains(&Decision::LeaveOut { first_of }));
        assert_eq!(limit.summarize(8), 14);
        // Another clock, for example in a test that pauses time.
        assert!(is_written(limit.decide(6)));
    }

    #[test]
    fn threads_write_five_together() {
        let limit = EventLimit::new();
        let written = || (0..100).filter(|_| is_written(limit.decide(7))).count();
        let all: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(written)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(all, 5);
    }
}
