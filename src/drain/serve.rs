//! The futures that wait for a drain.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::handle::{Drain, Shared};
use crate::clock;

/// The result of a drain.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DrainReport {
    /// The number of response bodies that the drain ended because the grace period was over.
    pub cut: u64,
    /// The number of requests and permits that were still in flight after that. They end with the
    /// process.
    pub left: usize,
}

/// A future that is ready when a drain has reached a state. [`Drain::started`] returns one, and
/// [`Drain::serve`] passes one to the server.
#[must_use = "futures do nothing unless polled"]
pub struct DrainSignal(
    /// `None` after it was ready: each later poll returns ready too.
    Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
);

/// The time between the end of the bodies and the end of the server: the reaper of the runtime ends
/// the bodies within two scans, and the connections write the end to their sockets.
const FLUSH: Duration = Duration::from_millis(750);

/// The time that the signal of the shutdown takes to reach the clients. The drain admits the
/// requests that they send until then.
const TRANSIT: Duration = Duration::from_secs(1);

// === impl Drain ===

impl Drain {
    /// A future that is ready when the drain has begun. Use it in WebSocket connections, streams
    /// and background tasks, and end them within the lame-duck time and the grace period. If the
    /// drain has begun, the future is ready at its first poll. You may poll it again: it stays
    /// ready.
    pub fn started(&self) -> DrainSignal {
        let shared = self.shared.clone();
        DrainSignal(Some(Box::pin(async move { shared.started().await })))
    }

    fn lame_duck_over(&self) -> DrainSignal {
        let shared = self.shared.clone();
        DrainSignal(Some(Box::pin(async move { shared.lame_duck_over().await })))
    }

    /// Waits for [`begin`](Self::begin), then for the end of the lame-duck time, and then until the
    /// last response body has ended, for at most `grace`. After `grace`, it ends the [remaining
    /// bodies](super#at-the-end-of-the-grace-period) within a second, and returns.
    ///
    /// Use it where [`serve`](Self::serve) does not fit. It signals no shutdown to a server, and
    /// does not wait until [the last answer is written](super#when-a-request-ends).
    pub async fn wait_idle(&self, grace: Duration) -> DrainReport {
        let shared = &self.shared;
        shared.lame_duck_over().await;
        let idle = async {
            shared.rejecting().await;
            shared.idle().await;
        };
        if clock::within(grace, idle).await.is_none() {
            shared.cutoff.end_bodies();
            let _ = clock::within(FLUSH, shared.idle()).await;
        }
        self.report()
    }

    /// Runs a server until the drain is over.
    ///
    /// The closure `server` gets a future that signals the shutdown, and returns the server: that
    /// of axum, tonic, or your own; see the [module docs](super). The signal is ready when the
    /// lame-duck time is over. HTTP/2 clients may send requests before they read the `GOAWAY`: the
    /// drain admits requests for one more second, and then rejects them. If the drain already
    /// rejects requests when you call `serve`, it continues to reject them. The server and the
    /// requests in flight have the time `grace` to end. After that, the drain ends the remaining
    /// bodies, as [`wait_idle`](Self::wait_idle) does, and drops the server. The call returns at
    /// most 0.75 s after the grace period, whatever clients do.
    ///
    /// If the server ends before the drain begins, the call returns at once.
    ///
    /// For several servers, await one call for each together, with the same `grace`: each of them
    /// waits for all requests of the drain, and the shortest `grace` ends the bodies of all. Each
    /// report counts the requests of all servers.
    ///
    /// # Errors
    ///
    /// Returns the error of the server, as soon as the server ends with it.
    pub async fn serve<F, S, T, E>(&self, server: F, grace: Duration) -> Result<DrainReport, E>
    where
        F: FnOnce(DrainSignal) -> S,
        S: IntoFuture<Output = Result<T, E>>,
    {
        let shared = &self.shared;
        // A drain that rejects requests already does not admit them again.
        if !shared.is_over() {
            shared.state.set_transit(clock::nanos(TRANSIT));
        }
        let mut server = pin!(server(self.lame_duck_over()).into_future());
        let mut lame_duck_over = pin!(shared.lame_duck_over());
        // Polls the server first: a server that has ended is not polled again.
        let ended = poll_fn(|cx| match server.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => lame_duck_over.as_mut().poll(cx).map(|()| None),
        });
        let has_ended = match ended.await {
            Some(result) => {
                result?;
                if !self.is_draining() {
                    return Ok(self.counts());
                }
                lame_duck_over.await;
                true
            }
            None => false,
        };
        let mut rest = pin!(async {
            if !has_ended {
                server.await?;
            }
            shared.idle().await;
            Ok(())
        });
        let mut result = clock::within(grace, rest.as_mut()).await;
        if result.is_none() {
            shared.cutoff.end_bodies();
            result = clock::within(FLUSH, rest).await;
        }
        result.transpose()?;
        Ok(self.report())
    }

    fn counts(&self) -> DrainReport {
        DrainReport {
            cut: self.shared.cutoff.ended(),
            left: self.in_flight(),
        }
    }

    /// The drain is over.
    fn report(&self) -> DrainReport {
        let report = self.counts();
        self.shared.reporter.drain_ended(report.cut, report.left);
        report
    }
}

// === impl Shared ===

impl Shared {
    async fn started(&self) {
        loop {
            // Registers before it reads the state, so that it misses no change in between.
            let changed = self.changed.notified();
            if self.state.is_draining() {
                return;
            }
            changed.await;
        }
    }

    async fn lame_duck_over(&self) {
        self.started().await;
        while !self.is_over() {
            if let Some(left) = self.lame_duck_left() {
                clock::sleep(left).await;
            }
        }
    }

    /// Waits until the drain rejects requests.
    async fn rejecting(&self) {
        while !self.rejects() {
            clock::sleep(self.admits_for()).await;
        }
    }

    /// Waits until no request is in flight. The drain rejects requests by now, or the server has
    /// ended, so that no request follows.
    async fn idle(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state.in_flight() == 0 {
                return;
            }
            changed.await;
        }
    }
}

// === impl DrainReport ===

impl DrainReport {
    /// Returns whether every request has ended by itself.
    pub fn is_clean(&self) -> bool {
        self.cut == 0 && self.left == 0
    }
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} responses cut, {} requests left", self.cut, self.left)
    }
}

// === impl DrainSignal ===

impl Future for DrainSignal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(signal) = &mut self.0 {
            ready!(signal.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for DrainSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainSignal").finish_non_exhaustive()
    }
}
