//! The stack for calls to one dependency.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::{ClientBreaker, ClientHandle, Part, PartSnapshot, Stack, StackParts};
use crate::circuit_breaker::{CircuitBreaker, CircuitBreakerSettings, CircuitBreakerSnapshot};
use crate::concurrency_limit::{
    ConcurrencyLimit, ConcurrencyLimitSettings, ConcurrencyLimitSnapshot,
};
use crate::config::ConfigError;
use crate::gate::GateLayer;
use crate::http::HttpRequest;
use crate::observe::Reporter;
use crate::policy::{Mode, NeverWaits, Policy, Switch, Switched};
use crate::protocol::Plain;
use crate::timeout::{
    ResponseBodyTimeout, ResponseBodyTimeoutSettings, ResponseBodyTimeoutSnapshot, Timeout,
    TimeoutSettings, TimeoutSnapshot,
};
#[cfg(feature = "keyed")]
use crate::{circuit_breaker::CircuitBreakersSettings, http::RequestHead};

/// The recommended stack for calls to one dependency; see the [module docs](super).
///
/// ```
/// use std::time::Duration;
/// use axum::body::Body;
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use tower::ServiceBuilder;
///
/// let stack = seawall::client().timeout(Duration::from_secs(2)).build()?;
/// let client = ServiceBuilder::new()
///     .layer(stack.clone())
///     .service(Client::builder(TokioExecutor::new()).build_http::<Body>());
///
/// println!("{}", stack.circuit_breaker().state());
/// # let _ = client;
/// # Ok::<_, seawall::ConfigError>(())
/// ```
pub fn client() -> ClientBuilder {
    ClientBuilder {
        name: Cow::Borrowed(""),
        breaker: Ok(CircuitBreaker::default()),
        timeout: Duration::from_secs(10).into(),
        response_body_timeout: ResponseBodyTimeoutSettings::client().into(),
        concurrency_limit: 128.into(),
        policy: (),
    }
}

/// The policy of a [`client`] stack; `B` is the breaker, and `M` are your policies.
pub type Client<B = CircuitBreaker, M = ()> = StackParts<
    (
        Switched<B>,
        M,
        Switched<ResponseBodyTimeout>,
        Switched<Timeout>,
        Switched<ConcurrencyLimit>,
    ),
    ClientHandle<B>,
>;

/// Builds the stack of a [`client`].
#[must_use = "a builder does nothing until it is built"]
pub struct ClientBuilder<B = CircuitBreaker, M = ()> {
    name: Cow<'static, str>,
    breaker: Result<B, ConfigError>,
    timeout: Part<Timeout, TimeoutSettings>,
    response_body_timeout: Part<ResponseBodyTimeout, ResponseBodyTimeoutSettings>,
    concurrency_limit: Part<ConcurrencyLimit, ConcurrencyLimitSettings>,
    policy: M,
}

/// The switches of a [`client`] stack.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientSwitches {
    /// The circuit breaker.
    pub circuit_breaker: Switch,
    /// The timeout.
    pub timeout: Switch,
    /// The timeouts of response bodies.
    pub response_body_timeout: Switch,
    /// The concurrency limit.
    pub concurrency_limit: Switch,
}

/// The state of the [`ClientBreaker`] of a [`client`] stack. With `serde`, `One` is a map with the
/// fields of the breaker, and `Hosts` is a map with `keys`, which has a breaker for each host.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(untagged))]
#[non_exhaustive]
pub enum ClientBreakerSnapshot {
    /// One breaker for all calls.
    One(Box<CircuitBreakerSnapshot>),
    /// One breaker for each host that was called.
    #[cfg(feature = "keyed")]
    Hosts(crate::circuit_breaker::CircuitBreakersSnapshot),
}

/// What a [`client`] stack is doing now.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClientSnapshot {
    /// The circuit breaker, or those of the hosts that were called.
    pub circuit_breaker: PartSnapshot<ClientBreakerSnapshot>,
    /// The timeout. Its counter includes the response bodies that were ended.
    pub timeout: PartSnapshot<TimeoutSnapshot>,
    /// The timeouts of response bodies.
    pub response_body_timeout: PartSnapshot<ResponseBodyTimeoutSnapshot>,
    /// The concurrency limit.
    pub concurrency_limit: PartSnapshot<ConcurrencyLimitSnapshot>,
}

