//! The parts of the gate that the policies of this crate use for one request.

#[cfg(feature = "http")]
use std::sync::Arc;
#[cfg(feature = "http")]
use std::time::Duration;

use super::panics::Panics;
use super::time::Time;
#[cfg(feature = "http")]
use crate::cutoff::Cutoff;
use crate::observe::Reporter;
use crate::panic_report::{Hook, RequestSummary};
#[cfg(feature = "http")]
use crate::request_limit::bounds::Bounds;
use crate::slow_poll::shared::SlowPolls;

/// The parts that a policy uses for one request: isolation, a deadline, bounds for the request and
/// for the response body. By default none.
#[derive(Clone, Copy, Default)]
pub struct Parts<'a> {
    pub(crate) isolation: Option<Isolation<'a>>,
    pub(crate) deadline: Option<Budget<'a>>,
    #[cfg(feature = "http")]
    pub(crate) ending: Option<Ending<'a>>,
    /// Closes the connection and ends the response body from outside.
    #[cfg(feature = "http")]
    pub(crate) cutoff: Option<&'a Cutoff>,
    #[cfg(feature = "http")]
    pub(crate) limit: Option<(&'a Arc<Bounds>, u64)>,
    pub(crate) slow_polls: Option<SlowPolls<'a>>,
}

/// Answers panics.
#[derive(Clone, Copy)]
pub(crate) struct Isolation<'a> {
    pub(crate) panics: &'a Panics,
    pub(crate) hook: Option<&'a Hook>,
    pub(crate) request: Option<&'a RequestSummary>,
}

/// The time to the response head.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Budget<'a> {
    pub(crate) reporter: &'a Reporter,
    pub(crate) time: Time,
    /// The bound, in nanoseconds, up to which an inner gate may raise the time; a smaller value if
    /// it may not.
    #[cfg(feature = "http")]
    pub(crate) most: u64,
    /// The request gets a [`Deadline`](crate::Deadline) in its extensions.
    #[cfg(feature = "http")]
    pub(crate) is_exposed: bool,
}

/// The policy that ends a response body, and its bounds.
#[cfg(feature = "http")]
#[derive(Clone, Copy)]
pub(crate) struct Ending<'a> {
    pub(crate) reporter: &'a Reporter,
    pub(crate) bounds: &'a BodyBounds,
}

/// The bounds for the time of a response body.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BodyBounds {
    /// The deadline of the head applies to the body too.
    pub(crate) has_deadline: bool,
    /// The longest time without a frame of the inner body.
    pub(crate) idle: Option<Duration>,
    /// `idle` does not apply to gRPC.
    pub(crate) exempts_grpc: bool,
    /// The longest time without a frame that the connection takes.
    pub(crate) progress: Option<Duration>,
}

// === impl BodyBounds ===

#[cfg(feature = "http")]
impl BodyBounds {
    /// Zero is no limit.
    pub(crate) fn set_idle(&mut self, idle: Option<Duration>) {
        self.idle = idle.filter(|idle| !idle.is_zero());
        self.exempts_grpc = false;
    }

    /// The longest silence of a body, which is gRPC or not.
    pub(crate) fn idle_of(&self, is_grpc: bool) -> Option<Duration> {
        self.idle.filter(|_| !(self.exempts_grpc && is_grpc))
    }

    /// Zero is no limit.
    pub(crate) fn set_progress(&mut self, progress: Option<Duration>) {
        self.progress = progress.filter(|progress| !progress.is_zero());
    }
}

// === impl Parts ===

impl Parts<'_> {
    /// The deadline is that of the caller.
    pub(crate) fn has_callers_deadline(&self) -> bool {
        self.deadline.is_some_and(|budget| budget.time.is_callers())
    }

    /// The parts of both.
    #[inline(always)]
    pub(crate) fn or(self, other: Self) -> Self {
        let deadline = match (self.deadline, other.deadline) {
            (Some(this), Some(that)) => Some(this.shorter(that)),
            (this, that) => this.or(that),
        };
        Self {
            isolation: self.isolation.or(other.isolation),
            deadline,
            #[cfg(feature = "http")]
            ending: self.ending.or(other.ending),
            #[cfg(feature = "http")]
            cutoff: self.cutoff.or(other.cutoff),
            #[cfg(feature = "http")]
            limit: self.limit.or(other.limit),
            slow_polls: self.slow_polls.or(other.slow_polls),
        }
    }
}

// === impl Budget ===

impl<'a> Budget<'a> {
    /// The shorter of two deadlines. The request gets it if one of them is exposed. An inner gate
    /// may raise it as far as both allow.
    fn shorter(self, that: Budget<'a>) -> Budget<'a> {
        let is_that = that.time.nanos() < self.time.nanos();
        let shorter = if is_that { that } else { self };
        #[cfg(feature = "http")]
        let limit = |budget: Self| budget.most.max(budget.time.nanos());
        Budget {
            #[cfg(feature = "http")]
            most: limit(self).min(limit(that)),
            #[cfg(feature = "http")]
            is_exposed: self.is_exposed || that.is_exposed,
            time: Time(shorter.time.0 | (self.time.0 | that.time.0) & Time::UNUSUAL),
            ..shorter
        }
    }
}

impl std::fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}
