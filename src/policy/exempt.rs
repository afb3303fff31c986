//! Lets some requests pass without asking.

use std::fmt;

use super::wait::Adapt;
use super::{Admission, Policy, Wait};
use crate::protocol::View;

/// A policy that is asked only about the requests for which the closure says `false`; made by `GateLayer::exempt`.
///
/// Exempt requests hold no place and are not counted.
#[derive(Clone)]
pub struct Exempt<P, F> {
    policy: P,
    exempt: F,
}

/// Marks the ticket that an asked policy had to be waited for.
#[derive(Debug)]
pub struct Asked;

// === impl Exempt ===

impl<P, F> Exempt<P, F> {
    pub(crate) fn new(policy: P, exempt: F) -> Self {
        Self { policy, exempt }
    }
}

impl<V, P, F> Policy<V> for Exempt<P, F>
where
    V: View,
    P: Policy<V>,
    F: Fn(&V::Head<'_>) -> bool + Clone,
{
    type Ticket = Option<P::Ticket>;
    type Wait = <P::Wait as Wait<P::Ticket>>::Map<Asked>;

    #[inline]
    fn admit(&self, request: &V::Head<'_>) -> Admission<Self::Ticket, Self::Wait> {
        if (self.exempt)(request) {
            return Admission::Admit(None);
        }
        match self.policy.admit(request) {
            Admission::Admit(ticket) => Admission::Admit(Some(ticket)),
            Admission::Wait(wait) => Admission::Wait(wait.map(Asked)),
            Admission::Reject(rejection) => Admission::Reject(rejection),
        }
    }
}

impl<P: fmt::Debug, F> fmt::Debug for Exempt<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exempt")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

// === impl Asked ===

impl<T> Adapt<T> for Asked {
    type Ticket = Option<T>;

    fn adapt(self, ticket: T) -> Option<T> {
        Some(ticket)
    }
}
