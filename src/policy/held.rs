//! A ticket on its way, and what is still owed to it.

use std::fmt;
use std::mem;

use super::{End, Outcome, Ticket};

/// Carries a ticket and sees to it that it is settled and ended exactly once, however the call ends.
pub struct Held<T: Ticket> {
    ticket: T,
    settled: bool,
    ended: bool,
    /// True while foreign code runs under the ticket. If it still is in `drop`, that code unwound: exact where
    /// `thread::panicking()` would also blame a call that is merely dropped during somebody else's panic.
    watching: bool,
}

// === impl Held ===

impl<T: Ticket> Held<T> {
    pub(crate) fn new(ticket: T) -> Self {
        Self {
            ticket,
            settled: false,
            ended: false,
            watching: false,
        }
    }

    pub(crate) fn ticket_mut(&mut self) -> &mut T {
        &mut self.ticket
    }

    /// Runs foreign code under the ticket.
    #[inline]
    pub(crate) fn watch<R>(&mut self, code: impl FnOnce() -> R) -> R {
        self.watching = true;
        let result = code();
        self.watching = false;
        result
    }

    #[cfg(feature = "http")]
    pub(crate) fn on_head(&mut self, head: &mut crate::protocol::ResponseHeadMut<'_>) {
        self.watching = true;
        self.ticket.on_head(head);
        self.watching = false;
    }

    /// Tells the verdict, unless it was told.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if !mem::replace(&mut self.settled, true) {
            self.ticket.settle(outcome);
        }
    }

    /// The work is over: drops the ticket.
    pub(crate) fn end(mut self, end: End) {
        self.ended = true;
        self.ticket.on_end(end);
    }
}

impl<T: Ticket> Drop for Held<T> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (outcome, end) = if self.watching {
            (Outcome::Panicked, End::Panicked)
        } else {
            (Outcome::Cancelled, End::Cancelled)
        };
        self.settle(outcome);
        self.ticket.on_end(end);
    }
}

impl<T: Ticket> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("settled", &self.settled)
            .finish_non_exhaustive()
    }
}
