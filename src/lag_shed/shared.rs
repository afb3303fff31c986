//! The state that all clones of a handle share, its state in each runtime, and the path of a
//! request through them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::signal::LoadSignal;
use crate::clock::{self, nanos};
use crate::config::Current;
use crate::control::lag::Nanos;
use crate::control::lag::law::{Found, LagState, Law, STALE, Terms};
use crate::control::lag::readings::Tick;
use crate::control::lag::thresholds::LagThresholds;
use crate::lag_monitor::stamp::{self, Slot};
use crate::lag_monitor::{self, Follow, Probe, Worker};
use crate::observe::{Reporter, Write, table};
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::sync::{AfterChange, lock};
use crate::unwind;

pub(super) struct Shared {
    /// While the shedder rejects all requests, the slot makes every request check.
    slot: Slot,
    minds_lag: bool,
    pub(super) settings: Current<LagThresholds>,
    pub(super) signals: Mutex<Vec<LoadSignal>>,
    bound: Mutex<Vec<Arc<Binding>>>,
    fail_open: AtomicU64,
    /// The state and the share that metrics and events show.
    reported: Mutex<(LagState, f64)>,
    reporting: AfterChange,
    pub(super) reporter: Reporter,
}

/// The handle in one runtime.
pub(super) struct Binding {
    owner: Weak<Shared>,
    probe: Arc<Probe>,
    state: Mutex<State>,
    /// Whether each call needs a decision.
    decides: AtomicBool,
    /// The number of changes of the terms.
    version: AtomicU64,
    // What calls have found since the last reading.
    has_rejected: AtomicBool,
    was_half_full: AtomicBool,
    decided: AtomicU64,
    rejected: AtomicU64,
}

/// The state of a [`LagShed`](crate::LagShed) at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LagShedSnapshot {
    /// The worst state of any runtime.
    pub state: LagState,
    /// The longest lag of any runtime at the last reading. A stall that has ended does not count.
    /// Zero for a shedder that is made from a load signal alone.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub lag: Duration,
    /// The largest share of requests that was rejected in any runtime between the last two
    /// readings, `0.0..=1.0`. It is at least the share for load signals.
    pub shed: f64,
    /// The value of each [`LoadSignal`] at its last reading, by its name: the share of the requests
    /// that it asks to reject, `0.0..=1.0`. Of several signals with one name, it is the highest.
    pub signals: BTreeMap<Cow<'static, str>, f64>,
    /// The number of runtimes that are measured.
    pub runtimes: usize,
    /// The number of requests rejected so far.
    pub rejected: u64,
    /// The number of requests so far that a layer in dry run would have rejected.
    pub would_reject: u64,
    /// The number of requests that were admitted only because the last reading was too old.
    pub fail_open: u64,
}

#[derive(Default)]
struct State {
    law: Law,
    lag: Nanos,
    /// The share of the requests that was rejected.
    shed: f64,
}

/// A binding and a version of its terms.
#[derive(Default)]
struct Last {
    binding: Weak<Binding>,
    version: u64,
    terms: Terms,
}

