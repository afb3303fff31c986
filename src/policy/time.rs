//! The time that a request has.

use std::time::Duration;

use crate::clock;

/// The time that a request has.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Time(
    /// Nanoseconds, and two flags.
    pub(crate) u64,
);

// === impl Time ===

impl Time {
    /// The time has a property besides the number of nanoseconds.
    pub(crate) const UNUSUAL: u64 = 1 << 63;
    const CALLERS: u64 = 1 << 62;
    /// No limit: a time of 146 years or more.
    const NEVER: u64 = Self::CALLERS - 1;
    pub(crate) const UNLIMITED: Self = Self(Self::NEVER | Self::UNUSUAL);

    pub(crate) fn ours(time: Duration) -> Self {
        let nanos = clock::nanos(time);
        if nanos >= Self::NEVER {
            Self::UNLIMITED
        } else {
            Self(nanos)
        }
    }

    /// The time of the caller, whose clock already runs. The clock of tonic's server around this
    /// crate runs too, and would answer `CANCELLED`.
    pub(crate) fn callers(time: Duration) -> Self {
        let nanos = clock::nanos(time).min(Self::NEVER - 1);
        Self(nanos | Self::CALLERS | Self::UNUSUAL)
    }

    #[inline(always)]
    pub(crate) const fn unusual(self) -> Self {
        Self(self.0 | Self::UNUSUAL)
    }

    pub(crate) const fn is_callers(self) -> bool {
        self.0 & Self::CALLERS != 0
    }

    /// `u64::MAX` for no limit.
    pub(crate) const fn nanos(self) -> u64 {
        match self.0 & Self::NEVER {
            Self::NEVER => u64::MAX,
            nanos => nanos,
        }
    }

    /// Returns whether the time has a property besides its nanoseconds: the caller gave it, it is
    /// exposed, it was set when the service was called, or there is no limit.
    #[inline(always)]
    pub(crate) const fn is_unusual(self) -> bool {
        self.0 & Self::UNUSUAL != 0
    }
}
