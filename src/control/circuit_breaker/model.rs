//! Any sequence of calls, outcomes, times and forced states, without a runtime, compared with the
//! model of the conformance tests.

use proptest::prelude::*;

use super::breaker::Breaker;
use super::rules::Rules;
use super::state::{Rejected, Times};
use super::transition::{CircuitState, Transition};
use super::window::{Sample, Window};
use super::word::{Mode, Word};
use crate::outcome::Outcome;

#[path = "../../../tests/conformance/log.rs"]
mod log;

use self::log::{HALF_OPEN, IN_A_ROW, MINIMUM, Model, OPEN, PROBES, SLOW, Step, step};

const MILLI: u64 = 1_000_000;

const RULES: Rules = Rules {
    failure_rate: Some(0.5),
    slow_call_rate: Some(0.5),
    minimum_calls: MINIMUM as u32,
    consecutive_failures: Some(IN_A_ROW as u32),
    probes: PROBES as u32,
    slow_call: SLOW * MILLI,
};

struct Fixed(u64);

impl Times for Fixed {
    fn now(&self) -> u64 {
        self.0
    }

    fn open(&self, _: u32, _: u64) -> u64 {
        OPEN * MILLI
    }

    fn half_open(&self, _: u64) -> u64 {
        HALF_OPEN * MILLI
    }
}

/// The breaker, and the permits that it has granted.
struct World {
    breaker: Breaker,
    model: Model,
    /// Each permit with the generation of the model, and the millisecond in which it was granted.
    permits: Vec<(Word, u64, u64)>,
    changes: Vec<Transition>,
}

