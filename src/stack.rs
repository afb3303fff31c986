//! The recommended stack in one line, and why its parts are in this order.
//!
//! ```
//! use axum::{Router, routing::get};
//!
//! let stack = seawall::server().build()?;
//! let app: Router = Router::new().route("/", get(async || "hello")).layer(stack.clone());
//!
//! stack.concurrency_limit().set_limit(2048)?; // every part is tuned while the server runs
//! println!("{:?}", stack.snapshot());
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! [`server`] is for services, [`client`] for what calls one dependency. Both are one gate over a
//! tuple of handles: one future, one response body, and about half the instructions of the same
//! layers nested. It works with `Router::layer`, around a router under `axum::serve`, in tonic's
//! `Server::builder().layer`, and under hyper.
//!
//! # The parts of a server
//!
//! ```text
//!            request                                      response
//!               │                                             ▲
//! ┌─────────────▼─────────────────────────────────────────────┴────────────────┐
//! │ panic isolation      nothing of the stack unwinds past it                  │
//! │ ┌───────────▼─────────────────────────────────────────────┴──────────────┐ │
//! │ │ lag shedding       rejects most under overload, so it rejects first    │ │
//! │ │ ┌─────────▼─────────────────────────────────────────────┴────────────┐ │ │
//! │ │ │ your policies    see a timeout as a failure                        │ │ │
//! │ │ │ ┌───────▼─────────────────────────────────────────────┴──────────┐ │ │ │
//! │ │ │ │ timeout        includes the time in the queue                  │ │ │ │
//! │ │ │ │ ┌─────▼─────────────────────────────────────────────┴────────┐ │ │ │ │
//! │ │ │ │ │ concurrency  permits are held until the body has ended     │ │ │ │ │
//! │ │ │ │ │ ┌───▼─────────────────────────────────────────────┴──────┐ │ │ │ │ │
//! │ │ │ │ │ │ request    next to the code that reads the body        │ │ │ │ │ │
//! │ │ │ │ │ │ ┌─▼─────────────────────────────────────────────┴────┐ │ │ │ │ │ │
//! │ │ │ │ │ │ │               your handlers                        │ │ │ │ │ │ │
//! ```
//!
//! A part sees everything that is inside it and nothing that is outside. This determines the order:
//!
//! - **Panic isolation** is outermost, so that a panic of any other part is answered too.
//! - **Lag shedding** comes next. Under overload it rejects more requests than any other part, and
//!   an early rejection costs less.
//! - **Your policies** come after it, so that they decide only about requests that the runtime can
//!   serve, and before the timeout, so that a timeout is a failure for them.
//! - **The timeout** is outside the concurrency limit, so that the time in its queue counts.
//! - **The concurrency limit** is inside the timeout: a request whose time is over releases its
//!   permit.
//! - **The request limit** is innermost: it does not inspect requests that another part rejects.
//!
//! The lag shedder and the concurrency limit complement each other. The shedder detects handlers
//! that compute: they keep the runtime from reading the next request, so the limit is never
//! reached. The limit detects handlers that await: the runtime is then idle, and has no lag.
//!
//! The server stack has no circuit breaker. Around all routes, it would reject requests that do not
//! need the failing dependency. Put a breaker around the routes that share a dependency, or around
//! the client that calls it, as [`client`] does.
//!
//! # Defaults of a server
//!
//! | part | default | why |
//! |---|---|---|
//! | panic isolation | on | a panic costs one request and not a connection |
//! | lag shedding | [`LagShed::default`] | it rejects nothing while the runtime keeps up |
//! | timeout | 30 s to the response head | longer than most clients wait |
//! | progress timeout of responses | 60 s | the default of nginx's `send_timeout`: a client that does not read releases its permit after a minute |
//! | concurrency limit | 1024, no queue | about 10 000 requests a second at 100 ms each; set it from a load test |
//! | request body | 2 MiB | the default of axum's extractors |
//!
//! Server-sent events and other streams are not ended by these defaults: the timeout ends with the
//! response head, and the progress timeout applies only while a frame is ready. A stream holds its
//! permit as long as it lives.
//!
//! # The parts of a client
//!
//! Circuit breaker, your policies, timeout, concurrency limit, from the outside. The breaker is
//! outside the timeout, so that a call that takes too long is a failure of the dependency; the
//! limit is inside, so that the calls to one slow dependency cannot use all resources of the
//! client.
//!
//! | part | default | why |
//! |---|---|---|
//! | circuit breaker | [`CircuitBreaker::default`] | opens when half of at least 20 calls in 10 s fail, for 5 s |
//! | timeout | 10 s to the response head | a dependency that takes longer is not worth waiting for |
//! | concurrency limit | 128 | one slow dependency does not tie up every task |
//!
//! # Turning parts off
//!
//! [`Switch`]es turn each part on and off while the service runs. The lag shedder, the breaker and
//! the concurrency limit also have a dry run; in that mode, the other parts are off.
//!
//! ```
//! use seawall::policy::Mode;
//!
//! let stack = seawall::server().build()?;
//! stack.switches().concurrency_limit.set(Mode::DryRun); // counts what it would reject
//! stack.switches().lag_shed.set(Mode::Off);
//! # Ok::<_, seawall::ConfigError>(())
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tower_layer::Layer;

