//! The one call future.

use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::guard::{FutureGuard, Guard, Shared};
use super::timer::TimerOf;
use crate::outcome::{Completion, Outcome};
use crate::policy::needs::InFuture;
use crate::policy::{Choice, Needs, NeedsOf, Parts, Policy, Wait, WaitWith};
use crate::protocol::{Protocol, Respond, Responder, by_default, responder};
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::request::RequestKind;
#[cfg(feature = "http")]
use crate::upload::Listening;

pin_project! {
    /// The future of a [`Gate`](super::Gate).
    #[must_use = "futures do nothing unless polled"]
    pub struct GateFuture<S, Req, P, X>
    where
        S: Service<X::Inner>,
        X: Protocol<Req, P>,
        P: Policy<X::Kind>,
        P::Wait: WaitWith<S>,
    {
        #[pin]
        pub(super) state: State<S::Future, QueuedOf<S, Req, P, X>, P>,
        pub(super) guard: FutureGuard<P, X::Kind>,
        pub(super) timer: TimerOf<P, X::Kind>,
        pub(super) memo: X::Memo,
        pub(super) cold: X::Cold,
        pub(super) protocol: X,
    }

    impl<S, Req, P, X> PinnedDrop for GateFuture<S, Req, P, X>
    where
        S: Service<X::Inner>,
        X: Protocol<Req, P>,
        P: Policy<X::Kind>,
        P::Wait: WaitWith<S>,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let asks = const {
                <NeedsOf<P, X::Kind> as Needs>::Settle::IS
                    || <NeedsOf<P, X::Kind> as Needs>::Limit::IS
            };
            // With a guard it is dropped before it is over.
            if asks && InFuture::<NeedsOf<P, X::Kind>>::get(this.guard).is_some() {
                // What it drops may ask for the upload: its own, or the one that is reported.
                let _listening = Listening::new();
                let _scope = X::enter(this.cold);
                this.state.set(State::Done);
                drop(std::mem::take(this.guard));
            }
        }
    }
}

/// A request in a queue, or nothing.
type QueuedOf<S, Req, P, X> =
    <<P as Policy<<X as Protocol<Req, P>>::Kind>>::Wait as WaitWith<S>>::Queued<
        Parked<S, Req, P, <P as Policy<<X as Protocol<Req, P>>::Kind>>::Wait>,
    >;

