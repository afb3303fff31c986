//! How slowly a request body may come.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::clock;

/// What a sender has to keep to: of the time that somebody waits for it, and of no other.
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
        received: u64,
        // How long somebody has waited so far, and since when somebody does now; the timer is set for that.
        waited: Duration,
        since: Option<Instant>,
        #[pin]
        timer: Sleep,
    }
}

// === impl Pace ===

impl Pace {
    pub(super) fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// How much longer a body may be waited for that was waited for so long already.
    fn patience(&self, waited: Duration, received: u64) -> Duration {
        let deadline = self
            .deadline
            .map(|deadline| deadline.saturating_sub(waited));
        // As Apache's mod_reqtimeout has it: what has come buys time.
        let rate = self.rate.map(|(rate, grace)| {
            let earned = Duration::try_from_secs_f64(received as f64 / rate as f64);
            let all = grace.saturating_add(earned.unwrap_or(Duration::MAX));
            all.saturating_sub(waited)
        });
        let all = [self.idle, deadline, rate].into_iter().flatten();
        all.min().unwrap_or(Duration::MAX)
    }
}

// === impl Watched ===

impl Watched {
    /// Boxed, since only a body that is waited for has one.
    pub(super) fn begin(pace: Pace) -> Pin<Box<Self>> {
        Box::pin(Self {
            pace,
            received: 0,
            waited: Duration::ZERO,
            since: None,
            timer: clock::sleep(Duration::MAX),
        })
    }

    /// Something came.
    pub(super) fn receive(self: Pin<&mut Self>, bytes: u64) {
        let this = self.project();
        *this.received = this.received.saturating_add(bytes);
        if let Some(since) = this.since.take() {
            *this.waited += clock::now().saturating_duration_since(since);
        }
    }

    /// Nothing came yet: ready when that is too slow.
    pub(super) fn poll_wait(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.since.is_none() {
            *this.since = Some(clock::now());
            let patience = this.pace.patience(*this.waited, *this.received);
            clock::rearm(this.timer.as_mut(), patience);
        }
        clock::poll(this.timer, cx)
    }
}
