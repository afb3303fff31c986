//! How a gate is made.

use std::fmt;

use tower_layer::Layer;

use super::Gate;
use crate::policy::{DryRun, Exempt};
use crate::protocol::{ByHead, Http, Plain};
#[cfg(feature = "http")]
use crate::protocol::{NoRule, Problem};
#[cfg(feature = "http")]
use crate::rejection::Rejection;

/// Puts a [`Policy`](crate::policy::Policy) in front of a service.
///
/// The layers of this crate that decide at the door are aliases of it, for example
/// [`ConcurrencyLimitLayer`](crate::ConcurrencyLimitLayer).
#[derive(Clone)]
pub struct GateLayer<P, X = Http> {
    policy: P,
    protocol: X,
}

// === impl GateLayer ===

impl<P> GateLayer<P> {
    /// A gate with the policy, or what becomes one: `ConcurrencyLimitLayer::new(512)`, or `::new(limit.clone())` with a
    /// handle that is kept.
    ///
    /// # Panics
    ///
    /// If the conversion does, as for a limit of 0.
    pub fn new(policy: impl Into<P>) -> Self {
        Self::from_policy(policy.into())
    }

    /// A gate with a policy of your own; see [`policy`](crate::policy).
    pub fn from_policy(policy: P) -> Self {
        Self {
            policy,
            protocol: Http::default(),
        }
    }
}

impl<P, X> GateLayer<P, X> {
    /// Only counts what it would turn away (`seawall_requests_would_reject_total`, [`Meter::would_reject`]): such requests
    /// pass untracked. Nor does anybody wait: who would have to counts as turned away.
    ///
    /// [`Meter::would_reject`]: crate::Meter::would_reject
    #[must_use]
    pub fn dry_run(self) -> GateLayer<DryRun<P>, X> {
        GateLayer {
            policy: DryRun::new(self.policy),
            protocol: self.protocol,
        }
    }

    /// The policy behind this gate.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    pub(crate) fn into_parts(self) -> (P, X) {
        (self.policy, self.protocol)
    }

    fn with_protocol<Y>(self, protocol: impl FnOnce(X) -> Y) -> GateLayer<P, Y> {
        GateLayer {
            policy: self.policy,
            protocol: protocol(self.protocol),
        }
    }

    fn exempting<F>(self, exempt: F) -> GateLayer<Exempt<P, F>, X> {
        GateLayer {
            policy: Exempt::new(self.policy, exempt),
            protocol: self.protocol,
        }
    }
}

impl<P> GateLayer<P, Http> {
    /// For services that are not HTTP: a rejection is returned as the error, `S::Error: From<Rejection>`. Say so before
    /// the closures, which then look at plain requests and results.
    ///
    /// ```
    /// use seawall::{ConcurrencyLimitLayer, Rejection};
    /// use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let mut service = ServiceBuilder::new()
    ///     .layer(ConcurrencyLimitLayer::new(2).plain())
    ///     .service_fn(async |n: u32| Ok::<_, BoxError>(n + 1));
    /// assert_eq!(service.ready().await?.call(1).await?, 2);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn plain(self) -> GateLayer<P, Plain> {
        self.with_protocol(|_| Plain::default())
    }
}

