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
    /// it. `expose` gets the time when it is over, and returns the time that applies.
    #[cold]
    pub(crate) fn set(&mut self, budget: Budget<'_>, expose: impl FnOnce(Instant) -> Instant) {
        self.nanos = budget.time.nanos();
        let is_callers = budget.time.is_callers();
        if self.nanos == Self::NEVER || !(is_callers || budget.is_exposed) {
            return;
        }
        let mut due = due(self.nanos);
        if budget.is_exposed {
            due = expose(due);
        }
        if is_callers {
            due = due.checked_sub(sooner(self.nanos)).unwrap_or(due);
        }
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

/// How much sooner the caller's time is over, at most a millisecond: Tokio rounds up to the next
/// one, and a framework outside that counts the same time since a moment before, as tonic's server
/// does, would answer first where the next one differs.
fn sooner(nanos: u64) -> Duration {
    Duration::from_nanos((nanos / 64).min(999_999))
}

/// So many nanoseconds from now.
pub(crate) fn due(nanos: u64) -> Instant {
    clock::now() + Duration::from_nanos(nanos).min(clock::FAR)
}
