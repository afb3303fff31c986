//! The state that all clones of a handle share, and the token of an admitted call.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::settings::Settings;
use super::{CircuitState, Transition};
use crate::clock::{self, Grains, nanos};
use crate::control::circuit_breaker::breaker::{Breaker, Entry, Refusal};
use crate::control::circuit_breaker::circuit::{Exceeded, Mode, Word};
use crate::control::circuit_breaker::counts::Sample;
use crate::observe::{self, Reporter};
use crate::outcome::Outcome;
use crate::reason::Reason;
use crate::rejection::Rejection;

const MILLI: Duration = Duration::from_millis(1);

type Hook = Arc<dyn Fn(&Transition) + Send + Sync>;

pub(super) struct Shared {
    pub(super) breaker: Breaker,
    pub(super) settings: Settings,
    pub(super) reporter: Reporter,
    /// The origin of the breaker's nanoseconds.
    origin: Instant,
    /// The buckets of a window of time.
    slices: Grains,
    /// Milliseconds since the origin.
    millis: Grains,
    hooks: RwLock<Vec<Hook>>,
    /// Wakes the services that wait for the breaker in `poll_ready`.
    pub(super) changed: Arc<Notify>,
    pub(super) cancelled: AtomicU64,
    pub(super) panicked: AtomicU64,
}

/// The token of a call that a [`CircuitBreaker`](super::CircuitBreaker) admitted.
#[derive(Clone, Copy, Debug)]
pub struct CircuitToken {
    word: Word,
    /// Nanoseconds: when the call began, and from the response head on how long it took.
    time: u64,
    stage: Stage,
}

/// The state in which a call was admitted, and whether the breaker knows that its response has
/// begun.
type Way = (Word, bool);

