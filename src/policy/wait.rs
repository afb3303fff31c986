//! How a request waits for its ticket: not at all, or in a future of the policy's.
//!
//! The two cases are types, so that a policy that never waits pays nothing for those that do: neither the size of a parked
//! request in its futures nor `S: Clone`.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::Ticket;
use super::held::Held;
use crate::rejection::Rejection;

/// The [`Wait`](super::Policy::Wait) of a policy that never waits: it has no values.
#[derive(Clone, Copy, Debug)]
pub enum NoWait {}

pin_project! {
    /// The [`Wait`](super::Policy::Wait) of a policy that waits for the future `F` to give a ticket or a rejection.
    ///
    /// The future is polled in the call's own future, and dropped with it when the client goes.
    pub struct WaitFor<F> {
        #[pin]
        future: F,
        instead: Rejection,
    }
}

/// How a request waits. Sealed: it is [`NoWait`] or [`WaitFor`].
pub trait Wait<T>: Sized + sealed::Sealed {
    #[doc(hidden)]
    type Map<A: Adapt<T>>: Wait<A::Ticket>;

    #[doc(hidden)]
    fn map<A: Adapt<T>>(self, adapt: A) -> Self::Map<A>;

    /// Gives up waiting and says what it would have been told without it.
    #[doc(hidden)]
    fn give_up(self) -> Rejection;
}

/// What a combinator makes of the ticket that was waited for.
pub trait Adapt<T> {
    type Ticket;

    fn adapt(self, ticket: T) -> Self::Ticket;
}

/// Keeps a request, and the service that was polled ready for it, until there is a ticket.
pub trait Park<S, Req, T>: Wait<T> {
    type Parked;

    fn park(self, service: &mut S, request: Req) -> Self::Parked;
}

/// A parked request: it becomes the inner call, or a rejection.
pub trait Parked<F, T: Ticket> {
    fn poll_call(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(F, Held<T>), Rejection>>;
}

pin_project! {
    /// The future of a combinator over a policy that waits.
    pub struct Adapted<F, A> {
        #[pin]
        future: F,
        adapt: Option<A>,
    }
}

pin_project! {
    /// A request that waits, with the service that was ready for it.
    pub struct ParkedCall<F, S, Req> {
        #[pin]
        wait: F,
        call: Option<(S, Req)>,
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::NoWait {}
    impl<F> Sealed for super::WaitFor<F> {}
}

// === impl NoWait ===

impl<T> Wait<T> for NoWait {
    type Map<A: Adapt<T>> = NoWait;

    fn map<A: Adapt<T>>(self, _: A) -> NoWait {
        match self {}
    }

    fn give_up(self) -> Rejection {
        match self {}
    }
}

impl<S, Req, T> Park<S, Req, T> for NoWait {
    type Parked = NoWait;

    fn park(self, _: &mut S, _: Req) -> NoWait {
        match self {}
    }
}

impl<F, T: Ticket> Parked<F, T> for NoWait {
    fn poll_call(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Result<(F, Held<T>), Rejection>> {
        match *self {}
    }
}

// === impl WaitFor ===

impl<F> WaitFor<F> {
    /// Waits until `future` gives a ticket or a rejection. `instead` is what the request would be told if it could not
    /// wait; it is counted in a dry run, where nobody does.
    pub const fn new(future: F, instead: Rejection) -> Self {
        Self { future, instead }
    }
}

impl<T, F> Wait<T> for WaitFor<F>
where
    F: Future<Output = Result<T, Rejection>>,
{
    type Map<A: Adapt<T>> = WaitFor<Adapted<F, A>>;

    fn map<A: Adapt<T>>(self, adapt: A) -> Self::Map<A> {
        let adapted = Adapted {
            future: self.future,
            adapt: Some(adapt),
        };
        WaitFor::new(adapted, self.instead)
    }

    fn give_up(self) -> Rejection {
        self.instead
    }
}

impl<S: Clone, Req, T, F> Park<S, Req, T> for WaitFor<F>
where
    F: Future<Output = Result<T, Rejection>>,
{
    type Parked = Pin<Box<ParkedCall<F, S, Req>>>;

    fn park(self, service: &mut S, request: Req) -> Self::Parked {
        // The instance that was polled ready goes with the request; the fresh clone stays and is polled before its call.
        let fresh = service.clone();
        let ready = std::mem::replace(service, fresh);
        // Boxed, so that the future of a request that need not wait is not as large as one that must.
        Box::pin(ParkedCall {
            wait: self.future,
            call: Some((ready, request)),
        })
    }
}

impl<F> fmt::Debug for WaitFor<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitFor").finish_non_exhaustive()
    }
}

// === impl Adapted ===

impl<T, F, A> Future for Adapted<F, A>
where
    F: Future<Output = Result<T, Rejection>>,
    A: Adapt<T>,
{
    type Output = Result<A::Ticket, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        let adapt = this.adapt.take().expect("polled after completion");
        Poll::Ready(result.map(|ticket| adapt.adapt(ticket)))
    }
}

// === impl ParkedCall ===

impl<S, Req, T, W> Parked<S::Future, T> for Pin<Box<ParkedCall<W, S, Req>>>
where
    S: Service<Req>,
    T: Ticket,
    W: Future<Output = Result<T, Rejection>>,
{
    fn poll_call(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(S::Future, Held<T>), Rejection>> {
        let this = self.as_deref_mut().project();
        let result = ready!(this.wait.poll(cx));
        let (mut service, request) = this.call.take().expect("polled after completion");
        Poll::Ready(result.map(|ticket| {
            let mut held = Held::new(ticket);
            let future = held.watch(|| service.call(request));
            (future, held)
        }))
    }
}
