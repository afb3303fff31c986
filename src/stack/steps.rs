//! The steps of a change of settings: each part is checked, then all are changed.

use std::sync::{Mutex, MutexGuard};

use super::changes::Changes;
use super::settings::{PartSettings, SwitchSettings};
#[cfg(feature = "keyed")]
use crate::circuit_breaker::CircuitBreakerSettings;
use crate::config::{ConfigError, Configurable, Fields, Settings as _};
use crate::policy::{Mode, Switch};
use crate::sync::lock;

/// One thread at a time reads or applies settings of stacks, which may share handles. Recorders and
/// wakers do not run under this lock.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The handle of a part, or several with the same settings.
pub(super) trait Handle {
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

/// The mode of a part that has no dry run.
struct ModeStep<'a> {
    name: &'static str,
    switch: &'a Switch,
    new: Option<Mode>,
}

/// A part that the stack does not have.
struct Absent {
    name: &'static str,
}

/// What [`Stack::apply`] does, in the order of the fields of [`Settings`].
#[derive(Default)]
pub(super) struct Steps<'a>(Vec<Box<dyn Step + 'a>>);

pub(super) fn one_at_a_time() -> MutexGuard<'static, ()> {
    lock(&ONE_AT_A_TIME)
}

/// The settings of a part now.
pub(super) fn present<H: Handle>(switch: &Switch, handle: &H) -> PartSettings<H::Settings> {
    PartSettings::from(handle.settings()).mode(switch.mode())
}

// === impl Steps ===

impl<'a> Steps<'a> {
    pub(super) fn part<H: Handle>(
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

    pub(super) fn switch(
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

    /// A part that has no dry run.
    pub(super) fn part_without_dry_run<H: Handle>(
        self,
        name: &'static str,
        switch: &'a Switch,
        handle: &'a H,
        new: Option<&'a PartSettings<H::Settings>>,
    ) -> Self {
        self.no_dry_run(name, switch, new.and_then(|new| new.mode))
            .part(name, switch, handle, new)
    }

    /// The part has no dry run: the mode is an error, unless the part has it already.
    pub(super) fn no_dry_run(
        mut self,
        name: &'static str,
        switch: &'a Switch,
        new: Option<Mode>,
    ) -> Self {
        self.0.push(Box::new(ModeStep { name, switch, new }));
        self
    }

    /// A part that the stack does not have.
    pub(super) fn absent(mut self, name: &'static str, is_given: bool) -> Self {
        let absent = is_given.then(|| Box::new(Absent { name }) as Box<dyn Step>);
        self.0.extend(absent);
        self
    }

    pub(super) fn apply(mut self) -> Result<Changes, ConfigError> {
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
        let new = self.new.mode;
        // A part that is turned off or into a dry run does not enforce its new settings, and one
        // that becomes enforced has them first.
        if let Some(new @ (Mode::DryRun | Mode::Off)) = new {
            self.switch.set(new);
        }
        let settings = self.handle.replace(self.new.settings.clone());
        if let Some(new) = new {
            self.switch.set(new);
        }
        self.old = Some(PartSettings::from(settings).mode(mode));
    }

    fn finish(self: Box<Self>, changes: &mut Changes) {
        self.handle.replaced();
        if let Some(old) = &self.old {
            changes.add(self.name, old, &self.new.clone().or(old));
        }
    }
}

impl Step for SwitchPart<'_> {
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    fn replace(&mut self) {
        let mode = Some(self.switch.mode());
        if let Some(new) = self.new.mode {
            self.switch.set(new);
        }
        self.old = Some(SwitchSettings { mode });
    }

    fn finish(self: Box<Self>, changes: &mut Changes) {
        if let Some(old) = &self.old {
            changes.add(self.name, old, &self.new.or(*old));
        }
    }
}

impl Step for ModeStep<'_> {
    fn check(&self) -> Result<(), ConfigError> {
        if self.new != Some(Mode::DryRun) || self.switch.mode() == Mode::DryRun {
            return Ok(());
        }
        let allowed = "`enforce` or `off`, since the part has no dry run";
        let error = ConfigError::new("mode", Mode::DryRun.to_string(), allowed);
        Err(error.of_part(self.name))
    }

    fn replace(&mut self) {}

    fn finish(self: Box<Self>, _: &mut Changes) {}
}

impl Step for Absent {
    fn check(&self) -> Result<(), ConfigError> {
        let allowed = "left out, since the stack has no such part";
        Err(ConfigError::new(self.name, "given", allowed))
    }

    fn replace(&mut self) {}

    fn finish(self: Box<Self>, _: &mut Changes) {}
}