/// As wide as the rest of a token, so that it is moved in whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Stage {
    Called,
    /// The duration is known.
    Measured,
    /// The duration is known, and the breaker knows that the response of this probe has begun.
    Begun,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(settings: Settings, reporter: Reporter) -> Self {
        let window = settings.make_window();
        let slice = window.slice().map_or(Duration::MAX, Duration::from_nanos);
        let origin = clock::now();
        Self {
            breaker: Breaker::new(window, settings.is_timed(), 0),
            settings,
            reporter,
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

    /// The rejection of a breaker that stays open for more than a millisecond. Its time is exact to
    /// a millisecond.
    #[inline]
    fn refuses(&self) -> Option<Refusal> {
        let grain = nanos(MILLI);
        let about = || self.millis.count() * grain;
        self.breaker.refuses(about, grain)
    }

    fn refuse(&self, refusal: Refusal) -> Rejection {
        /// The probes decide within the duration of a call, which is unknown; an earlier retry is
        /// not worthwhile.
        const SOON: Duration = Duration::from_secs(1);
        self.reporter.circuit_seen(|| self.mode());
        let rejection = self.reporter.reject(Reason::CircuitOpen);
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

    /// Reports the changes of state, if there are any: one at a time, in order, outside any lock. A
    /// panic of a hook or recorder is caught, since most changes are found where a call is dropped.
    pub(super) fn tell(&self) {
        self.breaker.tell(|change| {
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

    /// Whether a failure is one that the caller of the request caused.
    fn is_callers_fault(is_late: bool) -> bool {
        #[cfg(feature = "http")]
        return crate::upload::is_callers_fault(is_late);
        #[cfg(not(feature = "http"))]
        {
            let _ = is_late;
            false
        }
    }

    fn is_slow(&self, took: Option<u64>) -> bool {
        took.is_some_and(|took| took > self.settings.slow_call())
    }

    /// Records the outcome of a call; `took` is `None` if its duration was not measured.
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
                if !slow || Self::is_callers_fault(true) {
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
            self.reporter.circuit_reached(reached);
        }
        self.reporter.circuit_outcome(outcome);
    }

    #[cold]
    fn release(&self, way: Option<Way>, outcome: Outcome) {
        self.breaker.ignore();
        if let Some(way) = way {
            self.give_back(way);
        }
        self.reporter.circuit_outcome(outcome);
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
        observe::without_panics(|| self.reporter.circuit_gone());
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let look = self.breaker.look(self.now(), &self.settings);
        f.debug_struct("CircuitBreaker")
            .field("state", &CircuitState::of(&look, self.now()))
            .field("settings", &self.settings)
            .field("reporter", &self.reporter)
            .finish_non_exhaustive()
    }
}

// === tokens ===

impl Shared {
    /// A token for a call that begins now, or a rejection.
    #[inline]
    pub(super) fn admit(&self) -> Result<CircuitToken, Rejection> {
        if let Some(word) = self.breaker.lets_pass() {
            if !word.is_timed() {
                self.reporter.circuit_seen(|| self.mode());
                return Ok(CircuitToken::new(word));
            }
        }
        self.admit_anyhow()
    }

    #[inline(never)]
    fn admit_anyhow(&self) -> Result<CircuitToken, Rejection> {
        // Before there is a token: a metrics recorder may panic.
        self.reporter.circuit_seen(|| self.mode());
        let reserved = match self.refuses() {
            Some(refusal) => Err(refusal),
            None => self.reserve(),
        };
        match reserved {
            Ok(mut token) => {
                self.begin(&mut token);
                Ok(token)
            }
            Err(refusal) => Err(self.refuse(refusal)),
        }
    }

    /// A token for a call that has yet to [`begin`](Self::begin), or why it is rejected.
    pub(super) fn reserve(&self) -> Result<CircuitToken, Refusal> {
        let entered = self.breaker.enter(|| self.now(), &self.settings);
        match entered {
            Entry::Pass(word) => {
                if !word.lets_pass() {
                    self.tell();
                }
                Ok(CircuitToken::new(word))
            }
            Entry::Refused(refusal) => {
                self.tell();
                Err(refusal)
            }
        }
    }

    /// Whether the breaker would grant a reserved token again.
    pub(super) fn is_current(&self, token: &CircuitToken) -> bool {
        self.breaker.is_current(token.word, || self.now())
    }

    /// The call begins now.
    pub(super) fn begin(&self, token: &mut CircuitToken) {
        if token.word.is_timed() {
            token.time = self.now().wrapping_sub(Self::waited_before());
        }
    }

    /// Releases a reserved token without a call.
    pub(super) fn cancel_reservation(&self, token: &CircuitToken) {
        self.give_back(token.way());
    }

    /// Records that the response head is ready.
    #[cfg(feature = "http")]
    #[inline(always)]
    pub(super) fn on_head(&self, token: &mut CircuitToken) {
        if token.word.is_timed() || !token.word.lets_pass() {
            self.begin_response(token);
        }
    }

    /// Records the head of a probe, or of a call that is timed.
    #[cfg(feature = "http")]
    #[inline(never)]
    fn begin_response(&self, token: &mut CircuitToken) {
        let took = self.took(token);
        token.measured(took.unwrap_or(0));
        let in_time = !self.is_slow(took);
        if in_time
            && self
                .breaker
                .begin_response(token.word, || self.now(), &self.settings)
        {
            token.stage = Stage::Begun;
        }
        self.tell();
    }

    fn took(&self, token: &CircuitToken) -> Option<u64> {
        token.word.is_timed().then(|| match token.stage {
            Stage::Measured | Stage::Begun => token.time,
            Stage::Called => self.since(token.time),
        })
    }

    /// The nanoseconds since `time`, without those for which the service has waited for the request
    /// body meanwhile: `time` is earlier by what it waited before.
    fn since(&self, time: u64) -> u64 {
        let took = self.now().wrapping_sub(time);
        // A clock that was ahead, which paused time allows.
        let took = if took > u64::MAX / 2 { 0 } else { took };
        #[cfg(feature = "http")]
        return took.saturating_sub(nanos(crate::upload::waited()));
        #[cfg(not(feature = "http"))]
        took
    }

    /// The nanoseconds for which the service has waited for the request body before a call.
    fn waited_before() -> u64 {
        #[cfg(feature = "http")]
        return nanos(crate::upload::waited_before());
        #[cfg(not(feature = "http"))]
        0
    }

    #[inline]
    pub(super) fn settle(&self, token: &mut CircuitToken, outcome: Outcome) {
        if outcome == Outcome::Success && self.settle_success(token) {
            return;
        }
        self.settle_anyhow(token, outcome);
    }

    /// The common case; `false` if this call is not one, and then nothing is done.
    #[inline]
    fn settle_success(&self, token: &mut CircuitToken) -> bool {
        if token.word.is_timed() {
            return false;
        }
        let slice = || self.slices.count();
        let recorded =
            self.breaker
                .record_success(token.word, slice, || self.now(), &self.settings);
        let Some(reached) = recorded else {
            return false;
        };
        if reached != Exceeded::default() {
            self.reporter.circuit_reached(reached);
            self.tell();
        }
        self.reporter.circuit_outcome(Outcome::Success);
        true
    }

    #[inline(never)]
    fn settle_anyhow(&self, token: &CircuitToken, outcome: Outcome) {
        self.record(Some(token.way()), outcome, self.took(token));
        self.tell();
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

    fn way(&self) -> Way {
        (self.word, self.stage == Stage::Begun)
    }
}
