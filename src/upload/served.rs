//! The request that a thread serves.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

use super::report::{Report, Unheard, begin_inner, end_inner, has_listener, report, reported};
use super::{ANSWERED, DROPPED, GIVEN_BACK, POLLED, UploadRef, WAITS};
use crate::outcome::Outcome;
use crate::unwind;

/// While it lives, the upload belongs to the request that this thread serves.
#[doc(hidden)]
#[derive(Debug)]
pub struct Scope {
    /// This scope made its thread the one that serves the upload, and so ends that.
    is_outermost: bool,
    /// The upload of the request that the thread serves after it.
    before: Option<UploadRef>,
    /// The report for the gates around the one that serves the request.
    outer: Report,
}

/// The upload that a response body has. It reports when the body is dropped.
#[doc(hidden)]
#[derive(Debug)]
pub struct BodyUpload(UploadRef);

/// While it lives, the code on this thread belongs to no request, and no gate reports to it.
pub(crate) struct Detached {
    served: Option<UploadRef>,
    _unheard: Unheard,
}

thread_local! {
    /// The upload of the innermost request that this thread serves.
    static SERVED: Cell<Option<UploadRef>> = const { Cell::new(None) };
    /// Its address identifies the thread while the thread runs.
    static THREAD: u8 = const { 0 };
}

/// Identifies this thread; never 0.
fn this_thread() -> usize {
    THREAD.with(|thread| ptr::from_ref(thread).addr())
}

/// The upload of the request that this thread serves.
fn served() -> Option<UploadRef> {
    let served = SERVED.try_with(|served| {
        let upload = served.take();
        served.set(upload.clone());
        upload
    });
    served.ok().flatten()
}

/// A poll of the service that has the body has ended, although its scope may still be open.
pub(crate) fn end_poll() {
    if let Some(upload) = served() {
        upload.end_poll();
    }
}

/// Records that a gate without a request limit drops its call at a timeout.
#[cold]
pub(crate) fn abandon() {
    if let Some(upload) = served() {
        upload.abandon();
    }
}

/// Returns whether another task has the body of the request that this thread serves. Without that
/// task, there are three references to the upload: those of the gate with the request limit, of the
/// thread and of this function.
#[cold]
pub(crate) fn is_elsewhere() -> bool {
    served().is_some_and(|upload| upload.references() > 3)
}

/// The time for which the service waited, before this call, for the body of the request that this
/// thread serves.
pub(crate) fn waited_before() -> Duration {
    served().map_or(Duration::ZERO, |upload| upload.waited())
}

/// The time for which the service, or the call that listens, has waited for the body of the request
/// that this thread serves.
#[cold]
pub(crate) fn waited() -> Duration {
    let served = served().filter(|upload| !is_read_beside(upload));
    let served = served.map_or(Duration::ZERO, |upload| upload.waited());
    served.max(reported().waited())
}

/// Returns whether the service reads the body beside the call that listens: in its own task, and
/// outside that call.
fn is_read_beside(upload: &UploadRef) -> bool {
    has_listener() && upload.is_read_inside() && !reported().reads_body()
}

/// Returns whether the caller caused a failure of the request that this thread serves: the request
/// body failed, or the deadline has passed and the service waits for the body.
#[cold]
pub(crate) fn is_callers_fault(is_late: bool) -> bool {
    reported().blames_caller(is_late)
        || served().is_some_and(|upload| {
            let is_late = is_late && !is_read_beside(&upload);
            upload.is_callers_fault(is_late)
        })
}

/// Returns the outcome, or `Ignored` for a failure that the caller caused.
#[inline(always)]
pub(crate) fn judged(outcome: Outcome, is_late: bool) -> Outcome {
    if outcome == Outcome::Failure && is_callers_fault(is_late) {
        return Outcome::Ignored;
    }
    outcome
}

/// Returns the outcome, or `Ignored` for a failure that the caller caused: a timeout, or the end of
/// a call at the caller's deadline.
pub(crate) fn judged_call(outcome: Outcome) -> Outcome {
    if outcome == Outcome::Failure && reported().ends_call() {
        return Outcome::Ignored;
    }
    judged(outcome, true)
}

// === impl UploadRef ===

impl UploadRef {
    /// Returns whether a gate on this thread runs the service that has the body.
    pub(crate) fn is_served(&self) -> bool {
        self.thread.load(Relaxed) == this_thread()
    }

