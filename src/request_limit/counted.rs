//! What happens to a request body that is too large: the bytes are counted, and the rest is read and thrown away.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use http_body::Frame;
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::pace::{Pace, Watched};
use crate::body::{BodyError, Source, Watch};
use crate::clock;
use crate::observe::{self, Meter};
use crate::rejection::{BoxError, Reason, Rejection};

/// Counts the bytes of a request body.
pub struct Counted<B> {
    left: u64,
    overrun: Option<Arc<Overrun<B>>>,
    /// Once somebody had to wait for it.
    watched: Option<Pin<Box<Watched>>>,
}

/// What the body tells the future when it is too large or too slow: the one cell that a body costs whose length is unknown or
/// whose pace matters.
pub(super) struct Overrun<B> {
    happened: AtomicBool,
    what: Mutex<Option<(Reason, Option<B>)>>,
    pace: Pace,
    meter: Meter,
}

pin_project! {
    /// What is still to come of a request body whose answer is out.
    pub struct Rest<B> {
        #[pin]
        unread: Option<Unread<B>>,
    }
}

pin_project! {
    struct Unread<B> {
        #[pin]
        body: B,
        drain: Drain,
    }
}

/// Reads and throws away, for a while.
struct Drain {
    left: usize,
    /// Boxed since it exists only for requests that are refused, while every body would carry its size.
    timer: Option<Pin<Box<Sleep>>>,
}

// === impl Counted ===

impl<B: Unpin> Watch<B> for Counted<B> {
    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        mut source: Pin<&mut Source<B>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BodyError>>>
    where
        B: http_body::Body<Error: Into<BoxError>>,
    {
        let Poll::Ready(polled) = source.as_mut().poll_frame(cx) else {
            ready!(self.poll_slow(cx));
            drop(source.get_mut().take());
            let rejection = self.refuse(Reason::BodyTooSlow, None);
            return Poll::Ready(Some(Err(BodyError::cut(rejection))));
        };
        let data = polled.as_ref().and_then(|frame| frame.as_ref().ok());
        let size = data.and_then(Frame::data_ref).map_or(0, Buf::remaining);
        if let Some(watched) = &mut self.watched {
            watched.as_mut().receive(size as u64);
        }
        let Some(left) = self.left.checked_sub(size as u64) else {
            let rest = source.get_mut().take();
            let rejection = self.refuse(Reason::BodyTooLarge, rest);
            return Poll::Ready(Some(Err(BodyError::cut(rejection))));
        };
        self.left = left;
        Poll::Ready(polled)
    }
}

impl<B> Counted<B> {
    /// Lets `max` bytes through.
    pub(super) fn new(max: u64, overrun: Option<Arc<Overrun<B>>>) -> Self {
        Self {
            left: max,
            overrun,
            watched: None,
        }
    }

    /// Ready when the sender is too slow.
    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pace = match &self.overrun {
            Some(overrun) if overrun.pace.is_any() => overrun.pace,
            _ => return Poll::Pending,
        };
        let watched = self.watched.get_or_insert_with(|| Watched::begin(pace));
        watched.as_mut().poll_wait(cx)
    }

    /// Tells the future, leaves it the rest, and counts it. A body without a cell has lied about its length; then nobody
    /// listens.
    #[cold]
    fn refuse(&self, reason: Reason, rest: Option<B>) -> Rejection {
        let rejection = match &self.overrun {
            Some(overrun) => overrun.happens(reason, rest),
            None => Rejection::new(reason),
        };
        observe::rejected(&rejection, false);
        rejection
    }
}

impl<B> fmt::Debug for Counted<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

// === impl Overrun ===

impl<B> Overrun<B> {
    pub(super) fn new(meter: Meter, pace: Pace) -> Self {
        Self {
            happened: AtomicBool::new(false),
            what: Mutex::new(None),
            pace,
            meter,
        }
    }

    fn happens(&self, reason: Reason, rest: Option<B>) -> Rejection {
        *self.what.lock().unwrap_or_else(PoisonError::into_inner) = Some((reason, rest));
        self.happened.store(true, Release);
        self.meter.reject(reason)
    }

    /// The rejection and what was not read, if the body was too large or too slow.
    pub(super) fn take(&self) -> Option<(Rejection, Option<B>)> {
        if !self.happened.load(Acquire) {
            return None;
        }
        let mut what = self.what.lock().unwrap_or_else(PoisonError::into_inner);
        let (reason, rest) = what.take()?;
        Some((self.meter.reject(reason), rest))
    }
}

// === impl Rest ===

impl<B> Rest<B> {
    #[inline]
    pub(super) fn nothing() -> Self {
        Self { unread: None }
    }

    pub(super) fn of(body: B) -> Self {
        let drain = Drain::new();
        Self {
            unread: Some(Unread { body, drain }),
        }
    }
}

impl<B, R: http_body::Body> Watch<B> for Rest<R> {
    fn holds_back(&self) -> bool {
        self.unread.is_some()
    }

    fn poll_before_answer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if let Some(unread) = this.unread.as_mut().as_pin_mut() {
            let unread = unread.project();
            ready!(unread.drain.poll(unread.body, cx));
            this.unread.set(None);
        }
        Poll::Ready(())
    }
}

impl<B> fmt::Debug for Rest<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest")
            .field("unread", &self.unread.as_ref().map(|unread| &unread.drain))
            .finish()
    }
}

// === impl Drain ===

impl Drain {
    /// What a client has typically sent before it looks for an answer: socket buffers on both sides.
    const BYTES: usize = 256 * 1024;
    const TIME: Duration = Duration::from_secs(1);

    fn new() -> Self {
        Self {
            left: Self::BYTES,
            timer: None,
        }
    }

    /// Ready when there is nothing more to read, or it has been enough.
    fn poll<B: http_body::Body>(
        &mut self,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        while self.left > 0 {
            let Poll::Ready(polled) = body.as_mut().poll_frame(cx) else {
                let timer = || Box::pin(clock::sleep(Self::TIME));
                return clock::poll(self.timer.get_or_insert_with(timer).as_mut(), cx);
            };
            let Some(Ok(frame)) = polled else {
                return Poll::Ready(());
            };
            // An empty frame counts too, or a body of nothing else would never end.
            let size = frame.data_ref().map_or(0, Buf::remaining).max(1);
            self.left = self.left.saturating_sub(size);
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
