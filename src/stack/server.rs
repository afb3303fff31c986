//! The stack for a service.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

#[cfg(doc)]
use super::Settings;
use super::{Part, PartSnapshot, ServerHandle, Stack, StackParts};
use crate::catch_panic::{CatchPanic, CatchPanicSnapshot, OnPanic};
use crate::concurrency_limit::{
    ConcurrencyLimit, ConcurrencyLimitSettings, ConcurrencyLimitSnapshot,
};
use crate::config::ConfigError;
use crate::control::lag::thresholds::LagThresholds;
use crate::drain::{Drain, DrainSettings, DrainSnapshot};
#[cfg(doc)]
use crate::gate::GateLayer;
use crate::http::{HttpRequest, RequestHead};
use crate::lag_shed::{LagShed, LagShedSnapshot};
use crate::observe::Reporter;
use crate::panic_report::PanicReport;
use crate::policy::{Either, Exempt, Mode, Never, NeverWaits, Policy, Switch, Switched};
use crate::request_limit::{RequestLimit, RequestLimitSettings, RequestLimitSnapshot};
use crate::timeout::{
    ResponseBodyTimeout, ResponseBodyTimeoutSettings, ResponseBodyTimeoutSnapshot, Timeout,
    TimeoutSettings, TimeoutSnapshot,
};

/// The recommended stack for a service; see the [module docs](super).
///
/// ```
/// use std::time::Duration;
/// use seawall::ConcurrencyLimitSettings;
///
/// let limit = ConcurrencyLimitSettings::fixed(512).queue(128, Duration::from_millis(100));
/// let stack = seawall::server()
///     .timeout(Duration::from_secs(5))
///     .concurrency_limit(limit)
///     .request_body_limit(8 << 20)
///     .exempt(|head| seawall::Health::has_path(head.path()))
///     .build()?;
/// # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
/// # fits_a_router(stack);
/// # Ok::<_, seawall::ConfigError>(())
/// ```
pub fn server() -> ServerBuilder {
    ServerBuilder {
        given: Given {
            name: Cow::Borrowed(""),
            lag_shed: LagThresholds::default().into(),
            drain: DrainSettings::default().into(),
            timeout: Duration::from_secs(30).into(),
            exposes_deadline: false,
            response_body_timeout: ResponseBodyTimeoutSettings::server().into(),
            concurrency_limit: 1024.into(),
            request_limit: (2 << 20).into(),
        },
        catch_panic: CatchPanic::new(),
        policy: (),
        exempt: Never,
    }
}

/// The policy of a [`server`] stack; `M` are your policies, `F` is the exemption, and `C` isolates
/// panics.
pub type Server<M = (), F = Never, C = CatchPanic> = StackParts<
    (
        Switched<C>,
        Exempt<(Switched<LagShed>, Switched<Drain>, M), F>,
        Switched<ResponseBodyTimeout>,
        Switched<Timeout>,
        Switched<RequestLimit>,
        Exempt<Switched<ConcurrencyLimit>, F>,
    ),
    ServerHandle,
>;

/// Builds the stack of a [`server`].
#[must_use = "a builder does nothing until it is built"]
pub struct ServerBuilder<M = (), F = Never, C = CatchPanic> {
    given: Given,
    catch_panic: C,
    policy: M,
    exempt: F,
}

/// What a builder was given, whatever its types are.
struct Given {
    name: Cow<'static, str>,
    lag_shed: Part<LagShed, LagThresholds>,
    drain: Part<Drain, DrainSettings>,
    timeout: Part<Timeout, TimeoutSettings>,
    exposes_deadline: bool,
    response_body_timeout: Part<ResponseBodyTimeout, ResponseBodyTimeoutSettings>,
    concurrency_limit: Part<ConcurrencyLimit, ConcurrencyLimitSettings>,
    request_limit: Part<RequestLimit, RequestLimitSettings>,
}

/// The switches of a [`server`] stack.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerSwitches {
    /// Panic isolation.
    pub catch_panic: Switch,
    /// Lag shedding.
    pub lag_shed: Switch,
    /// The drain. Requests that come while it is off are not counted, and so not waited for.
    pub drain: Switch,
    /// The timeout.
    pub timeout: Switch,
    /// The timeouts of response bodies.
    pub response_body_timeout: Switch,
    /// The concurrency limit.
    pub concurrency_limit: Switch,
    /// The request limit.
    pub request_limit: Switch,
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
    /// The drain.
    pub drain: PartSnapshot<DrainSnapshot>,
    /// The timeout. Its counter includes the response bodies that were ended.
    pub timeout: PartSnapshot<TimeoutSnapshot>,
    /// The timeouts of response bodies.
    pub response_body_timeout: PartSnapshot<ResponseBodyTimeoutSnapshot>,
    /// The concurrency limit.
    pub concurrency_limit: PartSnapshot<ConcurrencyLimitSnapshot>,
    /// The request limit.
    pub request_limit: PartSnapshot<RequestLimitSnapshot>,
    /// Requests so far that were exempt.
    pub exempt: u64,
}

