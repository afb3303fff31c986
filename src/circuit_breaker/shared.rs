//! The state that all clones of a handle share, and the token of an admitted call.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::open_duration::{LEAST, OpenDuration};
use super::settings::CircuitBreakerSettings;
use super::{CircuitState, Transition};
use crate::clock::{self, nanos};
use crate::config::Current;
use crate::control::circuit_breaker::breaker::{Breaker, Look};
use crate::control::circuit_breaker::state::{Rejected, Times};
use crate::control::circuit_breaker::window::Sample;
use crate::control::circuit_breaker::word::{Mode, Word};
use crate::observe::{Reporter, table};
use crate::outcome::Outcome;
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::sync::lock;
use crate::unwind;
use crate::upload::{self, Detached, Listening, Report};

type Hook = Arc<dyn Fn(&Transition) + Send + Sync>;

pub(super) struct Shared {
    pub(super) breaker: Breaker,
    pub(super) reporter: Reporter,
    /// The origin of the times in nanoseconds.
    origin: Instant,
    pub(super) settings: Current<CircuitBreakerSettings>,
    /// The seed of the jitter, together with a generation.
    seed: u64,
    pub(super) hooks: Mutex<Vec<Hook>>,
    /// Wakes the services that wait for the breaker in `poll_ready`.
    pub(super) changed: Arc<Notify>,
    pub(super) cancelled: AtomicU64,
    pub(super) panicked: AtomicU64,
}

/// The token of a call that a [`CircuitBreaker`](super::CircuitBreaker) admitted.
#[derive(Clone, Copy, Debug)]
pub struct CircuitToken {
    word: Word,
    /// In nanoseconds: the start of the call, or its duration once that is known.
    time: u64,
}

// === impl Shared ===

impl Times for Shared {
    #[inline]
    fn now(&self) -> u64 {
        let time = clock::now().saturating_duration_since(self.origin);
        time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
    }

    fn open(&self, failed_recoveries: u32, generation: u64) -> u64 {
        let settings = self.settings.get();
        let dice = fastrand::Rng::with_seed(self.seed.wrapping_add(generation)).f64();
        let mut length = OpenDuration::DEFAULT;
        // A function of the user; it may run while a call unwinds.
        unwind::without_panics(|| length = settings.open_duration.after(failed_recoveries, dice));
        unwind::without_panics(|| drop(settings));
        nanos(length.max(LEAST))
    }

    fn half_open(&self, open: u64) -> u64 {
        self.settings.get().half_open_nanos(open)
    }
}

impl Shared {
    /// A breaker in this mode, after the settings are checked.
    pub(super) fn new(settings: CircuitBreakerSettings, reporter: Reporter, mode: Mode) -> Self {
        let shared = Self {
            breaker: Breaker::new(
                settings.effective_window().make(),
                &settings.rules(),
                mode,
                0,
            ),
            reporter,
            origin: clock::now(),
            settings: Current::new(settings),
            seed: fastrand::u64(..),
            hooks: Mutex::default(),
            changed: Arc::default(),
            cancelled: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
        };
        shared.show();
        shared
    }

    /// Publishes the thresholds as gauges.
    pub(super) fn show(&self) {
        let settings = self.settings.get();
        let slow = settings.slow_call.map(|slow| slow.rate);
        let consecutive = settings.consecutive_failures.map(f64::from);
        // In the order of `Reached::CAUSES`, whose labels the gauges have.
        let values = [settings.failure_rate, slow, consecutive];
        for (label, value) in values.into_iter().enumerate() {
            let threshold = table::CIRCUIT_THRESHOLD.at(label);
            self.reporter.show_setting(threshold, value.unwrap_or(0.0));
        }
    }

    /// The present state.
    pub(super) fn look(&self) -> Look {
        self.breaker.look(self)
    }

    /// Registers the series, and publishes the state.
    #[inline]
    pub(super) fn register(&self) {
        self.reporter.circuit_seen(|| self.look().circuit.mode);
    }

