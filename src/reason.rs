//! Reasons of rejections, each with a label for answers, metrics and events.

use crate::label::labels;

/// The reason of a rejection.
///
/// Each reason has one answer over HTTP and one over gRPC; the table is in the
/// [crate docs](crate#answers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The runtime, or the resource that a policy watches, has more work than it can do.
    Overloaded,
    /// A concurrency limit is reached.
    ConcurrencyLimit,
    /// The request was queued for a permit until its queue timeout passed.
    QueueTimeout,
    /// The client sends more requests than it may.
    RateLimited,
    /// A circuit breaker is open.
    CircuitOpen,
    /// The service is shutting down.
    Draining,
    /// A deadline passed, or the response body was idle or not read for too long.
    Timeout,
    /// The request body arrives too slowly.
    BodyTooSlow,
    /// The request body is larger than allowed.
    BodyTooLarge,
    /// The request has larger headers, or more of them, than allowed.
    HeadersTooLarge,
    /// The request's URI is longer than allowed.
    UriTooLong,
    /// The handler panicked.
    Panicked,
    /// A reason of your own policy.
    Custom(&'static CustomReason),
}

/// A reason for your own policies: a label, and the answer to the client.
///
/// ```
/// use seawall::{CustomReason, Reason, Rejection};
///
/// static UNPAID: CustomReason = CustomReason::new("unpaid", "The account has an open invoice.")
///     .status(402)
///     .grpc_code(9);
/// let rejection = Rejection::new(Reason::Custom(&UNPAID));
/// assert_eq!(rejection.reason().as_str(), "unpaid");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CustomReason {
    label: &'static str,
    message: &'static str,
    status: u16,
    grpc_code: u8,
    is_dependency_failure: bool,
}

// === impl Reason ===

impl Reason {
    /// All reasons except [`Reason::Custom`]; each is at its [`Reason::index`].
    #[cfg(any(test, feature = "metrics", feature = "tracing"))]
    pub(crate) const ALL: [Reason; 12] = [
        Reason::Overloaded,
        Reason::ConcurrencyLimit,
        Reason::QueueTimeout,
        Reason::RateLimited,
        Reason::CircuitOpen,
        Reason::Draining,
        Reason::Timeout,
        Reason::BodyTooSlow,
        Reason::BodyTooLarge,
        Reason::HeadersTooLarge,
        Reason::UriTooLong,
        Reason::Panicked,
    ];

    /// The position of the reason in [`Reason::ALL`]; `None` for [`Reason::Custom`].
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    pub(crate) fn index(self) -> Option<usize> {
        Reason::ALL.iter().position(|reason| *reason == self)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Reason {
    /// The label.
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

labels!(Reason {
    Reason::Overloaded => "overloaded", "the service is overloaded",
    Reason::ConcurrencyLimit => "concurrency_limit", "the concurrency limit is reached",
    Reason::QueueTimeout => "queue_timeout", "no permit was released in time",
    Reason::RateLimited => "rate_limited", "the rate limit is reached",
    Reason::CircuitOpen => "circuit_open", "the circuit breaker is open",
    Reason::Draining => "draining", "the service is shutting down",
    Reason::Timeout => "timeout", "the deadline passed",
    Reason::BodyTooSlow => "body_too_slow", "the request body came too slowly",
    Reason::BodyTooLarge => "body_too_large", "the request body is too large",
    Reason::HeadersTooLarge => "headers_too_large", "the request headers are too large",
    Reason::UriTooLong => "uri_too_long", "the request URI is too long",
    Reason::Panicked => "panicked", "the handler panicked",
    Reason::Custom(custom) => custom.label, custom.message,
});

// === impl CustomReason ===

impl CustomReason {
    /// Makes a reason from a label in `snake_case` and a message that the client reads.
    ///
    /// The label must consist of `a` to `z`, `0` to `9` and `_`. The message must be printable
    /// ASCII without `"`, `\` and `%`, so that it needs no escaping. By default the answer
    /// is 503 over HTTP and `UNAVAILABLE` (14) over gRPC, and the rejection is not a failure of the
    /// dependency.
    ///
    /// # Panics
    ///
    /// Panics if the label is empty, or if the label or the message has a character that is not
    /// allowed. In a `static`, this is an error at compile time.
    pub const fn new(label: &'static str, message: &'static str) -> Self {
        let bytes = label.as_bytes();
        assert!(!bytes.is_empty(), "the label must not be empty");
        let mut at = 0;
        while at < bytes.len() {
            assert!(
                matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'_'),
                "the label must be in `snake_case`"
            );
            at += 1;
        }
        let bytes = message.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            assert!(
                matches!(bytes[at], b' '..=b'~') && !matches!(bytes[at], b'"' | b'\\' | b'%'),
                "the message must be printable ASCII without quotes, backslashes and `%`"
            );
            at += 1;
        }
        Self {
            label,
            message,
            status: 503,
            grpc_code: 14,
            is_dependency_failure: false,
        }
    }

    /// Sets the HTTP status of the answer, 200 to 999. Default: 503.
    ///
    /// # Panics
    ///
    /// Panics if the status is outside its range.
    #[must_use]
    pub const fn status(mut self, status: u16) -> Self {
        assert!(
            status >= 200 && status <= 999,
            "the status must be within 200..=999"
        );
        self.status = status;
        self
    }

    /// Sets the gRPC status code of the answer, 1 to 16. Default: 14, `UNAVAILABLE`.
    ///
    /// # Panics
    ///
    /// Panics if the code is outside its range.
    #[must_use]
    pub const fn grpc_code(mut self, code: u8) -> Self {
        assert!(
            code >= 1 && code <= 16,
            "the gRPC code must be within 1..=16"
        );
        self.grpc_code = code;
        self
    }

    /// Sets whether such a rejection is a failure of the service behind the layer, which a circuit
    /// breaker further out counts. Default: `false`.
    #[must_use]
    pub const fn dependency_failure(mut self, is_failure: bool) -> Self {
        self.is_dependency_failure = is_failure;
        self
    }

    pub(crate) const fn is_dependency_failure(&self) -> bool {
        self.is_dependency_failure
    }

    #[cfg(feature = "http")]
    pub(crate) const fn label(&self) -> &'static str {
        self.label
    }

    #[cfg(feature = "http")]
    pub(crate) const fn answer(&self) -> (u16, u8, &'static str) {
        (self.status, self.grpc_code, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct() {
        let labels: std::collections::HashSet<_> =
            Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
    }
}