#[cfg(feature = "http")]
impl<P, C, R> GateLayer<P, Http<C, R>> {
    /// Lets the requests pass, unasked and uncounted, for which the closure says `true`.
    #[must_use]
    pub fn exempt<F>(self, exempt: F) -> GateLayer<Exempt<P, F>, Http<C, R>>
    where
        F: Fn(&crate::RequestHead<'_>) -> bool + Clone,
    {
        self.exempting(exempt)
    }

    /// Says what an error of the inner service tells about it: an [`Outcome`](crate::Outcome), or `None` for the default, which is a
    /// failure. For clients, as a router has no errors. It comes after [`classify`](GateLayer::classify), is not asked about
    /// inner rejections or where nobody listens, either, and names the type of the error:
    ///
    /// ```
    /// use seawall::{CircuitBreaker, CircuitBreakerLayer, Outcome};
    /// use hyper_util::client::legacy::Error;
    ///
    /// // That a request body could not be read is not the server's fault.
    /// let layer = CircuitBreakerLayer::new(CircuitBreaker::default())
    ///     .classify_error(|error: &Error| (!error.is_connect()).then_some(Outcome::Ignored));
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn classify_error<F, E, O>(
        self,
        classify: F,
    ) -> GateLayer<P, Http<crate::protocol::WithErrors<C, F>, R>>
    where
        F: Fn(&E) -> O + Clone,
        O: Into<Option<crate::Outcome>>,
    {
        self.with_protocol(|http| Http {
            classify: crate::protocol::WithErrors {
                heads: http.classify,
                errors: classify,
            },
            respond: http.respond,
        })
    }
}

#[cfg(feature = "http")]
impl<P, R> GateLayer<P, Http<NoRule, R>> {
    /// Says what a response tells about the service: an [`Outcome`](crate::Outcome), or `None` for the default (5xx is a failure, 429
    /// is ignored, gRPC goes by its status, an inner rejection by its reason). It is not asked about inner rejections, nor where
    /// nobody listens: a [`CircuitBreaker`](crate::CircuitBreaker) does and your own tickets do, a
    /// [`ConcurrencyLimit`](crate::ConcurrencyLimit) or [`LagShed`](crate::LagShed) alone does not. What comes after the head, as a gRPC status
    /// in the trailers, it does not see: `classify_with` (feature `tower-http`) does.
    #[must_use]
    pub fn classify<F, O>(self, classify: F) -> GateLayer<P, Http<ByHead<F>, R>>
    where
        F: Fn(&crate::ResponseHead<'_>) -> O + Clone,
        O: Into<Option<crate::Outcome>>,
    {
        self.with_protocol(|http| Http {
            classify: ByHead(classify),
            respond: http.respond,
        })
    }
}

#[cfg(feature = "tower-http")]
impl<P, R> GateLayer<P, Http<NoRule, R>> {
    /// Lets a classifier of [`tower_http::classify`] say what a response tells about the service: at its head, or at the end of
    /// its body where that is when it knows. An inner rejection speaks for itself, and an error is a failure. As
    /// [`classify`](GateLayer::classify), it is not asked where nobody listens.
    ///
    /// ```
    /// use seawall::{CircuitBreaker, CircuitBreakerLayer};
    /// use tower_http::classify::StatusInRangeAsFailures;
    ///
    /// let layer = CircuitBreakerLayer::new(CircuitBreaker::default())
    ///     .classify_with(StatusInRangeAsFailures::new(400..=599));
    /// # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
    /// # fits_a_router(layer);
    /// ```
    #[must_use]
    pub fn classify_with<C>(
        self,
        classifier: C,
    ) -> GateLayer<P, Http<crate::protocol::ByClassifier<C>, R>>
    where
        C: tower_http::classify::ClassifyResponse + Clone,
    {
        self.with_protocol(|http| Http {
            classify: crate::protocol::ByClassifier(classifier),
            respond: http.respond,
        })
    }
}

#[cfg(feature = "http")]
impl<P, C> GateLayer<P, Http<C, Problem>> {
    /// Makes the answers. [`Rejection::to_response`] is the default to start from; the rejection is put into the
    /// response's extensions afterwards in any case.
    ///
    /// Like every closure that a layer is given, it is cloned with the service and for each request: what it captures
    /// belongs in an `Arc`.
    #[must_use]
    pub fn respond_with<F>(
        self,
        respond: F,
    ) -> GateLayer<P, Http<C, crate::protocol::RespondWith<F>>>
    where
        F: Fn(&Rejection, crate::Wire) -> http::Response<bytes::Bytes> + Clone,
    {
        self.with_protocol(|http| http.respond_with(respond))
    }
}

impl<P, C> GateLayer<P, Plain<C>> {
    /// Lets the requests pass, unasked and uncounted, for which the closure says `true`.
    #[must_use]
    pub fn exempt<F, Req>(self, exempt: F) -> GateLayer<Exempt<P, F>, Plain<C>>
    where
        F: Fn(&Req) -> bool + Clone,
    {
        self.exempting(exempt)
    }
}

impl<P> GateLayer<P, Plain> {
    /// Says what a result tells about the service: an [`Outcome`](crate::Outcome), or `None` for the default of [`Plain`]. It is
    /// not asked where nobody listens: behind a [`ConcurrencyLimit`](crate::ConcurrencyLimit) or [`LagShed`](crate::LagShed) alone.
    #[must_use]
    pub fn classify<F, O, Res, Err>(self, classify: F) -> GateLayer<P, Plain<ByHead<F>>>
    where
        F: Fn(&Result<Res, Err>) -> O + Clone,
        O: Into<Option<crate::Outcome>>,
    {
        self.with_protocol(|_| Plain {
            classify: ByHead(classify),
        })
    }
}

impl<S, P: Clone, X: Clone> Layer<S> for GateLayer<P, X> {
    type Service = Gate<S, P, X>;

    fn layer(&self, inner: S) -> Self::Service {
        Gate {
            inner,
            policy: self.policy.clone(),
            protocol: self.protocol.clone(),
        }
    }
}

impl<P: fmt::Debug, X: fmt::Debug> fmt::Debug for GateLayer<P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateLayer")
            .field("policy", &self.policy)
            .field("protocol", &self.protocol)
            .finish()
    }
}
