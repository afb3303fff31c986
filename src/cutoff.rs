//! The cutoff of a drain: it closes connections, and then ends all response bodies.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use crate::observe::Reporter;
#[cfg(feature = "http")]
use crate::{reason::Reason, rejection::Rejection};

/// Closes HTTP/1 connections after their next response, and ends response bodies: at the next poll
/// of the body, or else within two scans of the runtime's reaper. A cheap `Clone`: all clones are
/// the same cutoff.
#[derive(Clone)]
pub(crate) struct Cutoff {
    inner: Arc<Inner>,
}

struct Inner {
    /// 0, [`CLOSES`] or [`OVER`]. It only grows.
    stage: AtomicU8,
    ended: AtomicU64,
    /// Without HTTP there are no bodies.
    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "the feature is off")
    )]
    reporter: Reporter,
}

const CLOSES: u8 = 1;
const OVER: u8 = 2;

// === impl Cutoff ===

impl Cutoff {
    pub(crate) fn new(reporter: Reporter) -> Self {
        Self {
            inner: Arc::new(Inner {
                stage: AtomicU8::new(0),
                ended: AtomicU64::new(0),
                reporter,
            }),
        }
    }

    #[cfg(feature = "http")]
    pub(crate) fn reporter(&self) -> &Reporter {
        &self.inner.reporter
    }

    /// Closes HTTP/1 connections from now on.
    pub(crate) fn close_connections(&self) {
        self.inner.stage.fetch_max(CLOSES, Relaxed);
    }

    #[cfg(feature = "http")]
    #[inline(always)]
    pub(crate) fn closes(&self) -> bool {
        self.inner.stage.load(Relaxed) != 0
    }

    /// Ends bodies from now on.
    pub(crate) fn end_bodies(&self) {
        self.inner.stage.fetch_max(OVER, Relaxed);
    }

    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.inner.stage.load(Relaxed) == OVER
    }

    /// The number of bodies that it has ended.
    pub(crate) fn ended(&self) -> u64 {
        self.inner.ended.load(Relaxed)
    }

    /// Counts a body that is ended, and returns the rejection. The request was admitted, and so
    /// does not count as rejected.
    #[cfg(feature = "http")]
    pub(crate) fn end_body(&self) -> Rejection {
        self.inner.ended.fetch_add(1, Relaxed);
        self.inner.reporter.reject(Reason::Draining)
    }
}

impl fmt::Debug for Cutoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cutoff")
            .field("is_over", &self.is_over())
            .field("ended", &self.ended())
            .finish_non_exhaustive()
    }
}
