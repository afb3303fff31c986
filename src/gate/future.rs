//! The future of a call.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::Payload;
use super::guard::{FutureGuard, Guard, Shared};
use super::polls::{Polling, PollsOf, SlowPolling};
use super::timer::TimerOf;
use crate::policy::needs::InFuture;
use crate::policy::{Choice, Needs, NeedsOf, Policy, Wait};
use crate::protocol::{KeptBody, Protocol, Respond};
use crate::rejection::Rejection;
use crate::request::RequestKind;
use crate::upload::{Listening, Report};

pin_project! {
    /// The future of a [`Gate`](super::Gate).
    #[must_use = "futures do nothing unless polled"]
    pub struct GateFuture<S, Req, P, X>
    where
        S: Service<X::Inner>,
        X: Protocol<Req, P>,
        P: Policy<X::Kind>,
    {
        #[pin]
        pub(super) state: State<S::Future, QueuedOf<S, Req, P, X>, P>,
        pub(super) guard: FutureGuard<P, X::Kind>,
        pub(super) timer: TimerOf<P, X::Kind>,
        pub(super) memo: X::Memo,
        pub(super) kept: X::Kept,
        pub(super) polls: PollsOf<P, X::Kind>,
        pub(super) protocol: X,
    }

    impl<S, Req, P, X> PinnedDrop for GateFuture<S, Req, P, X>
    where
        S: Service<X::Inner>,
        X: Protocol<Req, P>,
        P: Policy<X::Kind>,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let asks = const {
                NeedsOf::<P, X::Kind>::SETTLE
                    || NeedsOf::<P, X::Kind>::LIMIT
            };
            // After a response over HTTP there is no guard. After one over `Plain`, the guard needs
            // no further call.
            let is_early =
                |guard: &mut Guard<_, _>| !(Guard::<P, X::Kind>::OWES && guard.is_done());
            if asks && InFuture::<NeedsOf<P, X::Kind>>::get(this.guard).is_some_and(is_early) {
                drop_early::<S, Req, P, X>(this.state, this.guard, this.kept);
            }
        }
    }
}

/// Drops a future that has a guard: before its end.
#[cold]
#[inline(never)]
#[expect(clippy::type_complexity, reason = "it is made of associated types")]
fn drop_early<S, Req, P, X>(
    mut state: Pin<&mut State<S::Future, QueuedOf<S, Req, P, X>, P>>,
    guard: &mut FutureGuard<P, X::Kind>,
    kept: &mut X::Kept,
) where
    S: Service<X::Inner>,
    X: Protocol<Req, P>,
    P: Policy<X::Kind>,
{
    // The values that it drops may read the upload: its own, or the one that is reported.
    let _scope = kept.enter();
    let _listening = Listening::new(report::<P, X::Kind>(guard));
    state.set(State::Done);
    drop(std::mem::take(guard));
}

/// A request in a queue, or nothing.
type QueuedOf<S, Req, P, X> = <Waits<Req, P, X> as Choice>::Maybe<
    Pin<Box<Parked<S, Req, P, <P as Policy<<X as Protocol<Req, P>>::Kind>>::Wait>>>,
>;

/// Whether a request may be in a queue.
pub(super) type Waits<Req, P, X> =
    <<P as Policy<<X as Protocol<Req, P>>::Kind>>::Wait as Wait>::Waits;

