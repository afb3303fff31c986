//! The settings of a breaker.

use std::time::Duration;

use super::open_duration::{DAY, LEAST, OpenDuration};
use super::window::Window;
use crate::clock::nanos;
use crate::config::{ConfigError, Settings, fields};
use crate::control::circuit_breaker::rules::Rules;

/// The settings of a [`CircuitBreaker`](crate::CircuitBreaker): a value that you can read, compare,
/// change, and apply to a breaker while it runs.
///
/// ```
/// use std::time::Duration;
/// use seawall::{CircuitBreaker, CircuitBreakerSettings};
///
/// let settings = CircuitBreakerSettings::default()
///     .failure_rate(0.5)
///     .slow_call(Duration::from_secs(2), 0.8);
/// let breaker = CircuitBreaker::new(settings)?;
/// breaker.set(breaker.settings().failure_rate(0.3))?;
/// assert_eq!(breaker.settings().failure_rate, Some(0.3));
/// # Ok::<_, seawall::ConfigError>(())
/// ```
///
/// [`CircuitBreaker::new`](crate::CircuitBreaker::new) and [`set`](crate::CircuitBreaker::set)
/// check the values. With the feature `serde`, settings implement `Serialize` and `Deserialize`.
/// Durations are strings such as `"5s"` or `"1m 30s"`. A missing field has its default, and an
/// unknown field is an error:
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use seawall::CircuitBreakerSettings;
///
/// let settings: CircuitBreakerSettings = toml::from_str(
///     r#"
///     failure_rate = 0.3
///     slow_call = { duration = "2s", rate = 0.8 }
///     window = { duration = "30s", buckets = 30 }
///     open_duration = { initial = "5s", factor = 2.0, max = "1m", jitter = 0.1 }
///     "#,
/// )?;
/// assert_eq!(settings.half_open_probes, 10);
/// # }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// `window` may also be `{ calls = 100 }`, and `open_duration` may be `"5s"`. `failure_rate =
/// "off"` turns the failure rate off.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use = "settings do nothing until they are applied"]
#[non_exhaustive]
pub struct CircuitBreakerSettings {
    /// See [`failure_rate`](Self::failure_rate()).
    #[cfg_attr(feature = "serde", serde(with = "rate"))]
    pub failure_rate: Option<f64>,
    /// See [`slow_call`](Self::slow_call()).
    pub slow_call: Option<SlowCall>,
    /// See [`consecutive_failures`](Self::consecutive_failures()).
    pub consecutive_failures: Option<u32>,
    /// See [`window`](Self::window()); `None` for the default, and in a change for the window that
    /// the breaker has.
    pub window: Option<Window>,
    /// See [`minimum_calls`](Self::minimum_calls()); `None` for the default.
    pub minimum_calls: Option<u32>,
    /// See [`open_duration`](Self::open_duration()).
    pub open_duration: OpenDuration,
    /// See [`half_open_probes`](Self::half_open_probes()).
    pub half_open_probes: u32,
    /// See [`half_open_timeout`](Self::half_open_timeout()); `None` for the default.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub half_open_timeout: Option<Duration>,
}

/// When calls are slow, and how many of them open the breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct SlowCall {
    /// A call that takes longer is slow.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub duration: Duration,
    /// The share of slow calls that opens the breaker.
    pub rate: f64,
}

/// A rate that may be `"off"`, for formats without a null such as TOML.
#[cfg(feature = "serde")]
mod rate {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase", expecting = "expected a number or \"off\"")]
    enum Rate {
        Off,
        #[serde(untagged)]
        On(f64),
    }

    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(super) fn serialize<S: Serializer>(rate: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        rate.map_or(Rate::Off, Rate::On).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        Ok(match Rate::deserialize(from)? {
            Rate::On(rate) => Some(rate),
            Rate::Off => None,
        })
    }
}

/// The upper bound for concurrent probes.
const MAX_PROBES: u32 = 1000;

// === impl CircuitBreakerSettings ===

