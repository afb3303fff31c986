//! The cold paths of a gate: a request waits, starts after a wait or with a limit, panics, is late,
//! or is rejected.

use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::future::{End, OVER, State, StateProj, Waits, report};
use super::guard::{Guard, Responder, Shared};
use super::polls;
use super::timer::TimerOf;
use super::{GateFuture, Payload};
use crate::outcome::{Completion, Outcome};
use crate::policy::needs::InFuture;
use crate::policy::{Choice, Needs, NeedsOf, Parts, Policy, Wait};
use crate::protocol::{KeptBody, Protocol, Respond};
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::request::RequestKind;
use crate::unwind;
use crate::upload;

/// Whether a gate calls [`GateFuture::start`] for a request that does not wait. The others do not
/// compile it.
pub(super) const fn starts<P: Policy<R>, R: RequestKind>() -> bool {
    NeedsOf::<P, R>::LIMIT || NeedsOf::<P, R>::DEADLINE || NeedsOf::<P, R>::POLLS
}

impl<S, Req, P, X> GateFuture<S, Req, P, X>
where
    S: Service<X::Inner>,
    X: Protocol<Req, P>,
    P: Policy<X::Kind>,
{
    /// Calls the inner service for a request whose size is limited, whose deadline is set, that has
    /// waited, or whose wait for the first poll counts. If the request limit rejects, this counts
    /// the rejection and settles the token.
    pub(super) fn start(
        service: &mut S,
        protocol: &X,
        shared: &Arc<Shared<P>>,
        request: Req,
        mut guard: Option<Guard<P, X::Kind>>,
        timer: TimerOf<P, X::Kind>,
        memo: X::Memo,
    ) -> Self {
        let register = || shared.policy.register();
        let mut kept = X::Kept::default();
        let start = || {
            let (request, max) = match &guard {
                Some(guard) => X::Kept::limit(request, &guard.parts(), &mut kept)?,
                None => (request, u64::MAX),
            };
            let request = protocol.pass(request, max, &kept);
            shared.reporter.admitted(&register);
            let polls = polls::begin::<P, X::Kind>();
            Ok((service.call(request), polls))
        };
        let started = if const { NeedsOf::<P, X::Kind>::ISOLATION } {
            match panic::catch_unwind(AssertUnwindSafe(start)) {
                Ok(started) => started,
                Err(payload) => {
                    shared.reporter.arrived(&register);
                    let rejection = caught(guard, payload);
                    kept.reclaim();
                    return Self::rejected(shared, protocol, rejection, memo, kept);
                }
            }
        } else {
            start()
        };
        match started {
            Ok((future, polls)) => {
                if let Some(guard) = &mut guard {
                    guard.set_running(false);
                }
                let guard = guard
                    .map(InFuture::<NeedsOf<P, X::Kind>>::some)
                    .unwrap_or_default();
                Self::called(future, guard, timer, memo, kept, polls, protocol)
            }
            Err(rejection) => {
                shared.reporter.arrived(&register);
                if let Some(mut guard) = guard {
                    guard.finish(|guard| guard.settle(Outcome::Ignored), Completion::Complete);
                }
                Self::rejected(shared, protocol, rejection, memo, kept)
            }
        }
    }

    /// Waits for the token, and then calls the inner service.
    #[cold]
    #[inline(never)]
    pub(super) fn poll_queued(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.as_mut().project();
        let StateProj::Queued { queued } = this.state.project() else {
            unreachable!("the caller has looked");
        };
        let parked = Waits::<Req, P, X>::get(queued).expect("it waits");
        let parked = parked.as_mut().project();
        let (shared, memo) = (parked.shared.clone(), *this.memo);
        if let Some(guard) = InFuture::<NeedsOf<P, X::Kind>>::get(this.guard) {
            guard.set_running(true);
        }
        let poll = || parked.wait.poll_token(cx);
        let polled = if const { NeedsOf::<P, X::Kind>::ISOLATION } {
            panic::catch_unwind(AssertUnwindSafe(poll))
        } else {
            Ok(poll())
        };
        let end = match polled {
            Ok(Poll::Ready(Ok(token))) => {
                let guard = match InFuture::<NeedsOf<P, X::Kind>>::take(this.guard) {
                    Some(mut guard) => {
                        guard.add(token);
                        guard
                    }
                    None => Guard::running(shared.clone(), token),
                };
                let (mut service, request) = parked.call.take().expect(OVER);
                let (timer, protocol) = (std::mem::take(this.timer), this.protocol.clone());
                let next = Self::start(
                    &mut service,
                    &protocol,
                    &shared,
                    request,
                    Some(guard),
                    timer,
                    memo,
                );
                self.set(next);
                return Poll::Ready(());
            }
            Ok(Poll::Ready(Err(rejection))) => {
                if let Some((_, request)) = parked.call {
                    X::with_head(request, memo, |head| {
                        rejection.count(X::Kind::target(head));
                    });
                }
                End::Rejected(rejection)
            }
            Ok(Poll::Pending) => {
                if let Some(guard) = InFuture::<NeedsOf<P, X::Kind>>::get(this.guard) {
                    guard.set_running(false);
                }
                match <NeedsOf<P, X::Kind> as Needs>::Deadline::get(this.timer) {
                    Some(timer) => ready!(timer.poll(cx)),
                    None => return Poll::Pending,
                }
                End::Late
            }
            Err(payload) => End::Panicked(payload),
        };
        let (_, request) = parked.call.take().expect(OVER);
        (*this.memo, *this.kept) = X::unsent(request);
        self.end(end);
        Poll::Ready(())
    }

    /// Ends a call before its response: settles and releases the token, and makes the rejection.
    #[cold]
    #[inline(never)]
    pub(super) fn end(self: Pin<&mut Self>, end: End) {
        let mut this = self.project();
        // The scope of this poll may still be open, but the code below judges.
        upload::end_poll();
        let shared = match InFuture::<NeedsOf<P, X::Kind>>::get(this.guard) {
            Some(guard) => guard.shared().clone(),
            None => match this.state.as_mut().project() {
                StateProj::Queued { queued } => {
                    let parked = Waits::<Req, P, X>::get(queued).expect("it waits");
                    parked.shared.clone()
                }
                _ => match end {
                    End::Panicked(payload) => panic::resume_unwind(payload),
                    _ => unreachable!("what is limited or timed has a guard"),
                },
            },
        };
        let mut _listening = None;
        if let End::Late = end {
            let settles = const { NeedsOf::<P, X::Kind>::SETTLE };
            let kept = settles.then(|| report::<P, X::Kind>(this.guard));
            _listening = upload::listen_to_end(kept);
        }
        // The inner future releases what it holds before the answer is made.
        let guard = InFuture::<NeedsOf<P, X::Kind>>::get(this.guard);
        let is_read = guard.is_some_and(|guard| this.kept.is_read_here(&guard.parts()));
        let is_left = matches!(end, End::Late) && !is_read;
        let mut drops = || this.state.set(State::Done);
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| {
            if is_left {
                upload::abandon();
                upload::rejecting(drops);
            } else {
                drops();
            }
        }));
        let mut guard = InFuture::<NeedsOf<P, X::Kind>>::take(this.guard);
        if let Err(payload) = dropped {
            let is_isolated = |guard: &Guard<_, _>| guard.parts().isolation.is_some();
            if let End::Panicked(_) = end {
                unwind::discard(payload);
            } else if let Some(guard) = guard.as_ref().filter(|guard| is_isolated(guard)) {
                guard.caught(payload);
            } else {
                caught(guard.take(), payload); // it unwinds
            }
        }
        let rejection = match (end, guard) {
            (End::Panicked(payload), guard) => caught(guard, payload),
            (End::Rejected(rejection), guard) => {
                if let Some(mut guard) = guard {
                    guard.finish(|guard| guard.settle(Outcome::Ignored), Completion::Complete);
                }
                rejection
            }
            (End::Late, Some(mut guard)) => {
                let timer = <NeedsOf<P, X::Kind> as Needs>::Deadline::get(this.timer);
                let is_callers = timer.is_some_and(|timer| timer.is_callers());
                let (rejection, outcome) = late(&guard.parts(), is_callers);
                #[cfg(feature = "http")]
                let rejection = rejection.with_body_elsewhere(is_left && upload::is_elsewhere());
                guard.finish(|guard| guard.expire(outcome), Completion::Complete);
                rejection
            }
            (End::Late, None) => unreachable!("what is timed has a guard"),
        };
        this.kept.reclaim();
        this.state.set(State::rejected(rejection, shared));
    }
}

