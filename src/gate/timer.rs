//! The deadline of a call for its response head.

use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(feature = "http")]
use crate::clock;
use crate::clock::{Due, Lent, due};
use crate::policy::{Budget, Choice, Needs, NeedsOf, Time};
#[cfg(feature = "http")]
use crate::raise;

/// The time of a call. The first poll that is pending reads the clock.
#[derive(Debug)]
pub struct Timer {
    time: Time,
    lent: Lent,
}

/// A timer, if a policy has a deadline.
pub(crate) type TimerOf<P, R> = <<NeedsOf<P, R> as Needs>::Deadline as Choice>::Maybe<Timer>;

// === impl Timer ===

impl Timer {
    /// No limit.
    pub(crate) const NEVER: u64 = u64::MAX;

    #[inline(always)]
    pub(crate) fn new(budget: Option<Budget<'_>>) -> Self {
        Self {
            time: budget.map_or(Time::UNLIMITED, |budget| budget.time),
            lent: Lent::default(),
        }
    }

    /// Sets the timer now, if it must not wait for the first poll.
    #[cold]
    #[inline]
    pub(crate) fn set(&mut self, budget: Budget<'_>, due: Option<Due>) {
        self.time = budget.time;
        if let Some(mut due) = due {
            if due.is_callers {
                self.time = Time::callers(due.time);
                due.at = due.at.checked_sub(sooner(self.nanos())).unwrap_or(due.at);
            } else {
                self.time = Time::ours(due.time).unusual();
            }
            self.lent.set_due(due);
        }
    }

    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let nanos = self.nanos();
        if nanos == Self::NEVER {
            return Poll::Pending;
        }
        self.lent.poll(|| due(nanos), cx)
    }

    /// The end of the time, if it is known.
    #[cfg(feature = "http")]
    pub(crate) fn due(&self) -> Option<tokio::time::Instant> {
        self.lent.due()
    }

    /// Returns whether at most `nanos` of the time are left.
    #[cfg(feature = "http")]
    pub(crate) fn is_nearly_due(&self, nanos: u64) -> bool {
        let due = self.due();
        let left = due.map(|due| due.saturating_duration_since(clock::now()));
        self.lent.is_overdue() || left.is_some_and(|left| left <= Duration::from_nanos(nanos))
    }

    /// The time in nanoseconds; [`NEVER`](Self::NEVER) for no limit.
    pub(crate) fn nanos(&self) -> u64 {
        self.time.nanos()
    }

    /// The deadline is that of the caller.
    #[inline(always)]
    pub(crate) fn is_callers(&self) -> bool {
        self.time.is_unusual() && (self.time.is_callers() || self.lent.is_callers())
    }
}

/// Returns whether the deadline may have to be set when the inner service is called.
#[inline(always)]
pub(crate) fn is_set_early(budget: Budget<'_>) -> bool {
    #[cfg(feature = "http")]
    return budget.time.is_unusual() | raise::is_used();
    #[cfg(not(feature = "http"))]
    budget.time.is_unusual()
}

/// The time by which the gate answers before the caller's deadline, at most a millisecond. A
/// framework around this crate, such as tonic's server, counts the same time from a moment before.
/// Tokio rounds both up to the next millisecond, and without this margin the framework could answer
/// first.
fn sooner(nanos: u64) -> Duration {
    Duration::from_nanos((nanos / 64).min(999_999))
}
