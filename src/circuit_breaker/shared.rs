//! What all clones of a handle share, and what an admitted call carries.

use std::borrow::Borrow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::settings::Settings;
use super::{CircuitBreaker, CircuitState, Transition};
use crate::clock::{self, Grains, nanos};
use crate::control::breaker::{Breaker, Entry, Refusal};
use crate::control::circuit::{Exceeded, Mode, Word};
use crate::control::window::Sample;
use crate::observe::{self, Meter};
use crate::policy::{Interest, Outcome, Ticket};
use crate::rejection::{Reason, Rejection};

const MILLI: Duration = Duration::from_millis(1);

type Hook = Arc<dyn Fn(&Transition) + Send + Sync>;

pub(super) struct Shared {
    pub(super) breaker: Breaker,
    pub(super) settings: Settings,
    pub(super) meter: Meter,
    /// Where the nanoseconds of the breaker begin.
    origin: Instant,
    /// The slices of its window, if that is one of time.
    slices: Grains,
    /// Since the origin.
    millis: Grains,
    hooks: RwLock<Vec<Hook>>,
    /// Whoever waits for an open breaker in `poll_ready`.
    pub(super) changed: Arc<Notify>,
    pub(super) cancelled: AtomicU64,
    pub(super) panicked: AtomicU64,
}

/// What a call carries that a [`CircuitBreaker`](super::CircuitBreaker) admitted.
///
/// Dropped without an outcome, it was no call: a probe gives its place back and nothing is counted.
pub struct Pass<B: Borrow<CircuitBreaker> = CircuitBreaker> {
    handle: B,
    word: Word,
    /// Nanoseconds: when it began, and from the response head on how long it took.
    time: u64,
    stage: Stage,
}

/// The state in which a call passed, and whether the breaker knows that its response has begun.
type Way = (Word, bool);