use crate::catch_panic::{CatchPanic, CatchPanicSnapshot, OnPanic};
use crate::circuit_breaker::{CircuitBreaker, CircuitBreakerSnapshot};
use crate::concurrency_limit::{ConcurrencyLimit, ConcurrencyLimitSnapshot};
use crate::config::ConfigError;
use crate::gate::{Gate, GateLayer};
use crate::http::{HttpRequest, RequestHead, ResponseHead, WireProtocol};
use crate::lag_shed::{LagShed, LagShedSnapshot};
use crate::observe::Reporter;
use crate::outcome::Outcome;
use crate::panic_report::PanicReport;
use crate::policy::{Exempt, Mode, Never, Policy, Switch, Switched};
use crate::protocol::{Converted, Http, Wrapped};
use crate::rejection::Rejection;
use crate::request_limit::{RequestLimit, RequestLimitSnapshot};
use crate::timeout::{BodyBounds, BodyTimeout, Timeout, TimeoutSnapshot};

/// The recommended stack for a service; see the [module docs](self).
///
/// ```
/// use std::time::Duration;
/// use seawall::ConcurrencyLimit;
///
/// let stack = seawall::server()
///     .timeout(Duration::from_secs(5))
///     .concurrency_limit(ConcurrencyLimit::new(512).queue(128, Duration::from_millis(100)))
///     .request_body_limit(8 << 20)
///     .exempt(|head| head.path() == "/health")
///     .build()?;
/// # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
/// # fits_a_router(stack);
/// # Ok::<_, seawall::ConfigError>(())
/// ```
pub fn server() -> ServerBuilder {
    ServerBuilder {
        name: Cow::Borrowed(""),
        catch_panic: CatchPanic::new(),
        lag_shed: None,
        timeout: None,
        exposes_deadline: false,
        body: BodyBounds {
            progress: Some(Duration::from_secs(60)),
            ..BodyBounds::default()
        },
        concurrency_limit: None,
        request_limit: None,
        policy: (),
        exempt: Never,
    }
}

/// The recommended stack for calls to one dependency; see the [module docs](self).
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

/// The recommended stack: a handle onto its parts, and the layer that puts them in front of a
/// service. A cheap `Clone`: every clone has the same parts.
///
/// Made by [`server`] and [`client`]; `P` is the tuple of its parts.
pub struct Stack<P, X = Http> {
    layer: GateLayer<P, X>,
}

/// The parts of a [`server`] stack; `M` are your policies, `F` is the exemption, and `C` isolates
/// panics.
pub type Server<M = (), F = Never, C = CatchPanic> = (
    Switched<C>,
    Exempt<(Switched<LagShed>, M), F>,
    Switched<(BodyTimeout, Timeout)>,
    Switched<RequestLimit>,
    Exempt<Switched<ConcurrencyLimit>, F>,
);

/// The parts of a [`client`] stack; `B` is the breaker, and `M` are your policies.
pub type Client<B = CircuitBreaker, M = ()> = (
    Switched<B>,
    M,
    Switched<Timeout>,
    Switched<ConcurrencyLimit>,
);

