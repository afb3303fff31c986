//! The law, composed as in the layer, and laws of other projects for a comparison.

use super::setup::{MS, Us};
use crate::config::Settings;
use crate::control::lag::Nanos;
use crate::control::lag::law::{Call, Found, Law as Shedder, Terms};
use crate::control::lag::queue::Queue;
use crate::control::lag::readings::{Polls, Readings, Tick};
use crate::control::lag::thresholds::LagThresholds;

/// The inputs and decisions of a law.
pub(super) trait Law {
    /// Returns whether a request is rejected.
    fn on_call(&mut self, w: usize, now: Us, injected: usize, random: &mut fastrand::Rng) -> bool;
    /// Processes a reading, and returns the lag.
    fn on_tick(&mut self, now: Us) -> Us;
    fn on_sent(&mut self, now: Us);
    fn on_probe_polled(&mut self, now: Us);

    /// Returns whether a call starts the mark of its worker.
    fn starts_mark(&mut self, _: usize, _: Us) -> bool {
        false
    }
    fn on_turn(&mut self, _: usize, _: Us) {}
    /// Returns whether the mark goes around again.
    fn on_mark_returned(&mut self, _: usize, _: Us) -> bool {
        false
    }
    fn on_mark_ended(&mut self, _: usize) {}
    /// A handler was polled for this time; `pends` for its first poll if that is pending.
    fn on_polled(&mut self, _: usize, _now: Us, _took: Us, _pends: bool) {}

    /// An admitted request waits for its first poll. Returns `true` if the wait counts.
    fn on_spawned(&mut self) -> bool {
        false
    }

    fn on_first_poll(&mut self) {}
}

/// The law of this crate.
pub(super) struct Seawall {
    thresholds: LagThresholds,
    readings: Readings,
    law: Shedder,
    terms: Terms,
    found: Found,
    workers: Vec<Worker>,
    /// The calls of a worker are noted once between two readings, unless they are watched.
    stamp: u64,
    progressed: Nanos,
    polls: Polls,
    pended: u64,
    unpolled: u64,
}

#[derive(Clone, Copy, Default)]
struct Worker {
    queue: Queue,
    progressed: Nanos,
    seen: u64,
}

/// Rejects nothing.
#[derive(Default)]
pub(super) struct Nothing(Probe);

/// Rejects everything above a threshold, until the lag has been below it for a time.
pub(super) struct Latch {
    probe: Probe,
    threshold: Us,
    hold: Us,
    over: Option<Us>,
}

/// The law of folly's Codel, with the same probe. It is overloaded if the smallest lag of an
/// interval was above the target. It then rejects while the lag is above twice the target.
pub(super) struct Codel {
    probe: Probe,
    ends: Us,
    least: Us,
    is_overloaded: bool,
}

/// The probe of these laws.
#[derive(Default)]
struct Probe(Readings);

fn nanos(us: Us) -> Nanos {
    us * 1000
}

// === impl Seawall ===

impl Seawall {
    pub(super) fn new(thresholds: LagThresholds, workers: usize) -> Self {
        thresholds.check().expect("they are valid");
        Self {
            thresholds,
            readings: Readings::default(),
            law: Shedder::default(),
            terms: Terms::default(),
            found: Found::default(),
            workers: vec![Worker::default(); workers],
            stamp: 1,
            progressed: 0,
            polls: Polls::default(),
            pended: 0,
            unpolled: 0,
        }
    }

    fn oldest(&self, now: Nanos) -> Nanos {
        let ages = self.workers.iter().filter_map(|worker| {
            let age = now.saturating_sub(worker.queue.newest()?.max(self.readings.restarted()));
            (now.saturating_sub(worker.progressed) <= age / 2).then_some(age)
        });
        ages.max().unwrap_or(0)
    }

    fn on_progress(&mut self, w: usize, now: Nanos) {
        self.workers[w].progressed = now;
        let gap = now.saturating_sub(self.progressed);
        self.progressed = self.progressed.max(now);
        self.readings.on_progress(now, gap, self.terms.is_armed);
    }
}

impl Law for Seawall {
    fn on_call(&mut self, w: usize, now: Us, injected: usize, _: &mut fastrand::Rng) -> bool {
        let now = nanos(now);
        let worker = &mut self.workers[w];
        if !self.terms.is_watching && worker.seen == self.stamp {
            return false;
        }
        worker.seen = self.stamp;
        self.on_progress(w, now);
        if !self.terms.is_watching {
            return false;
        }
        let sent = self.readings.in_injection_queue().unwrap_or(now);
        let call = Call {
            now,
            restarted: self.readings.restarted(),
            probe_age: now.saturating_sub(sent),
            injected,
            pended: self.pended,
            unpolled: self.unpolled,
        };
        let decision = self.terms.on_call(&mut self.workers[w].queue, &call);
        if decision.arms {
            self.law.on_armed();
            self.terms = self.law.terms();
        }
        self.found.was_half_full |= decision.was_half_full;
        self.found.has_rejected |= decision.keeps_armed;
        decision.is_rejected
    }