/// As wide as the rest of a pass, so that it is moved in whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Stage {
    Called,
    /// How long it took is known.
    Measured,
    /// The same, and the breaker knows that the response of this probe has begun.
    Begun,
    Settled,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(settings: Settings, meter: Meter) -> Self {
        let window = settings.make_window();
        let slice = window.slice().map_or(Duration::MAX, Duration::from_nanos);
        let origin = clock::now();
        Self {
            breaker: Breaker::new(window, settings.is_timed(), 0),
            settings,
            meter,
            origin,
            slices: Grains::new(origin, slice),
            millis: Grains::new(origin, MILLI),
            hooks: RwLock::default(),
            changed: Arc::default(),
            cancelled: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
        }
    }

    pub(super) fn now(&self) -> u64 {
        nanos(clock::now().saturating_duration_since(self.origin))
    }

    /// How it refuses while it is open and will be for a while. The time that it says is right to a millisecond.
    #[inline]
    fn refuses(&self) -> Option<Refusal> {
        let grain = nanos(MILLI);
        let about = || self.millis.count() * grain;
        self.breaker.refuses(about, grain)
    }

    fn refuse(&self, refusal: Refusal) -> Rejection {
        /// The probes that are out decide within a call's time, which nobody knows; it is not worth coming back earlier.
        const SOON: Duration = Duration::from_secs(1);
        self.meter.circuit_seen(|| self.mode());
        let rejection = self.meter.reject(Reason::CircuitOpen);
        match refusal {
            Refusal::Open(nanos) => rejection.with_retry_after(Duration::from_nanos(nanos)),
            Refusal::HalfOpen(nanos) => {
                rejection.with_retry_after(Duration::from_nanos(nanos).min(SOON))
            }
            Refusal::ForcedOpen => rejection,
        }
    }

    fn mode(&self) -> Mode {
        self.breaker.look(self.now(), &self.settings).mode
    }

    pub(super) fn hook(&self, hook: Hook) {
        self.hooks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(hook);
    }

    /// Tells everybody what has changed, if anything has: one at a time, in order, outside any lock. Somebody's panic goes no further, as
    /// most changes are found where a call is dropped.
    pub(super) fn tell(&self) {
        self.breaker.tell(|change| {
            self.changed.notify_waiters();
            observe::unpanicked(|| self.meter.circuit_changed(&change));
            let transition = Transition::new(change);
            let hooks = self
                .hooks
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            for hook in hooks {
                observe::unpanicked(|| hook(&transition));
            }
        });
    }

    fn is_slow(&self, took: Option<u64>) -> bool {
        took.is_some_and(|took| took > self.settings.slow_call())
    }

    /// A call came back; `took` is `None` where nobody measured.
    pub(super) fn record(&self, way: Option<Way>, outcome: Outcome, took: Option<u64>) {
        let slow = self.is_slow(took);
        let failed = match outcome {
            Outcome::Success => false,
            Outcome::Failure => true,
            Outcome::Panicked => {
                self.panicked.fetch_add(1, Relaxed);
                true
            }
            Outcome::Cancelled => {
                self.cancelled.fetch_add(1, Relaxed);
                if !slow {
                    return self.release(way, outcome);
                }
                true
            }
            Outcome::Ignored => return self.release(way, outcome),
        };
        let sample = Sample {
            failed,
            slow,
            took: took.map_or(0, |took| (took / 1000).max(1)),
        };
        let (breaker, settings) = (&self.breaker, &self.settings);
        let reached = match way {
            Some((word, has_head)) => {
                breaker.record(word, has_head, || self.now(), sample, settings)
            }
            None => breaker.record_unasked(|| self.now(), sample, settings),
        };
        if reached != Exceeded::default() {
            self.meter.circuit_reached(reached);
        }
        self.meter.circuit_outcome(outcome);
    }

    #[cold]
    fn release(&self, way: Option<Way>, outcome: Outcome) {
        self.breaker.ignore();
        if let Some(way) = way {
            self.give_back(way);
        }
        self.meter.circuit_outcome(outcome);
    }

    #[cold]
    fn give_back(&self, (word, has_head): Way) {
        let (breaker, settings) = (&self.breaker, &self.settings);
        if breaker.give_back(word, has_head, || self.now(), settings) {
            self.changed.notify_waiters();
        }
        self.tell();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        observe::unpanicked(|| self.meter.circuit_gone());
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let look = self.breaker.look(self.now(), &self.settings);
        f.debug_struct("CircuitBreaker")
            .field("state", &CircuitState::of(&look, self.now()))
            .field("settings", &self.settings)
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}

// === impl Pass ===

impl<B: Borrow<CircuitBreaker> + Clone> Pass<B> {
    /// A pass for a call that begins now, or a refusal.
    #[inline]
    pub(super) fn admit(handle: &B) -> Result<Self, Rejection> {
        let shared = &handle.borrow().shared;
        if let Some(word) = shared.breaker.lets_pass() {
            if !word.is_timed() {
                let pass = Self::new(handle, word);
                pass.shared().meter.admitted();
                pass.shared().meter.circuit_seen(|| pass.shared().mode());
                return Ok(pass);
            }
        }
        Self::admit_anyhow(handle)
    }

    #[inline]
    fn new(handle: &B, word: Word) -> Self {
        Self {
            handle: handle.clone(),
            word,
            time: 0,
            stage: Stage::Called,
        }
    }

    #[inline(never)]
    fn admit_anyhow(handle: &B) -> Result<Self, Rejection> {
        let shared = &handle.borrow().shared;
        let reserved = match shared.refuses() {
            Some(refusal) => Err(refusal),
            None => Self::reserve(handle),
        };
        match reserved {
            Ok(mut pass) => {
                pass.begin();
                Ok(pass)
            }
            Err(refusal) => Err(shared.refuse(refusal)),
        }
    }

    /// A pass for a call that has yet to [`begin`](Pass::begin), or a refusal.
    #[inline]
    pub(super) fn reserve(handle: &B) -> Result<Self, Refusal> {
        let shared = &handle.borrow().shared;
        match shared.breaker.enter(|| shared.now(), &shared.settings) {
            Entry::Pass(word) => {
                // The pass first: whatever a metrics recorder does, its place comes back.
                let pass = Self::new(handle, word);
                if !word.lets_pass() {
                    shared.tell();
                }
                Ok(pass)
            }
            Entry::Refused(refusal) => {
                shared.tell();
                Err(refusal)
            }
        }
    }
}

