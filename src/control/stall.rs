//! Tells a queue from a stall.
//!
//! Both make a probe wait. But a queue moves: requests keep coming through while it grows. While a worker is held up nothing
//! comes through, and what has piled up behind it is often gone in a moment; to refuse that would punish requests for what
//! is over. That can only be told afterwards: a stall counts while it lasts, and is taken back with the first request, or
//! the first poll of the probe, that gets through after it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::lag::{LagLaw, Lagging, Reading, Verdict};

/// When requests came through. Whoever admits says so, about once between two readings.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Nanoseconds.
    last: AtomicU64,
}

/// The law on one runtime, by the waits of its probe: from being sent to the first poll, and from there to the second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Judge {
    now: Lagging,
    /// What it was when the wait began.
    before: Lagging,
    /// From when the wait that lasts counts: its beginning, or the end of a stall in it.
    since: Duration,
    /// The first wait of the probe that is on its way, as far as it counts.
    first: Duration,
    /// The longer wait of the one that was back last, as far as it counts.
    last: Duration,
    /// Until then a backlog is what a stall has left, and no surge.
    draining_until: Duration,
}

// === impl Calls ===

impl Calls {
    /// A request comes through; the time since the last one.
    pub(crate) fn called(&self, at: Duration) -> Duration {
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let last = self.last.fetch_max(at, Relaxed);
        Duration::from_nanos(at.saturating_sub(last))
    }

    /// The time since the last one.
    pub(crate) fn gap(&self, at: Duration) -> Duration {
        at.saturating_sub(Duration::from_nanos(self.last.load(Relaxed)))
    }
}

// === impl Judge ===

impl Judge {
    pub(crate) fn new(at: Duration) -> Self {
        Self {
            since: at,
            ..Self::default()
        }
    }

    pub(crate) fn lag(&self) -> Duration {
        self.now.lag()
    }

    /// A reading: of the probe, which is waiting or not, and of a `signal` that counts beside it. `gap` is the time since a
    /// request came through.
    pub(crate) fn look(
        &mut self,
        law: &LagLaw,
        at: Duration,
        is_waiting: bool,
        signal: Duration,
        gap: Duration,
    ) -> Verdict {
        let waiting = if is_waiting {
            self.waited(at)
        } else {
            Duration::ZERO
        };
        let lag = self.last.max(self.first).max(waiting).max(signal);
        let is_queue = gap <= law.stall() && at >= self.draining_until;
        self.now.sample(law, Reading { at, lag, is_queue })
    }

    /// A probe is sent.
    pub(crate) fn sent(&mut self, at: Duration) {
        self.first = Duration::ZERO;
        self.wait_from(at);
    }

    /// A request came through, `gap` after the one before it. A verdict if that ends a stall.
    pub(crate) fn called(&mut self, law: &LagLaw, at: Duration, gap: Duration) -> Option<Verdict> {
        let stalled = gap.min(self.waited(at));
        if !law.forgives() || stalled <= law.stall() {
            return None;
        }
        self.since = at;
        self.draining_until = at + law.drain();
        self.now.forgive(&self.before);
        let reading = Reading {
            at,
            lag: self.last.max(self.first),
            is_queue: false,
        };
        Some(self.now.sample(law, reading))
    }

    /// The probe is polled, `gap` after a request came through; `is_back` if it is the second time. A verdict if that ends a
    /// stall.
    pub(crate) fn polled(
        &mut self,
        law: &LagLaw,
        at: Duration,
        gap: Duration,
        is_back: bool,
    ) -> Option<Verdict> {
        let verdict = self.called(law, at, gap);
        let waited = self.waited(at);
        if is_back {
            self.last = self.first.max(waited);
            self.first = Duration::ZERO;
        } else {
            self.first = waited;
        }
        self.wait_from(at);
        verdict
    }

    fn wait_from(&mut self, at: Duration) {
        self.since = at;
        self.before = self.now;
    }

    fn waited(&self, at: Duration) -> Duration {
        at.saturating_sub(self.since)
    }
}
