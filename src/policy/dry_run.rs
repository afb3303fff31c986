//! Refuses nothing, and counts what it would.

use std::fmt;

use super::{Admission, NoWait, Policy, Wait};
use crate::observe;
use crate::protocol::View;

/// A policy that lets pass, untracked, whatever the policy in it would turn away or let wait; made by
/// [`GateLayer::dry_run`](crate::GateLayer::dry_run).
#[derive(Clone)]
pub struct DryRun<P> {
    policy: P,
}

// === impl DryRun ===

impl<P> DryRun<P> {
    pub(crate) fn new(policy: P) -> Self {
        Self { policy }
    }
}

impl<V, P> Policy<V> for DryRun<P>
where
    V: View,
    P: Policy<V>,
{
    type Ticket = Option<P::Ticket>;
    type Wait = NoWait;

    #[inline]
    fn admit(&self, request: &V::Head<'_>) -> Admission<Self::Ticket, NoWait> {
        let instead = match self.policy.admit(request) {
            Admission::Admit(ticket) => return Admission::Admit(Some(ticket)),
            Admission::Wait(wait) => wait.give_up(),
            Admission::Reject(rejection) => rejection,
        };
        observe::rejected(&instead, true);
        Admission::Admit(None)
    }
}

impl<P: fmt::Debug> fmt::Debug for DryRun<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DryRun")
            .field("policy", &self.policy)
            .finish()
    }
}
