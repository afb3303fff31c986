//! The shedder of one runtime: the law behind a lock, and the terms that calls read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::control::lag::Nanos;
use crate::control::lag::law::{Found, LagState, Law, STALE, Terms};
use crate::control::lag::readings::Tick;
use crate::control::lag::thresholds::LagThresholds;
use crate::lag_monitor::stamp::{self, Watched};
use crate::lag_monitor::{self, Follow, RuntimeLag, Worker};
use crate::sync::lock;

/// After this time without a request, there is nothing to protect.
const IDLE: Nanos = 1_000_000_000;

/// The handle of bindings, as a reading uses it.
pub(super) trait Owner: Send + Sync {
    fn settings(&self) -> LagThresholds;
    /// The highest load signal.
    fn pressure(&self, now: Nanos) -> f64;
    /// Called when a reading has changed the state of a binding.
    fn report(&self);
    /// Called when the runtime of a binding has ended.
    fn unbind(&self, binding: &Binding);
}

/// The state that requests and the sampler share.
pub(super) struct Binding {
    owner: Weak<dyn Owner>,
    pub(super) lag: Arc<RuntimeLag>,
    /// Whether the lag counts, or only the signals.
    minds_lag: bool,
    terms: AtomicTerms,
    /// The time at which the terms were made.
    read: AtomicU64,
    /// The retry time of a rejected client, in nanoseconds.
    retry_after: AtomicU64,
    has_rejected: AtomicBool,
    was_half_full: AtomicBool,
    /// The number of decisions while the shedder watches, and of rejections among them.
    decided: AtomicU64,
    rejected: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    law: Law,
    sketch: Sketch,
    /// The decisions and rejections at the last reading.
    counted: (u64, u64),
    watched: Option<Watched>,
    is_closed: bool,
}

/// The state for reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sketch {
    pub(super) state: LagState,
    pub(super) lag: Duration,
    pub(super) shed: f64,
}

/// The decision about a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Admit,
    /// The last reading is too old for a rejection.
    FailOpen,
    Reject {
        after: Duration,
    },
}

/// Each field may be of another reading: any mixture of two readings is valid.
struct AtomicTerms {
    flags: AtomicU64,
    bound: AtomicU64,
    arm: AtomicU64,
    most_pended: AtomicU64,
    workers: AtomicU64,
    interval: AtomicU64,
    share: AtomicU64,
}

// === impl Binding ===

impl Binding {
    pub(super) fn new(
        owner: Weak<dyn Owner>,
        lag: &Arc<RuntimeLag>,
        minds_lag: bool,
        now: Nanos,
    ) -> Self {
        Self {
            owner,
            lag: lag.clone(),
            minds_lag,
            terms: AtomicTerms::new(),
            read: AtomicU64::new(now),
            retry_after: AtomicU64::new(0),
            has_rejected: AtomicBool::new(false),
            was_half_full: AtomicBool::new(false),
            decided: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            inner: Mutex::default(),
        }
    }

    /// Returns whether the binding is that of this handle in this runtime.
    pub(super) fn is<O>(&self, owner: &Arc<O>, runtime: &Handle) -> bool {
        std::ptr::addr_eq(self.owner.as_ptr(), Arc::as_ptr(owner))
            && self.lag.runtime() == runtime.id()
    }

    /// Returns whether each call needs a decision.
    pub(super) fn is_watching(&self) -> bool {
        self.terms.flags.load(Relaxed) & (AtomicTerms::WATCHING | AtomicTerms::SHARE) != 0
    }

    /// Decides about a call on this thread while the shedder watches.
    pub(super) fn decide(&self, worker: &Worker, runtime: &Handle, now: Nanos) -> Fate {
        let read = self.read.load(Relaxed);
        let terms = self.terms.load(read);
        let mut is_rejected = terms.share > 0.0 && fastrand::f64() < terms.share;
        let mut keeps_armed = false;
        if terms.is_watching {
            let decision = lag_monitor::decide(worker, runtime, &terms, now);
            if decision.arms {
                self.arm();
            }
            if decision.was_half_full {
                set(&self.was_half_full);
            }
            is_rejected |= decision.is_rejected;
            keeps_armed = decision.keeps_armed;
        }
        self.decided.fetch_add(1, Relaxed);
        if !is_rejected {
            return Fate::Admit;
        }
        if now.saturating_sub(read) > STALE {
            return Fate::FailOpen;
        }
        if keeps_armed {
            set(&self.has_rejected);
        }
        self.rejected.fetch_add(1, Relaxed);
        let after = Duration::from_nanos(self.retry_after.load(Relaxed));
        Fate::Reject { after }
    }

    #[cold]
    fn arm(&self) {
        let mut inner = lock(&self.inner);
        if !inner.is_closed && !self.terms.is_armed() {
            inner.law.on_armed();
            self.publish(inner.law.terms());
            inner.sketch.state = inner.law.state();
        }
    }

