//! Builds a breaker.

use std::borrow::Cow;
use std::time::Duration;

use super::CircuitBreaker;
use super::open_for::OpenFor;
use super::settings::{DEFAULT_OPEN, Draft, Settings, Window};
use super::shared::Shared;
use crate::config::ConfigError;
use crate::observe::Reporter;

/// The settings of a [`CircuitBreaker`]; made by [`CircuitBreaker::builder`].
///
/// Nothing is checked before [`build`](Self::build).
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct CircuitBreakerBuilder {
    draft: Draft,
    name: Cow<'static, str>,
}

// === impl CircuitBreakerBuilder ===

impl CircuitBreakerBuilder {
    pub(super) fn new() -> Self {
        Self {
            draft: Draft {
                failure_rate: Some(0.5),
                slow_call: None,
                consecutive_failures: None,
                window: Window::time(Duration::from_secs(10)),
                minimum_calls: None,
                open_for: DEFAULT_OPEN.into(),
                probes: 10,
                half_open_for: None,
            },
            name: Cow::Borrowed(""),
        }
    }

    /// Opens when this share of the calls in the window failed, `0.0001..=1.0`; `None` never does.
    ///
    /// Default: 0.5, as in resilience4j. A dependency that fails every second call costs its
    /// callers more than it returns; for one that fails one call in ten, retries are better.
    pub fn failure_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.draft.failure_rate = rate.into();
        self
    }

    /// A call that takes longer than `duration`, 1 ms to a day, is slow. Opens when this share of
    /// the calls in the window was slow, `0.0001..=1.0`. A slow call also counts as a success or a
    /// failure.
    ///
    /// Default: none, since it depends on your service. With it, a call that is dropped after this
    /// time counts as a failure; without it, or before this time, a dropped call is ignored. Set it
    /// below the timeout of your callers, or put a timeout inside the breaker: otherwise the
    /// breaker does not notice a dependency that hangs.
    pub fn slow_call(mut self, duration: Duration, rate: f64) -> Self {
        self.draft.slow_call = Some((duration, rate));
        self
    }

    /// Opens after this many consecutive failures, whatever the minimum number of calls; `None`
    /// never does.
    ///
    /// Default: none. Use it for few calls, since it needs no full window. With many concurrent
    /// calls, it depends on the order in which they end.
    pub fn consecutive_failures(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.draft.consecutive_failures = failures.into();
        self
    }

    /// Which calls count. See [`Window`].
    ///
    /// Default: the calls of the last ten seconds. The breaker opens within seconds of an outage,
    /// however many calls succeeded before, and forgets the outage within seconds.
    pub fn window(mut self, window: Window) -> Self {
        self.draft.window = window;
        self
    }

    /// The rates are ignored while the window has fewer calls than this: at least 1, for a window
    /// of calls at most its size.
    ///
    /// Default: 20, or the size of a window of fewer calls. Of fewer than 20 calls, half may fail
    /// by chance.
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.draft.minimum_calls = Some(calls);
        self
    }

    /// How long it stays open: a `Duration`, 1 ms to a day, or an [`OpenFor`].
    ///
    /// Default: five seconds, as in Polly. This is long enough to relieve the dependency, and short
    /// compared with most outages.
    pub fn open_for(mut self, open_for: impl Into<OpenFor>) -> Self {
        self.draft.open_for = open_for.into();
        self
    }

    /// The most probes at once, and the most that it takes to decide: 1 to 1000.
    ///
    /// Default: 10, as in resilience4j. With a failure rate of 0.5 it takes five failures or six
    /// successes.
    pub fn half_open(mut self, probes: u32) -> Self {
        self.draft.probes = probes;
        self
    }

    /// How long it stays half-open at most, 1 ms to a day.
    ///
    /// When this time is over, the probes with an outcome decide, and the others count as failures;
    /// without any outcome it opens again. So neither a probe that hangs nor a lack of calls keeps
    /// it half-open.
    ///
    /// Default: as long as it was open, and with a slow-call threshold at least twice that
    /// threshold. Set it if a healthy call may take longer: probes that cannot end in time never
    /// close the breaker.
    pub fn half_open_for(mut self, deadline: Duration) -> Self {
        self.draft.half_open_for = Some(deadline);
        self
    }

    /// Names the breaker in rejections, metrics and events. Default: empty.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// The breaker, closed.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range, or if none of the three thresholds is set.
    pub fn build(self) -> Result<CircuitBreaker, ConfigError> {
        let (draft, name) = self.checked()?;
        let reporter = Reporter::new("circuit_breaker");
        if !name.is_empty() {
            reporter.set_name(name);
        }
        let shared = Shared::new(Settings::of(draft), reporter);
        Ok(CircuitBreaker::from_shared(shared))
    }

    pub(super) fn checked(self) -> Result<(Draft, Cow<'static, str>), ConfigError> {
        Ok((self.draft.check()?, self.name))
    }
}
