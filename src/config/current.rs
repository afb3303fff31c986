//! The settings that a handle has now.

use std::mem;
use std::sync::Mutex;

use super::error::ConfigError;
use crate::sync::{AfterChange, lock};

/// A value of settings.
pub(crate) trait Settings: Clone {
    /// Whether each field is in its range.
    fn check(&self) -> Result<(), ConfigError>;

    /// Completes them for a handle that has the `current` settings, and checks them.
    fn fit(&mut self, current: &Self) -> Result<(), ConfigError> {
        let _ = current;
        self.check()
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

    /// Replaces the settings by others that have passed [`fit`](Settings::fit), and completes these
    /// in place. Returns those before. The caller calls [`follow_up`](Self::follow_up).
    #[cfg(any(feature = "http", feature = "keyed"))]
    fn replace(&self, settings: &mut Self::Settings) -> Self::Settings {
        let mut current = lock(&self.current().settings);
        let fits = settings.fit(&current);
        debug_assert!(fits.is_ok(), "what it depends on never changes: {fits:?}");
        self.publish(settings);
        mem::replace(&mut *current, settings.clone())
    }

    /// Runs what follows from a change: by default, calls [`replaced`](Self::replaced).
    fn follow_up(&self) {
        self.current().replaced.run(|| self.replaced());
    }

    /// Replaces the settings by what `change` makes of them. If the new ones are not valid, nothing
    /// is changed.
    fn change(
        &self,
        change: impl FnOnce(Self::Settings) -> Self::Settings,
    ) -> Result<(), ConfigError>
    where
        Self: Sized,
    {
        self.advance();
        let mut current = lock(&self.current().settings);
        let mut settings = change(current.clone());
        let fits = settings.fit(&current);
        if fits.is_ok() {
            self.publish(&settings);
            mem::swap(&mut *current, &mut settings);
        }
        drop(current);
        // What is replaced or not applied is dropped outside the lock: it may be a function of the
        // user.
        drop(settings);
        fits?;
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
}
