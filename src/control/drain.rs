//! The decisions of a drain: whether it has begun, when it rejects, and how many requests are in
//! flight.

use crate::sync::atomic::{AtomicU64, Ordering};

/// The state of a drain. Times are nanoseconds since the drain was made.
#[derive(Debug)]
pub(crate) struct State {
    /// The count and the flag are in one word, so that the last request of a drain is known to be
    /// the last: `| requests in flight: 63 | draining: 1 |`.
    word: AtomicU64,
    /// The end of the lame-duck time; [`NEVER`] until the drain begins.
    over_at: AtomicU64,
    /// The time after the lame-duck time in which requests are still admitted.
    transit: AtomicU64,
}

const DRAINING: u64 = 1;
const ONE: u64 = 2;
const NEVER: u64 = u64::MAX;

// === impl State ===

impl State {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            over_at: AtomicU64::new(NEVER),
            transit: AtomicU64::new(0),
        }
    }

    /// Begins the drain. Returns `false` if it has already begun.
    pub(crate) fn begin(&self, now: u64, lame_duck: u64) -> bool {
        let at = now.saturating_add(lame_duck).min(NEVER - 1);
        let is_first = self
            .over_at
            .compare_exchange(NEVER, at, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if is_first {
            self.word.fetch_or(DRAINING, Ordering::SeqCst);
        }
        is_first
    }

    #[inline(always)]
    pub(crate) fn is_draining(&self) -> bool {
        self.word.load(Ordering::Relaxed) & DRAINING != 0
    }

    /// The end of the lame-duck time, if the drain has begun.
    pub(crate) fn over_at(&self) -> Option<u64> {
        let at = self.over_at.load(Ordering::SeqCst);
        (at != NEVER).then_some(at)
    }

    /// Returns whether the lame-duck time is over at `now`.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.over_at().is_some_and(|at| now >= at)
    }

    /// Admits requests for this time after the lame-duck time: clients sent them before they could
    /// know that the server shuts down.
    pub(crate) fn set_transit(&self, time: u64) {
        self.transit.store(time, Ordering::SeqCst);
    }

    /// Returns whether the drain rejects requests at `now`.
    pub(crate) fn rejects(&self, now: u64) -> bool {
        self.over_at().is_some() && self.admits_for(now) == 0
    }

    /// The time from `now` until the drain rejects requests.
    pub(crate) fn admits_for(&self, now: u64) -> u64 {
        let transit = self.transit.load(Ordering::SeqCst);
        let over_at = self.over_at.load(Ordering::SeqCst);
        over_at.saturating_add(transit).saturating_sub(now)
    }

    /// Counts a request. Returns whether the drain has begun: only then it may reject the request.
    #[inline(always)]
    pub(crate) fn enter(&self) -> bool {
        self.word.fetch_add(ONE, Ordering::SeqCst) & DRAINING != 0
    }

    /// Ends a request. Returns whether it was the last one of a drain.
    #[inline(always)]
    pub(crate) fn leave(&self) -> bool {
        self.word.fetch_sub(ONE, Ordering::SeqCst) == ONE | DRAINING
    }

    pub(crate) fn in_flight(&self) -> usize {
        (self.word.load(Ordering::SeqCst) / ONE) as usize
    }
}

#[cfg(all(test, not(seawall_loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_rejects_from_the_end_of_the_lame_duck_time_on() {
        let state = State::new();
        assert_eq!((state.is_draining(), state.over_at()), (false, None));
        assert!(!state.rejects(u64::MAX));
        assert!(state.begin(10, 5));
        assert!(!state.begin(11, 1), "it begins once");
        assert_eq!((state.is_draining(), state.over_at()), (true, Some(15)));
        assert_eq!((state.rejects(14), state.rejects(15)), (false, true));
        state.set_transit(3);
        assert_eq!((state.is_over(14), state.is_over(15)), (false, true));
        assert_eq!((state.rejects(17), state.rejects(18)), (false, true));
    }

    #[test]
    fn a_lame_duck_time_without_end_still_begins() {
        let state = State::new();
        assert!(state.begin(10, u64::MAX));
        assert!(state.is_draining());
        assert!(!state.rejects(u64::MAX - 2));
    }

    #[test]
    fn the_last_request_of_a_drain_is_known() {
        let state = State::new();
        assert!(!state.enter());
        assert!(!state.leave(), "there is no drain");
        assert!(!state.enter());
        assert!(!state.enter());
        state.begin(0, 0);
        assert!(state.enter());
        assert_eq!(state.in_flight(), 3);
        assert!(!state.leave());
        assert!(!state.leave());
        assert!(state.leave());
        assert_eq!(state.in_flight(), 0);
    }
}

#[cfg(seawall_loom)]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A waiting task reads the count after the drain has begun, and again when the last request
    /// ends. One of the two reads finds no request.
    #[test]
    fn loom_an_idle_drain_is_noticed() {
        loom::model(|| {
            let state = Arc::new(State::new());
            let requests: Vec<_> = (0..2)
                .map(|_| {
                    let state = state.clone();
                    thread::spawn(move || {
                        state.enter();
                        state.leave()
                    })
                })
                .collect();
            state.begin(0, 0);
            let is_idle = state.in_flight() == 0;
            let was_last = requests
                .into_iter()
                .map(|request| request.join().unwrap())
                .filter(|was_last| *was_last)
                .count();
            assert!(is_idle || was_last > 0);
        });
    }
}
