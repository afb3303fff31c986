//! The pace of a request body: how slowly it may arrive.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::settings::MinBodyRate;
use crate::clock::{self, Lent};

/// The bounds for the pace. Only the time in which the handler waits for the body counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// The longest silence.
    pub(super) idle: Option<Duration>,
    /// The longest time to wait for the whole body.
    pub(super) timeout: Option<Duration>,
    pub(super) rate: Option<MinBodyRate>,
}

/// The time for which the handler has waited for a body.
pub(super) struct Waited {
    pace: Pace,
    /// The total so far.
    total: Duration,
    /// The start of the current wait; the timer is set relative to it.
    since: Option<Instant>,
    lent: Lent,
}

// === impl Pace ===

impl Pace {
    pub(super) fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// The time for which the handler may go on waiting, after it has waited for `waited` in total.
    fn patience(&self, waited: Duration, received: u64) -> Duration {
        let timeout = self.timeout.map(|timeout| timeout.saturating_sub(waited));
        // As in Apache's mod_reqtimeout, received bytes earn time.
        let rate = self.rate.map(|rate| {
            let earned = received as f64 / rate.bytes_per_second as f64;
            let earned = Duration::try_from_secs_f64(earned);
            let all = rate.grace.saturating_add(earned.unwrap_or(Duration::MAX));
            all.saturating_sub(waited)
        });
        let all = [self.idle, timeout, rate].into_iter().flatten();
        all.min().unwrap_or(Duration::MAX)
    }
}

// === impl Waited ===

impl Waited {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            total: Duration::ZERO,
            since: None,
            lent: Lent::default(),
        }
    }

    /// Notes that bytes have arrived.
    pub(super) fn receive(&mut self) {
        if let Some(since) = self.since.take() {
            self.total += clock::now().saturating_duration_since(since);
        }
    }

    /// Polls the wait for the next bytes, after `received` bytes: ready when the body is too slow.
    pub(super) fn poll_wait(&mut self, received: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.since.is_none() {
            let now = clock::now();
            self.since = Some(now);
            let patience = self.pace.patience(self.total, received);
            self.lent.set(now + patience.min(clock::FAR));
        }
        self.lent.poll(clock::now, cx)
    }
}
