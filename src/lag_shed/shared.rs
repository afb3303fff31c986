//! The state that all clones of a handle share, and the path of a request through it.

use std::cell::RefCell;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::binding::{Binding, Fate, Owner, Sketch};
use super::signal::LoadSignal;
use crate::clock::{self, nanos};
use crate::config::Current;
use crate::control::lag::Nanos;
use crate::control::lag::law::LagState;
use crate::control::lag::thresholds::LagThresholds;
use crate::lag_monitor::stamp::{self, Bit, Watched};
use crate::lag_monitor::{self, Follow, Probe, Worker};
use crate::observe::{self, Reporter};
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::sync::{AfterChange, lock};

thread_local! {
    /// The binding that this thread used last. A thread with several handles looks the binding up.
    static BINDING: RefCell<Option<Arc<Binding>>> = const { RefCell::new(None) };
}

pub(super) struct Shared {
    bit: Bit,
    minds_lag: bool,
    settings: Current<LagThresholds>,
    signals: Mutex<Vec<LoadSignal>>,
    bound: Mutex<Vec<Bound>>,
    is_forced: AtomicBool,
    /// Set while all requests are rejected.
    forced: Mutex<Option<Watched>>,
    fail_open: AtomicU64,
    /// The state that metrics and events show.
    reported: Mutex<Sketch>,
    reporting: AfterChange,
    pub(super) reporter: Reporter,
}

/// A runtime in which the handle is used.
struct Bound {
    binding: Arc<Binding>,
    /// Keeps the probe alive.
    probe: Arc<Probe>,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(settings: LagThresholds, minds_lag: bool) -> Self {
        Self {
            bit: Bit::new(),
            minds_lag,
            settings: Current::new(settings),
            signals: Mutex::default(),
            bound: Mutex::default(),
            is_forced: AtomicBool::new(false),
            forced: Mutex::default(),
            fail_open: AtomicU64::new(0),
            reported: Mutex::default(),
            reporting: AfterChange::new(),
            reporter: Reporter::new("lag_shed"),
        }
    }

    /// `None` admits the request.
    #[inline]
    pub(super) fn sheds(self: &Arc<Self>) -> Option<Rejection> {
        if self.bit.is_calm() {
            return None;
        }
        self.look()
    }

    /// Something is watched, or this thread has not checked its runtime since the last reading.
    #[cold]
    #[inline(never)]
    fn look(self: &Arc<Self>) -> Option<Rejection> {
        let is_first = self.bit.look();
        if self.is_forced() {
            return Some(self.reject(Duration::ZERO));
        }
        let Ok(runtime) = Handle::try_current() else {
            Bit::unsee();
            return None;
        };
        let Some(binding) = self.binding(&runtime) else {
            Bit::unsee();
            return None;
        };
        if !is_first && !binding.is_watching() {
            return None;
        }
        let worker = Worker::here(&binding.lag)?;
        let now = nanos(clock::monotonic());
        worker.on_progress(now);
        if !binding.is_watching() {
            return None;
        }
        match binding.decide(&worker, &runtime, now) {
            Fate::Admit => None,
            Fate::FailOpen => {
                self.fail_open.fetch_add(1, Relaxed);
                self.reporter.failed_open();
                None
            }
            Fate::Reject { after } => Some(self.reject(after)),
        }
    }

    fn reject(&self, after: Duration) -> Rejection {
        let after = after.max(Duration::from_secs(1));
        let rejection = self.reporter.reject(Reason::Overloaded);
        rejection.with_retry_after(after)
    }

    /// The binding for a runtime. The first request in the runtime makes it.
    fn binding(self: &Arc<Self>, runtime: &Handle) -> Option<Arc<Binding>> {
        let known = BINDING.try_with(|binding| binding.borrow().clone());
        let known = known.ok().flatten().filter(|known| known.is(self, runtime));
        if known.is_some() {
            return known;
        }
        let binding = self.bind(runtime)?;
        let _ = BINDING.try_with(|last| *last.borrow_mut() = Some(binding.clone()));
        Some(binding)
    }

