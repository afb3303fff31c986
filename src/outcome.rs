//! What a request says about the service, and how its work ends.

/// What a request's result says about the service behind the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The service did what it should.
    Success,
    /// The service failed.
    Failure,
    /// The result says nothing about the service: 429, a rejection of an inner layer, or the fault
    /// of the caller.
    Ignored,
    /// The caller dropped the request before there was a result.
    Cancelled,
    /// The service panicked.
    Panicked,
}

/// How the work for a request ended, its response body included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Completion {
    /// The response was delivered to its end, or the future returned.
    Complete,
    /// The response body ended with an error.
    Failed,
    /// The call, or the response body, was dropped before its end.
    Cancelled,
    /// The call, or the response body, unwound.
    Panicked,
}
