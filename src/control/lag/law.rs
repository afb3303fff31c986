//! The law that decides when to reject: steps 5 to 10 of
//! [`lag_shed`](crate::lag_shed#how-it-decides).

use super::queue::Queue;
use super::readings::Tick;
use super::thresholds::{LagThresholds, nanos};
use super::{MS, Nanos};
use crate::label::labels;

/// The state of one shedder for one runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Law {
    terms: Terms,
    /// The number of consecutive readings with a lag that arms.
    reached: u32,
    calm_since: Option<Nanos>,
    quota: Quota,
    pressure: f64,
    /// The time until which the state is that of a share, although the share may be 0.
    shares_until: Option<Nanos>,
}

/// The number of requests that may begin to await.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Quota {
    /// The average per nanosecond.
    average: f64,
    boost: f64,
    pended: u64,
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

/// The terms by which calls are decided until the next reading. The default decides about no call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Terms {
    /// The time of the reading, if there was one.
    pub(crate) read: Option<Nanos>,
    pub(crate) is_watching: bool,
    pub(crate) is_armed: bool,
    pub(crate) bound: Nanos,
    /// A call that has waited longer than this arms the law.
    pub(crate) arm: Nanos,
    /// The probe found no lag.
    pub(crate) is_calm: bool,
    /// The number of pending requests from which on no further request may begin to await.
    pub(crate) most_pended: u64,
    pub(crate) workers: usize,
    /// The time that a request waits for each request that was admitted before it and has not
    /// started.
    pub(crate) interval: Nanos,
    /// The share of requests that is rejected for load signals.
    pub(crate) share: f64,
    /// The shortest time after which a rejected client can be served.
    pub(crate) retry_after: Nanos,
}

/// One call while the law watches.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    pub(crate) now: Nanos,
    /// The end of the last stall.
    pub(crate) restarted: Nanos,
    /// The age of the probe, while it is in the injection queue.
    pub(crate) probe_age: Nanos,
    /// Tasks in the injection queue.
    pub(crate) injected: usize,
    pub(crate) pended: u64,
    /// The number of requests that were admitted and whose first poll has not started.
    pub(crate) unpolled: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
pub(crate) struct Decision {
    pub(crate) is_rejected: bool,
    /// The rejection shows that the overload continues. One by the quota alone does not, nor one by
    /// the injection queue while the probe finds no lag: a burst of requests or tasks that wait for
    /// nothing exceeds both too.
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
    /// load signal, or all requests; or it did so a moment ago.
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

// === impl Law ===

impl Law {
    pub(crate) fn on_tick(&mut self, to: &LagThresholds, tick: &Tick, found: Found) -> Terms {
        let read = self.terms.read;
        let passed = read.map_or(Nanos::MAX, |read| tick.now.saturating_sub(read));
        if passed > STALE {
            let shares_until = self.shares_until;
            *self = Self::default();
            self.shares_until = shares_until;
            self.quota.pended = tick.pended;
        }
        let lag = tick.lag();
        let residual = tick.residual.unwrap_or(0);
        let is_queue = tick.gap <= lag / 2;
        let reaches = lag >= to.arm_at(residual) && is_queue;
        self.reached = if reaches { self.reached + 1 } else { 0 };
        let arm = match tick.residual {
            _ if tick.is_draining => Nanos::MAX,
            Some(residual) => to.arm_at(residual),
            None => nanos(to.max_arm),
        };
        let arms = self.reached >= READINGS && lag >= arm;
        let mut is_armed = self.terms.is_armed || arms;
        let mut is_watching = self.terms.is_watching;
        if found.has_rejected {
            self.calm_since = None;
        }
        let mut disarms_in = nanos(to.disarm_after);
        if lag > nanos(to.target) {
            is_watching = true;
            self.calm_since = None;
        } else {
            let since = *self.calm_since.get_or_insert(tick.now);
            disarms_in = disarms_in.saturating_sub(tick.now.saturating_sub(since));
            is_armed &= disarms_in > 0;
            is_watching &= disarms_in > 0;
        }
        let quota = self.quota.on_tick(passed.min(STALE), tick, &found);
        self.on_pressure(passed, found.pressure);
        if self.pressure > 0.0 {
            let until = tick.now.saturating_add(nanos(to.disarm_after));
            self.shares_until = Some(until);
        }
        self.terms = Terms {
            read: Some(tick.now),
            is_watching,
            is_armed,
            bound: to.bound_at(residual),
            arm,
            is_calm: tick.probe_lag <= nanos(to.target),
            most_pended: tick.pended.saturating_add(quota),
            workers: tick.workers.max(1),
            interval: tick.interval.unwrap_or(0),
            share: self.pressure.min(1.0),
            retry_after: lag.saturating_add(disarms_in),
        };
        self.terms
    }

