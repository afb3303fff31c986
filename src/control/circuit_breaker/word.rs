//! The modes of a breaker, and the word from which calls read the state.

use crate::sync::atomic::{AtomicU64, Ordering};

/// The mode of a breaker, without times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
    ObserveOnly,
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
    let ahead = |word: u64| ((word >> 32) as u32).wrapping_sub(tag);
    let value = |word: u64| if ahead(word) == 0 { word as u32 } else { 0 };
    let update = |word: u64| {
        let is_later = (1..1 << 31).contains(&ahead(word));
        (!is_later).then(|| u64::from(tag) << 32 | u64::from(change(value(word))))
    };
    let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
    let before = value(word.fetch_update(set, fetch, update).ok()?);
    Some((before, change(before)))
}

// === impl Mode ===

#[cfg(feature = "metrics")]
impl Mode {
    pub(crate) const ALL: [Mode; 6] = [
        Mode::Closed,
        Mode::Open,
        Mode::HalfOpen,
        Mode::ForcedOpen,
        Mode::ForcedClosed,
        Mode::ObserveOnly,
    ];
}

// === impl Word ===

impl Word {
    const MODE: u64 = 0b111;
    /// The duration of calls is measured.
    pub(crate) const TIMED: u64 = 1 << 3;
    /// The breaker knows that the response of this probe has begun.
    pub(super) const BEGUN: u64 = 1 << 4;
    /// The token has the duration of the call instead of its start.
    pub(crate) const MEASURED: u64 = 1 << 5;
    /// A permit holds the token. A gate does not mark its tokens.
    pub(crate) const HELD: u64 = 1 << 6;
    /// The permit that holds the token may be settled in another task.
    pub(crate) const DETACHED: u64 = 1 << 7;
    const GENERATION_SHIFT: u32 = 8;
    /// The word of a call that was not admitted.
    pub(super) const NONE: Self = Self::new(u64::MAX, Mode::ForcedOpen, false);

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

    #[inline]
    pub(crate) const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    pub(crate) const fn with(self, flag: u64) -> Self {
        Self(self.0 | flag)
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
