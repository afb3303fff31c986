//! A breaker that a load balancer can see: open, it is not ready.
//!
//! # Where it goes
//!
//! Around each endpoint under `tower::balance` or `tower::ready_cache`, which send elsewhere what one endpoint does not take;
//! never on a server, and nowhere where nobody else could take the call: it would wait and not be refused.
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
//! let endpoint = |place: u32| {
//!     let service = service_fn(move |n: u32| async move { Ok::<_, BoxError>(n + place) });
//!     let breaker = CircuitBreaker::default();
//!     Constant::new(CircuitBreakerReadyLayer::new(breaker).plain().layer(service), 1)
//! };
//! let mut balance = Balance::new(ServiceList::new::<u32>([endpoint(1), endpoint(2), endpoint(3)]));
//! assert!((2..5).contains(&balance.ready().await?.call(1).await?));
//! # Ok(()) }
//! ```
//!
//! When all of them are open, nothing is ready: put `tower::load_shed` around the balancer, or a time-out around its
//! `ready()`. What is to measure the load, such as `PendingRequests`, goes around this service.
//!
//! # Readiness
//!
//! This is the one service of this crate whose `poll_ready` reserves something: ready means that the breaker has let a call
//! through, and `call` makes it, whatever has happened since. Polled again, it looks whether the breaker would still let it.
//! A clone has no reservation. A reserved probe that is not called keeps its place until it is dropped or the half-open time is over, and
//! then counts as one that hangs.
//!
//! Not ready, it is woken when the open time is over, when a probe gives its place back, and whenever the state changes. That
//! takes a Tokio runtime with a time driver.
//!
//! An error of the inner `poll_ready` is passed through and counts as no call.
//!
//! # Panics
//!
//! `call` without a `poll_ready` before it that was ready.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use super::shared::Pass;
use super::{CircuitBreaker, CircuitBreakerLayer};
use crate::clock;
use crate::control::breaker::Refusal;
use crate::gate::GateFuture;
use crate::policy::{Held, NoWait};
use crate::protocol::{Http, Inspect, Plain, Protocol};

/// Puts a [`CircuitBreaker`] around an endpoint, so that it is not ready while the breaker is open.
///
/// One that classifies is made of a [`CircuitBreakerLayer`]:
/// `CircuitBreakerReadyLayer::from(CircuitBreakerLayer::new(breaker).classify(..))`. Its answers and its dry run play no part here,
/// as nothing is refused.
#[derive(Clone)]
pub struct CircuitBreakerReadyLayer<X = Http> {
    gate: CircuitBreakerLayer<X>,
}

/// An endpoint that is not ready while its breaker is open; made by [`CircuitBreakerReadyLayer`].
pub struct CircuitBreakerReady<S, X = Http> {
    inner: S,
    breaker: CircuitBreaker,
    protocol: X,
    grant: Option<Pass>,
    waiting: Option<Pin<Box<Waiting>>>,
}

pin_project! {
    /// Until there is reason to ask the breaker again.
    struct Waiting {
        #[pin]
        changed: OwnedNotified,
        #[pin]
        over: Sleep,
    }
}

// === impl CircuitBreakerReadyLayer ===

impl CircuitBreakerReadyLayer {
    /// A layer with the breaker.
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
        let (breaker, protocol) = self.gate.clone().into_parts();
        CircuitBreakerReady {
            inner,
            breaker,
            protocol,
            grant: None,
            waiting: None,
        }
    }
}

impl<X> fmt::Debug for CircuitBreakerReadyLayer<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CircuitBreakerReadyLayer")
            .field(self.gate.policy())
            .finish()
    }
}

// === impl CircuitBreakerReady ===

impl<S, X> CircuitBreakerReady<S, X> {
    /// The breaker.
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// Whether the breaker lets a call through.
    fn poll_grant(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.grant.as_ref().is_some_and(Pass::is_current) {
            return Poll::Ready(());
        }
        self.grant = None;
        match &mut self.waiting {
            Some(waiting) => ready!(waiting.as_mut().poll(cx)),
            None => {
                if let Ok(pass) = Pass::reserve(&self.breaker) {
                    self.grant = Some(pass);
                    return Poll::Ready(());
                }
            }
        }
        loop {
            let shared = &self.breaker.shared;
            // Listening comes before asking, so that no change is missed in between.
            let changed = shared.changed.clone().notified_owned();
            match Pass::reserve(&self.breaker) {
                Ok(pass) => {
                    self.grant = Some(pass);
                    self.waiting = None;
                    return Poll::Ready(());
                }
                Err(refusal) => match &mut self.waiting {
                    Some(waiting) => waiting.as_mut().rearm(changed, refusal),
                    waiting => *waiting = Some(Box::pin(Waiting::new(changed, refusal))),
                },
            }
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
            }
        }
    }
}

impl<S, X, Req> Service<Req> for CircuitBreakerReady<S, X>
where
    S: Service<Req>,
    X: Inspect<Req> + Protocol<S::Response, S::Error>,
{
    type Response = X::Response<X::Hold<Pass>>;
    type Error = S::Error;
    type Future = GateFuture<S::Future, NoWait, Pass, X>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The inner service first: a probe's place is not for one that is not ready.
        match self.inner.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.poll_grant(cx).map(Ok),
            not_ready => {
                self.grant = None;
                not_ready
            }
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let grant = self.grant.take();
        let mut pass = grant.expect("`poll_ready` must have been ready before `call`");
        pass.begin();
        let memo = self.protocol.glance(&request);
        let mut held = Held::new(pass);
        let future = held.watch(|| self.inner.call(request));
        GateFuture::called(future, held, memo, self.protocol.clone())
    }
}

impl<S: Clone, X: Clone> Clone for CircuitBreakerReady<S, X> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            breaker: self.breaker.clone(),
            protocol: self.protocol.clone(),
            grant: None,
            waiting: None,
        }
    }
}

impl<S: fmt::Debug, X> fmt::Debug for CircuitBreakerReady<S, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerReady")
            .field("inner", &self.inner)
            .field("breaker", &self.breaker)
            .field("is_granted", &self.grant.is_some())
            .finish_non_exhaustive()
    }
}

// === impl Waiting ===

impl Waiting {
    fn new(changed: OwnedNotified, refusal: Refusal) -> Self {
        Self {
            changed,
            over: clock::sleep(refusal.ends_in()),
        }
    }

    fn rearm(self: Pin<&mut Self>, changed: OwnedNotified, refusal: Refusal) {
        let mut this = self.project();
        this.changed.set(changed);
        clock::rearm(this.over, refusal.ends_in());
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.changed.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        clock::poll(this.over, cx)
    }
}
