//! What a change of settings has changed.

use std::fmt;
use std::slice;
use std::vec;

use super::settings::{CatchPanicSettings, PartSettings};
use crate::config::Fields;
use crate::policy::Mode;

/// The fields that [`ServerHandle::apply`](super::ServerHandle::apply) changed, in the order of the
/// parts.
///
/// ```
/// use std::time::Duration;
/// use seawall::TimeoutSettings;
///
/// let stack = seawall::server().build()?;
/// let timeout = TimeoutSettings::new(Duration::from_secs(5)).raisable_to(Duration::from_secs(60));
/// let changes = stack.apply(&stack.settings().timeout(timeout))?;
/// assert_eq!(
///     changes.to_string(),
///     "timeout.duration: 30s -> 5s, timeout.raisable_to: none -> 60s",
/// );
/// for change in &changes {
///     println!("{} was {}", change.field(), change.old_value().unwrap_or("not set"));
/// }
/// # Ok::<_, seawall::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Changes(Vec<Change>);

/// A field of the settings of a stack, with its old and its new value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Change {
    field: String,
    old: Option<String>,
    new: Option<String>,
}

// === impl Changes ===

impl Changes {
    /// Adds the fields at `path` that differ.
    pub(super) fn add<S: Fields>(&mut self, path: &str, old: &S, new: &S) {
        let (old, mut new) = (fields(path, old), fields(path, new));
        for (field, old) in old {
            let at = new.iter().position(|(other, _)| *other == field);
            let new = at.map(|at| new.remove(at).1);
            if new.as_ref() != Some(&old) {
                let old = Some(old);
                self.0.push(Change { field, old, new });
            }
        }
        self.0.extend(new.into_iter().map(|(field, new)| Change {
            field,
            old: None,
            new: Some(new),
        }));
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many fields were changed.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The changes.
    pub fn iter(&self) -> slice::Iter<'_, Change> {
        self.0.iter()
    }
}

fn fields<S: Fields>(path: &str, settings: &S) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    settings.each(path, &mut |field, value| fields.push((field, value)));
    fields
}

impl IntoIterator for Changes {
    type Item = Change;
    type IntoIter = vec::IntoIter<Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Changes {
    type Item = &'a Change;
    type IntoIter = slice::Iter<'a, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no changes");
        }
        for (at, change) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{change}")?;
        }
        Ok(())
    }
}

// === impl Change ===

impl Change {
    /// The part and the field: `concurrency_limit.limit`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The old value; `None` if the field had none.
    pub fn old_value(&self) -> Option<&str> {
        self.old.as_deref()
    }

    /// The new value; `None` if the field has none.
    pub fn new_value(&self) -> Option<&str> {
        self.new.as_deref()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [old, new] = [self.old_value(), self.new_value()].map(|value| value.unwrap_or("none"));
        write!(f, "{}: {old} -> {new}", self.field)
    }
}

// === impl Fields ===

impl Fields for Mode {
    fn each(&self, path: &str, each: &mut dyn FnMut(String, String)) {
        each(path.to_owned(), self.to_string());
    }
}

impl Fields for CatchPanicSettings {
    fn each(&self, path: &str, each: &mut dyn FnMut(String, String)) {
        let Self { mode } = self;
        mode.each(&format!("{path}.mode"), each);
    }
}

impl<S: Fields> Fields for PartSettings<S> {
    fn each(&self, path: &str, each: &mut dyn FnMut(String, String)) {
        let Self { mode, settings } = self;
        mode.each(&format!("{path}.mode"), each);
        settings.each(path, each);
    }
}
