//! The setters of a timeout's layer.

use std::time::Duration;

#[cfg(feature = "http")]
use super::BodyTimeout;
use super::{Timeout, TimeoutLayer};
use crate::gate::GateLayer;
#[cfg(feature = "http")]
use crate::policy::BodyBounds;
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
    /// Applies one deadline to the response head and the response body. The time starts as for the
    /// head; if the head is ready at once, it starts with the body. By default the timeout ends
    /// with the response head.
    #[must_use]
    pub fn including_body(self) -> GateLayer<(BodyTimeout, P), Http<In, Out, E>> {
        self.with_body().including_body()
    }

    /// Ends a response body if the inner service sends no frame for this long. `None` or zero is no
    /// limit, which is the default.
    #[must_use]
    pub fn response_body_idle_timeout(
        self,
        idle: impl Into<Option<Duration>>,
    ) -> GateLayer<(BodyTimeout, P), Http<In, Out, E>> {
        self.with_body().response_body_idle_timeout(idle)
    }

    /// Ends a response body if the connection takes no frame for this long although a frame is
    /// ready. Use it for clients that stop reading. `None` or zero is no limit, which is the
    /// default. It does not end a body whose handler is silent.
    ///
    /// It applies to bodies of unknown size, above 64 KiB, or in several frames. Over HTTP/1, the
    /// kernel's send buffer of some megabytes hides the progress of a slow client: the connection
    /// takes the next frame only after the client has read much of that buffer. Choose a time in
    /// which your slowest clients can read it.
    #[must_use]
    pub fn progress_timeout(
        self,
        progress: impl Into<Option<Duration>>,
    ) -> GateLayer<(BodyTimeout, P), Http<In, Out, E>> {
        self.with_body().progress_timeout(progress)
    }

    /// Puts a [`Deadline`](crate::Deadline) into the extensions of each request. If the extensions
    /// have an earlier deadline, that one stays. It costs a clock read and an allocation for each
    /// request.
    #[must_use]
    pub fn expose_deadline(self) -> Self {
        self.map_policy(|mut policy| {
            policy.as_mut().exposes = true;
            policy
        })
    }

    fn with_body(self) -> GateLayer<(BodyTimeout, P), Http<In, Out, E>> {
        self.map_policy(|mut policy| {
            let body = BodyTimeout::with_bounds(policy.as_mut(), BodyBounds::default());
            (body, policy)
        })
    }
}

#[cfg(feature = "http")]
impl<P: Clone, In, Out, E> GateLayer<(BodyTimeout, P), Http<In, Out, E>> {
    /// Applies one deadline to the response head and the response body. The time starts as for the
    /// head; if the head is ready at once, it starts with the body. By default the timeout ends
    /// with the response head.
    #[must_use]
    pub fn including_body(self) -> Self {
        self.with_bounds(|bounds| bounds.has_deadline = true)
    }

    /// Ends a response body if the inner service sends no frame for this long. `None` or zero is no
    /// limit, which is the default.
    #[must_use]
    pub fn response_body_idle_timeout(self, idle: impl Into<Option<Duration>>) -> Self {
        self.with_bounds(|bounds| bounds.set_idle(idle.into()))
    }

    /// Ends a response body if the connection takes no frame for this long although a frame is
    /// ready. `None` or zero is no limit, which is the default.
    #[must_use]
    pub fn progress_timeout(self, progress: impl Into<Option<Duration>>) -> Self {
        self.with_bounds(|bounds| bounds.set_progress(progress.into()))
    }

    /// Puts a [`Deadline`](crate::Deadline) into the extensions of each request. If the extensions
    /// have an earlier deadline, that one stays. It costs a clock read and an allocation for each
    /// request.
    #[must_use]
    pub fn expose_deadline(self) -> Self
    where
        P: AsMut<Timeout>,
    {
        self.map_policy(|(body, mut policy)| {
            policy.as_mut().exposes = true;
            (body, policy)
        })
    }

    fn with_bounds(self, change: impl FnOnce(&mut BodyBounds)) -> Self {
        self.map_policy(|(mut body, policy)| {
            change(&mut body.bounds);
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
impl<In, Out, E> GateLayer<(BodyTimeout, Timeout), Http<In, Out, E>> {
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
    ) -> GateLayer<(BodyTimeout, PerRequest<Timeout, F>), Http<In, Out, E>>
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
