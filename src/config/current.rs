//! The settings that a handle has now.

use std::mem;
use std::sync::Mutex;

use super::error::ConfigError;
use crate::sync::{AfterChange, lock};

/// A value of settings.
pub(crate) trait Settings: Clone {
    /// Whether each field is in its range.
    fn check(&self) -> Result<(), ConfigError>;

    /// Whether a handle with the `current` settings can have these.
    fn check_against(&self, current: &Self) -> Result<(), ConfigError> {
        let _ = current;
        Ok(())
    }
}

/// The settings of a handle, as they are read back. Requests do not take its lock.
#[derive(Debug)]
pub(crate) struct Current<S> {
    settings: Mutex<S>,
    replaced: AfterChange,
}

/// A handle with [`Settings`] that can be replaced while it runs.
pub(crate) trait Configurable {
    type Settings: Settings;

    fn current(&self) -> &Current<Self::Settings>;

    /// Makes the changes of state that are due under the present settings. It may call code of the
    /// user.
    fn advance(&self) {}

    /// Changes what requests read. It must not call code of the user, since the settings are
    /// locked.
    fn publish(&self, settings: &Self::Settings) {
        let _ = settings;
    }

    /// What follows from a change and may call code of the user: a recorder, a waker. It reads the
    /// settings.
    fn replaced(&self) {}

    /// Calls [`replaced`](Self::replaced) after a change.
    fn follow_up(&self) {
        self.current().replaced.run(|| self.replaced());
    }

    /// Replaces the settings by what `change` makes of them.
    fn change(
        &self,
        change: impl FnOnce(Self::Settings) -> Self::Settings,
    ) -> Result<(), ConfigError> {
        self.advance();
        let publish = |settings: &Self::Settings| self.publish(settings);
        let before = self.current().change(change, publish)?;
        drop(before);
        self.follow_up();
        Ok(())
    }
}

// === impl Current ===

impl<S: Settings> Current<S> {
    /// Settings that are checked.
    pub(crate) const fn new(settings: S) -> Self {
        Self {
            settings: Mutex::new(settings),
            replaced: AfterChange::new(),
        }
    }

    pub(crate) fn get(&self) -> S {
        lock(&self.settings).clone()
    }

    /// Replaces the settings by others that are checked, and calls `publish` with them. Returns
    /// those before.
    #[cfg(any(feature = "http", feature = "keyed"))]
    pub(crate) fn replace(&self, settings: S, publish: impl FnOnce(&S)) -> S {
        let mut current = lock(&self.settings);
        publish(&settings);
        mem::replace(&mut *current, settings)
    }

    /// Replaces the settings by what `change` makes of them, and calls `publish` with them. Returns
    /// those before. If the new ones are not valid, nothing is changed.
    pub(crate) fn change(
        &self,
        change: impl FnOnce(S) -> S,
        publish: impl FnOnce(&S),
    ) -> Result<S, ConfigError> {
        // What is replaced or not applied is dropped outside the lock: it may be a function of the
        // user.
        let result = {
            let mut current = lock(&self.settings);
            let settings = change(current.clone());
            let checked = settings.check();
            match checked.and_then(|()| settings.check_against(&current)) {
                Ok(()) => {
                    publish(&settings);
                    Ok(mem::replace(&mut *current, settings))
                }
                Err(error) => Err((error, settings)),
            }
        };
        result.map_err(|(error, _)| error)
    }
}
