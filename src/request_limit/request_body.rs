//! The one request body: its bytes are counted, and its time.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body::{Frame, SizeHint};

use super::pace::Waited;
use super::unread::Unread;
use crate::body::BodyError;
use crate::http::head::{HttpRequest, RequestHead};
use crate::policy::Parts;
use crate::reason::Reason;
use crate::rejection::{BoxError, Rejection};
use crate::request::RequestKind;
use crate::upload::{Rest, Scope, Upload, UploadRef};

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

/// What few requests have.
#[doc(hidden)]
#[derive(Default)]
pub enum Cold<B> {
    #[default]
    Nothing,
    /// The request has a body.
    Sent(Sent),
    /// The request is rejected, and its body is at its end.
    Read,
    /// The request is rejected, and its client waits for a 100 before it sends the body.
    Unwanted,
    /// The request is rejected, and the rest of its body is not read yet.
    Unread(Box<Unread<B>>),
}

/// The future's side of a request body.
#[doc(hidden)]
#[derive(Debug)]
pub struct Sent {
    upload: UploadRef,
    /// An answer may follow when the inner service is dropped.
    gives_back: bool,
}

/// Limits a request whose size is not known to be small.
#[expect(
    clippy::type_complexity,
    reason = "a request and what is kept of it, or why not"
)]
pub(crate) fn limit<B: http_body::Body + Unpin>(
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
        rejection.count(HttpRequest::target(&head));
        return Err((rejection, Cold::of(request)));
    }
    let cold = if request.body().is_end_stream() {
        Cold::Nothing
    } else {
        Cold::sent(parts)
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
    pub(crate) fn new(body: B, max: u64, cold: &Cold<B>) -> Self
    where
        B: http_body::Body + Send + 'static,
    {
        let sent = match cold {
            Cold::Sent(sent) => Some(sent),
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
        let Some(left) = this.left.checked_sub(size) else {
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

// === impl Cold ===

impl<B> Cold<B> {
    /// What is left of a request that is rejected, if its client sends it.
    pub(crate) fn of(request: Request<B>) -> Self
    where
        B: http_body::Body + Unpin,
    {
        if request.body().is_end_stream() {
            Cold::Read
        } else if expects_continue(request.headers()) {
            Cold::Unwanted
        } else {
            Cold::Unread(Box::new(Unread::new(request.into_body())))
        }
    }

    /// A request with a body.
    #[inline(always)]
    pub(crate) fn sent(parts: &Parts<'_>) -> Self {
        match parts.limit {
            Some((bounds, _)) => Cold::Sent(Sent {
                upload: Upload::begin(bounds),
                gives_back: parts.isolation.is_some() || parts.deadline.is_some(),
            }),
            None => Cold::Nothing,
        }
    }

    /// Lends what is known of the body to what runs on this thread.
    #[inline(always)]
    pub(crate) fn enter(&self) -> Option<Scope> {
        match self {
            Cold::Sent(sent) => sent.upload.enter(),
            _ => None,
        }
    }

    /// Why the body was ended, if it was too large or too slow.
    #[inline(always)]
    pub(crate) fn overrun(&mut self) -> Option<Rejection>
    where
        B: http_body::Body + Unpin + 'static,
    {
        let Cold::Sent(sent) = self else {
            return None;
        };
        let (rejection, rest) = sent.upload.take_end()?;
        *self = Self::unread(rest);
        Some(rejection)
    }

    /// Takes the rest of the body back from an inner service that is dropped.
    pub(crate) fn reclaim(&mut self)
    where
        B: http_body::Body + Unpin + 'static,
    {
        if let Cold::Sent(sent) = self {
            *self = Self::unread(sent.upload.take_rest());
        }
    }

    fn unread(rest: Option<Rest>) -> Self
    where
        B: http_body::Body + Unpin + 'static,
    {
        let rest = rest.and_then(|rest| rest.downcast::<B>().ok());
        rest.map_or(Cold::Nothing, |rest| {
            Cold::Unread(Box::new(Unread::new(*rest)))
        })
    }

    /// Reads what an HTTP/1 connection needs to go on. Whether the end of the body was reached;
    /// `None` if the body is not here.
    pub(crate) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<bool>>
    where
        B: http_body::Body + Unpin,
    {
        Poll::Ready(match self {
            Cold::Nothing | Cold::Sent(_) => None,
            Cold::Read => Some(true),
            Cold::Unwanted => Some(false),
            Cold::Unread(unread) => Some(ready!(unread.poll_before_answer(cx))),
        })
    }

    /// Reads on while the answer is sent.
    pub(crate) fn linger(self)
    where
        B: http_body::Body + Send + Unpin + 'static,
    {
        if let Cold::Unread(unread) = self {
            unread.linger();
        }
    }
}

impl<B> fmt::Debug for Cold<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cold::Nothing => "Nothing",
            Cold::Sent(_) => "Sent",
            Cold::Read => "Read",
            Cold::Unwanted => "Unwanted",
            Cold::Unread(_) => "Unread",
        })
    }
}
