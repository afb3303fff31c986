//! A policy with another setting for some requests.

use std::fmt;

use super::{Admission, Parts, Policy};
use crate::request::RequestKind;

/// A [`Timeout`](crate::Timeout) or a `RequestLimit` with another value for some requests. The
/// `per_request` of their layers makes it.
#[derive(Clone)]
pub struct PerRequest<P, F> {
    pub(crate) policy: P,
    pub(crate) rule: F,
}

/// A policy with a value that may be another one for some requests.
#[doc(hidden)]
pub trait Adjustable<R: RequestKind>: Policy<R> {
    type Value;

    /// The token of a request with this value; `None` is the value of the policy.
    fn token(&self, value: Option<Self::Value>, head: &R::Head<'_>) -> Self::Token;
}

// === impl PerRequest ===

impl<P, F> PerRequest<P, F> {
    /// Makes a policy that calls `rule` for the value of each request; `None` is the value of the
    /// policy. The closure gets a `&RequestHead<'_>` over HTTP, and a `&Req` over
    /// [`Plain`](crate::Plain).
    pub const fn new(policy: P, rule: F) -> Self {
        Self { policy, rule }
    }
}

impl<R, P, F, O> Policy<R> for PerRequest<P, F>
where
    R: RequestKind,
    P: Adjustable<R>,
    F: Fn(&R::Head<'_>) -> O + Clone,
    O: Into<Option<P::Value>>,
{
    type Token = P::Token;
    type Wait = P::Wait;

    #[inline(always)]
    fn admit(&self, head: &R::Head<'_>) -> Admission<Self::Token, Self::Wait> {
        let value = (self.rule)(head).into();
        Admission::Admit(self.policy.token(value, head))
    }

    pass_on!(self => self.policy);

    #[inline(always)]
    fn parts<'a>(&'a self, token: Option<&'a Self::Token>) -> Parts<'a> {
        self.policy.parts(token)
    }
}

impl<P: fmt::Debug, F> fmt::Debug for PerRequest<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerRequest")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
