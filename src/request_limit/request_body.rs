//! The one request body: its bytes are counted, and the rest of one that is too large is read and
//! dropped.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Request, header};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

use super::pace::Waited;
use crate::body::{BodyError, Held};
use crate::clock::{self, Lent};
use crate::gate::timer::due;
use crate::http::head::RequestHead;
use crate::policy::Parts;
use crate::reason::Reason;
use crate::rejection::{BoxError, Rejection};
use crate::upload::{Scope, Upload, UploadRef};

pin_project! {
    /// A request body that passed a [`RequestLimit`](crate::RequestLimit): its bytes are counted,
    /// and it ends with a [`BodyError`] where it is too large or too slow.
    pub struct RequestBody<B> {
        // `None` when it was ended.
        #[pin]
        body: Option<B>,
        left: u64,
        // `None` for a request without a body.
        upload: Option<UploadRef>,
        // Once it has been waited for, where its pace is limited.
        waited: Option<Box<Waited>>,
    }
}

/// What few requests have.
#[doc(hidden)]
#[derive(Default)]
pub enum Cold<B> {
    #[default]
    Nothing,
    /// The request has a body.
    Sent(Sent),
    /// The request is rejected, and the rest of its body is not read yet.
    Unread(Box<Unread<B>>),
}

/// The future's side of a request body.
#[doc(hidden)]
#[derive(Debug)]
pub struct Sent(UploadRef);

pin_project! {
    /// Reads and drops the rest of a body, for a while, and then gives the answer.
    #[doc(hidden)]
    pub struct Unread<B> {
        #[pin]
        body: B,
        left: usize,
        lent: Lent,
        answer: Bytes,
    }
}

/// Limits a request whose size is not known to be small.
#[expect(
    clippy::type_complexity,
    reason = "a request and what is kept of it, or why not"
)]
pub(crate) fn limit<B: http_body::Body>(
    request: Request<B>,
    parts: &Parts<'_>,
) -> Result<(Request<B>, Cold<B>, u64), (Rejection, Cold<B>)> {
    let Some((bounds, max)) = parts.limit else {
        return Ok((request, Cold::Nothing, u64::MAX));
    };
    let head = RequestHead::from(&request);
    let hint = request.body().size_hint();
    let is_too_large = hint.lower().max(declared(head.headers)) > max;
    let rejected = bounds.rejects(&head);
    if let Some(reason) = rejected.or(is_too_large.then_some(Reason::BodyTooLarge)) {
        let rejection = bounds.reporter().reject(reason);
        return Err((rejection, Cold::of(request)));
    }
    let cold = if request.body().is_end_stream() {
        Cold::Nothing
    } else {
        Cold::Sent(Sent(Upload::begin(bounds)))
    };
    Ok((request, cold, max))
}

