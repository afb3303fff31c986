//! How many at once: one word that decides while there is room, and a waiting room behind a lock that is touched only when
//! there is none.

use std::sync::PoisonError;

use crate::sync::{Mutex, MutexGuard, atomic::AtomicU64, atomic::Ordering};

use super::queue::{Place, Queue};

/// The largest limit.
pub(crate) const MAX: u32 = u32::MAX >> 1;

/// A limit and who waits for it. `W` is what it takes to call a waiter.
#[derive(Debug)]
pub(crate) struct Limiter<W> {
    word: AtomicU64,
    room: Mutex<Queue<W>>,
}

/// The whole state in one word, so that no decision is taken on a torn view:
/// `| somebody waits: 1 | limit: 31 | in flight: 32 |`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupancy(u64);

/// What became of a request that came when there was no room.
#[derive(Debug)]
pub(crate) enum Joined {
    /// Room was made in between.
    Entered,
    Waiting(Place),
    Full,
}

// === impl Occupancy ===

impl Occupancy {
    const WAITED_FOR: u64 = 1 << 63;
    const LIMIT_SHIFT: u32 = 32;

    pub(super) const fn new(limit: u32) -> Self {
        Self((limit as u64) << Self::LIMIT_SHIFT)
    }

    pub(crate) const fn in_flight(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn limit(self) -> u32 {
        ((self.0 & !Self::WAITED_FOR) >> Self::LIMIT_SHIFT) as u32
    }

    const fn is_waited_for(self) -> bool {
        self.0 & Self::WAITED_FOR != 0
    }

    /// One more in flight, if there is room and nobody came earlier.
    const fn enter(self) -> Option<Self> {
        if self.is_waited_for() {
            None
        } else {
            self.grant()
        }
    }

    /// One more in flight, if there is room.
    const fn grant(self) -> Option<Self> {
        if self.in_flight() < self.limit() {
            Some(Self(self.0 + 1))
        } else {
            None
        }
    }

    const fn waited_for(self) -> Self {
        Self(self.0 | Self::WAITED_FOR)
    }

    const fn with_limit(self, limit: u32) -> Self {
        let rest = self.0 & (Self::WAITED_FOR | u32::MAX as u64);
        Self(rest | Self::new(limit).0)
    }
}

// === impl Limiter ===

impl<W> Limiter<W> {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            word: AtomicU64::new(Occupancy::new(limit).0),
            room: Mutex::new(Queue::new()),
        }
    }

    #[inline]
    pub(crate) fn occupancy(&self) -> Occupancy {
        Occupancy(self.word.load(Ordering::Relaxed))
    }

    pub(crate) fn waiting(&self) -> usize {
        self.room().len()
    }

    /// Takes a place, if there is one and nobody waits for it.
    #[inline]
    pub(crate) fn try_enter(&self) -> bool {
        self.update(Occupancy::enter)
    }

    /// Takes a place after all, or joins the waiting room.
    pub(crate) fn join(&self, max_waiting: usize, waiter: W) -> Joined {
        let mut room = self.room();
        loop {
            // The word says "waited for" exactly while somebody waits, and both change under the lock.
            if self.try_enter() {
                return Joined::Entered;
            }
            if room.len() >= max_waiting {
                return Joined::Full;
            }
            // Only from a word without room: a place that was given back in between makes this fail, not get lost.
            if self.update(|now| now.grant().is_none().then(|| now.waited_for()))
                || self.occupancy().is_waited_for()
            {
                return Joined::Waiting(room.push(waiter));
            }
        }
    }

    /// Gives a place back; returns the waiter that has it now and is to be called.
    #[inline]
    #[must_use]
    pub(crate) fn leave(&self) -> Option<W> {
        let before = Occupancy(self.word.fetch_sub(1, Ordering::Release));
        if before.is_waited_for() {
            self.serve()
        } else {
            None
        }
    }

    /// Hands a free place to the first waiter, if there are both; returns it to be called.
    #[cold]
    #[must_use]
    pub(crate) fn serve(&self) -> Option<W> {
        let mut room = self.room();
        if room.len() == 0 || !self.update(Occupancy::grant) {
            return None;
        }
        let waiter = room.serve();
        self.clear_if_empty(&room);
        waiter
    }

    /// Whether the waiter was served; if not, `wait` may change how it is called.
    pub(crate) fn is_served(&self, place: &Place, wait: impl FnOnce(&mut W)) -> bool {
        match self.room().waiter(place) {
            Some(waiter) => {
                wait(waiter);
                false
            }
            None => true,
        }
    }

    /// Leaves the waiting room; `true` if it was served: the place in flight is then the caller's to keep or to give back.
    #[must_use]
    pub(crate) fn forget(&self, place: Place) -> bool {
        let mut room = self.room();
        let served = room.remove(place);
        self.clear_if_empty(&room);
        served
    }

    /// Changes the limit; whoever finds room by it is to be called: repeat [`serve`](Self::serve) until it has no more.
    pub(crate) fn set_limit(&self, limit: u32) {
        self.update(|now| Some(now.with_limit(limit)));
    }

    fn clear_if_empty(&self, room: &Queue<W>) {
        if room.len() == 0 {
            self.word
                .fetch_and(!Occupancy::WAITED_FOR, Ordering::Relaxed);
        }
    }

    /// Commits what `next` makes of the word; `false` if it makes nothing of it.
    #[inline]
    fn update(&self, next: impl Fn(Occupancy) -> Option<Occupancy>) -> bool {
        let mut now = self.occupancy();
        while let Some(next) = next(now) {
            match self.word.compare_exchange_weak(
                now.0,
                next.0,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(seen) => now = Occupancy(seen),
            }
        }
        false
    }

    fn room(&self) -> MutexGuard<'_, Queue<W>> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(seawall_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Arrive,
        Leave(usize),
        GiveUp(usize),
        SetLimit(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Arrive),
            4 => any::<usize>().prop_map(Step::Leave),
            2 => any::<usize>().prop_map(Step::GiveUp),
            1 => (1..6_u32).prop_map(Step::SetLimit),
        ]
    }

    /// The limiter and what is known from outside: who is in, who waits, in which order.
    struct World {
        limiter: Limiter<u32>,
        limit: u32,
        inside: Vec<Option<Place>>,
        waiting: Vec<(u32, Place)>,
    }

    impl World {
        fn called(&mut self, who: u32) {
            assert_eq!(who, self.waiting[0].0, "first come, first served");
            let (_, place) = self.waiting.remove(0);
            self.inside.push(Some(place));
        }

        fn leave(&mut self, place: Option<Place>) {
            if let Some(place) = place {
                assert!(self.limiter.forget(place));
            }
            if let Some(who) = self.limiter.leave() {
                self.called(who);
            }
        }
    }

    proptest! {
        #[test]
        fn never_above_the_limit_never_idle_while_somebody_waits(
            steps in proptest::collection::vec(step(), 0..300),
            limit in 1..6_u32,
            room in 0..5_usize,
        ) {
            let mut world = World {
                limiter: Limiter::new(limit),
                limit,
                inside: Vec::new(),
                waiting: Vec::new(),
            };
            for (who, step) in (0..).zip(steps) {
                match step {
                    Step::Arrive => {
                        let full = world.inside.len() >= world.limit as usize;
                        if world.limiter.try_enter() {
                            prop_assert!(!full && world.waiting.is_empty());
                            world.inside.push(None);
                        } else {
                            match world.limiter.join(room, who) {
                                Joined::Entered => prop_assert!(false, "nobody else is here"),
                                Joined::Waiting(place) => world.waiting.push((who, place)),
                                Joined::Full => prop_assert_eq!(world.waiting.len(), room),
                            }
                        }
                    }
                    Step::Leave(at) if !world.inside.is_empty() => {
                        let place = world.inside.swap_remove(at % world.inside.len());
                        world.leave(place);
                    }
                    Step::GiveUp(at) if !world.waiting.is_empty() => {
                        let (_, place) = world.waiting.remove(at % world.waiting.len());
                        prop_assert!(!world.limiter.forget(place));
                    }
                    Step::SetLimit(limit) => {
                        world.limit = limit;
                        world.limiter.set_limit(limit);
                        while let Some(who) = world.limiter.serve() {
                            world.called(who);
                        }
                    }
                    Step::Leave(_) | Step::GiveUp(_) => {}
                }
                let now = world.limiter.occupancy();
                prop_assert_eq!(now.in_flight() as usize, world.inside.len());
                prop_assert_eq!(now.limit(), world.limit);
                prop_assert_eq!(now.is_waited_for(), !world.waiting.is_empty());
                prop_assert_eq!(world.limiter.waiting(), world.waiting.len());
                prop_assert!(world.waiting.is_empty() || now.in_flight() >= now.limit());
            }
            while let Some(place) = world.inside.pop() {
                world.leave(place);
            }
            prop_assert_eq!(world.limiter.occupancy(), Occupancy::new(world.limit));
        }
    }

    #[test]
    fn the_largest_limit_fits_beside_the_flag() {
        let full = Occupancy::new(MAX).waited_for();
        assert_eq!(full.limit(), MAX);
        assert_eq!(full.with_limit(1).limit(), 1);
        assert!(full.with_limit(1).is_waited_for());
        assert_eq!(full.in_flight(), 0);
    }
}
