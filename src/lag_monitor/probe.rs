//! The probe of a runtime: a task that is woken from outside the runtime and needs two polls. The
//! time that it waits for them is the lag.

use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::runtime::{self, Handle};

use super::stamp;
use super::watch::Watch;
use crate::clock::{self, nanos};
use crate::control::lag::Nanos;
use crate::control::lag::law::Call;
use crate::control::lag::readings::{Polls, Readings, STALL, Tick};
use crate::observe::{Reporter, Write, table};
use crate::sync::lock;
use crate::unwind;

/// The state of one runtime, which its task, its threads, the sampler and the handles share.
pub(crate) struct Probe {
    pub(crate) runtime: runtime::Id,
    workers: usize,
    waker: Mutex<Option<Waker>>,
    is_closed: AtomicBool,
    readings: Mutex<Readings>,
    threads: Mutex<Vec<Arc<Thread>>>,
    followers: Mutex<Vec<Weak<dyn Follow>>>,
    /// Hooks stay until the runtime ends, even if all handles are dropped.
    hooks: Mutex<Vec<(Arc<Watch>, Arc<Self>)>>,
    pub(super) seen: Mutex<Seen>,
    pub(crate) reporter: Reporter,
    /// A shedder is armed.
    pub(crate) is_armed: AtomicBool,
    /// The time of the last progress.
    progressed: AtomicU64,
    /// The end of the last stall.
    restarted: AtomicU64,
    /// The time at which the probe was sent, while it is in the injection queue; else the largest
    /// number.
    sent: AtomicU64,
    /// The same while the probe is in either queue.
    under_way: AtomicU64,
    /// The number of requests whose first poll was pending.
    pub(super) pended: AtomicU64,
    /// The number of requests that wait for their first poll.
    pub(super) unpolled: AtomicU64,
}

/// The values that one thread publishes for the sampler.
#[derive(Default)]
pub(super) struct Thread {
    /// The result of `Queue::newest`, as long as the thread's last mark lives; 0 is none.
    pub(super) mark: Mutex<Weak<AtomicU64>>,
    progressed: AtomicU64,
    /// The polls of handlers since the last reading: their number, nanoseconds, and squares in
    /// units of `SQUARE`, so that the squares of minutes fit.
    polls: AtomicU64,
    sum: AtomicU64,
    squares: AtomicU64,
}

/// The results of all readings so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) peak: Duration,
    pub(super) probes: u64,
    pub(super) host_is_short: bool,
    /// There was a reading before.
    is_read: bool,
}

/// Gets the readings of a runtime, on the sampler's thread.
pub(crate) trait Follow: Send + Sync {
    /// Called for each reading. Returns whether the follower is an armed shedder.
    fn on_tick(&self, tick: Tick) -> bool;
    /// Called when the runtime has ended.
    fn on_closed(&self);
}

/// What the resident task owns. Its end closes the probe.
struct Resident(Weak<Probe>);

/// Square nanoseconds: the square of a microsecond, nearly.
const SQUARE: f64 = 1_048_576.0;

/// After this time without a request, there is nothing to protect.
const IDLE: Nanos = 1_000_000_000;

// === impl Probe ===

