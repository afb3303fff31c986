//! The state that all clones of a handle share, and the token of an admitted call.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::open_duration::{LEAST, OpenDuration};
use super::settings::CircuitBreakerSettings;
use super::{CircuitState, Transition};
use crate::clock::{self, nanos};
use crate::config::Current;
use crate::control::circuit_breaker::breaker::{Breaker, Look, Pass, Refusal};
use crate::control::circuit_breaker::rules::Reached;
use crate::control::circuit_breaker::state::Times;
use crate::control::circuit_breaker::window::Sample;
use crate::control::circuit_breaker::word::{Mode, Word};
use crate::observe::{self, Reporter, Setting};
use crate::outcome::Outcome;
use crate::reason::Reason;
use crate::rejection::Rejection;

type Hook = Arc<dyn Fn(&Transition) + Send + Sync>;

pub(super) struct Shared {
    pub(super) breaker: Breaker,
    pub(super) reporter: Reporter,
    /// The origin of the times in nanoseconds.
    origin: Instant,
    times: LiveTimes,
    hooks: RwLock<Vec<Hook>>,
    /// Wakes the services that wait for the breaker in `poll_ready`.
    pub(super) changed: Arc<Notify>,
    pub(super) cancelled: AtomicU64,
    pub(super) panicked: AtomicU64,
}

/// The settings from which the durations of states are made.
struct LiveTimes {
    settings: Current<CircuitBreakerSettings>,
    /// The seed of the jitter, together with a generation.
    seed: u64,
}

/// The token of a call that a [`CircuitBreaker`](super::CircuitBreaker) admitted.
#[derive(Clone, Copy, Debug)]
pub struct CircuitToken {
    word: Word,
    /// In nanoseconds: the start of the call, and from the response head on its duration.
    time: u64,
    stage: Stage,
}

/// It is as wide as the rest of a token, so that the token is moved in whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Stage {
    Called,
    /// The duration is known.
    Measured,
    /// The duration is known, and the breaker knows that the response of this probe has begun.
    Begun,
}

// === impl LiveTimes ===

impl Times for LiveTimes {
    fn open(&self, failed_recoveries: u32, generation: u64) -> u64 {
        let settings = self.settings.get();
        let dice = fastrand::Rng::with_seed(self.seed.wrapping_add(generation)).f64();
        let mut length = OpenDuration::DEFAULT;
        // A function of the user; it may run while a call unwinds.
        observe::without_panics(|| length = settings.open_duration.after(failed_recoveries, dice));
        observe::without_panics(|| drop(settings));
        nanos(length.max(LEAST))
    }

    fn half_open(&self, open: u64) -> u64 {
        self.settings.get().half_open_nanos(open)
    }
}

// === impl Shared ===

impl Shared {
    /// A breaker, after the settings are checked.
    pub(super) fn new(settings: CircuitBreakerSettings, reporter: Reporter) -> Self {
        show(&reporter, &settings);
        Self {
            breaker: Breaker::new(settings.window.make(), &settings.rules(), 0),
            reporter,
            origin: clock::now(),
            times: LiveTimes {
                settings: Current::new(settings),
                seed: fastrand::u64(..),
            },
            hooks: RwLock::default(),
            changed: Arc::default(),
            cancelled: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
        }
    }

    pub(super) fn current(&self) -> &Current<CircuitBreakerSettings> {
        &self.times.settings
    }

    /// Shows the settings as gauges.
    pub(super) fn show(&self) {
        show(&self.reporter, &self.current().get());
    }

    #[inline]
    pub(super) fn now(&self) -> u64 {
        clock::now()
            .saturating_duration_since(self.origin)
            .as_nanos() as u64
    }

    pub(super) fn look(&self, now: u64) -> Look {
        self.breaker.look(now, &self.times)
    }

    fn mode(&self) -> Mode {
        self.look(self.now()).circuit.mode
    }

    pub(super) fn hook(&self, hook: Hook) {
        self.hooks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(hook);
    }

