//! A response body whose time is over.

use std::sync::Arc;

use tokio::time::Instant;

use super::bounds::Bounds;
use super::stamp::Stamp;

/// A cell whose time is over, or ends before the next scan, with the arguments of [`Reap::end`].
pub(super) struct Over {
    /// The end of its time, and the number of the cell, which is usually lower for an inner gate.
    pub(super) order: (Instant, u64),
    pub(super) cell: Arc<dyn Reap>,
    /// The connection is woken to poll the body, which does not end in this scan.
    pub(super) wakes: bool,
    pub(super) stamp: Stamp,
    pub(super) is_idle: bool,
    pub(super) is_callers: bool,
}

/// The operations of the reaper on a cell.
pub(super) trait Reap: Send + Sync {
    fn stamp(&self) -> Stamp;

    fn bounds(&self) -> &Bounds;

    /// Records whether the client reads too slowly.
    fn set_slow(&self, is_slow: bool);

    /// Wakes the connection, which then polls the body.
    fn wake(&self);

    /// Ends the body if `is_current` returns `true` for its stamp. `is_callers` if the caller
    /// caused the timeout.
    fn end(&self, is_current: &dyn Fn(Stamp) -> bool, is_callers: bool);
}

impl Over {
    pub(super) fn end(self) {
        if self.wakes {
            self.cell.wake();
        } else {
            self.cell.end(&|now| self.is_current(now), self.is_callers);
        }
    }

    /// Returns whether the body is still in the state that the scan has found.
    fn is_current(&self, now: Stamp) -> bool {
        if self.is_idle {
            // A body that has woken the connection does not end before the next poll.
            now.frames() == self.stamp.frames() && (now.waits() || !self.stamp.waits())
        } else {
            now == self.stamp
        }
    }
}
