//! The measurements of one runtime: the probe, stalls, and the durations of handlers.
//!
//! A probe waits in a queue, and it waits during a stall. In a queue there is progress: calls pass,
//! and polls of handlers end. During a stall all workers are blocked, and there is no progress; the
//! backlog of a short stall is often gone in a moment. A stall therefore counts as lag while it
//! lasts. The first progress after it ends the stall, and its time no longer counts. This happens
//! once for each probe: a second stall before the probe has returned is a queue of long handlers.

use super::service_time::{Polls, ServiceTime};
use super::{MS, Nanos};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Readings {
    stage: Stage,
    sent: Nanos,
    /// The waits of this probe and of the last one that count.
    counted: Waits,
    /// The same, with the stalls included.
    whole: Waits,
    has_forgiven: bool,
    stall: Option<Stall>,
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
    /// The wait for the first poll.
    first: Nanos,
    /// The longer wait of the probe that returned last.
    last: Nanos,
}

/// A stall whose backlog is being served.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stall {
    ended: Nanos,
    length: Nanos,
}

/// The time without progress that makes a stall.
pub(crate) const STALL: Nanos = 100 * MS;

/// No queue is without progress for this long.
const LONG: Nanos = 1000 * MS;

/// After a stall, the age of its backlog starts at the length of the stall plus this, and falls by
/// a quarter of the time that passes.
const MARGIN: Nanos = 50 * MS;
const DRAINED: Nanos = 4;

// === impl Readings ===

impl Readings {
    /// The probe is sent.
    pub(crate) fn on_sent(&mut self, now: Nanos) {
        self.stage = Stage::Sent;
        self.sent = now;
        self.has_forgiven = false;
        for waits in [&mut self.counted, &mut self.whole] {
            waits.since = now;
            waits.first = 0;
        }
    }

    /// The probe is polled, `gap` after the last progress. Returns `true` if that ends a stall.
    pub(crate) fn on_polled(&mut self, now: Nanos, gap: Nanos, is_armed: bool) -> bool {
        let has_stalled = self.on_progress(now, gap, is_armed);
        for waits in [&mut self.counted, &mut self.whole] {
            let waited = now.saturating_sub(waits.since);
            match self.stage {
                Stage::Idle => {}
                Stage::Sent => waits.first = waited,
                Stage::Again => {
                    waits.last = waits.first.max(waited);
                    waits.first = 0;
                }
            }
            waits.since = now;
        }
        self.stage = match self.stage {
            Stage::Sent => Stage::Again,
            Stage::Again | Stage::Idle => Stage::Idle,
        };
        has_stalled
    }

    /// A call passes, or the poll of a handler ends, `gap` after the last progress. Returns `true`
    /// if that ends a stall.
    pub(crate) fn on_progress(&mut self, now: Nanos, gap: Nanos, is_armed: bool) -> bool {
        let stalled = gap.min(self.waited(now));
        let is_queue = (self.has_forgiven || is_armed) && stalled < LONG;
        if stalled <= STALL || is_queue {
            return false;
        }
        self.has_forgiven = true;
        self.stall = Some(Stall {
            ended: now,
            length: stalled,
        });
        self.counted = Waits {
            since: now,
            ..Waits::default()
        };
        if self.stage == Stage::Sent {
            self.sent = now;
        }
        true
    }

    /// Processes a reading: the age of the oldest queue, and the polls since the last reading.
    pub(crate) fn on_tick(&mut self, now: Nanos, oldest: Nanos, polls: Polls) {
        self.service.on_polls(polls);
        if let Some(stall) = self.stall {
            let gone = now.saturating_sub(stall.ended) / DRAINED;
            let allowed = (stall.length + MARGIN).saturating_sub(gone);
            if allowed == 0 || oldest > allowed {
                self.stall = None;
            }
        }
    }

    /// Returns whether the backlog of a stall becomes shorter fast enough.
    pub(crate) fn is_draining(&self) -> bool {
        self.stall.is_some()
    }

    /// The lag of the probe: its longer wait, or the age of the one that is under way.
    pub(crate) fn lag(&self, now: Nanos) -> Nanos {
        let Waits { first, last, .. } = self.counted;
        first.max(last).max(self.waited(now))
    }

    /// The longer wait of the probe that returned last, with its stalls.
    pub(crate) fn found(&self) -> Nanos {
        self.whole.last
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    /// The time at which the probe was sent, while it is in the injection queue. A call from that
    /// queue has waited at least since then.
    pub(crate) fn in_injection_queue(&self) -> Option<Nanos> {
        (self.stage == Stage::Sent).then_some(self.sent)
    }

    /// The start of the current wait of the probe, in either queue.
    pub(crate) fn under_way(&self) -> Option<Nanos> {
        (!self.is_idle()).then_some(self.counted.since)
    }

    pub(crate) fn service(&self) -> &ServiceTime {
        &self.service
    }

    fn waited(&self, now: Nanos) -> Nanos {
        if self.is_idle() {
            0
        } else {
            now.saturating_sub(self.counted.since)
        }
    }
}