    fn on_tick(&mut self, now: Us) -> Us {
        self.stamp += 1;
        let now = nanos(now);
        let tick = Tick {
            now,
            oldest: self.oldest(now),
            gap: now.saturating_sub(self.progressed),
            workers: self.workers.len(),
            pended: self.pended,
            ..Tick::default()
        };
        let tick = self.readings.on_tick(tick, std::mem::take(&mut self.polls));
        let found = std::mem::take(&mut self.found);
        self.terms = self.law.on_tick(&self.thresholds, &tick, found);
        tick.lag() / 1000
    }

    fn on_sent(&mut self, now: Us) {
        self.readings.on_sent(nanos(now));
    }

    fn on_probe_polled(&mut self, now: Us) {
        let now = nanos(now);
        let gap = now.saturating_sub(self.progressed);
        self.readings.on_polled(now, gap, self.terms.is_armed);
    }

    fn starts_mark(&mut self, w: usize, now: Us) -> bool {
        if self.terms.is_watching {
            self.workers[w].queue.on_mark_started(nanos(now));
        }
        self.terms.is_watching
    }

    fn on_turn(&mut self, w: usize, now: Us) {
        self.workers[w].queue.on_turn(nanos(now));
    }

    fn on_mark_returned(&mut self, w: usize, now: Us) -> bool {
        let goes_on = self.workers[w].queue.on_mark_returned() && self.terms.is_watching;
        if goes_on {
            self.workers[w].queue.on_turn_awaited(nanos(now));
        }
        goes_on
    }

    fn on_mark_ended(&mut self, w: usize) {
        self.workers[w].queue.on_mark_ended();
    }

    fn on_spawned(&mut self) -> bool {
        self.unpolled += u64::from(self.terms.is_watching);
        self.terms.is_watching
    }

    fn on_first_poll(&mut self) {
        self.unpolled -= 1;
    }

    fn on_polled(&mut self, w: usize, now: Us, took: Us, pends: bool) {
        if self.terms.is_watching {
            self.on_progress(w, nanos(now));
            let took = nanos(took) as f64;
            self.polls.number += 1;
            self.polls.sum += took;
            self.polls.squares += took * took;
            self.pended += u64::from(pends);
        }
    }
}

// === impl Probe ===

impl Probe {
    fn lag(&self, now: Us) -> Us {
        self.0.lag(nanos(now)) / 1000
    }

    fn on_sent(&mut self, now: Us) {
        self.0.on_sent(nanos(now));
    }

    fn on_polled(&mut self, now: Us) {
        // No stall is ignored.
        self.0.on_polled(nanos(now), 0, false);
    }
}

// === impl Nothing ===

impl Law for Nothing {
    fn on_call(&mut self, _: usize, _: Us, _: usize, _: &mut fastrand::Rng) -> bool {
        false
    }

    fn on_tick(&mut self, now: Us) -> Us {
        self.0.lag(now)
    }

    fn on_sent(&mut self, now: Us) {
        self.0.on_sent(now);
    }

    fn on_probe_polled(&mut self, now: Us) {
        self.0.on_polled(now);
    }
}

// === impl Latch ===

impl Latch {
    pub(super) fn new(threshold: Us, hold: Us) -> Self {
        Self {
            probe: Probe::default(),
            threshold,
            hold,
            over: None,
        }
    }
}

impl Law for Latch {
    fn on_call(&mut self, _: usize, now: Us, _: usize, _: &mut fastrand::Rng) -> bool {
        self.over.is_some_and(|over| now < over + self.hold)
    }

    fn on_tick(&mut self, now: Us) -> Us {
        let lag = self.probe.lag(now);
        if lag > self.threshold {
            self.over = Some(now);
        }
        lag
    }

    fn on_sent(&mut self, now: Us) {
        self.probe.on_sent(now);
    }

    fn on_probe_polled(&mut self, now: Us) {
        self.probe.on_polled(now);
    }
}

// === impl Codel ===

impl Codel {
    const TARGET: Us = 20 * MS;
    const INTERVAL: Us = 100 * MS;

    pub(super) fn new() -> Self {
        Self {
            probe: Probe::default(),
            ends: Self::INTERVAL,
            least: Us::MAX,
            is_overloaded: false,
        }
    }
}

impl Law for Codel {
    fn on_call(&mut self, _: usize, now: Us, _: usize, _: &mut fastrand::Rng) -> bool {
        let lag = self.probe.lag(now);
        if now >= self.ends {
            self.is_overloaded = self.least > Self::TARGET && self.least < Us::MAX;
            self.ends = now + Self::INTERVAL;
            self.least = lag;
        }
        self.least = self.least.min(lag);
        self.is_overloaded && lag > 2 * Self::TARGET
    }

    fn on_tick(&mut self, now: Us) -> Us {
        self.probe.lag(now)
    }

    fn on_sent(&mut self, now: Us) {
        self.probe.on_sent(now);
    }

    fn on_probe_polled(&mut self, now: Us) {
        self.probe.on_polled(now);
    }
}
