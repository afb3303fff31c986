//! Protocols: how the gate reads a request, answers it, and recognises its end.
//!
//! There are two sealed traits: [`Protocol`] reads requests, [`Respond`] makes responses. `Http`
//! and `Plain` implement them. In bounds of your own you may name these traits and their types
//! `Kind`, `Inner` and `Response`. Their other items are not part of the public API, and may change
//! in any release.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::gate::guard::{FutureGuard, Responder};
use crate::gate::timer::{Timer, TimerOf};
use crate::outcome::Outcome;
use crate::policy::{Budget, Parts, Policy};
use crate::rejection::Rejection;
use crate::request::{RequestKind, sealed};
#[cfg(feature = "http")]
use crate::upload::BodyUpload;

/// Reads a request, and passes it to the inner service.
pub trait Protocol<Req, P>: Clone + sealed::Sealed {
    /// The kind of request that a policy sees.
    type Kind: RequestKind;

    /// The request that the inner service gets.
    type Inner;

    /// The properties of a request that the gate keeps after the inner service has taken it.
    type Memo: Copy + fmt::Debug;

    /// The part of a request body that a future keeps.
    type Kept: KeptBody<Req>;

    /// Passes the head to `look`, with what is known of it.
    fn with_head<T>(
        request: &Req,
        memo: Self::Memo,
        look: impl FnOnce(&<Self::Kind as RequestKind>::Head<'_>) -> T,
    ) -> T;

    /// The properties that classify the response; must be cheap.
    fn glance(request: &Req) -> Self::Memo;

    /// The properties that classify the response and answer the request.
    fn inspect(request: &Req) -> Self::Memo;

    /// For a request that is rejected before the call: the properties that answer it, also whether
    /// the client may still send a body, and the rest of the body.
    fn unsent(request: Req) -> (Self::Memo, Self::Kept) {
        (Self::inspect(&request), Self::Kept::unread(request))
    }

    /// The request for the inner service. `max` is the limit for its body.
    fn pass(&self, request: Req, max: u64, kept: &Self::Kept) -> Self::Inner;

    /// Ready when the gate can answer a rejected request: reads as much as the connection needs to
    /// go on.
    fn poll_rest(
        rejection: Option<&Rejection>,
        kept: &mut Self::Kept,
        memo: &mut Self::Memo,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let _ = (rejection, kept, memo, cx);
        Poll::Ready(())
    }

    /// Sets the timer of a request now, if it must not wait for the first poll, and exposes the
    /// deadline.
    #[cold]
    #[inline(never)]
    fn set_timer(timer: &mut Timer, budget: Budget<'_>, request: &mut Req) {
        let _ = request;
        timer.set(budget, None);
    }
}

/// The part of a request body that a future keeps, if a policy limits the body. By default, and for
/// `()`, it keeps nothing.
pub trait KeptBody<Req>: Default + sealed::Sealed {
    /// The value that is lent while the inner service runs.
    type Scope;

    /// The exact length of the body; `u64::MAX` if it is unknown.
    #[inline(always)]
    fn length(request: &Req) -> u64 {
        let _ = request;
        0
    }

    /// For a request with a body of this length: what the future keeps, and the limit for the body;
    /// `None` if [`limit`](Self::limit) must decide.
    #[inline(always)]
    fn sent(parts: &Parts<'_>, length: u64) -> Option<(Self, u64)> {
        let _ = (parts, length);
        Some((Self::default(), u64::MAX))
    }

    /// For a request whose size is not known to be small: the limit for its body, and in `kept`
    /// what the future keeps; or the reason to reject it.
    fn limit(request: Req, parts: &Parts<'_>, kept: &mut Self) -> Result<(Req, u64), Rejection> {
        let _ = (parts, kept);
        Ok((request, u64::MAX))
    }

    /// For a request that is rejected: the rest of its body, if the client sends it.
    fn unread(request: Req) -> Self {
        drop(request);
        Self::default()
    }

    /// Lends the state of the body to the code that runs on this thread.
    fn enter(&mut self) -> Self::Scope;

    /// The state of the body, for a response body that reports it.
    #[cfg(feature = "http")]
    #[inline(always)]
    fn upload(&self) -> Option<BodyUpload> {
        None
    }

    /// The inner service has answered: the rejection, if the body was ended because it was too
    /// large or too slow.
    #[inline(always)]
    fn overrun(&mut self) -> Option<Rejection> {
        None
    }

