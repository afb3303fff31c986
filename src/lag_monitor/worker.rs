//! The queue of one thread as seen by that thread, and the polls of handlers on it.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::runtime::Handle;

use super::runtime_lag::{Published, RuntimeLag};
use super::{sampler, stamp};
use crate::clock::{self, nanos};
use crate::control::lag::Nanos;
use crate::control::lag::law::{Call, Decision, Terms};
use crate::control::lag::queue::Queue;

thread_local! {
    /// The worker for this thread in the runtime that it used last.
    static WORKER: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// A thread in a runtime.
pub(crate) struct Worker {
    pub(super) lag: Arc<RuntimeLag>,
    pub(super) published: Arc<Published>,
    queue: Cell<Queue>,
    /// The number of marks that were started on this thread.
    marks: Cell<u64>,
}

/// A poll of a handler that is measured. The gate uses it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MeasuredPoll(NonZeroU64);

/// A request that was admitted and whose first poll has not started, with the number of its
/// runtime. It is plain data: the gate ends it at the first poll, or when the future is dropped
/// without one.
#[derive(Debug)]
pub(crate) struct Unpolled(NonZeroU64);

// === impl Worker ===

impl Worker {
    /// The worker of this thread in this runtime; `None` while the thread ends.
    pub(crate) fn here(lag: &Arc<RuntimeLag>) -> Option<Rc<Self>> {
        let here = WORKER.try_with(|worker| {
            let mut worker = worker.borrow_mut();
            if let Some(known) = worker.as_ref().filter(|known| Arc::ptr_eq(&known.lag, lag)) {
                return known.clone();
            }
            let published = Arc::new(Published::default());
            lag.add_thread(published.clone());
            let new = Rc::new(Self {
                lag: lag.clone(),
                published,
                queue: Cell::default(),
                marks: Cell::new(0),
            });
            *worker = Some(new.clone());
            new
        });
        here.ok()
    }

    /// The worker of this thread in the runtime that it used last.
    fn last() -> Option<Rc<Self>> {
        let last = WORKER.try_with(|worker| worker.borrow().clone());
        last.ok().flatten()
    }

    /// The worker of this thread, if `published` belongs to it.
    pub(super) fn of(published: &Arc<Published>) -> Option<Rc<Self>> {
        let here = Self::last()?;
        Arc::ptr_eq(&here.published, published).then_some(here)
    }

    /// Notes that a call passes, or that the poll of a handler ends.
    pub(crate) fn on_progress(&self, now: Nanos) {
        self.published.on_progress(now);
        self.lag.on_progress(now);
    }

    /// Decides about a call that is watched. If there is no mark, also returns the number of the
    /// mark that the caller must start.
    pub(super) fn decide(
        &self,
        runtime: &Handle,
        terms: &Terms,
        now: Nanos,
    ) -> (Decision, Option<u64>) {
        let in_task = tokio::task::try_id().is_some();
        let call = Call {
            now,
            restarted: self.lag.restarted(),
            probe_age: self.lag.probe_age(now, in_task),
            injected: runtime.metrics().global_queue_depth(),
            pended: self.lag.pended(),
            unpolled: self.lag.unpolled(),
        };
        let mut queue = self.queue.get();
        if queue.has_mark() && self.published.mark.load(Relaxed) != self.marks.get() {
            queue.on_mark_ended();
        }
        let decision = terms.on_call(&mut queue, &call);
        // The mark of a call outside a task would go to the queue of another thread.
        let starts = !queue.has_mark() && in_task;
        if starts {
            queue.on_mark_started(now);
        }
        self.set_queue(queue);
        let number = starts.then(|| {
            let number = self.marks.get() + 1;
            self.marks.set(number);
            self.published.mark.store(number, Relaxed);
            number
        });
        (decision, number)
    }

    /// Changes the state of the queue, if `number` is that of its mark.
    pub(super) fn on_mark<T>(
        &self,
        number: u64,
        change: impl FnOnce(&mut Queue) -> T,
    ) -> Option<T> {
        if self.marks.get() != number {
            return None;
        }
        let mut queue = self.queue.get();
        let result = change(&mut queue);
        self.set_queue(queue);
        Some(result)
    }

    fn set_queue(&self, queue: Queue) {
        self.published.set_queue(&queue);
        self.queue.set(queue);
    }
}

// === impl MeasuredPoll ===

impl MeasuredPoll {
    /// Starts the measurement, if anything is watched.
    #[inline(always)]
    pub(crate) fn begin() -> Option<Self> {
        if stamp::is_watched() {
            NonZeroU64::new(now()).map(Self)
        } else {
            None
        }
    }

    /// Ends the measurement. `pends` is true for a first poll of the handler that is pending.
    #[inline(always)]
    pub(crate) fn end(self, pends: bool) {
        end(self.0.get(), pends);
    }
}

// === impl Unpolled ===

impl Unpolled {
    /// Returns whether anything is watched.
    #[inline(always)]
    pub(crate) fn counts() -> bool {
        stamp::is_watched()
    }

    /// Starts the measurement, if anything is watched.
    #[inline(always)]
    pub(crate) fn begin() -> Option<Self> {
        if Self::counts() { Self::here() } else { None }
    }

    #[cold]
    #[inline(never)]
    fn here() -> Option<Self> {
        let here = Worker::last()?;
        here.lag.add_unpolled();
        Some(Self(here.lag.number()))
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn end(self) {
        if let Some(here) = Worker::last().filter(|here| here.lag.number() == self.0) {
            here.lag.remove_unpolled();
        } else if let Some(lag) = sampler::with_number(self.0) {
            // The future has moved to a thread that has seen no call, or to another runtime.
            lag.remove_unpolled();
            if Handle::try_current().is_ok_and(|runtime| runtime.id() == lag.runtime()) {
                Worker::here(&lag);
            }
        }
    }
}

#[cold]
#[inline(never)]
fn now() -> Nanos {
    nanos(clock::monotonic())
}

#[cold]
#[inline(never)]
fn end(begun: Nanos, pends: bool) {
    let now = now();
    if let Some(here) = Worker::last() {
        here.published.on_poll(now.saturating_sub(begun));
        here.on_progress(now);
        if pends {
            here.lag.on_pended();
        }
    }
}
