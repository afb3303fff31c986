//! The breaker itself.

use std::borrow::Borrow;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::open_for::OpenFor;
#[cfg(feature = "keyed")]
use super::settings::Draft;
use super::shared::{Pass, Shared};
use super::{
    CircuitBreakerBuilder, CircuitBreakerSnapshot, CircuitState, CircuitTicket, CircuitTotals,
    ThresholdsReached, Transition,
};
use crate::clock::nanos;
use crate::config::ConfigError;
use crate::control::breaker::Spans;
use crate::control::circuit::Mode;
use crate::gate::GateLayer;
use crate::observe;
use crate::policy::{Admission, End, Held, NoWait, Outcome, Policy};
use crate::protocol::{Http, View, plain_outcome};
use crate::rejection::Rejection;

/// Puts a [`CircuitBreaker`] in front of a service: `CircuitBreakerLayer::new(breaker.clone())`.
pub type CircuitBreakerLayer<X = Http> = GateLayer<CircuitBreaker, X>;

/// Refuses calls while what they go to fails. A cheap `Clone`: every clone is the same breaker.
///
/// See the [module](super) for what it does and when. `CircuitBreaker::default()` has all the defaults of
/// [`builder`](Self::builder).
#[derive(Clone)]
pub struct CircuitBreaker {
    pub(super) shared: Arc<Shared>,
}

// === impl CircuitBreaker ===

impl CircuitBreaker {
    /// A breaker with settings of its own.
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
        self.shared.meter.name()
    }

    /// Asks whether a call may be made that is no request of a Tower service, and counts it as a rejected one if not.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] while it is open; its [`retry_after`](Rejection::retry_after) says for how long.
    #[inline]
    pub fn try_acquire(&self) -> Result<CircuitTicket<&Self>, Rejection> {
        Self::acquire(&self).map(CircuitTicket::new)
    }

    /// The same with a ticket that may go anywhere, to another task for example, for a reference count.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] while it is open.
    #[inline]
    pub fn try_acquire_owned(&self) -> Result<CircuitTicket, Rejection> {
        Self::acquire(self).map(CircuitTicket::new)
    }

    #[inline]
    fn acquire<B>(handle: &B) -> Result<Pass<B>, Rejection>
    where
        B: Borrow<Self> + Clone,
    {
        let admitted = Pass::admit(handle);
        if let Err(rejection) = &admitted {
            observe::rejected(rejection, false);
        }
        admitted
    }

    /// Runs a future if the breaker lets it, and counts its result as [`Plain`](crate::Plain) does: `Ok` is a success, `Err`
    /// a failure, unless it is a [`Rejection`], or a boxed error around one, that says nothing.
    /// [`run_with`](Self::run_with) decides otherwise.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use seawall::CircuitBreaker;
    /// # use tower::BoxError;
    /// # async fn query() -> Result<u32, BoxError> { Ok(7) }
    /// # async fn f(breaker: CircuitBreaker) -> Result<u32, BoxError> {
    /// // The time-out inside, where the breaker sees it.
    /// breaker.run(async { tokio::time::timeout(Duration::from_secs(1), query()).await? }).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The future's, or a [`Rejection`] while it is open; the future is dropped unpolled then.
    ///
    /// # Cancellation
    ///
    /// Dropped, as by a time-out around it, it drops the future, and counts for nothing, unless it has taken longer than
    /// [`slow_call`](CircuitBreakerBuilder::slow_call).
    ///
    /// # Panics
    ///
    /// If the future does; that counts as a failure.
    pub async fn run<F, T, E>(&self, future: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<Rejection> + 'static,
    {
        self.run_with(future, |_| None).await
    }

    /// The same, with a closure that says what a result tells about what was called: an [`Outcome`], or `None` for the
    /// default.
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
        let mut held = Held::new(Self::acquire(&self)?);
        let result = {
            let mut future = pin!(future);
            poll_fn(|cx| held.watch(|| future.as_mut().poll(cx))).await
        };
        let classified = held.watch(|| classify(&result).into());
        held.settle(classified.unwrap_or_else(|| plain_outcome(&result)));
        held.end(End::Complete);
        result
    }

    /// Counts the outcome of a call that the breaker was not asked about: a breaker is for any metric. While it is open or
    /// half-open it counts in the totals alone, as it was no probe.
    pub fn record(&self, outcome: Outcome) {
        self.shared.record(None, outcome, None);
        self.shared.tell();
    }

    /// The same, with the time that it took, for the slow-call threshold.
    pub fn record_timed(&self, outcome: Outcome, took: Duration) {
        self.shared.record(None, outcome, Some(nanos(took)));
        self.shared.tell();
    }

    /// The state that the next call would find.
    pub fn state(&self) -> CircuitState {
        let now = self.shared.now();
        let look = self.shared.breaker.look(now, &self.shared.settings);
        CircuitState::of(&look, now)
    }

    /// All of it at once.
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
            rejected: shared.meter.rejected(),
            would_reject: shared.meter.would_reject(),
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

    /// Calls the hook at every change of state from now on, outside any lock, one change after the other, in the task or
    /// thread whose call found it: it must not block. A panic of the hook ends there. A hook that holds a clone of the breaker
    /// keeps it alive for ever.
    pub fn on_transition(&self, hook: impl Fn(&Transition) + Send + Sync + 'static) {
        self.shared.hook(Arc::new(hook));
    }
}

