//! An optional policy is a policy: `None` leaves it out.

use super::{Admission, Policy};
use crate::request::RequestKind;

#[expect(
    clippy::default_trait_access,
    reason = "the macro returns from methods with different results"
)]
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

    pass_on!(self => {
        let Some(policy) = self else {
            return Default::default();
        };
        policy
    }; parts);
}
