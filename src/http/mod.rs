//! The HTTP protocol, gRPC included: from `http::Request` to `http::Response`.

pub(crate) mod answer;
mod bodies;
pub(crate) mod classify;
pub(crate) mod grpc;
pub(crate) mod head;
mod memo;
#[cfg(any(feature = "tower-http-06", feature = "tower-http-07"))]
pub(crate) mod tower_http;

use std::task::{Context, Poll, ready};

use http::{HeaderValue, Request, Response, StatusCode, header};

pub use self::answer::{Responder, WireProtocol};
pub use self::bodies::{RequestBodies, ResponseBodies};
pub(crate) use self::classify::by_head;
use self::classify::{AtEnd, Verdict};
pub use self::head::{HttpRequest, RequestHead, ResponseHead, ResponseHeadMut};
pub use self::memo::Memo;
use crate::body::{AtHead, Body, Carried, Endings};
use crate::cutoff::Cutoff;
use crate::gate::guard::{FutureGuard, Guard};
use crate::gate::timer::{Timer, TimerOf};
use crate::outcome::{Completion, Outcome};
pub use crate::panic_report::RequestSummary;
use crate::policy::needs::{InBody, InFuture};
use crate::policy::{Budget, Choice, Needs, NeedsOf, Parts, Policy};
use crate::protocol::{Classify, Http, KeptBody, Protocol, Respond};
use crate::raise;
use crate::rejection::Rejection;
use crate::upload;

// === impl Http ===

impl<In, Out, E> crate::request::sealed::Sealed for Http<In, Out, E> {}

