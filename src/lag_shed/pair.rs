//! The law of one handle on one runtime.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::{self, Handle};

use super::shared::Shared;
use crate::clock::nanos;
use crate::control::lag::{LagLaw, LagState, Verdict};
use crate::control::stall::{Calls, Judge};
use crate::lag_monitor::{Follow, lock};

/// Admits everything.
pub(super) const FULL: u32 = 1 << 16;

/// Without a request for this long there is nobody to protect.
const IDLE: Duration = Duration::from_secs(1);

/// What requests and the sampler share.
pub(super) struct Pair {
    shared: Weak<Shared>,
    pub(super) runtime: runtime::Id,
    /// Whether the lag counts, and not its signals alone.
    minds_lag: bool,
    /// The share of requests to admit, of [`FULL`].
    admit: AtomicU32,
    /// When the share was found; nanoseconds.
    sampled: AtomicU64,
    /// What is told to those who are refused; nanoseconds.
    over_in: AtomicU64,
    calls: Calls,
    law: Mutex<Law>,
    is_closed: AtomicBool,
}

#[derive(Default)]
struct Law {
    judge: Judge,
    state: LagState,
    shed: f64,
}

/// What can be said about it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sketch {
    pub(super) state: LagState,
    pub(super) lag: Duration,
    pub(super) shed: f64,
}

// === impl Pair ===

impl Pair {
    pub(super) fn new(shared: &Arc<Shared>, runtime: runtime::Id, now: Duration) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            runtime,
            minds_lag: shared.minds_lag,
            admit: AtomicU32::new(FULL),
            sampled: AtomicU64::new(nanos(now)),
            over_in: AtomicU64::new(0),
            calls: Calls::default(),
            law: Mutex::new(Law {
                judge: Judge::new(now),
                ..Law::default()
            }),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn admit(&self) -> u32 {
        self.admit.load(Relaxed)
    }

    /// Whether this thread has gone to another runtime since it looked last, and this one's law would refuse.
    pub(super) fn refuses_elsewhere(&self) -> bool {
        let is_here = || Handle::try_current().is_ok_and(|here| here.id() == self.runtime);
        self.admit() != FULL && !is_here()
    }

    pub(super) fn sampled(&self) -> Duration {
        Duration::from_nanos(self.sampled.load(Relaxed))
    }

    pub(super) fn over_in(&self) -> Duration {
        Duration::from_nanos(self.over_in.load(Relaxed))
    }

    /// A request comes through.
    pub(super) fn called(&self, shared: &Shared, now: Duration) {
        let gap = self.calls.called(now);
        self.settle(shared, now, |judge, constants| {
            judge.called(constants, now, gap)
        });
    }

    pub(super) fn sketch(&self) -> Sketch {
        let law = lock(&self.law);
        Sketch {
            state: law.state,
            lag: law.judge.lag(),
            shed: law.shed,
        }
    }

    /// Asks the law and publishes what it says, unless the runtime has ended.
    fn settle(
        &self,
        shared: &Shared,
        now: Duration,
        ask: impl FnOnce(&mut Judge, &LagLaw) -> Option<Verdict>,
    ) {
        let constants = shared.law();
        let mut law = lock(&self.law);
        if self.is_closed.load(Relaxed) {
            return;
        }
        let Some(verdict) = ask(&mut law.judge, &constants) else {
            return;
        };
        law.state = verdict.state;
        law.shed = verdict.shed;
        let refuse = (f64::from(FULL) * verdict.shed).round() as u32;
        let admit = FULL - refuse.min(FULL);
        let was_full = self.admit.swap(admit, Relaxed) == FULL;
        self.sampled.store(nanos(now), Relaxed);
        self.over_in.store(nanos(verdict.over_in), Relaxed);
        shared.published(was_full, admit == FULL);
    }
}

impl Follow for Pair {
    fn look(&self, now: Duration, is_waiting: bool) -> bool {
        let Some(shared) = self.shared.upgrade() else {
            return false;
        };
        // The user's closures run before anything is locked.
        let signal = shared.pressure(now);
        let gap = self.calls.gap(now);
        let is_waiting = is_waiting && self.minds_lag;
        self.settle(&shared, now, |judge, constants| {
            Some(judge.look(constants, now, is_waiting, constants.lag_of(signal), gap))
        });
        shared.tell();
        gap < IDLE
    }

    fn sent(&self, now: Duration) {
        if self.minds_lag {
            lock(&self.law).judge.sent(now);
        }
    }

    fn polled(&self, now: Duration, is_back: bool) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let gap = self.calls.gap(now);
        if self.minds_lag {
            self.settle(&shared, now, |judge, constants| {
                judge.polled(constants, now, gap, is_back)
            });
        }
    }

    fn closed(&self) {
        let law = lock(&self.law);
        self.is_closed.store(true, Relaxed);
        let was_full = self.admit.swap(FULL, Relaxed) == FULL;
        drop(law);
        if let Some(shared) = self.shared.upgrade() {
            shared.ended(self, was_full);
        }
    }
}
