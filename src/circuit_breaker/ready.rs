//! A breaker for the endpoints of a load balancer: while it is open, the endpoint is not ready.
//!
//! # Where it goes
//!
//! Around each endpoint under `tower::balance` or `tower::ready_cache`, which call another endpoint
//! if one is not ready. Do not use it on a server, nor where there is no other endpoint: a call
//! would wait instead of being rejected.
//!
//! ```
//! use seawall::CircuitBreaker;
//! use seawall::circuit_breaker::CircuitBreakerReadyLayer;
//! use tower::balance::p2c::Balance;
//! use tower::discover::ServiceList;
//! use tower::load::Constant;
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let endpoint = |number: u32| {
//!     let service = service_fn(move |n: u32| async move { Ok::<_, BoxError>(n + number) });
//!     let breaker = CircuitBreaker::default();
//!     Constant::new(CircuitBreakerReadyLayer::new(breaker).plain().layer(service), 1)
//! };
//! let endpoints = ServiceList::new::<u32>([endpoint(1), endpoint(2), endpoint(3)]);
//! let mut balance = Balance::new(endpoints);
//! assert!((2..5).contains(&balance.ready().await?.call(1).await?));
//! # Ok(()) }
//! ```
//!
//! When all breakers are open, no endpoint is ready: put `tower::load_shed` around the balancer, or
//! a timeout around its `ready()`. Put a load measurement, such as `PendingRequests`, around this
//! service.
//!
//! # Readiness
//!
//! This is the only service of this crate whose `poll_ready` reserves something. Ready means that
//! the breaker has admitted a call, and `call` makes that call in any case. Another `poll_ready`
//! checks whether the breaker would still admit it. A clone has no reservation. A reserved probe
//! without a call keeps its slot until the service is dropped or the half-open time is over. At the
//! end of the half-open time, the breaker ignores such a probe and decides by the others. If no
//! call was made, it opens again.
//!
//! A service that is not ready is woken when the open time is over, when a probe releases its slot,
//! and when the state changes. This needs a Tokio runtime with a time driver.
//!
//! The service returns an error of the inner `poll_ready`, and does not count it as a call.
//!
//! # Cost
//!
//! The costs are [those of the breaker](super#cost), and a reference count for each reservation. A
//! service that waits allocates its timer.
//!
//! # Cancellation
//!
//! A service that is dropped releases its reservation. A call is cancelled
//! [as in the layer](super#cancellation).
//!
//! # Panics
//!
//! `call` panics without a `poll_ready` that was ready.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tower_layer::Layer;
use tower_service::Service;

use super::shared::CircuitToken;
use super::{CircuitBreaker, CircuitBreakerLayer};
use crate::clock;
use crate::gate::{Gate, GateFuture};
use crate::protocol::{Http, Plain, Protocol, Respond};

/// A layer that puts a [`CircuitBreaker`] around an endpoint. The endpoint is not ready while the
/// breaker is open.
///
/// To classify outcomes, make it from a [`CircuitBreakerLayer`]:
/// `CircuitBreakerReadyLayer::from(CircuitBreakerLayer::new(breaker).classify(..))`. It does not
/// use the answers of that layer, since it rejects nothing.
#[derive(Clone, Debug)]
pub struct CircuitBreakerReadyLayer<X = Http> {
    gate: CircuitBreakerLayer<X>,
}

/// An endpoint that is not ready while its breaker is open. [`CircuitBreakerReadyLayer`] makes it.
pub struct CircuitBreakerReady<S, X = Http> {
    gate: Gate<S, CircuitBreaker, X>,
    /// A token that is reserved for the next call.
    grant: Option<CircuitToken>,
    /// Ends when the breaker may admit a call.
    waiting: Option<Waiting>,
}

type Waiting = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

// === impl CircuitBreakerReadyLayer ===

impl CircuitBreakerReadyLayer {
    /// Makes a layer with this breaker.
    pub fn new(breaker: impl Into<CircuitBreaker>) -> Self {
        CircuitBreakerLayer::new(breaker).into()
    }

    /// For endpoints that are not HTTP; see [`Plain`].
    #[must_use]
    pub fn plain(self) -> CircuitBreakerReadyLayer<Plain> {
        self.gate.plain().into()
    }
}

impl<X> From<CircuitBreakerLayer<X>> for CircuitBreakerReadyLayer<X> {
    fn from(gate: CircuitBreakerLayer<X>) -> Self {
        Self { gate }
    }
}

impl<S, X: Clone> Layer<S> for CircuitBreakerReadyLayer<X> {
    type Service = CircuitBreakerReady<S, X>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreakerReady {
            gate: self.gate.layer(inner),
            grant: None,
            waiting: None,
        }
    }
}

