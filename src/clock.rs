//! The only lines that touch time: whoever needs it comes here, so that paused time moves everything but the lag probe,
//! which measures how far the runtime is behind the world.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::coop;
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
#[inline]
pub(crate) fn poll(mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    if coop::has_budget_remaining() {
        return timer.as_mut().poll(cx);
    }
    pin!(coop::unconstrained(timer)).poll(cx)
}

/// The time by which lag is measured, from a fixed origin; a paused clock does not stop it.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn monotonic() -> Duration {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let origin = *ORIGIN;
    origin.elapsed()
}

/// Counts the grains of time since an origin. A thread that has looked within the same grain compares two times and need not
/// work it out again, which costs more than the look at the clock.
#[derive(Debug)]
pub(crate) struct Grains {
    id: u64,
    origin: tokio::time::Instant,
    grain: Duration,
}

/// What a thread has worked out last.
struct Latest {
    id: Cell<u64>,
    /// When the grain begins, and when the next one does.
    span: Cell<Option<(tokio::time::Instant, tokio::time::Instant)>>,
    grains: Cell<u64>,
}

/// As many as a thread keeps apart. Two that share a place and take turns work it out each time, and are right all the same.
const PLACES: usize = 8;

thread_local! {
    static LATEST: [Latest; PLACES] = const {
        [const {
            Latest {
                id: Cell::new(0),
                span: Cell::new(None),
                grains: Cell::new(0),
            }
        }; PLACES]
    };
}

// === impl Grains ===

impl Grains {
    pub(crate) fn new(origin: tokio::time::Instant, grain: Duration) -> Self {
        static ID: AtomicU64 = AtomicU64::new(1);
        Self {
            id: ID.fetch_add(1, Relaxed),
            origin,
            grain,
        }
    }

    /// Whole grains from the origin until now.
    #[inline]
    pub(crate) fn count(&self) -> u64 {
        let now = now();
        LATEST.with(|latest| {
            let latest = &latest[self.id as usize % PLACES];
            match latest.span.get() {
                // A paused clock may have been ahead of the one that there is now.
                Some((from, until)) if from <= now && now < until && latest.id.get() == self.id => {
                    latest.grains.get()
                }
                _ => self.work_out(now, latest),
            }
        })
    }

    #[cold]
    fn work_out(&self, now: tokio::time::Instant, latest: &Latest) -> u64 {
        let grain = nanos(self.grain);
        let since = nanos(now.saturating_duration_since(self.origin));
        let grains = since / grain;
        let from = self
            .origin
            .checked_add(Duration::from_nanos(grains * grain));
        let until = from.and_then(|from| from.checked_add(self.grain));
        latest.id.set(self.id);
        latest.span.set(from.zip(until));
        latest.grains.set(grains);
        grains
    }
}
