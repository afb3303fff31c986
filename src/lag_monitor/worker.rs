//! The queue of one thread as seen by that thread: the mark that goes around in it together with
//! the requests, and the polls of handlers.
//!
//! The mark depends on four properties of Tokio's scheduler, each of which `tests/lag/marks.rs`
//! tests: `yield_now` wakes its task after the next turn of the driver; the task that was woken
//! last, and so the mark, is polled next; a task that wakes itself while it runs goes to the back
//! of the local queue; and a local queue has 256 slots.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::num::NonZeroU64;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::{Handle, RuntimeFlavor};

use super::probe::{Probe, Thread};
use super::stamp;
use crate::clock::{self, nanos};
use crate::control::lag::Nanos;
use crate::control::lag::law::{Decision, Terms};
use crate::control::lag::queue::Queue;
use crate::sync::lock;

thread_local! {
    /// The worker for this thread in the runtime that it used last.
    static WORKER: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// A thread in a runtime.
pub(crate) struct Worker {
    probe: Weak<Probe>,
    thread: Arc<Thread>,
    queue: Cell<Queue>,
    /// The mark that was started last.
    mark: RefCell<Weak<Mark>>,
}

/// The waker of a mark that awaits a turn of the driver. It is called right after the turn, and
/// records the time. The mark is lost if nothing holds it any more.
#[derive(Default)]
struct Mark {
    task: OnceLock<Waker>,
    /// The result of `Queue::newest`; 0 is none.
    newest: Arc<AtomicU64>,
}

/// A poll of a handler that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MeasuredPoll(NonZeroU64);

/// A request that was admitted and whose first poll has not started, until it is dropped.
pub(crate) struct Unpolled(Arc<Probe>);

// === impl Worker ===

impl Worker {
    /// The worker of this thread in this runtime; `None` while the thread ends.
    pub(crate) fn here(probe: &Arc<Probe>) -> Option<Rc<Self>> {
        let known = Self::last().filter(|last| last.is_of(probe));
        known.or_else(|| {
            let new = Rc::new(Self {
                probe: Arc::downgrade(probe),
                thread: probe.add_thread(),
                queue: Cell::default(),
                mark: RefCell::default(),
            });
            WORKER
                .try_with(|worker| worker.replace(Some(new.clone())))
                .ok()?;
            Some(new)
        })
    }

    /// The worker of this thread in the runtime that it used last.
    fn last() -> Option<Rc<Self>> {
        WORKER.try_with(|worker| worker.borrow().clone()).ok()?
    }

    fn is_of(&self, probe: &Arc<Probe>) -> bool {
        std::ptr::eq(self.probe.as_ptr(), Arc::as_ptr(probe))
    }

    /// The worker of this thread, if the mark is its own.
    fn of(mark: &Arc<Mark>) -> Option<Rc<Self>> {
        Self::last().filter(|last| std::ptr::eq(last.mark.borrow().as_ptr(), Arc::as_ptr(mark)))
    }

    /// Notes a call, which is progress.
    pub(crate) fn on_call(&self, probe: &Probe, now: Nanos) {
        probe.on_progress(&self.thread, now);
    }

    /// Decides about a call that is watched, and starts a mark if there is none.
    pub(crate) fn decide(
        &self,
        probe: &Probe,
        runtime: &Handle,
        terms: &Terms,
        now: Nanos,
    ) -> Decision {
        let in_task = tokio::task::try_id().is_some();
        let call = probe.call(runtime, in_task, now);
        self.change(|queue| {
            if queue.has_mark() && self.mark.borrow().strong_count() == 0 {
                queue.on_mark_ended();
            }
            let decision = terms.on_call(queue, &call);
            // The mark of a call outside a task would go to the queue of another thread.
            if in_task && !queue.has_mark() {
                queue.on_mark_started(now);
                let mark = Arc::new(Mark::default());
                self.mark.replace(Arc::downgrade(&mark));
                *lock(&self.thread.mark) = Arc::downgrade(&mark.newest);
                runtime.spawn(go_around(mark));
            }
            decision
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue.get();
        let result = change(&mut queue);
        self.queue.set(queue);
        let mark = self.mark.borrow().upgrade();
        if let Some(mark) = mark {
            mark.newest.store(queue.newest().unwrap_or(0), Relaxed);
        }
        result
    }
}

/// The task of a mark. It ends when no call has passed, and when another thread has stolen it.
async fn go_around(mark: Arc<Mark>) {
    loop {
        pend(&mark, |waker| mark.await_turn(waker)).await;
        // On a current_thread runtime, the turn of the driver puts it at the back of the queue.
        if Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread {
            pend(&mark, Waker::wake_by_ref).await;
        }
        let returned = |queue: &mut Queue| {
            let goes_on = queue.on_mark_returned();
            if goes_on {
                queue.on_turn_awaited(now());
            } else {
                queue.on_mark_ended();
            }
            goes_on
        };
        let goes_on = Worker::of(&mark).is_some_and(|worker| worker.change(returned));
        if !goes_on {
            return;
        }
    }
}

/// Arranges the next poll and waits for it, if the mark is not stolen.
fn pend(mark: &Arc<Mark>, arrange: impl Fn(&Waker)) -> impl Future<Output = ()> {
    let mut is_over = false;
    poll_fn(move |cx| {
        if is_over || Worker::of(mark).is_none() {
            return Poll::Ready(());
        }
        is_over = true;
        arrange(cx.waker());
        Poll::Pending
    })
}

// === impl Mark ===

impl Mark {
    fn await_turn(self: &Arc<Self>, task: &Waker) {
        let _ = self.task.set(task.clone());
        let waker = Waker::from(self.clone());
        let turn = pin!(tokio::task::yield_now());
        // It is woken once, whether or not the future is kept.
        let _ = turn.poll(&mut Context::from_waker(&waker));
    }
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        if let Some(worker) = Worker::of(&self) {
            worker.change(|queue| queue.on_turn(now()));
        }
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

// === impl MeasuredPoll ===

impl MeasuredPoll {
    /// Starts the measurement, if anything is watched.
    #[inline(always)]
    pub(crate) fn begin() -> Option<Self> {
        let now = stamp::is_watched().then(now)?;
        NonZeroU64::new(now).map(Self)
    }

    /// Ends the measurement. `pends` is true for a first poll of the handler that is pending.
    #[cold]
    #[inline(never)]
    pub(crate) fn end(self, pends: bool) {
        let now = now();
        let Some(here) = Worker::last() else { return };
        let Some(probe) = here.probe.upgrade() else {
            return;
        };
        here.thread.on_poll(now.saturating_sub(self.0.get()));
        probe.on_progress(&here.thread, now);
        if pends {
            probe.pended.fetch_add(1, Relaxed);
        }
    }
}

#[cold]
#[inline(never)]
fn now() -> Nanos {
    nanos(clock::monotonic())
}

// === impl Unpolled ===

impl Unpolled {
    /// Counts a request of this thread's runtime.
    #[cold]
    #[inline(never)]
    pub(crate) fn begin() -> Option<Self> {
        let probe = Worker::last()?.probe.upgrade()?;
        probe.unpolled.fetch_add(1, Relaxed);
        Some(Self(probe))
    }
}

impl Drop for Unpolled {
    #[cold]
    #[inline(never)]
    fn drop(&mut self) {
        let Self(probe) = self;
        probe.unpolled.fetch_sub(1, Relaxed);
        let is_known = Worker::last().is_some_and(|last| last.is_of(probe));
        let is_inside = |runtime: Handle| runtime.id() == probe.runtime;
        if !is_known && Handle::try_current().is_ok_and(is_inside) {
            // The future has moved to a thread that has seen no call.
            Worker::here(probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_sampler_reads_the_time_of_a_mark() {
        let calls = tokio::spawn(async {
            let runtime = Handle::current();
            let probe = Probe::spawn(&runtime);
            let worker = Worker::here(&probe).unwrap();
            worker.decide(&probe, &runtime, &watching(), now());
            assert_ne!(worker.thread.newest(), 0);
        });
        calls.await.unwrap();
    }

    fn watching() -> Terms {
        Terms {
            is_watching: true,
            ..Terms::default()
        }
    }

    /// A task that blocks has an identity, but its mark goes to a worker, which does not know it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_mark_that_ends_elsewhere_shows_no_age() {
        let runtime = Handle::current();
        let blocking = tokio::task::spawn_blocking(move || {
            let probe = Probe::spawn(&runtime);
            let worker = Worker::here(&probe).unwrap();
            worker.decide(&probe, &runtime, &watching(), now());
            assert!(worker.queue.get().has_mark());
            let is_unknown = (0..10_000_000).any(|_| {
                std::thread::yield_now();
                worker.thread.newest() == 0
            });
            assert!(is_unknown);
        });
        blocking.await.unwrap();
    }
}
