//! How long a breaker stays open.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::ConfigError;

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(super) const LEAST: Duration = Duration::from_millis(1);

/// How long a breaker stays open: a `Duration`, one that grows, or a function.
///
/// ```
/// use std::time::Duration;
/// use seawall::circuit_breaker::OpenFor;
///
/// let five_seconds = OpenFor::from(Duration::from_secs(5));
/// let longer = OpenFor::growing(Duration::from_secs(5), 2.0, Duration::from_secs(60)).jitter(0.1);
/// let own = OpenFor::by(|failures| Duration::from_secs(if failures < 3 { 1 } else { 30 }));
/// ```
#[derive(Clone)]
pub struct OpenFor {
    length: Length,
    jitter: f64,
}

#[derive(Clone)]
enum Length {
    Growing {
        initial: Duration,
        factor: f64,
        cap: Duration,
    },
    By(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

// === impl OpenFor ===

impl OpenFor {
    /// `initial` at first, `factor` times as long after each failed recovery, never longer than
    /// `cap`.
    ///
    /// It starts again at `initial` once the breaker was closed. `cap` is at most a day, and
    /// `factor` 1 to 100.
    pub const fn growing(initial: Duration, factor: f64, cap: Duration) -> Self {
        Self {
            length: Length::Growing {
                initial,
                factor,
                cap,
            },
            jitter: 0.0,
        }
    }

    /// What the function returns. Its argument is the number of failed recoveries since the breaker
    /// was last closed: 0 when it opens for the first time. It is called outside any lock, and also
    /// when the state is read, so that it should depend on its argument only. Less than 1 ms is 1
    /// ms. If it panics, the breaker is open for five seconds.
    pub fn by(length: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self {
            length: Length::By(Arc::new(length)),
            jitter: 0.0,
        }
    }

    /// Up to this share longer or shorter, at random, `0.0..=1.0`: breakers of many processes that
    /// open together then do not send their probes together. The cap still applies. Default: none.
    #[must_use]
    pub const fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Length::Growing {
            initial,
            factor,
            cap,
        } = self.length
        {
            ConfigError::check("open_for", initial, LEAST..=DAY)?;
            ConfigError::check("open_for.factor", factor, 1.0..=100.0)?;
            ConfigError::check("open_for.cap", cap, initial..=DAY)?;
        }
        ConfigError::check("open_for.jitter", self.jitter, 0.0..=1.0)?;
        Ok(())
    }

    /// `dice` within `0.0..1.0` decides on the jitter.
    pub(super) fn after(&self, failed_recoveries: u32, dice: f64) -> Duration {
        let (length, cap) = match &self.length {
            Length::Growing {
                initial,
                factor,
                cap,
            } => {
                let times = factor.powi(i32::try_from(failed_recoveries).unwrap_or(i32::MAX));
                let length = Duration::try_from_secs_f64(initial.as_secs_f64() * times);
                (length.unwrap_or(Duration::MAX), *cap)
            }
            Length::By(length) => (length(failed_recoveries), Duration::MAX),
        };
        let length = length.min(cap);
        if self.jitter == 0.0 {
            return length;
        }
        let times = 1.0 + self.jitter * (2.0 * dice - 1.0);
        let jittered = Duration::try_from_secs_f64(length.as_secs_f64() * times);
        jittered.unwrap_or(Duration::MAX).min(cap)
    }
}

impl From<Duration> for OpenFor {
    /// Always this long: 1 ms to a day.
    fn from(length: Duration) -> Self {
        Self::growing(length, 1.0, length)
    }
}

impl fmt::Debug for OpenFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("OpenFor");
        match &self.length {
            Length::Growing {
                initial,
                factor,
                cap,
            } => debug
                .field("initial", initial)
                .field("factor", factor)
                .field("cap", cap),
            Length::By(_) => debug.field("by", &"a function"),
        };
        debug.field("jitter", &self.jitter).finish()
    }
}
