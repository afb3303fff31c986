//! How a stack reads its settings and applies others: all of them, or none.

use super::changes::Changes;
use super::settings::{Settings, SwitchSettings};
use super::steps::{Steps, one_at_a_time, present};
use super::{Client, Server, Stack};
use crate::catch_panic::CatchPanic;
use crate::circuit_breaker::{CircuitBreaker, CircuitBreakerSettings};
use crate::config::{ConfigError, Configurable};

// === impl Stack ===

/// Reads and changes the settings of all parts.
impl<M, F, C: AsRef<CatchPanic>, X> Stack<Server<M, F, C>, X> {
    /// The settings of all parts. They are never a mixture of two that were applied.
    pub fn settings(&self) -> Settings {
        let _one = one_at_a_time();
        let switches = self.switches();
        let mode = Some(switches.catch_panic.mode());
        Settings {
            catch_panic: Some(SwitchSettings { mode }),
            lag_shed: Some(present(&switches.lag_shed, self.lag_shed())),
            drain: Some(present(&switches.drain, self.drain())),
            circuit_breaker: None,
            timeout: Some(present(&switches.timeout, self.timeout())),
            concurrency_limit: Some(present(
                &switches.concurrency_limit,
                self.concurrency_limit(),
            )),
            request_limit: Some(present(&switches.request_limit, self.request_limit())),
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
    /// A part without a mode in `settings` keeps its mode. Panic isolation, the drain, the timeout
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
        let Settings {
            catch_panic,
            lag_shed,
            drain,
            circuit_breaker,
            timeout,
            concurrency_limit,
            request_limit,
        } = settings;
        let on = self.switches();
        let (shed, limit, requests) = (
            self.lag_shed(),
            self.concurrency_limit(),
            self.request_limit(),
        );
        Steps::default()
            .switch("catch_panic", &on.catch_panic, catch_panic.as_ref())
            .part("lag_shed", &on.lag_shed, shed, lag_shed.as_ref())
            .part_without_dry_run("drain", &on.drain, self.drain(), drain.as_ref())
            .absent("circuit_breaker", circuit_breaker.is_some())
            .part_without_dry_run("timeout", &on.timeout, self.timeout(), timeout.as_ref())
            .part(
                "concurrency_limit",
                &on.concurrency_limit,
                limit,
                concurrency_limit.as_ref(),
            )
            .part_without_dry_run(
                "request_limit",
                &on.request_limit,
                requests,
                request_limit.as_ref(),
            )
            .apply()
    }
}

/// Reads and changes the settings of all parts.
impl<M, X> Stack<Client<CircuitBreaker, M>, X> {
    /// The settings of all parts. They are never a mixture of two that were applied.
    pub fn settings(&self) -> Settings {
        settings_of_client(self, self.circuit_breaker())
    }

    /// Replaces the settings of the parts that `settings` names, while calls run: of all of them,
    /// or, if one is not valid, of none. See [`apply`](Stack::apply) of a server.
    ///
    /// The breaker keeps its window: a window in `settings` must be the one with which it was made.
    ///
    /// # Errors
    ///
    /// The first field that is outside its range, in the order of the fields of [`Settings`], or a
    /// part that the stack does not have. Nothing is changed then.
    pub fn apply(&self, settings: &Settings) -> Result<Changes, ConfigError> {
        apply_to_client(self, self.circuit_breaker(), settings)
    }
}

/// Reads and changes the settings of all parts.
#[cfg(feature = "keyed")]
impl<M, X> Stack<Client<super::PerHost, M>, X> {
    /// The settings of all parts; those of the breaker are for all hosts, also for future ones.
    /// They are never a mixture of two that were applied.
    pub fn settings(&self) -> Settings {
        settings_of_client(self, self.circuit_breaker().breakers())
    }

    /// Replaces the settings of the parts that `settings` names, while calls run: of all of them,
    /// or, if one is not valid, of none. See [`apply`](Stack::apply) of a server.
    ///
    /// The settings of the breaker are applied to those of all hosts, also of future ones. They
    /// also replace those of hosts that you have changed separately, which the result does not
    /// list. The breakers keep their window: a window in `settings` must be the one with which they
    /// were made.
    ///
    /// # Errors
    ///
    /// The first field that is outside its range, in the order of the fields of [`Settings`], or a
    /// part that the stack does not have. Nothing is changed then.
    pub fn apply(&self, settings: &Settings) -> Result<Changes, ConfigError> {
        apply_to_client(self, self.circuit_breaker().breakers(), settings)
    }
}

fn settings_of_client<B, M, X>(
    stack: &Stack<Client<B, M>, X>,
    breaker: &impl Configurable<Settings = CircuitBreakerSettings>,
) -> Settings {
    let _one = one_at_a_time();
    let switches = stack.switches();
    Settings {
        catch_panic: None,
        lag_shed: None,
        drain: None,
        circuit_breaker: Some(present(&switches.circuit_breaker, breaker)),
        timeout: Some(present(&switches.timeout, stack.timeout())),
        concurrency_limit: Some(present(
            &switches.concurrency_limit,
            stack.concurrency_limit(),
        )),
        request_limit: None,
    }
}

fn apply_to_client<B, M, X>(
    stack: &Stack<Client<B, M>, X>,
    breaker: &impl Configurable<Settings = CircuitBreakerSettings>,
    settings: &Settings,
) -> Result<Changes, ConfigError> {
    let Settings {
        catch_panic,
        lag_shed,
        drain,
        circuit_breaker,
        timeout,
        concurrency_limit,
        request_limit,
    } = settings;
    let on = stack.switches();
    let limit = stack.concurrency_limit();
    Steps::default()
        .absent("catch_panic", catch_panic.is_some())
        .absent("lag_shed", lag_shed.is_some())
        .absent("drain", drain.is_some())
        .part(
            "circuit_breaker",
            &on.circuit_breaker,
            breaker,
            circuit_breaker.as_ref(),
        )
        .part_without_dry_run("timeout", &on.timeout, stack.timeout(), timeout.as_ref())
        .part(
            "concurrency_limit",
            &on.concurrency_limit,
            limit,
            concurrency_limit.as_ref(),
        )
        .absent("request_limit", request_limit.is_some())
        .apply()
}
