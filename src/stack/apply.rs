//! How a stack reads its settings and applies others: all of them, or none.

use std::sync::{Mutex, MutexGuard};

use super::changes::Changes;
use super::settings::{PartSettings, Settings, SwitchSettings};
use super::{Client, Server, Stack};
use crate::catch_panic::CatchPanic;
use crate::circuit_breaker::{CircuitBreaker, CircuitBreakerSettings};
use crate::config::{ConfigError, Configurable, Fields, Settings as _};
use crate::policy::{Mode, Switch};
use crate::sync::lock;

/// One thread at a time reads or applies settings of stacks, which may share handles. Recorders and
/// wakers do not run under this lock.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The handle of a part, or several with the same settings.
trait Handle {
    type Settings: Clone + Fields;

    fn settings(&self) -> Self::Settings;

    /// Whether the handle can have these settings.
    fn check(&self, settings: &Self::Settings) -> Result<(), ConfigError>;

    /// Replaces the settings by others that are checked, and returns those before.
    fn replace(&self, settings: Self::Settings) -> Self::Settings;

    /// What follows from a change and may call code of the user.
    fn replaced(&self);
}

/// A part of a stack, and the settings that it is to have.
trait Step {
    fn check(&self) -> Result<(), ConfigError>;

    /// Changes the part. It cannot fail once everything is checked.
    fn replace(&mut self);

    /// Reports what has changed, outside the lock.
    fn finish(self: Box<Self>, changes: &mut Changes);
}

/// A part with a switch and a handle.
struct Part<'a, H: Handle> {
    name: &'static str,
    switch: &'a Switch,
    handle: &'a H,
    new: &'a PartSettings<H::Settings>,
    old: Option<PartSettings<H::Settings>>,
}

/// A part with a switch only.
struct SwitchPart<'a> {
    name: &'static str,
    switch: &'a Switch,
    new: &'a SwitchSettings,
    old: Option<SwitchSettings>,
}

/// A part that the stack does not have.
struct Absent {
    name: &'static str,
}

/// What [`Stack::apply`] does, in the order of the fields of [`Settings`].
#[derive(Default)]
struct Steps<'a>(Vec<Box<dyn Step + 'a>>);

// === impl Stack ===

/// Reads and changes the settings of all parts.
impl<M, F, C: AsRef<CatchPanic>, X> Stack<Server<M, F, C>, X> {
    /// The settings of all parts. They are never a mixture of two that were applied.
    pub fn settings(&self) -> Settings {
        let _one = one_at_a_time();
        let switches = self.switches();
        let mode = switches.catch_panic.mode();
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
            .part("drain", &on.drain, self.drain(), drain.as_ref())
            .absent("circuit_breaker", circuit_breaker.is_some())
            .part("timeout", &on.timeout, self.timeout(), timeout.as_ref())
            .part(
                "concurrency_limit",
                &on.concurrency_limit,
                limit,
                concurrency_limit.as_ref(),
            )
            .part(
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
        settings_of_client(self)
    }

    /// Replaces the settings of the parts that `settings` names, while calls run: of all of them,
    /// or, if one is not valid, of none. See [`apply`](Stack::apply) of a server.
    ///
    /// The window of the breaker must be the one with which it was made.
    ///
    /// # Errors
    ///
    /// The first field that is outside its range, in the order of the fields of [`Settings`], or a
    /// part that the stack does not have. Nothing is changed then.
    pub fn apply(&self, settings: &Settings) -> Result<Changes, ConfigError> {
        apply_to_client(self, settings)
    }
}

/// Reads and changes the settings of all parts.
#[cfg(feature = "keyed")]
impl<M, X> Stack<Client<super::PerHost, M>, X> {
    /// The settings of all parts; those of the breaker are for all hosts, also for future ones.
    /// They are never a mixture of two that were applied.
    pub fn settings(&self) -> Settings {
        settings_of_client(self)
    }

