//! The one Tower service that joins a policy to an inner service over a protocol.
//!
//! # Where it goes
//!
//! Wherever its policy belongs; see [the order of layers](crate#the-order-of-layers).
//!
//! # Cancellation
//!
//! Dropping the future at any point drops the inner future, the place in a waiting room and the ticket. The ticket is told
//! [`Outcome::Cancelled`](crate::Outcome::Cancelled) if it had not been told its verdict. Dropping the response body gives
//! the ticket back as well.
//!
//! # Panics
//!
//! A panic of the inner service unwinds through; the ticket is told [`Outcome::Panicked`](crate::Outcome::Panicked) and
//! comes back.
//!
//! # Readiness
//!
//! `poll_ready` is the inner service's and reserves nothing: an idle clone holds no place. A policy is asked in `call`.
//! Where it waits, the instance that was polled ready waits with the request and a fresh clone takes its place.

mod layer;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::observe;
use crate::policy::{Admission, Held, Park, Parked, Policy, Ticket};
use crate::protocol::{Http, Inspect, Kind, Protocol};
use crate::rejection::Rejection;

pub use self::layer::GateLayer;

/// A service behind a [`Policy`]; made by [`GateLayer`].
#[derive(Clone)]
pub struct Gate<S, P, X = Http> {
    inner: S,
    policy: P,
    protocol: X,
}

pin_project! {
    /// The future of a [`Gate`]: `F` is the inner future, `W` a request that waits for its ticket `T`.
    #[must_use = "futures do nothing unless polled"]
    pub struct GateFuture<F, W, T: Ticket, X: Kind> {
        #[pin]
        state: State<F, W, T>,
        memo: X::Memo,
        protocol: X,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, W, T: Ticket> {
        Called {
            #[pin]
            call: Call<F>,
            held: Option<Held<T>>,
        },
        Waiting {
            #[pin]
            parked: W,
        },
    }
}

pin_project! {
    /// An inner call, or the reason why there is none: every layer that may answer by itself runs through here.
    #[project = CallProj]
    pub(crate) enum Call<F> {
        Inner { #[pin] future: F },
        Refused { rejection: Option<Rejection> },
    }
}

// === impl Gate ===

impl<S, P, X> Gate<S, P, X> {
    /// The policy.
    pub fn policy(&self) -> &P {
        &self.policy
    }
}

impl<S, P, X, Req> Service<Req> for Gate<S, P, X>
where
    S: Service<Req>,
    X: Inspect<Req> + Protocol<S::Response, S::Error>,
    P: Policy<X::View>,
    P::Wait: Park<S, Req, P::Ticket>,
    <P::Wait as Park<S, Req, P::Ticket>>::Parked: Parked<S::Future, P::Ticket>,
{
    type Response = X::Response<X::Hold<P::Ticket>>;
    type Error = S::Error;
    type Future = GateFuture<S::Future, <P::Wait as Park<S, Req, P::Ticket>>::Parked, P::Ticket, X>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let policy = &self.policy;
        let held = match self.protocol.with_head(&request, |head| policy.admit(head)) {
            Admission::Admit(ticket) => Some(Held::watching(ticket)),
            Admission::Wait(wait) => {
                let memo = self.protocol.inspect(&request);
                let parked = wait.park(&mut self.inner, request);
                return self.future(State::Waiting { parked }, memo);
            }
            Admission::Reject(rejection) => {
                observe::rejected(&rejection, false);
                let memo = self.protocol.inspect(&request);
                let call = Call::refused(rejection);
                return self.future(State::Called { call, held: None }, memo);
            }
        };
        let memo = self.protocol.glance(&request);
        // If this unwinds, the ticket knows that it was called.
        let future = self.inner.call(request);
        let call = Call::Inner { future };
        let held = held.map(Held::paused);
        self.future(State::Called { call, held }, memo)
    }
}

impl<S, P, X: Kind> Gate<S, P, X> {
    #[inline]
    fn future<F, W, T: Ticket>(
        &self,
        state: State<F, W, T>,
        memo: X::Memo,
    ) -> GateFuture<F, W, T, X> {
        GateFuture {
            state,
            memo,
            protocol: self.protocol.clone(),
        }
    }
}

impl<S: fmt::Debug, P: fmt::Debug, X: fmt::Debug> fmt::Debug for Gate<S, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("inner", &self.inner)
            .field("policy", &self.policy)
            .field("protocol", &self.protocol)
            .finish()
    }
}

// === impl GateFuture ===

impl<F, W, T: Ticket, X: Kind> GateFuture<F, W, T, X> {
    /// An inner call under a ticket that was given before.
    pub(crate) fn called(future: F, held: Held<T>, memo: X::Memo, protocol: X) -> Self {
        Self {
            state: State::Called {
                call: Call::Inner { future },
                held: Some(held),
            },
            memo,
            protocol,
        }
    }
}

impl<F, W, T, X, Res, Err> Future for GateFuture<F, W, T, X>
where
    F: Future<Output = Result<Res, Err>>,
    W: Parked<F, T>,
    T: Ticket,
    X: Protocol<Res, Err>,
{
    type Output = Result<X::Response<X::Hold<T>>, Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let called = match this.state.as_mut().project() {
                StateProj::Called { call, held } => match call.project() {
                    CallProj::Inner { future } => {
                        let polled = match held {
                            Some(held) => held.watch(|| future.poll(cx)),
                            None => future.poll(cx),
                        };
                        return polled
                            .map(|result| this.protocol.complete(result, *this.memo, held));
                    }
                    CallProj::Refused { rejection } => {
                        let rejection = rejection.take().expect(OVER);
                        let answer =
                            this.protocol
                                .reject(rejection, *this.memo, X::Hold::default());
                        return Poll::Ready(answer);
                    }
                },
                StateProj::Waiting { parked } => match ready!(parked.poll_call(cx)) {
                    Ok((future, held)) => State::Called {
                        call: Call::Inner { future },
                        held: Some(held),
                    },
                    Err(rejection) => {
                        observe::rejected(&rejection, false);
                        State::Called {
                            call: Call::refused(rejection),
                            held: None,
                        }
                    }
                },
            };
            this.state.set(called);
        }
    }
}

impl<F, W, T: Ticket, X: Kind> fmt::Debug for GateFuture<F, W, T, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Called { call, .. } => call.name(),
            State::Waiting { .. } => "Waiting",
        };
        f.debug_struct("GateFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

// === impl Call ===

/// What is expected of whoever polls.
pub(crate) const OVER: &str = "a future is not polled after it is done";

impl<F> Call<F> {
    pub(crate) fn refused(rejection: Rejection) -> Self {
        Call::Refused {
            rejection: Some(rejection),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Call::Inner { .. } => "Called",
            Call::Refused { .. } => "Refused",
        }
    }
}
