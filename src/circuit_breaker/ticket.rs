//! For calls that are no request of a Tower service.

use std::borrow::Borrow;
use std::fmt;
use std::thread;
use std::time::Duration;

use super::CircuitBreaker;
use super::shared::Pass;
use crate::clock::nanos;
use crate::policy::{Outcome, Ticket};

/// A call that a [`CircuitBreaker`](crate::CircuitBreaker) admitted, from
/// [`try_acquire`](crate::CircuitBreaker::try_acquire) to its outcome.
///
/// Dropped without one it was cancelled: a probe's place comes back, and nothing is counted unless it has taken longer than
/// the slow-call threshold. Dropped by a panic that began under it, it failed.
#[must_use = "a ticket that is dropped is a call that was cancelled"]
pub struct CircuitTicket<B: Borrow<CircuitBreaker> = CircuitBreaker> {
    pass: Pass<B>,
    /// Somebody's panic was under way when it began.
    during_panic: bool,
}

// === impl CircuitTicket ===

impl<B: Borrow<CircuitBreaker>> CircuitTicket<B> {
    #[inline]
    pub(super) fn new(pass: Pass<B>) -> Self {
        Self {
            pass,
            during_panic: thread::panicking(),
        }
    }

    /// The call succeeded. It is slow all the same if it took too long.
    #[inline]
    pub fn success(self) {
        self.settle(Outcome::Success);
    }

    /// The call failed.
    #[inline]
    pub fn failure(self) {
        self.settle(Outcome::Failure);
    }

    /// The call says nothing about what it went to.
    #[inline]
    pub fn ignore(self) {
        self.settle(Outcome::Ignored);
    }

    /// Whatever became of it.
    #[inline]
    pub fn settle(mut self, outcome: Outcome) {
        self.pass.settle(outcome);
    }

    /// Whatever became of it, when somebody else measured how long it took.
    #[inline]
    pub fn settle_timed(mut self, outcome: Outcome, took: Duration) {
        self.pass.measured(nanos(took));
        self.settle(outcome);
    }
}

impl<B: Borrow<CircuitBreaker>> Drop for CircuitTicket<B> {
    #[inline]
    fn drop(&mut self) {
        if !self.pass.is_settled() {
            let panicked = thread::panicking() && !self.during_panic;
            self.pass.settle(if panicked {
                Outcome::Panicked
            } else {
                Outcome::Cancelled
            });
        }
    }
}

impl<B: Borrow<CircuitBreaker>> fmt::Debug for CircuitTicket<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitTicket").finish_non_exhaustive()
    }
}
