//! The settings of a breaker, which may change while it runs.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use super::open_for::{DAY, LEAST, OpenFor};
use crate::clock::nanos;
use crate::config::ConfigError;
use crate::control::circuit_breaker::breaker::Spans;
use crate::control::circuit_breaker::circuit::{MAX_PROBES, Thresholds};
use crate::control::circuit_breaker::window::{self, MAX_BUCKETS, MAX_CALLS};
use crate::observe;

/// The default open time.
pub(super) const DEFAULT_OPEN: Duration = Duration::from_secs(5);

/// The shortest bucket of a window.
const BUCKET: Duration = Duration::from_millis(10);

/// Which calls count.
///
/// ```
/// use std::time::Duration;
/// use seawall::circuit_breaker::Window;
///
/// let last_hundred = Window::calls(100);
/// let half_a_minute = Window::time(Duration::from_secs(30)).buckets(30);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(Extent);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Calls(u32),
    Time {
        span: Duration,
        buckets: Option<u32>,
    },
}

/// The settings of a breaker.
pub(super) struct Settings {
    /// Bits of an `f64`; not a number if there is none.
    failure_rate: AtomicU64,
    slow_rate: AtomicU64,
    /// Nanoseconds.
    slow_call: AtomicU64,
    minimum_calls: AtomicU32,
    /// 0 for no threshold.
    consecutive_failures: AtomicU32,
    probes: AtomicU32,
    /// Nanoseconds; 0 for as long as it was open.
    half_open_for: AtomicU64,
    open_for: RwLock<OpenFor>,
    window: Window,
    /// The seed of the jitter, together with a generation.
    seed: u64,
    /// Held while thresholds are changed: one of them must remain.
    changing: Mutex<()>,
}

/// Settings before they are checked.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) failure_rate: Option<f64>,
    pub(super) slow_call: Option<(Duration, f64)>,
    pub(super) consecutive_failures: Option<u32>,
    pub(super) window: Window,
    pub(super) minimum_calls: Option<u32>,
    pub(super) open_for: OpenFor,
    pub(super) probes: u32,
    pub(super) half_open_for: Option<Duration>,
}

// === impl Window ===

impl Window {
    const BUCKETS: u32 = 10;

    /// The last `n` calls, however old they are: 1 to 4096.
    ///
    /// It reads no clock, but old calls stay in the window until new calls replace them: with few
    /// calls, failures of an hour ago count.
    pub const fn calls(n: u32) -> Self {
        Self(Extent::Calls(n))
    }

    /// The calls of the last `span`, 10 ms to a day, in ten buckets. The window moves on by one
    /// bucket at a time, so that a call stays in it for nine tenths of `span` to all of `span`. A
    /// span below 200 ms is one bucket.
    pub const fn time(span: Duration) -> Self {
        Self(Extent::Time {
            span,
            buckets: None,
        })
    }

    /// The number of buckets of a window of time, 1 to 60, each at least 10 ms long. A window of
    /// calls ignores it.
    #[must_use]
    pub const fn buckets(self, buckets: u32) -> Self {
        match self.0 {
            Extent::Calls(_) => self,
            Extent::Time { span, .. } => Self(Extent::Time {
                span,
                buckets: Some(buckets),
            }),
        }
    }

    fn check(self) -> Result<Self, ConfigError> {
        match self.0 {
            Extent::Calls(n) => {
                ConfigError::check("window", n, 1..=MAX_CALLS)?;
            }
            Extent::Time { span, buckets } => {
                ConfigError::check("window", span, BUCKET..=DAY)?;
                let most = span.as_nanos() / BUCKET.as_nanos();
                let most = MAX_BUCKETS.min(u32::try_from(most).unwrap_or(MAX_BUCKETS));
                ConfigError::check("window.buckets", buckets.unwrap_or(1), 1..=most)?;
            }
        }
        Ok(self)
    }

    fn make(self) -> window::Window {
        match self.0 {
            Extent::Calls(n) => window::Window::last(n),
            Extent::Time { span, buckets } => {
                let short = span < Duration::from_millis(200);
                let buckets = buckets.unwrap_or(if short { 1 } else { Self::BUCKETS });
                window::Window::within(nanos(span), buckets)
            }
        }
    }

