//! The handle of a breaker, its policy and its layer.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::open_for::OpenFor;
#[cfg(feature = "keyed")]
use super::settings::Draft;
use super::shared::{CircuitToken, Shared};
use super::{
    CircuitBreakerBuilder, CircuitBreakerSnapshot, CircuitState, CircuitTotals, ThresholdsReached,
    Transition,
};
use crate::clock::nanos;
use crate::config::ConfigError;
use crate::control::circuit_breaker::breaker::Spans;
use crate::control::circuit_breaker::circuit::Mode;
use crate::gate::GateLayer;
use crate::outcome::Outcome;
use crate::plain;
use crate::policy::{Admission, NoWait, Permit, Policy, Settled};
use crate::protocol::{Http, Rejections};
use crate::rejection::Rejection;
use crate::request::{PlainRequest, RequestKind};

/// Puts a [`CircuitBreaker`] in front of a service: `CircuitBreakerLayer::new(breaker.clone())`.
pub type CircuitBreakerLayer<X = Http> = GateLayer<CircuitBreaker, X>;

/// Rejects calls while their dependency fails. A cheap `Clone`: every clone is the same breaker.
///
/// The [module docs](super) describe its states. `CircuitBreaker::default()` has all defaults of
/// [`builder`](Self::builder).
#[derive(Clone)]
pub struct CircuitBreaker {
    pub(super) shared: Arc<Shared>,
}

// === impl CircuitBreaker ===

