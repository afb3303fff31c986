//! The names of states and causes, and the word from which calls read the state.

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

/// The state as calls read it: `| generation: 60 | calls are timed: 1 | mode: 3 |`.
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

    /// Three bits, with six valid values.
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
    const TIMED: u64 = 0b1000;
    const GENERATION_SHIFT: u32 = 4;

    pub(super) const fn new(generation: u64, mode: Mode, timed: bool) -> Self {
        Self(generation << Self::GENERATION_SHIFT | (timed as u64) << 3 | mode as u64)
    }

    #[inline]
    pub(super) const fn mode(self) -> Mode {
        Mode::of_index(self.0 & Self::MODE)
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
        matches!(
            self.mode(),
            Mode::Closed | Mode::ForcedClosed | Mode::ObserveOnly
        )
    }
}