    /// The most calls in the window.
    const fn capacity(self) -> u32 {
        match self.0 {
            Extent::Calls(n) => n,
            Extent::Time { .. } => u32::MAX,
        }
    }
}

// === impl Settings ===

const NONE: u64 = f64::NAN.to_bits();

fn bits(rate: Option<f64>) -> u64 {
    rate.map_or(NONE, f64::to_bits)
}

fn rate(bits: &AtomicU64) -> Option<f64> {
    Some(f64::from_bits(bits.load(Relaxed))).filter(|rate| !rate.is_nan())
}

fn check_rate(field: &'static str, rate: Option<f64>) -> Result<(), ConfigError> {
    if let Some(rate) = rate {
        ConfigError::check(field, rate, 0.0001..=1.0)?;
    }
    Ok(())
}

impl Draft {
    pub(super) fn check(self) -> Result<Self, ConfigError> {
        self.open_for.check()?;
        Settings::empty(self.window.check()?).apply(&self)?;
        Ok(self)
    }

    /// The draft with another window, whose size bounds the minimum number of calls.
    #[cfg(feature = "keyed")]
    pub(super) fn with_window(mut self, window: Window) -> Self {
        let most = window.capacity();
        self.minimum_calls = self.minimum_calls.map(|calls| calls.min(most));
        self.window = window;
        self
    }

    fn minimum_calls(&self) -> u32 {
        const USUAL: u32 = 20;
        self.minimum_calls
            .unwrap_or(USUAL.min(self.window.capacity()))
    }
}

impl Settings {
    /// The settings of a checked draft.
    pub(super) fn of(draft: Draft) -> Self {
        let this = Self::empty(draft.window);
        let applied = this.apply(&draft);
        debug_assert!(applied.is_ok(), "a draft that was checked");
        this
    }

    fn empty(window: Window) -> Self {
        Self {
            failure_rate: AtomicU64::new(NONE),
            slow_rate: AtomicU64::new(NONE),
            slow_call: AtomicU64::new(u64::MAX),
            minimum_calls: AtomicU32::new(1),
            consecutive_failures: AtomicU32::new(0),
            probes: AtomicU32::new(1),
            half_open_for: AtomicU64::new(0),
            open_for: RwLock::new(LEAST.into()),
            window,
            seed: fastrand::u64(..),
            changing: Mutex::new(()),
        }
    }

    /// Applies everything but the window, which must be the same.
    pub(super) fn apply(&self, draft: &Draft) -> Result<(), ConfigError> {
        self.set_all_thresholds(
            draft.failure_rate,
            draft.slow_call,
            draft.consecutive_failures,
        )?;
        self.set_minimum_calls(draft.minimum_calls())?;
        self.set_probes(draft.probes)?;
        self.set_half_open_for(draft.half_open_for)?;
        self.set_open_for(draft.open_for.clone())
    }

    pub(super) fn make_window(&self) -> window::Window {
        self.window.make()
    }

    /// The longest call that is not slow, in nanoseconds.
    #[inline]
    pub(super) fn slow_call(&self) -> u64 {
        self.slow_call.load(Relaxed)
    }

    pub(super) fn is_timed(&self) -> bool {
        self.slow_call() != u64::MAX
    }

    pub(super) fn set_failure_rate(&self, rate: Option<f64>) -> Result<(), ConfigError> {
        let _changing = self.changing();
        let (_, slow, consecutive) = self.all_thresholds();
        self.set_thresholds(rate, slow, consecutive)
    }

    pub(super) fn set_slow_call(&self, slow: Option<(Duration, f64)>) -> Result<(), ConfigError> {
        let _changing = self.changing();
        let (rate, _, consecutive) = self.all_thresholds();
        self.set_thresholds(rate, slow, consecutive)
    }

    pub(super) fn set_consecutive_failures(&self, most: Option<u32>) -> Result<(), ConfigError> {
        let _changing = self.changing();
        let (rate, slow, _) = self.all_thresholds();
        self.set_thresholds(rate, slow, most)
    }

