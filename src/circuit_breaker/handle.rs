//! The handle of a breaker, its policy and its layer.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::open_duration::OpenDuration;
use super::settings::{CircuitBreakerSettings, SlowCall};
use super::shared::{CircuitToken, Shared};
use super::{CircuitState, Transition};
use crate::clock::nanos;
use crate::config::{ConfigError, Configurable, Current, Settings};
use crate::control::circuit_breaker::word::{Mode, Word};
use crate::gate::GateLayer;
use crate::observe::Reporter;
use crate::outcome::Outcome;
use crate::policy::{Admission, NoWait, Permit, Policy, Settled};
use crate::protocol::Http;
use crate::rejection::Rejection;
use crate::request::{PlainRequest, RequestKind};
use crate::sync::lock;

/// A layer that puts a [`CircuitBreaker`] in front of a service:
/// `CircuitBreakerLayer::new(breaker.clone())`.
pub type CircuitBreakerLayer<X = Http> = GateLayer<CircuitBreaker, X>;

/// Rejects calls while their dependency fails. A cheap `Clone`: all clones are the same breaker.
///
/// The [module docs](super) describe its states. `CircuitBreaker::default()` has the default
/// [`CircuitBreakerSettings`].
#[derive(Clone)]
pub struct CircuitBreaker {
    pub(super) shared: Arc<Shared>,
}

// === impl CircuitBreaker ===

impl CircuitBreaker {
    /// Makes a closed breaker.
    ///
    /// # Errors
    ///
    /// Returns an error if a setting is outside its range, or if none of the three thresholds is
    /// set.
    pub fn new(settings: impl Into<CircuitBreakerSettings>) -> Result<Self, ConfigError> {
        let settings = settings.into();
        settings.check()?;
        let reporter = Reporter::new("circuit_breaker");
        let shared = Arc::new(Shared::new(settings, reporter, Mode::Closed));
        Ok(Self { shared })
    }

    /// Names the breaker in rejections, metrics and events. A second call has no effect.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.shared.reporter.set_name(name);
        self
    }

    /// The name; empty if it has none.
    pub fn name(&self) -> &str {
        self.shared.reporter.name()
    }

    /// Takes a permit for a call that is not a request of a Tower service. A rejection is counted.
    /// Settle the permit in the task that takes it. To settle it in another task, use
    /// [`try_acquire_owned`](Self::try_acquire_owned): the duration of the call leaves out [the
    /// time that the caller caused](crate::circuit_breaker#what-the-caller-caused), which works
    /// only in the same task.
    ///
    /// # Errors
    ///
    /// Returns a [`Rejection`] while the breaker is open. Its
    /// [`retry_after`](Rejection::retry_after) is the time until the next probe.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<&Self>, Rejection> {
        Permit::counted(self, self.shared.admit(Word::HELD), &self.shared.reporter)
    }

    /// Takes a permit that you can send to another task. It costs a reference count.
    ///
    /// # Errors
    ///
    /// Returns a [`Rejection`] while the breaker is open.
    #[inline]
    pub fn try_acquire_owned(&self) -> Result<Permit<Self>, Rejection> {
        let admitted = self.shared.admit(Word::DETACHED);
        Permit::counted(self.clone(), admitted, &self.shared.reporter)
    }

    /// Records the outcome of a call that the breaker did not admit, for example from your own
    /// measurement. While the breaker is open or half-open, the outcome counts in the totals only,
    /// since the call was no probe.
    pub fn record(&self, outcome: Outcome) {
        self.shared.record_unadmitted(outcome, None);
    }

    /// Records an outcome as [`record`](Self::record) does, with the duration of the call for the
    /// slow-call threshold.
    pub fn record_timed(&self, outcome: Outcome, took: Duration) {
        self.shared.record_unadmitted(outcome, Some(nanos(took)));
    }

    /// The state that the next call finds.
    pub fn state(&self) -> CircuitState {
        self.shared.look().state()
    }

    /// Calls the hook for every later change of state, one change after the other, outside any
    /// lock. It runs in the task or thread whose call caused the change, or in one that reports an
    /// earlier change at the same time. The hook must not block. A panic of the hook is caught. A
    /// hook that holds a clone of the breaker keeps the breaker alive forever.
    pub fn on_transition(&self, hook: impl Fn(&Transition) + Send + Sync + 'static) {
        lock(&self.shared.hooks).push(Arc::new(hook));
    }
}

/// Forces a state.
impl CircuitBreaker {
    /// Opens a closed or half-open breaker for its open time, as if a threshold were reached. Use
    /// it for failures that you detect yourself. For a half-open breaker this is a failed recovery,
    /// also if it has admitted no probe: its open times may grow.
    pub fn trip(&self) {
        self.shared.breaker.trip(&*self.shared);
        self.shared.report();
    }

    /// Rejects every call until [`reset`](Self::reset), without `Retry-After`. If a keyed family
    /// forgets the key of this breaker, the next breaker of the key is closed, unless the state was
    /// forced on the whole family.
    pub fn force_open(&self) {
        self.shared.force(Mode::ForcedOpen);
    }

    /// Switches the breaker off until [`reset`](Self::reset): it admits every call, and counts it
    /// in the totals only.
    pub fn force_closed(&self) {
        self.shared.force(Mode::ForcedClosed);
    }