pin_project! {
    #[doc(hidden)]
    #[project = StateProj]
    pub enum State<F, Q, P> {
        Called { #[pin] future: F },
        Queued { queued: Q },
        Rejected { rejected: Option<(Rejection, Arc<Shared<P>>)> },
        Done,
    }
}

pin_project! {
    /// A request that waits, with the service that was polled ready for it.
    #[doc(hidden)]
    pub struct Parked<S, Req, P, W> {
        #[pin]
        pub(super) wait: W,
        pub(super) call: Option<(S, Req)>,
        pub(super) shared: Arc<Shared<P>>,
    }
}

/// The end of a call that is not the response of the inner service.
pub(super) enum End {
    /// The wait ended with a rejection, or the request body is too large or too slow. The answer
    /// replaces that of the inner service.
    Rejected(Rejection),
    Panicked(Payload),
    /// The deadline has passed.
    Late,
}

pub(super) const OVER: &str = "a future is not polled after it is ready";

// === impl GateFuture ===

impl<S, Req, P, X> GateFuture<S, Req, P, X>
where
    S: Service<X::Inner>,
    X: Protocol<Req, P>,
    P: Policy<X::Kind>,
{
    /// The future of a call of the inner service.
    #[inline(always)]
    pub(super) fn called(
        future: S::Future,
        guard: FutureGuard<P, X::Kind>,
        timer: TimerOf<P, X::Kind>,
        memo: X::Memo,
        kept: X::Kept,
        polls: PollsOf<P, X::Kind>,
        protocol: &X,
    ) -> Self {
        Self {
            state: State::Called { future },
            guard,
            timer,
            memo,
            kept,
            polls,
            protocol: protocol.clone(),
        }
    }

    /// The future of a call that is already admitted.
    pub(super) fn admitted(
        future: S::Future,
        mut guard: Guard<P, X::Kind>,
        memo: X::Memo,
        protocol: &X,
    ) -> Self {
        guard.set_running(false);
        Self::called(
            future,
            InFuture::<NeedsOf<P, X::Kind>>::some(guard),
            TimerOf::<P, X::Kind>::default(),
            memo,
            X::Kept::default(),
            PollsOf::<P, X::Kind>::default(),
            protocol,
        )
    }

    /// The future of a request that is rejected.
    #[inline]
    pub(super) fn rejected(
        shared: &Arc<Shared<P>>,
        protocol: &X,
        rejection: Rejection,
        memo: X::Memo,
        kept: X::Kept,
    ) -> Self {
        Self {
            state: State::rejected(rejection, shared.clone()),
            guard: FutureGuard::<P, X::Kind>::default(),
            timer: TimerOf::<P, X::Kind>::default(),
            memo,
            kept,
            polls: PollsOf::<P, X::Kind>::default(),
            protocol: protocol.clone(),
        }
    }
}

impl<S, Req, P, X> Future for GateFuture<S, Req, P, X>
where
    S: Service<<X as Protocol<Req, P>>::Inner>,
    X: Protocol<Req, P> + Respond<Req, S::Response, S::Error, P>,
    P: Policy<<X as Protocol<Req, P>>::Kind>,
{
    type Output = Result<<X as Respond<Req, S::Response, S::Error, P>>::Response, S::Error>;

    /// A queued request is called when it has its token. The response of the inner service, or an
    /// answer of the gate, ends it.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if const { Waits::<Req, P, X>::IS } && matches!(self.state, State::Queued { .. }) {
            ready!(self.as_mut().poll_queued(cx));
        }
        let this = self.as_mut().project();
        'called: {
            let StateProj::Called { future } = this.state.project() else {
                break 'called;
            };
            let (protocol, memo) = (&*this.protocol, *this.memo);
            let (guard, timer, kept) = (this.guard, this.timer, this.kept);
            let slow = SlowPolling::begin::<P, X::Kind>(guard);
            let mut polling = Polling::begin::<P, X::Kind>(this.polls);
            let _scope = kept.enter();
            let _listening = listen::<P, X::Kind>(guard);
            if const { NeedsOf::<P, X::Kind>::ISOLATION } {
                // The response is wrapped inside the closure, so that it is moved out once and as a
                // whole.
                let poll = || {
                    let mut polled = future.poll(cx);
                    slow.end::<P, X::Kind>(guard);
                    let Poll::Ready(result) = &mut polled else {
                        return Ok(Poll::Pending);
                    };
                    if const { NeedsOf::<P, X::Kind>::LIMIT } {
                        if let Some(rejection) = kept.overrun() {
                            return Err(rejection);
                        }
                    }
                    let carried = protocol.settle(result, memo, guard, timer, kept);
                    Ok(polled.map_ok(|response| protocol.wrap(response, carried)))
                };
                match panic::catch_unwind(AssertUnwindSafe(poll)) {
                    Ok(Ok(Poll::Pending)) => {}
                    Ok(Ok(ready)) => return ready,
                    Ok(Err(rejection)) => {
                        self.as_mut().end(End::Rejected(rejection));
                        break 'called;
                    }
                    Err(payload) => {
                        self.as_mut().end(End::Panicked(payload));
                        break 'called;
                    }
                }
            } else {
                if let Some(guard) = InFuture::<NeedsOf<P, X::Kind>>::get(guard) {
                    guard.set_running(true);
                }
                let mut polled = future.poll(cx);
                slow.end::<P, X::Kind>(guard);
                if let Poll::Ready(result) = &mut polled {
                    if const { NeedsOf::<P, X::Kind>::LIMIT } {
                        if let Some(rejection) = kept.overrun() {
                            self.as_mut().end(End::Rejected(rejection));
                            break 'called;
                        }
                    }
                    let carried = protocol.settle(result, memo, guard, timer, kept);
                    return polled.map_ok(|response| protocol.wrap(response, carried));
                }
                if let Some(guard) = InFuture::<NeedsOf<P, X::Kind>>::get(guard) {
                    guard.set_running(false);
                }
            }
            if let Some(guard) = InFuture::<NeedsOf<P, X::Kind>>::get(guard) {
                guard.keep_report(Report::kept_by_future);
            }
            polling.pend();
            drop(polling);
            if const { !NeedsOf::<P, X::Kind>::DEADLINE } {
                return Poll::Pending;
            }
            match <NeedsOf<P, X::Kind> as Needs>::Deadline::get(timer) {
                Some(timer) => ready!(timer.poll(cx)),
                None => return Poll::Pending,
            }
            self.as_mut().end(End::Late);
        }
        let this = self.project();
        let StateProj::Rejected { rejected } = this.state.project() else {
            panic!("{OVER}");
        };
        let rejection = rejected.as_ref().map(|(rejection, _)| rejection);
        ready!(X::poll_rest(rejection, this.kept, this.memo, cx));
        let (rejection, shared) = rejected.take().expect(OVER);
        let kept = std::mem::take(this.kept);
        let protocol = this.protocol.clone();
        Poll::Ready(Self::answer(rejection, shared, kept, *this.memo, protocol))
    }
}