/// Handles a panic under a guard: settles and releases the token, reports the panic, and makes a
/// rejection. Without isolation for this request, the panic unwinds further.
#[cold]
#[inline(never)]
pub(crate) fn caught<P: Policy<R>, R: RequestKind>(
    guard: Option<Guard<P, R>>,
    payload: Payload,
) -> Rejection {
    let Some(mut guard) = guard else {
        panic::resume_unwind(payload);
    };
    guard.finish(
        |guard| guard.settle(Outcome::Panicked),
        Completion::Panicked,
    );
    guard.parts().caught(payload)
}

/// Makes and counts the rejection of a request whose deadline passed. `is_callers` if it was that
/// of the caller. Returns it with the outcome for the policies before the timeout.
fn late(parts: &Parts<'_>, is_callers: bool) -> (Rejection, Outcome) {
    let rejection = match parts.deadline {
        Some(budget) => budget
            .reporter
            .reject(Reason::Timeout)
            .with_callers_time(is_callers),
        None => Rejection::new(Reason::Timeout),
    };
    #[cfg(feature = "http")]
    let rejection = rejection.with_callers_body(upload::is_callers_fault(true));
    if is_callers {
        upload::blame_callers_time();
    }
    rejection.count(parts.isolation.and_then(|isolation| isolation.target()));
    let outcome = rejection.outcome();
    (rejection, outcome)
}

impl<S, Req, P, X> GateFuture<S, Req, P, X>
where
    S: Service<<X as Protocol<Req, P>>::Inner>,
    X: Protocol<Req, P> + Respond<Req, S::Response, S::Error, P>,
    P: Policy<<X as Protocol<Req, P>>::Kind>,
{
    /// The answer to a rejected request. With isolation, the default answer replaces that of a
    /// responder that panics.
    #[cold]
    #[inline(never)]
    pub(super) fn answer(
        rejection: Rejection,
        shared: Arc<Shared<P>>,
        kept: X::Kept,
        memo: X::Memo,
        protocol: X,
    ) -> <Self as Future>::Output {
        let parts = if const { NeedsOf::<P, X::Kind>::ENDING || NeedsOf::<P, X::Kind>::ISOLATION } {
            shared.policy.parts(None)
        } else {
            Parts::default()
        };
        let Some(isolation) = parts.isolation else {
            return protocol.reject(rejection, memo, kept, &parts, &shared.responder);
        };
        let again = rejection.clone();
        let reject = || protocol.reject(rejection, memo, kept, &parts, &shared.responder);
        panic::catch_unwind(AssertUnwindSafe(reject)).unwrap_or_else(|payload| {
            isolation.caught(payload);
            let kept = X::Kept::default();
            protocol.reject(again, memo, kept, &parts, &Responder::default())
        })
    }
}
