//! A policy with another setting for some requests.

use std::fmt;

/// A [`Timeout`](crate::Timeout) or a `RequestLimit` with another value for some requests. The
/// `per_request` of their layers makes it.
#[derive(Clone)]
pub struct PerRequest<P, F> {
    pub(crate) policy: P,
    pub(crate) rule: F,
}

// === impl PerRequest ===

impl<P, F> PerRequest<P, F> {
    /// Makes a policy that calls `rule` for the value of each request; `None` is the value of the
    /// policy. The closure gets a `&RequestHead<'_>` over HTTP, and a `&Req` over
    /// [`Plain`](crate::Plain).
    pub const fn new(policy: P, rule: F) -> Self {
        Self { policy, rule }
    }
}

impl<P: fmt::Debug, F> fmt::Debug for PerRequest<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerRequest")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
