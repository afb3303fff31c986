//! The part of a request body that the future of a gate keeps, and the handling of the body when
//! its request is rejected.

use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderValue, Request, Version, header};
use http_body::Body;

use super::unread::Unread;
use crate::http::head::{HttpRequest, RequestHead};
use crate::policy::Parts;
use crate::protocol::KeptBody;
use crate::raise::{self, RaisableSize};
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::request::{RequestKind, sealed};
use crate::upload::{BodyUpload, Rest, Scope, Upload, UploadRef};

/// The part of a request body that a future keeps if a policy limits the body.
#[doc(hidden)]
#[derive(Debug, Default)]
pub enum Kept<B> {
    #[default]
    Nothing,
    /// The request has a body.
    Sent(Sent),
    /// The request is rejected, and its body is at its end.
    Read,
    /// The request is rejected, and another task has its body.
    Elsewhere,
    /// The request is rejected, and the rest of its body is not read yet.
    Unread(Box<Unread<B>>),
}

/// The future's side of a request body.
#[doc(hidden)]
#[derive(Debug)]
pub struct Sent {
    pub(super) upload: UploadRef,
    /// An answer may follow when the inner service is dropped.
    pub(super) gives_back: bool,
    /// The inner service has answered.
    is_answered: bool,
}

// === impl KeptBody ===

impl<B> sealed::Sealed for Kept<B> {}

impl<B: Body + Send + Unpin + 'static> KeptBody<Request<B>> for Kept<B> {
    type Scope = Option<Scope>;

    #[inline(always)]
    fn length(request: &Request<B>) -> u64 {
        match request.body().size_hint().exact() {
            // Over HTTP/2, the end of a body that declares the length 0 may come later.
            Some(0) if !request.body().is_end_stream() => u64::MAX,
            Some(length) => length,
            None => u64::MAX,
        }
    }

    #[inline(always)]
    fn sent(parts: &Parts<'_>, length: u64) -> Option<(Self, u64)> {
        let max = match parts.limit {
            Some((bounds, max)) if bounds.fits(length, max) => max,
            Some(_) => return None,
            None => u64::MAX,
        };
        let kept = if length == 0 {
            Kept::Nothing
        } else {
            Self::begin(parts)
        };
        Some((kept, max))
    }

    fn limit(
        mut request: Request<B>,
        parts: &Parts<'_>,
        kept: &mut Self,
    ) -> Result<(Request<B>, u64), Rejection> {
        let Some((bounds, max)) = parts.limit else {
            return Ok((request, u64::MAX));
        };
        // This also applies to a request that is rejected here, since the gate reads the rest of
        // its body.
        raise::ask_size(request.extensions(), max);
        let head = RequestHead::from(&request);
        let hint = request.body().size_hint();
        let declared = hint.lower().max(declared(head.headers));
        let limits = bounds.limits();
        let most = limits.most_body();
        let is_too_large = declared > max.max(most);
        let rejected = limits.rejects(&head);
        if let Some(reason) = rejected.or(is_too_large.then_some(Reason::BodyTooLarge)) {
            let rejection = bounds.reporter().reject(reason);
            rejection.count(HttpRequest::target(&head));
            *kept = Self::unread(request);
            return Err(rejection);
        }
        if request.body().is_end_stream() {
            return Ok((request, max));
        }
        *kept = Self::begin(parts);
        if most <= max {
            return Ok((request, max));
        }
        // A body that is too large ends at its first frame, unless an inner gate has raised the
        // limit by then.
        let granted = if declared > max { 0 } else { max };
        if let Kept::Sent(sent) = kept {
            let size = RaisableSize::new(request.extensions_mut(), max, most, granted);
            sent.upload.set_raisable(size);
        }
        Ok((request, granted))
    }

    #[cold]
    #[inline(never)]
    fn unread(request: Request<B>) -> Self {
        if request.body().is_end_stream() {
            Kept::Read
        } else if expects_continue(&request) {
            Kept::Unread(Box::new(Unread::unwanted(request.into_body())))
        } else {
            Kept::Unread(Box::new(Unread::new(request.into_body())))
        }
    }

    #[inline(always)]
    fn enter(&mut self) -> Option<Scope> {
        let Kept::Sent(sent) = self else {
            return None;
        };
        if sent.upload.is_over() {
            *self = Kept::Nothing;
            return None;
        }
        sent.upload.enter(true)
    }

    #[inline(always)]
    fn upload(&self) -> Option<BodyUpload> {
        match self {
            Kept::Sent(sent) => Some(BodyUpload::new(&sent.upload)),
            _ => None,
        }
    }

    #[inline(always)]
    fn overrun(&mut self) -> Option<Rejection> {
        let Kept::Sent(sent) = self else {
            return None;
        };
        let Some((rejection, rest)) = sent.upload.take_end() else {
            sent.end();
            return None;
        };
        *self = Self::of_rest(rest);
        Some(rejection)
    }

    fn is_read_here(&self, parts: &Parts<'_>) -> bool {
        parts.limit.is_some() || !matches!(self, Kept::Nothing)
    }

    fn reclaim(&mut self) {
        if let Kept::Sent(sent) = self {
            let upload = &sent.upload;
            let rest = upload.take_rest().or_else(|| upload.take_end()?.1);
            *self = if rest.is_none() && upload.has_body() {
                upload.abandon();
                Kept::Elsewhere
            } else {
                Self::of_rest(rest)
            };
        }
    }

    fn poll_rest(&mut self, blames_caller: bool, cx: &mut Context<'_>) -> Poll<Option<bool>> {
        Poll::Ready(match self {
            Kept::Nothing | Kept::Sent(_) => None,
            Kept::Read => Some(true),
            Kept::Elsewhere => Some(false),
            Kept::Unread(unread) => Some(ready!(unread.poll_before_answer(blames_caller, cx))),
        })
    }

    fn linger(self, holds: bool) {
        if let Kept::Unread(unread) = self {
            unread.linger(holds);
        }
    }
}