    /// Reports the changes of state, if there are any: one at a time, in order, outside any lock.
    /// It catches a panic of a hook or recorder, since most changes are found where a call is
    /// dropped.
    #[inline]
    fn report(&self) {
        self.breaker.report(|change| {
            self.notify();
            unwind::without_panics(|| self.reporter.circuit_changed(&change));
            let transition = Transition::new(change);
            let hooks = lock(&self.hooks).clone();
            for hook in hooks {
                unwind::without_panics(|| hook(&transition));
            }
        });
    }

    /// Wakes the services that wait. A waker that panics does not end the call of this thread;
    /// Tokio may then not wake the others.
    pub(super) fn notify(&self) {
        unwind::without_panics(|| self.changed.notify_waiters());
    }

    pub(super) fn trip(&self) {
        self.breaker.trip(self);
        self.report();
    }

    /// Leaves a half-open state that is over by the present settings.
    pub(super) fn end_half_open(&self) {
        self.breaker.end_half_open(self);
        self.report();
    }

    pub(super) fn force(&self, to: Mode) {
        self.breaker.force(to, self);
        self.report();
    }
}

// === admission ===

impl Shared {
    /// A token for a call that begins now, or a rejection.
    #[inline(always)]
    pub(super) fn admit(&self) -> Result<CircuitToken, Rejection> {
        match self.admit_plainly() {
            Some(token) => Ok(token),
            None => self.decide(),
        }
    }

    /// A token for a call that begins now, if the breaker is closed and no call is timed.
    #[inline(always)]
    pub(super) fn admit_plainly(&self) -> Option<CircuitToken> {
        self.register();
        let word = self.breaker.word();
        word.is_plain().then_some(CircuitToken { word, time: 0 })
    }

    /// Decides about a call in any state.
    #[inline(never)]
    pub(super) fn decide(&self) -> Result<CircuitToken, Rejection> {
        match self.reserve() {
            Ok(mut token) => {
                self.begin(&mut token);
                Ok(token)
            }
            Err(rejected) => Err(self.reject(rejected)),
        }
    }

    /// A token for a call that has not started; see [`begin`](Self::begin). Or the reason to reject
    /// the call.
    #[inline(always)]
    pub(super) fn reserve(&self) -> Result<CircuitToken, Rejected> {
        let admitted = self.breaker.admit(self);
        self.report();
        admitted.map(|word| CircuitToken { word, time: 0 })
    }

    fn reject(&self, rejected: Rejected) -> Rejection {
        /// The probes decide within the duration of a call, which is unknown. An earlier retry is
        /// not useful.
        const SOON: u64 = 1_000_000_000;
        let nanos = match rejected {
            Rejected::Open(nanos) => nanos,
            Rejected::HalfOpen(nanos) => nanos.min(SOON),
            Rejected::ForcedOpen => return self.reporter.reject(Reason::CircuitOpen),
        };
        let rejection = self.reporter.reject(Reason::CircuitOpen);
        rejection.with_retry_after(Duration::from_nanos(nanos))
    }

    /// Returns whether the breaker would grant a reserved token again.
    pub(super) fn is_current(&self, token: CircuitToken) -> bool {
        self.breaker.is_current(token.word, self)
    }

    /// Starts the call now.
    pub(super) fn begin(&self, token: &mut CircuitToken) {
        if token.word.is_timed() {
            token.time = self.now().wrapping_sub(nanos(upload::waited_before()));
        }
    }

    /// Records the response head of a probe, or of a call that is timed.
    #[cfg(feature = "http")]
    #[inline(always)]
    pub(super) fn on_head(&self, token: &mut CircuitToken) {
        if !token.word.is_plain() {
            self.begin_response(token);
        }
    }

    #[cfg(feature = "http")]
    #[inline(never)]
    fn begin_response(&self, token: &mut CircuitToken) {
        let took = self.took(token);
        token.measured(took.unwrap_or(0));
        if !self.is_slow(took) {
            self.breaker.begin_response(&mut token.word, self);
        }
        self.report();
    }
}

