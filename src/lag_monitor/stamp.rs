//! One word for all runtimes: whether anything is watched, and the number of the reading.
//!
//! Nearly all requests need only the first step: one load, which is compared with the stamp that
//! this thread saw last. The stamp changes with every reading. Between two readings, each thread
//! therefore checks its current runtime once for each handle. The check finds a new runtime, and
//! notes that calls pass, without a cost for every request.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::sync::lock;

/// An even stamp means that nothing is watched. A thread that has seen no stamp has 0.
static STAMP: AtomicU64 = AtomicU64::new(2);

/// The number of watchers: shedders by runtime, and those that are forced to shed.
static WATCHED: AtomicUsize = AtomicUsize::new(0);

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
pub(crate) struct Bit(u64);

/// Counts as watched until it is dropped.
#[derive(Debug)]
pub(crate) struct Watched(());

/// Returns whether anything is watched.
#[inline(always)]
pub(crate) fn is_watched() -> bool {
    STAMP.load(Relaxed) & 1 == 1
}

/// Makes every thread check again.
pub(crate) fn renew() {
    let next = |stamp: u64| (stamp | 1) + 1 + u64::from(WATCHED.load(Relaxed) > 0);
    let _ = STAMP.fetch_update(Relaxed, Relaxed, |stamp| Some(next(stamp)));
}

// === impl Bit ===

impl Bit {
    pub(crate) fn new() -> Self {
        let mut bits = lock(&BITS);
        // The lowest free bit, if there is one.
        let free = !*bits & bits.wrapping_add(1);
        *bits |= free;
        Self(free)
    }

    /// Returns whether nothing is watched and this thread has checked since the last reading.
    #[inline(always)]
    pub(crate) fn is_calm(&self) -> bool {
        let stamp = STAMP.load(Relaxed);
        // An odd stamp is never stored as it is, so that it does not compare equal.
        SEEN.get() == stamp && LOOKED.get() & self.0 != 0
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
        LOOKED.set(looked | self.0);
        looked & self.0 == 0
    }

    /// This thread is in no runtime: it checks again at the next request.
    pub(crate) fn unsee() {
        SEEN.set(0);
    }
}

impl Drop for Bit {
    fn drop(&mut self) {
        *lock(&BITS) &= !self.0;
        // The next handle with this bit has not checked.
        renew();
    }
}

// === impl Watched ===

impl Watched {
    pub(crate) fn new() -> Self {
        WATCHED.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        WATCHED.fetch_sub(1, Relaxed);
    }
}