    /// Makes this the upload of the request that this thread serves. With `is_call`, the scope is
    /// that of the call's future: it takes the upload over from a thread that polls the response
    /// body.
    #[inline(never)]
    pub(crate) fn enter(&self, is_call: bool) -> Option<Scope> {
        let before = SERVED.try_with(|served| served.replace(Some(self.clone())));
        let before = before.ok()?;
        let here = this_thread();
        let is_outermost = if is_call {
            self.thread.swap(here, Relaxed) != here
        } else {
            let taken = self.thread.compare_exchange(0, here, Relaxed, Relaxed);
            taken.is_ok()
        };
        if is_outermost {
            let flags = self.flags.load(Relaxed);
            if flags & DROPPED != 0 {
                self.flags.fetch_and(!(WAITS | DROPPED), Relaxed);
            }
            if flags & POLLED != 0 {
                self.flags.fetch_and(!POLLED, Relaxed);
            }
        }
        Some(Scope {
            is_outermost,
            before,
            outer: begin_inner(),
        })
    }
}

// === impl BodyUpload ===

impl BodyUpload {
    pub(crate) fn new(upload: &UploadRef) -> Self {
        Self(upload.clone())
    }

    pub(crate) fn enter(&self) -> Option<Scope> {
        self.0.enter(false)
    }
}

impl Drop for BodyUpload {
    fn drop(&mut self) {
        report(self.0.to_report());
    }
}

// === impl Detached ===

impl Detached {
    pub(crate) fn new() -> Self {
        Self {
            served: SERVED.try_with(Cell::take).ok().flatten(),
            _unheard: Unheard::new(),
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        let _ = SERVED.try_with(|served| served.set(self.served.take()));
    }
}

// === impl Scope ===

impl Drop for Scope {
    #[inline(always)]
    fn drop(&mut self) {
        leave(self.before.take(), self.is_outermost);
        end_inner(self.outer);
    }
}

#[inline(never)]
fn leave(before: Option<UploadRef>, is_outermost: bool) {
    let Ok(Some(upload)) = SERVED.try_with(|served| served.replace(before)) else {
        return;
    };
    let is_outermost = is_outermost && {
        let left = &upload.thread;
        let left = left.compare_exchange(this_thread(), 0, Relaxed, Relaxed);
        left.is_ok()
    };
    let flags = upload.flags.load(Acquire);
    if flags == 0 {
        return;
    }
    // Before the answer, a poll of the service that does not poll the body ends the wait. After the
    // answer, the report is made before the wait ends: a stream may check its timer first, and end
    // without a poll of the request body for which it waits.
    let is_answered = flags & ANSWERED != 0;
    if is_outermost && !is_answered {
        upload.end_poll();
    }
    report(upload.to_report().and(reported()));
    if is_outermost && is_answered {
        upload.end_poll();
    }
    if is_outermost && flags & GIVEN_BACK != 0 {
        // This gate does not answer. It drops the rest, so that the server sees that the body is
        // not read.
        unwind::without_panics(|| drop(upload.take_rest()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::super::UploadRef;

    fn upload() -> UploadRef {
        UploadRef(Some(Arc::default()))
    }

    /// A call runs on one thread, and a body of its response on another: the thread of the call
    /// serves the upload, until the call leaves.
    #[test]
    fn the_thread_of_the_call_serves_the_upload() {
        for is_body_first in [false, true] {
            let upload = upload();
            let body = |upload: UploadRef| {
                let (enters, entered) = mpsc::channel();
                let (leaves, may_leave) = mpsc::channel();
                let thread = thread::spawn(move || {
                    let scope = upload.enter(false);
                    enters.send(()).unwrap();
                    may_leave.recv().unwrap();
                    drop(scope);
                });
                entered.recv().unwrap();
                (thread, leaves)
            };
            let first = is_body_first.then(|| body(upload.clone()));
            let call = upload.enter(true);
            let (thread, leaves) = first.unwrap_or_else(|| body(upload.clone()));
            assert!(upload.is_served());
            leaves.send(()).unwrap();
            thread.join().unwrap();
            assert!(upload.is_served());
            drop(call);
            assert!(!upload.is_served());
        }
    }

    /// Two threads serve one upload, and the second one leaves last.
    #[test]
    fn a_thread_that_has_left_serves_no_upload() {
        let upload = upload();
        let here = upload.enter(true);
        let (enters, entered) = mpsc::channel();
        let (leaves, may_leave) = mpsc::channel();
        let there = upload.clone();
        let other = thread::spawn(move || {
            let scope = there.enter(true);
            enters.send(()).unwrap();
            may_leave.recv().unwrap();
            drop(scope);
        });
        entered.recv().unwrap();
        drop(here);
        leaves.send(()).unwrap();
        other.join().unwrap();
        assert!(!upload.is_served());
    }
}
