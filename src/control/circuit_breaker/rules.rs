//! The rules by which a breaker opens, and by which its probes decide.

use super::probes::Probes;
use super::transition::TransitionCause;
use super::window::Counts;

/// The settings that calls need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rules {
    pub(crate) failure_rate: Option<f64>,
    pub(crate) slow_call_rate: Option<f64>,
    pub(crate) minimum_calls: u32,
    pub(crate) consecutive_failures: Option<u32>,
    /// The upper bound for concurrent probes.
    pub(crate) probes: u32,
    /// The longest duration of a call that is not slow, in nanoseconds.
    pub(crate) slow_call: u64,
}

/// The thresholds that are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached(pub(super) u32);

/// The decision of the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Undecided,
    Close,
    Open,
}

// === impl Rules ===

impl Rules {
    /// The value of `slow_call` without a threshold.
    pub(crate) const NOT_TIMED: u64 = u64::MAX;
    /// The position of `slow_call` in the words.
    pub(super) const SLOW_CALL: usize = 4;
    /// A rate that is not set.
    const NONE: u64 = f64::NAN.to_bits();

    /// The words that calls read.
    pub(super) fn words(&self) -> [u64; 5] {
        let bits = |rate: Option<f64>| rate.map_or(Self::NONE, f64::to_bits);
        let consecutive = self.consecutive_failures.unwrap_or(0);
        [
            bits(self.failure_rate),
            bits(self.slow_call_rate),
            u64::from(self.minimum_calls) << 32 | u64::from(consecutive),
            self.probes.into(),
            self.slow_call,
        ]
    }

    pub(super) fn of([failure, slow, counts, probes, slow_call]: [u64; 5]) -> Self {
        let rate = |bits| Some(f64::from_bits(bits)).filter(|rate| !rate.is_nan());
        Self {
            failure_rate: rate(failure),
            slow_call_rate: rate(slow),
            minimum_calls: (counts >> 32) as u32,
            consecutive_failures: Some(counts as u32).filter(|most| *most > 0),
            probes: probes as u32,
            slow_call,
        }
    }

    /// The thresholds that these counts and this number of consecutive failures reach.
    pub(crate) fn reached(&self, counts: &Counts, consecutive_failures: u32) -> Reached {
        let is_enough = counts.calls >= self.minimum_calls.into();
        let failures = is_enough && reaches(counts.failures, counts.calls, self.failure_rate);
        let slow = is_enough && reaches(counts.slow, counts.calls, self.slow_call_rate);
        let most = self.consecutive_failures;
        let in_a_row = most.is_some_and(|most| consecutive_failures >= most);
        // In the order of `Reached::CAUSES`.
        Reached(u32::from(failures) | u32::from(slow) << 1 | u32::from(in_a_row) << 2)
    }

    /// The decision of the probes, as soon as the outstanding ones cannot change it. At the end of
    /// the half-open time, a stream that began in time is a success, a reserved call does not
    /// count, and every other probe without an outcome is failed and slow.
    pub(super) fn decide(&self, probes: Probes, is_over: bool) -> Verdict {
        let done = probes.counts;
        let (known, all) = if is_over {
            let made = probes.admitted() - probes.reserved;
            (done.calls + u64::from(probes.begun), made)
        } else {
            (done.calls, probes.admitted().max(self.probes))
        };
        let all = u64::from(all);
        let missing = all - known;
        let may_open =
            |failed, slow| self.failed(failed, all) || reaches(slow, all, self.slow_call_rate);
        if known > 0 && !may_open(done.failures + missing, done.slow + missing) {
            Verdict::Close
        } else if is_over || known > 0 && may_open(done.failures, done.slow) {
            Verdict::Open
        } else {
            Verdict::Undecided
        }
    }

    /// Returns whether this number of failed probes is too high: by the failure rate, or else by
    /// the number of consecutive failures, or else one.
    fn failed(&self, failed: u64, all: u64) -> bool {
        match (self.failure_rate, self.consecutive_failures) {
            (Some(_), _) => reaches(failed, all, self.failure_rate),
            (None, Some(most)) => failed >= all.min(most.into()),
            (None, None) => failed > 0,
        }
    }
}

/// Returns whether this share is at the threshold or above it. Without calls it is not.
fn reaches(part: u64, all: u64, threshold: Option<f64>) -> bool {
    threshold.is_some_and(|rate| part as f64 / all as f64 >= rate)
}

// === impl Reached ===

impl Reached {
    /// The thresholds, in the order in which they are named as the cause.
    pub(crate) const CAUSES: [TransitionCause; 3] = [
        TransitionCause::FailureRate,
        TransitionCause::SlowCallRate,
        TransitionCause::ConsecutiveFailures,
    ];

    pub(crate) const fn has(self, index: usize) -> bool {
        self.0 & 1 << index != 0
    }

    pub(super) fn cause(self) -> Option<TransitionCause> {
        let index = (0..Self::CAUSES.len()).find(|index| self.has(*index))?;
        Some(Self::CAUSES[index])
    }
}