impl<B, P, In, Out, E> Protocol<Request<B>, P> for Http<In, Out, E>
where
    P: Policy<HttpRequest>,
    In: RequestBodies<B, <NeedsOf<P, HttpRequest> as Needs>::Limit>,
    Out: Clone,
    E: Clone,
{
    type Kind = HttpRequest;
    type Inner = Request<In::Body>;
    type Memo = Memo;
    type Kept = In::Kept;

    #[inline(always)]
    fn with_head<T>(
        request: &Request<B>,
        memo: Memo,
        look: impl FnOnce(&RequestHead<'_>) -> T,
    ) -> T {
        let mut head = RequestHead::from(request);
        head.is_grpc = memo.is_grpc();
        look(&head)
    }

    #[inline(always)]
    fn glance(request: &Request<B>) -> Memo {
        Memo::of(request)
    }

    #[inline]
    fn inspect(request: &Request<B>) -> Memo {
        let memo = Memo::of(request);
        // A request with another method is HTTP. A cache could keep a 200 with which the gate
        // rejects a GET, and a 200 to CONNECT opens a tunnel.
        if memo.may_be_grpc() && grpc::is_grpc(request.headers()) {
            return memo.with(Memo::INSPECTED | Memo::GRPC);
        }
        memo.with(Memo::INSPECTED)
    }

    #[inline]
    fn unsent(request: Request<B>) -> (Memo, In::Kept) {
        let mut memo = <Self as Protocol<Request<B>, P>>::inspect(&request);
        let headers = request.headers();
        let has_body = !memo.is_http2()
            && (headers.contains_key(header::CONTENT_LENGTH)
                || headers.contains_key(header::TRANSFER_ENCODING));
        if has_body {
            memo = memo.with(Memo::MAY_HAVE_BODY);
        }
        (memo, upload::rejecting(|| In::Kept::unread(request)))
    }

    #[inline(always)]
    fn pass(&self, request: Request<B>, max: u64, kept: &In::Kept) -> Self::Inner {
        self.request.pass(request, max, kept)
    }

    fn poll_rest(
        rejection: Option<&Rejection>,
        kept: &mut In::Kept,
        memo: &mut Memo,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if memo.is_http2() {
            return Poll::Ready(());
        }
        if rejection.is_some_and(Rejection::closes) {
            *memo = memo.with(Memo::CLOSES);
            return Poll::Ready(());
        }
        // A failure of the service is not the fault of a caller that does not send the rest.
        let is_ignored = |rejection: &Rejection| rejection.outcome() == Outcome::Ignored;
        match ready!(kept.poll_rest(rejection.is_some_and(is_ignored), cx)) {
            Some(false) => *memo = memo.with(Memo::CLOSES),
            // Between two polls, hyper reads more of the request. Only then it knows whether the
            // connection can go on without a dropped body; if not, it adds `connection: close`.
            None if memo.has(Memo::MAY_HAVE_BODY) && !memo.has(Memo::HAS_YIELDED) => {
                *memo = memo.with(Memo::HAS_YIELDED);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(true) | None => {}
        }
        Poll::Ready(())
    }

    #[cold]
    #[inline(never)]
    fn set_timer(timer: &mut Timer, budget: Budget<'_>, request: &mut Request<B>) {
        timer.set(budget, raise::deadline(request.extensions_mut(), budget));
    }
}

impl<ReqB, B, Err, P, In, Out, E> Respond<Request<ReqB>, Response<B>, Err, P> for Http<In, Out, E>
where
    P: Policy<HttpRequest>,
    In: RequestBodies<ReqB, <NeedsOf<P, HttpRequest> as Needs>::Limit>,
    Out: ResponseBodies<B, P>,
    E: Classify<Response<B>, Err>,
    B: http_body::Body,
    <NeedsOf<P, HttpRequest> as Needs>::Ending: Endings<B, P>,
{
    type Response = Response<Out::Body>;
    type Carried = Carried<P>;

    fn reject(
        &self,
        rejection: Rejection,
        memo: Memo,
        kept: In::Kept,
        parts: &Parts<'_>,
        responder: &Responder,
    ) -> Result<Self::Response, Err> {
        // Hyper closes an HTTP/1 connection when the rest is dropped.
        kept.linger(!memo.is_http2());
        let mut response = responder.respond(&rejection, memo.wire());
        response.extensions_mut().insert(rejection);
        // An answer with 204 or 304, or to HEAD, has no body. Hyper's HTTP/2 server would send one.
        if has_no_content(response.status()) {
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response.body_mut().clear();
        } else if memo.has(Memo::HEAD) {
            let length = response.body().len() as u64;
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, answer::numbers::value(length));
            response.body_mut().clear();
        }
        let is_draining = parts.cutoff.is_some_and(Cutoff::closes);
        if (is_draining || memo.has(Memo::CLOSES)) && !memo.is_http2() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response.map(|bytes| self.response.answer(Body::answer(bytes))))
    }

    #[inline(always)]
    fn settle(
        &self,
        result: &mut Result<Response<B>, Err>,
        memo: Memo,
        guard: &mut FutureGuard<P, HttpRequest>,
        timer: &mut TimerOf<P, HttpRequest>,
        kept: &In::Kept,
    ) -> Carried<P> {
        let mut carried = Carried::default();
        // The guard stays in the future while foreign code runs, which may panic.
        let Some(held) = InFuture::<NeedsOf<P, HttpRequest>>::get(guard) else {
            return carried;
        };
        let is_callers = const { NeedsOf::<P, HttpRequest>::DEADLINE } && {
            let timer = <NeedsOf<P, HttpRequest> as Needs>::Deadline::get(timer);
            let timer = timer.filter(|timer| timer.is_callers());
            timer.is_some_and(|timer| blame_caller_if_nearly_due(result, timer))
        };
        let goes_on = if let Ok(response) = result {
            let goes_on = head_is_here(response, memo, held, kept, is_callers, &mut carried);
            if const { NeedsOf::<P, HttpRequest>::ENDING } {
                let parts = held.parts();
                if parts.cutoff.is_some_and(Cutoff::closes) && !memo.is_http2() {
                    close_connection(response);
                }
                if goes_on && (parts.ending.is_some() || parts.cutoff.is_some()) {
                    let is_grpc = memo.may_be_grpc() && grpc::is_grpc(response.headers());
                    let timer = <NeedsOf<P, HttpRequest> as Needs>::Deadline::get(timer);
                    let at_head = AtHead::new(parts.ending(), timer.as_deref(), is_grpc);
                    carried.at_head = <NeedsOf<P, HttpRequest> as Needs>::Ending::some(at_head);
                }
            }
            goes_on
        } else {
            failed(held, || self.errors.classify(result));
            false
        };
        let held = InFuture::<NeedsOf<P, HttpRequest>>::take(guard);
        if goes_on {
            if let Some(held) = held {
                carried.guard = InBody::<NeedsOf<P, HttpRequest>>::some(held);
            }
        }
        carried
    }

    #[inline(always)]
    fn wrap(&self, response: Response<B>, carried: Carried<P>) -> Self::Response {
        response.map(|body| self.response.wrap(body, carried))
    }
}