pin_project! {
    #[doc(hidden)]
    #[project = StateProj]
    pub enum State<F, Q, P> {
        Called { #[pin] future: F },
        Queued { queued: Q },
        Rejected { rejection: Option<Rejection>, shared: Arc<Shared<P>> },
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

/// What an inner call is made of, or why there is none.
type Started<S, Req, P, X> = Result<
    (
        <S as Service<<X as Protocol<Req, P>>::Inner>>::Future,
        FutureGuard<P, <X as Protocol<Req, P>>::Kind>,
        <X as Protocol<Req, P>>::Cold,
    ),
    (Rejection, <X as Protocol<Req, P>>::Cold),
>;

const OVER: &str = "a future is not polled after it is ready";

// === impl GateFuture ===

impl<S, Req, P, X> GateFuture<S, Req, P, X>
where
    S: Service<X::Inner>,
    X: Protocol<Req, P>,
    P: Policy<X::Kind>,
    P::Wait: WaitWith<S>,
{
    /// The future of a call that was admitted before.
    pub(crate) fn admitted(
        future: S::Future,
        mut guard: Guard<P, X::Kind>,
        memo: X::Memo,
        protocol: X,
    ) -> Self {
        guard.set_running(false);
        Self {
            state: State::Called { future },
            guard: InFuture::<NeedsOf<P, X::Kind>>::some(guard),
            timer: TimerOf::<P, X::Kind>::default(),
            memo,
            cold: X::Cold::default(),
            protocol,
        }
    }
}

impl<S, Req, P, X> Future for GateFuture<S, Req, P, X>
where
    S: Service<<X as Protocol<Req, P>>::Inner>,
    X: Protocol<Req, P> + Respond<Req, S::Response, S::Error, P>,
    P: Policy<<X as Protocol<Req, P>>::Kind>,
    P::Wait: WaitWith<S>,
{
    type Output = Result<<X as Respond<Req, S::Response, S::Error, P>>::Response, S::Error>;

    #[inline(always)]
    #[expect(clippy::too_many_lines, reason = "the response is built in one place")]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let memo = *this.memo;
        loop {
            match this.state.as_mut().project() {
                StateProj::Called { future } => {
                    let (protocol, guard, timer) =
                        (&*this.protocol, &mut *this.guard, &mut *this.timer);
                    let cold = &mut *this.cold;
                    let _listening = listen::<P, X::Kind>();
                    let _scope = X::enter(cold);
                    if const { <NeedsOf<P, X::Kind> as Needs>::Isolation::IS } {
                        // The response is wrapped inside, so that it is moved out once and whole.
                        let poll = || {
                            let mut polled = future.poll(cx);
                            let Poll::Ready(result) = &mut polled else {
                                return Ok(Poll::Pending);
                            };
                            if const { <NeedsOf<P, X::Kind> as Needs>::Limit::IS } {
                                if let Some(rejection) = X::overrun(cold) {
                                    return Err(rejection);
                                }
                            }
                            let carried = protocol.settle(result, memo, guard, timer);
                            Ok(polled.map(|result| protocol.wrap(result, carried)))
                        };
                        match panic::catch_unwind(AssertUnwindSafe(poll)) {
                            Ok(Ok(Poll::Pending)) => {}
                            Ok(Ok(ready)) => return ready,
                            Ok(Err(rejection)) => {
                                let shared = overrun::<P, X::Kind>(this.guard);
                                this.state.set(State::rejected(rejection, shared));
                                continue;
                            }
                            Err(payload) => {
                                let guard = InFuture::<NeedsOf<P, X::Kind>>::take(this.guard);
                                let (rejection, shared) = unwound(guard, payload);
                                this.state.set(State::Done);
                                X::reclaim(this.cold);
                                this.state.set(State::rejected(rejection, shared));
                                continue;
                            }
                        }
                    } else {
                        if let Some(guard) = InFuture::<NeedsOf<P, X::Kind>>::get(guard) {
                            guard.set_running(true);
                        }
                        let mut polled = future.poll(cx);
                        if let Poll::Ready(result) = &mut polled {
                            if const { <NeedsOf<P, X::Kind> as Needs>::Limit::IS } {
                                if let Some(rejection) = X::overrun(cold) {
                                    let shared = overrun::<P, X::Kind>(guard);
                                    this.state.set(State::rejected(rejection, shared));
                                    continue;
                                }
                            }
                            let carried = protocol.settle(result, memo, guard, timer);
                            return polled.map(|result| protocol.wrap(result, carried));
                        }
                        if let Some(guard) = InFuture::<NeedsOf<P, X::Kind>>::get(guard) {
                            guard.set_running(false);
                        }
                    }
                    if const { !<NeedsOf<P, X::Kind> as Needs>::Deadline::IS } {
                        return Poll::Pending;
                    }
                    match <NeedsOf<P, X::Kind> as Needs>::Deadline::get(this.timer) {
                        Some(timer) => ready!(timer.poll(cx)),
                        None => return Poll::Pending,
                    }
                    // The inner future first: what it holds is released before the answer is made.
                    let _listening = Listening::new();
                    this.state.set(State::Done);
                    let guard = InFuture::<NeedsOf<P, X::Kind>>::take(this.guard);
                    let (rejection, shared) = expired(guard);
                    X::reclaim(this.cold);
                    this.state.set(State::rejected(rejection, shared));
                }
                StateProj::Rejected { rejection, shared } => {
                    ready!(X::poll_rest(rejection.as_ref(), this.cold, this.memo, cx));
                    let memo = *this.memo;
                    let rejection = rejection.take().expect(OVER);
                    let responder = responder(shared);
                    let cold = std::mem::take(this.cold);
                    let answer = answer::<S, Req, P, X>(
                        this.protocol,
                        rejection,
                        memo,
                        responder,
                        cold,
                        shared,
                    );
                    return Poll::Ready(answer);
                }
                StateProj::Queued { queued } => {
                    let parked = P::Wait::queued(queued);
                    let timer = &mut *this.timer;
                    let next = ready!(poll_queued::<S, Req, P, X>(
                        parked,
                        timer,
                        this.protocol,
                        cx
                    ));
                    match next {
                        Ok((future, guard, cold)) => {
                            *this.guard = guard;
                            *this.cold = cold;
                            this.state.set(State::Called { future });
                        }
                        Err((rejection, cold, shared)) => {
                            *this.cold = cold;
                            this.state.set(State::rejected(rejection, shared));
                        }
                    }
                }
                StateProj::Done => panic!("{OVER}"),
            }
        }
    }
}

impl<S, Req, P, X> fmt::Debug for GateFuture<S, Req, P, X>
where
    S: Service<X::Inner>,
    X: Protocol<Req, P>,
    P: Policy<X::Kind>,
    P::Wait: WaitWith<S>,
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
            rejection: Some(rejection),
            shared,
        }
    }
}

