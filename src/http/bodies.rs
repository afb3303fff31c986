//! What becomes of the bodies of requests and responses that pass a gate.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};

use super::head::HttpRequest;
use crate::body::{Body, Bounds, Carried, ClockOf, Watched};
use crate::policy::{Choice, Needs, NeedsOf, No, Parts, Policy, Yes};
use crate::protocol::{Converted, Wrapped};
use crate::rejection::{BoxError, Rejection};
use crate::request_limit::request_body::{self, Cold, RequestBody};
use crate::upload::Scope;

/// What becomes of request bodies. `C` is [`Yes`] if a policy of the gate limits them.
pub trait RequestBodies<B, C>: Clone {
    /// The body for the inner service.
    type Body;
    /// A body that is counted, or one that is not read.
    type Cold: Default;
    /// What is lent while the inner service runs.
    type Scope;

    /// The exact length; `u64::MAX` if it is not known.
    fn length(body: &B) -> u64;

    /// What the future keeps of a body of this length, which is within the limit.
    fn sent(parts: &Parts<'_>, length: u64) -> Self::Cold;

    /// A request whose body has at most `max` bytes.
    fn pass(&self, request: Request<B>, max: u64, cold: &Self::Cold) -> Request<Self::Body>;

    /// A body that is counted; or why not.
    #[expect(
        clippy::type_complexity,
        reason = "a request and what is kept of it, or why not"
    )]
    fn limit(
        &self,
        request: Request<B>,
        parts: &Parts<'_>,
    ) -> Result<(Request<Self::Body>, Self::Cold), (Rejection, Self::Cold)>;

    /// Lends what is known of the body to what runs on this thread.
    fn enter(cold: &Self::Cold) -> Self::Scope;

    /// What is left of a request that is rejected.
    fn unread(request: Request<B>) -> Self::Cold;

    /// Why the body was ended, if it was.
    fn overrun(cold: &mut Self::Cold) -> Option<Rejection>;

    /// Takes the rest of the body back from an inner service that is dropped.
    fn reclaim(cold: &mut Self::Cold);

    /// Reads what an HTTP/1 connection needs to go on. Whether the end of the body was reached;
    /// `None` if the body is not here.
    fn poll_rest(cold: &mut Self::Cold, cx: &mut Context<'_>) -> Poll<Option<bool>>;

    /// Reads on while the answer is sent.
    fn linger(cold: Self::Cold);
}

/// What becomes of response bodies.
pub trait ResponseBodies<B, P: Policy<HttpRequest>>: Clone {
    /// The body for the caller.
    type Body;

    /// A response that the gate need not watch any more.
    fn pass(&self, response: Response<B>) -> Response<Self::Body>;

    /// A body that it watches, or an answer.
    fn wrap(&self, body: Body<B, P>) -> Self::Body;
}

/// Whether response bodies can be ended from outside, which takes bodies that can be sent to
/// another thread.
pub trait Endings<B, P: Policy<HttpRequest>> {
    /// A body with what it carries.
    fn body(body: B, carried: CarriedBody<P>) -> Body<B, P>;
}

/// What a response body carries, and when it is ended.
#[doc(hidden)]
pub struct CarriedBody<P: Policy<HttpRequest>> {
    pub(super) carried: Carried<P>,
    pub(super) clock: ClockOf<P>,
    pub(super) bounds: <<NeedsOf<P, HttpRequest> as Needs>::Ending as Choice>::Maybe<Bounds>,
}

// === impl CarriedBody ===

impl<P: Policy<HttpRequest>> Default for CarriedBody<P> {
    #[inline(always)]
    fn default() -> Self {
        Self {
            carried: Carried::default(),
            clock: ClockOf::<P>::default(),
            bounds: Default::default(),
        }
    }
}

impl<P: Policy<HttpRequest>> fmt::Debug for CarriedBody<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CarriedBody").finish_non_exhaustive()
    }
}

// === impl RequestBodies ===

/// No policy limits them: they pass as they are.
impl<B, In: Clone> RequestBodies<B, No> for In {
    type Body = B;
    type Cold = ();
    type Scope = ();

    #[inline(always)]
    fn length(_: &B) -> u64 {
        0
    }

