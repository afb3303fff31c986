//! How a breaker is made.

use std::borrow::Cow;
use std::time::Duration;

use super::CircuitBreaker;
use super::open_for::OpenFor;
use super::settings::{DEFAULT_OPEN, Draft, Settings, Window};
use super::shared::Shared;
use crate::config::ConfigError;
use crate::observe::Meter;

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
    /// Default: 0.5, as in resilience4j. A dependency that fails every second call costs its callers more by being asked
    /// than it gives; one that fails one in ten is better served by retries.
    pub fn failure_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.draft.failure_rate = rate.into();
        self
    }

    /// A call that takes longer than `duration`, 1 ms to a day, is slow; opens when this share of the calls in the window
    /// was, `0.0001..=1.0`. A slow call is none the less a success or a failure.
    ///
    /// Default: none, as only you know what slow is. With it, a call that is dropped after this time counts as a
    /// failure; without it, or earlier, for nothing. So set it below the time after which your callers give up, or a dependency
    /// that only hangs goes unnoticed; or put a time-out inside the breaker.
    pub fn slow_call(mut self, duration: Duration, rate: f64) -> Self {
        self.draft.slow_call = Some((duration, rate));
        self
    }

    /// Opens after so many failures in a row, whatever the minimum number of calls; `None` never does.
    ///
    /// Default: none. For few calls: it needs no window to fill. With many at once it depends on their order by chance.
    pub fn consecutive_failures(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.draft.consecutive_failures = failures.into();
        self
    }

    /// Which calls count. See [`Window`].
    ///
    /// Default: those of the last ten seconds, so that it opens within seconds of an outage however many calls were fine
    /// before, and forgets within seconds.
    pub fn window(mut self, window: Window) -> Self {
        self.draft.window = window;
        self
    }

    /// Rates say nothing about fewer calls than this in the window: at least 1, for a window of calls at most its size.
    ///
    /// Default: 20, or the size of a window of fewer calls. Of fewer than twenty, half may fail by bad luck.
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.draft.minimum_calls = Some(calls);
        self
    }

    /// How long it stays open: a `Duration`, 1 ms to a day, or an [`OpenFor`].
    ///
    /// Default: five seconds, as in Polly. Long enough to take the load off, short enough not to be the outage itself.
    pub fn open_for(mut self, open_for: impl Into<OpenFor>) -> Self {
        self.draft.open_for = open_for.into();
        self
    }

    /// How many probes may be out at once, and how many it takes at most to decide: 1 to 1000.
    ///
    /// Default: 10, as in resilience4j. With a failure rate of 0.5 it takes five failures or six successes.
    pub fn half_open(mut self, probes: u32) -> Self {
        self.draft.probes = probes;
        self
    }

    /// How long the probes have, 1 ms to a day.
    ///
    /// When it is over, the probes that have come back by then decide, and those that are still out count as failed;
    /// without any result it opens again. So neither a probe that hangs nor a lack of calls keeps it half-open.
    ///
    /// Default: as long as it was open, and with a slow-call threshold at least twice that. If a healthy call may take longer, set
    /// it: probes that cannot come back in time never close it.
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
    /// If a setting is out of its range, or if none of the three thresholds is set.
    pub fn build(self) -> Result<CircuitBreaker, ConfigError> {
        let (draft, name) = self.checked()?;
        let meter = Meter::new("circuit_breaker");
        if !name.is_empty() {
            meter.set_name(name);
        }
        let shared = Shared::new(Settings::of(draft), meter);
        Ok(CircuitBreaker::from_shared(shared))
    }

    pub(super) fn checked(self) -> Result<(Draft, Cow<'static, str>), ConfigError> {
        Ok((self.draft.check()?, self.name))
    }
}
