//! A policy that leaves out some requests.

use std::fmt;

use super::{Admission, Policy};
use crate::observe::Reporter;
use crate::request::RequestKind;

/// A policy that decides only about the requests for which the closure returns `false`.
/// [`GateLayer::exempt`](crate::GateLayer::exempt) makes it.
///
/// An exempt request holds no token of the policy. A layer counts it in
/// `seawall_requests_exempt_total`, and not as admitted.
#[derive(Clone)]
pub struct Exempt<P, F> {
    policy: P,
    rule: F,
    /// Counts the exempt requests.
    reporter: Option<Reporter>,
}

/// The rule that exempts requests: a closure, or [`Never`].
#[doc(hidden)]
pub trait Exemption<R: RequestKind>: Clone {
    const IS_OURS: bool;

    fn is_exempt(&self, request: &R::Head<'_>) -> bool;
}

/// A rule that exempts no request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

/// A rule that exempts the requests that one of two rules exempts.
#[derive(Clone, Copy, Debug)]
pub struct Either<A, B>(pub(crate) A, pub(crate) B);

// === impl Exemption ===

impl<R, F> Exemption<R> for F
where
    R: RequestKind,
    F: Fn(&R::Head<'_>) -> bool + Clone,
{
    const IS_OURS: bool = false;

    #[inline(always)]
    fn is_exempt(&self, request: &R::Head<'_>) -> bool {
        self(request)
    }
}

impl<R: RequestKind> Exemption<R> for Never {
    const IS_OURS: bool = true;

    #[inline(always)]
    fn is_exempt(&self, _: &R::Head<'_>) -> bool {
        false
    }
}

impl<R: RequestKind, A: Exemption<R>, B: Exemption<R>> Exemption<R> for Either<A, B> {
    const IS_OURS: bool = A::IS_OURS && B::IS_OURS;

    #[inline(always)]
    fn is_exempt(&self, request: &R::Head<'_>) -> bool {
        self.0.is_exempt(request) || self.1.is_exempt(request)
    }
}

// === impl Exempt ===

impl<P, F> Exempt<P, F> {
    /// Makes a policy that leaves out the requests for which `exempt` returns `true`. The closure
    /// gets a `&RequestHead<'_>` over HTTP, and a `&Req` over [`Plain`](crate::Plain). It counts no
    /// exempt requests; [`GateLayer::exempt`](crate::GateLayer::exempt) does.
    pub const fn new(policy: P, exempt: F) -> Self {
        Self {
            policy,
            rule: exempt,
            reporter: None,
        }
    }

    /// Counts the exempt requests with this reporter.
    pub(crate) fn counted_by(self, reporter: &Reporter) -> Self {
        Self {
            reporter: Some(reporter.clone()),
            ..self
        }
    }

    /// The policy.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    #[cold]
    fn bypass<T, W>(&self) -> Admission<T, W> {
        if let Some(reporter) = &self.reporter {
            reporter.count_exempt();
        }
        Admission::Bypass
    }
}

impl<R, P, F> Policy<R> for Exempt<P, F>
where
    R: RequestKind,
    P: Policy<R>,
    F: Exemption<R>,
{
    type Token = P::Token;
    type Wait = P::Wait;

    const IS_OURS: bool = P::IS_OURS && F::IS_OURS;

    #[inline(always)]
    fn admit(&self, request: &R::Head<'_>) -> Admission<Self::Token, Self::Wait> {
        if self.rule.is_exempt(request) {
            return self.bypass();
        }
        self.policy.admit(request)
    }

    pass_on!(self => self.policy; parts);
}

impl<P: fmt::Debug, F> fmt::Debug for Exempt<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exempt")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
