//! A response body with the guard of its request.

use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Ends;
use super::bounds::{AtHead, Bounds};
use super::error::{BodyError, PolledFrame};
use crate::gate::guard::{BodyGuard, Guard};
use crate::http::classify::AtEnd;
use crate::http::grpc;
use crate::http::head::HttpRequest;
use crate::outcome::{Completion, Outcome};
use crate::policy::needs::InBody;
use crate::policy::{Choice, Needs, NeedsOf, Policy};
use crate::rejection::{BoxError, Rejection};
use crate::unwind;
use crate::upload::{self, BodyUpload, Listening, Report, Scope};

/// A frame that is larger than this does not release its permit when hyper takes it: a cell passes
/// it on in slices. A body of known length that is larger than this is in a cell.
pub(crate) const LARGE: u64 = 64 * 1024;

pin_project! {
    /// A response body with the guard of its request. It settles the token at the trailers if the
    /// head did not settle it, and releases it when the body has ended.
    pub struct Watched<B, P: Policy<HttpRequest>> {
        // `None` when it has ended.
        #[pin]
        body: Option<B>,
        carried: Carried<P>,
    }
}

/// A policy limits the request body.
type Uploads<P> = <NeedsOf<P, HttpRequest> as Needs>::Limit;
/// A policy needs the outcome.
type Settles<P> = <NeedsOf<P, HttpRequest> as Needs>::Settle;
/// A policy needs the completion.
type Completes<P> = <NeedsOf<P, HttpRequest> as Needs>::Completion;

/// The state that a response body carries.
#[doc(hidden)]
pub struct Carried<P: Policy<HttpRequest>> {
    pub(crate) guard: BodyGuard<P, HttpRequest>,
    /// The bytes that are still expected.
    pub(crate) promised: <Completes<P> as Choice>::Maybe<u64>,
    /// Classifies the response at its end.
    pub(crate) at_end: <Settles<P> as Choice>::Maybe<Box<AtEnd>>,
    /// The request body.
    pub(crate) upload: <Uploads<P> as Choice>::Maybe<BodyUpload>,
    /// A policy of the request may end the body.
    pub(crate) at_head: <Ends<P> as Choice>::Maybe<AtHead>,
}

// === impl Carried ===

impl<P: Policy<HttpRequest>> Default for Carried<P> {
    #[inline(always)]
    fn default() -> Self {
        Self {
            guard: Default::default(),
            promised: Default::default(),
            at_end: Default::default(),
            upload: Default::default(),
            at_head: Default::default(),
        }
    }
}

impl<P: Policy<HttpRequest>> Carried<P> {
    #[inline(always)]
    fn guard(&mut self) -> Option<&mut Guard<P, HttpRequest>> {
        InBody::<NeedsOf<P, HttpRequest>>::get(&mut self.guard)
    }

    #[inline(always)]
    fn take_guard(&mut self) -> Option<Guard<P, HttpRequest>> {
        InBody::<NeedsOf<P, HttpRequest>>::take(&mut self.guard)
    }

    /// Returns whether a policy of the request may end the body.
    #[inline(always)]
    pub(super) fn may_be_ended(&self) -> bool {
        Ends::<P>::get_ref(&self.at_head).is_some()
    }

    /// Returns whether there is a reason to watch the body.
    #[inline(always)]
    pub(crate) fn is_any(&self) -> bool {
        InBody::<NeedsOf<P, HttpRequest>>::get_ref(&self.guard).is_some()
            || Uploads::<P>::get_ref(&self.upload).is_some()
    }

    /// Returns whether the end of the body has the outcome.
    #[inline(always)]
    pub(crate) fn settles_at_end(&mut self, is_grpc: bool) -> bool {
        is_grpc || Settles::<P>::get(&mut self.at_end).is_some()
    }

    /// Lends the state of the request body to the code that runs on this thread.
    #[inline(always)]
    fn enter(&mut self) -> <Uploads<P> as Choice>::Maybe<Scope> {
        match Uploads::<P>::get(&mut self.upload).and_then(|upload| upload.enter()) {
            Some(scope) => Uploads::<P>::some(scope),
            None => Default::default(),
        }
    }

    /// Counts `sent` bytes, and returns whether all bytes that an HTTP/1 response declares are
    /// sent.
    #[inline(always)]
    fn is_delivered(&mut self, sent: u64) -> bool {
        let left = Completes::<P>::get(&mut self.promised);
        let left = left.or_else(|| Some(&mut Settles::<P>::get(&mut self.at_end)?.left));
        match left {
            Some(left) if *left != u64::MAX => {
                *left = left.saturating_sub(sent);
                *left == 0
            }
            _ => false,
        }
    }

    /// Every frame is delivered: settles and releases the tokens. After a large frame, they are
    /// released when the body is dropped: hyper keeps a frame that its client does not read.
    #[inline(always)]
    fn complete(&mut self, is_large: bool) {
        let at_end = Settles::<P>::take(&mut self.at_end);
        if let Some(guard) = self.guard() {
            if const { Settles::<P>::IS } && !guard.is_settled() {
                settle_at_end(guard, at_end);
            }
            if is_large {
                guard.set_delivered();
            } else {
                guard.isolated(|guard| guard.release(Completion::Complete));
            }
        }
    }
}

