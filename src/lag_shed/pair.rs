//! The law of one handle on one runtime.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, Weak};
use std::time::Duration;

use tokio::runtime;

use super::shared::Shared;
use crate::control::lag::{LagLaw, LagState, Verdict};
use crate::control::stall::{Calls, Judge};
use crate::lag_monitor::{Follow, lock};

/// Admits everything.
pub(super) const FULL: u32 = 1 << 16;

/// What requests and the sampler share.
pub(super) struct Pair {
    shared: Weak<Shared>,
    pub(super) runtime: runtime::Id,
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Sketch {
    pub(super) state: LagState,
    pub(super) lag: Duration,
    pub(super) shed: f64,
}

// === impl Pair ===

impl Pair {
    pub(super) fn new(shared: Weak<Shared>, runtime: runtime::Id, now: Duration) -> Self {
        Self {
            shared,
            runtime,
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
        if let Some(verdict) = ask(&mut law.judge, &constants) {
            self.publish(shared, &mut law, now, verdict);
        }
    }

    fn publish(&self, shared: &Shared, law: &mut Law, now: Duration, verdict: Verdict) {
        let refuse = (f64::from(FULL) * verdict.shed).round() as u32;
        let admit = FULL - refuse.min(FULL);
        let was_full = self.admit.swap(admit, Relaxed) == FULL;
        self.sampled.store(nanos(now), Relaxed);
        self.over_in.store(nanos(verdict.over_in), Relaxed);
        law.shed = verdict.shed;
        let before = mem::replace(&mut law.state, verdict.state);
        shared.published(was_full, admit == FULL);
        if before != verdict.state {
            shared
                .meter
                .lag_state(before, verdict.state, law.judge.lag());
        }
        shared.meter.shed(verdict.shed);
    }
}

impl Follow for Pair {
    fn look(&self, now: Duration, is_waiting: bool) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        // The user's closures run before anything is locked.
        let signal = shared.pressure(now);
        let gap = self.calls.gap(now);
        let is_waiting = is_waiting && shared.minds_lag;
        self.settle(&shared, now, |judge, constants| {
            Some(judge.look(constants, now, is_waiting, constants.lag_of(signal), gap))
        });
    }

    fn sent(&self, now: Duration) {
        lock(&self.law).judge.sent(now);
    }

    fn polled(&self, now: Duration, is_back: bool) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let gap = self.calls.gap(now);
        if shared.minds_lag {
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

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