impl<B: Borrow<CircuitBreaker>> Pass<B> {
    #[inline]
    fn shared(&self) -> &Shared {
        &self.handle.borrow().shared
    }

    /// Whether it would be given again.
    pub(super) fn is_current(&self) -> bool {
        self.shared()
            .breaker
            .is_current(self.word, || self.shared().now())
    }

    /// The call begins now.
    #[inline]
    pub(super) fn begin(&mut self) {
        if self.word.is_timed() {
            self.time = self.shared().now();
        }
        let shared = self.shared();
        shared.meter.admitted();
        shared.meter.circuit_seen(|| shared.mode());
    }

    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.stage == Stage::Settled
    }

    pub(super) fn measured(&mut self, took: u64) {
        self.time = took;
        self.stage = Stage::Measured;
    }

    /// Of a probe, or of a call that is timed.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "there are no heads"))]
    #[inline(never)]
    fn begin_response(&mut self) {
        let took = self.took();
        self.measured(took.unwrap_or(0));
        let shared = self.shared();
        let (breaker, settings) = (&shared.breaker, &shared.settings);
        let in_time = !shared.is_slow(took);
        if in_time && breaker.begin_response(self.word, || shared.now(), settings) {
            self.stage = Stage::Begun;
        }
        self.shared().tell();
    }

    fn way(&self) -> Way {
        (self.word, self.stage == Stage::Begun)
    }

    fn took(&self) -> Option<u64> {
        self.word.is_timed().then(|| match self.stage {
            Stage::Measured | Stage::Begun => self.time,
            _ => self.shared().now().saturating_sub(self.time),
        })
    }
}

impl<B: Borrow<CircuitBreaker>> Ticket for Pass<B> {
    #[inline]
    fn interest(&self) -> Interest {
        if self.is_settled() {
            Interest::Nothing
        } else if self.word.is_timed() || !self.word.lets_pass() {
            Interest::Head
        } else {
            Interest::Outcome
        }
    }

    #[inline]
    fn settle(&mut self, outcome: Outcome) {
        if outcome == Outcome::Success && self.settle_success() {
            return;
        }
        self.settle_anyhow(outcome);
    }

    #[cfg(feature = "http")]
    #[inline]
    fn on_head(&mut self, _: &mut crate::protocol::ResponseHeadMut<'_>) {
        if self.interest() == Interest::Head {
            self.begin_response();
        }
    }
}

impl<B: Borrow<CircuitBreaker>> Pass<B> {
    /// What nearly all calls do; `false` if it is one of the others, and nothing is done.
    #[inline]
    fn settle_success(&mut self) -> bool {
        if self.word.is_timed() {
            return false;
        }
        let shared = self.shared();
        let (breaker, settings) = (&shared.breaker, &shared.settings);
        let slice = || shared.slices.count();
        let recorded = breaker.record_success(self.word, slice, || shared.now(), settings);
        let Some(reached) = recorded else {
            return false;
        };
        self.stage = Stage::Settled;
        let shared = self.shared();
        if reached != Exceeded::default() {
            shared.meter.circuit_reached(reached);
            shared.tell();
        }
        shared.meter.circuit_outcome(Outcome::Success);
        true
    }

    #[inline(never)]
    fn settle_anyhow(&mut self, outcome: Outcome) {
        let took = self.took();
        let way = self.way();
        // First, so that no place is given back twice, whatever a metrics recorder does.
        self.stage = Stage::Settled;
        self.shared().record(Some(way), outcome, took);
        self.shared().tell();
    }
}

impl<B: Borrow<CircuitBreaker>> Drop for Pass<B> {
    #[inline]
    fn drop(&mut self) {
        if self.stage != Stage::Settled {
            self.shared().give_back(self.way());
        }
    }
}

impl<B: Borrow<CircuitBreaker>> fmt::Debug for Pass<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass")
            .field("breaker", self.shared())
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
