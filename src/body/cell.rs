//! A response body that can be ended from outside, whether or not the connection polls it.
//!
//! The body, the rest of its current frame and the guard are in a cell. The connection polls the
//! cell through a [`Remote`]. The [`Reaper`] of the runtime ends the body when its time is over.
//! This drops the body and releases the permit, even if the client reads nothing.

use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Buf, BufMut, Bytes};
use http_body::{Frame, SizeHint};

use super::bounds::Bounds;
use super::error::PolledFrame;
use super::over::Reap;
use super::reaper::Reaper;
use super::stamp::Stamp;
use super::watched::{LARGE, Watched};
use crate::http::head::HttpRequest;
use crate::policy::Policy;
use crate::rejection::{BoxError, Rejection};
use crate::sync::lock;
use crate::unwind;

/// The size of a slice.
const SLICE: usize = 16 * 1024;

/// The number of frames that may have been ready at the end of a stall of the runtime.
const READY: u32 = 64;

/// The body that the connection owns. It polls the body in the cell.
pub(super) struct Remote<B> {
    pub(super) cell: Arc<dyn RemoteBody<B>>,
    /// Wakes the cell.
    pub(super) waker: Waker,
    reaper: Option<(Arc<Reaper>, usize)>,
}

/// The operations of a [`Remote`] on its cell, independent of the policies of the gate.
pub(super) trait RemoteBody<B>: Send + Sync {
    /// The body wakes the cell with `waker`.
    fn poll_frame(&self, waker: &Waker, cx: &mut Context<'_>) -> PolledFrame<B::Data>
    where
        B: http_body::Body<Data: From<Bytes>, Error: Into<BoxError>>;

    fn is_end_stream(&self) -> bool
    where
        B: http_body::Body;

    fn size_hint(&self) -> SizeHint
    where
        B: http_body::Body;

    /// The connection has dropped the body.
    fn drop_body(&self);
}

struct Cell<B: http_body::Body, P: Policy<HttpRequest>> {
    /// A [`Stamp`].
    stamp: AtomicU64,
    /// The reaper found the body being polled at its end: `| frames: 32 | 0: 30 | the caller caused
    /// it: 1 | 1: 1 |`. Otherwise 0.
    missed: AtomicU64,
    /// At the last scan, the client had read too slowly for a body with a deadline.
    is_slow: AtomicBool,
    bounds: Bounds,
    state: Mutex<State<B, P>>,
    /// Wakes the connection. It has a lock of its own, since a body may wake itself while it is
    /// polled.
    waker: Mutex<Option<Waker>>,
}

struct State<B: http_body::Body, P: Policy<HttpRequest>> {
    live: Option<Live<B, P>>,
    outside: Outside,
    /// The number of frames after the deadline.
    late_frames: u32,
}

/// Whether the body was ended from outside.
#[derive(Default)]
enum Outside {
    #[default]
    No,
    /// It is being dropped.
    Ending,
    /// The connection has not read the rejection yet.
    Ended(Rejection),
}

/// The values that are dropped together.
struct Live<B: http_body::Body, P: Policy<HttpRequest>> {
    watched: Watched<B, P>,
    rest: Option<B::Data>,
}

/// A body that is being ended. On drop, the connection gets the rejection, even if the body panics.
struct Ending<'a, B: http_body::Body, P: Policy<HttpRequest>> {
    cell: &'a Cell<B, P>,
    rejection: Rejection,
}

impl<B: http_body::Body, P: Policy<HttpRequest>> Drop for Ending<'_, B, P> {
    fn drop(&mut self) {
        let outside = Outside::Ended(self.rejection.clone());
        self.cell.lock().outside = outside;
        self.cell.wake_connection();
    }
}

// === impl Remote ===

impl<B> Remote<B> {
    /// Registers the body with the reaper of this runtime. Outside a runtime nothing ends it.
    pub(super) fn new<P>(watched: Watched<B, P>, bounds: Bounds) -> Self
    where
        B: http_body::Body<Data: From<Bytes> + Send, Error: Into<BoxError>>
            + Send
            + Unpin
            + 'static,
        P: Policy<HttpRequest> + 'static,
        Watched<B, P>: Send,
    {
        let cell = Arc::new(Cell {
            stamp: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            is_slow: AtomicBool::new(false),
            bounds,
            state: Mutex::new(State {
                live: Some(Live {
                    watched,
                    rest: None,
                }),
                outside: Outside::No,
                late_frames: 0,
            }),
            waker: Mutex::default(),
        });
        let reaper = Reaper::here().map(|reaper| {
            let key = reaper.watch(cell.clone());
            (reaper, key)
        });
        let waker = Waker::from(cell.clone());
        Self {
            cell,
            waker,
            reaper,
        }
    }
}

