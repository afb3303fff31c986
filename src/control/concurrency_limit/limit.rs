//! The decisions of a concurrency limit: one word decides while permits are free, and a queue
//! behind a lock is used only when there are none.

use crate::sync::{Mutex, MutexGuard, atomic::AtomicU64, atomic::Ordering, lock};

use super::queue::{Position, Queue};

/// The largest limit.
pub(crate) const MAX: u32 = u32::MAX >> 1;

/// A limit and its queue. `W` is the value that wakes a queued request.
#[derive(Debug)]
pub(crate) struct Limiter<W> {
    word: AtomicU64,
    queue: Mutex<Queue<W>>,
}

/// The whole state in one word, so that every decision reads a consistent value: `| requests are
/// queued: 1 | limit: 31 | in flight: 32 |`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupancy(u64);

/// The result for a request that found no free permit.
#[derive(Debug)]
pub(crate) enum Joined {
    /// A permit was released in between.
    Entered,
    Queued(Position),
    Full,
}

// === impl Occupancy ===

impl Occupancy {
    const QUEUED: u64 = 1 << 63;
    const LIMIT_SHIFT: u32 = 32;

    pub(super) const fn new(limit: u32) -> Self {
        Self((limit as u64) << Self::LIMIT_SHIFT)
    }

    pub(crate) const fn in_flight(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn limit(self) -> u32 {
        ((self.0 & !Self::QUEUED) >> Self::LIMIT_SHIFT) as u32
    }

    const fn has_queued(self) -> bool {
        self.0 & Self::QUEUED != 0
    }

    /// Adds a request in flight, if a permit is free and no earlier request is queued.
    const fn enter(self) -> Option<Self> {
        if self.has_queued() {
            None
        } else {
            self.grant()
        }
    }

    /// Adds a request in flight, if a permit is free.
    const fn grant(self) -> Option<Self> {
        if self.in_flight() < self.limit() {
            Some(Self(self.0 + 1))
        } else {
            None
        }
    }

    const fn with_queued(self) -> Self {
        Self(self.0 | Self::QUEUED)
    }

    const fn with_limit(self, limit: u32) -> Self {
        let rest = self.0 & (Self::QUEUED | u32::MAX as u64);
        Self(rest | Self::new(limit).0)
    }
}

// === impl Limiter ===

impl<W> Limiter<W> {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            word: AtomicU64::new(Occupancy::new(limit).0),
            queue: Mutex::new(Queue::new()),
        }
    }

    #[inline]
    pub(crate) fn occupancy(&self) -> Occupancy {
        Occupancy(self.word.load(Ordering::Relaxed))
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue().len()
    }

    /// The occupancy and the number of queued requests, at one moment.
    pub(crate) fn now(&self) -> (Occupancy, usize) {
        let queue = self.queue();
        (self.occupancy(), queue.len())
    }

    /// Takes a permit, if one is free and no request is queued for it.
    #[inline]
    pub(crate) fn try_enter(&self) -> bool {
        self.update(Occupancy::enter)
    }

    /// Takes a permit if one is free by now, or joins the queue.
    pub(crate) fn join(&self, max_queued: usize, waiter: W) -> Joined {
        let mut queue = self.queue();
        loop {
            // The flag in the word is set exactly while requests are queued. Both change under the
            // lock.
            if self.try_enter() {
                return Joined::Entered;
            }
            if queue.len() >= max_queued {
                return Joined::Full;
            }
            // The update succeeds only for a word without a free permit. If a permit was released
            // in between, the update fails, and the permit is not lost.
            if self.update(|now| now.grant().is_none().then(|| now.with_queued()))
                || self.occupancy().has_queued()
            {
                return Joined::Queued(queue.push(waiter));
            }
        }
    }

    /// Releases a permit. Returns the waker of the queued request that has it now.
    #[inline]
    #[must_use]
    pub(crate) fn leave(&self) -> Option<W> {
        let before = Occupancy(self.word.fetch_sub(1, Ordering::Release));
        if before.has_queued() {
            self.serve()
        } else {
            None
        }
    }

    /// Grants a free permit to the first queued request, if there are both. Returns the waker of
    /// that request.
    #[cold]
    #[must_use]
    pub(crate) fn serve(&self) -> Option<W> {
        let mut queue = self.queue();
        if queue.len() == 0 || !self.update(Occupancy::grant) {
            return None;
        }
        let waiter = queue.serve();
        self.clear_if_empty(&queue);
        waiter
    }

    /// Returns whether the queued request has a permit. If not, `wait` may replace its waker.
    pub(crate) fn is_served(&self, position: &Position, wait: impl FnOnce(&mut W)) -> bool {
        match self.queue().waiter(position) {
            Some(waiter) => {
                wait(waiter);
                false
            }
            None => true,
        }
    }

    /// Leaves the queue. Returns the waker of the request, or `None` if it had been granted a
    /// permit: the caller then keeps or releases the permit.
    #[must_use]
    pub(crate) fn forget(&self, position: Position) -> Option<W> {
        let mut queue = self.queue();
        let waiter = queue.remove(position);
        self.clear_if_empty(&queue);
        waiter
    }

    /// Changes the limit. To grant the permits that it frees, call [`serve`](Self::serve) until it
    /// returns `None`.
    pub(crate) fn set_limit(&self, limit: u32) {
        self.update(|now| Some(now.with_limit(limit)));
    }

    fn clear_if_empty(&self, queue: &Queue<W>) {
        if queue.len() == 0 {
            self.word.fetch_and(!Occupancy::QUEUED, Ordering::Relaxed);
        }
    }

    /// Commits the result of `next` to the word; returns `false` if `next` returns `None`.
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

    fn queue(&self) -> MutexGuard<'_, Queue<W>> {
        lock(&self.queue)
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

    /// The limiter and the state that is known from outside: the requests in flight, and the queue
    /// in its order.
    struct World {
        limiter: Limiter<u32>,
        limit: u32,
        inside: Vec<Option<Position>>,
        waiting: Vec<(u32, Position)>,
    }

    impl World {
        fn called(&mut self, who: u32) {
            assert_eq!(who, self.waiting[0].0, "first come, first served");
            let (_, position) = self.waiting.remove(0);
            self.inside.push(Some(position));
        }

        fn leave(&mut self, position: Option<Position>) {
            if let Some(position) = position {
                assert_eq!(self.limiter.forget(position), None);
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
            max_queued in 0..5_usize,
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
                            match world.limiter.join(max_queued, who) {
                                Joined::Entered => prop_assert!(false, "nobody else is here"),
                                Joined::Queued(position) => world.waiting.push((who, position)),
                                Joined::Full => prop_assert_eq!(world.waiting.len(), max_queued),
                            }
                        }
                    }
                    Step::Leave(at) if !world.inside.is_empty() => {
                        let position = world.inside.swap_remove(at % world.inside.len());
                        world.leave(position);
                    }
                    Step::GiveUp(at) if !world.waiting.is_empty() => {
                        let (_, position) = world.waiting.remove(at % world.waiting.len());
                        prop_assert!(world.limiter.forget(position).is_some());
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
                prop_assert_eq!(now.has_queued(), !world.waiting.is_empty());
                prop_assert_eq!(world.limiter.queued(), world.waiting.len());
                prop_assert!(world.waiting.is_empty() || now.in_flight() >= now.limit());
            }
            while let Some(position) = world.inside.pop() {
                world.leave(position);
            }
            prop_assert_eq!(world.limiter.occupancy(), Occupancy::new(world.limit));
        }
    }

    #[test]
    fn the_largest_limit_fits_beside_the_flag() {
        let full = Occupancy::new(MAX).with_queued();
        assert_eq!(full.limit(), MAX);
        assert_eq!(full.with_limit(1).limit(), 1);
        assert!(full.with_limit(1).has_queued());
        assert_eq!(full.in_flight(), 0);
    }
}
