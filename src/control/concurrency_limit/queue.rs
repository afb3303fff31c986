//! The queue of a concurrency limit, in the order of arrival. A request can leave it at any time.
//!
//! It is a doubly linked list in a slab. To join, to be granted a permit, and to leave from the
//! middle cost the same for any length, and a queued request costs no allocation of its own.

use std::fmt;
use std::mem;

const NONE: usize = usize::MAX;

/// The queued values of type `W`, in the order of their arrival.
pub(crate) struct Queue<W> {
    slots: Vec<Slot<W>>,
    free: usize,
    first: usize,
    last: usize,
    waiting: usize,
    served: usize,
}

enum Slot<W> {
    Free {
        next: usize,
    },
    Waiting {
        waiter: W,
        before: usize,
        behind: usize,
    },
    Served,
}

/// The position of a request in the queue. [`Queue::remove`] frees it.
#[derive(Debug)]
pub(crate) struct Position(usize);

// === impl Queue ===

impl<W> Queue<W> {
    /// The number of slots that are kept when the queue is empty.
    const KEPT: usize = 64;

    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: NONE,
            first: NONE,
            last: NONE,
            waiting: 0,
            served: 0,
        }
    }

    /// The number of queued requests. Those that have been granted a permit, but have not left, do
    /// not count.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Joins the queue at its end.
    pub(crate) fn push(&mut self, waiter: W) -> Position {
        let slot = Slot::Waiting {
            waiter,
            before: self.last,
            behind: NONE,
        };
        let at = self.free;
        let at = if let Some(Slot::Free { next }) = self.slots.get(at) {
            self.free = *next;
            self.slots[at] = slot;
            at
        } else {
            self.slots.push(slot);
            self.slots.len() - 1
        };
        self.set_behind(self.last, at);
        self.last = at;
        self.waiting += 1;
        Position(at)
    }

    /// Grants the permit to the first request. Its position remains until it is removed.
    pub(crate) fn serve(&mut self) -> Option<W> {
        let waiter = self.unlink(self.first)?;
        self.served += 1;
        Some(waiter)
    }

    /// The value at a position; `None` once the request has been granted a permit.
    pub(crate) fn waiter(&mut self, position: &Position) -> Option<&mut W> {
        match &mut self.slots[position.0] {
            Slot::Waiting { waiter, .. } => Some(waiter),
            _ => None,
        }
    }

    /// Leaves the queue. Returns the value; `None` if the request had been granted a permit, which
    /// it keeps.
    pub(crate) fn remove(&mut self, position: Position) -> Option<W> {
        let waiter = self.unlink(position.0);
        self.served -= usize::from(waiter.is_none());
        self.slots[position.0] = Slot::Free { next: self.free };
        self.free = position.0;
        if self.waiting + self.served == 0 {
            self.slots.clear();
            self.slots.shrink_to(Self::KEPT);
            self.free = NONE;
        }
        waiter
    }

    /// Removes a value from the list and leaves `Served` in its slot; `None` if there is no value.
    fn unlink(&mut self, at: usize) -> Option<W> {
        let slot = self.slots.get_mut(at)?;
        match mem::replace(slot, Slot::Served) {
            Slot::Waiting {
                waiter,
                before,
                behind,
            } => {
                self.set_behind(before, behind);
                self.set_before(behind, before);
                self.waiting -= 1;
                Some(waiter)
            }
            _ => None,
        }
    }

    fn set_behind(&mut self, at: usize, to: usize) {
        match self.slots.get_mut(at) {
            Some(Slot::Waiting { behind, .. }) => *behind = to,
            _ => self.first = to,
        }
    }

    fn set_before(&mut self, at: usize, to: usize) {
        match self.slots.get_mut(at) {
            Some(Slot::Waiting { before, .. }) => *before = to,
            _ => self.last = to,
        }
    }
}

impl<W> fmt::Debug for Queue<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("waiting", &self.waiting)
            .field("served", &self.served)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(seawall_loom)))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Serve,
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Push),
            2 => Just(Step::Serve),
            2 => any::<usize>().prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// Compares the queue with a plain `VecDeque`: the same order and the same results, and no
        /// slot is left in use.
        #[test]
        fn behaves_like_a_searched_deque(steps in proptest::collection::vec(step(), 0..200)) {
            let mut queue = Queue::new();
            let mut line = VecDeque::new();
            let mut positions: Vec<(u32, Position)> = Vec::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Push => {
                        positions.push((next, queue.push(next)));
                        line.push_back(next);
                        next += 1;
                    }
                    Step::Serve => prop_assert_eq!(queue.serve(), line.pop_front()),
                    Step::Remove(at) if !positions.is_empty() => {
                        let (waiter, position) = positions.swap_remove(at % positions.len());
                        let waits = line.iter().position(|&w| w == waiter);
                        prop_assert_eq!(queue.waiter(&position).copied(), waits.map(|_| waiter));
                        prop_assert_eq!(queue.remove(position).is_none(), waits.is_none());
                        waits.map(|at| line.remove(at));
                    }
                    Step::Remove(_) => {}
                }
                prop_assert_eq!(queue.len(), line.len());
                prop_assert!(queue.slots.len() <= next as usize);
            }
            for (_, position) in positions {
                queue.remove(position);
            }
            prop_assert_eq!(queue.len(), 0);
            prop_assert!(queue.slots.is_empty());
        }
    }

    #[test]
    fn slots_are_reused_and_freed_when_the_queue_is_empty() {
        let mut queue = Queue::new();
        let first = queue.push(());
        for _ in 0..10_000 {
            let position = queue.push(());
            queue.remove(position);
        }
        assert_eq!(queue.slots.len(), 2);
        let crowd: Vec<_> = (0..10_000).map(|_| queue.push(())).collect();
        assert!(queue.slots.capacity() >= 10_000);
        for position in crowd {
            queue.remove(position);
        }
        queue.remove(first);
        assert!(queue.slots.capacity() <= Queue::<()>::KEPT);
    }
}
