//! The settings of a concurrency limit.

use std::time::Duration;

use crate::clock::nanos;
use crate::config::{ConfigError, Settings, fields};
use crate::control::concurrency_limit::limit;

/// The settings of a [`ConcurrencyLimit`](super::ConcurrencyLimit).
///
/// With the feature `serde`, you can read and write the settings, with durations such as `"100ms"`.
/// The field `limit` is required; any other missing field has its default. An unknown field is an
/// error:
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use seawall::ConcurrencyLimitSettings;
///
/// let settings: ConcurrencyLimitSettings = toml::from_str(
///     r#"
///     limit = 512
///     max_queued = 128
///     queue_timeout = "100ms"
///     "#,
/// )?;
/// let queue_timeout = std::time::Duration::from_millis(100);
/// assert_eq!(settings, ConcurrencyLimitSettings::fixed(512).queue(128, queue_timeout));
/// # }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[must_use = "settings do nothing until they are applied"]
#[non_exhaustive]
pub struct ConcurrencyLimitSettings {
    /// The upper bound for the requests in flight, 1 to 2³¹ − 1.
    pub limit: usize,
    /// The upper bound for the queued requests; see [`queue`](Self::queue).
    #[cfg_attr(feature = "serde", serde(default))]
    pub max_queued: usize,
    /// The longest time that a request is queued.
    #[cfg_attr(feature = "serde", serde(default, with = "humantime_serde"))]
    pub queue_timeout: Duration,
}

// === impl ConcurrencyLimitSettings ===

impl ConcurrencyLimitSettings {
    /// A limit of `limit` requests in flight, 1 to 2³¹ − 1, without a queue.
    pub const fn fixed(limit: usize) -> Self {
        Self {
            limit,
            max_queued: 0,
            queue_timeout: Duration::ZERO,
        }
    }

    /// Queues up to `max_queued` requests for a permit, in the order of their arrival, each for at
    /// most `timeout`. `timeout` must not be zero, unless `max_queued` is zero.
    ///
    /// Default: no queue. Requests over the limit are rejected at once.
    ///
    /// The request waits in the future of its call, which you must poll on a Tokio runtime with a
    /// time driver. A timeout around the layer includes the wait. Make the queue timeout shorter
    /// than that timeout: if the request reaches the end of the outer timeout in the queue, a
    /// circuit breaker around both records a failure. It ignores the end of the queue timeout.
    ///
    /// If the timeout of an outer layer [exposes](crate::GateLayer::expose_deadline) its
    /// [`Deadline`](crate::Deadline), the queue rejects the request at the deadline: with 503
    /// ([`QueueTimeout`](crate::Reason::QueueTimeout)), which a circuit breaker ignores, and not
    /// with 504. In a stack, the timeout itself answers, with 504.
    pub const fn queue(mut self, max_queued: usize, timeout: Duration) -> Self {
        self.max_queued = max_queued;
        self.queue_timeout = timeout;
        self
    }

    /// The length of the queue, and the nanoseconds in it.
    pub(super) fn queue_words(&self) -> [u64; 2] {
        [self.max_queued as u64, nanos(self.queue_timeout)]
    }

    /// The limit, after the settings are checked.
    pub(super) fn permits(&self) -> u32 {
        u32::try_from(self.limit).unwrap_or(limit::MAX)
    }
}

fields!(ConcurrencyLimitSettings {
    limit,
    max_queued,
    queue_timeout,
});

impl Settings for ConcurrencyLimitSettings {
    fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check("limit", self.limit, 1..=limit::MAX as usize)?;
        let timeout = (self.max_queued > 0).then_some(self.queue_timeout);
        ConfigError::check_not_zero("queue_timeout", timeout)
    }
}

impl From<usize> for ConcurrencyLimitSettings {
    fn from(limit: usize) -> Self {
        Self::fixed(limit)
    }
}
