//! Runs foreign code and makes a panic of it a rejection.

use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
#[cfg(feature = "http")]
use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::CatchPanic;
use super::hook::{Report, message};
use crate::observe;
use crate::rejection::{Reason, Rejection};
#[cfg(feature = "http")]
use crate::{
    body::{BodyError, Source, Watch},
    rejection::BoxError,
};

/// Runs foreign code and makes a panic of it a rejection.
#[derive(Clone)]
pub struct Isolate<H, K> {
    pub(super) handle: CatchPanic,
    pub(super) hook: H,
    pub(super) kept: K,
}

// === impl Isolate ===

impl<H, K> Isolate<H, K>
where
    H: Report<K>,
{
    /// Whatever `code` has left half-done is not used again: the future is over, the body ends, the instance answers once.
    #[inline]
    pub(super) fn run<R>(&self, code: impl FnOnce() -> R) -> Result<R, Rejection> {
        panic::catch_unwind(AssertUnwindSafe(code)).map_err(|payload| self.caught(payload))
    }

    #[cold]
    pub(super) fn caught(&self, payload: Box<dyn Any + Send>) -> Rejection {
        let rejection = self.handle.meter.reject(Reason::Panicked);
        let told = panic::catch_unwind(AssertUnwindSafe(|| {
            observe::panicked(&rejection, message(&*payload));
            self.hook.report(&*payload, &self.kept);
        }));
        if let Err(payload) = told {
            discard(payload);
        }
        discard(payload);
        rejection
    }
}

#[cfg(feature = "http")]
impl<H, K> Unpin for Isolate<H, K> {}

#[cfg(feature = "http")]
impl<B, H, K> Watch<B> for Option<Isolate<H, K>>
where
    H: Report<K>,
{
    #[inline(always)]
    fn poll_frame(
        self: Pin<&mut Self>,
        mut source: Pin<&mut Source<B>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<B::Data>, BodyError>>>
    where
        B: http_body::Body<Error: Into<BoxError>>,
    {
        let Some(isolate) = self.get_mut() else {
            return source.poll_frame(cx);
        };
        let poll = AssertUnwindSafe(|| source.as_mut().poll_frame(cx));
        panic::catch_unwind(poll).unwrap_or_else(|payload| {
            source.end();
            Poll::Ready(Some(Err(BodyError::cut(isolate.caught(payload)))))
        })
    }
}

impl<H, K> fmt::Debug for Isolate<H, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Isolate")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

/// Drops a payload, which may panic itself; what that leaves is leaked.
pub(super) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(payload);
    }
}
