//! Which calls a breaker evaluates.

use std::fmt;
use std::time::Duration;

use super::open_duration::DAY;
use crate::clock::nanos;
use crate::config::{ConfigError, Fields};
use crate::control::circuit_breaker::window::{self, MAX_BUCKETS, MAX_CALLS};

/// Which calls count.
///
/// ```
/// use std::time::Duration;
/// use seawall::circuit_breaker::Window;
///
/// let last_hundred = Window::count_based(100);
/// let half_a_minute = Window::time_based(Duration::from_secs(30)).buckets(30);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Window(Extent);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(untagged, deny_unknown_fields))]
#[cfg_attr(
    feature = "serde",
    serde(
        expecting = "expected `{ calls }` or `{ duration, buckets }`, with a duration such as \"10s\""
    )
)]
enum Extent {
    Count {
        calls: u32,
    },
    Time {
        #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
        duration: Duration,
        buckets: Option<u32>,
    },
}

/// The shortest bucket of a window.
const BUCKET: Duration = Duration::from_millis(10);

// === impl Window ===

impl Window {
    const BUCKETS: u32 = 10;

    pub(super) const DEFAULT: Self = Self::time_based(Duration::from_secs(10));

    /// The last `calls` calls, 1 to 4096, however old they are: if calls are few, failures of an
    /// hour ago count. It reads no clock.
    pub const fn count_based(calls: u32) -> Self {
        Self(Extent::Count { calls })
    }

    /// The calls of the last `duration`, 10 ms to a day, in ten buckets. The window moves on by one
    /// bucket at a time, so that a call stays in it for nine tenths of `duration` to all of it. A
    /// window below 200 ms has one bucket by default, and drops all its calls at once.
    pub const fn time_based(duration: Duration) -> Self {
        Self(Extent::Time {
            duration,
            buckets: None,
        })
    }

    /// Sets the number of buckets of a window of time: 1 to 60, each at least 10 ms long. It has no
    /// effect on a window of calls.
    #[must_use]
    pub const fn buckets(mut self, number: u32) -> Self {
        if let Extent::Time { buckets, .. } = &mut self.0 {
            *buckets = Some(number);
        }
        self
    }

    pub(super) fn check(self) -> Result<(), ConfigError> {
        match self.0 {
            Extent::Count { calls } => ConfigError::check("window", calls, 1..=MAX_CALLS),
            Extent::Time { duration, buckets } => {
                ConfigError::check("window", duration, BUCKET..=DAY)?;
                let most = duration.as_nanos() / BUCKET.as_nanos();
                let most = MAX_BUCKETS.min(u32::try_from(most).unwrap_or(MAX_BUCKETS));
                ConfigError::check("window.buckets", buckets, 1..=most)
            }
        }
    }

    pub(super) fn make(self) -> window::Window {
        match self.0 {
            Extent::Count { calls } => window::Window::count_based(calls),
            Extent::Time { duration, buckets } => {
                window::Window::time_based(nanos(duration), Self::number(duration, buckets))
            }
        }
    }

    /// Whether both count the same calls.
    pub(super) fn is_same(self, other: Self) -> bool {
        let with_number = |window: Self| match window.0 {
            Extent::Count { .. } => window,
            Extent::Time { duration, buckets } => window.buckets(Self::number(duration, buckets)),
        };
        with_number(self) == with_number(other)
    }

    /// The number of buckets.
    fn number(duration: Duration, buckets: Option<u32>) -> u32 {
        let is_short = duration < Duration::from_millis(200);
        buckets.unwrap_or(if is_short { 1 } else { Self::BUCKETS })
    }

    /// The most calls in the window.
    pub(super) const fn capacity(self) -> u32 {
        match self.0 {
            Extent::Count { calls } => calls,
            Extent::Time { .. } => u32::MAX,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Extent::Count { calls } => write!(f, "{calls} calls"),
            Extent::Time { duration, buckets } => {
                write!(f, "{duration:?}")?;
                buckets.map_or(Ok(()), |buckets| write!(f, " in {buckets} buckets"))
            }
        }
    }
}

impl Fields for Window {
    fn each(&self, path: &str, each: &mut dyn FnMut(String, String)) {
        each(path.to_owned(), self.to_string());
    }
}
