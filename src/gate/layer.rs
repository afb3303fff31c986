//! The layer that makes gates, and its setters.

use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::Gate;
use super::guard::{Responder, Shared};
use crate::observe::Reporter;
use crate::policy::{Exempt, Mode, Switch, Switched};
use crate::protocol::{Http, Plain};
#[cfg(feature = "http")]
use crate::{
    http::{self, RequestHead, WireProtocol},
    protocol::{Converted, Wrapped},
    rejection::Rejection,
};

/// A layer that puts a [`Policy`](crate::policy::Policy) in front of a service.
///
/// All layers of this crate are aliases of this type, for example
/// [`ConcurrencyLimitLayer`](crate::ConcurrencyLimitLayer). The setters that all layers have are
/// here. You can call them in any order, after those of a single layer (`per_request`,
/// `response_body_timeout`, `on_panic`, …).
///
/// It is a cheap `Clone` with the same policy: one reference count.
pub struct GateLayer<P, X = Http> {
    shared: Arc<Shared<P>>,
    protocol: X,
}

// === impl GateLayer ===

impl<P> GateLayer<P> {
    /// Makes a layer from a policy of your own, or from a tuple of policies; see
    /// [`policy`](crate::policy).
    ///
    /// The gate counts admitted and exempt requests with the labels `layer="gate"` and `name=""`,
    /// which all such gates share. Rejections have the labels of your
    /// [`Reporter`](crate::Reporter).
    pub fn from_policy(policy: P) -> Self {
        Self::with_reporter(policy, Reporter::new("gate"))
    }

    /// A layer for a handle, whose reporter counts the admitted requests.
    pub(crate) fn from_handle(policy: P, reporter: impl FnOnce(&P) -> &Reporter) -> Self {
        let reporter = reporter(&policy).clone();
        Self::with_reporter(policy, reporter)
    }

    /// The reporter counts the admitted requests.
    pub(crate) fn with_reporter(policy: P, reporter: Reporter) -> Self {
        Self {
            shared: Arc::new(Shared {
                policy,
                reporter,
                responder: Responder::default(),
                #[cfg(feature = "http")]
                classifier: None,
            }),
            protocol: Http::default(),
        }
    }
}

impl<P, X> GateLayer<P, X> {
    /// The policy behind this gate.
    pub fn policy(&self) -> &P {
        &self.shared.policy
    }

    /// Puts the policy behind a [`Switch`], with which you turn the layer on and off while the
    /// service runs. A change applies to later requests. It costs one atomic read for each request.
    #[must_use]
    pub fn switched_by(self, switch: Switch) -> GateLayer<Switched<P>, X>
    where
        P: Clone,
    {
        self.map_policy(|policy| Switched::new(policy, switch))
    }

    /// Only counts the requests that the layer would reject or queue
    /// (`seawall_requests_would_reject_total`, [`Reporter::would_reject`]), and admits them without
    /// a token. To end the dry run while the service runs, use [`switched_by`](Self::switched_by).
    ///
    /// A drain, a timeout, a request limit and panic isolation have no dry run: this turns them
    /// off, also those in a tuple.
    #[must_use]
    pub fn dry_run(self) -> GateLayer<Switched<P>, X>
    where
        P: Clone,
    {
        self.switched_by(Switch::new(Mode::DryRun))
    }

    pub(crate) fn map_policy<Q>(self, map: impl FnOnce(P) -> Q) -> GateLayer<Q, X>
    where
        P: Clone,
    {
        let shared = Arc::unwrap_or_clone(self.shared);
        GateLayer {
            shared: Arc::new(Shared {
                policy: map(shared.policy),
                reporter: shared.reporter,
                responder: shared.responder,
                #[cfg(feature = "http")]
                classifier: shared.classifier,
            }),
            protocol: self.protocol,
        }
    }

    pub(super) fn with_protocol<Y>(self, protocol: impl FnOnce(X) -> Y) -> GateLayer<P, Y> {
        GateLayer {
            shared: self.shared,
            protocol: protocol(self.protocol),
        }
    }
}

