//! The report of a slow poll.

use std::time::Duration;

/// A poll that took too long.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SlowPollReport {
    /// How long the poll took.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub took: Duration,
    /// The method of the request; `None` over [`Plain`](crate::Plain), as the two after it.
    pub method: Option<String>,
    /// The path of the request. The client chooses it.
    pub path: Option<String>,
    /// The route of the request; see [`SlowPoll::with_route`](super::SlowPoll::with_route).
    pub route: Option<String>,
}
