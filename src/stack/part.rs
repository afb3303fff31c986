//! The parts that the builders take.

use std::time::Duration;

#[cfg(feature = "keyed")]
use super::HostBreakers;
#[cfg(feature = "keyed")]
use crate::circuit_breaker::CircuitBreakersSettings;
use crate::circuit_breaker::{CircuitBreaker, CircuitBreakerSettings};
use crate::concurrency_limit::{ConcurrencyLimit, ConcurrencyLimitSettings};
use crate::config::ConfigError;
use crate::control::lag::thresholds::LagThresholds;
use crate::drain::{Drain, DrainSettings};
use crate::lag_shed::{LagShed, LoadSignal};
use crate::request_limit::{RequestLimit, RequestLimitSettings};
use crate::timeout::{ResponseBodyTimeout, ResponseBodyTimeoutSettings, Timeout, TimeoutSettings};

/// A part of a stack as a builder takes it: a handle, or the settings of a new one.
///
/// Handles, settings, and the numbers and durations that stand for settings convert into it.
/// Settings are checked by `build`:
///
/// ```
/// use std::time::Duration;
/// use seawall::{ConcurrencyLimit, ConcurrencyLimitSettings};
///
/// let queue = ConcurrencyLimitSettings::fixed(512).queue(128, Duration::from_millis(100));
/// seawall::server().concurrency_limit(512).build()?;
/// seawall::server().concurrency_limit(queue).build()?;
/// seawall::server().concurrency_limit(ConcurrencyLimit::new(512)?).build()?;
///
/// let error = seawall::server().concurrency_limit(0).build().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "`concurrency_limit.limit` must be within 1..=2147483647, not 0",
/// );
/// # Ok::<_, seawall::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Part<H, S> {
    /// A handle, for example one that several stacks share.
    Handle(H),
    /// The settings of a new handle.
    Settings(S),
}

// === impl Part ===

impl<H, S> Part<H, S> {
    /// The handle; a new one for settings.
    pub(super) fn into_handle(
        self,
        name: &str,
        new: impl FnOnce(S) -> Result<H, ConfigError>,
    ) -> Result<H, ConfigError> {
        match self {
            Self::Handle(handle) => Ok(handle),
            Self::Settings(settings) => new(settings).map_err(|error| error.of_part(name)),
        }
    }
}

macro_rules! parts {
    ($($handle:ident, $settings:ident $(, $value:ident)?;)+) => {$(
        impl From<$handle> for Part<$handle, $settings> {
            fn from(handle: $handle) -> Self {
                Self::Handle(handle)
            }
        }

        impl From<$settings> for Part<$handle, $settings> {
            fn from(settings: $settings) -> Self {
                Self::Settings(settings)
            }
        }

        $(impl From<$value> for Part<$handle, $settings> {
            fn from(value: $value) -> Self {
                Self::Settings(value.into())
            }
        })?
    )+};
}

parts! {
    CircuitBreaker, CircuitBreakerSettings;
    ConcurrencyLimit, ConcurrencyLimitSettings, usize;
    Drain, DrainSettings, Duration;
    LagShed, LagThresholds;
    RequestLimit, RequestLimitSettings, u64;
    ResponseBodyTimeout, ResponseBodyTimeoutSettings;
    Timeout, TimeoutSettings, Duration;
}

#[cfg(feature = "keyed")]
parts! {
    HostBreakers, CircuitBreakersSettings, CircuitBreakerSettings;
}

#[cfg(feature = "keyed")]
impl From<&HostBreakers> for Part<HostBreakers, CircuitBreakersSettings> {
    fn from(breakers: &HostBreakers) -> Self {
        Self::Handle(breakers.clone())
    }
}

impl From<LoadSignal> for Part<LagShed, LagThresholds> {
    fn from(signal: LoadSignal) -> Self {
        Self::Handle(signal.into())
    }
}
