//! The settings of timeouts.

use std::time::Duration;

use crate::config::{ConfigError, Settings, fields};
#[cfg(feature = "http")]
use crate::policy::BodyBounds;

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
    /// The time that a request has until its response head. [`Duration::MAX`] is no limit. With
    /// zero, a request still has about a millisecond, which is the resolution of Tokio's timers.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub duration: Duration,
    /// See [`raisable_to`](Self::raisable_to()).
    #[cfg_attr(feature = "serde", serde(default, with = "humantime_serde"))]
    pub raisable_to: Option<Duration>,
}

/// The settings of a [`ResponseBodyTimeout`](super::ResponseBodyTimeout).
///
/// In a stack, start from [`server`](Self::server) or [`client`](Self::client), since `default()`
/// has no limit:
///
/// ```
/// use std::time::Duration;
/// use seawall::ResponseBodyTimeoutSettings;
///
/// let bodies = ResponseBodyTimeoutSettings::server().idle_timeout(Duration::from_secs(30));
/// let stack = seawall::server().response_body_timeout(bodies).build()?;
/// # let _ = stack;
/// # Ok::<_, seawall::ConfigError>(())
/// ```
///
/// With the feature `serde`, you can read and write the settings, with durations such as `"5s"`. A
/// missing field has the value of `default()`, and not that of the stack. An unknown field is an
/// error.
#[cfg(feature = "http")]
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use = "settings do nothing until they are applied"]
#[non_exhaustive]
pub struct ResponseBodyTimeoutSettings {
    /// See [`deadline`](Self::deadline()).
    pub deadline: bool,
    /// See [`idle_timeout`](Self::idle_timeout()).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub idle_timeout: Option<Duration>,
    /// See [`idle_exempts_grpc`](Self::idle_exempts_grpc()).
    pub idle_exempts_grpc: bool,
    /// See [`progress_timeout`](Self::progress_timeout()).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub progress_timeout: Option<Duration>,
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
    /// layer. A [`Deadline`](crate::Deadline) in the extensions is not raised. An inner timeout
    /// also raises this layer's deadline for the response body (`including_body`) and its
    /// [`Deadline`](crate::Deadline) (`expose_deadline`). It does not raise the `idle_timeout` and
    /// `progress_timeout` of response bodies, or the caller's `grpc-timeout`.
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

// === impl ResponseBodyTimeoutSettings ===

#[cfg(feature = "http")]
impl ResponseBodyTimeoutSettings {
    /// The settings in a [`server`](crate::server) stack: a progress timeout of 60 s.
    pub const fn server() -> Self {
        Self {
            deadline: false,
            idle_timeout: None,
            idle_exempts_grpc: false,
            progress_timeout: Some(Duration::from_secs(60)),
        }
    }

    /// The settings in a [`client`](crate::client) stack: an idle timeout of 60 s, but none for
    /// gRPC.
    pub const fn client() -> Self {
        Self {
            deadline: false,
            idle_timeout: Some(Duration::from_secs(60)),
            idle_exempts_grpc: true,
            progress_timeout: None,
        }
    }

    /// Whether the deadline of the [`Timeout`](super::Timeout) in the same layer applies to the
    /// response head and the response body. The time starts as for the head. If the head is ready
    /// at once, the time starts at the head for a body of unknown size or above 64 KiB, and at the
    /// first poll of any other body.
    ///
    /// Default: `false`. The timeout then ends with the response head. `true` does nothing while
    /// that timeout is off.
    pub fn deadline(mut self, applies: bool) -> Self {
        self.deadline = applies;
        self
    }

    /// Ends a response body if the connection waits this long for a frame from the inner service.
    ///
    /// Default: `None`. `None` or zero is no limit.
    pub fn idle_timeout(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = idle.into();
        self
    }

    /// Whether the [`idle_timeout`](Self::idle_timeout()) does not apply to gRPC, whose streams may
    /// be silent.
    ///
    /// Default: `false`.
    pub fn idle_exempts_grpc(mut self, exempts: bool) -> Self {
        self.idle_exempts_grpc = exempts;
        self
    }

    /// Ends a response body if the connection takes no frame for this long although a frame is
    /// ready. Use it for clients that stop reading. It does not end a body whose handler is silent.
    ///
    /// Default: `None`. `None` or zero is no limit.
    ///
    /// The kernel's send buffer of some megabytes hides the progress of a slow client: the
    /// connection takes the next frame only after the client has read much of that buffer. Choose a
    /// time in which your slowest clients can read it. Over HTTP/2, this also applies if the
    /// client's window is larger than the buffer.
    pub fn progress_timeout(mut self, progress: impl Into<Option<Duration>>) -> Self {
        self.progress_timeout = progress.into();
        self
    }

    /// Publishes them for requests.
    pub(super) fn publish(&self, bounds: &BodyBounds) {
        let grpc_idle = self.idle_timeout.filter(|_| !self.idle_exempts_grpc);
        let progress = self.progress_timeout;
        bounds.set(self.deadline, self.idle_timeout, grpc_idle, progress);
    }
}

#[cfg(feature = "http")]
fields!(ResponseBodyTimeoutSettings {
    deadline,
    idle_timeout,
    idle_exempts_grpc,
    progress_timeout,
});

#[cfg(feature = "http")]
impl Settings for ResponseBodyTimeoutSettings {
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}
