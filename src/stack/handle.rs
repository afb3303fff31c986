//! The handles of a stack: they read and change its parts.

use std::borrow::Cow;

use super::changes::Changes;
use super::settings::{CatchPanicSettings, Settings};
use super::steps::{Steps, one_at_a_time, present};
use super::{
    ClientBreakerSnapshot, ClientSnapshot, ClientSwitches, ServerSnapshot, ServerSwitches, part,
};
use crate::catch_panic::CatchPanic;
use crate::circuit_breaker::{CircuitBreaker, CircuitBreakerSettings};
use crate::concurrency_limit::ConcurrencyLimit;
use crate::config::{ConfigError, Configurable};
use crate::drain::Drain;
use crate::lag_shed::LagShed;
use crate::observe::Reporter;
use crate::request_limit::RequestLimit;
use crate::timeout::{ResponseBodyTimeout, Timeout};

/// The parts of a [`server`](super::server) stack. The type of a [`Stack`](super::Stack) depends on
/// your policies and closures. The type of its handle does not, so that a struct can keep it. A
/// cheap `Clone`: all clones have the same parts.
///
/// ```
/// use seawall::stack::ServerHandle;
///
/// /// The state of the handlers for operators.
/// struct Admin {
///     server: ServerHandle,
/// }
///
/// let stack = seawall::server().exempt(|head| head.path() == "/livez").build()?;
/// let admin = Admin { server: stack.handle() };
///
/// admin.server.concurrency_limit().set_limit(2048)?;
/// println!("{:?}", admin.server.snapshot());
/// # Ok::<_, seawall::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ServerHandle {
    pub(super) catch_panic: CatchPanic,
    pub(super) lag_shed: LagShed,
    pub(super) drain: Drain,
    pub(super) timeout: Timeout,
    pub(super) response_body_timeout: ResponseBodyTimeout,
    pub(super) concurrency_limit: ConcurrencyLimit,
    pub(super) request_limit: RequestLimit,
    pub(super) switches: ServerSwitches,
    /// Counts the exempt requests.
    pub(super) reporter: Reporter,
}

/// The parts of a [`client`](super::client) stack. The type of a [`Stack`](super::Stack) depends on
/// your policies. The type of its handle does not; `B` is the breaker, as in
/// [`Client`](super::Client). A cheap `Clone`: all clones have the same parts.
#[derive(Clone, Debug)]
pub struct ClientHandle<B = CircuitBreaker> {
    pub(super) circuit_breaker: B,
    pub(super) timeout: Timeout,
    pub(super) response_body_timeout: ResponseBodyTimeout,
    pub(super) concurrency_limit: ConcurrencyLimit,
    pub(super) switches: ClientSwitches,
    /// Counts the admitted calls.
    pub(super) reporter: Reporter,
}

/// The circuit breaker of a client stack.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientBreaker {
    /// One breaker for all calls.
    One(CircuitBreaker),
    /// One breaker for each host.
    #[cfg(feature = "keyed")]
    Hosts(super::HostBreakers),
}

// === impl ServerHandle ===

impl ServerHandle {
    /// Names the stack, and the parts that have no name yet.
    pub(super) fn set_name(&self, name: Cow<'static, str>) {
        self.reporter.set_name(name.clone());
        let _ = self.catch_panic.clone().named(name.clone());
        let _ = self.lag_shed.clone().named(name.clone());
        let _ = self.drain.clone().named(name.clone());
        let _ = self.timeout.clone().named(name.clone());
        let _ = self.request_limit.clone().named(name.clone());
        let _ = self.concurrency_limit.clone().named(name);
    }

    /// The name of the stack; empty if it has none.
    pub fn name(&self) -> &str {
        self.reporter.name()
    }

    /// Panic isolation.
    pub fn catch_panic(&self) -> &CatchPanic {
        &self.catch_panic
    }

    /// Lag shedding.
    pub fn lag_shed(&self) -> &LagShed {
        &self.lag_shed
    }