// === impl ServerBuilder ===

impl<M, F, C> ServerBuilder<M, F, C> {
    /// Names the stack and those of its parts that have no name yet, in rejections, metrics and
    /// events. Default: empty. Name a handle yourself if other code uses it before `build`, or if
    /// several stacks share it, as they may share a drain.
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.given.name = name.into();
        self
    }

    /// Uses this handle for panic isolation. It has no hook: call
    /// [`on_panic`](ServerBuilder::on_panic) after it.
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

    /// Keeps the method and URI of each request while it runs, so that the events of panics and
    /// timeouts have them; see [`CatchPanicLayer::keep_requests`](GateLayer::keep_requests).
    pub fn keep_requests(self) -> ServerBuilder<M, F, OnPanic>
    where
        C: Into<OnPanic>,
    {
        self.with_catch_panic(Into::into)
    }

    fn with_catch_panic<D>(self, change: impl FnOnce(C) -> D) -> ServerBuilder<M, F, D> {
        ServerBuilder {
            given: self.given,
            catch_panic: change(self.catch_panic),
            policy: self.policy,
            exempt: self.exempt,
        }
    }

    /// Sheds load with a [`LagShed`], or with one that has these [`LagThresholds`]. Default:
    /// [`LagShed::default`].
    pub fn lag_shed(mut self, lag_shed: impl Into<Part<LagShed, LagThresholds>>) -> Self {
        self.given.lag_shed = lag_shed.into();
        self
    }

    /// The drain: a [`Drain`], for example one that several stacks of the process share, its
    /// settings, or its lame-duck time. Default: [`Drain::default`].
    pub fn drain(mut self, drain: impl Into<Part<Drain, DrainSettings>>) -> Self {
        self.given.drain = drain.into();
        self
    }

    /// The time to the response head: a `Duration`, [`TimeoutSettings`] or a [`Timeout`]. Default:
    /// 30 s. A route may have less time with a [`TimeoutLayer`](crate::TimeoutLayer) of its own, or
    /// more with [`raisable_to`](TimeoutSettings::raisable_to()) here. See also [a timeout for each
    /// gRPC method](crate::docs::placement#a-timeout-for-each-grpc-method).
    pub fn timeout(mut self, timeout: impl Into<Part<Timeout, TimeoutSettings>>) -> Self {
        self.given.timeout = timeout.into();
        self
    }

    /// The timeouts of response bodies: [`ResponseBodyTimeoutSettings`] or a
    /// [`ResponseBodyTimeout`]. Default: [`ResponseBodyTimeoutSettings::server`], a progress
    /// timeout of 60 s.
    pub fn response_body_timeout(
        mut self,
        timeout: impl Into<Part<ResponseBodyTimeout, ResponseBodyTimeoutSettings>>,
    ) -> Self {
        self.given.response_body_timeout = timeout.into();
        self
    }

    /// Puts a [`Deadline`](crate::Deadline) into the request's extensions; see
    /// [`GateLayer::expose_deadline`].
    pub fn expose_deadline(mut self) -> Self {
        self.given.exposes_deadline = true;
        self
    }

    /// The upper bound for the requests in flight: a number, [`ConcurrencyLimitSettings`] or a
    /// [`ConcurrencyLimit`]. Default: 1024, without a queue.
    pub fn concurrency_limit(
        mut self,
        limit: impl Into<Part<ConcurrencyLimit, ConcurrencyLimitSettings>>,
    ) -> Self {
        self.given.concurrency_limit = limit.into();
        self
    }

    /// The largest request body, in bytes. Default: 2 MiB. It replaces all bounds of an earlier
    /// [`request_limit`](Self::request_limit). Axum's extractors have a limit of their own, 2 MiB:
    /// for more, also raise or disable axum's `DefaultBodyLimit`.
    pub fn request_body_limit(self, max_bytes: u64) -> Self {
        self.request_limit(max_bytes)
    }

    /// Bounds for requests: the largest body in bytes, [`RequestLimitSettings`] or a
    /// [`RequestLimit`]. Default: 2 MiB.
    pub fn request_limit(
        mut self,
        limit: impl Into<Part<RequestLimit, RequestLimitSettings>>,
    ) -> Self {
        self.given.request_limit = limit.into();
        self
    }

    /// Adds a policy of your own, after the lag shedder, the drain and those added before.
    ///
    /// A policy that may wait does not compile: only the concurrency limit may queue requests.
    pub fn policy<P>(self, policy: P) -> ServerBuilder<(M, P), F, C>
    where
        P: Policy<HttpRequest, Wait: NeverWaits>,
    {
        ServerBuilder {
            given: self.given,
            catch_panic: self.catch_panic,
            policy: (self.policy, policy),
            exempt: self.exempt,
        }
    }

    /// Exempts the requests for which the closure returns `true`, for example health checks. Lag
    /// shedding, the drain, the concurrency limit and your policies do not see them. Panic
    /// isolation, the timeouts and the request limit still apply. A second call exempts more
    /// requests.
    ///
    /// The stack calls the closure twice for a request: before the lag shedder, and before the
    /// concurrency limit. Its result must depend on the head alone.
    pub fn exempt<G>(self, exempt: G) -> ServerBuilder<M, Either<F, G>, C>
    where
        G: Fn(&RequestHead<'_>) -> bool + Clone,
    {
        ServerBuilder {
            given: self.given,
            catch_panic: self.catch_panic,
            policy: self.policy,
            exempt: Either(self.exempt, exempt),
        }
    }

    /// The stack.
    ///
    /// # Errors
    ///
    /// Returns an error if a number or a field of settings is outside its range: the first one, in
    /// the order of the fields of [`Settings`]. The error names the part and the field.
    pub fn build(self) -> Result<Stack<Server<M, F, C>>, ConfigError>
    where
        M: Policy<HttpRequest>,
        F: Clone,
        C: AsRef<CatchPanic> + Policy<HttpRequest>,
    {
        let given = self.given;
        let (limit, body) = (given.concurrency_limit, given.response_body_timeout);
        let mut handle = ServerHandle {
            catch_panic: self.catch_panic.as_ref().clone(),
            lag_shed: given.lag_shed.into_handle("lag_shed", LagShed::new)?,
            drain: given.drain.into_handle("drain", Drain::new)?,
            timeout: given.timeout.into_handle("timeout", Timeout::new)?,
            response_body_timeout: body
                .into_handle("response_body_timeout", ResponseBodyTimeout::new)?,
            concurrency_limit: limit.into_handle("concurrency_limit", ConcurrencyLimit::new)?,
            request_limit: given
                .request_limit
                .into_handle("request_limit", RequestLimit::new)?,
            switches: ServerSwitches::new(),
            reporter: Reporter::new("stack"),
        };
        if given.exposes_deadline {
            handle.timeout = handle.timeout.exposed();
        }
        if !given.name.is_empty() {
            handle.set_name(given.name);
        }
        let (part, on) = (handle.clone(), handle.switches.clone());
        let early = (
            Switched::new(part.lag_shed, on.lag_shed),
            Switched::new(part.drain, on.drain),
            self.policy,
        );
        let bodies = part.response_body_timeout.beside(&part.timeout);
        let limit = Switched::new(part.concurrency_limit, on.concurrency_limit);
        let parts = (
            Switched::new(self.catch_panic, on.catch_panic),
            Exempt::new(early, self.exempt.clone()).counted_by(&part.reporter),
            Switched::new(bodies, on.response_body_timeout),
            Switched::new(part.timeout, on.timeout),
            Switched::new(part.request_limit, on.request_limit),
            Exempt::new(limit, self.exempt),
        );
        Ok(Stack::<Server<M, F, C>>::new(parts, handle, part.reporter))
    }
}

impl<M, F, C> fmt::Debug for ServerBuilder<M, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("name", &self.given.name)
            .finish_non_exhaustive()
    }
}

// === impl ServerSwitches ===

impl ServerSwitches {
    fn new() -> Self {
        Self {
            catch_panic: Switch::new(Mode::Enforce),
            lag_shed: Switch::new(Mode::Enforce),
            drain: Switch::new(Mode::Enforce),
            timeout: Switch::new(Mode::Enforce),
            response_body_timeout: Switch::new(Mode::Enforce),
            concurrency_limit: Switch::new(Mode::Enforce),
            request_limit: Switch::new(Mode::Enforce),
        }
    }
}
