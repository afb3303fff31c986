//! The state that all clones of a limit share.

use std::fmt;
use std::task::Waker;
use std::time::Duration;

use super::settings::ConcurrencyLimitSettings;
use crate::config::Current;
use crate::control::concurrency_limit::limit::Limiter;
use crate::control::published::Published;
use crate::observe::{Reporter, Write, table};
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::unwind;

/// The time after which a rejected client may retry, before jitter. Permits are released within
/// one service time, which is rarely above a second, and one second is the least value of
/// `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Shared {
    pub(super) limiter: Limiter<Option<Waker>>,
    pub(super) settings: Current<ConcurrencyLimitSettings>,
    /// The queue of the settings, as requests read it: its length, and the nanoseconds in it.
    pub(super) queue: Published<2>,
    pub(super) reporter: Reporter,
}

// === impl Shared ===

impl Shared {
    pub(super) fn rejection(&self, reason: Reason) -> Rejection {
        self.reporter.reject(reason).with_retry_after(RETRY_AFTER)
    }

    #[inline]
    pub(super) fn entered(&self) {
        self.reporter.write(table::IN_FLIGHT, Write::Add(1.0));
    }

    #[inline]
    pub(super) fn leave(&self) {
        if let Some(waker) = self.limiter.leave() {
            wake(waker);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let occupancy = self.limiter.occupancy();
        f.debug_struct("ConcurrencyLimit")
            .field("limit", &occupancy.limit())
            .field("in_flight", &occupancy.in_flight())
            .field("reporter", &self.reporter)
            .finish_non_exhaustive()
    }
}

/// Wakes a queued request. One that has not been polled yet has no waker: it finds the permit at
/// its first poll. A waker that panics must not end the request that releases the permit.
pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        unwind::without_panics(|| waker.wake());
    }
}
