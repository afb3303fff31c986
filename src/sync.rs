//! Locks and atomics.

use std::sync::PoisonError;

/// The atomics of decisions: those of loom in its tests of all interleavings.
#[cfg(all(test, seawall_loom))]
pub(crate) use loom::{
    hint,
    sync::{Mutex, MutexGuard, atomic},
};
#[cfg(not(all(test, seawall_loom)))]
pub(crate) use std::{
    hint,
    sync::{Mutex, MutexGuard, atomic},
};

/// Locks a mutex. If a holder has panicked, the value is still consistent, since no change under
/// these locks is ever incomplete.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