    /// The drain.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// The timeout.
    pub fn timeout(&self) -> &Timeout {
        &self.timeout
    }

    /// The timeouts of response bodies.
    pub fn response_body_timeout(&self) -> &ResponseBodyTimeout {
        &self.response_body_timeout
    }

    /// The concurrency limit.
    pub fn concurrency_limit(&self) -> &ConcurrencyLimit {
        &self.concurrency_limit
    }

    /// The request limit.
    pub fn request_limit(&self) -> &RequestLimit {
        &self.request_limit
    }

    /// Turns the parts on and off while the service runs.
    pub fn switches(&self) -> &ServerSwitches {
        &self.switches
    }

    /// The state of all parts now.
    pub fn snapshot(&self) -> ServerSnapshot {
        let on = &self.switches;
        ServerSnapshot {
            catch_panic: part(&on.catch_panic, self.catch_panic.snapshot()),
            lag_shed: part(&on.lag_shed, self.lag_shed.snapshot()),
            drain: part(&on.drain, self.drain.snapshot()),
            timeout: part(&on.timeout, self.timeout.snapshot()),
            response_body_timeout: part(
                &on.response_body_timeout,
                self.response_body_timeout.snapshot(),
            ),
            concurrency_limit: part(&on.concurrency_limit, self.concurrency_limit.snapshot()),
            request_limit: part(&on.request_limit, self.request_limit.snapshot()),
            exempt: self.reporter.exempt(),
        }
    }

    /// The settings of all parts. They are never a mixture of two that were applied.
    pub fn settings(&self) -> Settings {
        let _one = one_at_a_time();
        let on = &self.switches;
        let mode = Some(on.catch_panic.mode());
        Settings {
            catch_panic: Some(CatchPanicSettings { mode }),
            lag_shed: Some(present(&on.lag_shed, &self.lag_shed)),
            drain: Some(present(&on.drain, &self.drain)),
            circuit_breaker: None,
            timeout: Some(present(&on.timeout, &self.timeout)),
            response_body_timeout: Some(present(
                &on.response_body_timeout,
                &self.response_body_timeout,
            )),
            concurrency_limit: Some(present(&on.concurrency_limit, &self.concurrency_limit)),
            request_limit: Some(present(&on.request_limit, &self.request_limit)),
        }
    }

    /// Replaces the settings of the parts that `settings` names, while requests run: of all of
    /// them, or, if one is not valid, of none. Returns the fields that have changed. Any thread may
    /// call it; one call is applied after the other.
    ///
    /// ```
    /// use seawall::ConcurrencyLimitSettings;
    ///
    /// let stack = seawall::server().build()?;
    /// let limit = ConcurrencyLimitSettings::fixed(512);
    /// let changes = stack.apply(&stack.settings().concurrency_limit(limit))?;
    /// assert_eq!(changes.to_string(), "concurrency_limit.limit: 1024 -> 512");
    ///
    /// let none = ConcurrencyLimitSettings::fixed(0);
    /// let error = stack.apply(&stack.settings().concurrency_limit(none)).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "`concurrency_limit.limit` must be within 1..=2147483647, not 0",
    /// );
    /// # Ok::<_, seawall::ConfigError>(())
    /// ```
    ///
    /// A part without a mode in `settings` keeps its mode. Panic isolation, the drain, the timeouts
    /// and the request limit cannot be set to [`DryRun`](crate::policy::Mode::DryRun), since they
    /// have none.
    ///
    /// Each part changes as by the `set` of its handle. A request that arrives during the call may
    /// find some parts with their new settings and others with their old ones. A part that becomes
    /// enforced has its new settings first.
    ///
    /// # Errors
    ///
    /// The first field that is outside its range, in the order of the fields of [`Settings`], or a
    /// part that the stack does not have. Nothing is changed then.
    pub fn apply(&self, settings: &Settings) -> Result<Changes, ConfigError> {
        self.steps(settings).apply()
    }

