//! The wait of a request for its token: none, or a future of the policy.
//!
//! The two cases are types. A policy that never waits therefore does not pay for those that do:
//! neither the size of a queued request in its futures nor `S: Clone`.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::needs::{Choice, Everything, Needs, No, Yes};
use crate::rejection::Rejection;
use crate::request::sealed;

/// The [`Wait`](super::Policy::Wait) of a policy that never waits. It has no values.
///
/// `T` is the policy's token.
pub struct NoWait<T = (), N = Everything>(Infallible, PhantomData<fn() -> (T, N)>);

pin_project! {
    /// The [`Wait`](super::Policy::Wait) of a policy that waits until the future `F` returns a
    /// token or a rejection.
    ///
    /// The future is polled in the future of the call, and is dropped with it if the caller drops
    /// the call.
    pub struct WaitFor<F, N = Everything> {
        #[pin]
        future: F,
        instead: Rejection,
        needs: PhantomData<fn() -> N>,
    }
}

/// The wait of a request. Sealed: it is [`NoWait`] or [`WaitFor`], or a tuple of policies makes it
/// of these.
pub trait Wait: sealed::Sealed {
    /// The token of the policy.
    type Token;

    /// What the policy asks of its gate.
    #[doc(hidden)]
    type Needs: Needs;

    /// Whether a request may wait.
    #[doc(hidden)]
    type Waits: Choice;

    #[doc(hidden)]
    fn poll_token(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Token, Rejection>>;

    /// Takes the token of a tuple whose earlier members have admitted the request.
    #[doc(hidden)]
    fn take_earlier(&mut self) -> Option<Self::Token> {
        None
    }

    /// Adds the token that was waited for to that of the earlier members.
    #[doc(hidden)]
    fn add(earlier: &mut Self::Token, waited: Self::Token) {
        *earlier = waited;
    }

    /// Stops the wait. The rejection is that of a request that cannot wait.
    #[doc(hidden)]
    fn give_up(self) -> Rejection;
}

/// Whether a request may wait, with a service `S`. Only a policy that waits needs `S: Clone`.
#[diagnostic::on_unimplemented(
    message = "a policy that may wait needs a service that is `Clone`",
    note = "the instance that was polled ready waits with the request, and a clone replaces it"
)]
pub trait WaitWith<S>: Choice {
    /// Takes the service that was polled ready, and leaves a clone.
    #[doc(hidden)]
    fn take_ready(service: &mut S) -> S;
}

/// A policy that never waits, and so may be anywhere in a tuple.
#[diagnostic::on_unimplemented(
    message = "a policy that may wait must be the last of a tuple",
    label = "this policy may wait",
    note = "for two policies that wait, nest two layers"
)]
pub trait NeverWaits: Wait<Waits = No> {}

impl<W: Wait<Waits = No>> NeverWaits for W {}

// === impl WaitWith ===

impl<S> WaitWith<S> for No {
    fn take_ready(_: &mut S) -> S {
        unreachable!("no request waits")
    }
}

impl<S: Clone> WaitWith<S> for Yes {
    fn take_ready(service: &mut S) -> S {
        let clone = service.clone();
        std::mem::replace(service, clone)
    }
}

// === impl NoWait ===

impl<T, N> sealed::Sealed for NoWait<T, N> {}

impl<T, N: Needs> Wait for NoWait<T, N> {
    type Token = T;
    type Needs = N;
    type Waits = No;

    fn poll_token(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<T, Rejection>> {
        match self.0 {}
    }

    fn give_up(self) -> Rejection {
        match self.0 {}
    }
}

impl<T, N> fmt::Debug for NoWait<T, N> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

// === impl WaitFor ===

impl<F, N> WaitFor<F, N> {
    /// Waits until `future` returns a token or a rejection. `instead` is the rejection of a request
    /// that cannot wait. A dry run, in which no request waits, counts it.
    pub const fn new(future: F, instead: Rejection) -> Self {
        Self {
            future,
            instead,
            needs: PhantomData,
        }
    }
}

impl<F: Future, N> Future for WaitFor<F, N> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

impl<F, N> sealed::Sealed for WaitFor<F, N> {}

impl<F, T, N> Wait for WaitFor<F, N>
where
    F: Future<Output = Result<T, Rejection>>,
    N: Needs,
{
    type Token = T;
    type Needs = N;
    type Waits = Yes;

    fn poll_token(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Rejection>> {
        self.poll(cx)
    }

    fn give_up(self) -> Rejection {
        self.instead
    }
}

impl<F, N> fmt::Debug for WaitFor<F, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitFor").finish_non_exhaustive()
    }
}