#[cfg(all(test, not(seawall_loom)))]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        failure_rate: Some(0.5),
        slow_call_rate: Some(0.8),
        minimum_calls: 10,
        consecutive_failures: Some(3),
        probes: 4,
        slow_call: 1_000,
    };

    const FAILURE_RATE: Rules = Rules {
        slow_call_rate: None,
        consecutive_failures: None,
        ..RULES
    };

    const SLOW_CALL_RATE: Rules = Rules {
        failure_rate: None,
        consecutive_failures: None,
        ..RULES
    };

    const CONSECUTIVE: Rules = Rules {
        failure_rate: None,
        slow_call_rate: None,
        ..RULES
    };

    #[test]
    fn which_thresholds_are_reached() {
        let table = [
            // (rules, calls, failures, slow, consecutive) -> causes
            (RULES, (9, 9, 9, 0), &[][..]),
            (RULES, (10, 5, 0, 0), &[0]),
            (RULES, (11, 5, 0, 0), &[]),
            (RULES, (10, 0, 8, 0), &[1]),
            (RULES, (10, 0, 7, 2), &[]),
            (RULES, (0, 0, 0, 3), &[2]),
            (RULES, (10, 5, 8, 3), &[0, 1, 2]),
            (FAILURE_RATE, (10, 4, 10, 9), &[]),
            (SLOW_CALL_RATE, (10, 10, 7, 9), &[]),
            (CONSECUTIVE, (10, 10, 10, 2), &[]),
        ];
        for (rules, (calls, failures, slow, consecutive), causes) in table {
            let counts = Counts {
                calls,
                failures,
                slow,
                ..Counts::default()
            };
            let reached = rules.reached(&counts, consecutive);
            let found: Vec<_> = (0..3).filter(|index| reached.has(*index)).collect();
            assert_eq!(found, causes, "{rules:?}, {counts:?}, {consecutive}");
            let first = causes.first().map(|index| Reached::CAUSES[*index]);
            assert_eq!(reached.cause(), first);
        }
    }

    /// Makes probes: `done` have an outcome, of which `failed` failed and `slow` were slow;
    /// `outstanding` have none, and the response of `begun` of these has begun.
    fn probes(done: u32, failed: u32, slow: u32, outstanding: u32, begun: u32) -> Probes {
        let counts = Counts {
            calls: done.into(),
            failures: failed.into(),
            slow: slow.into(),
            ..Counts::default()
        };
        Probes {
            outstanding,
            begun,
            reserved: 0,
            counts,
        }
    }

    #[test]
    fn what_probes_decide_while_the_breaker_is_half_open() {
        use Verdict::{Close, Open, Undecided};
        let table = [
            // (rules, done, failed, slow, outstanding) -> verdict
            (FAILURE_RATE, (0, 0, 0, 4), Undecided),
            (FAILURE_RATE, (1, 1, 0, 0), Undecided),
            (FAILURE_RATE, (2, 2, 0, 0), Open),
            (FAILURE_RATE, (2, 0, 0, 0), Undecided),
            (FAILURE_RATE, (3, 0, 0, 0), Close),
            (FAILURE_RATE, (3, 1, 0, 0), Undecided),
            (FAILURE_RATE, (4, 1, 0, 0), Close),
            // More probes were admitted than the rules allow now.
            (FAILURE_RATE, (3, 0, 0, 5), Undecided),
            // One failed probe is too many.
            (SLOW_CALL_RATE, (1, 1, 0, 0), Open),
            (SLOW_CALL_RATE, (4, 0, 3, 0), Close),
            (SLOW_CALL_RATE, (4, 0, 4, 0), Open),
            (SLOW_CALL_RATE, (3, 0, 0, 0), Undecided),
            // The number of consecutive failures has failed, or all probes.
            (CONSECUTIVE, (2, 2, 0, 0), Undecided),
            (CONSECUTIVE, (3, 3, 0, 0), Open),
            (CONSECUTIVE, (2, 0, 0, 0), Close),
            (CONSECUTIVE, (4, 2, 0, 0), Close),
            (RULES, (4, 1, 4, 0), Open),
            (RULES, (4, 1, 3, 0), Close),
        ];
        for (rules, (done, failed, slow, outstanding), verdict) in table {
            let probes = probes(done, failed, slow, outstanding, 0);
            assert_eq!(rules.decide(probes, false), verdict, "{rules:?} {probes:?}");
        }
        let all = Rules {
            consecutive_failures: Some(9),
            ..CONSECUTIVE
        };
        assert_eq!(all.decide(probes(4, 4, 0, 0, 0), false), Open);
        assert_eq!(all.decide(probes(1, 0, 0, 3, 0), false), Close);
    }

    #[test]
    fn what_probes_decide_when_the_half_open_time_is_over() {
        use Verdict::{Close, Open};
        let table = [
            // (done, failed, outstanding, begun) -> verdict
            ((0, 0, 0, 0), Open),
            ((0, 0, 2, 0), Open),
            ((1, 0, 0, 0), Close),
            ((2, 0, 1, 0), Close),
            ((1, 0, 1, 0), Open),
            ((1, 0, 1, 1), Close),
            ((0, 0, 2, 2), Close),
            ((2, 1, 0, 0), Open),
            ((3, 1, 0, 0), Close),
        ];
        for ((done, failed, outstanding, begun), verdict) in table {
            let probes = probes(done, failed, 0, outstanding, begun);
            assert_eq!(FAILURE_RATE.decide(probes, true), verdict, "{probes:?}");
        }
        // A call that was not made is no probe.
        for (done, verdict) in [(0, Open), (1, Close)] {
            let mut unmade = probes(done, 0, 0, 2, 0);
            unmade.reserved = 2;
            assert_eq!(FAILURE_RATE.decide(unmade, true), verdict, "{unmade:?}");
        }
        // A probe that hangs is also slow.
        let hangs = probes(1, 0, 0, 4, 0);
        assert_eq!(SLOW_CALL_RATE.decide(hangs, true), Open);
    }

    #[test]
    fn rules_are_what_their_words_say() {
        for rules in [RULES, FAILURE_RATE, SLOW_CALL_RATE, CONSECUTIVE] {
            assert_eq!(Rules::of(rules.words()), rules);
        }
    }
}
