//! What the gates on one thread report to each other, and to the request bodies that they poll.

use std::cell::Cell;
use std::time::Duration;

use crate::clock::nanos;

thread_local! {
    /// The report of an inner gate.
    static REPORTED: Cell<Report> = const { Cell::new(Report::NOTHING) };
    /// The number of gates that wait for a report.
    static LISTENERS: Cell<u32> = const { Cell::new(0) };
    /// The thread polls the rest of a body and drops its frames.
    static DISCARDS: Cell<bool> = const { Cell::new(false) };
}

/// The report of a gate: `| the caller caused it: 1 | the caller causes a timeout: 1 | nanoseconds
/// for which the service has waited for the body: 62 |`.
#[derive(Clone, Copy)]
pub(super) struct Report(u64);

/// While it lives, a gate waits for reports of inner gates. It discards earlier reports.
#[derive(Debug)]
pub(crate) struct Listening(());

/// Returns whether a gate waits for reports.
#[inline(always)]
pub(super) fn is_heard() -> bool {
    LISTENERS.get() > 0
}

/// Reports, if a gate waits for reports.
#[inline(always)]
pub(super) fn report(what: Report) {
    if is_heard() {
        REPORTED.set(what);
    }
}

/// The last report.
#[inline(always)]
pub(super) fn reported() -> Report {
    REPORTED.get()
}

/// Discards the last report.
#[inline(always)]
pub(super) fn forget() {
    REPORTED.set(Report::NOTHING);
}

/// Reports that a layer has ended a response because of its caller.
#[cold]
pub(crate) fn blame_caller() {
    report(Report(Report::BLAMED));
}

/// Polls a body whose frames are dropped, so that they count for none of the gates around it.
pub(crate) fn discard<T>(poll: impl FnOnce() -> T) -> T {
    struct Reset(bool);

    impl Drop for Reset {
        fn drop(&mut self) {
            DISCARDS.set(self.0);
        }
    }

    let _reset = Reset(DISCARDS.replace(true));
    poll()
}

/// Returns whether the frames of the body that this thread polls are dropped.
pub(crate) fn is_discarded() -> bool {
    DISCARDS.get()
}

// === impl Report ===

impl Report {
    pub(super) const NOTHING: Self = Self(0);
    const BLAMED: u64 = 1 << 63;
    const BLAMED_IF_LATE: u64 = 1 << 62;
    const FLAGS: u64 = Self::BLAMED | Self::BLAMED_IF_LATE;

    pub(super) fn new(waited: Duration, is_blamed: bool, is_blamed_if_late: bool) -> Self {
        let mut report = nanos(waited).min(!Self::FLAGS);
        if is_blamed {
            report |= Self::BLAMED;
        }
        if is_blamed_if_late {
            report |= Self::BLAMED_IF_LATE;
        }
        Self(report)
    }

    /// The caller caused a failure; `is_late` if it is a timeout.
    pub(super) const fn blames_caller(self, is_late: bool) -> bool {
        self.0 & Self::BLAMED != 0 || is_late && self.0 & Self::BLAMED_IF_LATE != 0
    }

    pub(super) const fn waited(self) -> Duration {
        Duration::from_nanos(self.0 & !Self::FLAGS)
    }

    /// The report of a gate and of one inside it.
    pub(super) fn and(self, inner: Self) -> Self {
        let waited = (self.0 & !Self::FLAGS).max(inner.0 & !Self::FLAGS);
        Self((self.0 | inner.0) & Self::FLAGS | waited)
    }
}

// === impl Listening ===

impl Listening {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        LISTENERS.set(LISTENERS.get() + 1);
        forget();
        Self(())
    }
}

impl Drop for Listening {
    #[inline(always)]
    fn drop(&mut self) {
        let others = LISTENERS.get() - 1;
        LISTENERS.set(others);
        if others == 0 {
            forget();
        }
    }
}
