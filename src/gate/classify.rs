//! The setters of a layer that classify what the inner service returns.

use std::sync::Arc;

use super::GateLayer;
#[cfg(any(feature = "tower-http-06", feature = "tower-http-07"))]
use crate::http::tower_http::{self, ResponseClassifier};
use crate::protocol::{ByResult, Opaque, Plain, Rejections};
#[cfg(feature = "http")]
use crate::{
    http::{self, ResponseHead},
    outcome::Outcome,
    protocol::{ByError, Http},
};

// === impl GateLayer ===

#[cfg(feature = "http")]
impl<P, In, Out, E> GateLayer<P, Http<In, Out, E>> {
    /// Classifies responses: the closure returns an [`Outcome`], or `None` for the default. By
    /// default, a 5xx is a failure, except 501 and 505, which are ignored like 429; the outcome of
    /// a gRPC response depends on its status, and that of an inner rejection on its reason. A
    /// failure that the [caller caused](crate::circuit_breaker#what-the-caller-caused) is ignored,
    /// also if the closure returns [`Outcome::Failure`].
    ///
    /// A later `classify` or `classify_with` replaces this one. The gate does not call the closure
    /// for inner rejections, nor if its policies need no outcome: a
    /// [`CircuitBreaker`](crate::CircuitBreaker) and your own policies need one, a
    /// [`ConcurrencyLimit`](crate::ConcurrencyLimit) or [`LagShed`](crate::LagShed) alone does not.
    /// The closure does not see the trailers, which contain the status of a gRPC response:
    /// `classify_with` (feature `tower-http-06` or `tower-http-07`) does.
    #[must_use]
    pub fn classify<F, O>(self, classify: F) -> Self
    where
        P: Clone,
        F: Fn(&ResponseHead<'_>) -> O + Send + Sync + 'static,
        O: Into<Option<Outcome>>,
    {
        let classifier = http::by_head(classify);
        self.with_shared(|shared| shared.classifier = Some(classifier))
    }

    /// Lets a [classifier of tower-http](https://docs.rs/tower-http/0.7/tower_http/classify)
    /// classify responses: at the head, or at the end of the body if the classifier needs that. The
    /// outcome of an inner rejection depends on its reason, and an error is a failure.
    ///
    /// The feature `tower-http-06` is for tower-http 0.6, `tower-http-07` is for 0.7. Both may be on.
    ///
    /// ```
    /// # #[cfg(feature = "tower-http-06")] {
    /// use seawall::{CircuitBreaker, CircuitBreakerLayer};
    /// use tower_http::classify::StatusInRangeAsFailures;
    ///
    /// let layer = CircuitBreakerLayer::new(CircuitBreaker::default())
    ///     .classify_with(StatusInRangeAsFailures::new(400..=599));
    /// # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
    /// # fits_a_router(layer);
    /// # }
    /// ```
    #[cfg(any(feature = "tower-http-06", feature = "tower-http-07"))]
    #[must_use]
    pub fn classify_with<const MINOR: u8>(self, classifier: impl ResponseClassifier<MINOR>) -> Self
    where
        P: Clone,
    {
        let classifier = tower_http::by_classifier(classifier);
        self.with_shared(|shared| shared.classifier = Some(classifier))
    }
}

/// How the layer classifies errors. Call at most one of these: a second one does not compile.
///
/// ```compile_fail,E0599
/// # use seawall::{CircuitBreaker, CircuitBreakerLayer, Outcome, Rejection};
/// let layer = CircuitBreakerLayer::new(CircuitBreaker::default()).find_rejections();
/// let layer = layer.classify_error(|_: &Rejection| Outcome::Ignored);
/// ```
#[cfg(feature = "http")]
impl<P, In, Out> GateLayer<P, Http<In, Out>> {
    /// Classifies errors of the inner service: the closure returns an [`Outcome`], or `None` for
    /// the default, which is a failure. Use it on clients, since a router has no errors. The
    /// closure names the type of the error:
    ///
    /// ```
    /// use std::error::Error as _;
    ///
    /// use hyper_util::client::legacy::Error;
    /// use seawall::{CircuitBreaker, CircuitBreakerLayer, Outcome, Rejection};
    ///
    /// let layer = CircuitBreakerLayer::new(CircuitBreaker::default()).classify_error(
    ///     |error: &Error| {
    ///         // Rejections of inner layers and errors of the request body are not failures of the
    ///         // server. Over HTTP/2, an error of the body is a reset like any other.
    ///         let rejected = Rejection::find(error).map(Rejection::outcome);
    ///         let hyper = error.source().and_then(|error| error.downcast_ref::<hyper::Error>());
    ///         let is_body = hyper.is_some_and(hyper::Error::is_user);
    ///         rejected.or(is_body.then_some(Outcome::Ignored))
    ///     },
    /// );
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn classify_error<F, Err, O>(self, classify: F) -> GateLayer<P, Http<In, Out, ByError<Err>>>
    where
        F: Fn(&Err) -> O + Send + Sync + 'static,
        O: Into<Option<Outcome>>,
    {
        self.with_protocol(|http| Http {
            request: http.request,
            response: http.response,
            errors: ByError(Arc::new(move |error| classify(error).into())),
        })
    }