thread_local! {
    /// The binding that this thread used last. A thread with several handles looks it up.
    static LAST: RefCell<Last> = RefCell::default();
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(settings: LagThresholds, minds_lag: bool) -> Self {
        Self {
            slot: Slot::new(),
            minds_lag,
            settings: Current::new(settings),
            signals: Mutex::default(),
            bound: Mutex::default(),
            fail_open: AtomicU64::new(0),
            reported: Mutex::default(),
            reporting: AfterChange::new(),
            reporter: Reporter::new("lag_shed"),
        }
    }

    /// `None` admits the request.
    #[inline]
    pub(super) fn sheds(self: &Arc<Self>) -> Option<Rejection> {
        if self.slot.is_calm() {
            return None;
        }
        self.look()
    }

    /// Something is watched, or this thread has not checked its runtime since the last reading.
    #[cold]
    #[inline(never)]
    fn look(self: &Arc<Self>) -> Option<Rejection> {
        let is_first = self.slot.look();
        let runtime = Handle::try_current().ok();
        let here = runtime.and_then(|runtime| Some((self.binding(&runtime)?, runtime)));
        if here.is_none() {
            self.slot.unsee();
        }
        // This comes after the binding, so that the runtime is measured when the drill is over.
        if self.slot.checks_all() {
            return Some(self.reject(0));
        }
        let (binding, runtime) = here?;
        let decides = binding.decides.load(Relaxed);
        if !is_first && !decides {
            return None;
        }
        let worker = Worker::here(&binding.probe)?;
        let now = nanos(clock::monotonic());
        worker.on_call(&binding.probe, now);
        let terms = decides.then(|| binding.terms())?;
        if !binding.rejects(&worker, &runtime, &terms, now) {
            return None;
        }
        let is_stale = |read| now.saturating_sub(read) > STALE;
        if terms.read.is_none_or(is_stale) {
            self.fail_open.fetch_add(1, Relaxed);
            self.reporter.write(table::LAG_FAIL_OPEN, Write::Count);
            return None;
        }
        binding.rejected.fetch_add(1, Relaxed);
        Some(self.reject(terms.retry_after))
    }

    fn reject(&self, after: Nanos) -> Rejection {
        let after = Duration::from_nanos(after).max(Duration::from_secs(1));
        let rejection = self.reporter.reject(Reason::Overloaded);
        rejection.with_retry_after(after)
    }

    /// The binding for a runtime. The first request in the runtime makes it.
    fn binding(self: &Arc<Self>, runtime: &Handle) -> Option<Arc<Binding>> {
        let known = LAST.try_with(|last| last.borrow().binding.upgrade()).ok()?;
        let known = known.filter(|known| known.is(self, runtime));
        known.or_else(|| {
            let binding = self.bind(runtime)?;
            let last = Last {
                binding: Arc::downgrade(&binding),
                ..Last::default()
            };
            LAST.set(last);
            Some(binding)
        })
    }

    /// Starts to measure a runtime; `None` if it has ended.
    pub(super) fn bind(self: &Arc<Self>, runtime: &Handle) -> Option<Arc<Binding>> {
        let known = |bound: &[Arc<Binding>]| {
            let mut bound = bound.iter();
            bound.find(|binding| binding.is(self, runtime)).cloned()
        };
        if let Some(known) = known(&lock(&self.bound)) {
            return Some(known);
        }
        // It may report that no thread starts, so the lock must not be held.
        let probe = lag_monitor::probe(runtime);
        let mut bound = lock(&self.bound);
        if let Some(known) = known(&bound) {
            return Some(known);
        }
        let binding = Arc::new(Binding {
            owner: Arc::downgrade(self),
            probe,
            state: Mutex::default(),
            decides: AtomicBool::new(false),
            version: AtomicU64::new(0),
            has_rejected: AtomicBool::new(false),
            was_half_full: AtomicBool::new(false),
            decided: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        });
        self.name(&binding.probe);
        let follower: Weak<Binding> = Arc::downgrade(&binding);
        if !binding.probe.follow(follower) {
            drop(bound); // the end of a probe calls the recorder
            return None;
        }
        bound.push(binding.clone());
        Some(binding)
    }

    pub(super) fn set_name(&self, name: Cow<'static, str>) {
        self.reporter.set_name(name);
        for binding in lock(&self.bound).iter() {
            self.name(&binding.probe);
        }
    }

    fn name(&self, probe: &Probe) {
        let name = self.reporter.name();
        if !name.is_empty() {
            probe.reporter.set_name(name.to_owned());
        }
    }

    pub(super) fn force(&self, is_forced: bool) {
        self.slot.check_all(is_forced);
        self.report();
    }

    pub(super) fn snapshot(&self) -> LagShedSnapshot {
        let bound = lock(&self.bound).clone();
        let mut worst = LagShedSnapshot {
            state: LagState::Normal,
            lag: Duration::ZERO,
            shed: 0.0,
            signals: BTreeMap::new(),
            runtimes: bound.len(),
            rejected: self.reporter.rejected(),
            would_reject: self.reporter.would_reject(),
            fail_open: self.fail_open.load(Relaxed),
        };
        for signal in &*lock(&self.signals) {
            let highest = worst.signals.entry(signal.name().into()).or_default();
            *highest = highest.max(signal.value()).min(1.0);
        }
        for binding in &bound {
            let one = lock(&binding.state);
            worst.state = worst.state.max(one.law.state());
            worst.lag = worst.lag.max(Duration::from_nanos(one.lag));
            worst.shed = worst.shed.max(one.shed);
        }
        if self.slot.checks_all() {
            (worst.state, worst.shed) = (LagState::Shedding, 1.0);
        }
        worst
    }

    pub(super) fn register(&self) {
        let state = || lock(&self.reported).0 as usize;
        self.reporter.state_seen(table::LAG_STATE, state);
    }

    /// Reports the state to metrics and events. No lock that requests need is held while the user's
    /// code runs.
    fn report(&self) {
        self.reporting.run(|| {
            let now = self.snapshot();
            let before = mem::replace(&mut *lock(&self.reported), (now.state, now.shed));
            unwind::without_panics(|| {
                // A shedder with this name that is dropped sets the gauge to 0.
                if now.shed != 0.0 || before.1 != 0.0 {
                    self.reporter.show_setting(table::LAG_SHED, now.shed);
                }
                if before.0 != now.state {
                    self.reporter.lag_state(before.0, now.state, now.lag);
                }
            });
        });
    }

    /// The highest load signal.
    fn pressure(&self, now: Nanos) -> f64 {
        let signals = lock(&self.signals).clone();
        let each = signals.iter().map(|signal| signal.pressure(now));
        each.fold(0.0, f64::max)
    }
}

