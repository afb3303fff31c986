//! The stack for calls to one dependency.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{PartSnapshot, Stack, on, part};
#[cfg(feature = "keyed")]
use crate::circuit_breaker::CircuitBreakerSettings;
use crate::circuit_breaker::{CircuitBreaker, CircuitBreakerSnapshot};
use crate::concurrency_limit::{ConcurrencyLimit, ConcurrencyLimitSnapshot};
use crate::config::ConfigError;
use crate::gate::GateLayer;
use crate::http::HttpRequest;
#[cfg(feature = "keyed")]
use crate::http::RequestHead;
use crate::observe::Reporter;
use crate::policy::{NeverWaits, Policy, Switch, Switched};
use crate::timeout::{Timeout, TimeoutSnapshot};

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
        breaker: None,
        timeout: None,
        concurrency_limit: None,
        policy: (),
    }
}

/// The parts of a [`client`] stack; `B` is the breaker, and `M` are your policies.
pub type Client<B = CircuitBreaker, M = ()> = (
    Switched<B>,
    M,
    Switched<Timeout>,
    Switched<ConcurrencyLimit>,
);

/// Builds the stack of a [`client`].
#[must_use = "a builder does nothing until it is built"]
pub struct ClientBuilder<B = CircuitBreaker, M = ()> {
    name: Cow<'static, str>,
    breaker: Option<B>,
    timeout: Option<Timeout>,
    concurrency_limit: Option<ConcurrencyLimit>,
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
    /// The concurrency limit.
    pub concurrency_limit: Switch,
}

/// What a [`client`] stack is doing now.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClientSnapshot {
    /// The circuit breakers: one with an empty host, or one for each host that was called.
    pub circuit_breakers: BTreeMap<String, PartSnapshot<CircuitBreakerSnapshot>>,
    /// The timeout.
    pub timeout: PartSnapshot<TimeoutSnapshot>,
    /// The concurrency limit.
    pub concurrency_limit: PartSnapshot<ConcurrencyLimitSnapshot>,
}

// === impl ClientBuilder ===

impl<M> ClientBuilder<CircuitBreaker, M> {
    /// Sets the circuit breaker. Default: [`CircuitBreaker::default`].
    pub fn circuit_breaker(mut self, breaker: impl Into<CircuitBreaker>) -> Self {
        self.breaker = Some(breaker.into());
        self
    }
}

impl<B, M> ClientBuilder<B, M> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    const CONCURRENCY: usize = 128;

    /// Names the stack and those of its parts that have no name yet, in rejections, metrics and
    /// events. A breaker that you pass keeps its own name. Default: empty.
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// The time to the response head: a `Duration`, or a [`Timeout`]. Default: 10 s.
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> Self {
        self.timeout = Some(timeout.into());
        self
    }

    /// The upper bound for the calls in flight: a number, or a [`ConcurrencyLimit`]. Default: 128,
    /// without a queue.
    ///
    /// # Panics
    ///
    /// If the number is 0 or above 2³¹ − 1; [`ConcurrencyLimit::new`] returns the error
    /// instead.
    pub fn concurrency_limit(mut self, limit: impl Into<ConcurrencyLimit>) -> Self {
        self.concurrency_limit = Some(limit.into());
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
            concurrency_limit: self.concurrency_limit,
            policy: (self.policy, policy),
        }
    }

    /// One breaker per host instead of one for all, each with the settings of
    /// [`CircuitBreaker::default`]. The host is the authority of the request's URI.
    ///
    /// A request without an authority has no breaker: those of tonic's generated clients have none
    /// unless you set `with_origin`. A breaker set before is replaced.
    #[cfg(feature = "keyed")]
    pub fn per_host(self) -> ClientBuilder<PerHost, M> {
        ClientBuilder {
            name: self.name,
            breaker: None,
            timeout: self.timeout,
            concurrency_limit: self.concurrency_limit,
            policy: self.policy,
        }
    }

    fn build_with(self, breaker: B) -> Stack<Client<B, M>> {
        let timeout = self.timeout.unwrap_or_else(|| Self::TIMEOUT.into());
        let limit = self.concurrency_limit;
        let limit = limit.unwrap_or_else(|| Self::CONCURRENCY.into());
        let reporter = Reporter::new("stack");
        if !self.name.is_empty() {
            reporter.set_name(self.name.clone());
            let _ = timeout.clone().named(self.name.clone());
            let _ = limit.clone().named(self.name);
        }
        let parts = (on(breaker), self.policy, on(timeout), on(limit));
        Stack {
            layer: GateLayer::with_reporter(parts, reporter),
        }
    }
}

