//! Deadlines of requests, for handlers and inner layers.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// The time at which the answer to a request is due. A timeout layer with
/// [`expose_deadline`](crate::TimeoutLayer::expose_deadline) puts it into the extensions of the
/// request. A request has none while the timeout is off or has no limit.
///
/// A handler that calls another service passes on the time that is left:
///
/// ```
/// use axum::Extension;
/// use seawall::Deadline;
///
/// async fn handler(deadline: Option<Extension<Deadline>>) -> String {
///     let mut outbound = http::Request::get("http://upstream/");
///     if let Some(Extension(deadline)) = deadline {
///         outbound = outbound
///             .header("grpc-timeout", deadline.to_grpc_timeout())
///             .header("x-timeout-ms", deadline.remaining().as_millis() as u64);
///     }
/// #   let _ = outbound.body(()).unwrap();
///     format!("{:?} left", deadline.map(|Extension(deadline)| deadline.remaining()))
/// }
/// # let _: axum::routing::MethodRouter<()> = axum::routing::get(handler);
/// ```
#[derive(Clone, Copy)]
pub struct Deadline {
    at: Instant,
    /// The caller set it. Deadlines at the same time are equal, also if it differs.
    is_callers: bool,
}

// === impl Deadline ===

impl Deadline {
    /// Makes a deadline this long from now, at most 30 years.
    pub fn after(duration: Duration) -> Self {
        Self {
            at: clock::now() + duration.min(clock::FAR),
            is_callers: false,
        }
    }

    #[cfg(any(feature = "http", test))]
    pub(crate) fn new(at: Instant, is_callers: bool) -> Self {
        Self { at, is_callers }
    }

    pub(crate) fn is_callers(self) -> bool {
        self.is_callers
    }

    pub(crate) fn at(self) -> Instant {
        self.at
    }

    /// The time that is left; zero after the deadline.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(clock::now())
    }
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Deadline {}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

impl Hash for Deadline {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.at.hash(state);
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline")
            .field("remaining", &self.remaining())
            .finish()
    }
}
