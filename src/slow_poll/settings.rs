//! The settings of slow polls.

use std::time::Duration;

use crate::config::{ConfigError, Settings};

/// The settings of a [`SlowPoll`](super::SlowPoll).
///
/// With the feature `serde`, you can read and write the settings, with durations such as `"10ms"`.
/// An unknown field is an error:
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use std::time::Duration;
/// use seawall::SlowPollSettings;
///
/// let settings: SlowPollSettings = toml::from_str("threshold = '5ms'")?;
/// assert_eq!(settings, SlowPollSettings::new(Duration::from_millis(5)));
/// # }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
#[must_use = "settings do nothing until they are applied"]
#[non_exhaustive]
pub struct SlowPollSettings {
    /// A poll that takes this time or longer is slow. Any duration is allowed; with zero, every
    /// poll is slow. Default: 10 ms.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub threshold: Duration,
}

// === impl SlowPollSettings ===

impl SlowPollSettings {
    /// Reports polls that take `threshold` or longer.
    pub const fn new(threshold: Duration) -> Self {
        Self { threshold }
    }
}

impl Settings for SlowPollSettings {
    /// Any threshold is allowed.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

impl Default for SlowPollSettings {
    fn default() -> Self {
        Self::new(Duration::from_millis(10))
    }
}

impl From<Duration> for SlowPollSettings {
    fn from(threshold: Duration) -> Self {
        Self::new(threshold)
    }
}
