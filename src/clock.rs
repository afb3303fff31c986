//! The only lines that touch time: whoever needs it comes here, so that paused time moves everything but the lag probe,
//! which measures how far the runtime is behind the world.

use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

/// The time by which decisions are taken: paused time moves it.
#[inline]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// A timer that is due `after` from now; registered with the runtime at its first poll.
///
/// # Panics
///
/// Outside a Tokio runtime whose time driver is on.
pub(crate) fn sleep(after: Duration) -> Sleep {
    tokio::time::sleep(after)
}

/// As long as makes a difference to nobody, and can be added to any time.
pub(crate) const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A timer that is due at a time; registered with the runtime at its first poll.
///
/// # Panics
///
/// Outside a Tokio runtime whose time driver is on.
pub(crate) fn sleep_until(at: tokio::time::Instant) -> Sleep {
    tokio::time::sleep_until(at)
}

/// Makes a timer due `after` from now instead.
pub(crate) fn rearm(timer: Pin<&mut Sleep>, after: Duration) {
    timer.reset(now() + after.min(FAR));
}

/// A time as nanoseconds, as atomics keep it; what is above 584 years is the most that there is.
#[inline]
pub(crate) fn nanos(time: Duration) -> u64 {
    let seconds = time.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(time.subsec_nanos().into())
}

/// Polls a timer, also where the future beside it has used up its task's share of Tokio's cooperative budget: a timer asks
/// for a share too, and would else never be due beside a future that is always busy.
pub(crate) fn poll(timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    pin!(unconstrained(timer)).poll(cx)
}

/// The time by which lag is measured, from a fixed origin; a paused clock does not stop it.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn monotonic() -> Duration {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let origin = *ORIGIN;
    origin.elapsed()
}