/// Builds the stack of a [`server`].
#[must_use = "a builder does nothing until it is built"]
pub struct ServerBuilder<M = (), F = Never, C = CatchPanic> {
    name: Cow<'static, str>,
    catch_panic: C,
    lag_shed: Option<LagShed>,
    timeout: Option<Timeout>,
    exposes_deadline: bool,
    body: BodyBounds,
    concurrency_limit: Option<ConcurrencyLimit>,
    request_limit: Option<RequestLimit>,
    policy: M,
    exempt: F,
}

/// Builds the stack of a [`client`].
#[must_use = "a builder does nothing until it is built"]
pub struct ClientBuilder<B = CircuitBreaker, M = ()> {
    name: Cow<'static, str>,
    breaker: Option<B>,
    timeout: Option<Timeout>,
    concurrency_limit: Option<ConcurrencyLimit>,
    policy: M,
}

/// The switches of a [`server`] stack.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerSwitches {
    /// Panic isolation.
    pub catch_panic: Switch,
    /// Lag shedding.
    pub lag_shed: Switch,
    /// The timeout, and the progress timeout of responses.
    pub timeout: Switch,
    /// The concurrency limit.
    pub concurrency_limit: Switch,
    /// The request limit.
    pub request_limit: Switch,
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

/// A part of a stack: its mode and its snapshot.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PartSnapshot<T> {
    /// Whether the part decides, only counts, or is off.
    pub mode: Mode,
    /// Its settings and what it has seen.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub state: T,
}

/// What a [`server`] stack is doing now.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ServerSnapshot {
    /// Panic isolation.
    pub catch_panic: PartSnapshot<CatchPanicSnapshot>,
    /// Lag shedding.
    pub lag_shed: PartSnapshot<LagShedSnapshot>,
    /// The timeout, and the progress timeout of responses.
    pub timeout: PartSnapshot<TimeoutSnapshot>,
    /// The concurrency limit.
    pub concurrency_limit: PartSnapshot<ConcurrencyLimitSnapshot>,
    /// The request limit.
    pub request_limit: PartSnapshot<RequestLimitSnapshot>,
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

// === impl ServerBuilder ===

impl<M, F, C> ServerBuilder<M, F, C> {
    const TIMEOUT: Duration = Duration::from_secs(30);
    const CONCURRENCY: usize = 1024;
    const REQUEST_BODY: u64 = 2 << 20;

    /// Names the stack and those of its parts that have no name yet, in rejections, metrics and
    /// events. Default: empty.
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Uses this handle for panic isolation.
    pub fn catch_panic(self, catch_panic: CatchPanic) -> ServerBuilder<M, F> {
        self.with_catch_panic(|_| catch_panic)
    }