/// By hand.
impl CircuitBreaker {
    /// Opens it for its open time, as if a threshold had been reached, if it is closed or half-open: for whatever else you
    /// watch.
    pub fn trip(&self) {
        let shared = &self.shared;
        shared.breaker.trip(shared.now(), &shared.settings);
        shared.tell();
    }

    /// Refuses every call until [`reset`](Self::reset), without `Retry-After`. A breaker of a family is forgotten with its key, and
    /// this with it.
    pub fn force_open(&self) {
        self.force(Mode::ForcedOpen);
    }

    /// Lets every call pass, and counts in the totals alone, until [`reset`](Self::reset): switched off.
    pub fn force_closed(&self) {
        self.force(Mode::ForcedClosed);
    }

    /// Lets every call pass, and counts, until [`reset`](Self::reset): see
    /// [`reached`](CircuitBreakerSnapshot::reached) for what would have opened it.
    pub fn observe_only(&self) {
        self.force(Mode::ObserveOnly);
    }

    /// Closes it, whatever state it is in, with an empty window. The totals stay.
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

/// While it runs: each holds from the next call or result on, and refuses what [`build`](CircuitBreakerBuilder::build) does.
impl CircuitBreaker {
    /// Changes [`failure_rate`](CircuitBreakerBuilder::failure_rate).
    ///
    /// # Errors
    ///
    /// Outside `0.0001..=1.0`, or if no threshold would be left; nothing is changed then.
    pub fn set_failure_rate(&self, rate: impl Into<Option<f64>>) -> Result<(), ConfigError> {
        self.shared.settings.set_failure_rate(rate.into())
    }

    /// Changes [`slow_call`](CircuitBreakerBuilder::slow_call). Calls that began while there was none are never slow.
    ///
    /// # Errors
    ///
    /// If the duration is not 1 ms to a day, the rate outside `0.0001..=1.0`, or no threshold left; nothing is changed then.
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

    /// Changes [`open_for`](CircuitBreakerBuilder::open_for), from the next time on that it opens.
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

    /// Changes [`half_open_for`](CircuitBreakerBuilder::half_open_for), from the next time on that it is half-open; `None`
    /// for as long as it was open.
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

impl<V: View> Policy<V> for CircuitBreaker {
    type Ticket = Pass;
    type Wait = NoWait;

    #[inline]
    fn admit(&self, _: &V::Head<'_>) -> Admission<Pass, NoWait> {
        match Pass::admit(self) {
            Ok(pass) => Admission::Admit(pass),
            Err(rejection) => Admission::Reject(rejection),
        }
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}
