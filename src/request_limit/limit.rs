//! How large and how slow a request may be: values that may change while it runs.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::pace::Pace;
use crate::clock::nanos;
use crate::observe::Meter;
use crate::protocol::RequestHead;
use crate::rejection::Reason;

/// How large a request body may be. A cheap `Clone`: every clone is the same setting.
#[derive(Clone)]
pub struct RequestLimit {
    pub(super) shared: Arc<Shared>,
}

/// The sizes are the largest number where there is no limit, the times and the rate 0.
pub(super) struct Shared {
    max_body: AtomicU64,
    max_header_bytes: AtomicU64,
    max_headers: AtomicU64,
    max_uri: AtomicU64,
    idle_nanos: AtomicU64,
    deadline_nanos: AtomicU64,
    rate: AtomicU64,
    grace_nanos: AtomicU64,
    pub(super) meter: Meter,
}

/// What a [`RequestLimit`] has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RequestLimitSnapshot {
    /// The largest body that is let through by default, in bytes.
    pub max_body: u64,
    /// The largest headers, in bytes; `None` for no limit.
    pub max_header_bytes: Option<u64>,
    /// The most headers; `None` for no limit.
    pub max_headers: Option<u64>,
    /// The longest path and query, in bytes; `None` for no limit.
    pub max_uri: Option<u64>,
    /// The longest silence of a body; `None` for no limit.
    pub body_idle: Option<Duration>,
    /// The longest that a body is waited for; `None` for no limit.
    pub body_deadline: Option<Duration>,
    /// The least rate of a body, in bytes a second, and its grace; `None` for no limit.
    pub body_rate: Option<(u64, Duration)>,
    /// Requests turned away so far.
    pub rejected: u64,
}

// === impl RequestLimit ===

impl RequestLimit {
    /// Bodies of up to `max_body` bytes pass; 0 lets none pass but empty ones.
    pub fn new(max_body: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                max_body: AtomicU64::new(max_body),
                max_header_bytes: AtomicU64::new(u64::MAX),
                max_headers: AtomicU64::new(u64::MAX),
                max_uri: AtomicU64::new(u64::MAX),
                idle_nanos: AtomicU64::new(0),
                deadline_nanos: AtomicU64::new(0),
                rate: AtomicU64::new(0),
                grace_nanos: AtomicU64::new(0),
                meter: Meter::new("request_limit"),
            }),
        }
    }

    /// Names the limit in rejections, metrics and events. The first name stays.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.shared.meter.set_name(name);
        self
    }

    /// The largest body that is let through by default, in bytes.
    pub fn max_body(&self) -> u64 {
        self.shared.max_body.load(Relaxed)
    }

    /// Changes it for the requests to come.
    pub fn set_max_body(&self, max_body: u64) {
        self.shared.max_body.store(max_body, Relaxed);
    }

    /// Changes how large the headers may be for the requests to come; see [`RequestLimitLayer::headers`](crate::RequestLimitLayer::headers).
    pub fn set_headers(&self, max_bytes: u64, max_count: u64) {
        self.shared.max_header_bytes.store(max_bytes, Relaxed);
        self.shared.max_headers.store(max_count, Relaxed);
    }

    /// Changes how long the URI may be for the requests to come; see [`RequestLimitLayer::uri`](crate::RequestLimitLayer::uri).
    pub fn set_uri(&self, max_bytes: u64) {
        self.shared.max_uri.store(max_bytes, Relaxed);
    }

    /// Changes the longest silence of a body for the requests to come; see [`RequestLimitLayer::body_idle`](crate::RequestLimitLayer::body_idle). Zero is no limit.
    pub fn set_body_idle(&self, idle: Duration) {
        self.shared.idle_nanos.store(nanos(idle), Relaxed);
    }

    /// Changes the time for a body for the requests to come; see [`RequestLimitLayer::body_deadline`](crate::RequestLimitLayer::body_deadline). Zero is no limit.
    pub fn set_body_deadline(&self, deadline: Duration) {
        self.shared.deadline_nanos.store(nanos(deadline), Relaxed);
    }

    /// Changes the least rate of a body for the requests to come; see [`RequestLimitLayer::body_rate`](crate::RequestLimitLayer::body_rate). Zero is no limit.
    pub fn set_body_rate(&self, bytes_per_second: u64, grace: Duration) {
        self.shared.grace_nanos.store(nanos(grace), Relaxed);
        self.shared.rate.store(bytes_per_second, Relaxed);
    }

    /// All of it at once.
    pub fn snapshot(&self) -> RequestLimitSnapshot {
        let bytes = |most: &AtomicU64| Some(most.load(Relaxed)).filter(|most| *most != u64::MAX);
        let shared = &self.shared;
        let pace = shared.pace();
        RequestLimitSnapshot {
            max_body: self.max_body(),
            max_header_bytes: bytes(&shared.max_header_bytes),
            max_headers: bytes(&shared.max_headers),
            max_uri: bytes(&shared.max_uri),
            body_idle: pace.idle,
            body_deadline: pace.deadline,
            body_rate: pace.rate,
            rejected: self.shared.meter.rejected(),
        }
    }
}

impl From<u64> for RequestLimit {
    fn from(max_body: u64) -> Self {
        Self::new(max_body)
    }
}

impl fmt::Debug for RequestLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLimit")
            .field("max_body", &self.max_body())
            .field("meter", &self.shared.meter)
            .finish()
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn pace(&self) -> Pace {
        let time = |nanos: &AtomicU64| {
            let nanos = nanos.load(Relaxed);
            (nanos > 0).then(|| Duration::from_nanos(nanos))
        };
        let rate = self.rate.load(Relaxed);
        let grace = || Duration::from_nanos(self.grace_nanos.load(Relaxed));
        Pace {
            idle: time(&self.idle_nanos),
            deadline: time(&self.deadline_nanos),
            rate: (rate > 0).then(|| (rate, grace())),
        }
    }

    /// What is wrong with the head, if anything is.
    #[inline]
    pub(super) fn refuses(&self, head: &RequestHead<'_>) -> Option<Reason> {
        let [uri, headers, bytes] = [&self.max_uri, &self.max_headers, &self.max_header_bytes]
            .map(|most| most.load(Relaxed));
        if uri & headers & bytes == u64::MAX {
            return None;
        }
        exceeds(head, uri, headers, bytes)
    }
}

#[inline(never)]
fn exceeds(
    head: &RequestHead<'_>,
    max_uri: u64,
    max_headers: u64,
    max_bytes: u64,
) -> Option<Reason> {
    if max_uri != u64::MAX {
        let target = head.uri.path_and_query();
        if target.map_or(0, |target| target.as_str().len()) as u64 > max_uri {
            return Some(Reason::UriTooLong);
        }
    }
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
