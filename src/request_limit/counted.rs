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

use crate::body::{BodyError, Source, Watch};
use crate::clock;
use crate::observe::{self, Meter};
use crate::rejection::{BoxError, Reason, Rejection};

/// Counts the bytes of a request body.
pub struct Counted<B> {
    left: u64,
    overrun: Option<Arc<Overrun<B>>>,
}

/// What the body tells the future when it is too large: the one cell that a body of unknown length costs.
pub(super) struct Overrun<B> {
    happened: AtomicBool,
    rest: Mutex<Option<B>>,
    meter: Meter,
}

pin_project! {
    /// What is still to come of a request body whose answer is out.
    pub struct Rest<B> {
        #[pin]
        body: Option<B>,
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
        let polled = ready!(source.as_mut().poll_frame(cx));
        let data = polled.as_ref().and_then(|frame| frame.as_ref().ok());
        let size = data.and_then(Frame::data_ref).map_or(0, Buf::remaining);
        Poll::Ready(match self.left.checked_sub(size as u64) {
            Some(left) => {
                self.left = left;
                polled
            }
            None => Some(Err(BodyError::cut(self.overrun(source.get_mut().take())))),
        })
    }
}

impl<B> Counted<B> {
    /// Lets `max` bytes through.
    pub(super) fn new(max: u64, overrun: Option<Arc<Overrun<B>>>) -> Self {
        Self { left: max, overrun }
    }

    /// Tells the future, leaves it the rest, and counts it. A body without a cell has lied about its length; then nobody
    /// listens.
    #[cold]
    fn overrun(&self, rest: Option<B>) -> Rejection {
        let rejection = match &self.overrun {
            Some(overrun) => overrun.happens(rest),
            None => Rejection::new(Reason::BodyTooLarge),
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
    pub(super) fn new(meter: Meter) -> Self {
        Self {
            happened: AtomicBool::new(false),
            rest: Mutex::new(None),
            meter,
        }
    }

    fn happens(&self, rest: Option<B>) -> Rejection {
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = rest;
        self.happened.store(true, Release);
        self.meter.reject(Reason::BodyTooLarge)
    }

    /// The rejection and what was not read, if the body was too large.
    pub(super) fn take(&self) -> Option<(Rejection, Option<B>)> {
        self.happened.load(Acquire).then(|| {
            let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
            (self.meter.reject(Reason::BodyTooLarge), rest.take())
        })
    }
}

// === impl Rest ===

impl<B> Rest<B> {
    pub(super) fn new(body: Option<B>) -> Self {
        Self {
            body,
            drain: Drain::new(),
        }
    }
}

impl<B, R: http_body::Body> Watch<B> for Rest<R> {
    fn holds_back(&self) -> bool {
        self.body.is_some()
    }

    fn poll_before_answer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if let Some(body) = this.body.as_mut().as_pin_mut() {
            ready!(this.drain.poll(body, cx));
            this.body.set(None);
        }
        Poll::Ready(())
    }
}

impl<B> fmt::Debug for Rest<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest")
            .field("unread", &self.body.is_some())
            .field("drain", &self.drain)
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