impl<B> Drop for Remote<B> {
    fn drop(&mut self) {
        if let Some((reaper, key)) = self.reaper.take() {
            reaper.forget(key);
        }
        self.cell.drop_body();
    }
}

// === impl Cell ===

impl<B: http_body::Body, P: Policy<HttpRequest>> Cell<B, P> {
    fn lock(&self) -> MutexGuard<'_, State<B, P>> {
        lock(&self.state)
    }

    /// Sets the waker of the connection, and drops the one before without the waker's lock.
    fn set_waker(&self, cx: &Context<'_>) {
        let mut waker = lock(&self.waker);
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            let before = waker.replace(cx.waker().clone());
            drop(waker);
            drop(before);
        }
    }

    fn wake_connection(&self) {
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            unwind::without_panics(|| waker.wake());
        }
    }

    /// Returns whether a deadline that passes now is the fault of the caller.
    fn is_callers_deadline(&self) -> bool {
        self.bounds.is_callers || self.is_slow.load(Relaxed)
    }

    /// Returns whether the caller caused the end that the reaper missed, if it still applies.
    fn take_missed(&self, stamp: Stamp) -> Option<bool> {
        if self.missed.load(Relaxed) == 0 {
            return None;
        }
        let missed = self.missed.swap(0, Relaxed);
        (missed >> 32 == stamp.frames()).then_some(missed & 2 != 0)
    }

    /// Takes the live values out of the cell, drops them without the lock, and leaves the rejection
    /// for the connection. If a drain does not end the body, `is_callers` if the caller caused it.
    #[cold]
    fn end(&self, mut state: MutexGuard<'_, State<B, P>>, is_callers: bool)
    where
        B: Unpin,
    {
        let Some(mut live) = state.live.take() else {
            return;
        };
        state.outside = Outside::Ending;
        drop(state);
        let (rejection, counts) = match self.bounds.due_cutoff() {
            Some(cutoff) => (cutoff.end_body(), false),
            None => (self.bounds.timeout(is_callers), true),
        };
        let mut ending = Ending {
            cell: self,
            rejection,
        };
        Pin::new(&mut live.watched).end(&mut ending.rejection, counts);
    }
}

