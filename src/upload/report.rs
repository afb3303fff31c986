//! What the gates on one thread report to each other, and to the request bodies that they poll.

use std::cell::Cell;
use std::time::Duration;

use crate::clock::nanos;

thread_local! {
    /// The report of an inner gate, and whether a gate waits for it.
    static REPORTED: Cell<Report> = const { Cell::new(Report::NOTHING) };
    /// The thread polls the rest of a body and drops its frames.
    static DISCARDS: Cell<bool> = const { Cell::new(false) };
}

/// The report of a gate: `| a gate waits for a report: 1 | 0: 5 | the caller caused it: 1 | the
/// caller causes a timeout: 1 | there is a report: 1 | nanoseconds for which the service has waited
/// for the body: 55 |`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report(u64);

/// While it lives, the reports belong to a gate that waits for them.
#[derive(Debug)]
pub(crate) struct Listening {
    outer: Report,
}

/// Returns whether a gate waits for a report.
#[inline(always)]
pub(super) fn is_heard() -> bool {
    reported().is_heard()
}

/// Reports, if a gate waits for a report.
#[inline(always)]
pub(super) fn report(what: Report) {
    if is_heard() {
        REPORTED.set(Report(what.0 | Report::HEARD));
    }
}

/// The last report.
#[inline(always)]
pub(crate) fn reported() -> Report {
    REPORTED.get()
}

/// Hides the report that is for an outer gate, until [`restore`].
#[inline(always)]
pub(super) fn hide() -> Report {
    let outer = reported();
    REPORTED.set(Report(outer.0 & Report::HEARD));
    outer
}

/// An inner gate has ended. Its report, or the report of a gate inside it, is also for the outer
/// gate.
#[inline(always)]
pub(super) fn restore(outer: Report) {
    if !outer.is_heard() || !reported().is_any() {
        REPORTED.set(outer);
    }
}

/// Reports that a layer has ended a response because of its caller.
#[cold]
pub(crate) fn blame_caller() {
    report(Report(Report::BLAMED | Report::IS));
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
    pub(crate) const NOTHING: Self = Self(0);
    /// The leading bits that a guard does not keep.
    pub(crate) const UNKEPT: u32 = 6;
    const HEARD: u64 = 1 << 63;
    const BLAMED: u64 = 1 << 57;
    const BLAMED_IF_LATE: u64 = 1 << 56;
    const IS: u64 = 1 << 55;
    const NANOS: u64 = Self::IS - 1;

    #[inline(always)]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline(always)]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn new(waited: Duration, is_blamed: bool, is_blamed_if_late: bool) -> Self {
        let mut report = nanos(waited).min(Self::NANOS) | Self::IS;
        if is_blamed {
            report |= Self::BLAMED;
        }
        if is_blamed_if_late {
            report |= Self::BLAMED_IF_LATE;
        }
        Self(report)
    }

    const fn is_heard(self) -> bool {
        self.0 & Self::HEARD != 0
    }

    #[inline(always)]
    pub(crate) const fn is_any(self) -> bool {
        self.0 & Self::IS != 0
    }

    /// The caller caused a failure; `is_late` if it is a timeout.
    pub(super) const fn blames_caller(self, is_late: bool) -> bool {
        self.0 & Self::BLAMED != 0 || is_late && self.0 & Self::BLAMED_IF_LATE != 0
    }

    pub(super) const fn waited(self) -> Duration {
        Duration::from_nanos(self.0 & Self::NANOS)
    }

    /// The report of a gate and of one inside it.
    pub(super) fn and(self, inner: Self) -> Self {
        let waited = (self.0 & Self::NANOS).max(inner.0 & Self::NANOS);
        Self((self.0 | inner.0) & !Self::NANOS | waited)
    }
}

// === impl Listening ===

impl Listening {
    /// `earlier` is the report from an earlier poll.
    #[inline(always)]
    pub(crate) fn new(earlier: Report) -> Self {
        let earlier = Report(earlier.0 | Report::HEARD);
        Self {
            outer: REPORTED.replace(earlier),
        }
    }
}

impl Drop for Listening {
    #[inline(always)]
    fn drop(&mut self) {
        restore(self.outer);
    }
}