impl<F, Q, P> fmt::Debug for State<F, Q, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl<S, Req, P, W> fmt::Debug for Parked<S, Req, P, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked").finish_non_exhaustive()
    }
}

/// Waits for reports of gates further in, where a policy is settled.
#[inline(always)]
fn listen<P: Policy<R>, R: RequestKind>()
-> <<NeedsOf<P, R> as Needs>::Settle as Choice>::Maybe<Listening> {
    if const { <NeedsOf<P, R> as Needs>::Settle::IS } {
        <NeedsOf<P, R> as Needs>::Settle::some(Listening::new())
    } else {
        Default::default()
    }
}

/// There is no upload without the feature.
#[cfg(not(feature = "http"))]
struct Listening;

#[cfg(not(feature = "http"))]
impl Listening {
    fn new() -> Self {
        Self
    }
}

// === cold paths ===

/// Calls the inner service, for a request whose size is to be limited, or that has waited. A
/// rejection is counted, and the guard settled.
pub(super) fn start<S, Req, P, X>(
    service: &mut S,
    protocol: &X,
    shared: &Arc<Shared<P>>,
    request: Req,
    mut guard: Option<Guard<P, X::Kind>>,
) -> Started<S, Req, P, X>
where
    S: Service<X::Inner>,
    X: Protocol<Req, P>,
    P: Policy<X::Kind>,
{
    let limited = if let Some(guard) = &guard {
        protocol.limit(request, &guard.parts())
    } else {
        let cold = X::Cold::default();
        Ok((protocol.pass(request, u64::MAX, &cold), cold))
    };
    let (request, cold) = match limited {
        Ok(limited) => limited,
        Err((rejection, cold)) => {
            if let Some(guard) = guard {
                guard.finish(Outcome::Ignored, Completion::Complete);
            }
            return Err((rejection, cold));
        }
    };
    shared.reporter.admitted();
    let future = if const { <NeedsOf<P, X::Kind> as Needs>::Isolation::IS } {
        match panic::catch_unwind(AssertUnwindSafe(|| service.call(request))) {
            Ok(future) => future,
            Err(payload) => return Err((caught(guard, payload), X::Cold::default())),
        }
    } else {
        service.call(request)
    };
    if let Some(guard) = &mut guard {
        guard.set_running(false);
    }
    let guard = guard
        .map(InFuture::<NeedsOf<P, X::Kind>>::some)
        .unwrap_or_default();
    Ok((future, guard, cold))
}

/// A panic under a guard: settled, released, reported, and made a rejection. Without isolation for
/// this request it goes on unwinding.
#[cold]
#[inline(never)]
pub(crate) fn caught<P: Policy<R>, R: RequestKind>(
    guard: Option<Guard<P, R>>,
    payload: Box<dyn Any + Send>,
) -> Rejection {
    let Some(mut guard) = guard else {
        panic::resume_unwind(payload);
    };
    guard.settle(Outcome::Panicked);
    guard.release(Completion::Panicked);
    match guard.parts().isolation {
        Some(isolation) => isolation.caught(payload),
        None => panic::resume_unwind(payload),
    }
}

#[cold]
#[inline(never)]
fn unwound<P: Policy<R>, R: RequestKind>(
    guard: Option<Guard<P, R>>,
    payload: Box<dyn Any + Send>,
) -> (Rejection, Arc<Shared<P>>) {
    let shared = guard.as_ref().map(|guard| guard.shared().clone());
    let rejection = caught(guard, payload);
    (rejection, shared.expect("what is isolated has a guard"))
}

/// The request body was too large or too slow, which replaces the answer of the inner service.
#[cold]
#[inline(never)]
fn overrun<P: Policy<R>, R: RequestKind>(guard: &mut FutureGuard<P, R>) -> Arc<Shared<P>> {
    let guard = InFuture::<NeedsOf<P, R>>::take(guard).expect("what is limited has a guard");
    let shared = guard.shared().clone();
    guard.finish(Outcome::Ignored, Completion::Complete);
    shared
}

/// The deadline passed.
#[cold]
#[inline(never)]
fn expired<P: Policy<R>, R: RequestKind>(
    guard: Option<Guard<P, R>>,
) -> (Rejection, Arc<Shared<P>>) {
    let mut guard = guard.expect("what is timed has a guard");
    let (rejection, outcome) = late(&guard.parts());
    guard.expire(outcome);
    guard.release(Completion::Complete);
    (rejection, guard.shared().clone())
}

