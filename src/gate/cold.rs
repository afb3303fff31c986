//! The cold paths of a gate: a request waits, starts after a wait or with a limit, panics, is late,
//! or is rejected.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::guard::{FutureGuard, Guard, Shared};
use super::polls::{self, PollsOf};
use super::timer::TimerOf;
use crate::outcome::{Completion, Outcome};
use crate::policy::needs::InFuture;
use crate::policy::{Choice, Needs, NeedsOf, Parts, Policy, Wait, WaitWith};
use crate::protocol::{KeptBody, Protocol, Respond, by_default, responder};
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::request::RequestKind;
use crate::upload::{Listening, Report};

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

/// The values with which an inner call starts.
pub(super) type Call<S, Req, P, X> = (
    <S as Service<<X as Protocol<Req, P>>::Inner>>::Future,
    FutureGuard<P, <X as Protocol<Req, P>>::Kind>,
    <X as Protocol<Req, P>>::Kept,
    PollsOf<P, <X as Protocol<Req, P>>::Kind>,
);

/// An inner call, or the reason why there is none.
pub(super) type Started<S, Req, P, X> =
    Result<Call<S, Req, P, X>, (Rejection, <X as Protocol<Req, P>>::Kept)>;

pub(super) const OVER: &str = "a future is not polled after it is ready";

/// Whether a gate calls [`start`] for a request that does not wait. The others do not compile it.
pub(super) const fn starts<P: Policy<R>, R: RequestKind>() -> bool {
    <NeedsOf<P, R> as Needs>::Limit::IS
        || <NeedsOf<P, R> as Needs>::Deadline::IS
        || <NeedsOf<P, R> as Needs>::Polls::IS
}

/// Calls the inner service for a request whose size is limited, whose deadline is set, that has
/// waited, or whose wait for the first poll counts. A rejection is counted, and the guard is
/// settled.
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
    let start = || {
        let (request, kept, max) = match &guard {
            Some(guard) => X::Kept::limit(request, &guard.parts())?,
            None => (request, X::Kept::default(), u64::MAX),
        };
        let request = protocol.pass(request, max, &kept);
        shared.reporter.admitted(&|| shared.policy.register());
        let polls = polls::begin::<P, X::Kind>();
        Ok((service.call(request), kept, polls))
    };
    let begun = if const { <NeedsOf<P, X::Kind> as Needs>::Isolation::IS } {
        match panic::catch_unwind(AssertUnwindSafe(start)) {
            Ok(begun) => begun,
            Err(payload) => {
                shared.reporter.arrived(&|| shared.policy.register());
                return Err((caught(guard, payload), X::Kept::default()));
            }
        }
    } else {
        start()
    };
    let (future, kept, polls) = match begun {
        Ok(begun) => begun,
        Err((rejection, kept)) => {
            shared.reporter.arrived(&|| shared.policy.register());
            if let Some(mut guard) = guard {
                guard.finish(|guard| guard.settle(Outcome::Ignored), Completion::Complete);
            }
            return Err((rejection, kept));
        }
    };
    if let Some(guard) = &mut guard {
        guard.set_running(false);
    }
    let guard = guard
        .map(InFuture::<NeedsOf<P, X::Kind>>::some)
        .unwrap_or_default();
    Ok((future, guard, kept, polls))
}

