//! The outcome of a request, and the end of its work.

use crate::label::labels;

/// What the result of a request means for the service behind the gate. A policy gets it in
/// [`settle`](crate::policy::Policy::settle), and a classifier returns it
/// ([`GateLayer::classify`](crate::GateLayer::classify)). A circuit breaker counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Outcome {
    /// The service worked.
    Success,
    /// The service failed.
    Failure,
    /// The result does not count: a 429, a 501 or 505, a rejection of an inner layer, or a failure
    /// that the caller caused.
    Ignored,
    /// The caller dropped the request before there was a result.
    Cancelled,
    /// The service panicked.
    Panicked,
}

/// How the work for a request ended, its response body included. A policy gets it in
/// [`release`](crate::policy::Policy::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Completion {
    /// The response was delivered to its end, the inner service returned an error, or the gate
    /// answered before the response head: a timeout or a rejection.
    Complete,
    /// The response body ended with an error, or a layer ended it. Over gRPC, that layer ends the
    /// body with trailers, so that a layer around it reports `Complete`.
    Failed,
    /// The call or the response body was dropped before its end.
    Cancelled,
    /// The call or the response body panicked.
    Panicked,
}

// === impl Outcome ===

#[cfg(feature = "metrics")]
impl Outcome {
    /// All outcomes, in their order.
    pub(crate) const ALL: [Outcome; 5] = [
        Outcome::Success,
        Outcome::Failure,
        Outcome::Ignored,
        Outcome::Cancelled,
        Outcome::Panicked,
    ];
}

labels!(Outcome {
    Outcome::Success => "success",
    Outcome::Failure => "failure",
    Outcome::Ignored => "ignored",
    Outcome::Cancelled => "cancelled",
    Outcome::Panicked => "panicked",
});

// === impl Completion ===

labels!(Completion {
    Completion::Complete => "complete",
    Completion::Failed => "failed",
    Completion::Cancelled => "cancelled",
    Completion::Panicked => "panicked",
});
