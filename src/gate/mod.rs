//! The one Tower service of this crate: it puts a policy in front of an inner service.
//!
//! Every layer is a gate over one policy, and the recommended stack is a gate over a tuple of
//! policies. See [the reasons for the order](crate::stack#the-parts-of-a-server).
//!
//! # Order inside a gate
//!
//! The order is fixed. Panic isolation is outermost. Then the policies decide in the order of the
//! tuple. The deadline includes the time in the queue. The request limit is innermost. For another
//! order, nest layers.
//!
//! # Cancellation
//!
//! Dropping the future at any point drops the inner future, stops the wait, and releases the token.
//! A token without an outcome is settled with [`Outcome::Cancelled`]. Dropping the response body
//! releases the token too.
//!
//! # Panics
//!
//! A panic of the inner service unwinds through a gate without [`CatchPanic`](crate::CatchPanic).
//! The gate settles the token with [`Outcome::Panicked`] and releases it.
//!
//! # Readiness
//!
//! `poll_ready` polls the inner service, and reserves nothing of the policy: an idle clone holds no
//! permit. The policy decides in `call`. If it rejects a request, the gate keeps what the
//! `poll_ready` of the inner service has reserved, such as a slot of `tower::buffer`, until a later
//! call is admitted, or the gate is dropped. A queued request keeps the instance of the inner
//! service that was polled ready, and the gate continues with a clone of it.

mod classify;
mod cold;
mod future;
pub(crate) mod guard;
mod layer;
mod polls;
pub(crate) mod timer;

use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tower_service::Service;

use self::future::{Parked, State};
use self::guard::{FutureGuard, Shared};
use self::polls::PollsOf;
use self::timer::TimerOf;
#[cfg(doc)]
use crate::Outcome;
use crate::policy::needs::{InCall, InFuture};
use crate::policy::{Admission, Choice, Needs, NeedsOf, Parts, Policy, Wait, WaitWith};
use crate::protocol::{Http, KeptBody, Protocol, Respond};
use crate::rejection::Rejection;
use crate::request::RequestKind;

#[cfg(feature = "http")]
pub(crate) use self::cold::caught;
pub use self::future::GateFuture;
#[doc(hidden)]
pub use self::guard::Guard;
pub use self::layer::GateLayer;
#[doc(hidden)]
pub use self::timer::Timer;

/// The service of every layer: an inner service behind a [`Policy`]. [`GateLayer`] makes it.
///
/// Its error is that of the inner service. Over HTTP its response is an `http::Response` with a
/// [`Body`](crate::Body), unless you keep the type with
/// [`response_body`](GateLayer::response_body). It is `Clone` if the inner service is.
pub struct Gate<S, P, X = Http> {
    inner: S,
    shared: Arc<Shared<P>>,
    protocol: X,
    /// The payload of a panic in `poll_ready`: the next call answers it. The lock is never
    /// contended; it is there because a payload need not be `Sync`.
    unready: Option<Box<Mutex<Payload>>>,
}

type Payload = Box<dyn Any + Send>;

// === impl Gate ===

impl<S, P, X> Gate<S, P, X> {
    pub(crate) fn new(inner: S, shared: Arc<Shared<P>>, protocol: X) -> Self {
        Self {
            inner,
            shared,
            protocol,
            unready: None,
        }
    }

