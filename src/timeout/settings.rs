//! The settings of a timeout.

use std::time::Duration;

use crate::config::{ConfigError, Settings, fields};

/// The settings of a [`Timeout`](super::Timeout).
///
/// With the feature `serde`, you can read and write the settings, with durations such as `"5s"`. An
/// unknown field is an error:
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use seawall::TimeoutSettings;
///
/// let settings: TimeoutSettings = toml::from_str("duration = '5s'")?;
/// assert_eq!(settings, TimeoutSettings::new(std::time::Duration::from_secs(5)));
/// # }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[must_use = "settings do nothing until they are applied"]
#[non_exhaustive]
pub struct TimeoutSettings {
    /// The time that a request has until its response head. [`Duration::MAX`] is no limit. Zero is
    /// not: only a response that is ready within about a millisecond passes, which is the
    /// resolution of Tokio's timers.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub duration: Duration,
    /// See [`raisable_to`](Self::raisable_to()).
    #[cfg_attr(feature = "serde", serde(default, with = "humantime_serde"))]
    pub raisable_to: Option<Duration>,
}

// === impl TimeoutSettings ===

impl TimeoutSettings {
    /// Gives requests `duration` until their response head.
    pub const fn new(duration: Duration) -> Self {
        Self {
            duration,
            raisable_to: None,
        }
    }

    /// Lets a `Timeout` on an inner layer replace this one by a longer time of at most `most`.
    /// `most` must not be below [`duration`](Self::duration).
    ///
    /// Default: `None`. The shorter of two nested timeouts then applies.
    ///
    /// Use it for a layer around a router if some routes have a timeout of their own:
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum::{Router, routing::get};
    /// use seawall::{Timeout, TimeoutLayer, TimeoutSettings};
    ///
    /// let around = TimeoutSettings::new(Duration::from_secs(5))
    ///     .raisable_to(Duration::from_secs(300));
    /// let report = get(async || "a long report").layer(TimeoutLayer::new(Duration::from_secs(60)));
    /// let app: Router = Router::new()
    ///     .route("/", get(async || "hello"))
    ///     .route("/report", report)
    ///     .layer(TimeoutLayer::new(Timeout::new(around)?));
    /// # let _ = app;
    /// # Ok::<_, seawall::ConfigError>(())
    /// ```
    ///
    /// The inner time starts with the call of the inner layer; `most` starts with the call of this
    /// layer. An inner timeout also raises this layer's deadline for the response body
    /// (`including_body`) and its [`Deadline`](crate::Deadline) (`expose_deadline`). It does not
    /// raise `response_body_idle_timeout`, `progress_timeout`, or the caller's `grpc-timeout`.
    ///
    /// The inner layer finds the outer one in the extensions of the request. A client that sends a
    /// new request inside the handler raises nothing. If the handler forwards the request with its
    /// extensions, the client's timeout raises this one. Over [`Plain`](crate::Plain) and without
    /// the feature `http` this has no effect.
    ///
    /// It costs three allocations and three clock reads for each request, and one of each in every
    /// timeout layer inside it. If one timeout or request limit of the process is raisable, all
    /// timeouts and request limits of the process read the extensions of their requests.
    pub fn raisable_to(mut self, most: impl Into<Option<Duration>>) -> Self {
        self.raisable_to = most.into();
        self
    }

    /// In nanoseconds; zero for none.
    #[cfg(feature = "http")]
    pub(super) fn most(&self) -> u64 {
        self.raisable_to.map_or(0, crate::clock::nanos)
    }
}

fields!(TimeoutSettings {
    duration,
    raisable_to,
});

impl Settings for TimeoutSettings {
    fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check_most("duration", self.duration, "raisable_to", self.raisable_to)
    }
}

impl From<Duration> for TimeoutSettings {
    fn from(duration: Duration) -> Self {
        Self::new(duration)
    }
}
