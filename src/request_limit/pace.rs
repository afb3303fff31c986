//! The pace of a request body: how slowly it may arrive.

use std::task::{Context, Poll};
use std::time::Duration;

use super::settings::MinBodyRate;
use crate::clock::{self, Lent};

/// The bounds for the pace. Only the time in which the handler waits for the body counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pace {
    /// The longest silence.
    pub(super) idle: Option<Duration>,
    /// The longest time to wait for the whole body.
    pub(super) timeout: Option<Duration>,
    pub(super) rate: Option<MinBodyRate>,
}

/// The time for which the handler may wait for a body.
pub(super) struct Waited {
    pace: Pace,
    /// The timer of the current wait is set.
    is_set: bool,
    /// The time has started again since the last bytes arrived. It does so once.
    is_extended: bool,
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
            is_set: false,
            is_extended: false,
            lent: Lent::default(),
        }
    }

    /// Notes that bytes have arrived.
    pub(super) fn receive(&mut self) {
        (self.is_set, self.is_extended) = (false, false);
    }

    /// Polls the wait for the next bytes, after `received` bytes: ready when the body is too slow.
    /// `waited` is the total of all waits.
    ///
    /// A handler that has done something else, and waits again, has the whole time again: once
    /// until bytes arrive, since a handler that polls the body only when it is woken cannot be
    /// distinguished.
    pub(super) fn poll_wait(
        &mut self,
        is_new: bool,
        waited: impl FnOnce() -> Duration,
        received: u64,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if is_new && self.is_set && !self.is_extended {
            (self.is_set, self.is_extended) = (false, true);
        }
        if !self.is_set {
            self.is_set = true;
            let patience = self.pace.patience(waited(), received);
            self.lent.set(clock::now() + patience.min(clock::FAR));
        }
        self.lent.poll(clock::now, cx)
    }
}
