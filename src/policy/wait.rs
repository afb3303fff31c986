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

use super::needs::{Everything, Needs};
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

    /// A queued request: a box, or nothing.
    #[doc(hidden)]
    type Queued<Q>;

    /// The wait has no values, so that the gate need not compile the code for it.
    #[doc(hidden)]
    const NEVER: bool = false;

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

    #[doc(hidden)]
    fn queue<Q>(value: Q) -> Self::Queued<Q>;

    #[doc(hidden)]
    fn queued<Q>(queued: &mut Self::Queued<Q>) -> Pin<&mut Q>;
}

/// The wait for a service `S`. Only a policy that waits needs `S: Clone`.
#[diagnostic::on_unimplemented(
    message = "a policy that may wait needs a service that is `Clone`",
    note = "the instance that was polled ready waits with the request, and a clone replaces it"
)]
pub trait WaitWith<S>: Wait {
    /// Takes the service that was polled ready, and leaves a clone.
    #[doc(hidden)]
    fn take(service: &mut S) -> S;
}

/// A policy that never waits, and so may be anywhere in a tuple.
#[diagnostic::on_unimplemented(
    message = "a policy that may wait must be the last of a tuple",
    label = "this policy may wait",
    note = "for two policies that wait, nest two layers"
)]
pub trait NeverWaits: Wait<Queued<()> = Infallible> {}

impl<W: Wait<Queued<()> = Infallible>> NeverWaits for W {}

// === impl NoWait ===

impl<T, N> sealed::Sealed for NoWait<T, N> {}

impl<T, N: Needs> Wait for NoWait<T, N> {
    type Token = T;
    type Needs = N;
    type Queued<Q> = Infallible;

    const NEVER: bool = true;

    fn poll_token(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<T, Rejection>> {
        match self.0 {}
    }

    fn give_up(self) -> Rejection {
        match self.0 {}
    }

    fn queue<Q>(_: Q) -> Infallible {
        unreachable!("it never waits")
    }

    fn queued<Q>(queued: &mut Infallible) -> Pin<&mut Q> {
        match *queued {}
    }
}

impl<S, T, N: Needs> WaitWith<S> for NoWait<T, N> {
    fn take(_: &mut S) -> S {
        unreachable!("it never waits")
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
    type Queued<Q> = Pin<Box<Q>>;

    fn poll_token(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Rejection>> {
        self.poll(cx)
    }

    fn give_up(self) -> Rejection {
        self.instead
    }

    fn queue<Q>(value: Q) -> Pin<Box<Q>> {
        // It is boxed, so that the future of a request that does not wait is not as large.
        Box::pin(value)
    }

    fn queued<Q>(queued: &mut Pin<Box<Q>>) -> Pin<&mut Q> {
        queued.as_mut()
    }
}

impl<S, F, T, N> WaitWith<S> for WaitFor<F, N>
where
    S: Clone,
    F: Future<Output = Result<T, Rejection>>,
    N: Needs,
{
    fn take(service: &mut S) -> S {
        let clone = service.clone();
        std::mem::replace(service, clone)
    }
}

impl<F, N> fmt::Debug for WaitFor<F, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitFor").finish_non_exhaustive()
    }
}