    /// A call has waited long enough to arm the law.
    pub(crate) fn on_armed(&mut self) {
        self.terms.is_armed = true;
    }

    pub(crate) fn terms(&self) -> Terms {
        self.terms
    }

    pub(crate) fn state(&self) -> LagState {
        if self.terms.is_armed || self.shares_until > self.terms.read {
            LagState::Shedding
        } else if self.terms.is_watching {
            LagState::Warn
        } else {
            LagState::Normal
        }
    }

    fn on_pressure(&mut self, passed: Nanos, pressure: f64) {
        // NaN is no load. A pressure above 1 makes the average reach 1 sooner.
        let pressure = pressure.max(0.0);
        let weight = 1.0 - (-(passed as f64) / PRESSURE_AVERAGED).exp();
        self.pressure += weight * (pressure.min(2.0) - self.pressure);
        if self.pressure < 0.001 {
            self.pressure = 0.0;
        }
    }
}

// === impl Quota ===

impl Quota {
    fn on_tick(&mut self, passed: Nanos, tick: &Tick, found: &Found) -> u64 {
        let passed = passed.max(1) as f64;
        let pended = tick.pended.saturating_sub(self.pended) as f64;
        self.pended = tick.pended;
        let weight = 1.0 - (-passed / AVERAGED).exp();
        self.average += weight * (pended / passed - self.average);
        let grown = (self.boost.max(1.0) * BOOST).min(MAX_BOOST);
        self.boost = if found.was_half_full { 1.0 } else { grown };
        let quota = GAIN * self.boost * self.average * passed;
        quota.max(2.0 * tick.workers.max(1) as f64) as u64
    }
}

// === impl Terms ===

impl Terms {
    /// Whether calls need a decision.
    pub(crate) fn decides(&self) -> bool {
        self.is_watching || self.share > 0.0
    }

    /// Decides about a call by the queue of its worker, if the law watches.
    pub(crate) fn on_call(&self, queue: &mut Queue, call: &Call) -> Decision {
        let age = queue.on_call(call.now, call.restarted, self.is_calm);
        let waited = age.max(call.probe_age);
        // Each worker starts one of them at once.
        let queued = call.unpolled.saturating_sub(self.workers as u64);
        let wait = waited.saturating_add(queued.saturating_mul(self.interval));
        let bound = queue.bound(self.bound);
        let has_overflowed = call.injected > INJECTED * self.workers;
        let is_late = wait > bound || has_overflowed;
        // Without lag, the requests that have not started are not in the queue of the runtime: a
        // caller keeps the futures and does not poll them.
        let shown = if self.is_calm { waited } else { wait };
        // The backlog of a stall since the reading is still being served.
        let is_draining = self.read.is_some_and(|read| call.restarted > read);
        let arms = !self.is_armed && !is_draining && shown > self.arm;
        let was_half_full = shown >= bound / 2;
        let is_rejected = (self.is_armed || arms) && (is_late || call.pended >= self.most_pended);
        Decision {
            is_rejected,
            keeps_armed: is_rejected && (was_half_full || has_overflowed && !self.is_calm),
            arms,
            was_half_full,
        }
    }
}

// === impl LagState ===

#[cfg(feature = "metrics")]
impl LagState {
    pub(crate) const ALL: [LagState; 3] = [LagState::Normal, LagState::Warn, LagState::Shedding];
}

labels!(LagState {
    LagState::Normal => "normal",
    LagState::Warn => "warn",
    LagState::Shedding => "shedding",
});
