//! The end of all response bodies of a drain at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::observe::Reporter;
#[cfg(feature = "http")]
use crate::{reason::Reason, rejection::Rejection};

/// Ends the response bodies that know it: each when it is polled next, or else within two scans of
/// its runtime's reaper. A cheap `Clone`: every clone is the same cutoff.
#[derive(Clone)]
pub(crate) struct Cutoff {
    inner: Arc<Inner>,
}

struct Inner {
    is_over: AtomicBool,
    ended: AtomicU64,
    /// Without HTTP there are no bodies.
    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "the feature is off")
    )]
    reporter: Reporter,
}

// === impl Cutoff ===

impl Cutoff {
    pub(crate) fn new(reporter: Reporter) -> Self {
        Self {
            inner: Arc::new(Inner {
                is_over: AtomicBool::new(false),
                ended: AtomicU64::new(0),
                reporter,
            }),
        }
    }

    #[cfg(feature = "http")]
    pub(crate) fn reporter(&self) -> &Reporter {
        &self.inner.reporter
    }

    /// From now on bodies are ended.
    pub(crate) fn end_bodies(&self) {
        self.inner.is_over.store(true, Relaxed);
    }

    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.inner.is_over.load(Relaxed)
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