    /// Starts to measure a runtime; `None` if it has ended.
    pub(super) fn bind(self: &Arc<Self>, runtime: &Handle) -> Option<Arc<Binding>> {
        let mut bound = lock(&self.bound);
        let is_of = |bound: &&Bound| bound.binding.lag.runtime() == runtime.id();
        if let Some(known) = bound.iter().find(is_of) {
            return Some(known.binding.clone());
        }
        let probe = lag_monitor::probe(runtime);
        let now = nanos(clock::monotonic());
        let owner: Weak<Self> = Arc::downgrade(self);
        let binding = Binding::new(owner as Weak<dyn Owner>, probe.lag(), self.minds_lag, now);
        let binding = Arc::new(binding);
        let follower: Weak<Binding> = Arc::downgrade(&binding);
        if !probe.follow(follower as Weak<dyn Follow>) {
            return None;
        }
        self.name(&probe);
        bound.push(Bound {
            binding: binding.clone(),
            probe,
        });
        Some(binding)
    }

    /// Names the series of its runtimes too.
    pub(super) fn set_name(&self, name: impl Into<std::borrow::Cow<'static, str>>) {
        self.reporter.set_name(name);
        for bound in lock(&self.bound).iter() {
            self.name(&bound.probe);
        }
    }

    fn name(&self, probe: &Probe) {
        let name = self.reporter.name();
        if !name.is_empty() {
            probe.set_name(name.to_owned());
        }
    }

    /// Starts or stops the rejection of all requests.
    pub(super) fn force(&self, is_forced: bool) {
        let mut forced = lock(&self.forced);
        if forced.is_some() != is_forced {
            *forced = is_forced.then(Watched::new);
            self.is_forced.store(is_forced, Relaxed);
            drop(forced);
            stamp::renew();
            self.report();
        }
    }

    fn is_forced(&self) -> bool {
        self.is_forced.load(Relaxed)
    }

    /// The state of the worst runtime.
    pub(super) fn worst(&self) -> Sketch {
        let mut worst = Sketch::default();
        for one in self.bindings().iter().map(|binding| binding.sketch()) {
            worst.state = worst.state.max(one.state);
            worst.lag = worst.lag.max(one.lag);
            worst.shed = worst.shed.max(one.shed);
        }
        if self.is_forced() {
            worst.state = LagState::Shedding;
            worst.shed = 1.0;
        }
        worst
    }

    pub(super) fn current(&self) -> &Current<LagThresholds> {
        &self.settings
    }

    pub(super) fn add_signal(&self, signal: LoadSignal) {
        lock(&self.signals).push(signal);
    }

    fn bindings(&self) -> Vec<Arc<Binding>> {
        let bound = lock(&self.bound);
        bound.iter().map(|bound| bound.binding.clone()).collect()
    }

    pub(super) fn runtimes(&self) -> usize {
        lock(&self.bound).len()
    }

    pub(super) fn fail_open(&self) -> u64 {
        self.fail_open.load(Relaxed)
    }
}

impl Owner for Shared {
    fn settings(&self) -> LagThresholds {
        self.settings.get()
    }

    fn pressure(&self, now: Nanos) -> f64 {
        let signals = lock(&self.signals).clone();
        let each = signals.iter().map(|signal| signal.pressure(now));
        each.fold(0.0, f64::max)
    }

    /// Reports the state to metrics and events. No lock that requests need is held while the user's
    /// code runs.
    fn report(&self) {
        self.reporting.run(|| {
            let worst = self.worst();
            let before = mem::replace(&mut *lock(&self.reported), worst);
            observe::without_panics(|| {
                if before.shed.to_bits() != worst.shed.to_bits() {
                    self.reporter.shed(worst.shed);
                }
                if before.state != worst.state {
                    self.reporter
                        .lag_state(before.state, worst.state, worst.lag);
                }
            });
        });
    }

    fn unbind(&self, binding: &Binding) {
        let mut bound = lock(&self.bound);
        let gone = bound
            .iter()
            .position(|bound| std::ptr::eq(Arc::as_ptr(&bound.binding), binding))
            .map(|at| bound.swap_remove(at));
        drop(bound);
        drop(gone);
        self.report();
    }
}

impl Drop for Shared {
    /// Threads keep the binding that they used last.
    fn drop(&mut self) {
        for binding in self.bindings() {
            binding.close();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = lock(&self.bound);
        let probes: Vec<_> = bound.iter().map(|bound| &bound.probe).collect();
        f.debug_struct("LagShed")
            .field("settings", &self.settings())
            .field("signals", &*lock(&self.signals))
            .field("probes", &probes)
            .field("reporter", &self.reporter)
            .finish_non_exhaustive()
    }
}
