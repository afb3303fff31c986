//! One word for all runtimes: whether anything is watched, and which reading it is.
//!
//! Nearly all requests take the first step alone: one load, compared with what this thread saw
//! last. The stamp changes with every reading, so that each thread looks once between two readings,
//! for each handle, at the runtime that it is in. That finds a new runtime, notes that calls pass,
//! and costs nothing per request.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::sync::lock;

/// Even: nothing is watched anywhere. 0 is what a thread has seen that has seen nothing.
static STAMP: AtomicU64 = AtomicU64::new(2);

/// What watches: shedders by runtime, and those that are forced to shed.
static WATCHED: AtomicUsize = AtomicUsize::new(0);

/// The bits of the handles that exist.
static BITS: Mutex<u64> = Mutex::new(0);

thread_local! {
    /// The stamp that this thread saw last.
    static SEEN: Cell<u64> = const { Cell::new(0) };
    /// The handles that have looked since then.
    static LOOKED: Cell<u64> = const { Cell::new(0) };
}

/// A handle, as a bit of a word. The handles after the first 64 have none, and look at every
/// request: that costs some time and changes no decision.
#[derive(Debug)]
pub(crate) struct Bit(u64);

/// Counts as watched until it is dropped.
#[derive(Debug)]
pub(crate) struct Watched(());

/// Whether something is watched.
#[inline(always)]
pub(crate) fn is_watched() -> bool {
    STAMP.load(Relaxed) & 1 == 1
}

/// Every thread looks again.
pub(crate) fn renew() {
    let next = |stamp: u64| (stamp | 1) + 1 + u64::from(WATCHED.load(Relaxed) > 0);
    let _ = STAMP.fetch_update(Relaxed, Relaxed, |stamp| Some(next(stamp)));
}

// === impl Bit ===

impl Bit {
    pub(crate) fn new() -> Self {
        let mut bits = lock(&BITS);
        // The lowest that is free, or none.
        let free = !*bits & bits.wrapping_add(1);
        *bits |= free;
        Self(free)
    }

    /// Nothing is watched, and this thread has looked since the last reading.
    #[inline(always)]
    pub(crate) fn is_calm(&self) -> bool {
        let stamp = STAMP.load(Relaxed);
        // What is seen of an odd stamp does not equal it.
        SEEN.get() == stamp && LOOKED.get() & self.0 != 0
    }

    /// This thread looks; `true` if it has not looked since the last reading.
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

    /// This thread is in no runtime: it looks at the next request.
    pub(crate) fn unsee() {
        SEEN.set(0);
    }
}

impl Drop for Bit {
    fn drop(&mut self) {
        *lock(&BITS) &= !self.0;
        // The next handle with this bit has not looked.
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
