//! An optional policy is a policy: `None` leaves it out.

use super::{Admission, Parts, Policy};
#[cfg(feature = "http")]
use crate::http::head::ResponseHeadMut;
use crate::outcome::{Completion, Outcome};
use crate::request::RequestKind;

impl<R: RequestKind, P: Policy<R>> Policy<R> for Option<P> {
    type Token = P::Token;
    type Wait = P::Wait;

    const IS_OURS: bool = P::IS_OURS;

    #[inline(always)]
    fn admit(&self, request: &R::Head<'_>) -> Admission<Self::Token, Self::Wait> {
        match self {
            Some(policy) => policy.admit(request),
            None => Admission::Bypass,
        }
    }

    #[cfg(feature = "http")]
    #[inline(always)]
    fn on_head(&self, token: &mut Self::Token, head: &mut ResponseHeadMut<'_>) {
        if let Some(policy) = self {
            policy.on_head(token, head);
        }
    }

    fn register(&self) {
        if let Some(policy) = self {
            policy.register();
        }
    }

    #[inline(always)]
    fn settle(&self, token: &mut Self::Token, outcome: Outcome) {
        if let Some(policy) = self {
            policy.settle(token, outcome);
        }
    }

    #[inline(always)]
    fn release(&self, token: &mut Self::Token, completion: Completion) {
        if let Some(policy) = self {
            policy.release(token, completion);
        }
    }

    #[inline(always)]
    fn expire(&self, token: &mut Self::Token, outcome: Outcome) -> Outcome {
        match self {
            Some(policy) => policy.expire(token, outcome),
            None => outcome,
        }
    }

    #[inline(always)]
    fn parts<'a>(&'a self, token: Option<&'a Self::Token>) -> Parts<'a> {
        match self {
            Some(policy) => policy.parts(token),
            None => Parts::default(),
        }
    }
}
