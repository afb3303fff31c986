//! What all clones of a handle share, and the way of a request through it.
//!
//! Nearly all requests take the first step alone: one load of [`Shared::word`], compared with what
//! this thread saw last. The word changes with every reading, so that each thread looks once
//! between two readings at the runtime that it is in. That finds a new runtime, notifies the law
//! that requests come through, and costs nothing per request.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, Ordering::Relaxed,
};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::{self, Handle};

use super::signal::LoadSignal;
use crate::clock::{self, nanos};
use crate::control::lag::law::{LagLaw, LagState, STALE, Verdict};
use crate::control::lag::stall::{Calls, Judge};
use crate::lag_monitor::{self, Follow, Probe};
use crate::observe::{self, Reporter};
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::sync::lock;

/// As many handles as a thread keeps apart. Two that share a slot and take turns look anew with
/// every request: that costs a few locks and a reference count, and changes no decision.
const SLOTS: usize = 4;

thread_local! {
    /// The word of each handle that this thread saw last.
    static SEEN: [Cell<u64>; SLOTS] = const { [const { Cell::new(0) }; SLOTS] };
    /// The law for the runtime that this thread was in then.
    static PAIRS: RefCell<[Option<Arc<Pair>>; SLOTS]> = const { RefCell::new([const { None }; SLOTS]) };
}

pub(super) struct Shared {
    /// Changes with every reading, never to a value that any handle had before. Even: no runtime
    /// sheds.
    word: AtomicU64,
    slot: usize,
    /// Runtimes that shed.
    shedding: Mutex<usize>,
    pub(super) minds_lag: bool,
    law: Mutex<LagLaw>,
    signals: Mutex<Vec<LoadSignal>>,
    bound: Mutex<Vec<Bound>>,
    fail_open: AtomicU64,
    /// What metrics and events say.
    told: Mutex<LagState>,
    pub(super) reporter: Reporter,
}

/// A runtime that is looked at.
struct Bound {
    pair: Arc<Pair>,
    /// Keeps the probe going.
    probe: Arc<Probe>,
}

/// Admits everything.
pub(super) const FULL: u32 = 1 << 16;

/// Without a request for this long there is nothing to protect.
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
    /// The retry time of rejected requests, in nanoseconds.
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

// === impl Shared ===

impl Shared {
    pub(super) fn new(law: LagLaw, minds_lag: bool) -> Self {
        static SLOT: AtomicUsize = AtomicUsize::new(0);
        Self {
            word: AtomicU64::new(stamp()),
            slot: SLOT.fetch_add(1, Ordering::Relaxed) % SLOTS,
            shedding: Mutex::new(0),
            minds_lag,
            law: Mutex::new(law),
            signals: Mutex::default(),
            bound: Mutex::default(),
            fail_open: AtomicU64::new(0),
            told: Mutex::default(),
            reporter: Reporter::new("lag_shed"),
        }
    }

    /// `None` admits.
    #[inline]
    pub(super) fn sheds(self: &Arc<Self>) -> Option<Rejection> {
        let word = self.word.load(Ordering::Relaxed);
        let seen = SEEN.with(|seen| seen[self.slot].get());
        if word == seen && word & 1 == 0 {
            return None;
        }
        self.look(word, word == seen)
    }

    /// Somebody sheds, or this thread has not looked at its runtime since the last reading.
    #[cold]
    fn look(self: &Arc<Self>, word: u64, is_known: bool) -> Option<Rejection> {
        PAIRS
            .try_with(|pairs| {
                let mut pairs = pairs.try_borrow_mut().ok()?;
                let pair = &mut pairs[self.slot];
                if !is_known || pair.as_ref().is_some_and(|pair| pair.refuses_elsewhere()) {
                    *pair = self.pair_here();
                    SEEN.with(|seen| seen[self.slot].set(if pair.is_some() { word } else { 0 }));
                }
                self.decide(pair.as_ref()?)
            })
            .ok()?
    }

    fn decide(&self, pair: &Pair) -> Option<Rejection> {
        let admit = pair.admit();
        if admit == FULL || fastrand::u32(..FULL) < admit {
            return None;
        }
        if clock::monotonic().saturating_sub(pair.sampled()) > STALE {
            self.fail_open.fetch_add(1, Ordering::Relaxed);
            self.reporter.failed_open();
            return None;
        }
        Some(self.rejection(pair.over_in()))
    }

    fn rejection(&self, over_in: Duration) -> Rejection {
        let after = over_in.max(Duration::from_secs(1));
        self.reporter
            .reject(Reason::Overloaded)
            .with_retry_after(after)
    }