    /// Finds a [`Rejection`](crate::Rejection) of an inner layer in boxed errors. The outcome then
    /// depends on its reason.
    ///
    /// It is not the default, since it needs `Err: 'static`: with a boxed error, this does not
    /// compile in an axum handler or a spawned task ("higher-ranked lifetime error", a limitation
    /// of rustc).
    #[must_use]
    pub fn find_rejections(self) -> GateLayer<P, Http<In, Out, Rejections>> {
        self.with_protocol(|http| Http {
            request: http.request,
            response: http.response,
            errors: Rejections,
        })
    }
}

/// How the layer classifies results. Call at most one of these: a second one does not compile.
impl<P> GateLayer<P, Plain> {
    /// Does not inspect errors: every `Err` is a failure, including a rejection of an inner layer.
    ///
    /// By default the gate inspects boxed errors, which needs `S::Error: 'static`. With
    /// `.map_err(BoxError::from)`, this does not compile in an axum handler or a spawned task
    /// ("higher-ranked lifetime error", a limitation of rustc). The following compiles:
    ///
    /// ```
    /// use axum::{Router, body::Body, extract::Request, http::StatusCode, routing::get};
    /// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    /// use seawall::{CircuitBreaker, CircuitBreakerLayer};
    /// use tower::{BoxError, ServiceBuilder, ServiceExt};
    ///
    /// let client = ServiceBuilder::new()
    ///     .layer(CircuitBreakerLayer::new(CircuitBreaker::default()).plain().opaque_errors())
    ///     .map_err(BoxError::from)
    ///     .service(Client::builder(TokioExecutor::new()).build_http::<Body>());
    /// let app: Router = Router::new().route("/", get(async move |request: Request| {
    ///     let response = client.oneshot(request).await;
    ///     response.map(|response| response.map(Body::new)).map_err(|_| StatusCode::BAD_GATEWAY)
    /// }));
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn opaque_errors(self) -> GateLayer<P, Plain<Opaque>> {
        self.with_protocol(|_| Plain { results: Opaque })
    }

    /// Classifies results: the closure returns an [`Outcome`](crate::Outcome), or `None` for the
    /// default of [`Plain`]. The gate does not call the closure if its policies need no outcome: a
    /// [`ConcurrencyLimit`](crate::ConcurrencyLimit) or [`LagShed`](crate::LagShed) alone.
    #[must_use]
    pub fn classify<F, O, Res, Err>(self, classify: F) -> GateLayer<P, Plain<ByResult<Res, Err>>>
    where
        F: Fn(&Result<Res, Err>) -> O + Send + Sync + 'static,
        O: Into<Option<crate::Outcome>>,
        Err: 'static,
    {
        use crate::protocol::Classify;

        self.with_protocol(|_| Plain {
            results: ByResult(Arc::new(move |result| {
                classify(result)
                    .into()
                    .or_else(|| Rejections.classify(result))
            })),
        })
    }
}
