//! The plain protocol: any `Service`, with rejections as errors.

use crate::gate::guard::{FutureGuard, Responder};
use crate::gate::timer::TimerOf;
use crate::outcome::{Completion, Outcome};
use crate::policy::needs::InFuture;
use crate::policy::{Choice, Needs, NeedsOf, Parts, Policy};
use crate::protocol::{Classify, Plain, Protocol, Respond};
use crate::rejection::Rejection;
use crate::request::{PlainRequest, RequestKind, sealed};

/// The default outcome of a result.
#[inline]
pub(crate) fn outcome<Res, Err>(
    classify: &impl Classify<Res, Err>,
    result: &Result<Res, Err>,
) -> Outcome {
    let default = match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    };
    classify.classify(result).unwrap_or(default)
}

// === impl Plain ===

impl<E> sealed::Sealed for Plain<E> {}

impl<Req, P, E: Clone> Protocol<Req, P> for Plain<E> {
    type Kind = PlainRequest<Req>;
    type Inner = Req;
    type Memo = ();
    type Kept = ();

    #[inline(always)]
    fn with_head<T>(
        request: &Req,
        (): (),
        look: impl FnOnce(&<PlainRequest<Req> as RequestKind>::Head<'_>) -> T,
    ) -> T {
        look(request)
    }

    #[inline(always)]
    fn glance(_: &Req) {}

    #[inline(always)]
    fn inspect(_: &Req) {}

    #[inline(always)]
    fn pass(&self, request: Req, _: u64, (): &()) -> Req {
        request
    }
}

impl<Req, Res, Err, P, E> Respond<Req, Res, Err, P> for Plain<E>
where
    P: Policy<PlainRequest<Req>>,
    E: Classify<Res, Err>,
    Err: From<Rejection>,
{
    type Response = Res;
    type Carried = ();

    #[inline]
    fn reject(
        &self,
        rejection: Rejection,
        (): (),
        (): (),
        _: &Parts<'_>,
        _responder: &Responder,
    ) -> Result<Res, Err> {
        Err(rejection.into())
    }

    #[inline(always)]
    fn settle(
        &self,
        result: &mut Result<Res, Err>,
        (): (),
        guard: &mut FutureGuard<P, PlainRequest<Req>>,
        _: &mut TimerOf<P, PlainRequest<Req>>,
        (): &(),
    ) {
        // The guard stays in the future while foreign code runs, which may panic.
        if let Some(held) = InFuture::<NeedsOf<P, PlainRequest<Req>>>::get(guard) {
            if const { NeedsOf::<P, PlainRequest<Req>>::SETTLE } {
                let outcome = outcome(&self.results, result);
                let outcome = crate::upload::judged_call(outcome);
                held.settle(outcome);
            }
            held.set_running(false);
            held.release(Completion::Complete);
        }
    }

    #[inline(always)]
    fn wrap(&self, response: Res, (): ()) -> Res {
        response
    }
}
