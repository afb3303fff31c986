//! `http::Request` and `http::Response`, gRPC among them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body::Frame;

use super::answer::{Respond, Wire};
use super::head::{HttpView, RequestHead, ResponseHead, ResponseHeadMut, ResponseView};
use super::{Http, Inspect, Kind, Problem, Protocol, Rule, View, grpc};
use crate::body::{Body, BodyError, Watch};
use crate::policy::{End, Held, Outcome, Ticket};
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
pub struct Hold<T: Ticket> {
    held: Held<T>,
    /// Bytes still to come; `u64::MAX` where nothing was promised.
    promised: u64,
}

// === impl Kind ===

impl<C: Clone, R: Clone> Kind for Http<C, R> {
    type Memo = Memo;
    type Hold<T: Ticket> = Option<Hold<T>>;
}

// === impl Inspect ===

impl<B, C: Clone, R: Clone> Inspect<Request<B>> for Http<C, R> {
    type View = HttpView;

    #[inline]
    fn with_head<T>(
        &self,
        request: &Request<B>,
        look: impl FnOnce(&<HttpView as View>::Head<'_>) -> T,
    ) -> T {
        look(&RequestHead::of(request))
    }

    #[inline]
    fn glance(&self, request: &Request<B>) -> Memo {
        Memo {
            http2: request.version() >= Version::HTTP_2,
            head: request.method() == Method::HEAD,
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
}

// === impl Protocol ===

impl<C, R, B, Err> Protocol<Response<B>, Err> for Http<C, R>
where
    C: Rule<ResponseView, Outcome> + Clone,
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
        result: Result<Response<B>, Err>,
        memo: Memo,
        held: Option<Held<T>>,
    ) -> Result<Self::Response<Self::Hold<T>>, Err> {
        let Some(mut held) = held else {
            return result.map(|response| watched(response, None));
        };
        let mut response = match result {
            Ok(response) => response,
            Err(error) => {
                held.settle(Rejection::find(&error).map_or(Outcome::Failure, Rejection::outcome));
                held.end(End::Complete);
                return Err(error);
            }
        };
        let (mut parts, body) = response.into_parts();
        held.ticket().on_head(&mut ResponseHeadMut {
            status: &mut parts.status,
            headers: &mut parts.headers,
            extensions: &mut parts.extensions,
        });
        response = Response::from_parts(parts, body);

        let over = memo.head
            || matches!(
                response.status(),
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            )
            || response.body().is_end_stream();
        if let Some(outcome) = self.verdict(&response, memo, over) {
            held.settle(outcome);
        }
        let watch = if over {
            held.end(End::Complete);
            None
        } else {
            let promised = promised(&response);
            Some(Hold { held, promised })
        };
        Ok(watched(response, watch))
    }
}

impl<C, R> Http<C, R>
where
    C: Rule<ResponseView, Outcome>,
{
    /// The verdict at the head; `None` if it is in the trailers.
    fn verdict<B>(&self, response: &Response<B>, memo: Memo, over: bool) -> Option<Outcome> {
        if let Some(rejection) = response.extensions().get::<Rejection>() {
            return Some(rejection.outcome());
        }
        if let Some(outcome) = self.classify.apply(&ResponseHead::of(response)) {
            return Some(outcome);
        }
        if memo.http2 && grpc::is_grpc(response.headers()) {
            let outcome = grpc::verdict(response.headers());
            return outcome.or(over.then_some(Outcome::Failure));
        }
        Some(match response.status() {
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
    response.map(|bytes: Bytes| Body::answer(bytes, watch))
}

/// What the response promises: hyper drops an HTTP/1 body that has delivered it without asking for its end.
fn promised<B: http_body::Body>(response: &Response<B>) -> u64 {
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
    fn wire(self) -> Wire {
        match self {
            Memo { grpc: true, .. } => Wire::Grpc,
            Memo { http2: true, .. } => Wire::Http2,
            _ => Wire::Http1,
        }
    }
}

// === impl Hold ===

/// Nothing in it is polled, so nothing in it is pinned.
impl<T: Ticket> Unpin for Hold<T> {}

impl<T: Ticket> Hold<T> {
    /// Counts `sent` bytes and says whether they were the last that were promised.
    fn delivered(&mut self, sent: u64) -> bool {
        if self.promised != u64::MAX {
            self.promised = self.promised.saturating_sub(sent);
        }
        self.promised == 0
    }
}

impl<T: Ticket> Watch for Option<Hold<T>> {
    #[inline]
    fn poll_frame<B>(
        self: Pin<&mut Self>,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BodyError>>>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let this = self.get_mut();
        let Some(hold) = this else {
            return body.poll_frame(cx).map_err(BodyError::inner);
        };
        let polled = ready!(hold.held.watch(|| body.as_mut().poll_frame(cx)));
        let polled = polled.map(|result| result.map_err(BodyError::inner));
        let end = match &polled {
            None => Some(End::Complete),
            Some(Err(error)) => {
                let rejected = error.rejection().map(Rejection::outcome);
                hold.held.settle(rejected.unwrap_or(Outcome::Failure));
                Some(End::Failed)
            }
            Some(Ok(frame)) => {
                if let Some(outcome) = frame.trailers_ref().and_then(grpc::verdict) {
                    hold.held.settle(outcome);
                }
                let sent = frame.data_ref().map_or(0, Buf::remaining) as u64;
                let over = frame.is_trailers() || hold.delivered(sent) || body.is_end_stream();
                over.then_some(End::Complete)
            }
        };
        if let (Some(end), Some(mut hold)) = (end, end.and_then(|_| this.take())) {
            // Only gRPC is unsettled by now: a stream that ends without a status is a failure.
            hold.held.settle(Outcome::Failure);
            hold.held.end(end);
        }
        Poll::Ready(polled)
    }
}