// === impl CircuitBreakerReady ===

impl<S, X> CircuitBreakerReady<S, X> {
    /// The breaker.
    pub fn breaker(&self) -> &CircuitBreaker {
        self.gate.policy()
    }

    /// Ready when the breaker has admitted a call.
    fn poll_grant(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let breaker = &self.breaker().shared;
        let is_current = |token: CircuitToken| breaker.breaker.is_current(token.word, &**breaker);
        if self.grant.is_some_and(is_current) {
            return Poll::Ready(());
        }
        self.release_grant();
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
            }
            let breaker = &self.breaker().shared;
            // Registers before the breaker decides, so that no change in between is missed.
            let changed = breaker.changed.clone().notified_owned();
            match breaker.reserve() {
                Ok(token) => {
                    breaker.breaker.set_reserved(token.word, true, &**breaker);
                    self.grant = Some(token);
                    self.waiting = None;
                    return Poll::Ready(());
                }
                Err(rejected) => {
                    self.waiting = Some(Box::pin(async move {
                        clock::within(Duration::from_nanos(rejected.ends_in), changed).await;
                    }));
                }
            }
        }
    }

    /// Takes the reservation for its call, or to release it.
    fn take_grant(&mut self) -> Option<CircuitToken> {
        let token = self.grant.take()?;
        let breaker = &self.breaker().shared;
        breaker.breaker.set_reserved(token.word, false, &**breaker);
        breaker.report();
        Some(token)
    }

    fn release_grant(&mut self) {
        if let Some(token) = self.take_grant() {
            self.breaker().shared.release(token.word);
        }
    }
}

impl<S, X> Drop for CircuitBreakerReady<S, X> {
    fn drop(&mut self) {
        self.release_grant();
    }
}

impl<S, X, Req, Res> Service<Req> for CircuitBreakerReady<S, X>
where
    X: Protocol<Req, CircuitBreaker> + Respond<Req, Res, S::Error, CircuitBreaker>,
    S: Service<<X as Protocol<Req, CircuitBreaker>>::Inner, Response = Res>,
{
    type Response = <X as Respond<Req, Res, S::Error, CircuitBreaker>>::Response;
    type Error = S::Error;
    type Future = GateFuture<S, Req, CircuitBreaker, X>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // Polls the inner service first: one that is not ready must not take the slot of a probe.
        match self.gate.get_mut().poll_ready(cx) {
            Poll::Ready(Ok(())) => self.poll_grant(cx).map(Ok),
            not_ready => {
                self.release_grant();
                not_ready
            }
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let grant = self.take_grant();
        let mut token = grant.expect("`poll_ready` must have been ready before `call`");
        self.breaker().shared.begin(&mut token);
        self.gate.call_admitted(request, token)
    }
}

impl<S: Clone, X: Clone> Clone for CircuitBreakerReady<S, X> {
    fn clone(&self) -> Self {
        Self {
            gate: self.gate.clone(),
            grant: None,
            waiting: None,
        }
    }
}

impl<S: fmt::Debug, X> fmt::Debug for CircuitBreakerReady<S, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerReady")
            .field("inner", self.gate.get_ref())
            .field("breaker", self.breaker())
            .field("is_granted", &self.grant.is_some())
            .finish_non_exhaustive()
    }
}
