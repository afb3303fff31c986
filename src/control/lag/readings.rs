//! The measurements of one runtime: the probe, stalls, and the durations of handlers.
//!
//! There is progress when a call passes or the poll of a handler ends. A stall (see
//! [`lag_shed`](crate::lag_shed#how-it-decides)) counts as lag while it lasts. The first progress
//! after it ends the stall, and its time no longer counts. This happens once for each probe.

use std::mem;

use super::{MS, Nanos};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Readings {
    stage: Stage,
    /// The waits of this probe and of the last one that count.
    counted: Waits,
    /// The same, with the stalls included.
    whole: Waits,
    has_forgiven: bool,
    /// The end of the last stall, and its length.
    restarted: Nanos,
    stalled: Nanos,
    /// The backlog of the stall is being served.
    is_draining: bool,
    service: ServiceTime,
}

/// The position of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    /// In the injection queue.
    Sent,
    /// In a worker's local queue.
    Again,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Waits {
    since: Nanos,
    /// The wait for the first poll; 0 once the probe has returned.
    first: Nanos,
    /// The longer wait of the probe that returned last.
    last: Nanos,
}

/// Polls of handlers, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Polls {
    pub(crate) number: u64,
    /// Nanoseconds.
    pub(crate) sum: f64,
    pub(crate) squares: f64,
}

/// The mean and the mean square of the handlers' polls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ServiceTime {
    polls: f64,
    mean: f64,
    square: f64,
}

/// One reading.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tick {
    pub(crate) now: Nanos,
    /// The age of the oldest queue.
    pub(crate) oldest: Nanos,
    /// The time since the last progress.
    pub(crate) gap: Nanos,
    pub(crate) workers: usize,
    /// The number of requests so far whose first poll was pending.
    pub(crate) pended: u64,
    /// The lag of the probe alone.
    pub(crate) probe_lag: Nanos,
    /// The same, with the stalls that have ended.
    pub(crate) whole_lag: Nanos,
    /// The longer wait of the probe, with its stalls, if it has returned.
    pub(crate) returned: Option<Nanos>,
    pub(crate) is_draining: bool,
    /// The residual service time, if it is known.
    pub(crate) residual: Option<Nanos>,
    /// The time in which the workers serve one request on average, if it is known.
    pub(crate) interval: Option<Nanos>,
}

/// The time without progress that makes a stall.
pub(crate) const STALL: Nanos = 100 * MS;

/// No queue is without progress for this long.
const LONG: Nanos = 1000 * MS;

/// After a stall, the age of its backlog starts at the length of the stall plus this, and falls by
/// a quarter of the time that passes.
const MARGIN: Nanos = 50 * MS;
const DRAINED: Nanos = 4;

/// The number of polls over which the service time is averaged. With fewer than `KNOWN`, it is
/// unknown.
const AVERAGED: f64 = 256.0;
const KNOWN: f64 = 8.0;

// === impl Readings ===

impl Readings {
    pub(crate) fn on_sent(&mut self, now: Nanos) {
        self.stage = Stage::Sent;
        self.has_forgiven = false;
        (self.counted.since, self.whole.since) = (now, now);
    }

    /// The probe is polled, `gap` after the last progress. That may end a stall.
    pub(crate) fn on_polled(&mut self, now: Nanos, gap: Nanos, is_armed: bool) {
        self.on_progress(now, gap, is_armed);
        for waits in [&mut self.counted, &mut self.whole] {
            let waited = now.saturating_sub(waits.since);
            match self.stage {
                Stage::Idle => {}
                Stage::Sent => waits.first = waited,
                Stage::Again => waits.last = mem::take(&mut waits.first).max(waited),
            }
            waits.since = now;
        }
        self.stage = match self.stage {
            Stage::Sent => Stage::Again,
            Stage::Again | Stage::Idle => Stage::Idle,
        };
    }