    /// Checks settings as [`apply`](Self::apply) does, and changes nothing. Use this if one file
    /// has the settings of several stacks.
    ///
    /// # Errors
    ///
    /// Those of [`apply`](Self::apply).
    pub fn check(&self, settings: &Settings) -> Result<(), ConfigError> {
        self.steps(settings).check()
    }

    fn steps<'a>(&'a self, settings: &'a Settings) -> Steps<'a> {
        let Settings {
            catch_panic,
            lag_shed,
            drain,
            circuit_breaker,
            timeout,
            response_body_timeout: body,
            concurrency_limit: limit,
            request_limit,
        } = settings;
        let on = &self.switches;
        Steps::default()
            .switch("catch_panic", &on.catch_panic, catch_panic.as_ref())
            .part("lag_shed", &on.lag_shed, &self.lag_shed, lag_shed.as_ref())
            .part_without_dry_run("drain", &on.drain, &self.drain, drain.as_ref())
            .absent("circuit_breaker", circuit_breaker.is_some())
            .part_without_dry_run("timeout", &on.timeout, &self.timeout, timeout.as_ref())
            .part_without_dry_run(
                "response_body_timeout",
                &on.response_body_timeout,
                &self.response_body_timeout,
                body.as_ref(),
            )
            .part(
                "concurrency_limit",
                &on.concurrency_limit,
                &self.concurrency_limit,
                limit.as_ref(),
            )
            .part_without_dry_run(
                "request_limit",
                &on.request_limit,
                &self.request_limit,
                request_limit.as_ref(),
            )
    }
}

// === impl ClientHandle ===

impl<B> ClientHandle<B> {
    /// The name of the stack; empty if it has none.
    pub fn name(&self) -> &str {
        self.reporter.name()
    }

    /// The circuit breaker; with one per host, the policy that finds it.
    pub fn circuit_breaker(&self) -> &B {
        &self.circuit_breaker
    }

    /// The timeout.
    pub fn timeout(&self) -> &Timeout {
        &self.timeout
    }

    /// The timeouts of response bodies.
    pub fn response_body_timeout(&self) -> &ResponseBodyTimeout {
        &self.response_body_timeout
    }

    /// The concurrency limit.
    pub fn concurrency_limit(&self) -> &ConcurrencyLimit {
        &self.concurrency_limit
    }

    /// Turns the parts on and off while the client runs.
    pub fn switches(&self) -> &ClientSwitches {
        &self.switches
    }
}

impl<B: Clone + Into<ClientBreaker>> ClientHandle<B> {
    /// Names the stack, and the parts that have no name yet.
    pub(super) fn set_name(&self, name: Cow<'static, str>) {
        self.reporter.set_name(name.clone());
        self.circuit_breaker.clone().into().set_name(name.clone());
        let _ = self.timeout.clone().named(name.clone());
        let _ = self.concurrency_limit.clone().named(name);
    }

    /// The state of all parts now.
    pub fn snapshot(&self) -> ClientSnapshot {
        let on = &self.switches;
        let breaker = self.circuit_breaker.clone().into();
        ClientSnapshot {
            circuit_breaker: part(&on.circuit_breaker, breaker.snapshot()),
            timeout: part(&on.timeout, self.timeout.snapshot()),
            response_body_timeout: part(
                &on.response_body_timeout,
                self.response_body_timeout.snapshot(),
            ),
            concurrency_limit: part(&on.concurrency_limit, self.concurrency_limit.snapshot()),
        }
    }

    /// The settings of all parts. They are never a mixture of two that were applied. With one
    /// breaker per host, those of the breaker are for all hosts, also for future ones.
    pub fn settings(&self) -> Settings {
        let breaker = self.circuit_breaker.clone().into();
        let _one = one_at_a_time();
        let on = &self.switches;
        Settings {
            circuit_breaker: Some(present(&on.circuit_breaker, breaker.configurable())),
            timeout: Some(present(&on.timeout, &self.timeout)),
            response_body_timeout: Some(present(
                &on.response_body_timeout,
                &self.response_body_timeout,
            )),
            concurrency_limit: Some(present(&on.concurrency_limit, &self.concurrency_limit)),
            ..Settings::default()
        }
    }

