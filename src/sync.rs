//! Locks and atomics.

use std::sync::PoisonError;

/// What decisions are made of: loom's own where it plays every interleaving of them.
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

/// Locks a mutex. What a panic of a holder leaves behind is still consistent: no change under these
/// locks is ever half done.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
