//! The conversion of the bodies of requests and responses that pass a gate.

use http::{Request, Version};

use super::head::HttpRequest;
use crate::body::{Body, Carried, Endings, Ends};
use crate::policy::{No, Policy, Yes};
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
    fn wrap(&self, body: B, carried: Carried<P>) -> Self::Body
    where
        B: http_body::Body,
        Ends<P>: Endings<B, P>;
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
    fn wrap(&self, body: B, carried: Carried<P>) -> Body<B, P>
    where
        B: http_body::Body,
        Ends<P>: Endings<B, P>,
    {
        Body::new(body, carried)
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
    fn wrap(&self, body: B, carried: Carried<P>) -> B
    where
        B: http_body::Body,
        Ends<P>: Endings<B, P>,
    {
        if carried.is_any() {
            (self.0)(Body::new(body, carried))
        } else {
            body
        }
    }
}
