//! The state of a circuit breaker, and its transitions, without atomics.

use super::probes::Probes;
use super::rules::{Rules, Verdict};
use super::window::Counts;
use super::word::{FLAP_BITS, Mode, TransitionCause, era};

/// The state of a breaker, which changes under a lock. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Circuit {
    pub(crate) mode: Mode,
    /// Changes with every transition, to recognise results of earlier states.
    pub(crate) generation: u64,
    pub(crate) since: u64,
    /// The end of the open or of the half-open time; `u64::MAX` for no end.
    pub(crate) until: u64,
    /// The number of times that the breaker has opened again since it was last closed.
    pub(crate) failed_recoveries: u32,
    pub(crate) transitions: u64,
    /// The counts on which the last transition was decided.
    pub(crate) decided_on: Counts,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) from: Mode,
    pub(crate) to: Mode,
    pub(crate) cause: TransitionCause,
    pub(crate) number: u64,
    /// The open time, or the longest half-open time, in nanoseconds.
    pub(crate) lasts: Option<u64>,
    /// The counts on which the change was decided.
    pub(crate) counts: Counts,
}

/// The durations of states, in nanoseconds.
pub(crate) trait Times {
    /// The open time after this number of failed recoveries. It must be the same each time for the
    /// generation that ends. It may run code of a user.
    fn open(&self, failed_recoveries: u32, generation: u64) -> u64;

    /// The half-open time after this open time.
    fn half_open(&self, open: u64) -> u64;
}

// === impl Circuit ===

impl Circuit {
    pub(super) fn new(now: u64) -> Self {
        Self {
            mode: Mode::Closed,
            generation: 0,
            since: now,
            until: u64::MAX,
            failed_recoveries: 0,
            transitions: 0,
            decided_on: Counts::default(),
        }
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
    ) -> Option<Change> {
        let from = self.mode;
        self.failed_recoveries = match (from, to) {
            (Mode::HalfOpen, Mode::Open) => self.next_recovery(),
            (Mode::Open, Mode::HalfOpen) => self.failed_recoveries,
            _ => 0,
        };
        self.generation = match to {
            Mode::Closed | Mode::ObserveOnly => (era(self.generation) + 1) << FLAP_BITS,
            _ => self.generation + 1,
        };
        self.mode = to;
        self.until = lasts.map_or(u64::MAX, |lasts| now.saturating_add(lasts));
        if from == to {
            return None;
        }
        self.since = now;
        self.transitions += 1;
        self.decided_on = counts;
        Some(Change {
            from,
            to,
            cause,
            number: self.transitions,
            lasts,
            counts,
        })
    }

    /// The number of failed recoveries if the breaker opens now.
    pub(super) fn next_recovery(&self) -> u32 {
        match self.mode {
            Mode::HalfOpen => self.failed_recoveries.saturating_add(1),
            _ => 0,
        }
    }

    /// Leaves the half-open state if the probes have decided.
    pub(super) fn conclude(
        &mut self,
        now: u64,
        probes: Probes,
        rules: &Rules,
        times: &impl Times,
    ) -> Option<Change> {
        match rules.decide(probes, false) {
            Verdict::Undecided => None,
            Verdict::Close => {
                let cause = TransitionCause::ProbesSucceeded;
                self.enter(Mode::Closed, cause, now, None, probes.counts())
            }
            Verdict::Open => {
                let cause = TransitionCause::ProbesFailed;
                let lasts = times.open(self.next_recovery(), self.generation);
                self.enter(Mode::Open, cause, now, Some(lasts), probes.counts())
            }
        }
    }

    /// Leaves a state whose time is over by `now`; `None` if there is none. If a call finds it, the
    /// half-open time starts now. If the state is only read, the half-open time has not started.
    pub(super) fn expire(
        &mut self,
        now: u64,
        is_call: bool,
        probes: Probes,
        rules: &Rules,
        times: &impl Times,
    ) -> Option<Change> {
        let over = self.until;
        if now < over {
            return None;
        }
        match self.mode {
            Mode::Open => {
                let lasts = is_call.then(|| times.half_open(over.saturating_sub(self.since)));
                let at = if is_call { now } else { over };
                let cause = TransitionCause::OpenTimeOver;
                self.enter(Mode::HalfOpen, cause, at, lasts, Counts::default())
            }
            Mode::HalfOpen if rules.decide(probes, true) == Verdict::Close => {
                let cause = TransitionCause::ProbesSucceeded;
                self.enter(Mode::Closed, cause, over, None, probes.counts())
            }
            Mode::HalfOpen => {
                let cause = TransitionCause::HalfOpenTimeOver;
                let lasts = times.open(self.next_recovery(), self.generation);
                self.enter(Mode::Open, cause, over, Some(lasts), probes.counts())
            }
            _ => None,
        }
    }
}
