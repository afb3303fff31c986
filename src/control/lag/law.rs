//! The law that decides when to reject: by the age of the request at the head of the queue, and by
//! a quota for requests that await.

use super::queue::Queue;
use super::thresholds::{LagThresholds, nanos};
use super::{MS, Nanos};

/// The state of one shedder for one runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Law {
    is_watching: bool,
    is_armed: bool,
    /// The number of consecutive readings with a lag that arms.
    reached: u32,
    calm_since: Option<Nanos>,
    read: Option<Nanos>,
    quota: Quota,
    pressure: f64,
}

/// The number of requests that may begin to await. A request whose first poll is pending leaves the
/// queue, so that the age of the queue does not show it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Quota {
    /// The average per nanosecond.
    average: f64,
    boost: f64,
    pended: u64,
}

/// The values of one reading.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tick {
    pub(crate) now: Nanos,
    /// The lag of the probe alone.
    pub(crate) probe_lag: Nanos,
    /// The age of the oldest queue.
    pub(crate) oldest: Nanos,
    /// The time since the last call, or the last end of a handler's poll.
    pub(crate) gap: Nanos,
    /// The residual service time, if it is known.
    pub(crate) residual: Option<Nanos>,
    /// The time in which the workers serve one request on average, if it is known.
    pub(crate) interval: Option<Nanos>,
    pub(crate) is_draining: bool,
    /// The end of the last stall.
    pub(crate) restarted: Nanos,
    pub(crate) workers: usize,
    /// The number of requests so far whose first poll was pending.
    pub(crate) pended: u64,
}

/// The findings of the calls since the last reading.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) has_rejected: bool,
    /// A call had waited for at least half of the bound.
    pub(crate) was_half_full: bool,
    /// The highest load signal; 0 is no load, 1 is the highest acceptable load.
    pub(crate) pressure: f64,
}

/// The terms by which calls are decided until the next reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Terms {
    pub(crate) is_watching: bool,
    pub(crate) is_armed: bool,
    pub(crate) bound: Nanos,
    /// A call that has waited longer than this arms the law.
    pub(crate) arm: Nanos,
    pub(crate) restarted: Nanos,
    /// The probe found no lag.
    pub(crate) is_calm: bool,
    /// The number of pending requests from which on no further request may begin to await.
    pub(crate) most_pended: u64,
    /// Calls are rejected while more tasks wait in the injection queue.
    pub(crate) most_injected: usize,
    /// The number of workers of the runtime.
    pub(crate) workers: u64,
    /// The time that a request waits for each request that was admitted before it and has not
    /// started.
    pub(crate) interval: Nanos,
    /// The share of requests that is rejected for load signals.
    pub(crate) share: f64,
}

/// One call while the law watches.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    pub(crate) now: Nanos,
    /// The age of the probe, while it is in the injection queue.
    pub(crate) probe_age: Nanos,
    /// Tasks in the injection queue.
    pub(crate) injected: usize,
    pub(crate) pended: u64,
    /// The number of requests that were admitted and whose first poll has not started. HTTP/2
    /// spawns a task for each request, so that requests also wait after the call.
    pub(crate) unpolled: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
pub(crate) struct Decision {
    pub(crate) is_rejected: bool,
    /// The rejection shows that the overload continues. A rejection by the quota alone does not: a
    /// burst of requests that wait for nothing exceeds the quota too.
    pub(crate) keeps_armed: bool,
    pub(crate) arms: bool,
    pub(crate) was_half_full: bool,
}

/// The state of a [`LagShed`](crate::LagShed).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum LagState {
    /// The runtime keeps up.
    #[default]
    Normal,
    /// The lag is above [`LagThresholds::target`](crate::LagThresholds::target()), or was a moment
    /// ago, and no request is rejected.
    Warn,
    /// The shedder rejects the requests that have waited too long, a share of all requests for a
    /// load signal, or all requests.
    Shedding,
}

/// Readings that are further apart than this are unrelated.
pub(crate) const STALE: Nanos = 500 * MS;

/// The number of consecutive readings that arm.
const READINGS: u32 = 2;

/// The limit for tasks in the injection queue, for each worker. There are none until a local queue
/// overflows.
const INJECTED: usize = 32;

/// The factor by which more requests may begin to await than on average, and the time over which
/// the average is taken.
const GAIN: f64 = 1.5;
const AVERAGED: f64 = 150e6;

/// While no request waits for long, the quota grows by this factor with each reading, at most this
/// many times.
const BOOST: f64 = 1.05;
const MAX_BOOST: f64 = 8.0;

/// Load signals are averaged over this time.
const PRESSURE_AVERAGED: f64 = 25e6;

// === impl Tick ===

impl Tick {
    /// The lag of the runtime.
    pub(crate) fn lag(&self) -> Nanos {
        self.probe_lag.max(self.oldest)
    }
}

// === impl Law ===