    /// Reports the changes of state, if there are any: one at a time, in order, outside any lock.
    /// It catches a panic of a hook or recorder, since most changes are found where a call is
    /// dropped.
    #[inline]
    pub(super) fn report(&self) {
        self.breaker.report(|change| {
            self.changed.notify_waiters();
            observe::without_panics(|| self.reporter.circuit_changed(&change));
            let transition = Transition::new(change);
            let hooks = self
                .hooks
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            for hook in hooks {
                observe::without_panics(|| hook(&transition));
            }
        });
    }

    pub(super) fn trip(&self) {
        self.breaker.trip(self.now(), &self.times);
        self.report();
    }

    pub(super) fn force(&self, to: Mode) {
        self.breaker.force(to, self.now(), &self.times);
        self.report();
    }

    pub(super) fn reset(&self) {
        self.breaker.reset(self.now(), &self.times);
        self.report();
    }
}

// === admission ===

impl Shared {
    /// A token for a call that begins now, or a rejection.
    #[inline]
    pub(super) fn admit(&self) -> Result<CircuitToken, Rejection> {
        if let Some(word) = self.breaker.admits_plainly() {
            self.reporter.circuit_seen(|| self.mode());
            return Ok(CircuitToken::new(word));
        }
        self.decide()
    }

    /// Registers the series, and publishes the state.
    pub(super) fn register(&self) {
        self.reporter.circuit_seen(|| self.mode());
    }

    #[inline(never)]
    fn decide(&self) -> Result<CircuitToken, Rejection> {
        // This comes before the token, since a metrics recorder may panic.
        self.reporter.circuit_seen(|| self.mode());
        match self.reserve() {
            Ok(mut token) => {
                self.begin(&mut token);
                Ok(token)
            }
            Err(refusal) => Err(self.refuse(refusal)),
        }
    }

    /// A token for a call that has not started; see [`begin`](Self::begin). Or the reason to reject
    /// the call.
    pub(super) fn reserve(&self) -> Result<CircuitToken, Refusal> {
        let admitted = self.breaker.admit(|| self.now(), &self.times);
        self.report();
        admitted.map(CircuitToken::new)
    }

    fn refuse(&self, refusal: Refusal) -> Rejection {
        /// The probes decide within the duration of a call, which is unknown. An earlier retry is
        /// not useful.
        const SOON: u64 = 1_000_000_000;
        let rejection = self.reporter.reject(Reason::CircuitOpen);
        match refusal {
            Refusal::Open(nanos) => rejection.with_retry_after(Duration::from_nanos(nanos)),
            Refusal::HalfOpen(nanos) => {
                rejection.with_retry_after(Duration::from_nanos(nanos.min(SOON)))
            }
            Refusal::ForcedOpen => rejection,
        }
    }

    /// Returns whether the breaker would grant a reserved token again.
    pub(super) fn is_current(&self, token: &CircuitToken) -> bool {
        self.breaker.is_current(token.word, || self.now())
    }

    /// Starts the call now.
    pub(super) fn begin(&self, token: &mut CircuitToken) {
        if token.word.is_timed() {
            token.time = self.now().wrapping_sub(waited_before());
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
        let now = || self.now();
        if !self.is_slow(took) && self.breaker.begin_response(token.word, now, &self.times) {
            token.stage = Stage::Begun;
        }
        self.report();
    }
}

// === outcomes ===

impl Shared {
    #[inline]
    pub(super) fn settle(&self, token: &mut CircuitToken, outcome: Outcome) {
        if outcome == Outcome::Success && !token.word.is_timed() {
            return self.count(Some(token.pass()), Sample::SUCCESS, outcome, None);
        }
        self.record(Some(token.pass()), outcome, self.took(token));
    }