    /// Whether the gate limits the body, or has its rest: no gate around it then reads the rest.
    fn is_read_here(&self, parts: &Parts<'_>) -> bool {
        let _ = parts;
        false
    }

    /// Takes the rest of the body from an inner service that is dropped.
    fn reclaim(&mut self) {}

    /// Reads as much as an HTTP/1 connection needs to go on. Returns whether the end of the body
    /// was reached, or `None` if the body is not here. With `blames_caller`, an answer that is
    /// dropped before that is reported as a wait for the caller.
    fn poll_rest(&mut self, blames_caller: bool, cx: &mut Context<'_>) -> Poll<Option<bool>> {
        let _ = (blames_caller, cx);
        Poll::Ready(None)
    }

    /// Reads on while the answer is sent. With `holds`, it keeps the unread rest until its time is
    /// over.
    fn linger(self, holds: bool) {
        let _ = holds;
    }
}

/// Makes responses, for any response and error of the inner service.
pub trait Respond<Req, Res, Err, P>: Protocol<Req, P>
where
    P: Policy<Self::Kind>,
{
    /// The response of the gate.
    type Response;

    /// The state that goes on with the response body.
    type Carried;

    /// The answer to a request that is rejected. `parts` are those of the policies before there is
    /// a token.
    fn reject(
        &self,
        rejection: Rejection,
        memo: Self::Memo,
        kept: Self::Kept,
        parts: &Parts<'_>,
        responder: &Responder,
    ) -> Result<Self::Response, Err>;

    /// Settles the token if the result has an outcome, and releases it if the request has ended.
    fn settle(
        &self,
        result: &mut Result<Res, Err>,
        memo: Self::Memo,
        guard: &mut FutureGuard<P, Self::Kind>,
        timer: &mut TimerOf<P, Self::Kind>,
        kept: &Self::Kept,
    ) -> Self::Carried;

    /// The response, with the state that goes on with its body.
    fn wrap(&self, response: Res, carried: Self::Carried) -> Self::Response;
}

/// The default protocol: a service from `http::Request` to `http::Response`.
///
/// A request ends when its response body ends, has sent its trailers, or is dropped. Over HTTP/1,
/// the responses to `HEAD`, and those with 204 or 304, have no body: the request ends at the head.
/// A request that is upgraded (101) ends at the head too.
///
/// `In` and `Out` convert request and response bodies, and `E` classifies errors.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    not(feature = "http"),
    expect(dead_code, reason = "the feature is off")
)]
pub struct Http<In = Wrapped, Out = Wrapped, E = Opaque> {
    pub(crate) request: In,
    pub(crate) response: Out,
    pub(crate) errors: E,
}

/// The protocol for any service. A rejection becomes the error of the service: `S::Error:
/// From<Rejection>`.
///
/// `Ok` is a success and `Err` is a failure, unless the error is a [`Rejection`] of an inner layer,
/// or a box around one. `E` classifies results; see
/// [`GateLayer::classify`](crate::GateLayer::classify).
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain<E = Rejections> {
    pub(crate) results: E,
}

/// Converts bodies to those of this crate, if a gate must watch them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wrapped;

/// Keeps the type of bodies: the closure converts a body that a gate must watch.
#[derive(Clone, Copy)]
pub struct Converted<F>(pub(crate) F);

/// Classifies results. Sealed.
pub trait Classify<Res, Err>: Clone + sealed::Sealed {
    /// The outcome; `None` for the default.
    fn classify(&self, result: &Result<Res, Err>) -> Option<Outcome>;
}

/// Inspects nothing: the default applies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opaque;

/// Looks for a [`Rejection`] of an inner layer in errors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rejections;

/// Calls a closure for errors.
#[expect(clippy::type_complexity, reason = "it is a closure")]
pub struct ByError<Err>(pub(crate) Arc<dyn Fn(&Err) -> Option<Outcome> + Send + Sync>);

/// Calls a closure for results.
#[expect(clippy::type_complexity, reason = "it is a closure")]
pub struct ByResult<Res, Err>(
    pub(crate) Arc<dyn Fn(&Result<Res, Err>) -> Option<Outcome> + Send + Sync>,
);

// === impl KeptBody ===

impl sealed::Sealed for () {}

impl<Req> KeptBody<Req> for () {
    type Scope = ();

    #[inline(always)]
    fn enter(&mut self) {}
}

// === impl Converted ===

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
