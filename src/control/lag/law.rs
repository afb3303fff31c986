//! When to shed, from how far the runtime is behind: an armed proportional law.
//!
//! Time comes in as the distance from any fixed origin.

use std::time::Duration;

use crate::config::ConfigError;

/// The constants of the law by which a [`LagShed`](crate::LagShed) sheds; each can be changed while it runs.
///
/// ```
/// use std::time::Duration;
/// use seawall::{LagLaw, LagShed};
///
/// let lag = LagShed::with_law(LagLaw::strict().exit(Duration::from_secs(1)))?;
/// lag.set_law(lag.law().max_shed(0.95))?; // while it runs
/// # Ok::<_, seawall::ConfigError>(())
/// ```
///
/// The law is armed by a lag that stays above [`target`](Self::target) for [`window`](Self::window), by one that reaches
/// [`hard`](Self::hard), or by one that requests keep running into until it reaches [`surge`](Self::surge). Armed, it refuses the share
///
/// ```text
/// clamp((smoothed − lo) / (hi − lo), min_shed, max_shed)
/// ```
///
/// of the requests, `smoothed` being the lag's exponential moving average with time constant [`tau`](Self::tau). It is
/// disarmed when the lag has stayed at or below `target` for [`exit`](Self::exit). No half-open phase is needed: the lag
/// is measured without the help of requests, so that admitting none is safe.
///
/// A proportional law holds a small queue, from which the server always has something to do; laws that switch between
/// everything and nothing leave it idle after each drain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LagLaw {
    pub(super) warn: Duration,
    pub(super) target: Duration,
    pub(super) window: Duration,
    pub(super) surge: Duration,
    pub(super) hard: Duration,
    pub(super) exit: Duration,
    pub(super) lo: Duration,
    pub(super) hi: Duration,
    pub(super) tau: Duration,
    pub(super) min_shed: f64,
    pub(super) max_shed: f64,
    pub(super) forgives_stalls: bool,
}

/// What the law has seen, and what it makes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Lagging {
    last: Option<Duration>,
    lag: Duration,
    smoothed: f64,
    above_since: Option<Duration>,
    calm_since: Option<Duration>,
    surging_since: Option<Duration>,
    armed: bool,
}

/// What a [`LagShed`](crate::LagShed) makes of the lag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum LagState {
    /// The runtime keeps up.
    #[default]
    Normal,
    /// The lag is above [`LagLaw::warn`], or was moments ago, and nothing is refused.
    Warn,
    /// Requests are refused: some, or all.
    Shedding,
}

/// One look at the lag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) at: Duration,
    pub(crate) lag: Duration,
    /// Requests kept coming through while the lag grew: it is a queue, and not a worker that is held up.
    pub(crate) is_queue: bool,
}

/// What follows from it, until the next reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) state: LagState,
    /// The share of requests to refuse, `0.0..=1.0`.
    pub(crate) shed: f64,
    /// How long the law stays armed at the least, plus the lag itself.
    pub(crate) over_in: Duration,
}

/// Readings further apart than this have nothing to do with each other.
pub(crate) const STALE: Duration = Duration::from_millis(500);

// === impl LagLaw ===

impl LagLaw {
    const fn preset(window: u64, surge: u64, hard: u64) -> Self {
        Self {
            warn: Duration::from_millis(10),
            target: Duration::from_millis(20),
            window: Duration::from_millis(window),
            surge: Duration::from_millis(surge),
            hard: Duration::from_millis(hard),
            exit: Duration::from_millis(500),
            lo: Duration::from_millis(20),
            hi: Duration::from_millis(100),
            tau: Duration::from_millis(25),
            min_shed: 0.0,
            max_shed: 1.0,
            forgives_stalls: true,
        }
    }

    /// For services that would rather refuse than be slow: window 200 ms, surge 100 ms, hard 400 ms.
    pub const fn strict() -> Self {
        Self::preset(200, 100, 400)
    }

    /// For services whose load comes in bursts of up to half a second that are worth waiting for: window 500 ms, surge
    /// and hard 300 ms.
    pub const fn burst_tolerant() -> Self {
        Self::preset(500, 300, 300)
    }

