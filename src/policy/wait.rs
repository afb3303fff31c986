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
use super::parts::Parts;
use crate::outcome::Outcome;
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
pub trait Wait: Future + sealed::Sealed {
    /// What the policy asks of its gate.
    #[doc(hidden)]
    type Needs: Needs;

    /// The wait has no values, so that the gate need not compile the code for it.
    #[doc(hidden)]
    const NEVER: bool = false;

    /// Stops the wait. The rejection is that of a request that cannot wait.
    #[doc(hidden)]
    fn give_up(self) -> Rejection;

    /// The deadline has passed: the policies that have admitted the request get their outcome.
    #[doc(hidden)]
    fn expire(self: Pin<&mut Self>, outcome: Outcome) {
        let _ = outcome;
    }

    /// The parts that the policies which have admitted the request use.
    #[doc(hidden)]
    fn parts(&self) -> Parts<'_> {
        Parts::default()
    }
}

/// The wait for a service `S`. Only a policy that waits needs `S: Clone`.
#[diagnostic::on_unimplemented(
    message = "a policy that may wait needs a service that is `Clone`",
    note = "the instance that was polled ready waits with the request, and a clone replaces it"
)]
pub trait WaitWith<S>: Wait {
    /// A box, or nothing.
    #[doc(hidden)]
    type Queued<T>;

    #[doc(hidden)]
    fn queue<T>(value: T) -> Self::Queued<T>;

    #[doc(hidden)]
    fn queued<T>(queued: &mut Self::Queued<T>) -> Pin<&mut T>;

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
pub trait NeverWaits: WaitWith<(), Queued<()> = Infallible> {}

impl<W: WaitWith<(), Queued<()> = Infallible>> NeverWaits for W {}

// === impl NoWait ===

impl<T, N> sealed::Sealed for NoWait<T, N> {}

impl<T, N> Future for NoWait<T, N> {
    type Output = Result<T, Rejection>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0 {}
    }
}

impl<T, N: Needs> Wait for NoWait<T, N> {
    type Needs = N;

    const NEVER: bool = true;

    fn give_up(self) -> Rejection {
        match self.0 {}
    }
}

impl<S, T, N: Needs> WaitWith<S> for NoWait<T, N> {
    type Queued<Q> = Infallible;

    fn queue<Q>(_: Q) -> Infallible {
        unreachable!("it never waits")
    }

    fn queued<Q>(queued: &mut Infallible) -> Pin<&mut Q> {
        match *queued {}
    }

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

impl<F: Future, N: Needs> Wait for WaitFor<F, N> {
    type Needs = N;

    fn give_up(self) -> Rejection {
        self.instead
    }
}

impl<S: Clone, F: Future, N: Needs> WaitWith<S> for WaitFor<F, N> {
    type Queued<T> = Pin<Box<T>>;

    fn queue<T>(value: T) -> Pin<Box<T>> {
        // It is boxed, so that the future of a request that does not wait is not as large.
        Box::pin(value)
    }

    fn queued<T>(queued: &mut Pin<Box<T>>) -> Pin<&mut T> {
        queued.as_mut()
    }

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