impl Drop for Shared {
    /// No gauge keeps the state of a shedder that is gone.
    fn drop(&mut self) {
        let (_, shed) = *lock(&self.reported);
        unwind::without_panics(|| {
            self.reporter.state_gone(table::LAG_STATE);
            if shed != 0.0 {
                self.reporter.show_setting(table::LAG_SHED, 0.0);
            }
        });
    }
}

// === impl Binding ===

impl Binding {
    fn is(&self, owner: &Arc<Shared>, runtime: &Handle) -> bool {
        std::ptr::eq(self.owner.as_ptr(), Arc::as_ptr(owner)) && self.probe.runtime == runtime.id()
    }

    /// Decides about a call on this thread.
    fn rejects(&self, worker: &Worker, runtime: &Handle, terms: &Terms, now: Nanos) -> bool {
        self.decided.fetch_add(1, Relaxed);
        let is_shared = terms.share > 0.0 && fastrand::f64() < terms.share;
        if !terms.is_watching {
            return is_shared;
        }
        let decision = worker.decide(&self.probe, runtime, terms, now);
        if decision.arms {
            self.arm();
        }
        if decision.was_half_full {
            set(&self.was_half_full);
        }
        if decision.keeps_armed {
            set(&self.has_rejected);
        }
        is_shared || decision.is_rejected
    }

    /// The terms of this binding, which is the last of this thread. Only a change takes the lock.
    fn terms(&self) -> Terms {
        LAST.with_borrow_mut(|last| {
            let version = self.version.load(Relaxed);
            if last.version != version {
                (last.version, last.terms) = (version, lock(&self.state).law.terms());
            }
            last.terms
        })
    }

    /// Arms the law for the calls of all threads.
    #[cold]
    fn arm(&self) {
        lock(&self.state).law.on_armed();
        self.version.fetch_add(1, Relaxed);
        self.probe.is_armed.store(true, Relaxed);
    }
}

impl Follow for Binding {
    fn on_tick(&self, mut tick: Tick) -> bool {
        let Some(owner) = self.owner.upgrade() else {
            return false;
        };
        // Calls the closures of the user before anything is locked.
        let found = Found {
            pressure: owner.pressure(tick.now),
            has_rejected: self.has_rejected.swap(false, Relaxed),
            was_half_full: self.was_half_full.swap(false, Relaxed),
        };
        let rejected = self.rejected.swap(0, Relaxed) as f64;
        let decided = self.decided.swap(0, Relaxed).max(1) as f64;
        if !owner.minds_lag {
            (tick.probe_lag, tick.oldest) = (0, 0);
        }
        let thresholds = owner.settings.get();
        let mut state = lock(&self.state);
        let terms = state.law.on_tick(&thresholds, &tick, found);
        state.lag = tick.lag();
        state.shed = (rejected / decided).min(1.0).max(terms.share);
        self.decides.store(terms.decides(), Relaxed);
        self.version.fetch_add(1, Relaxed);
        if terms.decides() {
            stamp::watch();
        }
        drop(state);
        owner.report();
        terms.is_armed
    }

    fn on_closed(&self) {
        if let Some(owner) = self.owner.upgrade() {
            // The caller still holds this binding, so that none is dropped under the lock.
            lock(&owner.bound).retain(|binding| !std::ptr::eq(Arc::as_ptr(binding), self));
            owner.report();
        }
    }
}

/// A flag that is set is not written again, so that the threads share its cache line.
fn set(flag: &AtomicBool) {
    if !flag.load(Relaxed) {
        flag.store(true, Relaxed);
    }
}
