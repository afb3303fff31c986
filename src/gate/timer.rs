//! The deadline of a call, to its response head.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{self, Lent};
use crate::policy::{Budget, Choice, Needs, NeedsOf};

/// The time that a call has. The clock is read by the first poll that has to wait.
#[derive(Debug)]
pub struct Timer {
    /// `u64::MAX` for no limit.
    nanos: u64,
    lent: Lent,
}

/// A timer, where a policy asks for a deadline.
pub(crate) type TimerOf<P, R> = <<NeedsOf<P, R> as Needs>::Deadline as Choice>::Maybe<Timer>;

// === impl Timer ===

impl Timer {
    /// No limit.
    pub(crate) const NEVER: u64 = u64::MAX;

    #[inline(always)]
    pub(crate) fn new(budget: Option<Budget<'_>>) -> Self {
        Self {
            nanos: budget.map_or(Self::NEVER, |budget| budget.time.0),
            lent: Lent::default(),
        }
    }

    /// A time that is unusual: sets the timer now if the caller gave the time or the request gets
    /// it, and returns when it is over; `None` for never.
    #[cold]
    pub(crate) fn set(&mut self, budget: Budget<'_>) -> Option<Instant> {
        self.nanos = budget.time.nanos();
        if self.nanos == Self::NEVER || !(budget.time.is_callers() || budget.is_exposed) {
            return None;
        }
        let due = due(self.nanos);
        self.lent.set(due);
        Some(due)
    }

    /// Sets the time when it is over.
    #[cold]
    pub(crate) fn set_to(&mut self, due: Instant) {
        self.lent.set(due);
    }

    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.nanos == Self::NEVER {
            return Poll::Pending;
        }
        let nanos = self.nanos;
        self.lent.poll(|| due(nanos), cx)
    }

    /// When the time is over, if it is known.
    #[cfg(feature = "http")]
    pub(crate) fn due(&self) -> Option<Instant> {
        self.lent.due()
    }

    /// When it is over, if the first wait is now; `None` for never.
    #[cfg(feature = "http")]
    pub(crate) fn nanos(&self) -> u64 {
        self.nanos
    }
}

/// So many nanoseconds from now.
pub(crate) fn due(nanos: u64) -> Instant {
    clock::now() + Duration::from_nanos(nanos).min(clock::FAR)
}
