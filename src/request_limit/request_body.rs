//! The request body that a request limit wraps: it counts bytes and time.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Frame, SizeHint};

use super::kept::Kept;
use super::pace::Waited;
use super::unread::Unread;
use crate::body::BodyError;
use crate::reason::Reason;
use crate::rejection::{BoxError, Rejection};
use crate::upload::{self, Rest, Upload, UploadRef};

/// The request body that the inner service of a [`RequestLimit`](crate::RequestLimit) reads. It
/// counts the bytes, and ends with a [`BodyError`] if the body is too large or too slow.
pub struct RequestBody<B> {
    /// `None` after the body was ended.
    body: Option<B>,
    left: u64,
    received: u64,
    /// `None` if the request has no body, or if the end was read.
    upload: Option<UploadRef>,
    /// Boxes the rest of the body for the gate, if the gate may still answer.
    gives_back: Option<fn(B) -> Option<Rest>>,
    /// Reads the rest in a task, if an inner gate drops the body of a request that it rejects.
    /// `None` over HTTP/1: there the body is dropped before the answer, so that hyper can add
    /// `connection: close`.
    lingers: Option<fn(B)>,
    /// The wait so far, if the pace of the body is limited and the body was pending once.
    waited: Option<Box<Waited>>,
}

// === impl RequestBody ===

impl<B> RequestBody<B> {
    /// Wraps a body that may have at most `max` bytes.
    #[inline(always)]
    pub(crate) fn new(body: B, is_http2: bool, max: u64, kept: &Kept<B>) -> Self
    where
        B: http_body::Body + Send + Unpin + 'static,
    {
        let sent = match kept {
            Kept::Sent(sent) => Some(sent),
            _ => None,
        };
        Self {
            body: Some(body),
            left: max,
            received: 0,
            upload: sent.map(|sent| sent.upload.clone()),
            gives_back: match sent {
                Some(sent) if sent.gives_back => Some(rest),
                _ => None,
            },
            lingers: is_http2.then_some(linger),
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
            let upload = this.upload.as_ref();
            ready!(poll_slow(upload, &mut this.waited, this.received, cx));
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
                    if !upload::is_discarded() {
                        upload.fail();
                    }
                }
                return Poll::Ready(Some(Err(BodyError::inner(error))));
            }
            None => {
                this.body = None;
                this.upload = None;
                return Poll::Ready(None);
            }
        };
        let size = frame.data_ref().map_or(0, Buf::remaining) as u64;
        this.received = this.received.saturating_add(size);
        if let Some(waited) = &mut this.waited {
            waited.receive();
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

/// Returns whether a body has a large rest. A client has already sent a small rest before it reads
/// the answer.
fn is_large<B: http_body::Body>(body: &B) -> bool {
    const LITTLE: u64 = 16 * 1024;
    let upper = body.size_hint().upper();
    upper.is_none_or(|upper| upper > LITTLE) && !body.is_end_stream()
}

/// Boxes the rest of a body, if it is large.
fn rest<B: http_body::Body + Send + 'static>(body: B) -> Option<Rest> {
    is_large(&body).then(|| Box::new(body) as Rest)
}

/// Reads the rest of a body in a task, if it is large.
fn linger<B: http_body::Body + Send + Unpin + 'static>(body: B) {
    if is_large(&body) {
        Box::new(Unread::new(body)).linger(false);
    }
}

/// The service drops the body: the gate reads the rest before it answers, or while it answers. If
/// an inner gate rejects the request, or has dropped a call at a timeout, a task reads the rest.
impl<B> Drop for RequestBody<B> {
    #[inline]
    fn drop(&mut self) {
        let Some(upload) = &self.upload else {
            return;
        };
        upload.drop_body();
        if upload::is_discarded() {
            return;
        }
        if let (true, Some(linger)) = (upload.is_abandoned(), self.lingers) {
            if let Some(body) = self.body.take() {
                linger(body);
            }
        } else if let Some(rest) = self.gives_back {
            if upload.is_served() {
                upload.give_back(self.body.take().and_then(rest));
            }
        }
    }
}

/// The bytes that are left of the limit after a frame that exceeds it, if an inner gate has raised
/// the limit. If an inner gate discards the rest, the limit does not apply.
#[cold]
fn raised(upload: Option<&Upload>, left: u64, size: u64) -> Option<u64> {
    if upload::is_discarded() {
        return Some(left);
    }
    left.saturating_add(upload?.take_more()).checked_sub(size)
}

/// Ready when the body is too slow.
#[cold]
fn poll_slow(
    upload: Option<&UploadRef>,
    waited: &mut Option<Box<Waited>>,
    received: u64,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let Some(upload) = upload.filter(|_| !upload::is_discarded()) else {
        return Poll::Pending;
    };
    let is_new = upload.wait();
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
    waited.poll_wait(is_new, || upload.waited(), received, cx)
}

/// Notifies the future of the call, passes the rest of the body to it, and counts the rejection.
#[cold]
fn end<B: Send + 'static>(upload: Option<&Upload>, reason: Reason, rest: Option<B>) -> Rejection {
    let rejection = match upload {
        Some(upload) => {
            let rejection = upload.bounds().reporter().reject(reason);
            let rest = rest.map(|rest| Box::new(rest) as Rest);
            upload.end(rejection.clone(), rest);
            rejection
        }
        // The body has frames after its end.
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