    /// The policy.
    pub fn policy(&self) -> &P {
        &self.shared.policy
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change it.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, P, X, Req> Service<Req> for Gate<S, P, X>
where
    S: Service<<X as Protocol<Req, P>>::Inner>,
    X: Protocol<Req, P> + Respond<Req, S::Response, S::Error, P>,
    P: Policy<<X as Protocol<Req, P>>::Kind>,
    P::Wait: Wait<Waits: WaitWith<S>>,
{
    type Response = <X as Respond<Req, S::Response, S::Error, P>>::Response;
    type Error = S::Error;
    type Future = GateFuture<S, Req, P, X>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if const { !NeedsOf::<P, X::Kind>::ISOLATION } {
            return self.inner.poll_ready(cx);
        }
        if self.unready.is_some() {
            return Poll::Ready(Ok(()));
        }
        let inner = &mut self.inner;
        match panic::catch_unwind(AssertUnwindSafe(|| inner.poll_ready(cx))) {
            Ok(polled) => polled,
            Err(payload) => {
                // There is no request yet that the gate can answer.
                self.unready = Some(Box::new(Mutex::new(payload)));
                Poll::Ready(Ok(()))
            }
        }
    }

    #[inline]
    #[expect(
        clippy::too_many_lines,
        reason = "each kind of gate has its way to the one call"
    )]
    fn call(&mut self, request: Req) -> Self::Future {
        if const { NeedsOf::<P, X::Kind>::ISOLATION } && self.unready.is_some() {
            let rejection = self.reject_unready::<Req>(&request);
            return self.reject(request, rejection);
        }
        // The gate needs these properties if it answers after the inner service has the request.
        let memo = if const {
            NeedsOf::<P, X::Kind>::ISOLATION
                || NeedsOf::<P, X::Kind>::DEADLINE
                || NeedsOf::<P, X::Kind>::LIMIT
        } {
            X::inspect(&request)
        } else {
            X::glance(&request)
        };
        // This calls foreign code, and so comes before there is a token.
        let length = X::Kept::length(&request);
        let shared = &*self.shared;
        let admit = || X::with_head(&request, memo, |head| shared.policy.admit(head));
        let admission = if const { NeedsOf::<P, X::Kind>::ISOLATION && !P::IS_OURS } {
            match panic::catch_unwind(AssertUnwindSafe(admit)) {
                Ok(admission) => admission,
                Err(payload) => {
                    let rejection = self.caught_early::<Req>(&request, payload);
                    return self.reject(request, rejection);
                }
            }
        } else {
            admit()
        };
        let token = match admission {
            Admission::Admit(token) => Some(token),
            Admission::Bypass => None,
            Admission::Wait(wait) => return self.call_early(request, Err(wait)),
            Admission::Reject(rejection) => {
                shared.reporter.arrived(&|| shared.policy.register());
                X::with_head(&request, memo, |head| {
                    rejection.count(X::Kind::target(head));
                });
                return self.reject(request, rejection);
            }
        };
        let counts = const { !NeedsOf::<P, X::Kind>::ISOLATION };
        if counts && polls::counts::<P, X::Kind>() {
            return self.call_early(request, Ok(token));
        }
        // Nothing panics from here to the guard.
        let parts = match &token {
            Some(token) => shared.policy.parts(Some(token)),
            None => Parts::default(),
        };
        if const { NeedsOf::<P, X::Kind>::DEADLINE }
            && parts.deadline.is_some_and(timer::is_set_early)
        {
            return self.call_early(request, Ok(token));
        }
        let Some((mut kept, max)) = X::Kept::sent(&parts, length) else {
            return self.call_early(request, Ok(token));
        };
        let timer = <NeedsOf<P, X::Kind> as Needs>::Deadline::some(Timer::new(parts.deadline));
        shared.reporter.admitted(&|| shared.policy.register());
        let (inner, protocol) = (&mut self.inner, &self.protocol);
        // If the gate ends the request body, it answers, and settles the token.
        let is_limited = const { NeedsOf::<P, X::Kind>::LIMIT } && length != 0;
        let is_guarded = const { InCall::<NeedsOf<P, X::Kind>>::IS } || is_limited;
        let mut guard = match token {
            Some(token) if is_guarded => {
                InFuture::<NeedsOf<P, X::Kind>>::some(Guard::running(self.shared.clone(), token))
            }
            _ => FutureGuard::<P, X::Kind>::default(),
        };
        if const { NeedsOf::<P, X::Kind>::ISOLATION } {
            let polls = polls::begin::<P, X::Kind>();
            // The closure borrows the request, which would otherwise be moved with it.
            let mut request = Some(request);
            let call = AssertUnwindSafe(|| {
                let request = request.take().expect("it is called once");
                inner.call(protocol.pass(request, max, &kept))
            });
            match panic::catch_unwind(call) {
                Ok(future) => GateFuture::called(future, guard, timer, memo, kept, polls, protocol),
                Err(payload) => {
                    let guard = InFuture::<NeedsOf<P, X::Kind>>::take(&mut guard);
                    let rejection = cold::caught(guard, payload);
                    kept.reclaim();
                    GateFuture::rejected(&self.shared, protocol, rejection, memo, kept)
                }
            }
        } else {
            if const { Guard::<P, X::Kind>::MARKS } {
                let future = inner.call(protocol.pass(request, max, &kept));
                if let Some(guard) = InFuture::<NeedsOf<P, X::Kind>>::get(&mut guard) {
                    guard.set_running(false);
                }
                let polls = PollsOf::<P, X::Kind>::default();
                return GateFuture::called(future, guard, timer, memo, kept, polls, protocol);
            }
            // The call is a field of the literal, so that its future is made in place.
            GateFuture {
                guard,
                timer,
                memo,
                protocol: protocol.clone(),
                state: State::Called {
                    future: inner.call(protocol.pass(request, max, &kept)),
                },
                polls: PollsOf::<P, X::Kind>::default(),
                kept,
            }
        }
    }
}

impl<S, P, X> Gate<S, P, X> {
    /// Calls the inner service with a token that the policy has granted before.
    pub(crate) fn call_admitted<Req>(
        &mut self,
        request: Req,
        token: P::Token,
    ) -> GateFuture<S, Req, P, X>
    where
        X: Protocol<Req, P>,
        S: Service<X::Inner>,
        P: Policy<X::Kind>,
    {
        let memo = X::glance(&request);
        let shared = &*self.shared;
        shared.reporter.admitted(&|| shared.policy.register());
        let guard = Guard::running(self.shared.clone(), token);
        let kept = X::Kept::default();
        let (inner, protocol) = (&mut self.inner, &self.protocol);
        let future = inner.call(protocol.pass(request, u64::MAX, &kept));
        GateFuture::admitted(future, guard, memo, protocol)
    }

