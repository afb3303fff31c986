//! Reads the rest of a request body after its request is rejected.
//!
//! A client that is still sending may lose the answer: the kernel resets an HTTP/1 connection that
//! has unread data when it closes, and some HTTP/2 clients do not read the answer on a stream that
//! is reset while they send. The gate therefore reads and drops the rest for a while. Over HTTP/1
//! it reads a part of the rest before the answer, because only then it knows whether the connection
//! can go on. If it cannot, the gate keeps the unread rest for a while, without reading it: the
//! connection stays open, and a client that reads the answer while it sends gets it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use http_body::Body;
use tokio::runtime::Handle;

use crate::clock::{self, Lent};
use crate::unwind;
use crate::upload;

/// The rest of a request body that the gate reads and drops.
#[doc(hidden)]
pub struct Unread<B> {
    /// `None` after its end.
    body: Option<B>,
    left: usize,
    time: Duration,
    lent: Lent,
    /// Keeps the body until the time is over.
    holds: bool,
    /// The gate no longer waits for the rest before it answers. If it is dropped before that, a
    /// gate around it answers and reads the rest.
    is_answered: bool,
    /// The answer waits for it. If the answer is dropped now, the caller is to blame.
    is_awaited: bool,
}

// === impl Unread ===

impl<B: Body + Unpin> Unread<B> {
    /// The number of bytes that a client has typically sent before it reads the answer: the socket
    /// buffers on both sides.
    const BYTES: usize = 256 * 1024;
    const TIME: Duration = Duration::from_secs(1);

    pub(super) fn new(body: B) -> Self {
        Self {
            body: Some(body),
            left: Self::BYTES,
            time: Self::TIME,
            lent: Lent::default(),
            holds: false,
            is_answered: false,
            is_awaited: false,
        }
    }

    /// A body whose client may wait for a 100, which hyper sends when the body is read.
    pub(super) fn unwanted(body: B) -> Self {
        let mut this = Self::new(body);
        (this.left, this.holds) = (0, true);
        this
    }

    /// Reads as much as an HTTP/1 connection needs to go on, in half of the time: everything if the
    /// length is known and small, half of the bytes if the length is unknown, and nothing if the
    /// length is too large. Returns whether the end was reached.
    pub(super) fn poll_before_answer(
        &mut self,
        blames_caller: bool,
        cx: &mut Context<'_>,
    ) -> Poll<bool> {
        self.is_awaited = false;
        let Some(body) = &self.body else {
            return Poll::Ready(true);
        };
        let hint = body.size_hint();
        let (bytes, time) = match hint.exact() {
            Some(length) if length <= Self::BYTES as u64 => (0, Self::TIME / 2),
            _ if hint.lower() > Self::BYTES as u64 => return Poll::Ready(false),
            _ => (Self::BYTES / 2, Self::TIME / 2),
        };
        if self.left <= bytes {
            return Poll::Ready(false);
        }
        self.is_awaited = blames_caller;
        ready!(self.poll_until(bytes, time, cx));
        self.is_awaited = false;
        self.time = self.time.saturating_sub(time);
        self.lent = Lent::default();
        Poll::Ready(self.body.is_none())
    }

    /// Reads until at most `left` bytes of the budget remain, or until the time is over.
    fn poll_until(&mut self, left: usize, time: Duration, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(body) = self.body.as_mut().filter(|_| self.left > left) {
            let poll = || upload::discard(|| Pin::new(&mut *body).poll_frame(cx));
            match unwind::without_panics(poll) {
                Some(Poll::Pending) => return self.poll_time(time, cx),
                Some(Poll::Ready(Some(Ok(frame)))) => {
                    // Counts an empty frame as one byte, so that a body of empty frames ends too.
                    let size = frame.data_ref().map_or(0, Buf::remaining).max(1);
                    self.left = self.left.saturating_sub(size);
                    if body.is_end_stream() {
                        self.drop_body();
                    }
                }
                Some(Poll::Ready(None)) => self.drop_body(),
                Some(Poll::Ready(Some(Err(_)))) | None => {
                    self.left = 0;
                    self.holds = false;
                }
            }
        }
        Poll::Ready(())
    }

    fn poll_time(&mut self, time: Duration, cx: &mut Context<'_>) -> Poll<()> {
        self.lent.poll(|| clock::due(clock::nanos(time)), cx)
    }

    /// Spawns a task that reads on while the answer is sent. Outside a runtime, nothing is read.
    /// With `holds`, it keeps the body until the time is over, even if it reads no more.
    pub(super) fn linger(mut self: Box<Self>, holds: bool)
    where
        B: Send + 'static,
    {
        self.is_answered = true;
        let is_over = self.left == 0 && !self.holds;
        if self.body.is_none() || is_over || self.time.is_zero() {
            return;
        }
        self.holds = holds;
        if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn(self));
        }
    }
}

impl<B> Unread<B> {
    /// Drops the body. It may be that of a gate around this one, which must not read on. It may
    /// also panic, which must not prevent the answer.
    fn drop_body(&mut self) {
        let body = self.body.take();
        unwind::without_panics(|| upload::discard(|| drop(body)));
    }
}

impl<B: Body + Unpin> Future for Unread<B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        ready!(this.poll_until(0, this.time, cx));
        if this.holds && this.body.is_some() {
            return this.poll_time(this.time, cx);
        }
        Poll::Ready(())
    }
}

impl<B> Drop for Unread<B> {
    fn drop(&mut self) {
        if self.is_answered {
            self.drop_body();
        }
        if self.is_awaited {
            upload::blame_caller_if_late();
        }
    }
}

impl<B> fmt::Debug for Unread<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
