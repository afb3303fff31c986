//! The state of one runtime that calls, marks, the probe and the sampler share.

use std::mem;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::{self, Handle, RuntimeFlavor};

use crate::control::lag::Nanos;
use crate::control::lag::queue::Queue;
use crate::control::lag::readings::{Polls, Readings, STALL, Tick};
use crate::sync::lock;

/// The lag of one runtime.
pub(crate) struct RuntimeLag {
    pub(super) runtime: runtime::Id,
    number: NonZeroU64,
    pub(super) is_current_thread: bool,
    workers: usize,
    readings: Mutex<Readings>,
    /// The time of the last call, or of the last end of a handler's poll.
    progressed: AtomicU64,
    /// The end of the last stall.
    restarted: AtomicU64,
    /// The time at which the probe was sent, while it is in the injection queue; else the largest
    /// number.
    sent: AtomicU64,
    /// The same while the probe is in either queue.
    under_way: AtomicU64,
    /// The number of requests whose first poll was pending.
    pended: AtomicU64,
    /// The number of requests that wait for their first poll.
    unpolled: AtomicU64,
    /// The number of shedders that watch, and of those that are armed.
    watching: AtomicUsize,
    pub(crate) armed: AtomicUsize,
    threads: Mutex<Vec<Thread>>,
    is_closed: AtomicBool,
}

/// The values that one thread publishes. No other thread writes them, except the number of the
/// mark.
#[derive(Default)]
pub(super) struct Published {
    /// See [`Queue::newest`]; 0 is none.
    newest: AtomicU64,
    /// The time of the last call on this thread, or of the last end of a handler's poll.
    progressed: AtomicU64,
    polls: AtomicU64,
    /// The bits of sums.
    sum: AtomicU64,
    squares: AtomicU64,
    /// The number of the current mark; 0 for none.
    pub(super) mark: AtomicU64,
}

struct Thread {
    published: Arc<Published>,
    /// The polls that are already counted.
    taken: Polls,
}

const NONE: u64 = u64::MAX;

// === impl RuntimeLag ===

