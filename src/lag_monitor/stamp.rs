//! One word for all runtimes: whether anything is watched, and the number of the reading.
//!
//! Nearly all requests need only the first step: one load, which is compared with the stamp that
//! this thread saw last for the handle. The stamp changes with every reading. Between two readings,
//! each thread therefore checks its current runtime once for each handle. The check finds a new
//! runtime, and notes that calls pass, without a cost for every request.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// An even stamp means that nothing is watched.
static STAMP: AtomicU64 = AtomicU64::new(2);

/// A reading has found that requests need decisions.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// The number of handles so far.
static HANDLES: AtomicU64 = AtomicU64::new(0);

const SLOTS: usize = 32;
/// The position of the handle's number in a value of a slot, above the stamp.
const SHIFT: u32 = 40;

thread_local! {
    /// The handle and the stamp of the last check on this thread, for each slot. The values are
    /// even; 0 is none.
    static SEEN: [Cell<u64>; SLOTS] = const { [const { Cell::new(0) }; SLOTS] };
}

/// A handle, with a slot of each thread. If two handles have the same slot, each checks more often.
/// This costs some time and changes no decision.
pub(crate) struct Slot {
    index: usize,
    /// The number of the handle, in its position.
    number: u64,
    /// The same, or an odd value while every request checks.
    expected: AtomicU64,
}

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

// === impl Slot ===

impl Slot {
    pub(crate) fn new() -> Self {
        let handle = HANDLES.fetch_add(1, Relaxed);
        let number = handle << SHIFT;
        Self {
            index: handle as usize % SLOTS,
            number,
            expected: AtomicU64::new(number),
        }
    }

    /// Returns whether nothing is watched and this thread has checked since the last reading.
    #[inline(always)]
    pub(crate) fn is_calm(&self) -> bool {
        // An odd value is never in a slot.
        let expected = STAMP.load(Relaxed) | self.expected.load(Relaxed);
        SEEN.with(|seen| seen[self.index % SLOTS].get()) == expected
    }

    /// Checks on this thread. Returns `true` if it has not checked since the last reading.
    pub(crate) fn look(&self) -> bool {
        let now = STAMP.load(Relaxed) | self.number;
        let now = if now & 1 == 0 { now } else { !now };
        SEEN.with(|seen| seen[self.index].replace(now)) != now
    }

    /// Makes every request check, or only those that must.
    pub(crate) fn check_all(&self, all: bool) {
        self.expected.store(self.number | u64::from(all), Relaxed);
    }

    pub(crate) fn checks_all(&self) -> bool {
        self.expected.load(Relaxed) != self.number
    }

    /// This thread is in no runtime: it checks again at the next request.
    pub(crate) fn unsee(&self) {
        SEEN.with(|seen| seen[self.index].set(0));
    }
}
