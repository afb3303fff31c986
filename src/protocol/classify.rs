//! What judges an HTTP response: a closure on its head, a classifier of tower-http's, or nothing of the user's.

use std::fmt;

use http::{HeaderMap, Response};

use super::{ByHead, NoRule, ResponseHead};
use crate::policy::Outcome;

/// Judges a response.
pub trait Classify: Clone {
    /// What is left to judge when the body ends.
    type AtEnd: AtEnd;

    /// The verdict at the head, which is the same afterwards.
    fn classify<B>(&self, response: &Response<B>) -> Verdict<Self::AtEnd>;
}

/// Judges a response at the end of its body.
pub trait AtEnd {
    /// The verdict by the trailers, or by there being none.
    fn verdict(self, trailers: Option<&HeaderMap>) -> Outcome;
}

/// What the head says.
#[derive(Debug)]
pub enum Verdict<E> {
    Now(Outcome),
    AtEnd(E),
    /// What the protocol makes of it.
    ByDefault,
}

/// Nothing is left: the head says it all, or the protocol knows.
#[derive(Clone, Copy, Debug)]
pub enum Nothing {}

/// Judges an error of the inner service.
pub trait ClassifyError<E> {
    /// `None` for the default.
    fn classify_error(&self, error: &E) -> Option<Outcome>;
}

/// The same, and a closure that judges the errors.
#[derive(Clone, Copy)]
pub struct WithErrors<C, F> {
    pub(crate) heads: C,
    pub(crate) errors: F,
}

/// A classifier of `tower_http::classify`.
#[cfg(feature = "tower-http")]
#[derive(Clone, Copy, Debug)]
pub struct ByClassifier<C>(pub(crate) C);

/// What is left of it for the end of the body.
#[cfg(feature = "tower-http")]
#[derive(Debug)]
pub struct ByEos<E>(E);

// === impl Classify ===

impl AtEnd for Nothing {
    fn verdict(self, _: Option<&HeaderMap>) -> Outcome {
        match self {}
    }
}

impl Classify for NoRule {
    type AtEnd = Nothing;

    #[inline]
    fn classify<B>(&self, _: &Response<B>) -> Verdict<Nothing> {
        Verdict::ByDefault
    }
}

impl<F, R> Classify for ByHead<F>
where
    F: Fn(&ResponseHead<'_>) -> R + Clone,
    R: Into<Option<Outcome>>,
{
    type AtEnd = Nothing;

    fn classify<B>(&self, response: &Response<B>) -> Verdict<Nothing> {
        let outcome = (self.0)(&ResponseHead::from(response)).into();
        outcome.map_or(Verdict::ByDefault, Verdict::Now)
    }
}

impl<C: Classify, F: Clone> Classify for WithErrors<C, F> {
    type AtEnd = C::AtEnd;

    fn classify<B>(&self, response: &Response<B>) -> Verdict<C::AtEnd> {
        self.heads.classify(response)
    }
}

impl<C, F> fmt::Debug for WithErrors<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WithErrors(..)")
    }
}

// === impl ClassifyError ===

impl<E> ClassifyError<E> for NoRule {
    fn classify_error(&self, _: &E) -> Option<Outcome> {
        None
    }
}

impl<E, F> ClassifyError<E> for ByHead<F> {
    fn classify_error(&self, _: &E) -> Option<Outcome> {
        None
    }
}

#[cfg(feature = "tower-http")]
impl<E, C> ClassifyError<E> for ByClassifier<C> {
    fn classify_error(&self, _: &E) -> Option<Outcome> {
        None
    }
}

impl<E, C, F, O> ClassifyError<E> for WithErrors<C, F>
where
    F: Fn(&E) -> O,
    O: Into<Option<Outcome>>,
{
    fn classify_error(&self, error: &E) -> Option<Outcome> {
        (self.errors)(error).into()
    }
}

#[cfg(feature = "tower-http")]
mod by_classifier {
    use tower_http::classify::{ClassifiedResponse, ClassifyEos, ClassifyResponse};

    use super::*;

    fn outcome<E>(result: Result<(), E>) -> Outcome {
        match result {
            Ok(()) => Outcome::Success,
            Err(_) => Outcome::Failure,
        }
    }

    impl<C: ClassifyResponse + Clone> Classify for ByClassifier<C> {
        type AtEnd = ByEos<C::ClassifyEos>;

        fn classify<B>(&self, response: &Response<B>) -> Verdict<Self::AtEnd> {
            match self.0.clone().classify_response(response) {
                ClassifiedResponse::Ready(result) => Verdict::Now(outcome(result)),
                ClassifiedResponse::RequiresEos(eos) => Verdict::AtEnd(ByEos(eos)),
            }
        }
    }

    impl<E: ClassifyEos> AtEnd for ByEos<E> {
        fn verdict(self, trailers: Option<&HeaderMap>) -> Outcome {
            outcome(self.0.classify_eos(trailers))
        }
    }
}
