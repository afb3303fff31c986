//! Classifiers of tower-http, of each version that a feature enables.

use std::sync::{Arc, Mutex, PoisonError};

use http::Response;

use self::sealed::Judge;
use super::classify::{AtEnd, Classifier, Verdict};
use crate::outcome::Outcome;

/// A classifier of tower-http: every `ClassifyResponse` that is `Clone`, `Send` and `Sync`, and has
/// a `ClassifyEos` that is `Send`.
///
/// `MINOR` is the version of tower-http: 6 for 0.6 (feature `tower-http`), 7 for 0.7 (feature
/// `tower-http-07`). The compiler infers it. The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a classifier of an enabled version of tower-http",
    note = "the feature `tower-http` is for tower-http 0.6, `tower-http-07` is for 0.7"
)]
pub trait ResponseClassifier<const MINOR: u8>: Judge<MINOR> {}

impl<C: Judge<MINOR>, const MINOR: u8> ResponseClassifier<MINOR> for C {}

mod sealed {
    use super::{AtEnd, Outcome, Response};

    #[expect(unnameable_types, reason = "what is sealed has no other implementor")]
    pub trait Judge<const MINOR: u8>: Send + Sync + 'static {
        /// The outcome, or the classifier of the end of the body.
        fn judge(&self, response: &Response<()>) -> Result<Outcome, AtEnd>;
    }
}

pub(crate) fn by_classifier<const MINOR: u8>(classifier: impl Judge<MINOR>) -> Classifier {
    Arc::new(move |head| {
        // The classifier needs a response: it gets one without a body.
        match head.with_response(|response| classifier.judge(response)) {
            Ok(outcome) => Verdict::Now(outcome),
            Err(at_end) => Verdict::AtEnd(at_end),
        }
    })
}

fn outcome<E>(result: Result<(), E>) -> Outcome {
    match result {
        Ok(()) => Outcome::Success,
        Err(_) => Outcome::Failure,
    }
}

macro_rules! version {
    ($minor:literal, $feature:literal, $tower_http:ident) => {
        #[cfg(feature = $feature)]
        impl<C> Judge<$minor> for C
        where
            C: ::$tower_http::classify::ClassifyResponse + Clone + Send + Sync + 'static,
            C::ClassifyEos: Send + 'static,
        {
            fn judge(&self, response: &Response<()>) -> Result<Outcome, AtEnd> {
                use ::$tower_http::classify::{ClassifiedResponse, ClassifyEos};

                match self.clone().classify_response(response) {
                    ClassifiedResponse::Ready(result) => Ok(outcome(result)),
                    ClassifiedResponse::RequiresEos(eos) => {
                        // The classifier need not be `Sync`, but the body that contains it must be.
                        let eos = Mutex::new(eos);
                        Err(Box::new(Box::new(move |trailers| {
                            let eos = eos.into_inner().unwrap_or_else(PoisonError::into_inner);
                            outcome(eos.classify_eos(trailers))
                        })))
                    }
                }
            }
        }
    };
}

version!(6, "tower-http", tower_http);
version!(7, "tower-http-07", tower_http_07);