    /// Calls `hook` for every panic; see [`CatchPanicLayer::on_panic`](GateLayer::on_panic).
    pub fn on_panic(
        self,
        hook: impl Fn(&PanicReport<'_>) + Send + Sync + 'static,
    ) -> ServerBuilder<M, F, OnPanic>
    where
        C: AsRef<CatchPanic>,
    {
        self.with_catch_panic(|catch_panic| catch_panic.as_ref().clone().with_hook(hook))
    }

    fn with_catch_panic<D>(self, change: impl FnOnce(C) -> D) -> ServerBuilder<M, F, D> {
        ServerBuilder {
            name: self.name,
            catch_panic: change(self.catch_panic),
            lag_shed: self.lag_shed,
            timeout: self.timeout,
            exposes_deadline: self.exposes_deadline,
            body: self.body,
            concurrency_limit: self.concurrency_limit,
            request_limit: self.request_limit,
            policy: self.policy,
            exempt: self.exempt,
        }
    }

    /// Sheds load with a [`LagShed`]. Default: [`LagShed::default`].
    pub fn lag_shed(mut self, lag_shed: impl Into<LagShed>) -> Self {
        self.lag_shed = Some(lag_shed.into());
        self
    }

    /// The time to the response head: a `Duration`, or a [`Timeout`]. Default: 30 s.
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> Self {
        self.timeout = Some(timeout.into());
        self
    }

    /// Ends a response body if the connection takes no frame for this long although one is ready;
    /// see [`GateLayer::progress_timeout`]. Zero is no limit. Default: 60 s.
    pub fn progress_timeout(mut self, progress: Duration) -> Self {
        self.body.progress = Some(progress).filter(|progress| !progress.is_zero());
        self
    }

    /// One deadline for response head and body; see [`GateLayer::including_body`]. By default the
    /// timeout ends with the response head.
    pub fn including_body(mut self) -> Self {
        self.body.has_deadline = true;
        self
    }

    /// Ends a response body that is silent for this long between two frames; see
    /// [`GateLayer::body_idle_timeout`]. Zero is no limit, which is the default.
    pub fn body_idle_timeout(mut self, idle: Duration) -> Self {
        self.body.idle = Some(idle).filter(|idle| !idle.is_zero());
        self
    }

    /// Puts a [`Deadline`](crate::Deadline) into the request's extensions; see
    /// [`GateLayer::expose_deadline`].
    pub fn expose_deadline(mut self) -> Self {
        self.exposes_deadline = true;
        self
    }

    /// The upper bound for the requests in flight: a number, or a [`ConcurrencyLimit`]. Default:
    /// 1024, without a queue.
    ///
    /// # Panics
    ///
    /// If the number is 0 or above 2³¹ − 1; [`ConcurrencyLimit::try_new`] returns the error
    /// instead.
    pub fn concurrency_limit(mut self, limit: impl Into<ConcurrencyLimit>) -> Self {
        self.concurrency_limit = Some(limit.into());
        self
    }

    /// The largest request body, in bytes. Default: 2 MiB. It replaces a
    /// [`request_limit`](Self::request_limit).
    pub fn request_body_limit(self, max_bytes: u64) -> Self {
        self.request_limit(max_bytes)
    }

    /// Bounds for requests: the largest body in bytes, or a [`RequestLimit`]. Default: 2 MiB.
    pub fn request_limit(mut self, limit: impl Into<RequestLimit>) -> Self {
        self.request_limit = Some(limit.into());
        self
    }

    /// Adds a policy of your own, after the lag shedder and those added before.
    ///
    /// A policy that may wait does not compile where the stack is applied to a service: only the
    /// concurrency limit may queue requests.
    pub fn policy<P>(self, policy: P) -> ServerBuilder<(M, P), F, C> {
        ServerBuilder {
            name: self.name,
            catch_panic: self.catch_panic,
            lag_shed: self.lag_shed,
            timeout: self.timeout,
            exposes_deadline: self.exposes_deadline,
            body: self.body,
            concurrency_limit: self.concurrency_limit,
            request_limit: self.request_limit,
            policy: (self.policy, policy),
            exempt: self.exempt,
        }
    }

    /// Exempts the requests for which the closure returns `true`, for example health checks. Lag
    /// shedding, the concurrency limit and your policies do not see them. Panic isolation, the
    /// timeout and the request limit still apply.
    pub fn exempt<G>(self, exempt: G) -> ServerBuilder<M, G, C>
    where
        G: Fn(&RequestHead<'_>) -> bool + Clone,
    {
        ServerBuilder {
            name: self.name,
            catch_panic: self.catch_panic,
            lag_shed: self.lag_shed,
            timeout: self.timeout,
            exposes_deadline: self.exposes_deadline,
            body: self.body,
            concurrency_limit: self.concurrency_limit,
            request_limit: self.request_limit,
            policy: self.policy,
            exempt,
        }
    }

    /// The stack.
    ///
    /// # Errors
    ///
    /// None today: the parts check their own settings. Settings that are read from files will be
    /// checked here.
    pub fn build(self) -> Result<Stack<Server<M, F, C>>, ConfigError>
    where
        M: Policy<HttpRequest>,
        F: Clone,
        C: AsRef<CatchPanic> + Policy<HttpRequest>,
    {
        let mut timeout = self.timeout.unwrap_or_else(|| Self::TIMEOUT.into());
        if self.exposes_deadline {
            timeout = timeout.exposed();
        }
        let body = BodyTimeout::with_bounds(&timeout, self.body);
        let limit = self.concurrency_limit;
        let limit = limit.unwrap_or_else(|| ConcurrencyLimit::new(Self::CONCURRENCY));
        let requests = self.request_limit;
        let requests = requests.unwrap_or_else(|| Self::REQUEST_BODY.into());
        let catch_panic = self.catch_panic;
        let lag_shed = self.lag_shed.unwrap_or_default();
        let mut reporter = Reporter::new("stack");
        if !self.name.is_empty() {
            reporter = reporter.named(self.name.clone());
            let _ = catch_panic.as_ref().clone().named(self.name.clone());
            let _ = lag_shed.clone().named(self.name.clone());
            let _ = timeout.clone().named(self.name.clone());
            let _ = requests.clone().named(self.name.clone());
            let _ = limit.clone().named(self.name);
        }
        let parts = (
            on(catch_panic),
            Exempt::new((on(lag_shed), self.policy), self.exempt.clone()),
            on((body, timeout)),
            on(requests),
            Exempt::new(on(limit), self.exempt),
        );
        Ok(Stack {
            layer: GateLayer::with_reporter(parts, reporter),
        })
    }
}

fn on<P>(policy: P) -> Switched<P> {
    Switched::new(policy, Switch::new(Mode::Enforce))
}

impl<M, F, C> fmt::Debug for ServerBuilder<M, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

// === impl ClientBuilder ===

impl ClientBuilder {
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
    /// events. Default: empty.
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
    /// If the number is 0 or above 2³¹ − 1; [`ConcurrencyLimit::try_new`] returns the error
    /// instead.
    pub fn concurrency_limit(mut self, limit: impl Into<ConcurrencyLimit>) -> Self {
        self.concurrency_limit = Some(limit.into());
        self
    }

    /// Adds a policy of your own, after the breaker and those added before.
    pub fn policy<P>(self, policy: P) -> ClientBuilder<B, (M, P)> {
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
    /// unless you set `with_origin`.
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

    fn build_with(self, breaker: B, reporter: Reporter) -> Stack<Client<B, M>> {
        let timeout = self.timeout.unwrap_or_else(|| Self::TIMEOUT.into());
        let limit = self.concurrency_limit;
        let limit = limit.unwrap_or_else(|| ConcurrencyLimit::new(Self::CONCURRENCY));
        if !self.name.is_empty() {
            let _ = timeout.clone().named(self.name.clone());
            let _ = limit.clone().named(self.name);
        }
        let parts = (on(breaker), self.policy, on(timeout), on(limit));
        Stack {
            layer: GateLayer::with_reporter(parts, reporter),
        }
    }

    fn reporter(&self) -> Reporter {
        let reporter = Reporter::new("stack");
        if self.name.is_empty() {
            return reporter;
        }
        reporter.named(self.name.clone())
    }
}

impl<M: Policy<HttpRequest>> ClientBuilder<CircuitBreaker, M> {
    /// The stack.
    ///
    /// # Errors
    ///
    /// If a setting of the breaker is outside its range.
    pub fn build(mut self) -> Result<Stack<Client<CircuitBreaker, M>>, ConfigError> {
        let breaker = match self.breaker.take() {
            Some(breaker) => breaker,
            None => CircuitBreaker::builder().name(self.name.clone()).build()?,
        };
        let reporter = self.reporter();
        Ok(self.build_with(breaker, reporter))
    }
}

#[cfg(feature = "keyed")]
impl<M: Policy<HttpRequest>> ClientBuilder<PerHost, M> {
    /// Opens and closes with these breakers. Default: breakers with the settings of
    /// [`CircuitBreaker::default`].
    pub fn circuit_breakers(mut self, breakers: &HostBreakers) -> Self {
        self.breaker = Some(breakers.by_head(authority as fn(&RequestHead<'_>) -> _));
        self
    }

    /// The stack.
    ///
    /// # Errors
    ///
    /// If a setting of the breakers is outside its range.
    pub fn build(mut self) -> Result<Stack<Client<PerHost, M>>, ConfigError> {
        let breakers = if let Some(breakers) = self.breaker.take() {
            breakers
        } else {
            let family = CircuitBreaker::builder().name(self.name.clone()).keyed();
            family
                .build()?
                .by_head(authority as fn(&RequestHead<'_>) -> _)
        };
        let reporter = self.reporter();
        Ok(self.build_with(breakers, reporter))
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

/// The parts of a [`server`].
impl<M, F, C: AsRef<CatchPanic>, X> Stack<Server<M, F, C>, X> {
    /// Panic isolation.
    pub fn catch_panic(&self) -> &CatchPanic {
        self.layer.policy().0.policy().as_ref()
    }

    /// Lag shedding.
    pub fn lag_shed(&self) -> &LagShed {
        self.layer.policy().1.policy().0.policy()
    }

    /// The timeout.
    pub fn timeout(&self) -> &Timeout {
        &self.layer.policy().2.policy().1
    }

    /// The concurrency limit.
    pub fn concurrency_limit(&self) -> &ConcurrencyLimit {
        self.layer.policy().4.policy().policy()
    }

    /// The request limit.
    pub fn request_limit(&self) -> &RequestLimit {
        self.layer.policy().3.policy()
    }

    /// Turns the parts on and off while the service runs.
    pub fn switches(&self) -> ServerSwitches {
        let (catch_panic, shed, timeout, requests, limit) = self.layer.policy();
        ServerSwitches {
            catch_panic: catch_panic.switch().clone(),
            lag_shed: shed.policy().0.switch().clone(),
            timeout: timeout.switch().clone(),
            concurrency_limit: limit.policy().switch().clone(),
            request_limit: requests.switch().clone(),
        }
    }

    /// What all parts are doing now.
    pub fn snapshot(&self) -> ServerSnapshot {
        let switches = self.switches();
        ServerSnapshot {
            catch_panic: part(&switches.catch_panic, self.catch_panic().snapshot()),
            lag_shed: part(&switches.lag_shed, self.lag_shed().snapshot()),
            timeout: part(&switches.timeout, self.timeout().snapshot()),
            concurrency_limit: part(
                &switches.concurrency_limit,
                self.concurrency_limit().snapshot(),
            ),
            request_limit: part(&switches.request_limit, self.request_limit().snapshot()),
        }
    }
}

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

fn part<T>(switch: &Switch, state: T) -> PartSnapshot<T> {
    PartSnapshot {
        mode: switch.mode(),
        state,
    }
}

/// How the layer answers and what it makes of bodies; see [`GateLayer`].
impl<P: Clone, In, Out, E> Stack<P, Http<In, Out, E>> {
    /// Makes the answers; see [`GateLayer::respond_with`].
    #[must_use]
    pub fn respond_with<G>(self, respond: G) -> Self
    where
        G: Fn(&Rejection, WireProtocol) -> ::http::Response<bytes::Bytes> + Send + Sync + 'static,
    {
        Self {
            layer: self.layer.respond_with(respond),
        }
    }

    /// Classifies responses; see [`GateLayer::classify`].
    #[must_use]
    pub fn classify<G, O>(self, classify: G) -> Self
    where
        G: Fn(&ResponseHead<'_>) -> O + Send + Sync + 'static,
        O: Into<Option<Outcome>>,
    {
        Self {
            layer: self.layer.classify(classify),
        }
    }
}

impl<P, Out, E> Stack<P, Http<Wrapped, Out, E>> {
    /// Keeps the type of request bodies; see [`GateLayer::request_body`].
    #[must_use]
    pub fn request_body<G>(self, convert: G) -> Stack<P, Http<Converted<G>, Out, E>> {
        Stack {
            layer: self.layer.request_body(convert),
        }
    }
}

impl<P, In, E> Stack<P, Http<In, Wrapped, E>> {
    /// Keeps the type of response bodies; see [`GateLayer::response_body`].
    #[must_use]
    pub fn response_body<G>(self, convert: G) -> Stack<P, Http<In, Converted<G>, E>> {
        Stack {
            layer: self.layer.response_body(convert),
        }
    }
}

impl<S, P, X: Clone> Layer<S> for Stack<P, X> {
    type Service = Gate<S, P, X>;

    fn layer(&self, inner: S) -> Self::Service {
        self.layer.layer(inner)
    }
}

impl<P, X: Clone> Clone for Stack<P, X> {
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
        }
    }
}

impl<P: fmt::Debug, X: fmt::Debug> fmt::Debug for Stack<P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stack").field(&self.layer).finish()
    }
}