/// Lends the response head, settles the token if the head has an outcome, and releases it if the
/// request has ended. Returns whether the gate must watch the body.
#[inline(always)]
fn head_is_here<ReqB, B: http_body::Body, P: Policy<HttpRequest>>(
    response: &mut Response<B>,
    memo: Memo,
    guard: &mut Guard<P, HttpRequest>,
    kept: &impl KeptBody<Request<ReqB>>,
    is_callers: bool,
    carried: &mut Carried<P>,
) -> bool {
    guard.on_head(response);
    // Over HTTP/2, hyper sends the body of such a response too.
    let has_no_body =
        !memo.is_http2() && (memo.has(Memo::HEAD) || has_no_content(response.status()));
    let is_over = has_no_body || response.body().is_end_stream();
    if const { NeedsOf::<P, HttpRequest>::SETTLE } {
        match verdict(response, memo, is_over, guard) {
            Verdict::Rejected(outcome) => guard.settle(outcome),
            Verdict::Now(outcome) => {
                guard.settle(match outcome {
                    Outcome::Failure => judged_head(response, is_callers),
                    outcome => outcome,
                });
            }
            Verdict::AtEnd(classify) => {
                let left = promised(response, memo);
                let at_end = Box::new(AtEnd { classify, left });
                carried.at_end = <NeedsOf<P, HttpRequest> as Needs>::Settle::some(at_end);
            }
            Verdict::Default => {}
        }
    }
    guard.set_running(false);
    if is_over {
        guard.release(Completion::Complete);
        return false;
    }
    let is_at_end =
        const { NeedsOf::<P, HttpRequest>::LIMIT } && carried.settles_at_end(memo.has(Memo::GRPC));
    if is_at_end {
        // The outcome is in the trailers, which this gate or an outer gate reads.
        if let Some(upload) = kept.upload() {
            carried.upload = <NeedsOf<P, HttpRequest> as Needs>::Limit::some(upload);
        }
    }
    if const { NeedsOf::<P, HttpRequest>::COMPLETION } {
        let promised = promised(response, memo);
        carried.promised = <NeedsOf<P, HttpRequest> as Needs>::Completion::some(promised);
    }
    let is_watched =
        const { NeedsOf::<P, HttpRequest>::ISOLATION || NeedsOf::<P, HttpRequest>::ENDING };
    is_watched || !guard.is_done()
}