impl<P: Policy<HttpRequest>> fmt::Debug for Carried<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried").finish_non_exhaustive()
    }
}

// === impl Watched ===

impl<B, P: Policy<HttpRequest>> Watched<B, P> {
    #[inline(always)]
    pub(super) fn new(body: B, carried: Carried<P>) -> Self {
        Self {
            body: Some(body),
            carried,
        }
    }

    /// The next frame of the inner body, which is not polled again after its end or an error. With
    /// `completes`, the last frame releases the token, since hyper keeps a body whose client does
    /// not read. A cell calls [`complete`](Self::complete) instead, because it may deliver a frame
    /// in slices.
    #[inline(always)]
    pub(super) fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        completes: bool,
    ) -> PolledFrame<B::Data>
    where
        B: http_body::Body<Error: Into<BoxError>>,
    {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let carried = this.carried;
        let _scope = carried.enter();
        let mut _listening = <Settles<P> as Choice>::Maybe::<Listening>::default();
        if const { Settles::<P>::IS } {
            if let Some(guard) = carried.guard() {
                if !guard.is_settled() {
                    _listening = Settles::<P>::some(Listening::new(guard.report()));
                }
            }
        }
        let polled = if const { NeedsOf::<P, HttpRequest>::ISOLATION } {
            match panic::catch_unwind(AssertUnwindSafe(|| body.poll_frame(cx))) {
                Ok(polled) => polled,
                Err(payload) => {
                    let error = panicked(this.body, carried.take_guard(), payload);
                    return Poll::Ready(Some(Err(error)));
                }
            }
        } else {
            if let Some(guard) = carried.guard() {
                guard.set_running(true);
            }
            let polled = body.poll_frame(cx);
            if let Some(guard) = carried.guard() {
                guard.set_running(false);
            }
            polled
        };
        match polled {
            Poll::Pending => {
                if let Some(guard) = carried.guard() {
                    guard.keep_report(Report::kept);
                }
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                if const { Settles::<P>::IS } {
                    if let Some(guard) = carried.guard() {
                        if !guard.is_settled() {
                            guard.keep_report(Report::kept);
                            settle_at_trailers(carried, &frame);
                        }
                    }
                }
                if carried.guard().is_some_and(|guard| !guard.is_done()) {
                    let body = this.body.as_ref().as_pin_ref();
                    let is_last =
                        frame.is_trailers() || body.is_some_and(|body| body.is_end_stream());
                    let size = frame.data_ref().map_or(0, Buf::remaining) as u64;
                    let is_delivered = carried.is_delivered(size);
                    if completes && (is_last || is_delivered) {
                        // Trailers, an error or a panic may still follow. The guard stays, and its
                        // tokens are already released.
                        carried.complete(size > LARGE);
                    }
                    if is_last {
                        this.body.set(None);
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.body.set(None);
                if const { InBody::<NeedsOf<P, HttpRequest>>::IS } {
                    carried.complete(false);
                }
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                this.body.set(None);
                let guard = carried.take_guard();
                Poll::Ready(Some(Err(failed(guard, error.into()))))
            }
        }
    }

    /// Returns whether the body may have more frames after this poll, and a policy may end it.
    #[inline(always)]
    pub(super) fn goes_on(self: Pin<&mut Self>, polled: &PolledFrame<B::Data>) -> bool
    where
        B: http_body::Body,
    {
        self.carried.may_be_ended()
            && match polled {
                Poll::Ready(Some(Ok(_))) => !self.is_end_stream(),
                Poll::Ready(_) => false,
                Poll::Pending => true,
            }
    }

    /// The bounds of a body that has more to deliver; `None` if it has none now.
    pub(super) fn bounds(&mut self) -> Option<Bounds> {
        let at_head = *Ends::<P>::get(&mut self.carried.at_head)?;
        if self.is_delivered() {
            return None;
        }
        Bounds::new(&self.carried.guard()?.parts(), at_head)
    }

    /// Returns whether every byte that an HTTP/1 response declares is delivered.
    pub(super) fn is_delivered(&mut self) -> bool {
        self.carried.is_delivered(0)
    }

    /// Takes the body, and leaves one that has ended.
    pub(super) fn take(&mut self) -> Self
    where
        B: Unpin,
    {
        Self {
            body: self.body.take(),
            carried: std::mem::take(&mut self.carried),
        }
    }

    /// Every frame is delivered: settles and releases the tokens.
    pub(super) fn complete(&mut self) {
        self.carried.complete(false);
    }

    /// Ends the body because its time is over, and marks the rejection if the caller caused it: the
    /// request body has failed, or the service waits for it. With `counts`, it also counts the
    /// rejection.
    pub(super) fn end(self: Pin<&mut Self>, rejection: &mut Rejection, counts: bool) {
        let mut this = self.project();
        let drops = || Self::drop_late(&mut this.body, this.carried);
        let dropped = panic::catch_unwind(AssertUnwindSafe(drops));
        *rejection = rejection
            .clone()
            .with_callers_body(matches!(dropped, Ok(true)));
        if counts {
            let parts = this.carried.guard().map(|guard| guard.parts());
            let isolation = parts.and_then(|parts| parts.isolation);
            let request = isolation.and_then(|isolation| isolation.target());
            unwind::without_panics(|| rejection.count(request));
        }
        if let Err(payload) = dropped {
            panic::resume_unwind(payload);
        }
        if let Some(mut guard) = this.carried.take_guard() {
            let outcome = rejection.outcome();
            guard.finish(|guard| guard.expire(outcome), Completion::Failed);
        }
    }

    /// Drops the body. Returns whether the caller caused that it is late.
    fn drop_late(body: &mut Pin<&mut Option<B>>, carried: &mut Carried<P>) -> bool {
        // The poll of an outer gate in which this happens may still be open.
        upload::end_poll();
        let _scope = carried.enter();
        let settles = const { Settles::<P>::IS };
        let kept = carried.guard().filter(|_| settles);
        let kept = kept.and_then(|guard| (!guard.is_settled()).then(|| guard.report()));
        let _listening = upload::listen_to_end(kept);
        body.set(None);
        upload::is_callers_fault(true)
    }

    #[inline]
    pub(super) fn is_end_stream(&self) -> bool
    where
        B: http_body::Body,
    {
        self.body.as_ref().is_none_or(B::is_end_stream)
    }

    #[inline]
    pub(super) fn size_hint(&self) -> SizeHint
    where
        B: http_body::Body,
    {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// The outcome of a call whose head had none, from the trailers.
#[cold]
#[inline(never)]
fn settle_at_trailers<P: Policy<HttpRequest>, D>(carried: &mut Carried<P>, frame: &Frame<D>) {
    let Some(trailers) = frame.trailers_ref() else {
        return;
    };
    let at_end = Settles::<P>::take(&mut carried.at_end);
    if let Some(guard) = carried.guard() {
        let outcome = match at_end {
            Some(at_end) => Some(judge(guard, *at_end, Some(trailers))),
            None => grpc::outcome(trailers),
        };
        if let Some(outcome) = outcome {
            let outcome = judged_at_end(outcome, grpc::is_late(trailers));
            guard.isolated(|guard| guard.settle(outcome));
        }
    }
}

/// The outcome, unless the caller caused the end of the body.
fn judged_at_end(outcome: Outcome, is_late: bool) -> Outcome {
    if outcome == Outcome::Failure && upload::reported().ends_stream() {
        return Outcome::Ignored;
    }
    upload::judged(outcome, is_late)
}

fn judge<P: Policy<HttpRequest>>(
    guard: &mut Guard<P, HttpRequest>,
    at_end: AtEnd,
    trailers: Option<&HeaderMap>,
) -> Outcome {
    if const { NeedsOf::<P, HttpRequest>::ISOLATION } {
        let judged = panic::catch_unwind(AssertUnwindSafe(|| (at_end.classify)(trailers)));
        return judged.unwrap_or_else(|payload| guard.caught(payload));
    }
    guard.set_running(true);
    let outcome = (at_end.classify)(trailers);
    guard.set_running(false);
    outcome
}

#[cold]
#[inline(never)]
fn settle_at_end<P: Policy<HttpRequest>>(
    guard: &mut Guard<P, HttpRequest>,
    at_end: Option<Box<AtEnd>>,
) {
    guard.isolated(|guard| {
        // Without a classifier, this is gRPC: a stream that ends without a status is a failure.
        let outcome = at_end.map_or(Outcome::Failure, |at_end| judge(guard, *at_end, None));
        guard.settle(judged_at_end(outcome, false));
    });
}

#[cold]
#[inline(never)]
fn failed<P: Policy<HttpRequest>>(
    guard: Option<Guard<P, HttpRequest>>,
    error: BoxError,
) -> BodyError {
    let error = BodyError::inner(error);
    if let Some(mut guard) = guard {
        let outcome = match error.rejection() {
            Some(rejection) => rejection.outcome(),
            None => judged_at_end(Outcome::Failure, false),
        };
        guard.finish(|guard| guard.settle(outcome), Completion::Failed);
    }
    error
}

/// Drops a body that panicked, and returns its error. Without isolation for this request, the panic
/// unwinds further.
#[cold]
#[inline(never)]
fn panicked<B, P: Policy<HttpRequest>>(
    mut body: Pin<&mut Option<B>>,
    guard: Option<Guard<P, HttpRequest>>,
    payload: Box<dyn Any + Send>,
) -> BodyError {
    unwind::without_panics(|| body.set(None));
    BodyError::ended(crate::gate::caught(guard, payload))
}
