//! Locks and atomics.

use std::mem;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

/// The atomics of decisions: those of loom in its tests of all interleavings.
#[cfg(seawall_loom)]
pub(crate) use loom::{
    hint,
    sync::{Mutex, MutexGuard, atomic},
};
#[cfg(not(seawall_loom))]
pub(crate) use std::{
    hint,
    sync::{Mutex, MutexGuard, atomic},
};

/// Locks a mutex. If a holder has panicked, the value is still consistent, since no change under
/// these locks is ever incomplete.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs an action after each change, on one thread at a time. After a change during the action,
/// also one by the action itself, the thread runs it again. The last run therefore sees the last
/// change.
#[derive(Debug)]
pub(crate) struct AfterChange(AtomicU8);

// === impl AfterChange ===

impl AfterChange {
    const IDLE: u8 = 0;
    const RUNS: u8 = 1;
    const RUNS_AGAIN: u8 = 2;

    pub(crate) const fn new() -> Self {
        Self(AtomicU8::new(Self::IDLE))
    }

    pub(crate) fn run(&self, mut action: impl FnMut()) {
        struct OnUnwind<'a>(&'a AfterChange);

        impl Drop for OnUnwind<'_> {
            fn drop(&mut self) {
                self.0.0.store(AfterChange::IDLE, Release);
            }
        }

        if self.0.swap(Self::RUNS_AGAIN, AcqRel) != Self::IDLE {
            return;
        }
        let on_unwind = OnUnwind(self);
        loop {
            self.0.swap(Self::RUNS, AcqRel);
            action();
            let ended = self
                .0
                .compare_exchange(Self::RUNS, Self::IDLE, AcqRel, Acquire);
            if ended.is_ok() {
                break;
            }
        }
        mem::forget(on_unwind);
    }
}