// === impl ClientBuilder ===

impl<M> ClientBuilder<CircuitBreaker, M> {
    /// Sets the circuit breaker: [`CircuitBreakerSettings`] or a [`CircuitBreaker`]. Default:
    /// [`CircuitBreaker::default`].
    pub fn circuit_breaker(
        mut self,
        breaker: impl Into<Part<CircuitBreaker, CircuitBreakerSettings>>,
    ) -> Self {
        self.breaker = breaker
            .into()
            .into_handle("circuit_breaker", CircuitBreaker::new);
        self
    }

    /// One breaker per host instead of one for all, each with the settings of the
    /// [`circuit_breaker`](Self::circuit_breaker), which comes first. A handle given there is not
    /// used itself. The host is the authority of the request's URI.
    ///
    /// A request without an authority has no breaker: those of tonic's generated clients have none
    /// unless you set `with_origin`.
    #[cfg(feature = "keyed")]
    pub fn per_host(self) -> ClientBuilder<PerHost, M> {
        let breakers = self.breaker.and_then(|breaker| {
            let breakers = HostBreakers::new(breaker.settings());
            breakers.map_err(|error| error.of_part("circuit_breakers"))
        });
        ClientBuilder {
            name: self.name,
            breaker: breakers.map(|breakers| by_authority(&breakers)),
            timeout: self.timeout,
            response_body_timeout: self.response_body_timeout,
            concurrency_limit: self.concurrency_limit,
            policy: self.policy,
        }
    }
}