impl CircuitBreakerSettings {
    /// Opens when at least this share of the calls in the window failed, `0.0001..=1.0`; `None`
    /// turns it off.
    ///
    /// Default: 0.5, as in resilience4j. A dependency that fails every second call costs its
    /// callers more than it returns; for one that fails one call in ten, retries are better.
    pub fn failure_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.failure_rate = rate.into();
        self
    }

    /// A call that takes longer than `duration`, 1 ms to a day, is slow. Opens when at least this
    /// share of the calls in the window was slow, `0.0001..=1.0`. A slow call also counts as a
    /// success or a failure. To remove the threshold, set the field to `None`.
    ///
    /// Default: none, since it depends on your service. With it, a call that is dropped after this
    /// time counts as failed and slow; any other dropped call is ignored. To notice a dependency
    /// that hangs, set it below the timeout of your callers, or put a timeout inside the breaker
    /// that is shorter than theirs.
    pub fn slow_call(mut self, duration: Duration, rate: f64) -> Self {
        self.slow_call = Some(SlowCall::new(duration, rate));
        self
    }

    /// Opens after this many failures in a row, at least 1, even below the minimum number of calls;
    /// `None` turns it off. An ignored call neither counts nor ends the row.
    ///
    /// Default: none. Use it for a dependency with few calls, which do not reach
    /// [`minimum_calls`](Self::minimum_calls()). With many concurrent calls, it depends on the
    /// order in which they end. Without a failure rate, it also decides [the half-open
    /// state](crate::circuit_breaker#states).
    pub fn consecutive_failures(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.consecutive_failures = failures.into();
        self
    }

    /// Which calls count. See [`Window`]. It cannot be changed while the breaker runs: another
    /// window is an error then.
    ///
    /// Default: the calls of the last ten seconds. The breaker opens within seconds of an outage,
    /// however many calls succeeded before, and forgets the outage within seconds.
    pub fn window(mut self, window: Window) -> Self {
        self.window = Some(window);
        self
    }

    /// The breaker ignores the rates while the window has fewer calls than this: at least 1, and
    /// for a window of calls at most its size.
    ///
    /// Default (`None`): 20, or the size of a window of calls if that is smaller. With fewer than
    /// 20 calls, half of them may fail by chance.
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = Some(calls);
        self
    }

    /// How long it stays open: a `Duration`, 1 ms to a day, or an [`OpenDuration`].
    ///
    /// Set it longer than the time in which a healthy response begins, or set
    /// [`half_open_timeout`](Self::half_open_timeout()): a probe whose response has not begun when
    /// the half-open time is over is a failure.
    ///
    /// Default: five seconds, as in Polly. This is long enough to relieve the dependency, and short
    /// compared with most outages.
    pub fn open_duration(mut self, duration: impl Into<OpenDuration>) -> Self {
        self.open_duration = duration.into();
        self
    }

    /// How many calls a half-open breaker admits as probes: 1 to 1000. It rejects the others until
    /// the probes have decided. If a probe is ignored, another call is admitted instead.
    ///
    /// Default: 10, as in resilience4j. With a failure rate of 0.5, five failures open the breaker
    /// again, and six successes close it.
    pub fn half_open_probes(mut self, probes: u32) -> Self {
        self.half_open_probes = probes;
        self
    }

    /// The longest time that the breaker stays half-open, 1 ms to a day.
    ///
    /// When it is over, the probes decide. A probe whose response has begun in time counts as a
    /// success. Any other call without an outcome counts as failed and slow. If no probe has an
    /// outcome or a response, the breaker opens again. So neither a probe that hangs nor a lack of
    /// calls keeps it half-open.
    ///
    /// Default (`None`): the length of the open time before it; with a slow-call threshold, at
    /// least twice the duration of a slow call. Set a longer time if healthy calls may take longer:
    /// otherwise their probes never close the breaker.
    pub fn half_open_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.half_open_timeout = timeout.into();
        self
    }

    /// The window of these settings, or the default.
    pub(super) fn effective_window(&self) -> Window {
        self.window.unwrap_or(Window::DEFAULT)
    }

    fn minimum(&self) -> u32 {
        const USUAL: u32 = 20;
        let most = self.effective_window().capacity();
        self.minimum_calls.unwrap_or(USUAL.min(most))
    }

    /// What calls need of them.
    pub(super) fn rules(&self) -> Rules {
        let slow = self.slow_call;
        Rules {
            failure_rate: self.failure_rate,
            slow_call_rate: slow.map(|slow| slow.rate),
            minimum_calls: self.minimum(),
            consecutive_failures: self.consecutive_failures,
            probes: self.half_open_probes,
            slow_call: slow.map_or(Rules::NOT_TIMED, |slow| nanos(slow.duration)),
        }
    }
}

fields!(CircuitBreakerSettings {
    failure_rate,
    slow_call,
    consecutive_failures,
    window,
    minimum_calls,
    open_duration,
    half_open_probes,
    half_open_timeout,
});

fields!(SlowCall { duration, rate });

impl SlowCall {
    /// Calls that take longer than `duration` are slow; `rate` is the threshold for their share.
    pub const fn new(duration: Duration, rate: f64) -> Self {
        Self { duration, rate }
    }
}

impl Settings for CircuitBreakerSettings {
    fn check(&self) -> Result<(), ConfigError> {
        self.effective_window().check()?;
        self.open_duration.check()?;
        let (rates, in_a_row) = (0.0001..=1.0, self.consecutive_failures);
        ConfigError::check("failure_rate", self.failure_rate, rates.clone())?;
        if let Some(SlowCall { duration, rate }) = self.slow_call {
            ConfigError::check("slow_call.duration", duration, LEAST..=DAY)?;
            ConfigError::check("slow_call.rate", rate, rates)?;
        }
        ConfigError::check("consecutive_failures", in_a_row, 1..=u32::MAX)?;
        if self.failure_rate.is_none() && self.slow_call.is_none() && in_a_row.is_none() {
            return Err(ConfigError::new(
                "failure_rate",
                "None",
                "within 0.0001..=1.0 where neither slow_call nor consecutive_failures is set",
            ));
        }
        let most = self.effective_window().capacity();
        ConfigError::check("minimum_calls", self.minimum(), 1..=most)?;
        ConfigError::check("half_open_probes", self.half_open_probes, 1..=MAX_PROBES)?;
        ConfigError::check("half_open_timeout", self.half_open_timeout, LEAST..=DAY)
    }

    fn fit(&mut self, current: &Self) -> Result<(), ConfigError> {
        let kept = current.effective_window();
        if let Some(window) = self.window.filter(|window| !window.is_same(kept)) {
            window.check()?;
            let kept = format!("the one with which the breaker was made, {kept}");
            return Err(ConfigError::new("window", window.to_string(), kept));
        }
        self.window = current.window;
        self.check()
    }
}

impl Default for CircuitBreakerSettings {
    fn default() -> Self {
        Self {
            failure_rate: Some(0.5),
            slow_call: None,
            consecutive_failures: None,
            window: None,
            minimum_calls: None,
            open_duration: OpenDuration::DEFAULT.into(),
            half_open_probes: 10,
            half_open_timeout: None,
        }
    }
}