    /// The classic latch: a lag of `threshold` or more refuses everything, until the lag has been below it for `hold`.
    ///
    /// See [`LagShed::latched`](crate::LagShed::latched) for what it costs.
    pub const fn latched(threshold: Duration, hold: Duration) -> Self {
        Self {
            target: threshold,
            hard: threshold,
            surge: threshold,
            exit: hold,
            min_shed: 1.0,
            forgives_stalls: false,
            ..Self::preset(300, 150, 300)
        }
    }

    /// The lag above which the state is [`Warn`](LagState::Warn); 10 ms by default. It refuses nothing.
    #[must_use]
    pub const fn warn(mut self, warn: Duration) -> Self {
        self.warn = warn;
        self
    }

    /// The lag up to which all is well; 20 ms by default, two ticks of the probe.
    #[must_use]
    pub const fn target(mut self, target: Duration) -> Self {
        self.target = target;
        self
    }

    /// How long the lag has to stay above `target` until the law is armed; 300 ms by default, so that a garbage collection
    /// of a neighbour or a burst refuses nothing.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// The lag that arms the law earlier if two readings in a row show it and requests kept coming through while it grew; 150 ms
    /// by default. A worker that is held up lets nothing through, a queue does: at ten times the capacity this takes a quarter off the
    /// longest waits, which are those from before arming.
    #[must_use]
    pub const fn surge(mut self, surge: Duration) -> Self {
        self.surge = surge;
        self
    }

    /// The lag that arms the law at once; 300 ms by default.
    #[must_use]
    pub const fn hard(mut self, hard: Duration) -> Self {
        self.hard = hard;
        self
    }

    /// How long the lag has to stay at or below `target` until the law is disarmed; 500 ms by default. Armed costs nothing
    /// while the lag is low.
    #[must_use]
    pub const fn exit(mut self, exit: Duration) -> Self {
        self.exit = exit;
        self
    }

    /// The smoothed lag at which refusing begins; 20 ms by default.
    #[must_use]
    pub const fn lo(mut self, lo: Duration) -> Self {
        self.lo = lo;
        self
    }

    /// The smoothed lag at which everything is refused; 100 ms by default. Under a lasting overload the queue stays
    /// between `lo` and `hi`: nearer to `hi` the greater the overload.
    #[must_use]
    pub const fn hi(mut self, hi: Duration) -> Self {
        self.hi = hi;
        self
    }

    /// The time constant of the moving average; 25 ms by default, a few ticks of the probe.
    #[must_use]
    pub const fn tau(mut self, tau: Duration) -> Self {
        self.tau = tau;
        self
    }

    /// The share that is refused at the least while the law is armed, `0.0..=1.0`; 0 by default, 1 for a latch.
    #[must_use]
    pub const fn min_shed(mut self, share: f64) -> Self {
        self.min_shed = share;
        self
    }

    /// The share that is refused at the most, `0.0..=1.0`; 1 by default: refusing everything is safe, since the lag is
    /// measured without the help of requests.
    #[must_use]
    pub const fn max_shed(mut self, share: f64) -> Self {
        self.max_shed = share;
        self
    }

    /// Whether a lag during which no request came through for more than `hi` is taken back when it is over; `true` by
    /// default. What has piled up behind a worker that was held up is often gone in a moment: it gets `window` for that,
    /// before it counts as a surge. One stall after the other is not taken back: that is a queue of long handlers. Of what a
    /// load signal says nothing is taken back.
    #[must_use]
    pub const fn forgive_stalls(mut self, forgive: bool) -> Self {
        self.forgives_stalls = forgive;
        self
    }

    /// A call-free time that is longer than this is a stall.
    pub(crate) const fn stall(&self) -> Duration {
        self.hi
    }

    /// How long what a stall has left may take to drain before it counts.
    pub(crate) const fn drain(&self) -> Duration {
        self.window
    }

    pub(crate) const fn forgives(&self) -> bool {
        self.forgives_stalls
    }

    /// The lag that a load signal stands for: 0 is none, 1 is `hi`.
    pub(crate) fn lag_of(&self, pressure: f64) -> Duration {
        if pressure > 0.0 {
            let span = self.hi.saturating_sub(self.lo);
            self.lo.max(self.target) + span.mul_f64(pressure.min(1000.0)) + Duration::from_nanos(1)
        } else {
            Duration::ZERO
        }
    }

