//! The state of a request body: whether it failed, and whether the service waits for it.
//!
//! The [`RequestBody`](crate::RequestBody) records the state, on the task that reads it. A gate
//! with a request limit lends the state to the code that runs inside its future and its response
//! body. Every layer there can then distinguish a failure of the service from one that the caller
//! caused: an upload that is too slow or too large, or that the caller aborts.
//!
//! A gate lends the state through one thread-local value, and reports to the outer gates through
//! another. The code that judges a failure, a deadline or a slow call reads both.

mod report;
mod served;

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{
    AtomicU16, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::report::{
    Listening, Report, Unheard, blame_caller_if_late, blame_caller_of_stream, blame_callers_time,
    discard, is_discarded, listen_to_end, rejecting, reported,
};
use self::report::{has_listener, is_rejected};
pub use self::served::{BodyUpload, Scope};
pub(crate) use self::served::{
    Detached, abandon, end_poll, is_callers_fault, is_elsewhere, judged, judged_call, waited,
    waited_before,
};
use crate::clock;
use crate::raise::RaisableSize;
use crate::rejection::Rejection;
use crate::request_limit::bounds::Bounds;
use crate::sync::lock;
use crate::unwind;

/// The state of a request body. The body, the gate's future and the response body share it.
#[derive(Default)]
pub(crate) struct Upload {
    flags: AtomicU16,
    /// The thread on which a gate runs the service of this request now; 0 if none does.
    thread: AtomicUsize,
    /// `None` in the pool.
    bounds: Option<Arc<Bounds>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The start of the current wait for the body.
    since: Option<Instant>,
    /// The total of the earlier waits.
    waited: Duration,
    /// The reason for which a layer ended the body, and the rest of the body.
    ended: Option<(Rejection, Option<Rest>)>,
    /// The rest of a body that was dropped while the gate ran its service.
    given_back: Option<Rest>,
    /// The size of the body, if inner gates may raise it.
    size: Option<RaisableSize>,
}

/// The rest of a body. The code that takes it knows its type.
pub(crate) type Rest = Box<dyn Any + Send>;

/// The service waits for the body: the last poll of the body was pending.
const WAITS: u16 = 1;
/// The body ended with an error.
const FAILED: u16 = 1 << 1;
/// A layer ended it.
const ENDED: u16 = 1 << 2;
/// An earlier poll was pending. It keeps the flags from 0, so that the wait is reported.
const WAITED: u16 = 1 << 3;
/// The body was dropped, and the gate has the rest.
const GIVEN_BACK: u16 = 1 << 4;
/// The body was dropped while the service waited for it: from the next poll on, the service does
/// not wait for it.
const DROPPED: u16 = 1 << 5;
/// Its size is raisable.
const RAISABLE: u16 = 1 << 6;
/// The service itself polled the body last, and not another task.
const INSIDE: u16 = 1 << 7;
/// The present poll of the service has polled the body.
const POLLED: u16 = 1 << 8;
/// The call is over, and something still has the body: no gate reads the rest.
const ANSWERED: u16 = 1 << 9;
/// A gate has dropped a call at a timeout. If another task has the body, it drops the body later.
const ABANDONED: u16 = 1 << 10;

/// A reference to an [`Upload`]. The last one puts it into the thread's pool.
#[derive(Clone)]
pub(crate) struct UploadRef(Option<Arc<Upload>>);

/// The upper bound for the uploads in the pool of a thread.
const POOL: usize = 64;

thread_local! {
    static UPLOADS: RefCell<Vec<Arc<Upload>>> = const { RefCell::new(Vec::new()) };
}

// === impl Upload ===

impl Upload {
    /// The upload of a request that `bounds` limit.
    #[inline]
    pub(crate) fn begin(bounds: &Arc<Bounds>) -> UploadRef {
        let bounds = Some(bounds.clone());
        let pooled = UPLOADS.try_with(|pool| pool.borrow_mut().pop());
        if let Ok(Some(mut upload)) = pooled {
            if let Some(unique) = Arc::get_mut(&mut upload) {
                unique.bounds = bounds;
                return UploadRef(Some(upload));
            }
        }
        UploadRef(Some(Arc::new(Self {
            bounds,
            ..Self::default()
        })))
    }

    /// Lets inner gates raise the size.
    pub(crate) fn set_raisable(&self, size: RaisableSize) {
        self.state().size = Some(size);
        self.flags.fetch_or(RAISABLE, Relaxed);
    }

    /// The additional bytes that the body may have, because an inner gate has raised its size.
    #[cold]
    pub(crate) fn take_more(&self) -> u64 {
        match &mut self.state().size {
            Some(size) => size.take_more(),
            None => 0,
        }
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        self.bounds.as_deref().expect("it is not in the pool")
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The body has a frame, or has ended.
    #[inline(always)]
    pub(crate) fn receive(&self) {
        if self.flags.load(Relaxed) & WAITS != 0 {
            self.stop_waiting();
        }
    }

    /// Returns whether the service itself polled the body last, and not another task.
    fn is_read_inside(&self) -> bool {
        self.flags.load(Relaxed) & INSIDE != 0
    }

    /// A poll of the service has ended. If the service itself has polled the body before, and not
    /// in this poll, it does something else now.
    #[inline(always)]
    fn end_poll(&self) {
        let flags = self.flags.load(Relaxed);
        if flags & (WAITS | INSIDE | POLLED | DROPPED) == WAITS | INSIDE {
            self.stop_waiting();
        }
    }

    #[cold]
    fn stop_waiting(&self) {
        let mut state = self.state();
        if let Some(since) = state.since.take() {
            state.waited += clock::now().saturating_duration_since(since);
        }
        self.flags.fetch_or(WAITED, Relaxed);
        self.flags.fetch_and(!WAITS, Relaxed);
    }

    pub(crate) fn waited(&self) -> Duration {
        let state = self.state();
        let now = |since| clock::now().saturating_duration_since(since);
        state.waited + state.since.map_or(Duration::ZERO, now)
    }

    /// The body failed, most likely because the client has disconnected.
    #[cold]
    pub(crate) fn fail(&self) {
        self.flags.fetch_or(FAILED, Relaxed);
    }

    /// A layer ends the body. The future takes the rest, unless the call is over.
    #[cold]
    pub(crate) fn end(&self, rejection: Rejection, rest: Option<Rest>) {
        self.state().ended = Some((rejection, rest));
        if self.flags.fetch_or(FAILED | ENDED, Release) & ANSWERED != 0 {
            self.drop_rest();
        }
    }

    /// Records that no gate reads the rest of the body.
    #[cold]
    pub(crate) fn set_answered(&self) {
        if self.flags.fetch_or(ANSWERED, Relaxed) & ENDED != 0 {
            self.drop_rest();
        }
    }

    /// Drops the rest of the body, so that the server sees that the body is not read.
    fn drop_rest(&self) {
        let end = self.state().ended.take();
        unwind::without_panics(|| drop(end));
    }

    /// Returns whether a layer ended the body, after a look that found no other reference to it.
    #[inline(always)]
    pub(crate) fn is_ended(&self) -> bool {
        fence(Acquire);
        self.flags.load(Relaxed) & ENDED != 0
    }

    /// The rejection with which a layer ended the body; returned once.
    #[inline(always)]
    pub(crate) fn take_end(&self) -> Option<(Rejection, Option<Rest>)> {
        if self.flags.load(Acquire) & ENDED == 0 {
            return None;
        }
        self.state().ended.take()
    }

    /// Records that a gate has dropped a call at a timeout.
    #[cold]
    pub(crate) fn abandon(&self) {
        self.flags.fetch_or(ABANDONED, Relaxed);
    }

    /// Returns whether an inner gate drops the body of a request that it rejects, or has dropped a
    /// call at a timeout.
    pub(crate) fn is_abandoned(&self) -> bool {
        is_rejected() || self.flags.load(Relaxed) & ABANDONED != 0
    }

    /// The service drops the body.
    #[inline(always)]
    pub(crate) fn drop_body(&self) {
        if self.flags.load(Relaxed) & WAITS != 0 {
            self.stop_waiting();
            self.flags.fetch_or(WAITS | DROPPED, Relaxed);
        }
    }

    /// Keeps the rest of a body that is dropped.
    #[cold]
    pub(crate) fn give_back(&self, rest: Option<Rest>) {
        if rest.is_some() {
            self.state().given_back = rest;
            self.flags.fetch_or(GIVEN_BACK, Relaxed);
        }
    }

    /// The rest of a body that was dropped.
    pub(crate) fn take_rest(&self) -> Option<Rest> {
        if self.flags.load(Relaxed) & GIVEN_BACK == 0 {
            return None;
        }
        self.flags.fetch_and(!GIVEN_BACK, Relaxed);
        self.state().given_back.take()
    }

    /// The report to the outer gates, when the request has ended or its response head is ready.
    #[inline(always)]
    fn to_report(&self) -> Report {
        match self.flags.load(Acquire) {
            0 => Report::NOTHING,
            flags => self.report_flags(flags),
        }
    }

    #[cold]
    #[inline(never)]
    fn report_flags(&self, flags: u16) -> Report {
        if !has_listener() {
            return Report::NOTHING;
        }
        Report::new(self.waited(), flags & FAILED != 0, flags & WAITS != 0)
    }

    fn is_callers_fault(&self, is_late: bool) -> bool {
        let flags = self.flags.load(Acquire);
        flags & FAILED != 0 || is_late && flags & WAITS != 0
    }
}

// === impl UploadRef ===

impl UploadRef {
    /// The body is pending. Returns whether a new wait begins.
    #[cold]
    pub(crate) fn wait(&self) -> bool {
        let is_new = self.flags.load(Relaxed) & WAITS == 0;
        if is_new {
            self.state().since = Some(clock::now());
            self.flags.fetch_or(WAITS, Relaxed);
        }
        if self.is_served() {
            self.flags.fetch_or(INSIDE | POLLED, Relaxed);
            report::read_body();
        } else {
            self.flags.fetch_and(!INSIDE, Relaxed);
        }
        is_new
    }

    /// Returns whether nothing else has the body, and there is nothing to report of it.
    #[inline(always)]
    pub(crate) fn is_over(&self) -> bool {
        let is_alone = self.0.as_ref().is_none_or(|it| Arc::strong_count(it) == 1);
        // After it, the flags are those of the thread that had the body.
        fence(Acquire);
        is_alone && self.flags.load(Relaxed) == 0
    }

    /// Returns whether something still has the body, which is not at its end. It counts the
    /// references, of which the caller has one.
    #[inline]
    pub(crate) fn has_body(&self) -> bool {
        let all = self.references();
        all > 1 && all > 1 + usize::from(self.is_served())
    }

    fn references(&self) -> usize {
        self.0.as_ref().map_or(0, Arc::strong_count)
    }
}

impl Deref for UploadRef {
    type Target = Upload;

    #[inline(always)]
    fn deref(&self) -> &Upload {
        self.0.as_deref().expect("it is taken when it is dropped")
    }
}

impl Drop for UploadRef {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(upload) = self.0.take() {
            // Other references may be dropped at the same time. Then none of them returns the
            // upload to the pool.
            if Arc::strong_count(&upload) == 1 {
                return_to_pool(upload);
            }
        }
    }
}

#[inline(never)]
fn return_to_pool(mut upload: Arc<Upload>) {
    let Some(unique) = Arc::get_mut(&mut upload) else {
        return;
    };
    unique.bounds = None;
    *unique.thread.get_mut() = 0;
    if std::mem::take(unique.flags.get_mut()) != 0 {
        unique.state = Mutex::default();
    }
    let _ = UPLOADS.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < POOL {
            pool.push(upload);
        }
    });
}

impl fmt::Debug for UploadRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadRef").finish_non_exhaustive()
    }
}
