//! The queue of a concurrency limit, in the order of arrival. A request can leave it at any time.
//!
//! The cost of joining and leaving grows with the logarithm of the length.

use std::collections::BTreeMap;

/// The queued values of type `W`, by the number of their arrival.
#[derive(Debug)]
pub(crate) struct Queue<W> {
    waiting: BTreeMap<u64, W>,
    next: u64,
}

/// The position of a request in the queue.
#[derive(Debug)]
pub(crate) struct Position(u64);

// === impl Queue ===

impl<W> Queue<W> {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: 0,
        }
    }

    /// The number of queued requests. Those that have been granted a permit do not count.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Joins the queue at its end.
    pub(crate) fn push(&mut self, waiter: W) -> Position {
        let position = self.next;
        self.next += 1;
        self.waiting.insert(position, waiter);
        Position(position)
    }

    /// Grants the permit to the first request.
    pub(crate) fn serve(&mut self) -> Option<W> {
        let (_, waiter) = self.waiting.pop_first()?;
        Some(waiter)
    }

    /// The value at a position; `None` once the request has been granted a permit.
    pub(crate) fn waiter(&mut self, position: &Position) -> Option<&mut W> {
        self.waiting.get_mut(&position.0)
    }

    /// Leaves the queue. Returns the value; `None` if the request had been granted a permit, which
    /// it keeps.
    pub(crate) fn remove(&mut self, position: Position) -> Option<W> {
        self.waiting.remove(&position.0)
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
        /// Compares the queue with a plain `VecDeque`: the same order and the same results.
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
            }
        }
    }
}