impl Law {
    /// Processes a reading.
    pub(crate) fn on_tick(&mut self, to: &LagThresholds, tick: &Tick, found: Found) -> Terms {
        let passed = self
            .read
            .map_or(Nanos::MAX, |read| tick.now.saturating_sub(read));
        if passed > STALE {
            *self = Self::default();
            self.quota.pended = tick.pended;
        }
        self.read = Some(tick.now);
        let lag = tick.lag();
        let is_queue = tick.gap <= lag / 2;
        let arm = to.arm_at(tick.residual.unwrap_or(0));
        self.reached = if lag >= arm && is_queue {
            self.reached + 1
        } else {
            0
        };
        let is_known = tick.residual.is_some() || lag >= nanos(to.max_arm);
        self.is_armed |= self.reached >= READINGS && is_known && !tick.is_draining;
        if found.has_rejected {
            self.calm_since = None;
        }
        if lag > nanos(to.target) {
            self.is_watching = true;
            self.calm_since = None;
        } else {
            let since = *self.calm_since.get_or_insert(tick.now);
            if tick.now.saturating_sub(since) >= nanos(to.disarm_after) {
                self.is_armed = false;
                self.is_watching = false;
            }
        }
        let quota = self
            .quota
            .on_tick(passed.min(STALE), tick, found.was_half_full);
        self.on_pressure(passed, found.pressure);
        Terms {
            arm: match tick.residual {
                _ if tick.is_draining => Nanos::MAX,
                Some(_) => arm,
                None => nanos(to.max_arm),
            },
            most_pended: tick.pended.saturating_add(quota),
            ..self.terms(to, tick)
        }
    }

    /// A call has waited long enough to arm the law. Returns the terms until the next reading.
    pub(crate) fn on_armed(&mut self, terms: Terms) -> Terms {
        self.is_armed = true;
        Terms {
            is_armed: true,
            ..terms
        }
    }

    /// The shortest time until the law is disarmed.
    pub(crate) fn disarms_in(&self, to: &LagThresholds) -> Nanos {
        let calm = match (self.read, self.calm_since) {
            (Some(read), Some(since)) => read.saturating_sub(since),
            _ => 0,
        };
        nanos(to.disarm_after).saturating_sub(calm)
    }

    pub(crate) fn state(&self) -> LagState {
        if self.is_armed || self.share() > 0.0 {
            LagState::Shedding
        } else if self.is_watching {
            LagState::Warn
        } else {
            LagState::Normal
        }
    }

    fn terms(&self, to: &LagThresholds, tick: &Tick) -> Terms {
        Terms {
            is_watching: self.is_watching,
            is_armed: self.is_armed,
            bound: to.bound_at(tick.residual.unwrap_or(0)),
            arm: Nanos::MAX,
            restarted: tick.restarted,
            is_calm: tick.probe_lag <= nanos(to.target),
            most_pended: u64::MAX,
            most_injected: INJECTED * tick.workers.max(1),
            workers: tick.workers as u64,
            interval: tick.interval.unwrap_or(0),
            share: self.share(),
        }
    }

    fn on_pressure(&mut self, passed: Nanos, pressure: f64) {
        // A pressure above 1 makes the average reach 1 sooner.
        let pressure = if pressure > 0.0 {
            pressure.min(2.0)
        } else {
            0.0
        };
        let weight = 1.0 - (-(passed as f64) / PRESSURE_AVERAGED).exp();
        self.pressure += weight * (pressure - self.pressure);
        if self.pressure < 0.001 {
            self.pressure = 0.0;
        }
    }

    fn share(&self) -> f64 {
        self.pressure.min(1.0)
    }
}

// === impl Quota ===

impl Quota {
    fn on_tick(&mut self, passed: Nanos, tick: &Tick, was_half_full: bool) -> u64 {
        let passed = passed.max(1) as f64;
        let pended = tick.pended.saturating_sub(self.pended) as f64;
        self.pended = tick.pended;
        let weight = 1.0 - (-passed / AVERAGED).exp();
        self.average += weight * (pended / passed - self.average);
        self.boost = if was_half_full {
            1.0
        } else {
            (self.boost.max(1.0) * BOOST).min(MAX_BOOST)
        };
        let quota = GAIN * self.boost * self.average * passed;
        quota.max(2.0 * tick.workers.max(1) as f64) as u64
    }
}

// === impl Terms ===

impl Terms {
    /// The terms while nothing is watched.
    pub(crate) const CALM: Self = Self {
        is_watching: false,
        is_armed: false,
        bound: Nanos::MAX,
        arm: Nanos::MAX,
        restarted: 0,
        is_calm: true,
        most_pended: u64::MAX,
        most_injected: usize::MAX,
        workers: 0,
        interval: 0,
        share: 0.0,
    };

    /// Decides about a call by the queue of its worker.
    pub(crate) fn on_call(&self, queue: &mut Queue, call: &Call) -> Decision {
        let age = queue.on_call(call.now, self.restarted, self.is_calm);
        let waited = age.max(call.probe_age);
        // Each worker starts one of them at once.
        let queued = call.unpolled.saturating_sub(self.workers);
        let wait = waited.saturating_add(queued.saturating_mul(self.interval));
        let bound = queue.bound(self.bound);
        let is_late = wait > bound || call.injected > self.most_injected;
        // Without lag, the requests that have not started are not in the queue of the runtime: a
        // caller keeps the futures and does not poll them.
        let shown = if self.is_calm { waited } else { wait };
        let arms = !self.is_armed && shown > self.arm;
        let is_armed = self.is_armed || arms;
        let was_half_full = shown >= bound / 2;
        let is_full = was_half_full || call.injected > self.most_injected;
        let is_rejected = is_armed && (is_late || call.pended >= self.most_pended);
        Decision {
            is_rejected,
            keeps_armed: is_rejected && is_full,
            arms,
            was_half_full,
        }
    }
}

// === impl LagState ===

impl LagState {
    /// The label of the state: lower case and stable, for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            LagState::Normal => "normal",
            LagState::Warn => "warn",
            LagState::Shedding => "shedding",
        }
    }
}
