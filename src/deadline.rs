//! When the answer to a request is due, for whoever works on it.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// When the answer to a request is due; put into its extensions by `TimeoutLayer::expose_deadline`.
///
/// Whoever calls somebody else for the request passes on what is left:
///
/// ```
/// use axum::Extension;
/// use seawall::Deadline;
///
/// async fn handler(Extension(deadline): Extension<Deadline>) -> String {
///     let outbound = http::Request::get("http://upstream/")
///         .header("grpc-timeout", deadline.to_grpc_timeout())
///         .header("x-timeout-ms", deadline.remaining().as_millis() as u64);
/// #   let _ = outbound.body(()).unwrap();
///     format!("{:?} left", deadline.remaining())
/// }
/// # let _: axum::routing::MethodRouter<()> = axum::routing::get(handler);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline {
    at: Instant,
}

// === impl Deadline ===

impl Deadline {
    /// So long from now, 30 years at the most.
    pub fn after(duration: Duration) -> Self {
        Self {
            at: clock::now() + duration.min(clock::FAR),
        }
    }

    pub(crate) fn new(at: Instant) -> Self {
        Self { at }
    }

    pub(crate) fn at(self) -> Instant {
        self.at
    }

    /// How much time is left; zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(clock::now())
    }

    /// What is left as the value of a `grpc-timeout` header: at most eight digits and a unit, rounded down so that the callee
    /// gives up no later than the caller; `1n` when it has passed.
    #[cfg(feature = "http")]
    pub fn to_grpc_timeout(&self) -> http::HeaderValue {
        crate::protocol::to_grpc_timeout(self.remaining())
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline")
            .field("remaining", &self.remaining())
            .finish()
    }
}
