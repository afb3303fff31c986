//! The settings of a drain.

use std::time::Duration;

use crate::config::{ConfigError, Settings, fields};

/// The settings of a [`Drain`](crate::Drain): a value that you can read, compare, change, and apply
/// to a drain.
///
/// ```
/// use std::time::Duration;
/// use seawall::{Drain, DrainSettings};
///
/// let drain = Drain::new(DrainSettings::default().lame_duck(Duration::from_secs(10)))?;
/// assert_eq!(drain.settings().lame_duck, Duration::from_secs(10));
/// # Ok::<_, seawall::ConfigError>(())
/// ```
///
/// [`Drain::new`](crate::Drain::new) and [`set`](crate::Drain::set) check the values. With the
/// feature `serde`, settings implement `Serialize` and `Deserialize`. Durations are strings such as
/// `"5s"`. A missing field has its default, and an unknown field is an error:
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use std::time::Duration;
/// use seawall::DrainSettings;
///
/// let settings: DrainSettings = toml::from_str(r#"lame_duck = "10s""#)?;
/// assert_eq!(settings.lame_duck, Duration::from_secs(10));
/// # }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use = "settings do nothing until they are applied"]
#[non_exhaustive]
pub struct DrainSettings {
    /// See [`lame_duck`](Self::lame_duck()).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub lame_duck: Duration,
}

// === impl DrainSettings ===

impl DrainSettings {
    const LEAST: Duration = Duration::from_secs(1);
    const MOST: Duration = Duration::from_secs(24 * 60 * 60);

    /// The time for which requests are still served after the drain has begun, 1 s to a day.
    ///
    /// Default: 5 s. Clients and load balancers need this time to notice that the service is not
    /// ready. Set it to more than the interval of your readiness probe times the number of failures
    /// that make a server unready. Kubernetes removes a pod from its endpoints when it deletes the
    /// pod, and then needs a few seconds until every node knows.
    pub fn lame_duck(mut self, time: Duration) -> Self {
        self.lame_duck = time;
        self
    }
}

fields!(DrainSettings { lame_duck });

impl Settings for DrainSettings {
    fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check("lame_duck", self.lame_duck, Self::LEAST..=Self::MOST)
    }
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            lame_duck: Duration::from_secs(5),
        }
    }
}

impl From<Duration> for DrainSettings {
    /// The default settings with this lame-duck time.
    fn from(lame_duck: Duration) -> Self {
        Self::default().lame_duck(lame_duck)
    }
}
