//! The age of the request at the head of a worker's queue.
//!
//! A mark goes around with the requests: it waits for a turn of the driver, then goes to the back
//! of the worker's local queue, and begins again when it is polled. A request that is served
//! between two marks arrived between the two turns; where in between, the calls since then tell.

use super::{MS, Nanos};

/// What a worker knows of its local queue. Plain data of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Queue {
    mark: Mark,
    /// When the mark was put into the queue, or began to wait for a turn: what is served before the
    /// mark returns arrived before that.
    top: Nanos,
    /// What is served now arrived after this, if known.
    fresh: Option<Nanos>,
    /// Calls since the mark returned last.
    served: u32,
    /// Calls since the mark changed its stage.
    passed: u32,
    /// Arrivals per nanosecond, averaged.
    rate: f64,
    /// The end of the last stall that is taken into account.
    restarted: Nanos,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mark {
    #[default]
    Absent,
    AwaitsTurn,
    Queued,
}

/// Arrivals are averaged over this time.
const AVERAGED: f64 = 60e6;

/// A mark that is older may be lost.
const LOST: Nanos = 500 * MS;

/// More calls than a mark can have before it: 61 polls to the turn of the driver, and 256 slots.
const MOST_CALLS: u32 = 512;

/// A request may have this many arrivals behind it: half of the local queue, so that none of them
/// overflow into the injection queue.
const ARRIVALS: f64 = 128.0;

// === impl Queue ===

impl Queue {
    /// A call starts a mark.
    pub(crate) fn on_mark_started(&mut self, now: Nanos) {
        if now.saturating_sub(self.top) > LOST {
            self.rate = 0.0;
        }
        self.fresh = None;
        self.on_turn_awaited(now);
    }

    /// The mark waits for a turn of the driver.
    pub(crate) fn on_turn_awaited(&mut self, now: Nanos) {
        self.enter(Mark::AwaitsTurn, now);
    }

    /// The turn is over, and the mark goes to the back of the queue.
    pub(crate) fn on_turn(&mut self, now: Nanos) {
        self.enter(Mark::Queued, now);
    }

    /// The mark has reached the head of the queue; `true` if it is worth going around again.
    pub(crate) fn on_mark_returned(&mut self) -> bool {
        if let Some(fresh) = self.fresh.filter(|fresh| self.top > *fresh) {
            // The calls between the two marks arrived between the two turns.
            let span = (self.top - fresh) as f64;
            let rate = f64::from(self.served) / span;
            if self.rate == 0.0 {
                self.rate = rate;
            } else {
                self.rate += (1.0 - (-span / AVERAGED).exp()) * (rate - self.rate);
            }
        }
        self.fresh = Some(self.top);
        self.served = 0;
        self.passed > 0
    }

    /// The mark has ended.
    pub(crate) fn on_mark_ended(&mut self) {
        self.mark = Mark::Absent;
        self.fresh = None;
        self.served = 0;
    }

    /// A call; returns how long it has waited. A stall has ended at `restarted`, if ever: it counts
    /// from there.
    pub(crate) fn on_call(&mut self, now: Nanos, restarted: Nanos, is_calm: bool) -> Nanos {
        if restarted > self.restarted {
            self.restarted = restarted;
            self.top = self.top.max(restarted);
            self.fresh = None;
            self.served = 0;
        }
        if self.is_lost(now, is_calm) {
            self.on_mark_ended();
        }
        let age = self.age(now);
        self.served = self.served.saturating_add(1);
        self.passed = self.passed.saturating_add(1);
        age
    }

    pub(crate) fn has_mark(&self) -> bool {
        self.mark != Mark::Absent
    }

    /// What is served now arrived before this; `None` without a mark.
    pub(crate) fn newest(&self) -> Option<Nanos> {
        let newest = self.top.max(self.fresh.unwrap_or(0));
        self.has_mark().then_some(newest)
    }

    /// The bound of this queue: `bound`, or less if too many arrive in that time.
    pub(crate) fn bound(&self, bound: Nanos) -> Nanos {
        if self.rate > 0.0 {
            bound.min((ARRIVALS / self.rate) as Nanos)
        } else {
            bound
        }
    }

    fn enter(&mut self, mark: Mark, now: Nanos) {
        self.mark = mark;
        self.top = now;
        self.passed = 0;
    }

    fn age(&self, now: Nanos) -> Nanos {
        let arrived = match (self.mark, self.fresh) {
            (Mark::Absent, _) => now,
            // At least so long: it ends the onset.
            (_, None) => self.top,
            (_, Some(fresh)) if self.rate == 0.0 => fresh,
            (mark, Some(fresh)) => {
                let newest = if mark == Mark::Queued {
                    self.top.max(fresh)
                } else {
                    now
                };
                let since = (f64::from(self.served) / self.rate) as Nanos;
                fresh.saturating_add(since).min(newest)
            }
        };
        now.saturating_sub(arrived)
    }

    /// Calls pass, and the mark does not return: more of them than there can be before it, or the
    /// probe has returned since.
    fn is_lost(&self, now: Nanos, is_calm: bool) -> bool {
        self.has_mark()
            && now.saturating_sub(self.top) > LOST
            && (is_calm || self.passed > MOST_CALLS)
    }
}
