//! The names of states and causes, and the word from which calls read the state.

use crate::sync::atomic::{AtomicU64, Ordering};

/// The mode of a breaker, without times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
    ObserveOnly,
}

/// The cause of a change of state of a circuit breaker.
///
/// If several thresholds are reached at the same time, the first one of this list is the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransitionCause {
    /// The failure rate of the window reached its threshold.
    FailureRate,
    /// The rate of slow calls in the window reached its threshold.
    SlowCallRate,
    /// This number of consecutive calls failed.
    ConsecutiveFailures,
    /// The open time is over, and the breaker admits probes.
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

/// The state as calls read it, and as the token of a call keeps it: `| generation: 56 | may leave
/// its task: 1 | held by a permit: 1 | duration is known: 1 | response has begun: 1 | calls are
/// timed: 1 | mode: 3 |`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(super) u64);

/// The number of bits for transitions between open and half-open within one era. If there are more,
/// the next era starts, which has no other effect.
pub(super) const FLAP_BITS: u32 = 28;

/// The part of a generation that changes only when the breaker starts to count. The window
/// therefore does not move on while the breaker is open.
#[inline]
pub(super) const fn era(generation: u64) -> u64 {
    generation >> FLAP_BITS
}

/// Changes a word `| era: 32 | value: 32 |`, whose value is 0 in a new era. Returns the values
/// before and after, or `None` if the word is of a later era.
pub(super) fn update_in_era(
    word: &AtomicU64,
    era: u64,
    change: impl Fn(u32) -> u32,
) -> Option<(u32, u32)> {
    let tag = era as u32;
    let value = |word: u64| {
        if (word >> 32) as u32 == tag {
            word as u32
        } else {
            0
        }
    };
    let update = |word: u64| {
        let ahead = ((word >> 32) as u32).wrapping_sub(tag);
        let is_later = ahead != 0 && ahead < 1 << 31;
        (!is_later).then(|| u64::from(tag) << 32 | u64::from(change(value(word))))
    };
    let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
    let before = value(word.fetch_update(set, fetch, update).ok()?);
    Some((before, change(before)))
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
}

// === impl TransitionCause ===

impl TransitionCause {
    /// The label of the cause: lower case and stable, for metrics and logs.
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
    const TIMED: u64 = 1 << 3;
    const BEGUN: u64 = 1 << 4;
    const MEASURED: u64 = 1 << 5;
    const HELD: u64 = 1 << 6;
    const DETACHED: u64 = 1 << 7;
    const GENERATION_SHIFT: u32 = 8;

    pub(super) const fn new(generation: u64, mode: Mode, timed: bool) -> Self {
        let timed = if timed { Self::TIMED } else { 0 };
        Self(generation << Self::GENERATION_SHIFT | timed | mode as u64)
    }

    #[inline]
    pub(super) const fn is(self, mode: Mode) -> bool {
        self.0 & Self::MODE == mode as u64
    }

    /// The breaker is closed, and calls are not timed: no decision is necessary.
    #[inline]
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & (Self::MODE | Self::TIMED) == 0
    }

    /// Returns whether the duration of calls is measured.
    #[inline]
    pub(crate) const fn is_timed(self) -> bool {
        self.0 & Self::TIMED != 0
    }

    /// The breaker knows that the response of this probe has begun.
    pub(super) const fn has_begun(self) -> bool {
        self.0 & Self::BEGUN != 0
    }

    /// The token has the duration of the call instead of its start.
    pub(crate) const fn is_measured(self) -> bool {
        self.0 & Self::MEASURED != 0
    }

    pub(crate) const fn measured(self) -> Self {
        Self(self.0 | Self::MEASURED)
    }

    /// A permit holds the token. A gate does not mark its tokens.
    pub(crate) const fn is_held(self) -> bool {
        self.0 & Self::HELD != 0
    }

    pub(crate) const fn held(self) -> Self {
        Self(self.0 | Self::HELD)
    }

    /// The permit that holds the token may be settled in another task.
    pub(crate) const fn is_detached(self) -> bool {
        self.0 & Self::DETACHED != 0
    }

    pub(crate) const fn detached(self) -> Self {
        Self(self.0 | Self::DETACHED)
    }

    pub(super) const fn begun(self) -> Self {
        Self(self.0 | Self::BEGUN)
    }

    #[inline]
    pub(super) const fn generation(self) -> u64 {
        self.0 >> Self::GENERATION_SHIFT
    }

    /// The part of the generation that a window stores.
    #[inline]
    pub(super) const fn era(self) -> u64 {
        era(self.generation())
    }

    /// Every call is admitted.
    #[inline]
    pub(crate) const fn admits_all(self) -> bool {
        self.counts() || self.is(Mode::ForcedClosed)
    }

    /// The window counts every call.
    #[inline]
    pub(super) const fn counts(self) -> bool {
        self.is(Mode::Closed) || self.is(Mode::ObserveOnly)
    }
}