/// A response with this status has no body.
#[inline(always)]
fn has_no_content(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Closes an HTTP/1 connection after this response. An upgraded connection is not HTTP any more,
/// and needs its own `connection` header. The function is generic, so that the response need not be
/// in memory on the hot path.
#[cold]
#[inline(never)]
fn close_connection<B>(response: &mut Response<B>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
}

/// The outcome of a response that is a failure, unless the caller caused it. `is_callers` if it
/// comes at the end of the deadline that the caller gave this gate.
#[cold]
#[inline(never)]
fn judged_head<B>(response: &Response<B>, is_callers: bool) -> Outcome {
    let is_late = is_late(response);
    if is_late && (is_callers || grpc::is_grpc(response.headers())) {
        return upload::judged_call(Outcome::Failure);
    }
    upload::judged(Outcome::Failure, is_late)
}

fn is_late<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::GATEWAY_TIMEOUT || grpc::is_late(response.headers())
}

/// Blames the caller for a timeout at the end of the caller's own deadline, or shortly before it: a
/// service that observes the deadline answers before the gate does, and tonic's channel returns an
/// error at the same time. Returns whether it does.
#[cold]
#[inline(never)]
fn blame_caller_if_nearly_due<B, Err>(result: &Result<Response<B>, Err>, timer: &Timer) -> bool {
    /// Tokio rounds both timers up to a millisecond.
    const TICK: u64 = 1_000_000;
    let is_callers = match result {
        Ok(response) => is_late(response) && timer.is_nearly_due(timer.nanos() / 8),
        Err(_) => timer.is_nearly_due(TICK),
    };
    if is_callers {
        upload::blame_callers_time();
    }
    is_callers
}

/// The inner service returned an error.
#[cold]
#[inline(never)]
fn failed<P: Policy<HttpRequest>>(
    guard: &mut Guard<P, HttpRequest>,
    classify: impl FnOnce() -> Option<Outcome>,
) {
    if const { NeedsOf::<P, HttpRequest>::SETTLE } {
        let outcome = classify().unwrap_or(Outcome::Failure);
        guard.settle(upload::judged_call(outcome));
    }
    guard.set_running(false);
    guard.release(Completion::Complete);
}

/// The outcome of a head; by default none if it is in the trailers of a gRPC response.
#[inline(always)]
fn verdict<B, P: Policy<HttpRequest>>(
    response: &mut Response<B>,
    memo: Memo,
    is_over: bool,
    guard: &Guard<P, HttpRequest>,
) -> Verdict {
    if let Some(rejection) = response.extensions().get::<Rejection>() {
        return Verdict::Rejected(rejection.outcome());
    }
    if let Some(classifier) = &guard.shared().classifier {
        match classifier(&mut ResponseHeadMut::new(response)) {
            Verdict::Default => {}
            Verdict::AtEnd(classify) if is_over => return Verdict::Now(classify(None)),
            verdict => return verdict,
        }
    }
    if memo.may_be_grpc() && grpc::is_grpc(response.headers()) {
        let outcome = grpc::outcome(response.headers());
        let outcome = outcome.or(is_over.then_some(Outcome::Failure));
        return outcome.map_or(Verdict::Default, Verdict::Now);
    }
    Verdict::Now(match response.status() {
        // The last two depend on the request, and not on the state of the service.
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::NOT_IMPLEMENTED
        | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Outcome::Ignored,
        status if status.is_server_error() => Outcome::Failure,
        _ => Outcome::Success,
    })
}

/// The bytes that an HTTP/1 response declares. After it has sent them, hyper drops the body without
/// polling it to its end.
fn promised<B: http_body::Body>(response: &Response<B>, memo: Memo) -> u64 {
    let headers = response.headers();
    // A chunked response is polled to its end, and may have trailers. A gRPC response has them. The
    // version of the response does not count: a proxy returns that of its upstream.
    let has_trailers = memo.is_http2()
        || headers.contains_key(header::TRANSFER_ENCODING)
        || memo.may_be_grpc() && grpc::is_grpc(headers);
    if has_trailers {
        return u64::MAX;
    }
    response
        .body()
        .size_hint()
        .exact()
        .or_else(|| {
            let length = headers.get(header::CONTENT_LENGTH)?;
            length.to_str().ok()?.parse().ok()
        })
        .unwrap_or(u64::MAX)
}