impl<M: Policy<HttpRequest>> ClientBuilder<CircuitBreaker, M> {
    /// The stack.
    ///
    /// # Errors
    ///
    /// None today: a breaker that you pass is checked already.
    pub fn build(mut self) -> Result<Stack<Client<CircuitBreaker, M>>, ConfigError> {
        let breaker = match self.breaker.take() {
            Some(breaker) => breaker,
            None if self.name.is_empty() => CircuitBreaker::default(),
            None => CircuitBreaker::default().named(self.name.clone()),
        };
        Ok(self.build_with(breaker))
    }
}

#[cfg(feature = "keyed")]
impl<M: Policy<HttpRequest>> ClientBuilder<PerHost, M> {
    /// Sets the circuit breakers. Default: breakers with the settings of
    /// [`CircuitBreaker::default`].
    pub fn circuit_breakers(mut self, breakers: &HostBreakers) -> Self {
        self.breaker = Some(breakers.by_head(authority as fn(&RequestHead<'_>) -> _));
        self
    }

    /// The stack.
    ///
    /// # Errors
    ///
    /// None today: breakers that you pass are checked already.
    pub fn build(mut self) -> Result<Stack<Client<PerHost, M>>, ConfigError> {
        let breakers = if let Some(breakers) = self.breaker.take() {
            breakers
        } else {
            let breakers = HostBreakers::new(CircuitBreakerSettings::default())?;
            if !self.name.is_empty() {
                let _ = breakers.clone().named(self.name.clone());
            }
            breakers.by_head(authority as fn(&RequestHead<'_>) -> _)
        };
        Ok(self.build_with(breakers))
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
fn authority(head: &RequestHead<'_>) -> Option<::http::uri::Authority> {
    head.uri.authority().cloned()
}

impl<B, M> fmt::Debug for ClientBuilder<B, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

// === impl Stack ===

/// The parts of a [`client`].
impl<B, M, X> Stack<Client<B, M>, X> {
    /// The circuit breaker; with one per host, the policy that finds it.
    pub fn circuit_breaker(&self) -> &B {
        self.layer.policy().0.policy()
    }

    /// The timeout.
    pub fn timeout(&self) -> &Timeout {
        self.layer.policy().2.policy()
    }

    /// The concurrency limit.
    pub fn concurrency_limit(&self) -> &ConcurrencyLimit {
        self.layer.policy().3.policy()
    }

    /// Turns the parts on and off while the client runs.
    pub fn switches(&self) -> ClientSwitches {
        let (breaker, _, timeout, limit) = self.layer.policy();
        ClientSwitches {
            circuit_breaker: breaker.switch().clone(),
            timeout: timeout.switch().clone(),
            concurrency_limit: limit.switch().clone(),
        }
    }
}

impl<M, X> Stack<Client<CircuitBreaker, M>, X> {
    /// What all parts are doing now.
    pub fn snapshot(&self) -> ClientSnapshot {
        self.snapshot_with([(String::new(), self.circuit_breaker().snapshot())])
    }
}

#[cfg(feature = "keyed")]
impl<M, X> Stack<Client<PerHost, M>, X> {
    /// What all parts are doing now.
    pub fn snapshot(&self) -> ClientSnapshot {
        let breakers = self.circuit_breaker().breakers().snapshot();
        let breakers = breakers.into_iter();
        self.snapshot_with(breakers.map(|(host, breaker)| (host.to_string(), breaker)))
    }
}

impl<B, M, X> Stack<Client<B, M>, X> {
    fn snapshot_with(
        &self,
        breakers: impl IntoIterator<Item = (String, CircuitBreakerSnapshot)>,
    ) -> ClientSnapshot {
        let switches = self.switches();
        let breakers = breakers.into_iter();
        ClientSnapshot {
            circuit_breakers: breakers
                .map(|(host, state)| (host, part(&switches.circuit_breaker, state)))
                .collect(),
            timeout: part(&switches.timeout, self.timeout().snapshot()),
            concurrency_limit: part(
                &switches.concurrency_limit,
                self.concurrency_limit().snapshot(),
            ),
        }
    }
}