impl CircuitBreaker {
    /// Builds a breaker.
    pub fn builder() -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new()
    }

    pub(super) fn from_shared(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The name; empty if it has none.
    pub fn name(&self) -> &str {
        self.shared.reporter.name()
    }

    /// Takes a permit for a call that is not a request of a Tower service; a rejection is counted.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] while the breaker is open; its [`retry_after`](Rejection::retry_after) is
    /// the time until the next probe.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<&Self>, Rejection> {
        Ok(Permit::new(self, self.acquire()?))
    }

    /// Takes a permit that you can send to another task, at the cost of a reference count.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] while the breaker is open.
    #[inline]
    pub fn try_acquire_owned(&self) -> Result<Permit<Self>, Rejection> {
        Ok(Permit::new(self.clone(), self.acquire()?))
    }

    #[inline]
    fn acquire(&self) -> Result<CircuitToken, Rejection> {
        let admitted = self.shared.admit();
        match &admitted {
            Ok(_) => self.shared.reporter.admitted(),
            Err(rejection) => rejection.count(None),
        }
        admitted
    }

    /// Runs a future if the breaker admits it, and records its result as [`Plain`](crate::Plain)
    /// does: `Ok` is a success, `Err` a failure. A [`Rejection`], or a boxed error around one, goes
    /// by its reason. To classify results yourself, use [`run_with`](Self::run_with).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use seawall::CircuitBreaker;
    /// # use tower::BoxError;
    /// # async fn query() -> Result<u32, BoxError> { Ok(7) }
    /// # async fn f(breaker: CircuitBreaker) -> Result<u32, BoxError> {
    /// // The timeout is inside, so that it counts as a failure.
    /// breaker.run(async { tokio::time::timeout(Duration::from_secs(1), query()).await? }).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The future's error, or a [`Rejection`] while the breaker is open; the future is then dropped
    /// without a poll.
    ///
    /// # Cancellation
    ///
    /// If the returned future is dropped, for example by a timeout around it, `future` is dropped.
    /// The call is ignored, unless it took longer than
    /// [`slow_call`](CircuitBreakerBuilder::slow_call).
    ///
    /// # Panics
    ///
    /// If the future panics; that counts as a failure.
    pub async fn run<F, T, E>(&self, future: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<Rejection> + 'static,
    {
        self.run_with(future, |_| None).await
    }

    /// Runs a future as [`run`](Self::run) does. The closure classifies its result: an [`Outcome`],
    /// or `None` for the default.
    ///
    /// ```
    /// # use seawall::{CircuitBreaker, Outcome};
    /// # use tower::BoxError;
    /// # use std::io::{Error, ErrorKind};
    /// # async fn find() -> Result<u32, BoxError> { Ok(7) }
    /// # async fn f(breaker: CircuitBreaker) -> Result<u32, BoxError> {
    /// let not_there = |error: &BoxError| {
    ///     let error = error.downcast_ref::<Error>();
    ///     error.is_some_and(|error| error.kind() == ErrorKind::NotFound)
    /// };
    /// let found = breaker.run_with(find(), |result| match result {
    ///     Err(error) if not_there(error) => Some(Outcome::Success),
    ///     _ => None,
    /// });
    /// found.await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_with<F, T, E, C, O>(&self, future: F, classify: C) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<Rejection> + 'static,
        C: FnOnce(&Result<T, E>) -> O,
        O: Into<Option<Outcome>>,
    {
        let mut permit = Some(self.try_acquire()?.known_to_unwind());
        let mut panicked = |payload: Box<dyn Any + Send>| -> ! {
            if let Some(permit) = permit.take() {
                permit.settle(Outcome::Panicked);
            }
            panic::resume_unwind(payload)
        };
        let mut future = pin!(future);
        let result = poll_fn(|cx| {
            let poll = AssertUnwindSafe(|| future.as_mut().poll(cx));
            panic::catch_unwind(poll).unwrap_or_else(|payload| panicked(payload))
        })
        .await;
        let classify = AssertUnwindSafe(|| classify(&result).into());
        let classified = panic::catch_unwind(classify).unwrap_or_else(|payload| panicked(payload));
        let outcome = classified.unwrap_or_else(|| plain::outcome(&Rejections, &result));
        if let Some(permit) = permit {
            permit.settle(outcome);
        }
        result
    }

    /// Records the outcome of a call that the breaker did not admit, for example of a metric of
    /// your own. While the breaker is open or half-open, the outcome counts in the totals only,
    /// since the call was no probe.
    pub fn record(&self, outcome: Outcome) {
        self.shared.record(None, outcome, None);
        self.shared.tell();
    }

    /// Records an outcome as [`record`](Self::record) does, with the duration of the call for the
    /// slow-call threshold.
    pub fn record_timed(&self, outcome: Outcome, took: Duration) {
        self.shared.record(None, outcome, Some(nanos(took)));
        self.shared.tell();
    }

    /// The state that the next call finds.
    pub fn state(&self) -> CircuitState {
        let now = self.shared.now();
        let look = self.shared.breaker.look(now, &self.shared.settings);
        CircuitState::of(&look, now)
    }

    /// The state, the window and the totals.
    pub fn snapshot(&self) -> CircuitBreakerSnapshot {
        let shared = &self.shared;
        let now = shared.now();
        let look = shared.breaker.look(now, &shared.settings);
        let counts = shared.breaker.counts(now);
        let totals = shared.breaker.totals();
        let [failure_rate, slow_call_rate, consecutive_failures] = shared.breaker.crossed();
        let enough = counts.calls >= shared.settings.thresholds().minimum_calls;
        CircuitBreakerSnapshot {
            state: CircuitState::of(&look, now),
            in_state: Duration::from_nanos(now.saturating_sub(look.since)),
            transitions: look.transitions,
            failed_recoveries: look.failed_recoveries,
            probes: look.probes,
            calls: counts.calls,
            failures: counts.failures,
            slow_calls: counts.slow,
            slow_failures: counts.slow_failures,
            failure_rate: counts.failure_rate().filter(|_| enough),
            slow_call_rate: counts.slow_rate().filter(|_| enough),
            mean_duration: (counts.took > 0)
                .then(|| counts.took.checked_div(counts.calls))
                .flatten()
                .map(Duration::from_micros),
            rejected: shared.reporter.rejected(),
            would_reject: shared.reporter.would_reject(),
            totals: CircuitTotals {
                successes: totals.calls - totals.failures,
                failures: totals.failures,
                ignored: shared.breaker.ignored(),
                slow_calls: totals.slow,
                panicked: shared.panicked.load(Relaxed),
                cancelled: shared.cancelled.load(Relaxed),
            },
            reached: ThresholdsReached {
                failure_rate,
                slow_call_rate,
                consecutive_failures,
            },
        }
    }

    /// Calls the hook for every change of state from now on: one change after the other, outside
    /// any lock, in the task or thread whose call caused the change. The hook must not block. A
    /// panic of the hook is caught. A hook that holds a clone of the breaker keeps it alive
    /// forever.
    pub fn on_transition(&self, hook: impl Fn(&Transition) + Send + Sync + 'static) {
        self.shared.hook(Arc::new(hook));
    }
}

/// Forces a state.
impl CircuitBreaker {
    /// Opens a closed or half-open breaker for its open time, as if a threshold were reached. Use
    /// it for what you observe yourself.
    pub fn trip(&self) {
        let shared = &self.shared;
        shared.breaker.trip(shared.now(), &shared.settings);
        shared.tell();
    }

    /// Rejects every call until [`reset`](Self::reset), without `Retry-After`. In a keyed family,
    /// the state is lost when the family forgets the key.
    pub fn force_open(&self) {
        self.force(Mode::ForcedOpen);
    }

    /// Admits every call, and counts it in the totals only, until [`reset`](Self::reset): the
    /// breaker is switched off.
    pub fn force_closed(&self) {
        self.force(Mode::ForcedClosed);
    }

    /// Admits and counts every call until [`reset`](Self::reset).
    /// [`reached`](CircuitBreakerSnapshot::reached) counts the thresholds that would have opened
    /// the breaker.
    pub fn observe_only(&self) {
        self.force(Mode::ObserveOnly);
    }

    /// Closes the breaker in any state, and empties its window. The totals stay.
    pub fn reset(&self) {
        self.shared.breaker.reset(self.shared.now());
        self.shared.tell();
    }

