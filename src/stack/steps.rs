//! The steps of a change of settings: each part is checked, then all are changed.

use std::sync::{Mutex, MutexGuard};

use super::changes::Changes;
use super::settings::{CatchPanicSettings, PartSettings};
use crate::config::{ConfigError, Configurable, Fields, Settings as _};
use crate::policy::{Mode, Switch};
use crate::sync::lock;

/// One thread at a time reads or applies settings of stacks, which may share handles. Recorders and
/// wakers do not run under this lock.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Reports what has changed, outside the lock.
type Report<'a> = Box<dyn FnOnce(&mut Changes) + 'a>;

/// What `check` and `apply` do, in the order of the fields of [`Settings`].
#[derive(Default)]
pub(super) struct Steps<'a> {
    checks: Vec<Box<dyn Fn() -> Result<(), ConfigError> + 'a>>,
    /// They cannot fail once everything is checked.
    changes: Vec<Box<dyn FnOnce() -> Report<'a> + 'a>>,
}

pub(super) fn one_at_a_time() -> MutexGuard<'static, ()> {
    lock(&ONE_AT_A_TIME)
}

/// The settings of a part now.
pub(super) fn present<H: Configurable + ?Sized>(
    switch: &Switch,
    handle: &H,
) -> PartSettings<H::Settings> {
    PartSettings::from(handle.current().get()).mode(switch.mode())
}

// === impl Steps ===

impl<'a> Steps<'a> {
    /// A part with a switch and a handle.
    pub(super) fn part<H: Configurable<Settings: Fields> + ?Sized>(
        self,
        name: &'static str,
        switch: &'a Switch,
        handle: &'a H,
        new: Option<&'a PartSettings<H::Settings>>,
    ) -> Self {
        let Some(new) = new else { return self };
        // This may call code of the user. It therefore runs before the lock is taken.
        handle.advance();
        let mut this = self.checked(move || match new.settings.clone() {
            Some(mut settings) => {
                let checked = settings.fit(&handle.current().get());
                checked.map_err(|error| error.of_part(name))
            }
            None => Ok(()),
        });
        this.changes.push(Box::new(move || {
            let mut old = present(switch, handle);
            // A part that is turned off or into a dry run does not enforce its new settings, and
            // one that becomes enforced has them first.
            if let Some(new @ (Mode::DryRun | Mode::Off)) = new.mode {
                switch.set(new);
            }
            let mut new = new.clone();
            if let Some(settings) = &mut new.settings {
                old.settings = Some(handle.replace(settings));
            }
            if let Some(new) = new.mode {
                switch.set(new);
            }
            let new = new.or(&old);
            Box::new(move |changes: &mut Changes| {
                handle.follow_up();
                changes.add(name, &old, &new);
            }) as Report<'a>
        }));
        this
    }

    /// A part that has no dry run.
    pub(super) fn part_without_dry_run<H: Configurable<Settings: Fields>>(
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
        new: Option<&'a CatchPanicSettings>,
    ) -> Self {
        let Some(new) = new else { return self };
        let mut this = self.no_dry_run(name, switch, new.mode);
        this.changes.push(Box::new(move || {
            let old = CatchPanicSettings::from(switch.mode());
            if let Some(new) = new.mode {
                switch.set(new);
            }
            let new = new.clone().or(&old);
            Box::new(move |changes: &mut Changes| changes.add(name, &old, &new)) as Report<'a>
        }));
        this
    }

    /// The part has no dry run: the mode is an error, unless the part has it already.
    fn no_dry_run(self, name: &'static str, switch: &'a Switch, new: Option<Mode>) -> Self {
        self.checked(move || {
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
        self.checked(move || Err(ConfigError::new(name, "", allowed)))
    }

    /// A step that only checks.
    fn checked(mut self, check: impl Fn() -> Result<(), ConfigError> + 'a) -> Self {
        self.checks.push(Box::new(check));
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let _one = one_at_a_time();
        self.checks.iter().try_for_each(|check| check())
    }

    pub(super) fn apply(self) -> Result<Changes, ConfigError> {
        let reports: Vec<_> = {
            let _one = one_at_a_time();
            self.checks.iter().try_for_each(|check| check())?;
            self.changes.into_iter().map(|change| change()).collect()
        };
        let mut changes = Changes::default();
        for report in reports {
            report(&mut changes);
        }
        Ok(changes)
    }
}
