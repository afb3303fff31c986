//! The age of the request at the head of a worker's queue: steps 3 and 4 of
//! [`lag_shed`](crate::lag_shed#how-it-decides).

use super::{MS, Nanos};

/// The state of a worker's local queue, as plain data of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Queue {
    mark: Mark,
    /// The time at which the mark was put into the queue, or began to wait for a turn. Requests
    /// that are served before the mark returns arrived before that time.
    top: Nanos,
    /// A lower bound for the arrival of the requests that are served now, if it is known. It is a
    /// `top` of the past, and so never later than `top`.
    fresh: Option<Nanos>,
    /// The number of calls since the mark last returned.
    served: u32,
    /// The number of calls since the mark changed its stage.
    passed: u32,
    /// The average arrivals per nanosecond.
    rate: f64,
    /// The end of the last stall that is already taken into account.
    restarted: Nanos,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mark {
    #[default]
    Absent,
    AwaitsTurn,
    Queued,
}

/// The time over which arrivals are averaged.
const AVERAGED: f64 = 60e6;

/// A mark that is older than this may be lost.
const LOST: Nanos = 500 * MS;

/// More calls than can be in the queue before a mark: 61 polls until the turn of the driver, and
/// 256 slots.
const MOST_CALLS: u32 = 512;

/// The number of arrivals that may be behind a request: half of the local queue, so that none of
/// them overflow into the injection queue.
const ARRIVALS: f64 = 128.0;

// === impl Queue ===

impl Queue {
    pub(crate) fn on_mark_started(&mut self, now: Nanos) {
        if now.saturating_sub(self.top) > LOST {
            self.rate = 0.0;
        }
        self.fresh = None;
        self.on_turn_awaited(now);
    }

    /// The mark starts to wait for a turn of the driver.
    pub(crate) fn on_turn_awaited(&mut self, now: Nanos) {
        self.enter(Mark::AwaitsTurn, now);
    }

    /// The turn is over, and the mark goes to the back of the queue.
    pub(crate) fn on_turn(&mut self, now: Nanos) {
        self.enter(Mark::Queued, now);
    }

    /// The mark has reached the head of the queue. Returns `true` if it should go around again.
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

    pub(crate) fn on_mark_ended(&mut self) {
        self.mark = Mark::Absent;
        self.fresh = None;
    }

    /// Returns the wait of a call. The wait counts from `restarted`, the end of the last stall, if
    /// that is later than the arrival.
    pub(crate) fn on_call(&mut self, now: Nanos, restarted: Nanos, is_calm: bool) -> Nanos {
        if restarted > self.restarted {
            self.restarted = restarted;
            self.top = self.top.max(restarted);
            self.fresh = None;
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

    /// An upper bound for the arrival of the requests that are served now; `None` without a mark.
    pub(crate) fn newest(&self) -> Option<Nanos> {
        self.has_mark().then_some(self.top)
    }

    /// The bound of this queue: `bound`, or less if too many requests arrive in that time.
    pub(crate) fn bound(&self, bound: Nanos) -> Nanos {
        // Without a rate, the quotient is infinite.
        bound.min((ARRIVALS / self.rate) as Nanos)
    }

    fn enter(&mut self, mark: Mark, now: Nanos) {
        self.mark = mark;
        self.top = now;
        self.passed = 0;
    }

    fn age(&self, now: Nanos) -> Nanos {
        let arrived = match (self.mark, self.fresh) {
            (Mark::Absent, _) => now,
            // This is a lower bound, which is enough to detect the onset.
            (_, None) => self.top,
            (_, Some(fresh)) if self.rate == 0.0 => fresh,
            (mark, Some(fresh)) => {
                let newest = if mark == Mark::Queued { self.top } else { now };
                let since = (f64::from(self.served) / self.rate) as Nanos;
                fresh.saturating_add(since).min(newest)
            }
        };
        now.saturating_sub(arrived)
    }

    /// The mark is lost if calls pass and it does not return: more calls than can be before it, or
    /// the probe has returned since.
    fn is_lost(&self, now: Nanos, is_calm: bool) -> bool {
        self.has_mark()
            && now.saturating_sub(self.top) > LOST
            && (is_calm || self.passed > MOST_CALLS)
    }
}
