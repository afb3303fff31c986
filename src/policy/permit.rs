//! Permits: tokens that are held outside a gate.

use std::fmt;
use std::marker::PhantomData;
use std::thread;

use super::needs::Needs;
use super::tuple::each;
use super::{NeedsOf, Policy};
use crate::observe::Reporter;
use crate::outcome::{Completion, Outcome};
use crate::rejection::Rejection;
use crate::request::{PlainRequest, RequestKind};
use crate::unwind;

/// A token of a policy `P` for work that is not a request of a Tower service, for example a
/// WebSocket connection. Dropping the permit releases the token.
///
/// A permit that is dropped without an outcome is settled with [`Outcome::Cancelled`], or with
/// [`Outcome::Panicked`] if a panic that began under the permit drops it.
#[must_use = "the token is released when the permit is dropped"]
pub struct Permit<P: Policy<R>, R: RequestKind = PlainRequest<()>> {
    policy: P,
    token: Option<P::Token>,
    /// The outcome if the permit is dropped without one.
    unsettled: Outcome,
    /// The thread was unwinding when the permit was made.
    during_panic: bool,
    kind: PhantomData<fn(R)>,
}

// === impl Permit ===

impl<P: Policy<R>, R: RequestKind> Permit<P, R> {
    /// Makes a permit for work, which may begin while the thread unwinds.
    #[inline]
    pub(crate) fn new(policy: P, token: P::Token) -> Self {
        Self {
            policy,
            token: Some(token),
            unsettled: Outcome::Cancelled,
            during_panic: thread::panicking(),
            kind: PhantomData,
        }
    }

    /// Makes a permit with a token that was taken, and counts it; or counts the rejection.
    #[inline(always)]
    pub(crate) fn counted(
        policy: P,
        result: Result<P::Token, Rejection>,
        reporter: &Reporter,
    ) -> Result<Self, Rejection> {
        match result {
            Ok(token) => {
                let permit = Self::new(policy, token);
                reporter.admitted(&|| ());
                Ok(permit)
            }
            Err(rejection) => Err(rejection.counted()),
        }
    }

    /// Makes a permit that is held while a later policy decides. If it is dropped, the later policy
    /// has panicked; one that rejects marks it first.
    #[inline(always)]
    pub(crate) fn earlier(policy: P, token: P::Token) -> Self {
        Self {
            policy,
            token: Some(token),
            unsettled: Outcome::Cancelled,
            during_panic: false,
            kind: PhantomData,
        }
    }

    #[inline(always)]
    pub(crate) fn into_token(mut self) -> Option<P::Token> {
        self.token.take()
    }

    pub(crate) fn token_mut(&mut self) -> Option<&mut P::Token> {
        self.token.as_mut()
    }

    /// A drop of the permit cancels it, also while the thread unwinds: such a panic is not one of
    /// the call.
    pub(crate) fn cancelled_if_dropped(mut self) -> Self {
        self.during_panic = true;
        self
    }

    /// Marks that a later policy has rejected. If several permits are dropped and a policy panics,
    /// this is still the end of the others.
    #[inline(always)]
    pub(crate) fn into_ignored(mut self) -> Self {
        self.unsettled = Outcome::Ignored;
        self
    }

    /// Records a success, and releases the permit.
    #[inline]
    pub fn success(self) {
        self.settle(Outcome::Success);
    }

    /// Records a failure, and releases the permit.
    #[inline]
    pub fn failure(self) {
        self.settle(Outcome::Failure);
    }

    /// Releases the permit. The result does not count.
    #[inline]
    pub fn ignore(self) {
        self.settle(Outcome::Ignored);
    }

    /// Records this outcome, and releases the permit.
    #[inline]
    pub fn settle(mut self, outcome: Outcome) {
        self.finish(outcome, Completion::Complete);
    }

    #[inline(always)]
    fn finish(&mut self, outcome: Outcome, completion: Completion) {
        if let Some(mut token) = self.token.take() {
            each::<R, P, _>(
                &mut token,
                |token| {
                    if const { NeedsOf::<P, R>::SETTLE } {
                        self.policy.settle(token, outcome);
                    }
                },
                |token| {
                    if const { NeedsOf::<P, R>::RELEASE } {
                        self.policy.release(token, completion);
                    }
                },
            );
        }
    }

    #[cold]
    #[inline(never)]
    fn drop_unsettled(&mut self) {
        let (outcome, completion) = if self.unsettled == Outcome::Ignored {
            (Outcome::Ignored, Completion::Complete)
        } else if thread::panicking() && !self.during_panic {
            (Outcome::Panicked, Completion::Panicked)
        } else {
            (self.unsettled, Completion::Cancelled)
        };
        unwind::in_drop(|| self.finish(outcome, completion));
    }
}

impl<P: Policy<R>, R: RequestKind> Drop for Permit<P, R> {
    #[inline(always)]
    fn drop(&mut self) {
        let needs_an_end = const { NeedsOf::<P, R>::SETTLE || NeedsOf::<P, R>::RELEASE };
        if needs_an_end && self.token.is_some() {
            self.drop_unsettled();
        }
    }
}

impl<P: Policy<R> + fmt::Debug, R: RequestKind> fmt::Debug for Permit<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
