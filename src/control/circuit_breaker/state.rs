//! The state of a circuit breaker, and its transitions, without atomics.

use std::collections::VecDeque;

use super::probes::Probes;
use super::rules::{Rules, Verdict};
use super::transition::{CircuitState, Transition, TransitionCause};
use super::window::Counts;
use super::word::{FLAP_BITS, Mode, Word, era};

/// The state of a breaker. Times are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Circuit {
    pub(crate) mode: Mode,
    /// Changes with every transition, to recognise results of earlier states.
    pub(super) generation: u64,
    pub(crate) since: u64,
    /// The end of the open or of the half-open time; `u64::MAX` for no end.
    pub(crate) until: u64,
    /// The number of times that the breaker has opened again since it was last closed.
    pub(crate) failed_recoveries: u32,
    pub(crate) transitions: u64,
    /// The counts on which the last transition was decided.
    pub(super) decided_on: Counts,
    /// Those of this half-open state.
    pub(crate) probes: Probes,
    /// The changes that are not reported yet, each with the mode after it.
    pub(super) unreported: VecDeque<(Transition, Mode)>,
    /// A call reports the changes now, in their order.
    pub(super) is_reporting: bool,
}

/// The state that rejects a call: open, half-open with all probes outstanding, or forced open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) by: Mode,
    /// The nanoseconds until it ends by itself, at the latest; over 500 years if it does not.
    pub(crate) ends_in: u64,
}

/// The time now, and the durations of states, in nanoseconds.
pub(crate) trait Times {
    /// A call reads it only if its decision needs it.
    fn now(&self) -> u64;

    /// The open time after this number of failed recoveries. It must be the same each time for the
    /// generation that ends. It may run code of a user.
    fn open(&self, failed_recoveries: u32, generation: u64) -> u64;

    /// The half-open time after this open time.
    fn half_open(&self, open: u64) -> u64;
}

/// The circumstances of a change: the time, the rules, and the durations of states.
pub(super) struct At<'a, T> {
    pub(super) now: u64,
    pub(super) rules: &'a Rules,
    pub(super) times: &'a T,
}

// === impl Circuit ===

impl Circuit {
    /// Admits a call in the state that it finds, or rejects it.
    pub(super) fn admit(&mut self, at: &At<'_, impl Times>) -> Result<(), Rejected> {
        self.advance(true, at);
        match self.mode {
            Mode::Closed | Mode::ForcedClosed | Mode::ObserveOnly => {}
            Mode::HalfOpen if self.probes.admitted() < at.rules.probes => {
                self.probes.outstanding += 1;
            }
            by => {
                let ends_in = self.until.saturating_sub(at.now);
                return Err(Rejected { by, ends_in });
            }
        }
        Ok(())
    }

    /// Changes the probe of this word. If the half-open time is over, the probes decide without it.
    /// Returns whether it was changed.
    pub(super) fn update_probe(
        &mut self,
        word: Word,
        change: impl FnOnce(&mut Probes),
        at: &At<'_, impl Times>,
    ) -> bool {
        if self.generation != word.generation() || self.expire(true, at) {
            return false;
        }
        change(&mut self.probes);
        self.conclude(false, at);
        true
    }

    /// Opens now, for a time that depends on the failed recoveries.
    pub(super) fn open(&mut self, cause: TransitionCause, counts: Counts, at: &At<'_, impl Times>) {
        if self.mode == Mode::HalfOpen {
            self.failed_recoveries = self.failed_recoveries.saturating_add(1);
        }
        let lasts = at.times.open(self.failed_recoveries, self.generation);
        self.enter(Mode::Open, cause, at.now, Some(lasts), counts);
    }

    /// Changes the state, for this time if the state ends by itself. A change to the same state
    /// changes only the generation.
    pub(super) fn enter(
        &mut self,
        to: Mode,
        cause: TransitionCause,
        now: u64,
        lasts: Option<u64>,
        counts: Counts,
    ) {
        let from = self.mode;
        if !matches!(to, Mode::Open | Mode::HalfOpen) {
            self.failed_recoveries = 0;
        }
        self.generation = match to {
            Mode::Closed | Mode::ObserveOnly => (era(self.generation) + 1) << FLAP_BITS,
            _ => self.generation + 1,
        };
        self.mode = to;
        self.until = lasts.map_or(u64::MAX, |lasts| now.saturating_add(lasts));
        self.probes = Probes::default();
        if from == to {
            return;
        }
        self.since = now;
        self.transitions += 1;
        self.decided_on = counts;
        let transition = Transition {
            from: CircuitState::new(from, 0),
            to: CircuitState::new(to, lasts.unwrap_or(0)),
            cause,
            number: self.transitions,
            calls: counts.calls,
            failures: counts.failures,
            slow_calls: counts.slow,
        };
        self.unreported.push_back((transition, to));
    }

    /// Changes to the state that a call finds now. If there is no call, because the state is only
    /// read, a half-open time does not start.
    pub(super) fn advance(&mut self, is_call: bool, at: &At<'_, impl Times>) {
        while self.expire(is_call, at) {}
        self.end_by_probes(at);
    }

    /// Leaves a half-open state whose time is over, or whose probes have decided.
    pub(super) fn end_half_open(&mut self, at: &At<'_, impl Times>) {
        if self.mode == Mode::HalfOpen && !self.expire(true, at) {
            self.end_by_probes(at);
        }
    }

    /// If the rules allow fewer probes than before, the finished ones may have decided.
    fn end_by_probes(&mut self, at: &At<'_, impl Times>) {
        if self.mode == Mode::HalfOpen && self.probes.admitted() >= at.rules.probes {
            self.conclude(false, at);
        }
    }

    /// Leaves a state whose time is over. Returns whether there was one.
    fn expire(&mut self, is_call: bool, at: &At<'_, impl Times>) -> bool {
        let over = self.until;
        if at.now < over {
            return false;
        }
        match self.mode {
            Mode::Open => {
                let lasts = is_call.then(|| at.times.half_open(over.saturating_sub(self.since)));
                let begins = if is_call { at.now } else { over };
                let cause = TransitionCause::OpenTimeOver;
                self.enter(Mode::HalfOpen, cause, begins, lasts, Counts::default());
            }
            Mode::HalfOpen => self.conclude(true, &At { now: over, ..*at }),
            _ => return false,
        }
        true
    }

    /// Leaves the half-open state if the probes have decided.
    fn conclude(&mut self, is_over: bool, at: &At<'_, impl Times>) {
        let counts = self.probes.counts;
        match at.rules.decide(self.probes, is_over) {
            Verdict::Undecided => {}
            Verdict::Close => {
                let cause = TransitionCause::ProbesSucceeded;
                self.enter(Mode::Closed, cause, at.now, None, counts);
            }
            Verdict::Open if is_over => self.open(TransitionCause::HalfOpenTimeOver, counts, at),
            Verdict::Open => self.open(TransitionCause::ProbesFailed, counts, at),
        }
    }
}
