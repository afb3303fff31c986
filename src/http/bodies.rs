//! The conversion of the bodies of requests and responses that pass a gate.

use std::fmt;

use http::{Request, Version};

use super::head::HttpRequest;
use crate::body::{Body, BodyClock, Carried, ClockOf, Endings, Ends, LARGE};
use crate::gate::timer::TimerOf;
use crate::policy::{Choice, Needs, NeedsOf, No, Parts, Policy, Yes};
use crate::protocol::{Converted, KeptBody, Wrapped};
use crate::request_limit::kept::Kept;
use crate::request_limit::request_body::RequestBody;

/// Converts request bodies. `C` is [`Yes`] if a policy of the gate limits them.
pub trait RequestBodies<B, C>: Clone {
    /// The body for the inner service.
    type Body;
    /// The part of a body that the future keeps.
    type Kept: KeptBody<Request<B>>;

    /// A request whose body has at most `max` bytes.
    fn pass(&self, request: Request<B>, max: u64, kept: &Self::Kept) -> Request<Self::Body>;
}

/// Converts response bodies.
pub trait ResponseBodies<B, P: Policy<HttpRequest>>: Clone {
    /// The body for the caller.
    type Body;

    /// The body of an answer.
    fn answer(&self, body: Body<B, P>) -> Self::Body;

    /// The body of the inner service, with the state that it carries.
    fn wrap(&self, body: B, carried: CarriedBody<P>) -> Self::Body
    where
        Ends<P>: Endings<B, P>;
}

/// The state that a response body carries, and its bounds.
#[doc(hidden)]
pub struct CarriedBody<P: Policy<HttpRequest>> {
    pub(super) carried: Carried<P>,
    clock: ClockOf<P>,
    /// Whether it is gRPC, if the body can be ended from outside.
    remote: <Ends<P> as Choice>::Maybe<bool>,
}

// === impl CarriedBody ===

impl<P: Policy<HttpRequest>> CarriedBody<P> {
    /// Bounds the time of a response body. A gRPC body, or one that may be large, gets a cell at
    /// once. Any other body gets one after its first frame, if that is not the last.
    #[inline(always)]
    pub(super) fn end_later<B: http_body::Body>(
        &mut self,
        body: &B,
        is_grpc: bool,
        parts: Parts<'_>,
        timer: &mut TimerOf<P, HttpRequest>,
    ) {
        let mut is_bounded = parts.cutoff.is_some();
        if let Some(ending) = parts.ending() {
            is_bounded |= ending.bounds.progress().is_some();
            // Without a clock, a gRPC body of known size could move to a cell after its first
            // frame, and the cell would end it as if it were not gRPC.
            let may_be_bounded = || is_grpc && body.size_hint().exact().is_some();
            let bounds = ending.bounds;
            if bounds.has_deadline() || bounds.idle(is_grpc).is_some() || may_be_bounded() {
                let timer = <NeedsOf<P, HttpRequest> as Needs>::Deadline::get(timer);
                let mut clock = BodyClock::new(ending, timer.as_deref(), is_grpc);
                is_bounded |= clock.has_deadline();
                clock.is_remote = is_bounded;
                self.clock = Ends::<P>::some(clock);
            }
        }
        let may_be_large = || body.size_hint().exact().is_none_or(|size| size > LARGE);
        if is_bounded && (is_grpc || may_be_large()) {
            self.remote = Ends::<P>::some(is_grpc);
        }
    }

    /// A body that carries this.
    #[inline(always)]
    pub(super) fn body<B>(mut self, body: B) -> Body<B, P>
    where
        Ends<P>: Endings<B, P>,
    {
        let body = Body::passing(body, self.carried, self.clock);
        match Ends::<P>::take(&mut self.remote) {
            Some(is_grpc) => Ends::<P>::into_cell(body, is_grpc),
            None => body,
        }
    }
}

impl<P: Policy<HttpRequest>> Default for CarriedBody<P> {
    #[inline(always)]
    fn default() -> Self {
        Self {
            carried: Carried::default(),
            clock: ClockOf::<P>::default(),
            remote: Default::default(),
        }
    }
}

impl<P: Policy<HttpRequest>> fmt::Debug for CarriedBody<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CarriedBody").finish_non_exhaustive()
    }
}

// === impl RequestBodies ===

/// No policy limits the bodies: they pass unchanged.
impl<B, In: Clone> RequestBodies<B, No> for In {
    type Body = B;
    type Kept = ();

    #[inline(always)]
    fn pass(&self, request: Request<B>, _: u64, (): &()) -> Request<B> {
        request
    }
}

/// Limited bodies become [`RequestBody`]s.
impl<B> RequestBodies<B, Yes> for Wrapped
where
    B: http_body::Body + Send + Unpin + 'static,
{
    type Body = RequestBody<B>;
    type Kept = Kept<B>;

    #[inline(always)]
    fn pass(&self, request: Request<B>, max: u64, kept: &Kept<B>) -> Request<RequestBody<B>> {
        let is_http2 = request.version() >= Version::HTTP_2;
        request.map(|body| RequestBody::new(body, is_http2, max, kept))
    }
}

/// Limited bodies keep their type: the closure converts those that may have data.
impl<B, F> RequestBodies<B, Yes> for Converted<F>
where
    B: http_body::Body + Send + Unpin + 'static,
    F: Fn(RequestBody<B>) -> B + Clone,
{
    type Body = B;
    type Kept = Kept<B>;

    #[inline(always)]
    fn pass(&self, request: Request<B>, max: u64, kept: &Kept<B>) -> Request<B> {
        if let Kept::Nothing = kept {
            return request;
        }
        let is_http2 = request.version() >= Version::HTTP_2;
        request.map(|body| (self.0)(RequestBody::new(body, is_http2, max, kept)))
    }
}

// === impl ResponseBodies ===

impl<B, P: Policy<HttpRequest>> ResponseBodies<B, P> for Wrapped {
    type Body = Body<B, P>;

    fn answer(&self, body: Body<B, P>) -> Body<B, P> {
        body
    }

    #[inline(always)]
    fn wrap(&self, body: B, carried: CarriedBody<P>) -> Body<B, P>
    where
        Ends<P>: Endings<B, P>,
    {
        carried.body(body)
    }
}

impl<B, P, F> ResponseBodies<B, P> for Converted<F>
where
    P: Policy<HttpRequest>,
    F: Fn(Body<B, P>) -> B + Clone,
{
    type Body = B;

    fn answer(&self, body: Body<B, P>) -> B {
        (self.0)(body)
    }

    /// A body that the gate need not watch stays as it is.
    #[inline(always)]
    fn wrap(&self, body: B, mut carried: CarriedBody<P>) -> B
    where
        Ends<P>: Endings<B, P>,
    {
        if carried.carried.is_any() {
            (self.0)(carried.body(body))
        } else {
            body
        }
    }
}
