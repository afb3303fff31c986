//! What the gates on one thread report to each other, and to the request bodies that they poll.

use std::cell::Cell;
use std::thread::LocalKey;
use std::time::Duration;

use crate::clock::nanos;

thread_local! {
    /// The reports of inner gates so far, and whether a gate listens.
    static REPORTED: Cell<Report> = const { Cell::new(Report::NOTHING) };
    /// The thread polls the rest of a body and drops its frames.
    static DISCARDS: Cell<bool> = const { Cell::new(false) };
    /// A gate drops a request that it rejects.
    static REJECTS: Cell<bool> = const { Cell::new(false) };
}

/// The report of a gate: `| a gate listens: 1 | unused: 3 | the caller's deadline ends a call: 1 |
/// the caller ends a stream: 1 | the caller caused it: 1 | the caller
/// causes a timeout: 1 | present: 1 | the call reads the body of the request that its thread
/// serves: 1 | nanoseconds for which the service has waited for the body: 54 |`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report(u64);

/// While it lives, one gate listens: the gates inside it report to that gate.
#[derive(Debug)]
pub(crate) struct Listening {
    outer: Report,
}

/// Collects what is reported while a late call is dropped. `kept` is the report of its earlier
/// polls; `None` if the gate has not listened to them. If an outer gate has listened, its report is
/// used. If no gate has listened, the call counts as one that reads the body.
#[cold]
pub(crate) fn listen_to_end(kept: Option<Report>) -> Option<Listening> {
    match kept {
        Some(report) => Some(Listening::new(report)),
        None => (!has_listener()).then(|| Listening::new(Report::MAY_READ)),
    }
}

/// Returns whether a gate listens.
#[inline(always)]
pub(super) fn has_listener() -> bool {
    reported().has_listener()
}

/// Reports, if a gate listens.
#[inline(always)]
pub(super) fn report(what: Report) {
    if has_listener() && what.is_present() {
        REPORTED.set(what.after(reported()));
    }
}

/// The reports of the gates so far.
#[inline(always)]
pub(crate) fn reported() -> Report {
    REPORTED.get()
}

/// Starts an empty report, for the gates inside this gate. Returns the report so far.
#[inline(always)]
pub(super) fn begin_inner() -> Report {
    let outer = reported();
    REPORTED.set(Report(outer.0 & Report::LISTENED));
    outer
}

/// Restores the report that [`begin_inner`] or [`Listening`] has replaced. If an outer gate
/// listens, it gets the report of the inner gates too.
#[inline(always)]
pub(super) fn end_inner(outer: Report) {
    let inner = reported();
    REPORTED.set(if outer.has_listener() && inner.is_present() {
        inner.after(outer)
    } else {
        outer
    });
}

/// Reports that a layer has ended a stream because of its caller. If a gate polls its response
/// body, this counts as the end of that body. If a gate polls its future, the stream belongs to a
/// call that the handler makes, and this counts as the end of that call.
#[cold]
pub(crate) fn blame_caller_of_stream() {
    report(Report(Report::ENDS_STREAM | Report::PRESENT));
}

/// Reports that a call ends with the caller's own deadline. This excuses an error and a gRPC
/// `DEADLINE_EXCEEDED` in the same poll, since a handler may return the result of the call. It does
/// not excuse an HTTP answer: then the handler has set the deadline.
#[cold]
pub(crate) fn blame_callers_time() {
    report(Report(Report::ENDS_CALL | Report::PRESENT));
}

/// Reports that the call reads the body of the request that this thread serves.
#[cold]
pub(super) fn read_body() {
    report(Report(Report::READS | Report::PRESENT));
}

/// Reports that the caller caused a timeout that ends in this poll.
#[cold]
pub(crate) fn blame_caller_if_late() {
    report(Report(Report::BLAMED_IF_LATE | Report::PRESENT));
}

/// Polls a body whose frames are dropped, so that they count for none of the gates around it.
pub(crate) fn discard<T>(poll: impl FnOnce() -> T) -> T {
    with(&DISCARDS, poll)
}

/// Returns whether the frames of the body that this thread polls are dropped.
pub(crate) fn is_discarded() -> bool {
    DISCARDS.get()
}

/// Drops a request that a gate rejects, so that a request limit around it reads the rest of the
/// body.
pub(crate) fn rejecting<T>(drops: impl FnOnce() -> T) -> T {
    with(&REJECTS, drops)
}

