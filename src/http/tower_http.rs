//! Classifiers of tower-http, of each version that a feature enables: theirs for the gates of this
//! crate, and one of this crate for their layers.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};

use super::classify::{ByTrailers, Classifier, Verdict};
use crate::outcome::Outcome;
use crate::rejection::Rejection;

/// A classifier of tower-http: every `ClassifyResponse` that is `Clone`, `Send` and `Sync`, and has
/// a `ClassifyEos` that is `Send`.
///
/// `MINOR` is the version of tower-http: 6 for 0.6 (feature `tower-http-06`), 7 for 0.7 (feature
/// `tower-http-07`). The compiler infers it. The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a classifier of an enabled version of tower-http",
    note = "the feature `tower-http-06` is for tower-http 0.6, `tower-http-07` is for 0.7"
)]
pub trait ResponseClassifier<const MINOR: u8>: Send + Sync + 'static {
    /// The outcome, or the classifier of the end of the body.
    #[doc(hidden)]
    fn judge(&self, response: &Response<()>) -> Result<Outcome, ByTrailers>;
}

/// A classifier for layers of tower-http, such as `TraceLayer`, under which a rejection is no
/// failure. It lets another classifier classify all other responses.
///
/// By default `TraceLayer` logs each 5xx as an `ERROR`. Under overload, it would log each request
/// that is shed.
///
/// ```
/// # #[cfg(feature = "tower-http-06")] {
/// use seawall::IgnoreRejections;
/// use tower_http::classify::{GrpcErrorsAsFailures, ServerErrorsAsFailures};
/// use tower_http::trace::TraceLayer;
///
/// let http = TraceLayer::new(IgnoreRejections::new(ServerErrorsAsFailures::make_classifier()));
/// let grpc = TraceLayer::new(IgnoreRejections::new(GrpcErrorsAsFailures::make_classifier()));
/// # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
/// # fits_a_router(http);
/// # fits_a_router(grpc);
/// # }
/// ```
///
/// - **What it ignores** are rejections that are
///   [no failure of the service](Rejection::is_dependency_failure). A panic and a timeout are such
///   failures, so that the other classifier classifies their answers. It also classifies streams
///   that end with a failure.
/// - **Where it goes**: outside the layers of this crate. The rejection is in the extensions of the
///   response.
/// - **Errors** are failures, as the traits of tower-http demand. The layers over HTTP answer with a
///   response.
///
/// It implements `MakeClassifier` around a `MakeClassifier`, and `ClassifyResponse` around a
/// `ClassifyResponse`: of tower-http 0.6 with the feature `tower-http-06`, of 0.7 with
/// `tower-http-07`.
#[derive(Clone, Copy, Debug, Default)]
pub struct IgnoreRejections<C> {
    inner: C,
}

// === impl IgnoreRejections ===

impl<C> IgnoreRejections<C> {
    /// Lets this classifier classify what is no rejection.
    pub const fn new(inner: C) -> Self {
        Self { inner }
    }
}

/// Whether the response is a rejection that is no failure of the service.
fn is_ignored<B>(response: &Response<B>) -> bool {
    let rejection = response.extensions().get::<Rejection>();
    rejection.is_some_and(|rejection| !rejection.is_dependency_failure())
}

// === impl ResponseClassifier ===

pub(crate) fn by_classifier<const MINOR: u8>(
    classifier: impl ResponseClassifier<MINOR>,
) -> Classifier {
    Arc::new(move |head| {
        // The classifier needs a response: it gets one without a body.
        match head.with_response(|response| classifier.judge(response)) {
            Ok(outcome) => Verdict::Now(outcome),
            Err(by_trailers) => Verdict::AtEnd(by_trailers),
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
        impl<C> ResponseClassifier<$minor> for C
        where
            C: ::$tower_http::classify::ClassifyResponse + Clone + Send + Sync + 'static,
            C::ClassifyEos: Send + 'static,
        {
            fn judge(&self, response: &Response<()>) -> Result<Outcome, ByTrailers> {
                use ::$tower_http::classify::{ClassifiedResponse, ClassifyEos};

                match self.clone().classify_response(response) {
                    ClassifiedResponse::Ready(result) => Ok(outcome(result)),
                    ClassifiedResponse::RequiresEos(eos) => {
                        // The classifier need not be `Sync`, but the body that contains it must be.
                        let eos = Mutex::new(eos);
                        Err(Box::new(move |trailers| {
                            let eos = eos.into_inner().unwrap_or_else(PoisonError::into_inner);
                            outcome(eos.classify_eos(trailers))
                        }))
                    }
                }
            }
        }

        #[cfg(feature = $feature)]
        impl<M> ::$tower_http::classify::MakeClassifier for IgnoreRejections<M>
        where
            M: ::$tower_http::classify::MakeClassifier,
        {
            type Classifier = IgnoreRejections<M::Classifier>;
            type FailureClass = M::FailureClass;
            type ClassifyEos = M::ClassifyEos;

            fn make_classifier<B>(&self, request: &Request<B>) -> Self::Classifier {
                IgnoreRejections::new(self.inner.make_classifier(request))
            }
        }

        #[cfg(feature = $feature)]
        impl<C> ::$tower_http::classify::ClassifyResponse for IgnoreRejections<C>
        where
            C: ::$tower_http::classify::ClassifyResponse,
        {
            type FailureClass = C::FailureClass;
            type ClassifyEos = C::ClassifyEos;

            fn classify_response<B>(
                self,
                response: &Response<B>,
            ) -> ::$tower_http::classify::ClassifiedResponse<C::FailureClass, C::ClassifyEos> {
                if is_ignored(response) {
                    return ::$tower_http::classify::ClassifiedResponse::Ready(Ok(()));
                }
                self.inner.classify_response(response)
            }

            fn classify_error<E>(self, error: &E) -> C::FailureClass
            where
                E: fmt::Display + 'static,
            {
                self.inner.classify_error(error)
            }
        }
    };
}

version!(6, "tower-http-06", tower_http);
version!(7, "tower-http-07", tower_http_07);