/// The largest length that the headers declare.
fn declared(headers: &HeaderMap) -> u64 {
    let read = |value: &HeaderValue| value.to_str().ok()?.trim().parse().ok();
    let lengths = headers.get_all(header::CONTENT_LENGTH).into_iter();
    lengths.filter_map(read).max().unwrap_or(0)
}

/// Returns whether the client may wait for a 100. Over HTTP/2, a body that is not read does not
/// block other streams.
fn expects_continue<B>(request: &Request<B>) -> bool {
    let expect = request.headers().get(header::EXPECT);
    request.version() == Version::HTTP_11
        && expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

// === impl Sent ===

impl Sent {
    /// From now on, no gate reads the rest of the body. The response body may have the upload too,
    /// and so only the first call looks for other references to it.
    #[inline(always)]
    fn end(&mut self) {
        // A body that another thread drops at this moment may have ended before.
        if !self.is_answered && (self.upload.has_body() || self.upload.is_ended()) {
            self.upload.set_answered();
        }
        self.is_answered = true;
    }
}

/// The service may have panicked, or the caller may have dropped the call.
impl Drop for Sent {
    #[inline(always)]
    fn drop(&mut self) {
        self.end();
    }
}

// === impl Kept ===

impl<B> Kept<B> {
    /// For a request with a body.
    #[inline(always)]
    fn begin(parts: &Parts<'_>) -> Self {
        match parts.limit {
            Some((bounds, _)) => Kept::Sent(Sent {
                upload: Upload::begin(bounds),
                gives_back: parts.isolation.is_some() || parts.deadline.is_some(),
                is_answered: false,
            }),
            None => Kept::Nothing,
        }
    }

    fn of_rest(rest: Option<Rest>) -> Self
    where
        B: Body + Unpin + 'static,
    {
        let rest = rest.and_then(|rest| rest.downcast::<B>().ok());
        rest.map_or(Kept::Nothing, |rest| {
            Kept::Unread(Box::new(Unread::new(*rest)))
        })
    }
}