impl RuntimeLag {
    pub(super) fn new(on: &Handle, now: Nanos) -> Arc<Self> {
        let mut readings = Readings::default();
        readings.on_sent(now);
        Arc::new(Self {
            runtime: on.id(),
            number: next_number(),
            is_current_thread: on.runtime_flavor() == RuntimeFlavor::CurrentThread,
            workers: on.metrics().num_workers(),
            readings: Mutex::new(readings),
            progressed: AtomicU64::new(0),
            restarted: AtomicU64::new(0),
            sent: AtomicU64::new(now),
            under_way: AtomicU64::new(now),
            pended: AtomicU64::new(0),
            unpolled: AtomicU64::new(0),
            watching: AtomicUsize::new(0),
            armed: AtomicUsize::new(0),
            threads: Mutex::default(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// The number of this runtime, unique in this process.
    pub(super) fn number(&self) -> NonZeroU64 {
        self.number
    }

    pub(crate) fn runtime(&self) -> runtime::Id {
        self.runtime
    }

    /// The lag of the runtime; zero after it has ended.
    pub(crate) fn lag(&self, now: Nanos) -> Duration {
        if self.is_closed() {
            return Duration::ZERO;
        }
        let lag = lock(&self.readings).lag(now);
        Duration::from_nanos(lag.max(self.oldest(now)))
    }

    /// Notes that a call passes, or that the poll of a handler ends. This ends a stall, if there is
    /// one.
    pub(super) fn on_progress(&self, now: Nanos) {
        let gap = self.gap(now);
        self.progressed.fetch_max(now, Relaxed);
        if gap > STALL {
            let mut readings = lock(&self.readings);
            let has_stalled = readings.on_progress(now, gap, self.is_armed());
            self.publish(&readings, now, has_stalled);
        }
    }

    fn publish(&self, readings: &Readings, now: Nanos, has_stalled: bool) {
        if has_stalled {
            self.restarted.store(now, Relaxed);
        }
        let sent = readings.in_injection_queue();
        self.sent.store(sent.unwrap_or(NONE), Relaxed);
        let under_way = readings.under_way();
        self.under_way.store(under_way.unwrap_or(NONE), Relaxed);
    }

    /// The time since the last progress.
    fn gap(&self, now: Nanos) -> Nanos {
        now.saturating_sub(self.progressed.load(Relaxed))
    }

    fn is_armed(&self) -> bool {
        self.armed.load(Relaxed) > 0
    }

    /// Starts to watch. Marks go around while a shedder watches.
    pub(crate) fn watch(&self) {
        self.watching.fetch_add(1, Relaxed);
    }

    pub(crate) fn unwatch(&self) {
        self.watching.fetch_sub(1, Relaxed);
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watching.load(Relaxed) > 0
    }

    pub(crate) fn restarted(&self) -> Nanos {
        self.restarted.load(Relaxed)
    }

    /// A lower bound for the wait of a call: the age of the probe, while it is in the injection
    /// queue. For a call outside a task, which no mark measures, it is the age of the probe in
    /// either queue.
    pub(super) fn probe_age(&self, now: Nanos, in_task: bool) -> Nanos {
        let since = if in_task { &self.sent } else { &self.under_way };
        now.saturating_sub(since.load(Relaxed))
    }

    pub(crate) fn pended(&self) -> u64 {
        self.pended.load(Relaxed)
    }

    pub(super) fn on_pended(&self) {
        self.pended.fetch_add(1, Relaxed);
    }

    pub(super) fn unpolled(&self) -> u64 {
        self.unpolled.load(Relaxed)
    }

    pub(super) fn add_unpolled(&self) {
        self.unpolled.fetch_add(1, Relaxed);
    }

    pub(super) fn remove_unpolled(&self) {
        self.unpolled.fetch_sub(1, Relaxed);
    }

    pub(super) fn add_thread(&self, published: Arc<Published>) {
        let taken = Polls::default();
        lock(&self.threads).push(Thread { published, taken });
    }

    /// The age of the oldest queue. A thread without progress is blocked, and the other threads
    /// steal from its queue.
    fn oldest(&self, now: Nanos) -> Nanos {
        let restarted = self.restarted();
        let threads = lock(&self.threads);
        let ages = threads.iter().filter_map(|thread| {
            let newest = thread.published.newest.load(Relaxed);
            let progressed = thread.published.progressed.load(Relaxed);
            let age = now.saturating_sub(newest.max(restarted));
            let moves = now.saturating_sub(progressed) <= age / 2;
            (newest != 0 && moves).then_some(age)
        });
        ages.max().unwrap_or(0)
    }

    /// The polls since the last reading. It removes threads that have ended.
    fn take_polls(&self) -> Polls {
        let mut polls = Polls::default();
        lock(&self.threads).retain_mut(|thread| {
            let lives = Arc::strong_count(&thread.published) > 1;
            let all = thread.published.polls();
            let taken = mem::replace(&mut thread.taken, all);
            polls.number += all.number.saturating_sub(taken.number);
            polls.sum += all.sum - taken.sum;
            polls.squares += all.squares - taken.squares;
            lives
        });
        polls
    }

    /// Takes a reading.
    pub(super) fn on_tick(&self, now: Nanos) -> Tick {
        let tick = Tick {
            now,
            oldest: self.oldest(now),
            gap: self.gap(now),
            workers: self.workers,
            pended: self.pended(),
            ..Tick::default()
        };
        let polls = self.take_polls();
        lock(&self.readings).on_tick(tick, polls)
    }

    pub(super) fn on_sent(&self, now: Nanos) {
        let mut readings = lock(&self.readings);
        readings.on_sent(now);
        self.publish(&readings, now, false);
    }

    /// Notes that the probe is polled. Returns `true` if it goes to the back of the local queue
    /// now.
    pub(super) fn on_polled(&self, now: Nanos) -> bool {
        let mut readings = lock(&self.readings);
        if readings.is_idle() {
            return false;
        }
        let has_stalled = readings.on_polled(now, self.gap(now), self.is_armed());
        self.publish(&readings, now, has_stalled);
        !readings.is_idle()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Relaxed);
    }
}

fn next_number() -> NonZeroU64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    NonZeroU64::MIN.saturating_add(LAST.fetch_add(1, Relaxed))
}

// === impl Published ===

impl Published {
    pub(super) fn on_progress(&self, now: Nanos) {
        self.progressed.store(now, Relaxed);
    }

    pub(super) fn set_queue(&self, queue: &Queue) {
        self.newest.store(queue.newest().unwrap_or(0), Relaxed);
    }

    pub(super) fn on_poll(&self, took: Nanos) {
        let Polls {
            number,
            sum,
            squares,
        } = self.polls();
        let took = took as f64;
        self.sum.store((sum + took).to_bits(), Relaxed);
        self.squares
            .store((squares + took * took).to_bits(), Relaxed);
        self.polls.store(number + 1, Relaxed);
    }

    fn polls(&self) -> Polls {
        Polls {
            number: self.polls.load(Relaxed),
            sum: f64::from_bits(self.sum.load(Relaxed)),
            squares: f64::from_bits(self.squares.load(Relaxed)),
        }
    }
}
