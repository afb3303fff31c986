//! The probe: a task that is woken from outside the runtime and needs two polls. The time that it
//! waits for them is the lag.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime;

use super::runtime_lag::RuntimeLag;
use super::stamp;
use super::watch::Watches;
use crate::clock::{self, nanos};
use crate::control::lag::readings::Tick;
use crate::sync::lock;

/// The probe of one runtime, which its task, the sampler and the handles share.
pub(crate) struct Probe {
    lag: Arc<RuntimeLag>,
    waker: Mutex<Option<Waker>>,
    pub(super) watches: Watches,
    followers: Mutex<Followers>,
}

/// Gets the readings of a runtime, on the sampler's thread.
pub(crate) trait Follow: Send + Sync {
    /// Called for each reading. Returns `false` if the follower does not need frequent readings,
    /// for example without requests.
    fn on_tick(&self, tick: &Tick) -> bool;
    /// Called when the runtime has ended.
    fn on_closed(&self);
}

#[derive(Default)]
struct Followers {
    all: Vec<Weak<dyn Follow>>,
    closed: bool,
}

/// The resident task.
struct Resident {
    probe: Weak<Probe>,
}

// === impl Probe ===

impl Probe {
    /// Spawns the task of the probe, which also sends the first probe.
    pub(super) fn spawn(on: &runtime::Handle) -> Arc<Self> {
        let probe = Arc::new(Self {
            lag: RuntimeLag::new(on, nanos(clock::monotonic())),
            waker: Mutex::new(None),
            watches: Watches::new(),
            followers: Mutex::default(),
        });
        on.spawn(Resident {
            probe: Arc::downgrade(&probe),
        });
        probe
    }

    pub(crate) fn lag(&self) -> &Arc<RuntimeLag> {
        &self.lag
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lag.is_closed()
    }

    /// Names the series of the runtime. A second call has no effect.
    pub(crate) fn set_name(&self, name: String) {
        self.watches.reporter.set_name(name);
    }

    /// Passes every later reading to `follower`. Returns `false` if the runtime has ended.
    pub(crate) fn follow(&self, follower: Weak<dyn Follow>) -> bool {
        let mut followers = self.followers();
        if !followers.closed {
            followers.all.push(follower);
        }
        !followers.closed
    }

    /// The current lag of the runtime.
    pub(super) fn lag_now(&self) -> Duration {
        self.lag.lag(nanos(clock::monotonic()))
    }

    /// Takes a reading, reports it, and sends the probe again if it has returned. Returns the lag,
    /// and whether a follower needs frequent readings.
    pub(super) fn tick(&self, now: Duration, host_is_short: bool) -> (Duration, bool) {
        let tick = self.lag.on_tick(nanos(now));
        let found = tick.returned.map(Duration::from_nanos);
        // A stall that the shedders ignore still counts as lag here.
        let lag = Duration::from_nanos(tick.lag()).max(found.unwrap_or_default());
        let followers = self.living();
        let mut is_needed = followers.is_empty();
        for follower in &followers {
            is_needed |= follower.on_tick(&tick);
        }
        if found.is_some() {
            self.lag.on_sent(nanos(clock::monotonic()));
            self.wake();
        }
        // The code of the user comes last: a recorder that panics stops neither the probe nor the
        // law.
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
        let mut known = lock(&self.waker);
        match &mut *known {
            Some(known) => known.clone_from(waker),
            None => *known = Some(waker.clone()),
        }
        drop(known);
        if self.lag.on_polled(nanos(clock::monotonic())) {
            // A task that wakes itself while it runs goes to the back of the queue, not to the
            // worker's slot for the task that was woken last.
            waker.wake_by_ref();
        }
    }

    fn close(&self) {
        self.lag.close();
        drop(lock(&self.waker).take());
        let mut followers = self.followers();
        followers.closed = true;
        let all = mem::take(&mut followers.all);
        drop(followers);
        self.watches.close();
        for follower in all {
            if let Some(follower) = follower.upgrade() {
                follower.on_closed();
            }
        }
        // Threads that used this runtime read the next one.
        stamp::renew();
    }

    /// The live followers, which are called without the lock.
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
    /// The last handle is dropped: the resident task finds no probe, and ends.
    fn drop(&mut self) {
        self.wake();
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("runtime", &self.lag.runtime())
            .field("is_closed", &self.is_closed())
            .field("lag", &self.lag_now())
            .finish_non_exhaustive()
    }
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