/// Returns whether a gate drops a request that it rejects.
#[inline(always)]
pub(super) fn is_rejected() -> bool {
    REJECTS.get()
}

/// Runs a closure while the value is set.
fn with<T>(value: &'static LocalKey<Cell<bool>>, run: impl FnOnce() -> T) -> T {
    struct Reset(&'static LocalKey<Cell<bool>>, bool);

    impl Drop for Reset {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }

    let _reset = Reset(value, value.replace(true));
    run()
}

/// While it lives, no gate listens on this thread.
pub(crate) struct Unheard(Report);

// === impl Report ===

impl Report {
    pub(crate) const NOTHING: Self = Self(0);
    /// A gate that has not listened before: its call may read the body. It is not passed on alone.
    const MAY_READ: Self = Self(Self::READS);
    /// The number of lower bits that a guard keeps.
    pub(crate) const BITS: u32 = 59;
    const LISTENED: u64 = 1 << 63;
    const ENDS_CALL: u64 = 1 << 59;
    const ENDS_STREAM: u64 = 1 << 58;
    const BLAMED: u64 = 1 << 57;
    const BLAMED_IF_LATE: u64 = 1 << 56;
    const PRESENT: u64 = 1 << 55;
    /// The call polls the request body itself. A poll of the body of another request inside the
    /// call sets it too.
    const READS: u64 = 1 << 54;
    const NANOS: u64 = Self::READS - 1;

    #[inline(always)]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline(always)]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn new(waited: Duration, is_blamed: bool, is_blamed_if_late: bool) -> Self {
        let mut report = nanos(waited).min(Self::NANOS) | Self::PRESENT;
        if is_blamed {
            report |= Self::BLAMED;
        }
        if is_blamed_if_late {
            report |= Self::BLAMED_IF_LATE;
        }
        Self(report)
    }

    const fn has_listener(self) -> bool {
        self.0 & Self::LISTENED != 0
    }

    #[inline(always)]
    pub(crate) const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    /// The part of the report that later polls keep. By then, the service may no longer wait for
    /// the body.
    pub(crate) const fn kept(self) -> Self {
        Self(self.0 & !(Self::BLAMED_IF_LATE | Self::ENDS_CALL))
    }

    /// The caller caused a failure; `is_late` if it is a timeout.
    pub(super) const fn blames_caller(self, is_late: bool) -> bool {
        self.0 & Self::BLAMED != 0 || is_late && self.0 & Self::BLAMED_IF_LATE != 0
    }

    /// The part of a future's report that later polls keep. It leaves out the end of a stream,
    /// since that stream belonged to a call of the handler.
    pub(crate) const fn kept_by_future(self) -> Self {
        Self(self.kept().0 & !Self::ENDS_STREAM)
    }

    pub(crate) const fn ends_stream(self) -> bool {
        self.0 & Self::ENDS_STREAM != 0
    }

    /// Returns whether a call, or its response stream, has ended in this poll because of its
    /// caller.
    pub(super) const fn ends_call(self) -> bool {
        self.0 & (Self::ENDS_CALL | Self::ENDS_STREAM) != 0
    }

    pub(super) const fn reads_body(self) -> bool {
        self.0 & Self::READS != 0
    }

    pub(super) const fn waited(self) -> Duration {
        Duration::from_nanos(self.0 & Self::NANOS)
    }

    /// The report of a gate and of one inside it.
    pub(super) fn and(self, inner: Self) -> Self {
        let waited = (self.0 & Self::NANOS).max(inner.0 & Self::NANOS);
        Self((self.0 | inner.0) & !Self::NANOS | waited)
    }

    /// Adds an earlier report to this one. Only this one says whether the service waits for the
    /// body now.
    #[cold]
    fn after(self, earlier: Self) -> Self {
        self.and(Self(earlier.0 & !Self::BLAMED_IF_LATE))
    }
}

// === impl Listening ===

impl Listening {
    /// `earlier` is the report from earlier polls.
    #[inline(always)]
    pub(crate) fn new(earlier: Report) -> Self {
        let earlier = Report(earlier.0 | Report::LISTENED);
        Self {
            outer: REPORTED.replace(earlier),
        }
    }
}

impl Unheard {
    pub(crate) fn new() -> Self {
        Self(REPORTED.replace(Report::NOTHING))
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        REPORTED.set(self.0);
    }
}

impl Drop for Listening {
    #[inline(always)]
    fn drop(&mut self) {
        end_inner(self.outer);
    }
}
