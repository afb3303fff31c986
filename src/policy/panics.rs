//! The counter of the panics of a handle.

use std::fmt;
use std::sync::OnceLock;

use crate::observe::Reporter;

/// Counts the panics of a handle.
pub(crate) struct Panics {
    pub(crate) reporter: Reporter,
    /// Called for every panic, after the hook.
    pub(crate) escalation: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

// === impl Panics ===

impl fmt::Debug for Panics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panics")
            .field("reporter", &self.reporter)
            .field("escalates", &self.escalation.get().is_some())
            .finish()
    }
}
