//! A task that is woken from outside and takes two polls: the time that it waits for them is the
//! lag.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime;

use super::watch::Watches;
use crate::clock;
use crate::sync::lock;

/// The probe of one runtime, which its task, the sampler and the handles share.
pub(crate) struct Probe {
    runtime: runtime::Id,
    stage: AtomicStage,
    /// How long the unfinished probe waited for its first poll; nanoseconds.
    first: AtomicU64,
    /// The lag that the last finished probe found; nanoseconds.
    last: AtomicU64,
    waker: Mutex<Option<Waker>>,
    pub(super) watches: Watches,
    followers: Mutex<Followers>,
}

/// Is notified of the progress of a probe.
pub(crate) trait Follow: Send + Sync {
    /// A reading, on the sampler's thread; `false` if the follower does not need frequent ones, as
    /// without requests.
    fn look(&self, now: Duration, is_waiting: bool) -> bool;
    /// The sampler sends a new probe.
    fn sent(&self, now: Duration);
    /// The probe is polled in the runtime, before all that is queued behind it; with `is_back`, for
    /// the second time.
    fn polled(&self, now: Duration, is_back: bool);
    /// The runtime has ended.
    fn closed(&self);
}

#[derive(Default)]
struct Followers {
    all: Vec<Weak<dyn Follow>>,
    closed: bool,
}

/// The resident task.
pub(super) struct Resident {
    probe: Weak<Probe>,
}

/// The progress of the probe, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Finished, and not sent again.
    Idle,
    /// Woken at this time, not polled yet.
    Sent(Duration),
    /// Polled at this time, and behind everything that was in the local queue then.
    Again(Duration),
    /// The runtime has ended.
    Closed,
}

struct AtomicStage(AtomicU64);

// === impl Stage ===

impl AtomicStage {
    /// The two lowest bits name the stage, the others are microseconds.
    fn word(stage: Stage) -> u64 {
        let micros = |time: Duration| (time.as_micros() as u64) << 2;
        match stage {
            Stage::Idle => 0,
            Stage::Sent(at) => micros(at) | 1,
            Stage::Again(at) => micros(at) | 2,
            Stage::Closed => 3,
        }
    }

    fn load(&self) -> Stage {
        let word = self.0.load(Ordering::Acquire);
        let at = Duration::from_micros(word >> 2);
        match word & 3 {
            0 => Stage::Idle,
            1 => Stage::Sent(at),
            2 => Stage::Again(at),
            _ => Stage::Closed,
        }
    }

    /// A closed stage does not change.
    fn store(&self, stage: Stage) {
        let word = Self::word(stage);
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                (now & 3 != 3).then_some(word)
            });
    }
}

// === impl Probe ===

impl Probe {
    /// A probe that is under way already: spawning its task sends it.
    pub(super) fn spawn(on: &runtime::Handle) -> Arc<Self> {
        let probe = Arc::new(Self {
            runtime: on.id(),
            stage: AtomicStage(AtomicU64::new(AtomicStage::word(Stage::Sent(
                clock::monotonic(),
            )))),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            waker: Mutex::new(None),
            watches: Watches::new(),
            followers: Mutex::default(),
        });
        on.spawn(Resident {
            probe: Arc::downgrade(&probe),
        });
        probe
    }

    pub(crate) fn runtime(&self) -> runtime::Id {
        self.runtime
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.stage.load() == Stage::Closed
    }

    /// Notifies `follower` of every reading from now on; `false` if the runtime has ended.
    pub(crate) fn follow(&self, follower: Weak<dyn Follow>) -> bool {
        let mut followers = self.followers();
        if !followers.closed {
            followers.all.push(follower);
        }
        !followers.closed
    }

    /// How far the runtime is behind now: the result of the last finished probe, or the age of the
    /// unfinished one, if that is longer. It is read from outside, so that it grows while all
    /// workers are blocked.
    pub(crate) fn lag(&self) -> Duration {
        self.lag_at(clock::monotonic())
    }

