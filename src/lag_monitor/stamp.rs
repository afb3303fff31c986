//! One word for all runtimes: whether anything is watched, and the number of the reading.
//!
//! Nearly all requests need only the first step: one load, which is compared with the stamp that
//! this thread saw last. The stamp changes with every reading. Between two readings, each thread
//! therefore checks its current runtime once for each handle. The check finds a new runtime, and
//! notes that calls pass, without a cost for every request.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::sync::lock;

/// An even stamp means that nothing is watched. A thread that has seen no stamp has 0.
static STAMP: AtomicU64 = AtomicU64::new(2);

/// A reading has found that requests need decisions.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// The bits of the handles that exist.
static BITS: Mutex<u64> = Mutex::new(0);

thread_local! {
    /// The stamp that this thread saw last.
    static SEEN: Cell<u64> = const { Cell::new(0) };
    /// The handles that have checked since then.
    static LOOKED: Cell<u64> = const { Cell::new(0) };
}

/// A handle, as a bit of a word. Handles after the first 64 have no bit, and check at every
/// request. This costs some time and changes no decision.
#[derive(Debug)]
pub(crate) struct Bit {
    bit: u64,
    /// The bit, or 0 while every request checks.
    mask: AtomicU64,
}

/// Returns whether anything is watched.
#[inline(always)]
pub(crate) fn is_watched() -> bool {
    STAMP.load(Relaxed) & 1 == 1
}

/// Makes every thread check again.
pub(crate) fn renew() {
    STAMP.fetch_add(2, Relaxed);
}

/// Makes every request check until the next readings have ended.
pub(crate) fn watch() {
    WATCHED.store(true, Relaxed);
    STAMP.fetch_or(1, Relaxed);
}

/// The readings of all runtimes have ended.
pub(super) fn on_readings() {
    let is_watched = WATCHED.swap(false, Relaxed);
    let next = |stamp: u64| Some((stamp | 1) + 1 + u64::from(is_watched));
    let _ = STAMP.fetch_update(Relaxed, Relaxed, next);
}

// === impl Bit ===

impl Bit {
    pub(crate) fn new() -> Self {
        let mut bits = lock(&BITS);
        // The lowest free bit, if there is one.
        let bit = !*bits & bits.wrapping_add(1);
        *bits |= bit;
        let mask = AtomicU64::new(bit);
        Self { bit, mask }
    }

    /// Returns whether nothing is watched and this thread has checked since the last reading.
    #[inline(always)]
    pub(crate) fn is_calm(&self) -> bool {
        let stamp = STAMP.load(Relaxed);
        // An odd stamp is never stored as it is, so that it does not compare equal.
        SEEN.get() == stamp && LOOKED.get() & self.mask.load(Relaxed) != 0
    }

    /// Checks on this thread. Returns `true` if it has not checked since the last reading.
    pub(crate) fn look(&self) -> bool {
        let stamp = STAMP.load(Relaxed);
        let seen = if stamp & 1 == 0 { stamp } else { !stamp };
        let looked = if SEEN.replace(seen) == seen {
            LOOKED.get()
        } else {
            0
        };
        LOOKED.set(looked | self.bit);
        looked & self.bit == 0
    }

    /// Makes every request check, or only those that must.
    pub(crate) fn check_all(&self, all: bool) {
        self.mask.store(if all { 0 } else { self.bit }, Relaxed);
    }

    /// This thread is in no runtime: it checks again at the next request.
    pub(crate) fn unsee() {
        SEEN.set(0);
    }
}

impl Drop for Bit {
    fn drop(&mut self) {
        *lock(&BITS) &= !self.bit;
        // The next handle with this bit has not checked.
        renew();
    }
}
