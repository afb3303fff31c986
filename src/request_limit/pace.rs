//! How slowly a request body may come.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::clock;

/// What a sender has to keep to, counted from when somebody has to wait for the body for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// The longest silence.
    pub(super) idle: Option<Duration>,
    /// The time for all of it.
    pub(super) deadline: Option<Duration>,
    /// Bytes a second on average, once the grace is over.
    pub(super) rate: Option<(u64, Duration)>,
}

pin_project! {
    /// One body that somebody waits for.
    pub(super) struct Watched {
        pace: Pace,
        begun: Instant,
        received: u64,
        // Whether the timer is set for the silence that there is now.
        waits: bool,
        #[pin]
        timer: Sleep,
    }
}

// === impl Pace ===

impl Pace {
    pub(super) fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// When a body is too slow that has been silent since `now`.
    fn due(&self, begun: Instant, received: u64, now: Instant) -> Instant {
        let after = |from: Instant, time: Duration| from + time.min(clock::FAR);
        let idle = self.idle.map(|idle| after(now, idle));
        let deadline = self.deadline.map(|deadline| after(begun, deadline));
        // As Apache's mod_reqtimeout has it: what has come buys time.
        let rate = self.rate.map(|(rate, grace)| {
            let earned = Duration::try_from_secs_f64(received as f64 / rate as f64);
            after(begun, grace.saturating_add(earned.unwrap_or(clock::FAR)))
        });
        let all = [idle, deadline, rate].into_iter().flatten();
        all.min().unwrap_or_else(|| after(now, clock::FAR))
    }
}

// === impl Watched ===

impl Watched {
    /// Boxed, since only a body that is waited for has one.
    pub(super) fn begin(pace: Pace) -> Pin<Box<Self>> {
        let begun = clock::now();
        Box::pin(Self {
            pace,
            begun,
            received: 0,
            waits: false,
            timer: clock::sleep_until(begun),
        })
    }

    /// Something came.
    pub(super) fn receive(self: Pin<&mut Self>, bytes: u64) {
        let this = self.project();
        *this.received = this.received.saturating_add(bytes);
        *this.waits = false;
    }

    /// Nothing came yet: ready when that is too slow.
    pub(super) fn poll_wait(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if !*this.waits {
            *this.waits = true;
            let due = this.pace.due(*this.begun, *this.received, clock::now());
            this.timer.as_mut().reset(due);
        }
        clock::poll(this.timer, cx)
    }
}