/// Handles a panic under a guard: settles and releases the token, reports the panic, and makes a
/// rejection. Without isolation for this request, the panic unwinds further.
#[cold]
#[inline(never)]
pub(crate) fn caught<P: Policy<R>, R: RequestKind>(
    guard: Option<Guard<P, R>>,
    payload: Box<dyn Any + Send>,
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

#[cold]
#[inline(never)]
pub(super) fn unwound<P: Policy<R>, R: RequestKind>(
    guard: Option<Guard<P, R>>,
    payload: Box<dyn Any + Send>,
) -> (Rejection, Arc<Shared<P>>) {
    let shared = guard.as_ref().map(|guard| guard.shared().clone());
    let rejection = caught(guard, payload);
    (rejection, shared.expect("what is isolated has a guard"))
}

/// Answers a request whose body is too large or too slow. The answer replaces that of the inner
/// service.
#[cold]
#[inline(never)]
pub(super) fn overrun<P: Policy<R>, R: RequestKind>(
    guard: &mut FutureGuard<P, R>,
) -> Arc<Shared<P>> {
    let mut guard = InFuture::<NeedsOf<P, R>>::take(guard).expect("what is limited has a guard");
    guard.finish(|guard| guard.settle(Outcome::Ignored), Completion::Complete);
    guard.shared().clone()
}

/// Answers a request whose deadline has passed.
#[cold]
#[inline(never)]
pub(super) fn expired<P: Policy<R>, R: RequestKind>(
    guard: Option<Guard<P, R>>,
) -> (Rejection, Arc<Shared<P>>) {
    let mut guard = guard.expect("what is timed has a guard");
    let (rejection, outcome) = late(&guard.parts());
    guard.finish(|guard| guard.expire(outcome), Completion::Complete);
    (rejection, guard.shared().clone())
}

/// The rejection of a request that is late, already counted, and the outcome for the policies
/// around the deadline.
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

/// Waits for the token, and then calls the inner service.
#[cold]
#[inline(never)]
#[expect(clippy::type_complexity, reason = "it is made of associated types")]
pub(super) fn poll_queued<S, Req, P, X>(
    parked: Pin<&mut Parked<S, Req, P, P::Wait>>,
    timer: &mut TimerOf<P, X::Kind>,
    protocol: &X,
    cx: &mut Context<'_>,
) -> Poll<Result<Call<S, Req, P, X>, (Rejection, X::Kept, Arc<Shared<P>>)>>
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
                let rejection = this.wait.parts().caught(payload);
                let (_, request) = this.call.take().expect(OVER);
                return Poll::Ready(Err((rejection, X::Kept::unread(request), shared)));
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
            return Poll::Ready(started.map_err(|(rejection, kept)| (rejection, kept, shared)));
        }
        Poll::Ready(Err(rejection)) => {
            if let Some((_, request)) = this.call {
                X::with_head(request, X::glance(request), |head| {
                    rejection.count(X::Kind::target(head));
                });
            }
            rejection
        }
        Poll::Pending => {
            match <NeedsOf<P, X::Kind> as Needs>::Deadline::get(timer) {
                Some(timer) => ready!(timer.poll(cx)),
                None => return Poll::Pending,
            }
            let _listening = Listening::new(Report::NOTHING);
            let (rejection, outcome) = late(&this.wait.parts());
            if const { <NeedsOf<P, X::Kind> as Needs>::Isolation::IS && !P::IS_OURS } {
                let expire = || this.wait.as_mut().expire(outcome);
                if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(expire)) {
                    this.wait.parts().caught(payload);
                }
            } else {
                this.wait.as_mut().expire(outcome);
            }
            rejection
        }
    };
    let (_, request) = this.call.take().expect(OVER);
    Poll::Ready(Err((rejection, X::Kept::unread(request), shared)))
}

/// The answer to a rejected request. With isolation, the default answer replaces that of a
/// responder that panics.
#[cold]
#[inline(never)]
#[expect(clippy::type_complexity, reason = "it is made of associated types")]
pub(super) fn answer<S, Req, P, X>(
    protocol: &X,
    rejection: Rejection,
    memo: X::Memo,
    kept: X::Kept,
    shared: &Shared<P>,
) -> Result<<X as Respond<Req, S::Response, S::Error, P>>::Response, S::Error>
where
    S: Service<<X as Protocol<Req, P>>::Inner>,
    X: Protocol<Req, P> + Respond<Req, S::Response, S::Error, P>,
    P: Policy<<X as Protocol<Req, P>>::Kind>,
{
    let responder = responder(shared);
    let closes = const { <NeedsOf<P, X::Kind> as Needs>::Ending::IS }
        && shared.policy.parts(None).closes_connections();
    let memo = if closes { X::closing(memo) } else { memo };
    let isolation = if const { <NeedsOf<P, X::Kind> as Needs>::Isolation::IS } {
        shared.policy.parts(None).isolation
    } else {
        None
    };
    let Some(isolation) = isolation else {
        return protocol.reject(rejection, memo, &responder, kept);
    };
    let (again, default) = (rejection.clone(), by_default());
    let reject = || protocol.reject(rejection, memo, &responder, kept);
    panic::catch_unwind(AssertUnwindSafe(reject)).unwrap_or_else(|payload| {
        isolation.caught(payload);
        protocol.reject(again, memo, &default, X::Kept::default())
    })
}
