//! What all clones of a handle share, and the way of a request through it.
//!
//! Nearly all requests take the first step alone: one load of [`Shared::word`], compared with what this thread saw last. The
//! word changes with every reading, so that each thread looks once between two readings at the runtime that it is in. That
//! finds a new runtime, tells the law that requests come through, and costs nothing per request.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::pair::{FULL, Pair, Sketch};
use super::signal::LoadSignal;
use crate::clock;
use crate::control::lag::{LagLaw, LagState, STALE};
use crate::lag_monitor::{self, Follow, Probe, lock};
use crate::observe::{self, Meter};
use crate::rejection::{Reason, Rejection};

/// As many handles as a thread keeps apart. Two that share a place and take turns look anew with every request: that costs
/// a few locks and a reference count, and changes no decision.
const SLOTS: usize = 4;

thread_local! {
    /// The word of each handle that this thread saw last.
    static SEEN: [Cell<u64>; SLOTS] = const { [const { Cell::new(0) }; SLOTS] };
    /// The law for the runtime that this thread was in then.
    static PAIRS: RefCell<[Option<Arc<Pair>>; SLOTS]> = const { RefCell::new([const { None }; SLOTS]) };
}

pub(super) struct Shared {
    /// Changes with every reading, never to a value that any handle had before. Even: no runtime sheds.
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
    pub(super) meter: Meter,
}

/// A runtime that is looked at.
struct Bound {
    pair: Arc<Pair>,
    /// Keeps the probe going.
    probe: Arc<Probe>,
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
            meter: Meter::new("lag_shed"),
        }
    }

    /// `None` admits.
    #[inline]
    pub(super) fn refuses(self: &Arc<Self>) -> Option<Rejection> {
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
            self.meter.failed_open();
            return None;
        }
        Some(self.rejection(pair.over_in()))
    }

    fn rejection(&self, over_in: Duration) -> Rejection {
        let after = over_in.max(Duration::from_secs(1));
        self.meter
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
        observe::unpanicked(|| {
            self.meter.shed(worst.shed);
            if before != worst.state {
                self.meter.lag_state(before, worst.state, worst.lag);
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
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}

/// An even number that nobody had before; 0 is what a thread has seen that has seen nothing.
fn stamp() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(2);
    NEXT.fetch_add(2, Ordering::Relaxed)
}
