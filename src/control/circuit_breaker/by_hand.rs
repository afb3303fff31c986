//! The operations of a handle on a breaker, and the reports of changes.

use crate::sync::atomic::Ordering;

use super::breaker::Breaker;
use super::rules::Rules;
use super::state::{Change, Times};
use super::window::Counts;
use super::word::{Mode, TransitionCause, Word};

impl Breaker {
    /// Opens the breaker, if it is closed or half-open, as if a threshold were reached.
    pub(crate) fn trip(&self, now: u64, times: &impl Times) {
        loop {
            let word = self.advance(now, times);
            let is_open = !matches!(word.mode(), Mode::Closed | Mode::HalfOpen);
            let cause = TransitionCause::ByHand;
            if is_open || self.open(word, now, cause, Counts::default(), times) {
                return;
            }
        }
    }

    /// Forces a state, unless the breaker is in that state.
    pub(crate) fn force(&self, to: Mode, now: u64, times: &impl Times) {
        loop {
            let word = self.advance(now, times);
            if word.mode() == to || self.enter(word, to, now) {
                return;
            }
        }
    }

    /// Closes the breaker in any state, and empties the window.
    pub(crate) fn reset(&self, now: u64, times: &impl Times) {
        while !self.enter(self.advance(now, times), Mode::Closed, now) {}
    }

    fn enter(&self, word: Word, to: Mode, now: u64) -> bool {
        self.change(word.generation(), |circuit| {
            circuit.enter(to, TransitionCause::ByHand, now, None, Counts::default())
        })
    }

    /// Changes the rules. The caller makes one change at a time.
    pub(crate) fn set_rules(&self, rules: &Rules) {
        let locked = self.lock();
        self.rules.set(rules);
        let (generation, mode) = (locked.circuit.generation, locked.circuit.mode);
        let word = Word::new(generation, mode, rules.is_timed());
        self.word.store(word.0, Ordering::Release);
    }

    /// Reports the changes that are not reported yet, in their order and outside the lock. `report`
    /// must not unwind.
    #[inline]
    pub(crate) fn report(&self, report: impl FnMut(Change)) {
        if self.unreported.load(Ordering::Relaxed) > 0 {
            self.report_all(report);
        }
    }

    #[cold]
    fn report_all(&self, mut report: impl FnMut(Change)) {
        let mut locked = self.lock();
        if std::mem::replace(&mut locked.is_reporting, true) {
            return; // the thread that reports also reports these
        }
        while let Some(change) = locked.unreported.pop_front() {
            let left = locked.unreported.len() as u32;
            self.unreported.store(left, Ordering::Relaxed);
            drop(locked);
            report(change);
            locked = self.lock();
        }
        locked.is_reporting = false;
    }
}