    /// There is progress, `gap` after the last one. That may end a stall.
    pub(crate) fn on_progress(&mut self, now: Nanos, gap: Nanos, is_armed: bool) {
        let length = gap.min(self.waited(&self.counted, now));
        let is_queue = (self.has_forgiven || is_armed) && length < LONG;
        if length > STALL && !is_queue {
            (self.has_forgiven, self.is_draining) = (true, true);
            (self.restarted, self.stalled) = (now, length);
            self.counted = Waits {
                since: now,
                ..Waits::default()
            };
        }
    }

    pub(crate) fn restarted(&self) -> Nanos {
        self.restarted
    }

    /// Completes a reading, from the polls since the last one.
    pub(crate) fn on_tick(&mut self, tick: Tick, polls: Polls) -> Tick {
        self.service.on_polls(polls);
        let gone = tick.now.saturating_sub(self.restarted) / DRAINED;
        let allowed = (self.stalled + MARGIN).saturating_sub(gone);
        self.is_draining &= allowed > 0 && tick.oldest <= allowed;
        Tick {
            probe_lag: self.lag(tick.now),
            whole_lag: self.whole_lag(tick.now),
            returned: self.is_idle().then_some(self.whole.last),
            is_draining: self.is_draining,
            residual: self.service.residual(tick.workers),
            interval: self.service.interval(tick.workers),
            ..tick
        }
    }

    /// The lag of the probe: its longer wait, or the age of the one that is under way.
    pub(crate) fn lag(&self, now: Nanos) -> Nanos {
        self.longest(&self.counted, now)
    }

    /// The lag of the probe, with the stalls that have ended.
    pub(crate) fn whole_lag(&self, now: Nanos) -> Nanos {
        self.longest(&self.whole, now)
    }

    fn longest(&self, waits: &Waits, now: Nanos) -> Nanos {
        waits.first.max(waits.last).max(self.waited(waits, now))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    /// The start of the current wait of the probe, in either queue.
    pub(crate) fn under_way(&self) -> Option<Nanos> {
        (!self.is_idle()).then_some(self.counted.since)
    }

    /// The same, only in the injection queue. A call from that queue has waited at least since
    /// then.
    pub(crate) fn in_injection_queue(&self) -> Option<Nanos> {
        (self.stage == Stage::Sent).then_some(self.counted.since)
    }

    fn waited(&self, waits: &Waits, now: Nanos) -> Nanos {
        let since = if self.is_idle() { now } else { waits.since };
        now.saturating_sub(since)
    }
}

// === impl ServiceTime ===

impl ServiceTime {
    pub(crate) fn on_polls(&mut self, polls: Polls) {
        if polls.number == 0 {
            return;
        }
        let number = polls.number as f64;
        self.polls += number;
        let weight = (number / self.polls.min(AVERAGED)).min(1.0);
        self.mean += weight * (polls.sum / number - self.mean);
        self.square += weight * (polls.squares / number - self.square);
    }

    /// The residual service time of one of several workers, E\[s²\] / (2 E\[s\]), divided by their
    /// number: the time that an arrival waits for the first of them if all are busy (the mean
    /// residual life of renewal theory).
    pub(crate) fn residual(&self, workers: usize) -> Option<Nanos> {
        self.shared_by(workers, self.square / self.mean / 2.0)
    }

    /// The time in which several workers serve one request on average.
    pub(crate) fn interval(&self, workers: usize) -> Option<Nanos> {
        self.shared_by(workers, self.mean)
    }

    /// `None` if there are too few polls.
    fn shared_by(&self, workers: usize, time: f64) -> Option<Nanos> {
        let is_known = self.polls >= KNOWN && self.mean > 0.0;
        is_known.then(|| (time / workers.max(1) as f64) as Nanos)
    }
}

// === impl Tick ===

impl Tick {
    /// The lag of the runtime.
    pub(crate) fn lag(&self) -> Nanos {
        self.probe_lag.max(self.oldest)
    }
}