    /// Records the outcome of a call. `pass` is `None` if the breaker did not admit the call, and
    /// `took` is `None` if its duration was not measured.
    #[inline(never)]
    pub(super) fn record(&self, pass: Option<Pass>, outcome: Outcome, took: Option<u64>) {
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
                if !slow || is_callers_fault() {
                    return self.ignore(pass, outcome);
                }
                true
            }
            Outcome::Ignored => return self.ignore(pass, outcome),
        };
        let micros = took.map_or(0, |took| (took / 1000).max(1));
        self.count(pass, Sample::new(failed, slow, micros), outcome, took);
    }

    #[inline]
    fn count(&self, pass: Option<Pass>, sample: Sample, outcome: Outcome, took: Option<u64>) {
        let (breaker, times, now) = (&self.breaker, &self.times, || self.now());
        let reached = match pass {
            Some(pass) => breaker.record(pass, now, sample, times),
            None => breaker.record_unadmitted(now, sample, times),
        };
        if reached.is_any() {
            self.reporter.circuit_reached(reached);
        }
        self.reporter.circuit_outcome(outcome, took);
        self.report();
    }

    #[cold]
    fn ignore(&self, pass: Option<Pass>, outcome: Outcome) {
        self.breaker.ignore();
        if let Some(pass) = pass {
            self.release(pass);
        }
        self.reporter.circuit_outcome(outcome, None);
    }

    fn release(&self, pass: Pass) {
        if self.breaker.release(pass, || self.now(), &self.times) {
            self.changed.notify_waiters();
        }
        self.report();
    }

    /// Releases a reserved token without a call.
    pub(super) fn cancel_reservation(&self, token: &CircuitToken) {
        self.release(token.pass());
    }

    fn is_slow(&self, took: Option<u64>) -> bool {
        took.is_some_and(|took| took > self.breaker.rules.slow_call())
    }

    fn took(&self, token: &CircuitToken) -> Option<u64> {
        token.word.is_timed().then(|| match token.stage {
            Stage::Measured | Stage::Begun => token.time,
            Stage::Called => self.since(token.time),
        })
    }

    /// The nanoseconds since `time`, without those in which the service has waited for the request
    /// body meanwhile. The wait before the call is already subtracted from `time`.
    fn since(&self, time: u64) -> u64 {
        let took = self.now().wrapping_sub(time);
        // The clock was ahead, which is possible under paused time.
        let took = if took > u64::MAX / 2 { 0 } else { took };
        #[cfg(feature = "http")]
        return took.saturating_sub(nanos(crate::upload::waited()));
        #[cfg(not(feature = "http"))]
        took
    }
}

/// The nanoseconds for which the service has waited for the request body before a call.
fn waited_before() -> u64 {
    #[cfg(feature = "http")]
    return nanos(crate::upload::waited_before());
    #[cfg(not(feature = "http"))]
    0
}

/// Returns whether the caller caused that a slow call has no result.
fn is_callers_fault() -> bool {
    #[cfg(feature = "http")]
    return crate::upload::is_callers_fault(true);
    #[cfg(not(feature = "http"))]
    false
}

/// Publishes the thresholds as gauges.
fn show(reporter: &Reporter, settings: &CircuitBreakerSettings) {
    let slow = settings.slow_call.map(|slow| slow.rate);
    let consecutive = settings.consecutive_failures.map(f64::from);
    let values = [settings.failure_rate, slow, consecutive];
    for (cause, value) in Reached::CAUSES.into_iter().zip(values) {
        let threshold = Setting::Threshold(cause.as_str());
        reporter.set(threshold, value.unwrap_or(0.0));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        observe::without_panics(|| self.reporter.circuit_gone());
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.now();
        f.debug_struct("CircuitBreaker")
            .field("state", &CircuitState::of(&self.look(now), now))
            .field("settings", &self.current().get())
            .field("reporter", &self.reporter)
            .finish_non_exhaustive()
    }
}

// === impl CircuitToken ===

impl CircuitToken {
    #[inline]
    const fn new(word: Word) -> Self {
        Self {
            word,
            time: 0,
            stage: Stage::Called,
        }
    }

    pub(super) fn measured(&mut self, took: u64) {
        self.time = took;
        self.stage = Stage::Measured;
    }

    #[inline]
    fn pass(&self) -> Pass {
        Pass {
            word: self.word,
            has_begun: self.stage == Stage::Begun,
        }
    }
}
