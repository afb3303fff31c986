//! `http::Request` and `http::Response`, gRPC among them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body::Frame;

use super::answer::{Respond, Wire, decimal};
use super::classify::{AtEnd, Classify, ClassifyError, Nothing, Verdict};
use super::head::{HttpView, RequestHead, ResponseHeadMut};
use super::{Asked, Http, Inspect, Kind, Problem, Protocol, View, grpc};
use crate::body::{Body, BodyError, Source, Watch};
use crate::deadline::Deadline;
use crate::policy::{End, Held, Interest, Outcome, Ticket};
use crate::rejection::{BoxError, Rejection};

/// What is remembered of a request.
#[derive(Clone, Copy, Debug)]
pub struct Memo {
    http2: bool,
    head: bool,
    /// Known only after [`Inspect::inspect`].
    grpc: bool,
}

/// Holds a ticket until the response body is over, and settles it at the trailers where the head could not.
#[derive(Debug)]
pub struct Hold<T: Ticket, E = Nothing> {
    held: Held<T>,
    /// What judges it at the end, if that is the user's.
    at_end: Option<E>,
    /// Bytes still to come; `u64::MAX` where nothing was promised.
    promised: u64,
}

// === impl Kind ===

impl<C: Classify, R: Clone> Kind for Http<C, R> {
    type Memo = Memo;
    type Hold<T: Ticket> = Option<Hold<T, C::AtEnd>>;

    #[inline]
    fn is_grpc(memo: Memo) -> bool {
        memo.grpc
    }
}

// === impl Inspect ===

impl<B, C: Classify, R: Clone> Inspect<Request<B>> for Http<C, R> {
    type View = HttpView;

    #[inline]
    fn with_head<T>(
        &self,
        request: &Request<B>,
        look: impl FnOnce(&<HttpView as View>::Head<'_>) -> T,
    ) -> T {
        look(&RequestHead::from(request))
    }

    #[inline]
    fn glance(&self, request: &Request<B>) -> Memo {
        Memo {
            http2: matches!(request.version(), Version::HTTP_2 | Version::HTTP_3),
            head: matches!(*request.method(), Method::HEAD),
            grpc: false,
        }
    }

    #[inline]
    fn inspect(&self, request: &Request<B>) -> Memo {
        let memo = self.glance(request);
        Memo {
            grpc: memo.http2 && grpc::is_grpc(request.headers()),
            ..memo
        }
    }

    fn asked(&self, request: &Request<B>, memo: Memo) -> Asked {
        if !memo.grpc {
            return Asked::Nothing;
        }
        match grpc::timeout(request.headers()) {
            None => Asked::Nothing,
            Some(None) => Asked::Malformed,
            Some(Some(time)) => Asked::For(time),
        }
    }

    fn expose(&self, request: &mut Request<B>, deadline: Deadline) -> Deadline {
        let known = request.extensions().get::<Deadline>().copied();
        let deadline = known.map_or(deadline, |known| known.min(deadline));
        request.extensions_mut().insert(deadline);
        deadline
    }
}

// === impl Protocol ===

impl<C, R, B, Err> Protocol<Response<B>, Err> for Http<C, R>
where
    C: Classify + ClassifyError<Err>,
    R: Respond + Clone,
    B: http_body::Body,
    Err: 'static,
{
    type Response<W> = Response<Body<B, W>>;

    fn reject<W>(
        &self,
        rejection: Rejection,
        memo: Memo,
        watch: W,
    ) -> Result<Self::Response<W>, Err> {
        Ok(answer(&self.respond, rejection, memo, watch))
    }

    fn reject_by_default<W>(
        &self,
        rejection: Rejection,
        memo: Memo,
        watch: W,
    ) -> Result<Self::Response<W>, Err> {
        Ok(answer(&Problem, rejection, memo, watch))
    }

    #[inline]
    fn wrap<W>(&self, response: Response<B>, watch: W) -> Self::Response<W> {
        watched(response, watch)
    }

    #[inline]
    fn complete<T: Ticket>(
        &self,
        mut result: Result<Response<B>, Err>,
        memo: Memo,
        held: &mut Option<Held<T>>,
    ) -> Result<Self::Response<Self::Hold<T>>, Err> {
        let watch = held.take().and_then(|held| match &mut result {
            Ok(response) => self.hold(response, memo, held),
            Err(error) => {
                self.settle_error(held, error);
                None
            }
        });
        result.map(|response| watched(response, watch))
    }
}

impl<C: Classify, R> Http<C, R> {
    /// Settles the ticket as far as the head tells; what is left of it, unless the request is over.
    fn hold<B: http_body::Body, T: Ticket>(
        &self,
        response: &mut Response<B>,
        memo: Memo,
        mut held: Held<T>,
    ) -> Option<Hold<T, C::AtEnd>> {
        if held.interest() == Interest::Head {
            ResponseHeadMut::lend(response, |head| held.on_head(head));
        }
        let no_content = matches!(
            response.status(),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        let over = memo.head || no_content || response.body().is_end_stream();
        let mut at_end = None;
        if held.interest() >= Interest::Outcome {
            match held.watch(|| self.verdict(response, memo, over)) {
                Verdict::Now(outcome) => held.settle(outcome),
                Verdict::AtEnd(judge) => at_end = Some(judge),
                Verdict::ByDefault => {}
            }
        }
        if over {
            held.end(End::Complete);
            return None;
        }
        if held.interest() == Interest::Nothing {
            return None;
        }
        let promised = promised(response, memo);
        Some(Hold {
            held,
            at_end,
            promised,
        })
    }

    #[cold]
    fn settle_error<T: Ticket, Err: 'static>(&self, mut held: Held<T>, error: &Err)
    where
        C: ClassifyError<Err>,
    {
        if held.interest() >= Interest::Outcome {
            let outcome = match Rejection::find(error) {
                Some(rejection) => Some(rejection.outcome()),
                None => held.watch(|| self.classify.classify_error(error)),
            };
            held.settle(outcome.unwrap_or(Outcome::Failure));
        }
        held.end(End::Complete);
    }

    /// The verdict at the head; by default if it is in the trailers of a gRPC response.
    fn verdict<B>(&self, response: &Response<B>, memo: Memo, over: bool) -> Verdict<C::AtEnd> {
        if let Some(rejection) = response.extensions().get::<Rejection>() {
            return Verdict::Now(rejection.outcome());
        }
        match self.classify.classify(response) {
            Verdict::ByDefault => {}
            Verdict::AtEnd(judge) if over => return Verdict::Now(judge.verdict(None)),
            verdict => return verdict,
        }
        if memo.http2 && grpc::is_grpc(response.headers()) {
            let outcome = grpc::verdict(response.headers());
            let outcome = outcome.or(over.then_some(Outcome::Failure));
            return outcome.map_or(Verdict::ByDefault, Verdict::Now);
        }
        Verdict::Now(match response.status() {
            StatusCode::TOO_MANY_REQUESTS => Outcome::Ignored,
            status if status.is_server_error() => Outcome::Failure,
            _ => Outcome::Success,
        })
    }
}

fn watched<B, W>(response: Response<B>, watch: W) -> Response<Body<B, W>> {
    response.map(|body| Body::passing(body, watch))
}

fn answer<B, W>(
    respond: &impl Respond,
    rejection: Rejection,
    memo: Memo,
    watch: W,
) -> Response<Body<B, W>> {
    let mut response = respond.respond(&rejection, memo.wire());
    response.extensions_mut().insert(rejection);
    if memo.head {
        // Hyper's HTTP/2 server would send the body all the same.
        let length = response.body().len() as u64;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, decimal(length));
        response.body_mut().clear();
    }
    response.map(|bytes: Bytes| Body::answer(bytes, watch))
}

/// What an HTTP/1 response promises: hyper drops a body that has delivered it without asking for its end.
fn promised<B: http_body::Body>(response: &Response<B>, memo: Memo) -> u64 {
    if memo.http2 {
        return u64::MAX;
    }
    response
        .body()
        .size_hint()
        .exact()
        .or_else(|| {
            let length = response.headers().get(header::CONTENT_LENGTH)?;
            length.to_str().ok()?.parse().ok()
        })
        .unwrap_or(u64::MAX)
}

// === impl Memo ===

impl Memo {
    pub(crate) fn wire(self) -> Wire {
        match self {
            Memo { grpc: true, .. } => Wire::Grpc,
            Memo { http2: true, .. } => Wire::Http2,
            _ => Wire::Http1,
        }
    }
}

// === impl Hold ===

/// Nothing in it is polled, so nothing in it is pinned.
impl<T: Ticket, E> Unpin for Hold<T, E> {}

impl<T: Ticket, E> Hold<T, E> {
    /// The verdict that the head had left open, if the trailers have it.
    fn settle_at_end(&mut self, trailers: Option<&HeaderMap>)
    where
        E: AtEnd,
    {
        let outcome = match self.at_end.take() {
            Some(judge) => Some(self.held.watch(|| judge.verdict(trailers))),
            None => trailers.and_then(grpc::verdict),
        };
        if let Some(outcome) = outcome {
            self.held.settle(outcome);
        }
    }