    /// Rejects a request that the inner service has not got.
    #[inline(always)]
    fn reject<Req>(&self, request: Req, rejection: Rejection) -> GateFuture<S, Req, P, X>
    where
        X: Protocol<Req, P>,
        S: Service<X::Inner>,
        P: Policy<X::Kind>,
    {
        let (memo, kept) = X::unsent(request);
        GateFuture::rejected(&self.shared, &self.protocol, rejection, memo, kept)
    }

    /// The answer to a request after a panic in `poll_ready`.
    #[cold]
    #[inline(never)]
    fn reject_unready<Req>(&mut self, request: &Req) -> Rejection
    where
        X: Protocol<Req, P>,
        P: Policy<X::Kind>,
    {
        let payload = self.unready.take().expect("the caller has looked");
        let payload = payload.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.caught_early(request, payload)
    }

    /// A panic before there is a token.
    #[cold]
    #[inline(never)]
    fn caught_early<Req>(&self, request: &Req, payload: Payload) -> Rejection
    where
        X: Protocol<Req, P>,
        P: Policy<X::Kind>,
    {
        let shared = &*self.shared;
        shared.reporter.arrived(&|| shared.policy.register());
        let summary = X::with_head(request, X::glance(request), |head| X::Kind::summary(head));
        let mut parts = shared.policy.parts(None);
        if let Some(isolation) = &mut parts.isolation {
            isolation.request = summary.as_ref();
        }
        parts.caught(payload)
    }

    /// Calls the inner service if the request may be too large, if its deadline is set at once, or
    /// if its time until the first poll counts. If `admitted` is a wait, the request is queued
    /// first. It takes the whole request, so that the hot path need not have it in memory.
    #[cold]
    #[inline(never)]
    fn call_early<Req>(
        &mut self,
        mut request: Req,
        admitted: Result<Option<P::Token>, P::Wait>,
    ) -> GateFuture<S, Req, P, X>
    where
        X: Protocol<Req, P>,
        S: Service<X::Inner>,
        P: Policy<X::Kind>,
        P::Wait: Wait<Waits: WaitWith<S>>,
    {
        let (inner, shared, protocol) = (&mut self.inner, &self.shared, &self.protocol);
        let (token, wait) = match admitted {
            Ok(token) => (token, None),
            Err(mut wait) => (wait.take_earlier(), Some(wait)),
        };
        let mut guard = token.map(|token| Guard::running(shared.clone(), token));
        let memo = X::inspect(&request);
        let timer = match &guard {
            Some(guard) => timer::<Req, P, X>(&guard.parts(), &mut request),
            None => TimerOf::<P, X::Kind>::default(),
        };
        let Some(wait) = wait else {
            if const { !cold::starts::<P, X::Kind>() } {
                unreachable!("such a gate calls the inner service directly");
            }
            return GateFuture::start(inner, protocol, shared, request, guard, timer, memo);
        };
        shared.reporter.arrived(&|| shared.policy.register());
        // It clones the inner service.
        let take = AssertUnwindSafe(|| <P::Wait as Wait>::Waits::take_ready(inner));
        let service = match panic::catch_unwind(take) {
            Ok(service) => service,
            Err(payload) => {
                let rejection = cold::caught(guard, payload);
                return self.reject(request, rejection);
            }
        };
        let parked = Parked {
            wait,
            call: Some((service, request)),
            shared: shared.clone(),
        };
        if let Some(guard) = &mut guard {
            guard.set_running(false);
        }
        let guard = guard.map(InFuture::<NeedsOf<P, X::Kind>>::some);
        GateFuture {
            state: State::Queued {
                // It is boxed, so that the future of a request that does not wait is not as large.
                queued: <P::Wait as Wait>::Waits::some(Box::pin(parked)),
            },
            guard: guard.unwrap_or_default(),
            timer,
            memo,
            kept: X::Kept::default(),
            polls: PollsOf::<P, X::Kind>::default(),
            protocol: protocol.clone(),
        }
    }
}

/// The timer of a request. It is set at once if the caller gave the time, if the request gets it as
/// a [`Deadline`](crate::Deadline), or if one gate raises the time of another.
fn timer<Req, P, X>(parts: &Parts<'_>, request: &mut Req) -> TimerOf<P, X::Kind>
where
    X: Protocol<Req, P>,
    P: Policy<X::Kind>,
{
    if const { !NeedsOf::<P, X::Kind>::DEADLINE } {
        return TimerOf::<P, X::Kind>::default();
    }
    let mut timer = Timer::new(parts.deadline);
    if let Some(budget) = parts.deadline {
        if timer::is_set_early(budget) {
            X::set_timer(&mut timer, budget, request);
        }
    }
    <NeedsOf<P, X::Kind> as Needs>::Deadline::some(timer)
}

impl<S: Clone, P, X: Clone> Clone for Gate<S, P, X> {
    /// A clone has its own readiness: this instance alone answers a panic of its `poll_ready`.
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
            protocol: self.protocol.clone(),
            unready: None,
        }
    }
}

impl<S: fmt::Debug, P: fmt::Debug, X: fmt::Debug> fmt::Debug for Gate<S, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("inner", &self.inner)
            .field("policy", &self.shared.policy)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}
