//! How long a breaker stays open.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{ConfigError, Fields};

/// The longest and the shortest time that a setting of a breaker may be.
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(super) const LEAST: Duration = Duration::from_millis(1);

/// How long a breaker stays open: a fixed time, a time that grows, or the result of a function.
///
/// ```
/// use std::time::Duration;
/// use seawall::circuit_breaker::OpenDuration;
///
/// let five_seconds = OpenDuration::from(Duration::from_secs(5));
/// let doubling = OpenDuration::exponential(Duration::from_secs(5), 2.0, Duration::from_secs(60));
/// let not_together = doubling.jitter(0.1);
/// let own = OpenDuration::from_fn(|recoveries| {
///     Duration::from_secs(if recoveries < 3 { 1 } else { 30 })
/// });
/// ```
///
/// Two values are equal if their numbers are equal, or if they are clones with the same function.
/// With the feature `serde`, a value with a function returns an error when it is serialized.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(from = "Form"))]
pub struct OpenDuration {
    initial: Duration,
    factor: f64,
    max: Duration,
    jitter: f64,
    /// If it is set, `initial` and `factor` are not used.
    function: Option<Function>,
}

/// It is equal to its clones only.
#[derive(Clone)]
struct Function(Arc<dyn Fn(u32) -> Duration + Send + Sync>);

/// How it is written: `"5s"`, or `{ initial = "5s", factor = 2.0, max = "1m", jitter = 0.1 }`.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged, deny_unknown_fields)]
#[serde(expecting = "expected a duration such as \"5s\", or `{ initial, factor, max, jitter }`")]
enum Form {
    Fixed(#[serde(with = "humantime_serde")] Duration),
    Exponential {
        #[serde(with = "humantime_serde")]
        initial: Duration,
        factor: f64,
        #[serde(with = "humantime_serde")]
        max: Duration,
        #[serde(default)]
        jitter: f64,
    },
}

// === impl OpenDuration ===

impl OpenDuration {
    pub(super) const DEFAULT: Duration = Duration::from_secs(5);

    /// Stays open for `initial` at first, and for `factor` times as long after each failed
    /// recovery, up to `max`. A recovery fails when the half-open breaker opens again. When the
    /// breaker closes, or you force a state, the next open time is `initial`.
    ///
    /// `initial` is 1 ms to a day, `max` is `initial` to a day, `factor` is 1 to 100.
    pub const fn exponential(initial: Duration, factor: f64, max: Duration) -> Self {
        Self {
            initial,
            factor,
            max,
            jitter: 0.0,
            function: None,
        }
    }

    /// Stays open for as long as the function returns, at least 1 ms. The argument is the number of
    /// failed recoveries since the breaker was last closed: 0 when it opens for the first time.
    ///
    /// The breaker may call the function more than once, also when you read the state: the result
    /// should depend on the argument alone, and the function must not call the breaker. The breaker
    /// holds no lock during the call. If the function panics, the breaker stays open for five
    /// seconds.
    pub fn from_fn(length: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self {
            function: Some(Function(Arc::new(length))),
            ..Self::exponential(Self::DEFAULT, 1.0, Duration::MAX)
        }
    }

    /// Varies each open time at random by up to this share, `0.0..=1.0`, so that breakers that open
    /// together in many processes do not probe together. Default: 0.0. The longest time still
    /// applies.
    #[must_use]
    pub const fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.function.is_none() {
            ConfigError::check("open_duration", self.initial, LEAST..=DAY)?;
            ConfigError::check("open_duration.factor", self.factor, 1.0..=100.0)?;
            ConfigError::check("open_duration.max", self.max, self.initial..=DAY)?;
        }
        ConfigError::check("open_duration.jitter", self.jitter, 0.0..=1.0)
    }

    /// `dice` within `0.0..1.0` decides on the jitter.
    pub(super) fn after(&self, failed_recoveries: u32, dice: f64) -> Duration {
        let times = |length: Duration, factor: f64| {
            let length = Duration::try_from_secs_f64(length.as_secs_f64() * factor);
            length.unwrap_or(Duration::MAX).min(self.max)
        };
        let exponent = i32::try_from(failed_recoveries).unwrap_or(i32::MAX);
        let length = match &self.function {
            Some(function) => function.0(failed_recoveries),
            None => times(self.initial, self.factor.powi(exponent)),
        };
        if self.jitter == 0.0 {
            return length;
        }
        times(length, 1.0 + self.jitter * (2.0 * dice - 1.0))
    }
}

impl From<Duration> for OpenDuration {
    /// Always this long: 1 ms to a day.
    fn from(length: Duration) -> Self {
        Self::exponential(length, 1.0, DAY)
    }
}

impl Fields for OpenDuration {
    fn each(&self, path: &str, each: &mut dyn FnMut(String, String)) {
        if let Some(function) = &self.function {
            each(path.to_owned(), format!("{function:?}"));
        } else {
            each(path.to_owned(), format!("{:?}", self.initial));
            each(format!("{path}.factor"), format!("{:?}", self.factor));
            each(format!("{path}.max"), format!("{:?}", self.max));
        }
        each(format!("{path}.jitter"), format!("{:?}", self.jitter));
    }
}

#[cfg(feature = "serde")]
impl From<Form> for OpenDuration {
    fn from(form: Form) -> Self {
        match form {
            Form::Fixed(duration) => duration.into(),
            Form::Exponential {
                initial,
                factor,
                max,
                jitter,
            } => Self::exponential(initial, factor, max).jitter(jitter),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for OpenDuration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.function.is_some() {
            return Err(serde::ser::Error::custom("the open duration is a function"));
        }
        let form = if *self == self.initial.into() {
            Form::Fixed(self.initial)
        } else {
            Form::Exponential {
                initial: self.initial,
                factor: self.factor,
                max: self.max,
                jitter: self.jitter,
            }
        };
        form.serialize(serializer)
    }
}

// === impl Function ===

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a function at {:?}", Arc::as_ptr(&self.0).cast::<()>())
    }
}