/// The rejection of a request that is late, counted, and the outcome for the policies around the
/// deadline.
fn late(parts: &Parts<'_>) -> (Rejection, Outcome) {
    let rejection = match parts.deadline {
        Some(budget) => budget
            .reporter
            .reject(Reason::Timeout)
            .with_callers_time(budget.time.is_callers()),
        None => Rejection::new(Reason::Timeout),
    };
    #[cfg(feature = "http")]
    let rejection = rejection.with_callers_body(crate::upload::is_callers_fault(true));
    rejection.count(parts.isolation.and_then(|isolation| isolation.target()));
    let outcome = rejection.outcome();
    (rejection, outcome)
}

/// Waits for the token, and calls the inner service then.
#[cold]
#[inline(never)]
#[expect(clippy::type_complexity, reason = "it is made of associated types")]
fn poll_queued<S, Req, P, X>(
    parked: Pin<&mut Parked<S, Req, P, P::Wait>>,
    timer: &mut TimerOf<P, X::Kind>,
    protocol: &X,
    cx: &mut Context<'_>,
) -> Poll<Result<(S::Future, FutureGuard<P, X::Kind>, X::Cold), (Rejection, X::Cold, Arc<Shared<P>>)>>
where
    S: Service<X::Inner>,
    X: Protocol<Req, P>,
    P: Policy<X::Kind>,
    P::Wait: WaitWith<S>,
{
    let mut this = parked.project();
    let shared = this.shared.clone();
    let polled = if const { <NeedsOf<P, X::Kind> as Needs>::Isolation::IS } {
        let wait = this.wait.as_mut();
        match panic::catch_unwind(AssertUnwindSafe(|| wait.poll(cx))) {
            Ok(polled) => polled,
            Err(payload) => {
                let Some(isolation) = this.wait.parts().isolation else {
                    panic::resume_unwind(payload);
                };
                let rejection = isolation.caught(payload);
                let (_, request) = this.call.take().expect(OVER);
                return Poll::Ready(Err((rejection, X::unread(request), shared)));
            }
        }
    } else {
        this.wait.as_mut().poll(cx)
    };
    let rejection = match polled {
        Poll::Ready(Ok(token)) => {
            let guard = Guard::running(shared.clone(), token);
            let (mut service, request) = this.call.take().expect(OVER);
            let started = start(&mut service, protocol, &shared, request, Some(guard));
            return Poll::Ready(started.map_err(|(rejection, cold)| (rejection, cold, shared)));
        }
        Poll::Ready(Err(rejection)) => {
            if let Some((_, request)) = this.call {
                X::with_head(request, |head| rejection.count(X::Kind::target(head)));
            }
            rejection
        }
        Poll::Pending => {
            match <NeedsOf<P, X::Kind> as Needs>::Deadline::get(timer) {
                Some(timer) => ready!(timer.poll(cx)),
                None => return Poll::Pending,
            }
            let _listening = Listening::new();
            let (rejection, outcome) = late(&this.wait.parts());
            this.wait.as_mut().expire(outcome);
            rejection
        }
    };
    let (_, request) = this.call.take().expect(OVER);
    Poll::Ready(Err((rejection, X::unread(request), shared)))
}

/// The answer to a rejected request. With isolation, a responder that panics is replaced by the
/// default one.
#[cold]
#[inline(never)]
#[expect(clippy::type_complexity, reason = "it is made of associated types")]
fn answer<S, Req, P, X>(
    protocol: &X,
    rejection: Rejection,
    memo: X::Memo,
    responder: Responder,
    cold: X::Cold,
    shared: &Shared<P>,
) -> Result<<X as Respond<Req, S::Response, S::Error, P>>::Response, S::Error>
where
    S: Service<<X as Protocol<Req, P>>::Inner>,
    X: Protocol<Req, P> + Respond<Req, S::Response, S::Error, P>,
    P: Policy<<X as Protocol<Req, P>>::Kind>,
{
    let isolation = if const { <NeedsOf<P, X::Kind> as Needs>::Isolation::IS } {
        shared.policy.parts(None).isolation
    } else {
        None
    };
    let Some(isolation) = isolation else {
        return protocol.reject(rejection, memo, &responder, cold);
    };
    let (again, default) = (rejection.clone(), by_default());
    let reject = || protocol.reject(rejection, memo, &responder, cold);
    panic::catch_unwind(AssertUnwindSafe(reject)).unwrap_or_else(|payload| {
        isolation.caught(payload);
        protocol.reject(again, memo, &default, X::Cold::default())
    })
}
