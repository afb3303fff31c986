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

    /// Makes the changes of state that are due under the present settings, which may call code of
    /// the user.
    fn advance(&self);

    /// Replaces the settings by others that are checked, and completes these in place. Returns
    /// those before.
    fn replace(&self, settings: &mut Self::Settings) -> Self::Settings;

    /// What follows from a change and may call code of the user.
    fn replaced(&self);
}

/// The change of one part.
struct Step<'a> {
    /// Makes the changes of state that are due. It runs before the other two, outside the lock.
    advance: Box<dyn Fn() + 'a>,
    check: Box<dyn Fn() -> Result<(), ConfigError> + 'a>,
    /// Cannot fail once everything is checked.
    replace: Box<dyn FnOnce() -> Report<'a> + 'a>,
}

/// Reports what has changed, outside the lock.
type Report<'a> = Box<dyn FnOnce(&mut Changes) + 'a>;

/// What [`Stack::apply`] does, in the order of the fields of [`Settings`].
#[derive(Default)]
pub(super) struct Steps<'a>(Vec<Step<'a>>);

pub(super) fn one_at_a_time() -> MutexGuard<'static, ()> {
    lock(&ONE_AT_A_TIME)
}

/// The settings of a part now.
pub(super) fn present<H: Handle>(switch: &Switch, handle: &H) -> PartSettings<H::Settings> {
    PartSettings::from(handle.settings()).mode(switch.mode())
}

// === impl Steps ===

impl<'a> Steps<'a> {
    /// A part with a switch and a handle.
    pub(super) fn part<H: Handle>(
        mut self,
        name: &'static str,
        switch: &'a Switch,
        handle: &'a H,
        new: Option<&'a PartSettings<H::Settings>>,
    ) -> Self {
        self.0.extend(new.map(|new| {
            let check = move || {
                let checked = handle.check(&new.settings);
                checked.map_err(|error| error.of_part(name))
            };
            let replace = move || {
                let mode = switch.mode();
                // A part that is turned off or into a dry run does not enforce its new settings,
                // and one that becomes enforced has them first.
                if let Some(new @ (Mode::DryRun | Mode::Off)) = new.mode {
                    switch.set(new);
                }
                let mut new = new.clone();
                let old = PartSettings::from(handle.replace(&mut new.settings)).mode(mode);
                if let Some(new) = new.mode {
                    switch.set(new);
                }
                Box::new(move |changes: &mut Changes| {
                    handle.replaced();
                    changes.add(name, &old, &new.or(&old));
                }) as Report<'a>
            };
            Step {
                advance: Box::new(|| handle.advance()),
                check: Box::new(check),
                replace: Box::new(replace),
            }
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

    /// A part that has a switch only, and no dry run.
    pub(super) fn switch(
        self,
        name: &'static str,
        switch: &'a Switch,
        new: Option<&'a SwitchSettings>,
    ) -> Self {
        let mut this = self.no_dry_run(name, switch, new.and_then(|new| new.mode));
        this.0.extend(new.map(|new| {
            let replace = move || {
                let mode = Some(switch.mode());
                if let Some(new) = new.mode {
                    switch.set(new);
                }
                let old = SwitchSettings { mode };
                Box::new(move |changes: &mut Changes| changes.add(name, &old, &new.or(old)))
                    as Report<'a>
            };
            Step {
                advance: Box::new(|| ()),
                check: Box::new(|| Ok(())),
                replace: Box::new(replace),
            }
        }));
        this
    }

    /// The part has no dry run: the mode is an error, unless the part has it already.
    fn no_dry_run(self, name: &'static str, switch: &'a Switch, new: Option<Mode>) -> Self {
        self.check(move || {
            if new != Some(Mode::DryRun) || switch.mode() == Mode::DryRun {
                return Ok(());
            }
            let allowed = "`enforce` or `off`, since the part has no dry run";
            let error = ConfigError::new("mode", Mode::DryRun.to_string(), allowed);
            Err(error.of_part(name))
        })
    }

    /// A part that the stack does not have.
    pub(super) fn absent(self, name: &'static str, is_given: bool) -> Self {
        if !is_given {
            return self;
        }
        let allowed = "left out, since the stack has no such part";
        self.check(move || Err(ConfigError::new(name, "given", allowed)))
    }

    /// A step that only checks.
    fn check(mut self, check: impl Fn() -> Result<(), ConfigError> + 'a) -> Self {
        self.0.push(Step {
            advance: Box::new(|| ()),
            check: Box::new(check),
            replace: Box::new(|| Box::new(|_| ())),
        });
        self
    }

    pub(super) fn apply(self) -> Result<Changes, ConfigError> {
        self.0.iter().for_each(|step| (step.advance)());
        let reports: Vec<_> = {
            let _one = one_at_a_time();
            self.0.iter().try_for_each(|step| (step.check)())?;
            let steps = self.0.into_iter();
            steps.map(|step| (step.replace)()).collect()
        };
        let mut changes = Changes::default();
        for report in reports {
            report(&mut changes);
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
        settings.clone().fit(&self.current().get())
    }

    fn advance(&self) {
        Configurable::advance(self);
    }

    fn replace(&self, settings: &mut H::Settings) -> H::Settings {
        Configurable::replace(self, settings)
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
        settings.clone().fit(&self.breakers().settings())
    }

    fn advance(&self) {
        self.breakers().advance();
    }

    fn replace(&self, settings: &mut CircuitBreakerSettings) -> CircuitBreakerSettings {
        self.breakers().replace(settings)
    }

    fn replaced(&self) {
        self.breakers().replaced();
    }
}