    /// Replaces the settings of the parts that `settings` names, while calls run: of all of them,
    /// or, if one is not valid, of none. See [`apply`](Stack::apply) of a server.
    ///
    /// The settings of the breaker are applied to those of all hosts, also of future ones, and of
    /// those that you have changed separately. The window must be the one with which the breakers
    /// were made.
    ///
    /// # Errors
    ///
    /// The first field that is outside its range, in the order of the fields of [`Settings`], or a
    /// part that the stack does not have. Nothing is changed then.
    pub fn apply(&self, settings: &Settings) -> Result<Changes, ConfigError> {
        apply_to_client(self, settings)
    }
}

fn settings_of_client<B, M, X>(stack: &Stack<Client<B, M>, X>) -> Settings
where
    B: Handle<Settings = CircuitBreakerSettings>,
{
    let _one = one_at_a_time();
    let switches = stack.switches();
    Settings {
        catch_panic: None,
        lag_shed: None,
        drain: None,
        circuit_breaker: Some(present(&switches.circuit_breaker, stack.circuit_breaker())),
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
    settings: &Settings,
) -> Result<Changes, ConfigError>
where
    B: Handle<Settings = CircuitBreakerSettings>,
{
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
    let (breaker, limit) = (stack.circuit_breaker(), stack.concurrency_limit());
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
        .part("timeout", &on.timeout, stack.timeout(), timeout.as_ref())
        .part(
            "concurrency_limit",
            &on.concurrency_limit,
            limit,
            concurrency_limit.as_ref(),
        )
        .absent("request_limit", request_limit.is_some())
        .apply()
}

fn one_at_a_time() -> MutexGuard<'static, ()> {
    lock(&ONE_AT_A_TIME)
}

/// The settings of a part now.
fn present<H: Handle>(switch: &Switch, handle: &H) -> PartSettings<H::Settings> {
    PartSettings::from(handle.settings()).mode(switch.mode())
}

// === impl Steps ===

impl<'a> Steps<'a> {
    fn part<H: Handle>(
        mut self,
        name: &'static str,
        switch: &'a Switch,
        handle: &'a H,
        new: Option<&'a PartSettings<H::Settings>>,
    ) -> Self {
        self.0.extend(new.map(|new| {
            let old = None;
            Box::new(Part {
                name,
                switch,
                handle,
                new,
                old,
            }) as Box<dyn Step>
        }));
        self
    }

    fn switch(
        mut self,
        name: &'static str,
        switch: &'a Switch,
        new: Option<&'a SwitchSettings>,
    ) -> Self {
        self.0.extend(new.map(|new| {
            let old = None;
            Box::new(SwitchPart {
                name,
                switch,
                new,
                old,
            }) as Box<dyn Step>
        }));
        self
    }

    /// A part that the stack does not have.
    fn absent(mut self, name: &'static str, is_given: bool) -> Self {
        let absent = is_given.then(|| Box::new(Absent { name }) as Box<dyn Step>);
        self.0.extend(absent);
        self
    }

    fn apply(mut self) -> Result<Changes, ConfigError> {
        {
            let _one = one_at_a_time();
            self.0.iter().try_for_each(|step| step.check())?;
            for step in &mut self.0 {
                step.replace();
            }
        }
        let mut changes = Changes::default();
        for step in self.0 {
            step.finish(&mut changes);
        }
        Ok(changes)
    }
}

// === impl Handle ===

impl<H: Configurable<Settings: Fields>> Handle for H {
    type Settings = H::Settings;

    fn settings(&self) -> H::Settings {
        self.current().get()
    }

    fn check(&self, settings: &H::Settings) -> Result<(), ConfigError> {
        settings.check()?;
        // What is checked here does not change between two settings.
        settings.check_against(&self.current().get())
    }

    fn replace(&self, settings: H::Settings) -> H::Settings {
        self.current()
            .replace(settings, |settings| self.publish(settings))
    }

    fn replaced(&self) {
        self.follow_up();
    }
}

#[cfg(feature = "keyed")]
impl Handle for super::PerHost {
    type Settings = CircuitBreakerSettings;

    fn settings(&self) -> CircuitBreakerSettings {
        self.breakers().settings()
    }

    fn check(&self, settings: &CircuitBreakerSettings) -> Result<(), ConfigError> {
        settings.check()?;
        settings.check_against(&self.breakers().settings())
    }

    fn replace(&self, settings: CircuitBreakerSettings) -> CircuitBreakerSettings {
        self.breakers().replace(|_| settings)
    }

    fn replaced(&self) {
        self.breakers().replaced();
    }
}

// === impl Step ===

impl<H: Handle> Step for Part<'_, H> {
    fn check(&self) -> Result<(), ConfigError> {
        let checked = self.handle.check(&self.new.settings);
        checked.map_err(|error| error.of_part(self.name))
    }

    fn replace(&mut self) {
        let mode = self.switch.mode();
        // A part that is turned off or into a dry run does not enforce its new settings, and one
        // that becomes enforced has them first.
        if self.new.mode != Mode::Enforce {
            self.switch.set(self.new.mode);
        }
        let settings = self.handle.replace(self.new.settings.clone());
        self.switch.set(self.new.mode);
        self.old = Some(PartSettings { mode, settings });
    }

    fn finish(self: Box<Self>, changes: &mut Changes) {
        self.handle.replaced();
        if let Some(old) = &self.old {
            changes.add(self.name, old, self.new);
        }
    }
}

impl Step for SwitchPart<'_> {
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    fn replace(&mut self) {
        let mode = self.switch.mode();
        self.switch.set(self.new.mode);
        self.old = Some(SwitchSettings { mode });
    }

    fn finish(self: Box<Self>, changes: &mut Changes) {
        if let Some(old) = &self.old {
            changes.add(self.name, old, self.new);
        }
    }
}

impl Step for Absent {
    fn check(&self) -> Result<(), ConfigError> {
        let allowed = "left out, since the stack has no such part";
        Err(ConfigError::new(self.name, "given", allowed))
    }

    fn replace(&mut self) {}

    fn finish(self: Box<Self>, _: &mut Changes) {}
}
