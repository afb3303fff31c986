//! How large and how slow a request may be: values that may change while the service runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::pace::Pace;
use crate::clock::nanos;
use crate::http::head::RequestHead;
use crate::observe::Reporter;
use crate::raise;
use crate::reason::Reason;

/// The bounds of a [`RequestLimit`](crate::RequestLimit). Sizes are `u64::MAX` where there is no
/// limit, times and the rate 0.
pub(crate) struct Bounds {
    max_body: AtomicU64,
    /// The most to which inner gates may raise it.
    most_body: AtomicU64,
    max_header_bytes: AtomicU64,
    max_headers: AtomicU64,
    max_uri: AtomicU64,
    idle_nanos: AtomicU64,
    timeout_nanos: AtomicU64,
    rate: AtomicU64,
    grace_nanos: AtomicU64,
    /// Whether there is any bound but that of the body's size.
    has_more: AtomicBool,
    reporter: Reporter,
}

// === impl Bounds ===

impl Bounds {
    pub(super) fn new(max_body: u64) -> Self {
        Self {
            max_body: AtomicU64::new(max_body),
            most_body: AtomicU64::new(0),
            max_header_bytes: AtomicU64::new(u64::MAX),
            max_headers: AtomicU64::new(u64::MAX),
            max_uri: AtomicU64::new(u64::MAX),
            idle_nanos: AtomicU64::new(0),
            timeout_nanos: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            grace_nanos: AtomicU64::new(0),
            has_more: AtomicBool::new(false),
            reporter: Reporter::new("request_limit"),
        }
    }

    pub(crate) fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// Whether a body of this exact length, of at most `max`, needs no further look at the request.
    #[inline(always)]
    pub(crate) fn fits(&self, length: u64, max: u64) -> bool {
        length <= max && length != u64::MAX && !self.has_more.load(Relaxed) && !raise::is_used()
    }

    #[inline(always)]
    pub(super) fn max_body(&self) -> u64 {
        self.max_body.load(Relaxed)
    }

    pub(super) fn set_max_body(&self, max_body: u64) {
        self.max_body.store(max_body, Relaxed);
    }

    /// Zero if it is not raisable.
    pub(super) fn most_body(&self) -> u64 {
        self.most_body.load(Relaxed)
    }

    pub(super) fn set_most_body(&self, most: u64) {
        self.most_body.store(most, Relaxed);
    }

    pub(super) fn max_headers(&self) -> (u64, u64) {
        (
            self.max_header_bytes.load(Relaxed),
            self.max_headers.load(Relaxed),
        )
    }

    pub(super) fn set_headers(&self, max_bytes: u64, max_count: u64) {
        self.max_header_bytes.store(max_bytes, Relaxed);
        self.max_headers.store(max_count, Relaxed);
        self.changed();
    }

    pub(super) fn max_uri(&self) -> u64 {
        self.max_uri.load(Relaxed)
    }

    pub(super) fn set_uri(&self, max_bytes: u64) {
        self.max_uri.store(max_bytes, Relaxed);
        self.changed();
    }

    pub(super) fn set_idle(&self, idle: Duration) {
        self.idle_nanos.store(nanos(idle), Relaxed);
        self.changed();
    }

    pub(super) fn set_timeout(&self, timeout: Duration) {
        self.timeout_nanos.store(nanos(timeout), Relaxed);
        self.changed();
    }

    pub(super) fn set_rate(&self, bytes_per_second: u64, grace: Duration) {
        self.grace_nanos.store(nanos(grace), Relaxed);
        self.rate.store(bytes_per_second, Relaxed);
        self.changed();
    }

    fn changed(&self) {
        let (bytes, count) = self.max_headers();
        let has_head = self.max_uri() & bytes & count != u64::MAX;
        self.has_more
            .store(has_head || self.pace().is_any(), Relaxed);
    }

    pub(super) fn pace(&self) -> Pace {
        let time = |nanos: &AtomicU64| {
            let nanos = nanos.load(Relaxed);
            (nanos > 0).then(|| Duration::from_nanos(nanos))
        };
        let rate = self.rate.load(Relaxed);
        let grace = || Duration::from_nanos(self.grace_nanos.load(Relaxed));
        Pace {
            idle: time(&self.idle_nanos),
            timeout: time(&self.timeout_nanos),
            rate: (rate > 0).then(|| (rate, grace())),
        }
    }

    /// What is wrong with the head, if anything is.
    pub(super) fn rejects(&self, head: &RequestHead<'_>) -> Option<Reason> {
        let max_uri = self.max_uri();
        if max_uri != u64::MAX {
            let target = head.uri.path_and_query();
            if target.map_or(0, |target| target.as_str().len()) as u64 > max_uri {
                return Some(Reason::UriTooLong);
            }
        }
        let (max_bytes, max_headers) = self.max_headers();
        if head.headers.len() as u64 > max_headers {
            return Some(Reason::HeadersTooLarge);
        }
        if max_bytes == u64::MAX {
            return None;
        }
        let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        let bytes: usize = head.headers.iter().map(size).sum();
        (bytes as u64 > max_bytes).then_some(Reason::HeadersTooLarge)
    }
}

impl std::fmt::Debug for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bounds")
            .field("max_body", &self.max_body())
            .field("reporter", &self.reporter)
            .finish_non_exhaustive()
    }
}