    fn lag_at(&self, now: Duration) -> Duration {
        let waits = match self.stage.load() {
            Stage::Idle => Duration::ZERO,
            Stage::Sent(at) => now.saturating_sub(at),
            Stage::Again(at) => nanos(&self.first).max(now.saturating_sub(at)),
            Stage::Closed => return Duration::ZERO,
        };
        nanos(&self.last).max(waits)
    }

    /// Takes a reading, reports it, and sends the probe again if it is finished. Returns the lag,
    /// and whether a follower needs frequent readings.
    pub(super) fn tick(&self, now: Duration, host_is_short: bool) -> (Duration, bool) {
        let lag = self.lag_at(now);
        let is_back = self.stage.load() == Stage::Idle;
        let found = is_back.then(|| nanos(&self.last));
        let followers = self.living();
        let mut is_needed = followers.is_empty();
        for follower in &followers {
            is_needed |= follower.look(now, !is_back);
        }
        if is_back {
            for follower in &followers {
                follower.sent(now);
            }
            self.stage.store(Stage::Sent(now));
            self.wake();
        }
        // The user's code comes last: a recorder that panics stops neither the probe nor the law.
        self.watches.look(now, lag, found, host_is_short);
        (lag, is_needed)
    }

    fn wake(&self) {
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// One poll of the resident task.
    fn polled(&self, waker: &Waker) {
        let now = clock::monotonic();
        match self.stage.load() {
            Stage::Sent(at) => {
                let mut known = lock(&self.waker);
                match &mut *known {
                    Some(known) => known.clone_from(waker),
                    None => *known = Some(waker.clone()),
                }
                drop(known);
                self.tell_polled(now, false);
                store(&self.first, now.saturating_sub(at));
                self.stage.store(Stage::Again(now));
                // A task that wakes itself while it runs goes to the back of the queue, not to the
                // worker's slot for the task that was woken last.
                waker.wake_by_ref();
            }
            Stage::Again(at) => {
                self.tell_polled(now, true);
                let waited = now.saturating_sub(at);
                store(&self.last, nanos(&self.first).max(waited));
                self.stage.store(Stage::Idle);
            }
            Stage::Idle | Stage::Closed => {}
        }
    }

    fn tell_polled(&self, now: Duration, is_back: bool) {
        for follower in self.living() {
            follower.polled(now, is_back);
        }
    }

    fn close(&self) {
        self.stage.store(Stage::Closed);
        drop(lock(&self.waker).take());
        let mut followers = self.followers();
        followers.closed = true;
        let all = mem::take(&mut followers.all);
        drop(followers);
        self.watches.close();
        for follower in all {
            if let Some(follower) = follower.upgrade() {
                follower.closed();
            }
        }
    }

    /// The live followers, to be notified without the lock.
    fn living(&self) -> Vec<Arc<dyn Follow>> {
        let mut living = Vec::new();
        self.followers().all.retain(|follower| {
            let follower = follower.upgrade();
            let lives = follower.is_some();
            living.extend(follower);
            lives
        });
        living
    }

    fn followers(&self) -> std::sync::MutexGuard<'_, Followers> {
        lock(&self.followers)
    }
}

impl Drop for Probe {
    /// The last handle is gone: the resident task finds no probe, and ends.
    fn drop(&mut self) {
        self.wake();
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("runtime", &self.runtime)
            .field("stage", &self.stage.load())
            .field("lag", &self.lag())
            .finish_non_exhaustive()
    }
}

fn nanos(of: &AtomicU64) -> Duration {
    Duration::from_nanos(of.load(Ordering::Relaxed))
}

fn store(to: &AtomicU64, time: Duration) {
    to.store(time.as_nanos() as u64, Ordering::Relaxed);
}

// === impl Resident ===

impl Future for Resident {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(probe) = self.probe.upgrade() else {
            return Poll::Ready(());
        };
        probe.polled(cx.waker());
        Poll::Pending
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        if let Some(probe) = self.probe.upgrade() {
            probe.close();
        }
    }
}
