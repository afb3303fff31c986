//! A ticket on its way, and what is still owed to it.

use std::fmt;
use std::num::NonZeroUsize;

use super::{End, Interest, Outcome, Ticket};

/// Carries a ticket and sees to it that one that waits for its outcome is settled and ended exactly once, however the call ends.
pub struct Held<T: Ticket> {
    ticket: T,
    flags: Flags,
}

/// A whole word, as what is narrower is moved byte by byte; never 0, so that an `Option` around it costs nothing.
#[derive(Clone, Copy)]
struct Flags(NonZeroUsize);

// === impl Flags ===

impl Flags {
    const NEW: Self = Self(NonZeroUsize::MIN);
    const NEW_WATCHING: Self = match NonZeroUsize::new(1 | Self::WATCHING) {
        Some(flags) => Self(flags),
        None => unreachable!(),
    };
    const SETTLED: usize = 1 << 1;
    const ENDED: usize = 1 << 2;
    /// Foreign code runs under the ticket. If it still does in `drop`, that code unwound: exact where `thread::panicking()`
    /// would also blame a call that is merely dropped during somebody else's panic.
    const WATCHING: usize = 1 << 3;

    #[inline]
    fn has(self, flag: usize) -> bool {
        self.0.get() & flag != 0
    }

    #[inline]
    fn with(self, flag: usize) -> Self {
        Self(self.0 | flag)
    }
}

// === impl Held ===

impl<T: Ticket> Held<T> {
    #[inline]
    pub(crate) fn new(ticket: T) -> Self {
        Self {
            ticket,
            flags: Flags::NEW,
        }
    }

    /// One under which foreign code is about to run for the first time, until it is [`paused`](Self::paused). As
    /// [`watch`](Self::watch), but a closure would move the request once more.
    #[inline]
    pub(crate) fn watching(ticket: T) -> Self {
        Self {
            ticket,
            flags: Flags::NEW_WATCHING,
        }
    }

    /// That code has returned.
    #[inline]
    pub(crate) fn paused(mut self) -> Self {
        self.flags = Flags::NEW;
        self
    }

    #[inline]
    pub(crate) fn interest(&self) -> Interest {
        self.ticket.interest()
    }

    /// Runs foreign code under the ticket.
    #[inline]
    pub(crate) fn watch<R>(&mut self, code: impl FnOnce() -> R) -> R {
        let before = self.flags;
        self.flags = before.with(Flags::WATCHING);
        let result = code();
        self.flags = before;
        result
    }

    #[cfg(feature = "http")]
    #[inline]
    pub(crate) fn on_head(&mut self, head: &mut crate::protocol::ResponseHeadMut<'_>) {
        let before = self.flags;
        self.flags = before.with(Flags::WATCHING);
        self.ticket.on_head(head);
        self.flags = before;
    }

    /// Tells the verdict, unless it was told.
    #[inline]
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if !self.flags.has(Flags::SETTLED) {
            self.flags = self.flags.with(Flags::SETTLED);
            self.ticket.settle(outcome);
        }
    }

    /// The work is over; the ticket is to be dropped now.
    #[inline]
    pub(crate) fn end(&mut self, end: End) {
        self.flags = self.flags.with(Flags::ENDED);
        self.ticket.on_end(end);
    }
}

impl<T: Ticket> Drop for Held<T> {
    #[inline]
    fn drop(&mut self) {
        if self.interest() >= Interest::Outcome && !self.flags.has(Flags::ENDED) {
            self.end_early();
        }
    }
}

impl<T: Ticket> Held<T> {
    #[cold]
    #[inline(never)]
    fn end_early(&mut self) {
        let (outcome, end) = if self.flags.has(Flags::WATCHING) {
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
            .field("settled", &self.flags.has(Flags::SETTLED))
            .finish_non_exhaustive()
    }
}