    /// The law for the runtime that this runs in; bound now if this is the first request in it.
    fn pair_here(self: &Arc<Self>) -> Option<Arc<Pair>> {
        let runtime = Handle::try_current().ok()?;
        let pair = self.bind(&runtime)?;
        pair.called(self, clock::monotonic());
        Some(pair)
    }

    /// The law for a runtime; `None` if the runtime has ended.
    pub(super) fn bind(self: &Arc<Self>, runtime: &Handle) -> Option<Arc<Pair>> {
        let mut bound = lock(&self.bound);
        let id = runtime.id();
        if let Some(known) = bound.iter().find(|bound| bound.pair.runtime == id) {
            return Some(known.pair.clone());
        }
        let probe = lag_monitor::probe(runtime);
        let pair = Arc::new(Pair::new(self, id, clock::monotonic()));
        let follower: Weak<Pair> = Arc::downgrade(&pair);
        if !probe.follow(follower as Weak<dyn Follow>) {
            return None;
        }
        bound.push(Bound {
            pair: pair.clone(),
            probe,
        });
        Some(pair)
    }

    /// A reading was taken: every thread looks again.
    pub(super) fn published(&self, was_full: bool, is_full: bool) {
        // Together, so that the last word says what the last count was.
        let mut shedding = lock(&self.shedding);
        match (was_full, is_full) {
            (true, false) => *shedding += 1,
            (false, true) => *shedding -= 1,
            _ => {}
        }
        let stamp = stamp() | u64::from(*shedding > 0);
        self.word.store(stamp, Ordering::Relaxed);
    }

    /// The runtime of `pair` has ended; the next one is bound anew.
    pub(super) fn ended(&self, pair: &Pair, was_full: bool) {
        let mut bound = lock(&self.bound);
        let gone = bound
            .iter()
            .position(|bound| std::ptr::eq(Arc::as_ptr(&bound.pair), pair))
            .map(|at| bound.swap_remove(at));
        drop(bound);
        drop(gone);
        self.published(was_full, true);
        self.tell();
    }

    /// How the runtime does that is worst off.
    pub(super) fn worst(&self) -> Sketch {
        let mut worst = Sketch::default();
        for one in self.pairs().iter().map(|pair| pair.sketch()) {
            worst.state = worst.state.max(one.state);
            worst.lag = worst.lag.max(one.lag);
            worst.shed = worst.shed.max(one.shed);
        }
        worst
    }

    /// Tells metrics and events; the user's code in there finds nothing locked that requests need.
    pub(super) fn tell(&self) {
        let mut told = lock(&self.told);
        let worst = self.worst();
        let before = mem::replace(&mut *told, worst.state);
        observe::without_panics(|| {
            self.reporter.shed(worst.shed);
            if before != worst.state {
                self.reporter.lag_state(before, worst.state, worst.lag);
            }
        });
    }

    pub(super) fn law(&self) -> LagLaw {
        *lock(&self.law)
    }

    pub(super) fn set_law(&self, law: LagLaw) {
        *lock(&self.law) = law;
    }

    pub(super) fn add_signal(&self, signal: LoadSignal) {
        lock(&self.signals).push(signal);
    }

    /// What the highest signal says.
    pub(super) fn pressure(&self, now: Duration) -> f64 {
        let signals = lock(&self.signals).clone();
        let each = signals.iter().map(|signal| signal.pressure(now));
        each.fold(0.0, f64::max)
    }

    fn pairs(&self) -> Vec<Arc<Pair>> {
        let bound = lock(&self.bound);
        bound.iter().map(|bound| bound.pair.clone()).collect()
    }

    pub(super) fn runtimes(&self) -> usize {
        lock(&self.bound).len()
    }

    pub(super) fn fail_open(&self) -> u64 {
        self.fail_open.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = lock(&self.bound);
        let probes: Vec<_> = bound.iter().map(|bound| &bound.probe).collect();
        f.debug_struct("LagShed")
            .field("law", &self.law())
            .field("signals", &*lock(&self.signals))
            .field("probes", &probes)
            .field("reporter", &self.reporter)
            .finish_non_exhaustive()
    }
}

/// An even number that nobody had before; 0 is what a thread has seen that has seen nothing.
fn stamp() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(2);
    NEXT.fetch_add(2, Ordering::Relaxed)
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

    /// Whether this thread has gone to another runtime since it looked last, and this one's law
    /// would reject.
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
