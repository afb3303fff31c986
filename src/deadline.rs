//! Deadlines of requests, for handlers and inner layers.

use std::fmt;
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline {
    at: Instant,
    /// The caller set it.
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

    #[cfg(feature = "http")]
    pub(crate) fn new(at: Instant, is_callers: bool) -> Self {
        Self { at, is_callers }
    }

    #[cfg(feature = "http")]
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

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline")
            .field("remaining", &self.remaining())
            .finish()
    }
}
