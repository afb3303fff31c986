//! The settings of a family of breakers.

use std::fmt::Debug;
use std::time::Duration;

use crate::circuit_breaker::CircuitBreakerSettings;
use crate::config::{ConfigError, Settings};

/// The settings of [`CircuitBreakers`](super::CircuitBreakers).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use = "settings do nothing until they are applied"]
#[non_exhaustive]
pub struct CircuitBreakersSettings {
    /// The settings of each breaker.
    pub breaker: CircuitBreakerSettings,
    /// See [`max_keys`](Self::max_keys()).
    pub max_keys: usize,
    /// See [`idle_timeout`](Self::idle_timeout()).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub idle_timeout: Duration,
}

// === impl CircuitBreakersSettings ===

impl CircuitBreakersSettings {
    /// The settings of each breaker.
    pub fn breaker(mut self, settings: CircuitBreakerSettings) -> Self {
        self.breaker = settings;
        self
    }

    /// The most keys, 1 to `u32::MAX`. Default: 1000, which take about two megabytes. The map
    /// evicts keys in batches: with a maximum below 100, it may evict a key that is in use.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// The time for which the family keeps a key that is not used, 1 ms to 1000 days. Default: an
    /// hour. It should be longer than the open time of a breaker.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        const LONGEST: Duration = Duration::from_secs(1000 * 24 * 60 * 60);
        ConfigError::check("max_keys", self.max_keys, 1..=u32::MAX as usize)?;
        let least = Duration::from_millis(1);
        ConfigError::check("idle_timeout", self.idle_timeout, least..=LONGEST)?;
        let breaker = self.breaker.check();
        breaker.map_err(|error| error.of_part("breaker"))
    }

    /// Returns an error if the bounds differ from these, with which the family was made.
    pub(super) fn check_same_bounds(&self, keys: usize, idle: Duration) -> Result<(), ConfigError> {
        same("max_keys", self.max_keys, keys)?;
        same("idle_timeout", self.idle_timeout, idle)
    }
}

impl Default for CircuitBreakersSettings {
    fn default() -> Self {
        Self {
            breaker: CircuitBreakerSettings::default(),
            max_keys: 1000,
            idle_timeout: Duration::from_secs(60 * 60),
        }
    }
}

impl From<CircuitBreakerSettings> for CircuitBreakersSettings {
    fn from(breaker: CircuitBreakerSettings) -> Self {
        Self {
            breaker,
            ..Self::default()
        }
    }
}

fn same<T: PartialEq + Debug>(field: &'static str, value: T, kept: T) -> Result<(), ConfigError> {
    if value == kept {
        return Ok(());
    }
    let kept = format!("the one with which the family was made, {kept:?}");
    Err(ConfigError::new(field, format!("{value:?}"), kept))
}