    #[cfg(feature = "keyed")]
    pub(super) fn apply(&self, draft: &Draft) {
        let applied = self.shared.settings.apply(draft);
        debug_assert!(applied.is_ok(), "a draft that was checked");
        self.set_timed();
    }

    fn set_timed(&self) {
        let shared = &self.shared;
        shared.breaker.set_timed(|| shared.settings.is_timed());
    }

    fn force(&self, mode: Mode) {
        self.shared.breaker.force(mode, self.shared.now());
        self.shared.tell();
    }
}

/// Changes the settings while the breaker runs. A change applies to the next call or result, and is
/// checked as by [`build`](CircuitBreakerBuilder::build).
impl CircuitBreaker {
    /// Changes [`failure_rate`](CircuitBreakerBuilder::failure_rate).
    ///
    /// # Errors
    ///
    /// If the rate is outside `0.0001..=1.0`, or if no threshold would be left; nothing is changed
    /// then.
    pub fn set_failure_rate(&self, rate: impl Into<Option<f64>>) -> Result<(), ConfigError> {
        self.shared.settings.set_failure_rate(rate.into())
    }

    /// Changes [`slow_call`](CircuitBreakerBuilder::slow_call). Calls that began without it are
    /// never slow.
    ///
    /// # Errors
    ///
    /// If the duration is not 1 ms to a day, if the rate is outside `0.0001..=1.0`, or if no
    /// threshold would be left; nothing is changed then.
    pub fn set_slow_call(
        &self,
        slow: impl Into<Option<(Duration, f64)>>,
    ) -> Result<(), ConfigError> {
        self.shared.settings.set_slow_call(slow.into())?;
        self.set_timed();
        Ok(())
    }

    /// Changes [`consecutive_failures`](CircuitBreakerBuilder::consecutive_failures).
    ///
    /// # Errors
    ///
    /// If it is 0, or if no threshold would be left; nothing is changed then.
    pub fn set_consecutive_failures(
        &self,
        failures: impl Into<Option<u32>>,
    ) -> Result<(), ConfigError> {
        self.shared
            .settings
            .set_consecutive_failures(failures.into())
    }

    /// Changes [`minimum_calls`](CircuitBreakerBuilder::minimum_calls).
    ///
    /// # Errors
    ///
    /// If it is 0, or more than a window of calls holds; nothing is changed then.
    pub fn set_minimum_calls(&self, calls: u32) -> Result<(), ConfigError> {
        self.shared.settings.set_minimum_calls(calls)
    }

    /// Changes [`open_for`](CircuitBreakerBuilder::open_for) for the next time that the breaker
    /// opens.
    ///
    /// # Errors
    ///
    /// If it is not 1 ms to a day; nothing is changed then.
    pub fn set_open_for(&self, open_for: impl Into<OpenFor>) -> Result<(), ConfigError> {
        self.shared.settings.set_open_for(open_for.into())
    }

    /// Changes [`half_open`](CircuitBreakerBuilder::half_open).
    ///
    /// # Errors
    ///
    /// If it is not 1 to 1000; nothing is changed then.
    pub fn set_half_open(&self, probes: u32) -> Result<(), ConfigError> {
        self.shared.settings.set_probes(probes)
    }

    /// Changes [`half_open_for`](CircuitBreakerBuilder::half_open_for) for the next time that the
    /// breaker is half-open; `None` is the default.
    ///
    /// # Errors
    ///
    /// If it is not 1 ms to a day; nothing is changed then.
    pub fn set_half_open_for(
        &self,
        deadline: impl Into<Option<Duration>>,
    ) -> Result<(), ConfigError> {
        self.shared.settings.set_half_open_for(deadline.into())
    }
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self::builder().build().expect("the defaults make sense")
    }
}

impl<R: RequestKind> Policy<R> for CircuitBreaker {
    type Token = CircuitToken;
    type Wait = NoWait<CircuitToken, Settled>;

    const IS_OURS: bool = true;

    #[inline]
    fn admit(&self, _: &R::Head<'_>) -> Admission<CircuitToken, Self::Wait> {
        match self.shared.admit() {
            Ok(token) => Admission::Admit(token),
            Err(rejection) => Admission::Reject(rejection),
        }
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
    /// The work had this outcome, and took this long by your own measurement.
    pub fn settle_timed(mut self, outcome: Outcome, took: Duration) {
        if let Some(token) = self.token_mut() {
            token.measured(nanos(took));
        }
        self.settle(outcome);
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

// === impl CircuitBreakerLayer ===

impl CircuitBreakerLayer {
    /// Puts the breaker in front of a service.
    pub fn new(breaker: impl Into<CircuitBreaker>) -> Self {
        let breaker = breaker.into();
        let reporter = breaker.shared.reporter.clone();
        Self::with_reporter(breaker, reporter)
    }
}