impl<S, Req, P, X> fmt::Debug for GateFuture<S, Req, P, X>
where
    S: Service<X::Inner>,
    X: Protocol<Req, P>,
    P: Policy<X::Kind>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Called { .. } => "Called",
            State::Queued { .. } => "Queued",
            State::Rejected { .. } => "Rejected",
            State::Done => "Done",
        };
        f.debug_struct("GateFuture")
            .field("state", &state)
            .field("memo", &self.memo)
            .finish_non_exhaustive()
    }
}

// === impl State ===

impl<F, Q, P> State<F, Q, P> {
    pub(super) fn rejected(rejection: Rejection, shared: Arc<Shared<P>>) -> Self {
        State::Rejected {
            rejected: Some((rejection, shared)),
        }
    }
}

/// Makes this gate the listener of the gates inside it, if a policy needs the outcome.
#[inline(always)]
fn listen<P: Policy<R>, R: RequestKind>(
    guard: &mut FutureGuard<P, R>,
) -> <<NeedsOf<P, R> as Needs>::Settle as Choice>::Maybe<Listening> {
    if const { NeedsOf::<P, R>::SETTLE } {
        <NeedsOf<P, R> as Needs>::Settle::some(Listening::new(report::<P, R>(guard)))
    } else {
        Default::default()
    }
}

/// The report of inner gates and bodies in earlier polls.
#[inline(always)]
pub(super) fn report<P: Policy<R>, R: RequestKind>(guard: &mut FutureGuard<P, R>) -> Report {
    InFuture::<NeedsOf<P, R>>::get(guard).map_or(Report::NOTHING, Guard::report)
}