    /// Called under the lock of the law.
    fn publish(&self, terms: Terms) {
        match (self.terms.is_armed(), terms.is_armed) {
            (false, true) => _ = self.lag.armed.fetch_add(1, Relaxed),
            (true, false) => _ = self.lag.armed.fetch_sub(1, Relaxed),
            _ => {}
        }
        match (self.terms.is_watching(), terms.is_watching) {
            (false, true) => self.lag.watch(),
            (true, false) => self.lag.unwatch(),
            _ => {}
        }
        self.terms.store(&terms);
    }

    pub(super) fn sketch(&self) -> Sketch {
        lock(&self.inner).sketch
    }

    /// Stops all decisions.
    pub(super) fn close(&self) {
        let mut inner = lock(&self.inner);
        if inner.is_closed {
            return;
        }
        *inner = Inner {
            is_closed: true,
            ..Inner::default()
        };
        self.publish(Terms::default());
    }

    /// The share of rejections among the decisions since the last reading.
    fn count(&self, inner: &mut Inner) -> f64 {
        let now = (self.decided.load(Relaxed), self.rejected.load(Relaxed));
        let before = std::mem::replace(&mut inner.counted, now);
        let decided = now.0.saturating_sub(before.0).max(1);
        let rejected = now.1.saturating_sub(before.1);
        (rejected as f64 / decided as f64).min(1.0)
    }
}

impl Follow for Binding {
    fn on_tick(&self, tick: &Tick) -> bool {
        let Some(owner) = self.owner.upgrade() else {
            return false;
        };
        // Calls the closures of the user before anything is locked.
        let found = Found {
            pressure: owner.pressure(tick.now),
            has_rejected: self.has_rejected.swap(false, Relaxed),
            was_half_full: self.was_half_full.swap(false, Relaxed),
        };
        let thresholds = owner.settings();
        let mut inner = lock(&self.inner);
        if inner.is_closed {
            return false;
        }
        let mut seen = *tick;
        if !self.minds_lag {
            (seen.probe_lag, seen.oldest) = (0, 0);
        }
        let terms = inner.law.on_tick(&thresholds, &seen, found);
        self.retry_after.store(terms.retry_after, Relaxed);
        self.publish(terms);
        self.read.store(tick.now, Relaxed);
        let is_watching = terms.decides();
        if is_watching != inner.watched.is_some() {
            inner.watched = is_watching.then(Watched::new);
            stamp::renew();
        }
        let shed = self.count(&mut inner).max(terms.share);
        inner.sketch = Sketch {
            state: inner.law.state(),
            lag: Duration::from_nanos(seen.lag()),
            shed,
        };
        drop(inner);
        owner.report();
        tick.gap < IDLE
    }

    fn on_closed(&self) {
        self.close();
        if let Some(owner) = self.owner.upgrade() {
            owner.unbind(self);
        }
    }
}

fn set(flag: &AtomicBool) {
    if !flag.load(Relaxed) {
        flag.store(true, Relaxed);
    }
}

// === impl AtomicTerms ===

impl AtomicTerms {
    const WATCHING: u64 = 1;
    const ARMED: u64 = 1 << 1;
    const CALM: u64 = 1 << 2;
    /// A load signal sheds.
    const SHARE: u64 = 1 << 3;

    fn new() -> Self {
        let this = Self {
            flags: AtomicU64::new(0),
            bound: AtomicU64::new(0),
            arm: AtomicU64::new(0),
            most_pended: AtomicU64::new(0),
            workers: AtomicU64::new(0),
            interval: AtomicU64::new(0),
            share: AtomicU64::new(0),
        };
        this.store(&Terms::default());
        this
    }

    fn store(&self, terms: &Terms) {
        let flag = |is: bool, flag: u64| if is { flag } else { 0 };
        self.bound.store(terms.bound, Relaxed);
        self.arm.store(terms.arm, Relaxed);
        self.most_pended.store(terms.most_pended, Relaxed);
        self.workers.store(terms.workers as u64, Relaxed);
        self.interval.store(terms.interval, Relaxed);
        self.share.store(terms.share.to_bits(), Relaxed);
        let flags = flag(terms.is_watching, Self::WATCHING)
            | flag(terms.is_armed, Self::ARMED)
            | flag(terms.is_calm, Self::CALM)
            | flag(terms.share > 0.0, Self::SHARE);
        self.flags.store(flags, Relaxed);
    }

    /// The terms as of the reading at this time.
    fn load(&self, read: Nanos) -> Terms {
        let flags = self.flags.load(Relaxed);
        Terms {
            is_watching: flags & Self::WATCHING != 0,
            is_armed: flags & Self::ARMED != 0,
            bound: self.bound.load(Relaxed),
            arm: self.arm.load(Relaxed),
            read: Some(read),
            is_calm: flags & Self::CALM != 0,
            most_pended: self.most_pended.load(Relaxed),
            workers: self.workers.load(Relaxed) as usize,
            interval: self.interval.load(Relaxed),
            share: f64::from_bits(self.share.load(Relaxed)),
            retry_after: 0,
        }
    }

    fn is_armed(&self) -> bool {
        self.flags.load(Relaxed) & Self::ARMED != 0
    }

    fn is_watching(&self) -> bool {
        self.flags.load(Relaxed) & Self::WATCHING != 0
    }
}
