//! What a drain asks of the gate: to close connections, and then to end all response bodies.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use crate::observe::Reporter;
#[cfg(feature = "http")]
use crate::{reason::Reason, rejection::Rejection};

/// Closes HTTP/1 connections after their next response, and ends response bodies: each when it is
/// polled next, or else within two scans of its runtime's reaper. A cheap `Clone`: every clone is
/// the same cutoff.
#[derive(Clone)]
pub(crate) struct Cutoff {
    inner: Arc<Inner>,
}

struct Inner {
    /// 0, [`CLOSES`] or [`OVER`]; it only grows.
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

    /// From now on HTTP/1 connections are closed.
    pub(crate) fn close_connections(&self) {
        self.inner.stage.fetch_max(CLOSES, Relaxed);
    }

    #[cfg(feature = "http")]
    #[inline(always)]
    pub(crate) fn closes(&self) -> bool {
        self.inner.stage.load(Relaxed) != 0
    }

    /// From now on bodies are ended.
    pub(crate) fn end_bodies(&self) {
        self.inner.stage.fetch_max(OVER, Relaxed);
    }

    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.inner.stage.load(Relaxed) == OVER
    }

    /// How many bodies it has ended.
    pub(crate) fn ended(&self) -> u64 {
        self.inner.ended.load(Relaxed)
    }

    /// Counts a body that is ended, and says why. Its request was admitted, and so is not counted
    /// as rejected.
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