impl<B, M> ClientBuilder<B, M> {
    /// Names the stack and those of its parts that have no name yet, in rejections, metrics and
    /// events. Default: empty. Name a handle yourself if other code uses it before `build`, or if
    /// several stacks share it.
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// The time to the response head: a `Duration`, [`TimeoutSettings`] or a [`Timeout`]. Default:
    /// 10 s.
    pub fn timeout(mut self, timeout: impl Into<Part<Timeout, TimeoutSettings>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// The timeouts of response bodies: [`ResponseBodyTimeoutSettings`] or a
    /// [`ResponseBodyTimeout`]. Default: [`ResponseBodyTimeoutSettings::client`], an idle timeout
    /// of 60 s for HTTP, and none for gRPC.
    ///
    /// If an idle timeout applies to gRPC too, the circuit breaker counts a stream that is ended as
    /// a failure. Over HTTP, the response head is the outcome.
    pub fn response_body_timeout(
        mut self,
        timeout: impl Into<Part<ResponseBodyTimeout, ResponseBodyTimeoutSettings>>,
    ) -> Self {
        self.response_body_timeout = timeout.into();
        self
    }

    /// The upper bound for the calls in flight: a number, [`ConcurrencyLimitSettings`] or a
    /// [`ConcurrencyLimit`]. Default: 128, without a queue.
    pub fn concurrency_limit(
        mut self,
        limit: impl Into<Part<ConcurrencyLimit, ConcurrencyLimitSettings>>,
    ) -> Self {
        self.concurrency_limit = limit.into();
        self
    }

    /// Adds a policy of your own, after the breaker and those added before.
    ///
    /// A policy that may wait does not compile: only the concurrency limit may queue requests.
    pub fn policy<P>(self, policy: P) -> ClientBuilder<B, (M, P)>
    where
        P: Policy<HttpRequest, Wait: NeverWaits>,
    {
        ClientBuilder {
            name: self.name,
            breaker: self.breaker,
            timeout: self.timeout,
            response_body_timeout: self.response_body_timeout,
            concurrency_limit: self.concurrency_limit,
            policy: (self.policy, policy),
        }
    }

    /// The stack.
    ///
    /// # Errors
    ///
    /// Returns an error if a number or a field of settings is outside its range. The error names
    /// the part and the field.
    pub fn build(self) -> Result<Stack<Client<B, M>>, ConfigError>
    where
        B: Clone + Into<ClientBreaker>,
        M: Policy<HttpRequest>,
    {
        let (limit, body) = (self.concurrency_limit, self.response_body_timeout);
        let handle = ClientHandle {
            circuit_breaker: self.breaker?,
            timeout: self.timeout.into_handle("timeout", Timeout::new)?,
            response_body_timeout: body
                .into_handle("response_body_timeout", ResponseBodyTimeout::new)?,
            concurrency_limit: limit.into_handle("concurrency_limit", ConcurrencyLimit::new)?,
            switches: ClientSwitches::new(),
            reporter: Reporter::new("stack"),
        };
        if !self.name.is_empty() {
            handle.set_name(self.name);
        }
        let (part, on) = (handle.clone(), handle.switches.clone());
        let bodies = part.response_body_timeout.beside(&part.timeout);
        let parts = (
            Switched::new(part.circuit_breaker, on.circuit_breaker),
            self.policy,
            Switched::new(bodies, on.response_body_timeout),
            Switched::new(part.timeout, on.timeout),
            Switched::new(part.concurrency_limit, on.concurrency_limit),
        );
        Ok(Stack::<Client<B, M>>::new(parts, handle, part.reporter))
    }
}

#[cfg(feature = "keyed")]
impl<M> ClientBuilder<PerHost, M> {
    /// Sets the circuit breakers: [`CircuitBreakersSettings`] or [`HostBreakers`]. Default:
    /// breakers with the settings that [`per_host`](ClientBuilder::per_host) found.
    pub fn circuit_breakers(
        mut self,
        breakers: impl Into<Part<HostBreakers, CircuitBreakersSettings>>,
    ) -> Self {
        let breakers = breakers
            .into()
            .into_handle("circuit_breakers", HostBreakers::new);
        self.breaker = breakers.map(|breakers| by_authority(&breakers));
        self
    }
}

/// A circuit breaker for each host.
#[cfg(feature = "keyed")]
pub type HostBreakers = crate::circuit_breaker::CircuitBreakers<::http::uri::Authority>;

/// The breakers of a client stack with one per host.
#[cfg(feature = "keyed")]
pub type PerHost = crate::circuit_breaker::PerKey<
    ::http::uri::Authority,
    fn(&RequestHead<'_>) -> Option<::http::uri::Authority>,
>;

#[cfg(feature = "keyed")]
fn by_authority(breakers: &HostBreakers) -> PerHost {
    breakers.by_head(|head| head.uri.authority().cloned())
}

impl<B, M> fmt::Debug for ClientBuilder<B, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

// === impl ClientSwitches ===

impl ClientSwitches {
    fn new() -> Self {
        Self {
            circuit_breaker: Switch::new(Mode::Enforce),
            timeout: Switch::new(Mode::Enforce),
            response_body_timeout: Switch::new(Mode::Enforce),
            concurrency_limit: Switch::new(Mode::Enforce),
        }
    }
}

// === impl Stack ===

impl<M> Stack<Client<CircuitBreaker, M>> {
    /// Makes a layer with the parts of this stack for services that are not HTTP, such as the
    /// client of a database; see [`GateLayer::plain`]. A clone of the stack, or its
    /// [`handle`](ClientHandle), reads and changes the parts. A policy of your own must implement
    /// [`Policy`] for `HttpRequest`, which the builder requires, and for
    /// [`PlainRequest`](crate::policy::PlainRequest): `impl<R: RequestKind> Policy<R>` does both.
    ///
    /// ```
    /// use seawall::Rejection;
    /// use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let stack = seawall::client().named("database").build()?;
    /// let mut database = ServiceBuilder::new()
    ///     .layer(stack.clone().plain())
    ///     .service_fn(async |query: String| Ok::<_, BoxError>(query.len()));
    ///
    /// assert_eq!(database.ready().await?.call("select 1".to_owned()).await?, 8);
    /// stack.circuit_breaker().force_open();
    /// let error = database.ready().await?.call("select 1".to_owned()).await.unwrap_err();
    /// assert!(Rejection::find(&*error).is_some());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn plain(self) -> GateLayer<Client<CircuitBreaker, M>, Plain> {
        self.0.plain()
    }
}