    /// Replaces the settings of the parts that `settings` names, while calls run: of all of them,
    /// or, if one is not valid, of none. See [`ServerHandle::apply`].
    ///
    /// A breaker keeps its window: a window in `settings` must be the one with which it was made.
    /// With one breaker per host, the settings are applied to those of all hosts, also of future
    /// ones. They also replace those of hosts that you have changed separately, which the result
    /// does not list.
    ///
    /// # Errors
    ///
    /// The first field that is outside its range, in the order of the fields of [`Settings`], or a
    /// part that the stack does not have. Nothing is changed then.
    pub fn apply(&self, settings: &Settings) -> Result<Changes, ConfigError> {
        let breaker = self.circuit_breaker.clone().into();
        self.steps(&breaker, settings).apply()
    }

    /// Checks settings as [`apply`](Self::apply) does, and changes nothing. Use this if one file
    /// has the settings of several stacks.
    ///
    /// # Errors
    ///
    /// Those of [`apply`](Self::apply).
    pub fn check(&self, settings: &Settings) -> Result<(), ConfigError> {
        let breaker = self.circuit_breaker.clone().into();
        self.steps(&breaker, settings).check()
    }

    fn steps<'a>(&'a self, breaker: &'a ClientBreaker, settings: &'a Settings) -> Steps<'a> {
        let Settings {
            catch_panic,
            lag_shed,
            drain,
            circuit_breaker,
            timeout,
            response_body_timeout: body,
            concurrency_limit: limit,
            request_limit,
        } = settings;
        let on = &self.switches;
        Steps::default()
            .absent("catch_panic", catch_panic.is_some())
            .absent("lag_shed", lag_shed.is_some())
            .absent("drain", drain.is_some())
            .part(
                "circuit_breaker",
                &on.circuit_breaker,
                breaker.configurable(),
                circuit_breaker.as_ref(),
            )
            .part_without_dry_run("timeout", &on.timeout, &self.timeout, timeout.as_ref())
            .part_without_dry_run(
                "response_body_timeout",
                &on.response_body_timeout,
                &self.response_body_timeout,
                body.as_ref(),
            )
            .part(
                "concurrency_limit",
                &on.concurrency_limit,
                &self.concurrency_limit,
                limit.as_ref(),
            )
            .absent("request_limit", request_limit.is_some())
    }
}

// === impl ClientBreaker ===

impl ClientBreaker {
    fn configurable(&self) -> &dyn Configurable<Settings = CircuitBreakerSettings> {
        match self {
            Self::One(breaker) => breaker,
            #[cfg(feature = "keyed")]
            Self::Hosts(breakers) => breakers,
        }
    }

    /// The state of the breaker, or of those of all hosts.
    pub fn snapshot(&self) -> ClientBreakerSnapshot {
        match self {
            Self::One(breaker) => ClientBreakerSnapshot::One(Box::new(breaker.snapshot())),
            #[cfg(feature = "keyed")]
            Self::Hosts(breakers) => ClientBreakerSnapshot::Hosts(breakers.snapshot()),
        }
    }

    /// Sets the name, unless it has one.
    pub(super) fn set_name(self, name: Cow<'static, str>) {
        match self {
            Self::One(breaker) => drop(breaker.named(name)),
            #[cfg(feature = "keyed")]
            Self::Hosts(breakers) => drop(breakers.named(name)),
        }
    }
}

impl From<CircuitBreaker> for ClientBreaker {
    fn from(breaker: CircuitBreaker) -> Self {
        Self::One(breaker)
    }
}

#[cfg(feature = "keyed")]
impl From<super::PerHost> for ClientBreaker {
    fn from(breakers: super::PerHost) -> Self {
        Self::Hosts(breakers.breakers().clone())
    }
}