    /// The body is over.
    fn end(&mut self, end: End)
    where
        E: AtEnd,
    {
        self.settle_at_end(None);
        // Only gRPC is unsettled by now: a stream that ends without a status is a failure.
        self.held.settle(Outcome::Failure);
        self.held.end(end);
    }

    /// Counts `sent` bytes and says whether they were the last that were promised.
    fn delivered(&mut self, sent: u64) -> bool {
        if self.promised != u64::MAX {
            self.promised = self.promised.saturating_sub(sent);
        }
        self.promised == 0
    }
}

impl<B, T: Ticket, E: AtEnd> Watch<B> for Option<Hold<T, E>> {
    #[inline(always)]
    fn poll_frame(
        self: Pin<&mut Self>,
        mut source: Pin<&mut Source<B>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BodyError>>>
    where
        B: http_body::Body<Error: Into<BoxError>>,
    {
        let this = self.get_mut();
        let Some(hold) = this else {
            return source.poll_frame(cx);
        };
        let polled = hold.held.watch(|| source.as_mut().poll_frame(cx));
        let mut last = false;
        let end = match &polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => End::Complete,
            Poll::Ready(Some(Err(error))) => {
                let rejected = error.rejection().map(Rejection::outcome);
                hold.held.settle(rejected.unwrap_or(Outcome::Failure));
                End::Failed
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    hold.settle_at_end(Some(trailers));
                }
                let sent = frame.data_ref().map_or(0, Buf::remaining) as u64;
                last = frame.is_trailers() || source.is_end_stream();
                if !hold.delivered(sent) && !last {
                    return polled;
                }
                // All that was promised is out. Trailers or an error may come all the same, to whoever still asks.
                End::Complete
            }
        };
        hold.end(end);
        *this = None;
        if last {
            source.end();
        }
        polled
    }
}
