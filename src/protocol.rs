//! Protocols: how a kind of service is read and answered, and when a request is over.
//!
//! Two traits, both sealed: [`Protocol`] for what goes in, [`Respond`] for what comes out. `Http`
//! and `Plain` implement them.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::gate::guard::{FutureGuard, Shared};
use crate::gate::timer::{Timer, TimerOf};
use crate::outcome::Outcome;
use crate::policy::{Budget, Parts, Policy};
use crate::rejection::Rejection;
use crate::request::{RequestKind, sealed};

/// How a protocol reads a request, and hands it on.
pub trait Protocol<Req, P>: Clone + sealed::Sealed {
    /// What a policy sees of a request.
    type Kind: RequestKind;

    /// The request as the inner service gets it.
    type Inner;

    /// What is remembered of a request that the inner service has taken.
    type Memo: Copy + fmt::Debug;

    /// What a future keeps of a request body.
    type Kept: Default;

    /// What is lent while the inner service runs.
    type Scope;

    /// Lends the head to `look`.
    fn with_head<T>(
        request: &Req,
        look: impl FnOnce(&<Self::Kind as RequestKind>::Head<'_>) -> T,
    ) -> T;

    /// What it takes to judge the response; must be cheap.
    fn glance(request: &Req) -> Self::Memo;

    /// What it takes to answer as well.
    fn inspect(request: &Req) -> Self::Memo;

    /// The exact length of the body; `u64::MAX` if it is not known.
    fn length(request: &Req) -> u64;

    /// What the future keeps of a body of this length, which is within the limit.
    fn sent(parts: &Parts<'_>, length: u64) -> Self::Kept;

    /// The request for the inner service. `max` is the most that its body may have.
    fn pass(&self, request: Req, max: u64, kept: &Self::Kept) -> Self::Inner;

    /// The request for the inner service, with a body that is counted; or why not.
    #[expect(
        clippy::type_complexity,
        reason = "a request and what is kept of it, or why not"
    )]
    fn limit(
        &self,
        request: Req,
        parts: &Parts<'_>,
    ) -> Result<(Self::Inner, Self::Kept), (Rejection, Self::Kept)>;

    /// Lends what is known of the request body to what runs on this thread.
    fn enter(kept: &Self::Kept) -> Self::Scope;

    /// What is left of a request that is rejected.
    fn unread(request: Req) -> Self::Kept;

    /// Why the request body was ended, if it was.
    fn overrun(kept: &mut Self::Kept) -> Option<Rejection>;

    /// Takes the rest of the request body back from an inner service that is dropped.
    fn reclaim(kept: &mut Self::Kept);

    /// Ready when a rejected request can be answered: reads what the connection needs to go on.
    fn poll_rest(
        rejection: Option<&Rejection>,
        kept: &mut Self::Kept,
        memo: &mut Self::Memo,
        cx: &mut Context<'_>,
    ) -> Poll<()>;

    /// Sets the timer of a request now, if that may not wait for the first poll, and exposes the
    /// deadline.
    fn set_timer(timer: &mut Timer, budget: Budget<'_>, request: &mut Req);
}

/// How a protocol answers: generic over the response and the error of the inner service.
pub trait Respond<Req, Res, Err, P>: Protocol<Req, P>
where
    P: Policy<Self::Kind>,
{
    /// The response of the gate.
    type Response;

    /// What goes on with the response body.
    type Carried;

    /// The answer to a request that is rejected.
    fn reject(
        &self,
        rejection: Rejection,
        memo: Self::Memo,
        responder: &Responder,
        kept: Self::Kept,
    ) -> Result<Self::Response, Err>;

    /// Settles the token if the result has an outcome, and releases it if the request is over.
    fn settle(
        &self,
        result: &mut Result<Res, Err>,
        memo: Self::Memo,
        guard: &mut FutureGuard<P, Self::Kind>,
        timer: &mut TimerOf<P, Self::Kind>,
    ) -> Self::Carried;

    /// The response, with what goes on with its body.
    fn wrap(&self, result: Result<Res, Err>, carried: Self::Carried)
    -> Result<Self::Response, Err>;
}

/// `http::Request` in, `http::Response` out: the default protocol.
///
/// A request is over when its response body is: at its end, at its trailers, when it is dropped;
/// for `HEAD`, 204 and 304 at once. An upgraded connection (101) is no longer a request.
///
/// `In` and `Out` say what becomes of request and response bodies, and `E` classifies errors.
#[derive(Clone, Copy, Default)]
pub struct Http<In = Wrapped, Out = Wrapped, E = Opaque> {
    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "the feature is off")
    )]
    pub(crate) request: In,
    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "the feature is off")
    )]
    pub(crate) response: Out,
    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "the feature is off")
    )]
    pub(crate) errors: E,
}

