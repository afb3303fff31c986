//! The one request body: its bytes are counted, and its time.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Frame, SizeHint};

use super::kept::Kept;
use super::pace::Waited;
use crate::body::BodyError;
use crate::reason::Reason;
use crate::rejection::{BoxError, Rejection};
use crate::upload::{Rest, Upload, UploadRef};

/// A request body that passed a [`RequestLimit`](crate::RequestLimit): its bytes are counted, and
/// it ends with a [`BodyError`] where it is too large or too slow.
pub struct RequestBody<B> {
    /// `None` when it was ended.
    body: Option<B>,
    left: u64,
    /// `None` for a request without a body.
    upload: Option<UploadRef>,
    /// Boxes the body for the gate, where the gate may still answer.
    gives_back: Option<fn(B) -> Option<Rest>>,
    /// Once it has been waited for, where its pace is limited.
    waited: Option<Box<Waited>>,
}

// === impl RequestBody ===

impl<B> RequestBody<B> {
    /// A body of at most `max` bytes.
    #[inline(always)]
    pub(crate) fn new(body: B, max: u64, kept: &Kept<B>) -> Self
    where
        B: http_body::Body + Send + 'static,
    {
        let sent = match kept {
            Kept::Sent(sent) => Some(sent),
            _ => None,
        };
        Self {
            body: Some(body),
            left: max,
            upload: sent.map(|sent| sent.upload.clone()),
            gives_back: match sent {
                Some(sent) if sent.gives_back => Some(rest),
                _ => None,
            },
            waited: None,
        }
    }
}

impl<B> http_body::Body for RequestBody<B>
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BodyError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BodyError>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let Poll::Ready(polled) = Pin::new(body).poll_frame(cx) else {
            ready!(poll_slow(this.upload.as_deref(), &mut this.waited, cx));
            this.body = None;
            let rejection = end(this.upload.as_deref(), Reason::BodyTooSlow, None::<B>);
            return Poll::Ready(Some(Err(BodyError::ended(rejection))));
        };
        if let Some(upload) = &this.upload {
            upload.receive();
        }
        let frame = match polled {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                this.body = None;
                if let Some(upload) = &this.upload {
                    upload.fail();
                }
                return Poll::Ready(Some(Err(BodyError::inner(error))));
            }
            None => {
                this.body = None;
                return Poll::Ready(None);
            }
        };
        let size = frame.data_ref().map_or(0, Buf::remaining) as u64;
        if let Some(waited) = &mut this.waited {
            waited.receive(size);
        }
        let left = this.left.checked_sub(size);
        let Some(left) = left.or_else(|| raised(this.upload.as_deref(), this.left, size)) else {
            let rest = this.body.take();
            let rejection = end(this.upload.as_deref(), Reason::BodyTooLarge, rest);
            return Poll::Ready(Some(Err(BodyError::ended(rejection))));
        };
        this.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(B::is_end_stream)
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// A body that is given back, if there is much left to read. Of less, the client has sent all
/// before it reads an answer.
fn rest<B: http_body::Body + Send + 'static>(body: B) -> Option<Rest> {
    const LITTLE: u64 = 16 * 1024;
    let is_little = body
        .size_hint()
        .upper()
        .is_some_and(|upper| upper <= LITTLE);
    (!is_little && !body.is_end_stream()).then(|| Box::new(body) as Rest)
}

/// A body that is dropped because its service is: the gate reads the rest before or while it
/// answers.
impl<B> Drop for RequestBody<B> {
    #[inline]
    fn drop(&mut self) {
        let Some(upload) = &self.upload else {
            return;
        };
        if upload.is_served() {
            upload.drop_body();
            if let Some(rest) = self.gives_back {
                upload.give_back(self.body.take().and_then(rest));
            }
        }
    }
}

/// What is left of the limit after a frame that exceeds it, if an inner gate has raised it.
#[cold]
fn raised(upload: Option<&Upload>, left: u64, size: u64) -> Option<u64> {
    left.saturating_add(upload?.take_more()).checked_sub(size)
}

/// Ready when the sender is too slow.
#[cold]
fn poll_slow(
    upload: Option<&Upload>,
    waited: &mut Option<Box<Waited>>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let Some(upload) = upload else {
        return Poll::Pending;
    };
    upload.wait();
    let waited = match waited {
        Some(waited) => waited,
        none => {
            let pace = upload.bounds().limits().pace();
            if !pace.is_any() {
                return Poll::Pending;
            }
            none.insert(Box::new(Waited::new(pace)))
        }
    };
    waited.poll_wait(cx)
}

/// Reports to the call's future, hands the rest to it, and counts the rejection.
#[cold]
fn end<B: Send + 'static>(upload: Option<&Upload>, reason: Reason, rest: Option<B>) -> Rejection {
    let rejection = match upload {
        Some(upload) => {
            let rejection = upload.bounds().reporter().reject(reason);
            let rest = rest.map(|rest| Box::new(rest) as Rest);
            upload.end(rejection.clone(), rest);
            rejection
        }
        // A body that was at its end has more frames.
        None => Rejection::new(reason),
    };
    rejection.count(None);
    rejection
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
