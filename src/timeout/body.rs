//! The policy that bounds the time of response bodies.

use super::Timeout;
#[cfg(doc)]
use super::TimeoutLayer;
use crate::observe::Reporter;
use crate::policy::{Admission, BodyBounds, Ended, Ending, NoWait, Parts, Policy};
use crate::request::RequestKind;

/// A policy that bounds the time of response bodies. The setters of [`TimeoutLayer`] make it.
#[derive(Clone, Debug)]
pub struct BodyTimeout {
    reporter: Reporter,
    pub(super) bounds: BodyBounds,
}

// === impl BodyTimeout ===

impl BodyTimeout {
    pub(crate) fn with_bounds(timeout: &Timeout, bounds: BodyBounds) -> Self {
        Self {
            reporter: timeout.shared.reporter.clone(),
            bounds,
        }
    }
}

impl<R: RequestKind> Policy<R> for BodyTimeout {
    type Token = ();
    type Wait = NoWait<(), Ended>;

    const IS_OURS: bool = true;

    #[inline(always)]
    fn admit(&self, _: &R::Head<'_>) -> Admission<(), Self::Wait> {
        Admission::Admit(())
    }

    #[inline(always)]
    fn parts<'a>(&'a self, _: Option<&'a ()>) -> Parts<'a> {
        Parts {
            ending: Some(Ending {
                reporter: &self.reporter,
                bounds: &self.bounds,
            }),
            ..Parts::default()
        }
    }
}