/// Any request in, any `Result` out: a rejection becomes the error, `S::Error: From<Rejection>`.
///
/// `Ok` is a success and `Err` a failure, unless the error is, or is a boxed error around, a
/// [`Rejection`] of an inner layer. `E` classifies results; see
/// [`GateLayer::classify`](crate::GateLayer::classify).
#[derive(Clone, Copy, Default)]
pub struct Plain<E = Rejections> {
    pub(crate) results: E,
}

/// Bodies become those of this crate, where a gate has to watch them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wrapped;

/// Bodies keep their type: one that a gate has to watch is converted back by the closure.
#[derive(Clone, Copy)]
pub struct Converted<F>(pub(crate) F);

/// Classifies results. Sealed.
pub trait Classify<Res, Err>: Clone + sealed::Sealed {
    /// `None` for the default.
    fn classify(&self, result: &Result<Res, Err>) -> Option<Outcome>;
}

/// Nothing is looked at: the default applies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opaque;

/// Errors are looked at for a [`Rejection`] of an inner layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rejections;

/// A closure is asked about errors.
#[expect(clippy::type_complexity, reason = "it is a closure")]
pub struct ByError<Err>(pub(crate) Arc<dyn Fn(&Err) -> Option<Outcome> + Send + Sync>);

/// A closure is asked about results.
#[expect(clippy::type_complexity, reason = "it is a closure")]
pub struct ByResult<Res, Err>(
    pub(crate) Arc<dyn Fn(&Result<Res, Err>) -> Option<Outcome> + Send + Sync>,
);

#[cfg(feature = "http")]
pub(crate) use crate::http::answer::Responder;

/// There is no answer but the error.
#[cfg(not(feature = "http"))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Responder;

/// What makes the default answers.
pub(crate) fn by_default() -> Responder {
    #[cfg(feature = "http")]
    return Responder::default();
    #[cfg(not(feature = "http"))]
    Responder
}

pub(crate) fn responder<P>(shared: &Shared<P>) -> Responder {
    #[cfg(feature = "http")]
    return shared.responder.clone();
    #[cfg(not(feature = "http"))]
    {
        let _ = shared;
        Responder
    }
}

// === impl Http, Plain ===

impl<In, Out, E> fmt::Debug for Http<In, Out, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for Plain<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Converted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Converted(..)")
    }
}

// === impl Classify ===

impl sealed::Sealed for Opaque {}
impl sealed::Sealed for Rejections {}
impl<Err> sealed::Sealed for ByError<Err> {}
impl<Res, Err> sealed::Sealed for ByResult<Res, Err> {}

impl<Res, Err> Classify<Res, Err> for Opaque {
    #[inline]
    fn classify(&self, _: &Result<Res, Err>) -> Option<Outcome> {
        None
    }
}

impl<Res, Err: 'static> Classify<Res, Err> for Rejections {
    #[inline]
    fn classify(&self, result: &Result<Res, Err>) -> Option<Outcome> {
        let error = result.as_ref().err()?;
        Rejection::find_in_any(error).map(Rejection::outcome)
    }
}

impl<Res, Err> Classify<Res, Err> for ByError<Err> {
    fn classify(&self, result: &Result<Res, Err>) -> Option<Outcome> {
        (self.0)(result.as_ref().err()?)
    }
}

impl<Res, Err> Classify<Res, Err> for ByResult<Res, Err> {
    fn classify(&self, result: &Result<Res, Err>) -> Option<Outcome> {
        (self.0)(result)
    }
}

impl<Err> Clone for ByError<Err> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Res, Err> Clone for ByResult<Res, Err> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Err> fmt::Debug for ByError<Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByError(..)")
    }
}

impl<Res, Err> fmt::Debug for ByResult<Res, Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByResult(..)")
    }
}