    /// Admits and counts every call until [`reset`](Self::reset), from an empty window. A breaker
    /// that already observes keeps its window. The breaker does not open.
    /// [`thresholds_reached`](super::CircuitBreakerSnapshot::thresholds_reached) of the snapshot
    /// counts how often it would have opened.
    pub fn observe_only(&self) {
        self.shared.force(Mode::ObserveOnly);
    }

    /// Closes the breaker in any state, and empties its window. The totals stay. A call that began
    /// before the reset counts in the totals only, even if the breaker was closed.
    pub fn reset(&self) {
        self.shared.force(Mode::Closed);
    }
}

/// Changes the settings while the breaker runs. The next call and the next outcome use them, and
/// the window keeps its calls. A change by itself neither opens nor closes the breaker.
impl CircuitBreaker {
    /// The current settings.
    pub fn settings(&self) -> CircuitBreakerSettings {
        self.shared.settings.get()
    }

    /// Replaces all settings at once. The breaker uses a new open duration when it opens next, and
    /// a new half-open timeout when it is half-open next. A call that began without a slow-call
    /// threshold is never slow.
    ///
    /// If two threads read [`settings`](Self::settings) and set their changed copies, one change
    /// may be lost. [`set_failure_rate`](Self::set_failure_rate) and the other setters change one
    /// value each, and no change is lost.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new), and an error if the window differs from that of
    /// the breaker; see [`settings`](Self::settings). It then changes nothing.
    pub fn set(&self, settings: CircuitBreakerSettings) -> Result<(), ConfigError> {
        self.change(|_| settings)
    }

    /// Changes [`failure_rate`](CircuitBreakerSettings::failure_rate()).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`set`](Self::set).
    pub fn set_failure_rate(&self, rate: impl Into<Option<f64>>) -> Result<(), ConfigError> {
        let rate = rate.into();
        self.change(|settings| settings.failure_rate(rate))
    }

    /// Changes [`slow_call`](CircuitBreakerSettings::slow_call()); `None` removes the threshold.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`set`](Self::set).
    pub fn set_slow_call(&self, slow: impl Into<Option<SlowCall>>) -> Result<(), ConfigError> {
        let slow = slow.into();
        self.change(|mut settings| {
            settings.slow_call = slow;
            settings
        })
    }

    /// Changes [`minimum_calls`](CircuitBreakerSettings::minimum_calls()).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`set`](Self::set).
    pub fn set_minimum_calls(&self, calls: u32) -> Result<(), ConfigError> {
        self.change(|settings| settings.minimum_calls(calls))
    }

    /// Changes [`open_duration`](CircuitBreakerSettings::open_duration()) for the next time that
    /// the breaker opens.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`set`](Self::set).
    pub fn set_open_duration(&self, duration: impl Into<OpenDuration>) -> Result<(), ConfigError> {
        let duration = duration.into();
        self.change(|settings| settings.open_duration(duration))
    }
}

impl Configurable for CircuitBreaker {
    type Settings = CircuitBreakerSettings;

    fn current(&self) -> &Current<CircuitBreakerSettings> {
        &self.shared.settings
    }

    fn advance(&self) {
        self.shared.breaker.end_half_open(&*self.shared);
        self.shared.report();
    }

    fn publish(&self, settings: &CircuitBreakerSettings) {
        self.shared.breaker.set_rules(&settings.rules());
    }

    fn replaced(&self) {
        // There may be more probes now.
        self.shared.notify();
        self.shared.show();
    }
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self::new(CircuitBreakerSettings::default()).expect("the defaults are valid")
    }
}

impl<R: RequestKind> Policy<R> for CircuitBreaker {
    type Token = CircuitToken;
    type Wait = NoWait<CircuitToken, Settled>;

    const IS_OURS: bool = true;

    #[inline]
    fn admit(&self, _: &R::Head<'_>) -> Admission<CircuitToken, Self::Wait> {
        match self.shared.admit(0) {
            Ok(token) => Admission::Admit(token),
            Err(rejection) => Admission::Reject(rejection),
        }
    }

    fn register(&self) {
        self.shared.register();
    }

    #[cfg(feature = "http")]
    #[inline(always)]
    fn on_head(&self, token: &mut CircuitToken, _: &mut crate::http::head::ResponseHeadMut<'_>) {
        self.shared.on_head(token);
    }

    #[inline(always)]
    fn settle(&self, token: &mut CircuitToken, outcome: Outcome) {
        self.shared.settle(token, outcome);
    }
}

impl<P: Policy<PlainRequest<()>, Token = CircuitToken>> Permit<P> {
    /// Records this outcome, with the duration that you measured, and releases the permit.
    pub fn settle_timed(mut self, outcome: Outcome, took: Duration) {
        if let Some(token) = self.token_mut() {
            token.measured(nanos(took));
        }
        self.settle(outcome);
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("state", &self.state())
            .field("settings", &self.settings())
            .field("reporter", &self.shared.reporter)
            .finish_non_exhaustive()
    }
}

// === impl CircuitBreakerLayer ===

impl CircuitBreakerLayer {
    /// Makes a layer with this breaker.
    pub fn new(breaker: impl Into<CircuitBreaker>) -> Self {
        Self::from_handle(breaker.into(), |breaker| &breaker.shared.reporter)
    }
}