    pub(crate) fn check(self) -> Result<Self, ConfigError> {
        let least = Duration::from_nanos(1);
        let most = Duration::from_secs(24 * 60 * 60);
        ConfigError::check("target", self.target, least..=most)?;
        ConfigError::check("warn", self.warn, least..=most)?;
        ConfigError::check("window", self.window, least..=most)?;
        ConfigError::check("surge", self.surge, self.target..=most)?;
        ConfigError::check("hard", self.hard, self.target..=most)?;
        ConfigError::check("exit", self.exit, least..=most)?;
        ConfigError::check("hi", self.hi, least..=most)?;
        ConfigError::check(
            "lo",
            self.lo,
            Duration::ZERO..=self.hi.saturating_sub(least),
        )?;
        ConfigError::check("tau", self.tau, least..=most)?;
        ConfigError::check("max_shed", self.max_shed, 0.0..=1.0)?;
        ConfigError::check("min_shed", self.min_shed, 0.0..=self.max_shed)?;
        Ok(self)
    }
}

impl Default for LagLaw {
    /// Window 300 ms, surge 150 ms, hard 300 ms.
    fn default() -> Self {
        Self::preset(300, 150, 300)
    }
}

// === impl Verdict ===

impl Verdict {
    /// The worse of two.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            state: self.state.max(other.state),
            shed: self.shed.max(other.shed),
            over_in: self.over_in.max(other.over_in),
        }
    }
}

// === impl LagState ===

impl LagState {
    /// The state as a label: lower case, stable, fit for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            LagState::Normal => "normal",
            LagState::Warn => "warn",
            LagState::Shedding => "shedding",
        }
    }
}

// === impl Lagging ===

impl Lagging {
    /// Takes one reading in. A clock that stands still or runs backwards counts as no time passed.
    pub(crate) fn sample(&mut self, law: &LagLaw, reading: Reading) -> Verdict {
        let Reading { at, lag, is_queue } = reading;
        let passed = self
            .last
            .map_or(Duration::MAX, |last| at.saturating_sub(last));
        if passed > STALE {
            *self = Self::default();
        } else {
            let reached = lag.min(law.hi * 2).as_secs_f64();
            let weight = 1.0 - (-passed.as_secs_f64() / law.tau.as_secs_f64()).exp();
            self.smoothed += weight * (reached - self.smoothed);
        }
        let at = self.last.map_or(at, |last| last.max(at));
        self.last = Some(at);
        self.lag = lag;
        if lag > law.target {
            self.calm_since = None;
            let lasted = at.saturating_sub(*self.above_since.get_or_insert(at));
            let surged = lag >= law.surge && is_queue;
            let since = surged.then(|| self.surging_since.unwrap_or(at));
            self.surging_since = since;
            self.armed |=
                lasted >= law.window || lag >= law.hard || since.is_some_and(|since| at > since);
        } else {
            self.above_since = None;
            self.surging_since = None;
            let lasted = at.saturating_sub(*self.calm_since.get_or_insert(at));
            self.armed &= lasted < law.exit;
        }
        self.verdict(law)
    }

    pub(crate) fn lag(&self) -> Duration {
        self.lag
    }

    /// Takes back what was seen since `before`.
    pub(crate) fn forgive(&mut self, before: &Lagging) {
        *self = Self {
            last: self.last,
            lag: self.lag,
            ..*before
        };
    }

    fn verdict(&self, law: &LagLaw) -> Verdict {
        let shed = if self.armed {
            let (lo, hi) = (law.lo.as_secs_f64(), law.hi.as_secs_f64());
            ((self.smoothed - lo) / (hi - lo)).clamp(law.min_shed, law.max_shed)
        } else {
            0.0
        };
        let state = if shed > 0.0 {
            LagState::Shedding
        } else if self.armed || self.lag > law.warn {
            LagState::Warn
        } else {
            LagState::Normal
        };
        let calm = match (self.last, self.calm_since) {
            (Some(last), Some(since)) => last.saturating_sub(since),
            _ => Duration::ZERO,
        };
        Verdict {
            state,
            shed,
            over_in: self.lag.saturating_add(law.exit.saturating_sub(calm)),
        }
    }
}

#[cfg(all(test, not(seawall_loom)))]
#[path = "tests.rs"]
mod tests;
