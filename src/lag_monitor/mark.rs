//! The mark: a task that goes around in the queue of one worker, together with the requests.
//!
//! It depends on four properties of Tokio's scheduler, each of which `tests/lag/marks.rs` tests:
//! `yield_now` wakes its task after the next turn of the driver; the task that was woken last, and
//! so the mark, is polled next; a task that wakes itself while it runs goes to the back of the
//! local queue; and a local queue has 256 slots.

use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Handle;

use super::runtime_lag::{Published, RuntimeLag};
use super::worker::Worker;
use crate::clock::{self, nanos};
use crate::control::lag::Nanos;
use crate::control::lag::law::{Decision, Terms};

/// A mark. It ends when nothing is watched, when no call has passed, and when another thread has
/// stolen it.
struct Mark {
    stamp: Arc<Stamp>,
    lag: Arc<RuntimeLag>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begins,
    AwaitsTurn,
    Queued,
}

/// A waker that is called right after a turn of the driver, and records the time.
struct Stamp {
    of: Arc<Published>,
    number: u64,
    mark: OnceLock<Waker>,
}

/// Decides about a call that is watched, and starts the mark of its thread if there is none.
pub(crate) fn decide(worker: &Worker, runtime: &Handle, terms: &Terms, now: Nanos) -> Decision {
    let (decision, starts) = worker.decide(runtime, terms, now);
    if let Some(number) = starts {
        let stamp = Arc::new(Stamp {
            of: worker.published.clone(),
            number,
            mark: OnceLock::new(),
        });
        runtime.spawn(Mark {
            stamp,
            lag: worker.lag.clone(),
            stage: Stage::Begins,
        });
    }
    decision
}

// === impl Mark ===

impl Future for Mark {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let number = self.stamp.number;
        let Some(worker) = Worker::of(&self.stamp.of) else {
            return Poll::Ready(());
        };
        if self.stage == Stage::AwaitsTurn {
            self.stage = Stage::Queued;
            if !self.lag.is_current_thread {
                // The mark goes to the back of the queue. On a current_thread runtime it is already
                // there.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let is_watched = self.lag.is_watched();
        let begins = self.stage == Stage::Begins;
        let goes_on = worker.on_mark(number, |queue| {
            // The call that started it has set the time.
            if begins {
                return true;
            }
            let goes_on = queue.on_mark_returned() && is_watched;
            if goes_on {
                queue.on_turn_awaited(nanos(clock::monotonic()));
            } else {
                queue.on_mark_ended();
            }
            goes_on
        });
        if goes_on != Some(true) {
            return Poll::Ready(());
        }
        self.stage = Stage::AwaitsTurn;
        let _ = self.stamp.mark.set(cx.waker().clone());
        let waker = Waker::from(self.stamp.clone());
        let turn = pin!(tokio::task::yield_now());
        // It is woken once, whether or not the future is kept.
        let _ = turn.poll(&mut Context::from_waker(&waker));
        Poll::Pending
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let Stamp { of, number, .. } = &*self.stamp;
        let _ = of.mark.compare_exchange(*number, 0, Relaxed, Relaxed);
    }
}

// === impl Stamp ===

impl Wake for Stamp {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(worker) = Worker::of(&self.of) {
            let now = nanos(clock::monotonic());
            worker.on_mark(self.number, |queue| queue.on_turn(now));
        }
        if let Some(mark) = self.mark.get() {
            mark.wake_by_ref();
        }
    }
}