impl<P> GateLayer<P, Http> {
    /// Makes a layer for services that are not HTTP. A rejection is the error of the service:
    /// `S::Error: From<Rejection>`. Call it before the setters that take closures: they then get
    /// plain requests and results. A `classify` or `respond_with` before it is for HTTP, and is
    /// dropped.
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
impl<P, In, Out, E> GateLayer<P, Http<In, Out, E>> {
    /// Exempts the requests for which the closure returns `true`: the policy does not see them.
    /// Use it for health checks. The closure runs for each request; a second call exempts further
    /// requests. See [`Exempt`] for what is counted.
    #[must_use]
    pub fn exempt<F>(self, exempt: F) -> GateLayer<Exempt<P, F>, Http<In, Out, E>>
    where
        P: Clone,
        F: Fn(&RequestHead<'_>) -> bool + Clone,
    {
        let reporter = self.shared.reporter.clone();
        self.map_policy(|policy| Exempt::new(policy, exempt).counted_by(&reporter))
    }

    pub(super) fn with_shared(self, change: impl FnOnce(&mut Shared<P>)) -> Self
    where
        P: Clone,
    {
        let mut shared = Arc::unwrap_or_clone(self.shared);
        change(&mut shared);
        Self {
            shared: Arc::new(shared),
            protocol: self.protocol,
        }
    }

    /// Replaces the answers of this layer: the closure makes the response to a request that the
    /// layer rejects. Start from [`Rejection::to_response`], which is the default. The gate puts
    /// the [`Rejection`] into the extensions of that response.
    ///
    /// The gate calls the closure only when it rejects. If the closure panics, a panic isolation in
    /// the same gate sends the default answer of the rejection, and one in an outer gate answers
    /// 500.
    #[must_use]
    pub fn respond_with<F>(self, respond: F) -> Self
    where
        P: Clone,
        F: Fn(&Rejection, WireProtocol) -> ::http::Response<bytes::Bytes> + Send + Sync + 'static,
    {
        self.with_shared(|shared| shared.responder = http::Responder::new(respond))
    }
}

#[cfg(feature = "http")]
impl<P, Out, E> GateLayer<P, Http<Wrapped, Out, E>> {
    /// Keeps the type of request bodies: if a [`RequestLimit`](crate::RequestLimit) must count a
    /// body, `convert` turns the counted body into one of that type. With axum, this saves an
    /// allocation:
    ///
    /// ```
    /// # use axum::{Router, routing::get};
    /// use axum::body::Body;
    /// use seawall::RequestLimitLayer;
    ///
    /// let layer = RequestLimitLayer::new(2 << 20).request_body(Body::new);
    /// # let _: Router = Router::new().route("/", get(async || "")).layer(layer);
    /// ```
    ///
    /// The gate passes on a body that is at its end, or whose `size_hint` is exactly 0, as it is.
    /// It converts and counts every other body.
    #[must_use]
    pub fn request_body<F>(self, convert: F) -> GateLayer<P, Http<Converted<F>, Out, E>> {
        self.with_protocol(|http| Http {
            request: Converted(convert),
            response: http.response,
            errors: http.errors,
        })
    }
}

#[cfg(feature = "http")]
impl<P, In, E> GateLayer<P, Http<In, Wrapped, E>> {
    /// Keeps the type of the inner service's response bodies: if the layer must watch a body, or
    /// answers itself, `convert` turns its body into one of that type. Use it if the type must not
    /// change, for example with `ServiceBuilder::option_layer`, or around a router under
    /// `axum::serve`:
    ///
    /// ```
    /// # use axum::{Router, routing::get};
    /// use axum::body::Body;
    /// use seawall::ConcurrencyLimitLayer;
    /// use tower::ServiceBuilder;
    ///
    /// let limit = Some(512);
    /// let layer = limit.map(|limit| ConcurrencyLimitLayer::new(limit).response_body(Body::new));
    /// let app: Router = Router::new()
    ///     .route("/", get(async || "hello"))
    ///     .layer(ServiceBuilder::new().option_layer(layer));
    /// # let _ = app;
    /// ```
    ///
    /// # Panics
    ///
    /// A panic of the closure unwinds out of the gate, also with panic isolation. The tokens of the
    /// request are released. A token whose outcome depends on the trailers is settled with
    /// [`Outcome::Cancelled`](crate::Outcome::Cancelled), any other is settled before.
    #[must_use]
    pub fn response_body<F>(self, convert: F) -> GateLayer<P, Http<In, Converted<F>, E>> {
        self.with_protocol(|http| Http {
            request: http.request,
            response: Converted(convert),
            errors: http.errors,
        })
    }
}

impl<P, E> GateLayer<P, Plain<E>> {
    /// Exempts the requests for which the closure returns `true`: the policy does not see them. The
    /// closure runs for each request; a second call exempts further requests.
    #[must_use]
    pub fn exempt<F, Req>(self, exempt: F) -> GateLayer<Exempt<P, F>, Plain<E>>
    where
        P: Clone,
        F: Fn(&Req) -> bool + Clone,
    {
        let reporter = self.shared.reporter.clone();
        self.map_policy(|policy| Exempt::new(policy, exempt).counted_by(&reporter))
    }
}

impl<S, P, X: Clone> Layer<S> for GateLayer<P, X> {
    type Service = Gate<S, P, X>;

    fn layer(&self, inner: S) -> Self::Service {
        Gate::new(inner, self.shared.clone(), self.protocol.clone())
    }
}

impl<P, X: Clone> Clone for GateLayer<P, X> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            protocol: self.protocol.clone(),
        }
    }
}

impl<P: fmt::Debug, X: fmt::Debug> fmt::Debug for GateLayer<P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateLayer")
            .field("policy", &self.shared.policy)
            .field("protocol", &self.protocol)
            .finish()
    }
}
