//! The setters of a timeout's layer.

use std::time::Duration;

#[cfg(feature = "http")]
use super::{ResponseBodyTimeout, ResponseBodyTimeoutSettings};
use super::{Timeout, TimeoutLayer};
use crate::gate::GateLayer;
use crate::policy::PerRequest;
#[cfg(feature = "http")]
use crate::protocol::Http;
use crate::protocol::Plain;

// === impl TimeoutLayer ===

impl TimeoutLayer {
    /// A layer that gives every request the time of a [`Timeout`]: a `Duration`, or a handle.
    pub fn new(timeout: impl Into<Timeout>) -> Self {
        Self::from_handle(timeout.into(), |timeout| &timeout.shared.reporter)
    }
}

#[cfg(feature = "http")]
impl<P: AsMut<Timeout> + Clone, In, Out, E> GateLayer<P, Http<In, Out, E>> {
    /// Bounds the time of response bodies too: a [`ResponseBodyTimeout`], which you can change
    /// while the server runs, or [`ResponseBodyTimeoutSettings`]. Call it or
    /// [`including_body`](Self::including_body), once.
    #[must_use]
    pub fn response_body_timeout(
        self,
        body: impl Into<ResponseBodyTimeout>,
    ) -> GateLayer<(ResponseBodyTimeout, P), Http<In, Out, E>> {
        let body = body.into();
        self.map_policy(|mut policy| (body.beside(policy.as_mut()), policy))
    }

    /// Applies one deadline to the response head and the response body:
    /// [`response_body_timeout`](Self::response_body_timeout) with
    /// [`deadline`](ResponseBodyTimeoutSettings::deadline()).
    #[must_use]
    pub fn including_body(self) -> GateLayer<(ResponseBodyTimeout, P), Http<In, Out, E>> {
        self.response_body_timeout(ResponseBodyTimeoutSettings::default().deadline(true))
    }

    /// Puts a [`Deadline`](crate::Deadline) into the extensions of each request. If the extensions
    /// have an earlier deadline, that one stays, and also ends the time of this layer, unless it
    /// has no limit. It costs a clock read and an allocation for each request.
    #[must_use]
    pub fn expose_deadline(self) -> Self {
        self.map_policy(|mut policy| {
            policy.as_mut().exposes = true;
            policy
        })
    }
}

#[cfg(feature = "http")]
impl<P: AsMut<Timeout> + Clone, In, Out, E> GateLayer<(ResponseBodyTimeout, P), Http<In, Out, E>> {
    /// Puts a [`Deadline`](crate::Deadline) into the extensions of each request. If the extensions
    /// have an earlier deadline, that one stays, and also ends the time of this layer, unless it
    /// has no limit. It costs a clock read and an allocation for each request.
    #[must_use]
    pub fn expose_deadline(self) -> Self {
        self.map_policy(|(body, mut policy)| {
            policy.as_mut().exposes = true;
            (body, policy)
        })
    }
}

#[cfg(feature = "http")]
impl<In, Out, E> TimeoutLayer<Http<In, Out, E>> {
    /// Gives some requests another time: the closure returns a `Duration`, or `None` for the
    /// default. Use it for times that the server chooses, for example for slow routes.
    ///
    /// An outer [`CircuitBreaker`](crate::CircuitBreaker) counts the timeout as a failure of the
    /// service, wherever the closure read the time. The exception is `grpc-timeout`, which the
    /// layer reads by itself, without a closure. To honour another header in which callers send
    /// their time, put a second timeout with this closure outside the breaker: the breaker then
    /// sees a cancelled call.
    #[must_use]
    pub fn per_request<F, O>(self, rule: F) -> GateLayer<PerRequest<Timeout, F>, Http<In, Out, E>>
    where
        F: Fn(&crate::RequestHead<'_>) -> O + Clone,
        O: Into<Option<Duration>>,
    {
        self.map_policy(|timeout| PerRequest::new(timeout, rule))
    }
}

#[cfg(feature = "http")]
impl<In, Out, E> GateLayer<(ResponseBodyTimeout, Timeout), Http<In, Out, E>> {
    /// Gives some requests another time: the closure returns a `Duration`, or `None` for the
    /// default.
    #[must_use]
    #[expect(
        clippy::type_complexity,
        reason = "the policies of a gate are in its type"
    )]
    pub fn per_request<F, O>(
        self,
        rule: F,
    ) -> GateLayer<(ResponseBodyTimeout, PerRequest<Timeout, F>), Http<In, Out, E>>
    where
        F: Fn(&crate::RequestHead<'_>) -> O + Clone,
        O: Into<Option<Duration>>,
    {
        self.map_policy(|(body, timeout)| (body, PerRequest::new(timeout, rule)))
    }
}

impl<E> TimeoutLayer<Plain<E>> {
    /// Gives some requests another time: the closure returns a `Duration`, or `None` for the
    /// default.
    #[must_use]
    pub fn per_request<F, O, Req>(self, rule: F) -> GateLayer<PerRequest<Timeout, F>, Plain<E>>
    where
        F: Fn(&Req) -> O + Clone,
        O: Into<Option<Duration>>,
    {
        self.map_policy(|timeout| PerRequest::new(timeout, rule))
    }
}
