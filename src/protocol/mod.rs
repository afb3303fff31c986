//! How a kind of service says no, what counts as success, and when a request is over.
//!
//! [`Http`] answers with a response and holds the ticket until the response body has ended; it recognises gRPC and answers
//! that in its own way. [`Plain`] returns an error and holds the ticket until the future ends.

#[cfg(feature = "http")]
mod answer;
#[cfg(feature = "http")]
mod classify;
#[cfg(feature = "http")]
mod grpc;
#[cfg(feature = "http")]
mod head;
#[cfg(feature = "http")]
mod http;
mod plain;

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::policy::{Held, Ticket};
use crate::rejection::Rejection;

#[cfg(feature = "http")]
pub use self::answer::{Respond, RespondWith, Wire};
#[cfg(feature = "tower-http")]
pub use self::classify::ByClassifier;
#[cfg(feature = "http")]
pub use self::classify::{Classify, WithErrors};
#[cfg(feature = "http")]
pub(crate) use self::grpc::to_grpc_timeout;
#[cfg(feature = "http")]
pub use self::head::{HttpView, RequestHead, RequestSummary, ResponseHead, ResponseHeadMut};
#[cfg(feature = "http")]
pub use self::http::{Hold, Memo};
pub(crate) use self::plain::plain_outcome;

/// `http::Request` in, `http::Response` out: the default protocol, zero-sized until it is given a closure.
///
/// A request is over when its response body is: at its end, at its trailers, when the promised bytes are delivered, for
/// `HEAD`, 204 and 304 at once. An upgraded connection (101) is no longer a request.
#[derive(Clone, Copy, Default)]
pub struct Http<C = NoRule, R = Problem> {
    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "the feature is off")
    )]
    pub(crate) classify: C,
    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "the feature is off")
    )]
    pub(crate) respond: R,
}

/// Any request in, any `Result` out: a rejection becomes the error, `S::Error: From<Rejection>`.
///
/// `Ok` is a success and `Err` a failure, unless the error is, or is a box around, an inner layer's [`Rejection`], which
/// speaks for itself. For errors of your own, say what they mean with [`classify`](crate::GateLayer::classify).
#[derive(Clone, Copy, Default)]
pub struct Plain<C = NoRule> {
    pub(crate) classify: C,
}

/// The default answers: `application/problem+json` (RFC 9457) from static bytes, for gRPC a trailers-only response.
#[derive(Clone, Copy, Debug, Default)]
pub struct Problem;

/// No closure was given: the default applies.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRule;

/// A closure that looks at a head (over [`Plain`]: at the request or the result) and answers, or leaves it to the default.
#[derive(Clone, Copy)]
pub struct ByHead<F>(pub(crate) F);

/// What a policy may see of a request: [`HttpView`] or [`PlainView`].
///
/// It is a kind, not the thing: `V::Head<'_>` is what is passed by reference. Sealed.
pub trait View: sealed::Sealed {
    /// A [`RequestHead`] over HTTP, the request itself over `Plain`.
    type Head<'a>;

    #[doc(hidden)]
    fn deadline(head: &Self::Head<'_>) -> Option<Deadline> {
        let _ = head;
        None
    }
}

/// The request itself, which over [`Plain`] may be anything.
pub struct PlainView<Req>(PhantomData<fn(&Req)>);

/// A setting that may depend on the head.
pub trait Rule<V: View, T> {
    /// The setting for this head; `None` for the default.
    fn apply(&self, head: &V::Head<'_>) -> Option<T>;
}

/// What both halves of a protocol have in common. Sealed: [`Http`] or [`Plain`].
pub trait Kind: Clone + sealed::Sealed {
    /// What it remembers of a request that the inner service has taken.
    type Memo: Copy + fmt::Debug;
    /// What holds a ticket after the response head.
    type Hold<T: Ticket>: Default;

    /// Whether a request is answered as gRPC is.
    fn is_grpc(memo: Self::Memo) -> bool {
        let _ = memo;
        false
    }
}

/// How a protocol reads requests.
pub trait Inspect<Req>: Kind {
    /// What a policy sees of a request.
    type View: View;

    /// Shows the head to `look`.
    fn with_head<R>(
        &self,
        request: &Req,
        look: impl FnOnce(&<Self::View as View>::Head<'_>) -> R,
    ) -> R;

    /// What it takes to judge the response; must be cheap.
    fn glance(&self, request: &Req) -> Self::Memo;

    /// What it takes to say no as well.
    fn inspect(&self, request: &Req) -> Self::Memo;

    /// The time that the caller gives this request.
    fn asked(&self, request: &Req, memo: Self::Memo) -> Asked {
        let _ = (request, memo);
        Asked::Nothing
    }

    /// Tells whoever works on the request when its answer is due, and says when that is: no later than it is known already.
    fn expose(&self, request: &mut Req, deadline: Deadline) -> Deadline {
        let _ = request;
        deadline
    }
}

/// The time that a caller gives a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// None was given.
    Nothing,
    /// So long.
    For(Duration),
    /// Something that cannot be read.
    Malformed,
}

/// How a protocol answers: generic over the response and error of the inner service.
pub trait Protocol<Res, Err>: Kind {
    /// The response, with `W` watching its body.
    type Response<W>;

    /// The answer to a request that is turned away.
    fn reject<W>(
        &self,
        rejection: Rejection,
        memo: Self::Memo,
        watch: W,
    ) -> Result<Self::Response<W>, Err>;

    /// The same without any closure of the user's, for when that one panicked.
    fn reject_by_default<W>(
        &self,
        rejection: Rejection,
        memo: Self::Memo,
        watch: W,
    ) -> Result<Self::Response<W>, Err>;

    /// The inner service's response, watched.
    fn wrap<W>(&self, response: Res, watch: W) -> Self::Response<W>;

    /// Settles the ticket as far as the result tells, and holds it for as long as the request lasts: nothing is left of it in
    /// `held`.
    fn complete<T: Ticket>(
        &self,
        result: Result<Res, Err>,
        memo: Self::Memo,
        held: &mut Option<Held<T>>,
    ) -> Result<Self::Response<Self::Hold<T>>, Err>;
}

mod sealed {
    pub trait Sealed {}
    impl<C, R> Sealed for super::Http<C, R> {}
    impl<C> Sealed for super::Plain<C> {}
    impl<Req> Sealed for super::PlainView<Req> {}
    #[cfg(feature = "http")]
    impl Sealed for super::HttpView {}
}

// === impl PlainView ===

impl<Req> View for PlainView<Req> {
    type Head<'a> = Req;
}

impl<Req> fmt::Debug for PlainView<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainView")
    }
}

// === impl Rule ===

impl<V: View, T> Rule<V, T> for NoRule {
    #[inline]
    fn apply(&self, _: &V::Head<'_>) -> Option<T> {
        None
    }
}

impl<V, T, F, R> Rule<V, T> for ByHead<F>
where
    V: View,
    F: Fn(&V::Head<'_>) -> R,
    R: Into<Option<T>>,
{
    #[inline]
    fn apply(&self, head: &V::Head<'_>) -> Option<T> {
        (self.0)(head).into()
    }
}

impl<F> fmt::Debug for ByHead<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByHead(..)")
    }
}

// === impl Http, Plain ===

impl<C, R> fmt::Debug for Http<C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl<C> fmt::Debug for Plain<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}

#[cfg(feature = "http")]
impl<C> Http<C, Problem> {
    pub(crate) fn respond_with<F>(self, respond: F) -> Http<C, RespondWith<F>> {
        Http {
            classify: self.classify,
            respond: RespondWith(respond),
        }
    }
}