    #[inline(always)]
    fn sent(_: &Parts<'_>, _: u64) {}

    #[inline(always)]
    fn pass(&self, request: Request<B>, _: u64, (): &()) -> Request<B> {
        request
    }

    fn limit(
        &self,
        request: Request<B>,
        _: &Parts<'_>,
    ) -> Result<(Request<B>, ()), (Rejection, ())> {
        Ok((request, ()))
    }

    #[inline(always)]
    fn enter((): &()) {}

    fn unread(_: Request<B>) {}

    #[inline(always)]
    fn overrun((): &mut ()) -> Option<Rejection> {
        None
    }

    fn reclaim((): &mut ()) {}

    fn poll_rest((): &mut (), _: &mut Context<'_>) -> Poll<Option<bool>> {
        Poll::Ready(None)
    }

    fn linger((): ()) {}
}

/// Limited bodies become [`RequestBody`]s.
impl<B> RequestBodies<B, Yes> for Wrapped
where
    B: http_body::Body + Send + Unpin + 'static,
{
    type Body = RequestBody<B>;
    type Cold = Cold<B>;
    type Scope = Option<Scope>;

    #[inline(always)]
    fn length(body: &B) -> u64 {
        body.size_hint().exact().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn sent(parts: &Parts<'_>, length: u64) -> Self::Cold {
        if length == 0 {
            return Cold::Nothing;
        }
        Cold::sent(parts)
    }

    #[inline(always)]
    fn pass(&self, request: Request<B>, max: u64, cold: &Self::Cold) -> Request<RequestBody<B>> {
        request.map(|body| RequestBody::new(body, max, cold))
    }

    fn limit(
        &self,
        request: Request<B>,
        parts: &Parts<'_>,
    ) -> Result<(Request<RequestBody<B>>, Self::Cold), (Rejection, Self::Cold)> {
        let (request, cold, max) = request_body::limit(request, parts)?;
        let request = RequestBodies::<B, Yes>::pass(self, request, max, &cold);
        Ok((request, cold))
    }

    #[inline(always)]
    fn enter(cold: &Self::Cold) -> Option<Scope> {
        cold.enter()
    }

    fn unread(request: Request<B>) -> Self::Cold {
        Cold::of(request)
    }

    #[inline(always)]
    fn overrun(cold: &mut Self::Cold) -> Option<Rejection> {
        cold.overrun()
    }

    fn reclaim(cold: &mut Self::Cold) {
        cold.reclaim();
    }

    fn poll_rest(cold: &mut Self::Cold, cx: &mut Context<'_>) -> Poll<Option<bool>> {
        cold.poll_rest(cx)
    }

    fn linger(cold: Self::Cold) {
        cold.linger();
    }
}

/// Limited bodies keep their type: those of requests that have one are converted back.
impl<B, F> RequestBodies<B, Yes> for Converted<F>
where
    B: http_body::Body + Send + Unpin + 'static,
    F: Fn(RequestBody<B>) -> B + Clone,
{
    type Body = B;
    type Cold = Cold<B>;
    type Scope = Option<Scope>;

    #[inline(always)]
    fn length(body: &B) -> u64 {
        body.size_hint().exact().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn sent(parts: &Parts<'_>, length: u64) -> Self::Cold {
        if length == 0 {
            return Cold::Nothing;
        }
        Cold::sent(parts)
    }

    #[inline(always)]
    fn pass(&self, request: Request<B>, max: u64, cold: &Self::Cold) -> Request<B> {
        match cold {
            Cold::Nothing => request,
            _ => request.map(|body| (self.0)(RequestBody::new(body, max, cold))),
        }
    }

    fn limit(
        &self,
        request: Request<B>,
        parts: &Parts<'_>,
    ) -> Result<(Request<B>, Self::Cold), (Rejection, Self::Cold)> {
        let (request, cold, max) = request_body::limit(request, parts)?;
        let request = RequestBodies::<B, Yes>::pass(self, request, max, &cold);
        Ok((request, cold))
    }

    #[inline(always)]
    fn enter(cold: &Self::Cold) -> Option<Scope> {
        cold.enter()
    }

    fn unread(request: Request<B>) -> Self::Cold {
        Cold::of(request)
    }

    #[inline(always)]
    fn overrun(cold: &mut Self::Cold) -> Option<Rejection> {
        cold.overrun()
    }

    fn reclaim(cold: &mut Self::Cold) {
        cold.reclaim();
    }

    fn poll_rest(cold: &mut Self::Cold, cx: &mut Context<'_>) -> Poll<Option<bool>> {
        cold.poll_rest(cx)
    }

    fn linger(cold: Self::Cold) {
        cold.linger();
    }
}

// === impl ResponseBodies ===

impl<B, P: Policy<HttpRequest>> ResponseBodies<B, P> for Wrapped {
    type Body = Body<B, P>;

    #[inline(always)]
    fn pass(&self, response: Response<B>) -> Response<Body<B, P>> {
        response.map(|body| Body::passing(body, Carried::default(), ClockOf::<P>::default()))
    }

    #[inline(always)]
    fn wrap(&self, body: Body<B, P>) -> Body<B, P> {
        body
    }
}

impl<B, P, F> ResponseBodies<B, P> for Converted<F>
where
    P: Policy<HttpRequest>,
    F: Fn(Body<B, P>) -> B + Clone,
{
    type Body = B;

    #[inline(always)]
    fn pass(&self, response: Response<B>) -> Response<B> {
        response
    }

    #[inline(always)]
    fn wrap(&self, body: Body<B, P>) -> B {
        (self.0)(body)
    }
}

// === impl Endings ===

impl<B, P: Policy<HttpRequest>> Endings<B, P> for No {
    #[inline(always)]
    fn body(body: B, carried: CarriedBody<P>) -> Body<B, P> {
        Body::passing(body, carried.carried, carried.clock)
    }
}

impl<B, P> Endings<B, P> for Yes
where
    B: http_body::Body<Data: From<Bytes> + Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    P: Policy<HttpRequest> + 'static,
    Watched<B, P>: Send,
{
    fn body(body: B, mut carried: CarriedBody<P>) -> Body<B, P> {
        match <NeedsOf<P, HttpRequest> as Needs>::Ending::take(&mut carried.bounds) {
            Some(bounds) => Body::remote(body, carried.carried, carried.clock, bounds),
            None => Body::passing(body, carried.carried, carried.clock),
        }
    }
}