/// The largest length that the headers declare.
fn declared(headers: &HeaderMap) -> u64 {
    let read = |value: &HeaderValue| value.to_str().ok()?.trim().parse().ok();
    let lengths = headers.get_all(header::CONTENT_LENGTH).into_iter();
    lengths.filter_map(read).max().unwrap_or(0)
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

// === impl RequestBody ===

impl<B> RequestBody<B> {
    /// A body of at most `max` bytes.
    #[inline(always)]
    pub(crate) fn new(body: B, max: u64, cold: &Cold<B>) -> Self {
        Self {
            body: Some(body),
            left: max,
            upload: match cold {
                Cold::Sent(Sent(upload)) => Some(upload.clone()),
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
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let Poll::Ready(polled) = body.poll_frame(cx) else {
            ready!(poll_slow(this.upload.as_deref(), this.waited, cx));
            this.body.set(None);
            let rejection = end(this.upload.as_deref(), Reason::BodyTooSlow, None::<B>);
            return Poll::Ready(Some(Err(BodyError::ended(rejection))));
        };
        if let Some(upload) = this.upload {
            upload.receive();
        }
        let frame = match polled {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                this.body.set(None);
                if let Some(upload) = this.upload {
                    upload.fail();
                }
                return Poll::Ready(Some(Err(BodyError::inner(error))));
            }
            None => {
                this.body.set(None);
                return Poll::Ready(None);
            }
        };
        let size = frame.data_ref().map_or(0, Buf::remaining) as u64;
        if let Some(waited) = this.waited {
            waited.receive(size);
        }
        let Some(left) = this.left.checked_sub(size) else {
            let rest = this.body.get_mut().take();
            let rejection = end(this.upload.as_deref(), Reason::BodyTooLarge, rest);
            return Poll::Ready(Some(Err(BodyError::ended(rejection))));
        };
        *this.left = left;
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
            let pace = upload.bounds().pace();
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
            let rest = rest.map(|rest| Box::new(rest) as Box<dyn Any + Send>);
            upload.end(rejection.clone(), rest);
            rejection
        }
        // A body that was at its end has more frames.
        None => Rejection::new(reason),
    };
    rejection.count();
    rejection
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

// === impl Cold ===

impl<B> Cold<B> {
    /// What is left of a request that is rejected, if its client sends it.
    pub(crate) fn of(request: Request<B>) -> Self
    where
        B: http_body::Body,
    {
        let is_sent = !request.body().is_end_stream() && !expects_continue(request.headers());
        if is_sent {
            Cold::Unread(Box::new(Unread::new(request.into_body())))
        } else {
            Cold::Nothing
        }
    }

    /// A request with a body.
    #[inline(always)]
    pub(crate) fn sent(parts: &Parts<'_>) -> Self {
        match parts.limit {
            Some((bounds, _)) => Cold::Sent(Sent(Upload::begin(bounds))),
            None => Cold::Nothing,
        }
    }

    /// Lends what is known of the body to what runs on this thread.
    #[inline(always)]
    pub(crate) fn enter(&self) -> Option<Scope> {
        match self {
            Cold::Sent(Sent(upload)) => Some(upload.enter()),
            _ => None,
        }
    }

    /// Why the body was ended, if it was too large or too slow.
    #[inline(always)]
    pub(crate) fn overrun(&mut self) -> Option<Rejection>
    where
        B: 'static,
    {
        let Cold::Sent(Sent(upload)) = self else {
            return None;
        };
        let (rejection, rest) = upload.take_end()?;
        let rest = rest.and_then(|rest| rest.downcast::<B>().ok());
        *self = rest.map_or(Cold::Nothing, |rest| {
            Cold::Unread(Box::new(Unread::new(*rest)))
        });
        Some(rejection)
    }

    /// Holds an answer back until the rest of the body is read.
    pub(crate) fn hold(self, answer: Bytes) -> Result<Held, Bytes>
    where
        B: http_body::Body + Send + Unpin + 'static,
    {
        let Cold::Unread(mut unread) = self else {
            return Err(answer);
        };
        let length = answer.len() as u64;
        unread.answer = answer;
        Ok(Held {
            answer: Box::into_pin(unread),
            length,
        })
    }
}

impl<B> fmt::Debug for Cold<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cold::Nothing => "Nothing",
            Cold::Sent(_) => "Sent",
            Cold::Unread(_) => "Unread",
        })
    }
}

// === impl Unread ===

impl<B> Unread<B> {
    /// What a client has typically sent before it reads the answer: socket buffers on both sides.
    const BYTES: usize = 256 * 1024;
    const TIME: Duration = Duration::from_secs(1);

    fn new(body: B) -> Self {
        Self {
            body,
            left: Self::BYTES,
            lent: Lent::default(),
            answer: Bytes::new(),
        }
    }
}

impl<B: http_body::Body> Future for Unread<B> {
    type Output = Bytes;

    /// Ready when there is nothing more to read, or enough was read.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Bytes> {
        let mut this = self.project();
        while *this.left > 0 {
            let Poll::Ready(polled) = this.body.as_mut().poll_frame(cx) else {
                ready!(this.lent.poll(|| due(clock::nanos(Self::TIME)), cx));
                break;
            };
            let Some(Ok(frame)) = polled else {
                break;
            };
            // An empty frame counts too, or a body of nothing else would never end.
            let size = frame.data_ref().map_or(0, Buf::remaining).max(1);
            *this.left = this.left.saturating_sub(size);
        }
        Poll::Ready(std::mem::take(this.answer))
    }
}

impl<B> fmt::Debug for Unread<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