// === outcomes ===

impl Shared {
    #[inline]
    pub(super) fn settle(&self, token: &mut CircuitToken, outcome: Outcome) {
        if outcome == Outcome::Success && !token.word.is_timed() {
            return self.count(Some(token.word), Sample::SUCCESS, outcome, None);
        }
        self.settle_rarely(token, outcome);
    }

    #[inline(never)]
    fn settle_rarely(&self, token: &CircuitToken, outcome: Outcome) {
        // A permit may be settled inside an unrelated request, whose reports must not change it.
        let _listening = token
            .word
            .is_held()
            .then(|| Listening::new(Report::NOTHING));
        let _detached = token.word.is_detached().then(Detached::new);
        self.record(Some(token.word), outcome, self.took(token));
    }

    /// Records the outcome of a call. `admitted` is `None` if the breaker did not admit the call,
    /// and `took` is `None` if its duration was not measured.
    #[inline(never)]
    pub(super) fn record(&self, admitted: Option<Word>, outcome: Outcome, took: Option<u64>) {
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
                if !slow || upload::is_callers_fault(true) {
                    return self.ignore(admitted, outcome);
                }
                true
            }
            Outcome::Ignored => return self.ignore(admitted, outcome),
        };
        let micros = took.map_or(0, |took| (took / 1000).max(1));
        self.count(admitted, Sample::new(failed, slow, micros), outcome, took);
    }

    #[inline]
    fn count(&self, admitted: Option<Word>, sample: Sample, outcome: Outcome, took: Option<u64>) {
        let reached = match admitted {
            Some(word) => self.breaker.record(word, sample, self),
            None => Some(self.breaker.record_unadmitted(sample, self)),
        };
        self.reporter.circuit_outcome(outcome, took);
        if let Some(reached) = reached {
            if reached.is_any() {
                self.reporter.circuit_reached(reached);
            }
            self.report();
        }
    }

    #[cold]
    fn ignore(&self, admitted: Option<Word>, outcome: Outcome) {
        self.breaker.ignore();
        if let Some(word) = admitted {
            self.release(word);
        }
        self.reporter.circuit_outcome(outcome, None);
    }

    fn release(&self, word: Word) {
        if self.breaker.release(word, self) {
            self.notify();
        }
        self.report();
    }

    /// Releases a reserved token without a call.
    pub(super) fn cancel_reservation(&self, token: CircuitToken) {
        self.release(token.word);
    }

    fn is_slow(&self, took: Option<u64>) -> bool {
        took.is_some_and(|took| took > self.breaker.rules.slow_call())
    }

    /// The nanoseconds for which a timed call has run, without those in which the service has
    /// waited for the request body.
    fn took(&self, token: &CircuitToken) -> Option<u64> {
        if !token.word.is_timed() {
            return None;
        }
        if token.word.is_measured() {
            return Some(token.time);
        }
        let took = self.now().wrapping_sub(token.time);
        // The clock was ahead, which is possible under paused time.
        let took = if took > u64::MAX / 2 { 0 } else { took };
        Some(took.saturating_sub(nanos(upload::waited())))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        unwind::without_panics(|| self.reporter.circuit_gone());
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("state", &CircuitState::of(&self.look()))
            .field("settings", &self.settings.get())
            .field("reporter", &self.reporter)
            .finish_non_exhaustive()
    }
}

// === impl CircuitToken ===

impl CircuitToken {
    pub(super) fn measured(&mut self, took: u64) {
        self.time = took;
        self.word = self.word.measured();
    }

    /// The token of a permit.
    pub(super) fn held(mut self) -> Self {
        self.word = self.word.held();
        self
    }

    /// The token of a permit that may be settled in another task.
    pub(super) fn detached(mut self) -> Self {
        self.word = self.word.detached();
        self
    }
}