    fn set_all_thresholds(
        &self,
        rate: Option<f64>,
        slow: Option<(Duration, f64)>,
        consecutive: Option<u32>,
    ) -> Result<(), ConfigError> {
        let _changing = self.changing();
        self.set_thresholds(rate, slow, consecutive)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_thresholds(&self) -> (Option<f64>, Option<(Duration, f64)>, Option<u32>) {
        let duration = Duration::from_nanos(self.slow_call());
        let consecutive = self.consecutive_failures.load(Relaxed);
        (
            rate(&self.failure_rate),
            rate(&self.slow_rate).map(|rate| (duration, rate)),
            (consecutive > 0).then_some(consecutive),
        )
    }

    fn set_thresholds(
        &self,
        rate: Option<f64>,
        slow: Option<(Duration, f64)>,
        consecutive: Option<u32>,
    ) -> Result<(), ConfigError> {
        check_rate("failure_rate", rate)?;
        if let Some((duration, rate)) = slow {
            ConfigError::check("slow_call.duration", duration, LEAST..=DAY)?;
            check_rate("slow_call.rate", Some(rate))?;
        }
        if let Some(most) = consecutive {
            ConfigError::check("consecutive_failures", most, 1..=u32::MAX)?;
        }
        if rate.is_none() && slow.is_none() && consecutive.is_none() {
            return Err(ConfigError::new(
                "failure_rate",
                "None",
                "0.0001..=1.0 where neither slow_call nor consecutive_failures is set",
            ));
        }
        self.failure_rate.store(bits(rate), Relaxed);
        let slow_rate = slow.map(|(_, rate)| rate);
        self.slow_rate.store(bits(slow_rate), Relaxed);
        let duration = slow.map_or(u64::MAX, |(duration, _)| nanos(duration));
        self.slow_call.store(duration, Relaxed);
        self.consecutive_failures
            .store(consecutive.unwrap_or(0), Relaxed);
        Ok(())
    }

    pub(super) fn set_minimum_calls(&self, calls: u32) -> Result<(), ConfigError> {
        let calls = ConfigError::check("minimum_calls", calls, 1..=self.window.capacity())?;
        self.minimum_calls.store(calls, Relaxed);
        Ok(())
    }

    pub(super) fn set_probes(&self, probes: u32) -> Result<(), ConfigError> {
        let probes = ConfigError::check("half_open", probes, 1..=MAX_PROBES)?;
        self.probes.store(probes, Relaxed);
        Ok(())
    }

    pub(super) fn set_half_open_for(&self, span: Option<Duration>) -> Result<(), ConfigError> {
        if let Some(span) = span {
            ConfigError::check("half_open_for", span, LEAST..=DAY)?;
        }
        self.half_open_for.store(span.map_or(0, nanos), Relaxed);
        Ok(())
    }

    pub(super) fn set_open_for(&self, open_for: OpenFor) -> Result<(), ConfigError> {
        open_for.check()?;
        *self
            .open_for
            .write()
            .unwrap_or_else(PoisonError::into_inner) = open_for;
        Ok(())
    }
}

impl Spans for Settings {
    fn open(&self, failed_recoveries: u32, generation: u64) -> u64 {
        // A copy, so that the user's function runs outside the lock. It may run while a call
        // unwinds.
        let open_for = self
            .open_for
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let dice = fastrand::Rng::with_seed(self.seed.wrapping_add(generation)).f64();
        let mut length = DEFAULT_OPEN;
        observe::without_panics(|| length = open_for.after(failed_recoveries, dice));
        nanos(length.max(LEAST))
    }

    fn half_open(&self, open: u64) -> u64 {
        match self.half_open_for.load(Relaxed) {
            // A call that is not slow must be able to end in time.
            0 if self.is_timed() => open.max(self.slow_call().saturating_mul(2)),
            0 => open,
            span => span,
        }
    }

    fn thresholds(&self) -> Thresholds {
        let consecutive = self.consecutive_failures.load(Relaxed);
        Thresholds {
            failure_rate: rate(&self.failure_rate),
            slow_rate: rate(&self.slow_rate),
            minimum_calls: self.minimum_calls.load(Relaxed).into(),
            consecutive_failures: (consecutive > 0).then_some(consecutive),
            probes: self.probes.load(Relaxed),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("thresholds", &self.thresholds())
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
