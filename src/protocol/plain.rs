//! Any `Service`: a rejection is an error.

use super::{Inspect, Kind, Plain, PlainView, Protocol, Rule, View};
use crate::policy::{End, Held, Interest, Outcome, Ticket};
use crate::rejection::Rejection;

/// What a result says where nobody classifies it.
#[inline]
pub(crate) fn plain_outcome<T, E: 'static>(result: &Result<T, E>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(error) => Rejection::find(error).map_or(Outcome::Failure, Rejection::outcome),
    }
}

impl<C: Clone> Kind for Plain<C> {
    type Memo = ();
    type Hold<T: Ticket> = ();
}

impl<Req, C: Clone> Inspect<Req> for Plain<C> {
    type View = PlainView<Req>;

    #[inline]
    fn with_head<R>(
        &self,
        request: &Req,
        look: impl FnOnce(&<Self::View as View>::Head<'_>) -> R,
    ) -> R {
        look(request)
    }

    #[inline]
    fn glance(&self, _: &Req) {}

    #[inline]
    fn inspect(&self, _: &Req) {}
}

impl<C, Res, Err> Protocol<Res, Err> for Plain<C>
where
    C: Rule<PlainView<Result<Res, Err>>, Outcome> + Clone,
    Err: From<Rejection> + 'static,
{
    type Response<W> = Res;

    #[inline]
    fn reject<W>(&self, rejection: Rejection, (): (), _: W) -> Result<Res, Err> {
        Err(rejection.into())
    }

    fn reject_by_default<W>(&self, rejection: Rejection, (): (), _: W) -> Result<Res, Err> {
        Err(rejection.into())
    }

    #[inline]
    fn wrap<W>(&self, response: Res, _: W) -> Res {
        response
    }

    #[inline]
    fn complete<T: Ticket>(
        &self,
        result: Result<Res, Err>,
        (): (),
        held: &mut Option<Held<T>>,
    ) -> Result<Res, Err> {
        if let Some(now) = held {
            if now.interest() >= Interest::Outcome {
                let classified = now.watch(|| self.classify.apply(&result));
                now.settle(classified.unwrap_or_else(|| plain_outcome(&result)));
            }
            now.end(End::Complete);
            *held = None;
        }
        result
    }
}