impl Probe {
    /// Spawns the task of the probe, which also sends the first probe.
    pub(super) fn spawn(on: &Handle) -> Arc<Self> {
        let now = nanos(clock::monotonic());
        let mut readings = Readings::default();
        readings.on_sent(now);
        let probe = Arc::new(Self {
            runtime: on.id(),
            workers: on.metrics().num_workers(),
            waker: Mutex::default(),
            is_closed: AtomicBool::new(false),
            readings: Mutex::new(readings),
            threads: Mutex::default(),
            followers: Mutex::default(),
            hooks: Mutex::default(),
            seen: Mutex::default(),
            reporter: Reporter::new("lag_monitor"),
            is_armed: AtomicBool::new(false),
            progressed: AtomicU64::new(0),
            restarted: AtomicU64::new(0),
            sent: AtomicU64::new(now),
            under_way: AtomicU64::new(now),
            pended: AtomicU64::new(0),
            unpolled: AtomicU64::new(0),
        });
        let resident = Resident(Arc::downgrade(&probe));
        on.spawn(poll_fn(move |cx| match resident.0.upgrade() {
            Some(probe) => {
                probe.polled(cx.waker());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }));
        probe
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }

    /// Passes every later reading to `follower`. Returns `false` if the runtime has ended.
    pub(crate) fn follow(&self, follower: Weak<dyn Follow>) -> bool {
        let mut followers = lock(&self.followers);
        followers.push(follower);
        !self.is_closed()
    }

    pub(super) fn add_hook(self: &Arc<Self>, hook: Watch) {
        let mut hooks = lock(&self.hooks);
        if !self.is_closed() {
            hooks.push((Arc::new(hook), self.clone()));
        }
    }

    pub(super) fn lag(&self) -> Duration {
        if self.is_closed() {
            return Duration::ZERO;
        }
        let now = nanos(clock::monotonic());
        let lag = lock(&self.readings).whole_lag(now);
        Duration::from_nanos(lag.max(self.oldest(now)))
    }

    /// The facts about a call of this runtime.
    pub(super) fn call(&self, runtime: &Handle, in_task: bool, now: Nanos) -> Call {
        // No mark measures a call outside a task. It has waited as long as the probe in either
        // queue.
        let since = if in_task { &self.sent } else { &self.under_way };
        Call {
            now,
            restarted: self.restarted.load(Relaxed),
            probe_age: now.saturating_sub(since.load(Relaxed)),
            injected: runtime.metrics().global_queue_depth(),
            pended: self.pended.load(Relaxed),
            unpolled: self.unpolled.load(Relaxed),
        }
    }

    pub(super) fn add_thread(&self) -> Arc<Thread> {
        let thread = Arc::new(Thread::default());
        lock(&self.threads).push(thread.clone());
        thread
    }

    /// Notes the progress of a thread.
    pub(super) fn on_progress(&self, thread: &Thread, now: Nanos) {
        thread.progressed.store(now, Relaxed);
        let gap = self.gap(now);
        self.progressed.fetch_max(now, Relaxed);
        if gap > STALL {
            self.change(|readings| readings.on_progress(now, gap, self.is_armed.load(Relaxed)));
        }
    }

    /// Takes a reading, reports it, and sends the probe again if it has returned. Returns the lag,
    /// and whether frequent readings are needed: not if no request arrives for its shedders.
    pub(super) fn tick(&self, at: Duration, host_is_short: bool) -> (Duration, bool) {
        let now = nanos(at);
        let tick = Tick {
            now,
            oldest: self.oldest(now),
            gap: self.gap(now),
            workers: self.workers,
            pended: self.pended.load(Relaxed),
            ..Tick::default()
        };
        let tick = lock(&self.readings).on_tick(tick, self.take_polls());
        let followers = self.followers();
        let mut is_armed = false;
        for follower in &followers {
            is_armed |= follower.on_tick(tick);
        }
        self.is_armed.store(is_armed, Relaxed);
        if tick.returned.is_some() {
            self.change(|readings| readings.on_sent(nanos(clock::monotonic())));
            self.wake();
        }
        // A stall that the shedders ignore still counts as lag here.
        let lag = Duration::from_nanos(tick.whole_lag.max(tick.oldest));
        // The code of the user comes last: a recorder that panics stops neither the probe nor the
        // law.
        self.report(at, lag, tick.returned, host_is_short);
        (lag, followers.is_empty() || tick.gap < IDLE)
    }

    fn report(&self, now: Duration, lag: Duration, found: Option<Nanos>, host_is_short: bool) {
        let mut seen = lock(&self.seen);
        seen.peak = seen.peak.max(lag);
        seen.probes += u64::from(found.is_some());
        seen.host_is_short = host_is_short;
        let is_read = mem::replace(&mut seen.is_read, true);
        drop(seen);
        // The first reading may come before the probe has its name, which the series would not get.
        if is_read {
            self.show(lag);
            if let Some(found) = found {
                let series = table::LAG_PROBE.at(usize::from(host_is_short));
                let found = Write::Record(Duration::from_nanos(found).as_secs_f64());
                self.reporter.write(series, found);
            }
        }
        let hooks = lock(&self.hooks).clone();
        for (hook, _) in hooks {
            hook.look(now, lag, host_is_short);
        }
    }

    /// Shows the lag in the metrics.
    pub(super) fn show(&self, lag: Duration) {
        let lag = Write::Set(lag.as_secs_f64());
        self.reporter.write(table::LAG, lag);
    }

    /// The live followers, which are called without the lock.
    fn followers(&self) -> Vec<Arc<dyn Follow>> {
        let mut followers = lock(&self.followers);
        followers.retain(|follower| follower.strong_count() > 0);
        followers.iter().filter_map(Weak::upgrade).collect()
    }

    /// The age of the oldest queue. A thread without progress is blocked, and the other threads
    /// steal from its queue.
    fn oldest(&self, now: Nanos) -> Nanos {
        let restarted = self.restarted.load(Relaxed);
        let mut threads = lock(&self.threads);
        threads.retain(|thread| Arc::strong_count(thread) > 1);
        let ages = threads.iter().filter_map(|thread| {
            let newest = thread.newest();
            let age = now.saturating_sub(newest.max(restarted));
            let moves = now.saturating_sub(thread.progressed.load(Relaxed)) <= age / 2;
            (newest != 0 && moves).then_some(age)
        });
        ages.max().unwrap_or(0)
    }

    /// The polls since the last reading.
    fn take_polls(&self) -> Polls {
        let mut polls = Polls::default();
        for thread in lock(&self.threads).iter() {
            polls.number += thread.polls.swap(0, Relaxed);
            polls.sum += thread.sum.swap(0, Relaxed) as f64;
            polls.squares += thread.squares.swap(0, Relaxed) as f64 * SQUARE;
        }
        polls
    }

    /// The time since the last progress.
    fn gap(&self, now: Nanos) -> Nanos {
        now.saturating_sub(self.progressed.load(Relaxed))
    }

    /// Changes the readings, and publishes what calls need of them.
    fn change<T>(&self, change: impl FnOnce(&mut Readings) -> T) -> T {
        let mut readings = lock(&self.readings);
        let result = change(&mut readings);
        self.restarted.store(readings.restarted(), Relaxed);
        self.sent
            .store(readings.in_injection_queue().unwrap_or(u64::MAX), Relaxed);
        self.under_way
            .store(readings.under_way().unwrap_or(u64::MAX), Relaxed);
        result
    }

    fn wake(&self) {
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// One poll of the resident task.
    fn polled(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
        let now = nanos(clock::monotonic());
        let goes_on = self.change(|readings| {
            readings.on_polled(now, self.gap(now), self.is_armed.load(Relaxed));
            !readings.is_idle()
        });
        if goes_on {
            // A task that wakes itself while it runs goes to the back of the queue, not to the
            // worker's slot for the task that was woken last.
            waker.wake_by_ref();
        }
    }

    fn close(&self) {
        self.is_closed.store(true, Relaxed);
        drop(lock(&self.waker).take());
        // A hook may hold a monitor, and so a reference to itself.
        let hooks = mem::take(&mut *lock(&self.hooks));
        unwind::without_panics(|| drop(hooks));
        for follower in self.followers() {
            follower.on_closed();
        }
        // Threads that used this runtime read the next one.
        stamp::renew();
    }
}

impl Drop for Probe {
    /// The last handle is dropped: the resident task finds no probe, and ends.
    fn drop(&mut self) {
        self.wake();
        unwind::without_panics(|| self.show(Duration::ZERO));
    }
}

// === impl Thread ===

impl Thread {
    /// The time of the last mark; 0 without a mark.
    pub(super) fn newest(&self) -> Nanos {
        let newest = lock(&self.mark).upgrade();
        newest.map_or(0, |newest| newest.load(Relaxed))
    }

    /// A handler was polled for this time.
    pub(super) fn on_poll(&self, took: Nanos) {
        let square = (took as f64).powi(2) / SQUARE;
        self.polls.fetch_add(1, Relaxed);
        self.sum.fetch_add(took, Relaxed);
        self.squares.fetch_add(square as u64, Relaxed);
    }
}

// === impl Resident ===

impl Drop for Resident {
    fn drop(&mut self) {
        if let Some(probe) = self.0.upgrade() {
            probe.close();
        }
    }
}