impl World {
    fn new(last: Option<usize>) -> Self {
        let window = match last {
            Some(calls) => Window::count_based(calls as u32),
            None => Window::time_based(1000 * MILLI, 10),
        };
        Self {
            breaker: Breaker::new(window, &RULES, Mode::Closed),
            model: Model::new(last),
            permits: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn now(&self) -> Fixed {
        Fixed(self.model.now * MILLI)
    }

    fn admit(&mut self) -> Result<(), TestCaseError> {
        let admitted = self.breaker.admit(&self.now());
        prop_assert_eq!(admitted.is_ok(), self.model.acquire());
        match admitted {
            Ok(word) => {
                let granted = (word, self.model.generation, self.model.now);
                self.permits.push(granted);
            }
            Err(Rejected { by, ends_in }) => {
                prop_assert_eq!(format!("{by:?}"), format!("{:?}", self.model.mode));
                if by != Mode::ForcedOpen {
                    prop_assert_eq!(ends_in, self.model.until * MILLI - self.now().0);
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, word: Option<Word>, outcome: Outcome, took: u64) {
        let (breaker, now) = (&self.breaker, self.now());
        let word = word.unwrap_or_else(|| breaker.word_for_unadmitted(&now));
        let slow = took > SLOW;
        let failed = match outcome {
            Outcome::Success => false,
            Outcome::Failure | Outcome::Panicked => true,
            Outcome::Cancelled if slow => true,
            Outcome::Cancelled | Outcome::Ignored => {
                breaker.release(word, &now);
                return;
            }
        };
        let sample = Sample::new(failed, slow, took * 1000);
        breaker.record(word, sample, &now);
    }

    fn play(&mut self, step: Step) -> Result<(), TestCaseError> {
        let now = self.now();
        match step {
            Step::Acquire => self.admit()?,
            Step::Settle(index, outcome, took) if !self.permits.is_empty() => {
                let (word, generation, _) = self.permits.remove(index % self.permits.len());
                self.settle(Some(word), outcome, took);
                self.model.settle(Some(generation), outcome, took);
            }
            Step::Drop(index) if !self.permits.is_empty() => {
                let (word, generation, since) = self.permits.remove(index % self.permits.len());
                let took = self.model.now - since;
                self.settle(Some(word), Outcome::Cancelled, took);
                self.model
                    .settle(Some(generation), Outcome::Cancelled, took);
            }
            Step::Settle(..) | Step::Drop(_) => {}
            Step::Record(outcome) => {
                self.settle(None, outcome, 0);
                self.model.settle(None, outcome, 0);
            }
            Step::Advance(millis) => self.model.now += millis,
            Step::Trip => {
                self.breaker.trip(&now);
                self.model.catch_up();
                if matches!(self.model.mode, log::Mode::Closed | log::Mode::HalfOpen) {
                    self.model.enter(log::Mode::Open, self.model.now);
                }
            }
            Step::ForceOpen => {
                self.breaker.force(Mode::ForcedOpen, &now);
                self.model.force(log::Mode::ForcedOpen);
            }
            Step::ForceClosed => {
                self.breaker.force(Mode::ForcedClosed, &now);
                self.model.force(log::Mode::ForcedClosed);
            }
            Step::ObserveOnly => {
                self.breaker.force(Mode::ObserveOnly, &now);
                self.model.force(log::Mode::ObserveOnly);
            }
            Step::Reset => {
                self.breaker.force(Mode::Closed, &now);
                self.model.catch_up();
                self.model.enter(log::Mode::Closed, self.model.now);
            }
        }
        self.breaker.report(|change, _| self.changes.push(change));
        Ok(())
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let model = &self.model;
        let look = self.breaker.look(&self.now());
        let (mode, until) = (look.circuit.mode, look.circuit.until);
        let is_over = model.now >= model.until;
        match (model.mode, mode) {
            (log::Mode::Open, Mode::HalfOpen) => prop_assert!(is_over),
            (log::Mode::Open, Mode::Open) => {
                prop_assert!(!is_over);
                prop_assert_eq!(until, model.until * MILLI);
            }
            (log::Mode::HalfOpen, mode) if is_over => {
                let is_same = match (model.next(), mode) {
                    (log::Mode::Closed, Mode::Closed) | (log::Mode::HalfOpen, Mode::HalfOpen) => {
                        true
                    }
                    (log::Mode::Open, Mode::Open) => until == (model.until + OPEN) * MILLI,
                    _ => false,
                };
                prop_assert!(is_same, "{mode:?} after {:?}", model.next());
            }
            (log::Mode::HalfOpen, Mode::HalfOpen) => {
                prop_assert_eq!(look.circuit.probes.outstanding as usize, model.outstanding);
            }
            (log::Mode::Closed, Mode::Closed)
            | (log::Mode::ForcedOpen, Mode::ForcedOpen)
            | (log::Mode::ForcedClosed, Mode::ForcedClosed)
            | (log::Mode::ObserveOnly, Mode::ObserveOnly) => {}
            (log, mode) => prop_assert!(false, "{log:?} is {mode:?}"),
        }
        if let log::Mode::Closed | log::Mode::ObserveOnly = model.mode {
            let window = model.window(model.generation);
            let count = |is: fn(&log::Entry) -> bool| {
                window.iter().filter(|entry| is(entry)).count() as u64
            };
            let counts = look.counts;
            prop_assert_eq!(counts.calls, window.len() as u64);
            prop_assert_eq!(counts.failures, count(|entry| entry.failed));
            prop_assert_eq!(counts.slow, count(|entry| entry.slow));
            let both = count(|entry| entry.failed && entry.slow);
            prop_assert_eq!(counts.slow_failures, both);
        }
        let totals = self.breaker.totals();
        prop_assert_eq!(totals.calls, model.successes + model.failures);
        prop_assert_eq!(totals.failures, model.failures);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn decisions_are_what_the_log_says(
        last in prop_oneof![Just(None), (3..8_usize).prop_map(Some)],
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(last);
        for step in steps {
            world.play(step)?;
            world.compare()?;
        }
        for (change, number) in world.changes.iter().zip(1..) {
            prop_assert_eq!(change.number, number);
            prop_assert!(change.from.as_str() != change.to.as_str());
            if let CircuitState::Open { retry_in } = change.to {
                prop_assert_eq!(retry_in.as_nanos() as u64, OPEN * MILLI);
            }
        }
    }
}
