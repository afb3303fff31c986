//! What is done to a circuit breaker other than by its calls, and how its changes are told.

#[cfg(all(test, seawall_loom))]
use loom::sync::atomic::Ordering;
#[cfg(not(all(test, seawall_loom)))]
use std::sync::atomic::Ordering;

use super::breaker::{Breaker, Spans};
use super::circuit::{Cause, Change, Mode, Word};

impl Breaker {
    /// Opens it, if it is closed or half-open, as if a threshold had been reached.
    pub(crate) fn trip(&self, now: u64, spans: &impl Spans) {
        loop {
            let word = self.word();
            let generation = word.generation();
            match word.mode() {
                Mode::Closed | Mode::HalfOpen => {
                    if self.open(generation, now, Cause::ByHand, spans) {
                        return;
                    }
                }
                // As good as half-open already.
                Mode::Open if now >= self.ends(Mode::Open) => self.expire(generation, now, spans),
                _ => return,
            }
        }
    }

    /// Changes the state by hand, unless it is that already.
    pub(crate) fn force(&self, to: Mode, now: u64) {
        let mut locked = self.lock();
        if locked.circuit.mode != to {
            let changed = locked.circuit.enter(to, Cause::ByHand, now, None);
            self.publish(&mut locked, changed);
        }
    }

    /// Closes it, whatever it is, and forgets what it has seen.
    pub(crate) fn reset(&self, now: u64) {
        let mut locked = self.lock();
        let changed = locked.circuit.enter(Mode::Closed, Cause::ByHand, now, None);
        self.publish(&mut locked, changed);
    }

    /// Calls are timed from now on, or no longer. It is asked under the lock, so that the last answer stays.
    pub(crate) fn set_timed(&self, timed: impl FnOnce() -> bool) {
        let locked = self.lock();
        let word = Word::new(locked.circuit.generation, locked.circuit.mode, timed());
        self.word.store(word.0, Ordering::Release);
    }

    /// Tells the changes that nobody was told, in their order and outside the lock. `tell` must not unwind.
    #[inline]
    pub(crate) fn tell(&self, tell: impl FnMut(Change)) {
        if self.untold.load(Ordering::Relaxed) > 0 {
            self.tell_all(tell);
        }
    }

    #[cold]
    fn tell_all(&self, mut tell: impl FnMut(Change)) {
        let mut locked = self.lock();
        if std::mem::replace(&mut locked.telling, true) {
            return; // whoever is telling goes on with ours
        }
        while let Some(change) = locked.untold.pop_front() {
            self.untold
                .store(locked.untold.len() as u32, Ordering::Relaxed);
            drop(locked);
            tell(change);
            locked = self.lock();
        }
        locked.telling = false;
    }
}