impl<B, P> RemoteBody<B> for Cell<B, P>
where
    B: http_body::Body<Data: From<Bytes> + Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    P: Policy<HttpRequest> + 'static,
    Watched<B, P>: Send,
{
    fn poll_frame(&self, waker: &Waker, cx: &mut Context<'_>) -> PolledFrame<B::Data> {
        let mut guard = self.lock();
        // The cutoff ends the body here too, since the reaper may always find it being polled.
        if guard.live.is_some() && self.bounds.due_cutoff().is_some() {
            self.end(guard, false);
            return self.poll_frame(waker, cx);
        }
        let state = &mut *guard;
        let Some(live) = &mut state.live else {
            if let Outside::Ending = state.outside {
                self.set_waker(cx);
                return Poll::Pending;
            }
            let Outside::Ended(rejection) = mem::take(&mut state.outside) else {
                return Poll::Ready(None);
            };
            let last = super::last_frame(rejection, self.bounds.is_grpc);
            return Poll::Ready(Some(last));
        };
        // The stamp is set before the poll, so that it does not overwrite a wake of the body.
        // Relaxed is enough: the reaper compares the stamp again under the lock.
        let stamp = Stamp(self.stamp.load(Relaxed)).polled();
        self.stamp.store(stamp.0, Relaxed);
        let polled = live.poll_frame(&mut Context::from_waker(waker));
        match &polled {
            Poll::Pending => {
                if let Some(is_callers) = self.take_missed(stamp) {
                    self.end(guard, is_callers);
                    return self.poll_frame(waker, cx);
                }
                self.set_waker(cx);
                // The body woke itself, and with it only the previous waker of the connection.
                if !Reap::stamp(self).waits() {
                    cx.waker().wake_by_ref();
                }
            }
            Poll::Ready(Some(Ok(frame))) if !frame.is_trailers() && !live.is_over() => {
                self.stamp.store(stamp.with_frame().0, Relaxed);
                // The reaper may not end a body that always has a frame ready: the stamp changes
                // after the scan, or the runtime does not poll the reaper's task.
                if self.bounds.is_late() {
                    state.late_frames += 1;
                    let missed = self.take_missed(stamp);
                    if state.late_frames > READY || missed.is_some() {
                        self.end(guard, missed.unwrap_or_else(|| self.is_callers_deadline()));
                        return self.poll_frame(waker, cx);
                    }
                }
            }
            Poll::Ready(_) => {
                // This was the last frame: there is nothing left to end.
                let live = state.live.take();
                drop(guard);
                if let Some(mut live) = live {
                    live.watched.complete();
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let mut state = self.lock();
        match &mut state.live {
            Some(live) => live.is_over(),
            None => matches!(state.outside, Outside::No),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.lock();
        let Some(live) = &state.live else {
            // Hyper does not poll a body whose length is 0, so the length must be larger until the
            // client has read the error.
            return match &state.outside {
                Outside::No => SizeHint::with_exact(0),
                _ => SizeHint::default(),
            };
        };
        let rest = live.rest.as_ref().map_or(0, Buf::remaining) as u64;
        let inner = live.watched.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }

    fn drop_body(&self) {
        let live = self.lock().live.take();
        drop(live);
    }
}

/// A body that is ready is not idle, also if the connection does not poll it again.
impl<B, P> Wake for Cell<B, P>
where
    B: http_body::Body<Data: Send> + Send + 'static,
    P: Policy<HttpRequest> + 'static,
    Watched<B, P>: Send,
{
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.stamp.fetch_and(!Stamp::WAITS, Relaxed);
        self.wake_connection();
    }
}

impl<B, P> Reap for Cell<B, P>
where
    B: http_body::Body<Data: Send> + Send + Unpin + 'static,
    P: Policy<HttpRequest> + 'static,
    Watched<B, P>: Send,
{
    fn stamp(&self) -> Stamp {
        Stamp(self.stamp.load(Relaxed))
    }

    fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    fn set_slow(&self, is_slow: bool) {
        self.is_slow.store(is_slow, Relaxed);
    }

    fn wake(&self) {
        self.wake_connection();
    }

    fn end(&self, is_current: &dyn Fn(Stamp) -> bool, is_callers: bool) {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => {
                // If it is being polled, it ends after that poll.
                let stamp = self.stamp();
                let is_current = is_current(stamp);
                if is_current || self.bounds.is_late() {
                    let is_callers = if is_current {
                        is_callers
                    } else {
                        self.is_callers_deadline()
                    };
                    let missed = stamp.frames() << 32 | u64::from(is_callers) << 1 | 1;
                    self.missed.store(missed, Relaxed);
                }
                return;
            }
        };
        if state.live.is_some() && is_current(self.stamp()) {
            Cell::end(self, state, is_callers);
        }
    }
}

// === impl Live ===

impl<B: http_body::Body, P: Policy<HttpRequest>> Live<B, P> {
    fn is_over(&mut self) -> bool {
        self.rest.is_none() && (self.watched.is_end_stream() || self.watched.is_delivered())
    }
}

impl<B, P> Live<B, P>
where
    B: http_body::Body<Data: From<Bytes>, Error: Into<BoxError>> + Unpin,
    P: Policy<HttpRequest>,
{
    #[inline]
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame<B::Data> {
        if self.rest.is_some() {
            return Poll::Ready(Some(Ok(self.next_slice())));
        }
        let polled = ready!(Pin::new(&mut self.watched).poll_frame(cx, false));
        match &polled {
            Some(Ok(frame)) if is_large(frame) => {}
            _ => return Poll::Ready(polled),
        }
        self.rest = polled
            .and_then(Result::ok)
            .and_then(|frame| frame.into_data().ok());
        Poll::Ready(Some(Ok(self.next_slice())))
    }

    /// It copies, so that a slice which the connection keeps does not keep the whole frame.
    #[cold]
    #[inline(never)]
    fn next_slice(&mut self) -> Frame<B::Data> {
        let mut slice = Vec::new();
        if let Some(rest) = &mut self.rest {
            let length = rest.remaining().min(SLICE);
            slice.reserve_exact(length);
            slice.put(rest.take(length));
            if !rest.has_remaining() {
                self.rest = None;
            }
        }
        Frame::data(Bytes::from(slice).into())
    }
}

fn is_large<D: Buf>(frame: &Frame<D>) -> bool {
    frame
        .data_ref()
        .is_some_and(|data| data.remaining() as u64 > LARGE)
}

#[cfg(test)]
mod tests;
