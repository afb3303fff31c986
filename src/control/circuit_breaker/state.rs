//! The states of a circuit breaker, and the transitions between them. No atomics.

use super::probes::Probes;
use super::rules::{Rules, Verdict};
use super::window::Counts;

/// What a breaker does, whatever the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
    ObserveOnly,
}

/// Why a circuit breaker changed its state.
///
/// If several thresholds are reached at once, the first one of this list is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransitionCause {
    /// The failure rate of the window reached its threshold.
    FailureRate,
    /// The rate of slow calls in the window reached its threshold.
    SlowCallRate,
    /// This many consecutive calls failed.
    ConsecutiveFailures,
    /// The open time is over: probes are admitted.
    OpenTimeOver,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// Too many probes failed, or were slow.
    ProbesFailed,
    /// The half-open time was over before enough probes had succeeded.
    HalfOpenTimeOver,
    /// A method of the handle changed the state.
    ByHand,
}

/// The state of a breaker, changed under a lock. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Circuit {
    pub(crate) mode: Mode,
    /// Changes with every transition, so that results of earlier states are recognised.
    pub(crate) generation: u64,
    pub(crate) since: u64,
    /// When the open or the half-open time is over; `u64::MAX` for never.
    pub(crate) until: u64,
    /// How often it opened again since it was last closed.
    pub(crate) failed_recoveries: u32,
    pub(crate) transitions: u64,
    /// On what the last transition was decided.
    pub(crate) decided_on: Counts,
}

/// The state as calls read it: `| generation: 60 | calls are timed: 1 | mode: 3 |`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(super) u64);

/// One change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) from: Mode,
    pub(crate) to: Mode,
    pub(crate) cause: TransitionCause,
    pub(crate) number: u64,
    /// How long it stays open, or half-open at most; nanoseconds.
    pub(crate) lasts: Option<u64>,
    /// On what it was decided.
    pub(crate) counts: Counts,
}

/// How long a breaker stays in a state; nanoseconds.
pub(crate) trait Times {
    /// The open time after so many failed recoveries: the same each time for the generation that
    /// ends. It may run code of a user.
    fn open(&self, failed_recoveries: u32, generation: u64) -> u64;

    /// The half-open time after such an open time.
    fn half_open(&self, open: u64) -> u64;
}

// === impl Mode ===

impl Mode {
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [Mode; 6] = [
        Mode::Closed,
        Mode::Open,
        Mode::HalfOpen,
        Mode::ForcedOpen,
        Mode::ForcedClosed,
        Mode::ObserveOnly,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Mode::Closed => "closed",
            Mode::Open => "open",
            Mode::HalfOpen => "half_open",
            Mode::ForcedOpen => "forced_open",
            Mode::ForcedClosed => "forced_closed",
            Mode::ObserveOnly => "observe_only",
        }
    }

    /// Three bits, of which only six values are stored.
    #[inline]
    const fn of_index(index: u64) -> Mode {
        match index {
            0 => Mode::Closed,
            1 => Mode::Open,
            2 => Mode::HalfOpen,
            3 => Mode::ForcedOpen,
            4 => Mode::ForcedClosed,
            _ => Mode::ObserveOnly,
        }
    }
}

// === impl TransitionCause ===

impl TransitionCause {
    /// The cause as a label: lower case, stable, fit for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            TransitionCause::FailureRate => "failure_rate",
            TransitionCause::SlowCallRate => "slow_call_rate",
            TransitionCause::ConsecutiveFailures => "consecutive_failures",
            TransitionCause::OpenTimeOver => "open_time_over",
            TransitionCause::ProbesSucceeded => "probes_succeeded",
            TransitionCause::ProbesFailed => "probes_failed",
            TransitionCause::HalfOpenTimeOver => "half_open_time_over",
            TransitionCause::ByHand => "by_hand",
        }
    }
}

// === impl Word ===

impl Word {
    const MODE: u64 = 0b111;
    const TIMED: u64 = 0b1000;
    const GENERATION_SHIFT: u32 = 4;

    pub(super) const fn new(generation: u64, mode: Mode, timed: bool) -> Self {
        Self(generation << Self::GENERATION_SHIFT | (timed as u64) << 3 | mode as u64)
    }

    #[inline]
    pub(super) const fn mode(self) -> Mode {
        Mode::of_index(self.0 & Self::MODE)
    }

    /// Closed, and no call is timed: there is nothing to ask.
    #[inline]
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & (Self::MODE | Self::TIMED) == 0
    }

    /// Whether the call's duration matters.
    #[inline]
    pub(crate) const fn is_timed(self) -> bool {
        self.0 & Self::TIMED != 0
    }

    #[inline]
    pub(super) const fn generation(self) -> u64 {
        self.0 >> Self::GENERATION_SHIFT
    }

    /// The part of the generation that a window knows.
    #[inline]
    pub(super) const fn era(self) -> u64 {
        era(self.generation())
    }

    /// Every call is admitted.
    #[inline]
    pub(crate) const fn admits_all(self) -> bool {
        matches!(
            self.mode(),
            Mode::Closed | Mode::ForcedClosed | Mode::ObserveOnly
        )
    }
}

// === impl Circuit ===

/// Transitions between open and half-open that fit into one era. If there are more, the next era
/// begins, which does no harm.
const FLAP_BITS: u32 = 28;

/// The part of a generation that changes only when calls begin to count. So a window does not move
/// on while the breaker is open.
#[inline]
pub(super) const fn era(generation: u64) -> u64 {
    generation >> FLAP_BITS
}

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

    /// Changes the state, for so long if it ends by itself. A change to the same state changes
    /// only the generation.
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

    /// The failed recoveries when it opens now.
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
    /// half-open time begins now; if it is only looked at, the half-open time has not begun.
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
