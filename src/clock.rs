//! The only lines that touch time: whoever needs it comes here, so that paused time moves everything.

use std::time::Duration;

use tokio::time::Sleep;

/// A timer that is due `after` from now; registered with the runtime at its first poll.
///
/// # Panics
///
/// Outside a Tokio runtime whose time driver is on.
pub(crate) fn sleep(after: Duration) -> Sleep {
    tokio::time::sleep(after)
}
