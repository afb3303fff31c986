//! The parts of the gate that the policies of this crate use for one request.

#[cfg(feature = "http")]
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};
#[cfg(feature = "http")]
use std::time::Duration;

use super::panics::Panics;
use super::time::Time;
use crate::observe::Reporter;
use crate::panic_report::{Hook, RequestSummary};
#[cfg(feature = "http")]
use crate::request_limit::bounds::Bounds;
use crate::slow_poll::shared::SlowPolls;
#[cfg(feature = "http")]
use crate::{clock, cutoff::Cutoff};

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
    pub(crate) bounds: &'a Arc<BodyBounds>,
    /// The reporter is that of the timeout of the same layer or stack.
    pub(crate) is_beside: bool,
}

/// The bounds for the time of a response body. Times are in nanoseconds; zero is no limit.
#[cfg(feature = "http")]
#[derive(Debug, Default)]
pub(crate) struct BodyBounds {
    has_deadline: AtomicBool,
    idle: AtomicU64,
    grpc_idle: AtomicU64,
    progress: AtomicU64,
}

// === impl BodyBounds ===

#[cfg(feature = "http")]
impl BodyBounds {
    pub(crate) fn set(
        &self,
        has_deadline: bool,
        idle: Option<Duration>,
        grpc_idle: Option<Duration>,
        progress: Option<Duration>,
    ) {
        self.has_deadline.store(has_deadline, Relaxed);
        let times = [
            (&self.idle, idle),
            (&self.grpc_idle, grpc_idle),
            (&self.progress, progress),
        ];
        for (bound, time) in times {
            bound.store(time.map_or(0, clock::nanos), Relaxed);
        }
    }

    /// Whether the deadline of the head applies to the body too.
    pub(crate) fn has_deadline(&self) -> bool {
        self.has_deadline.load(Relaxed)
    }

    /// The longest time without a frame of the inner body.
    pub(crate) fn idle(&self, is_grpc: bool) -> Option<Duration> {
        bound(if is_grpc { &self.grpc_idle } else { &self.idle })
    }

    /// The longest time in which the connection takes no frame although one is ready.
    pub(crate) fn progress(&self) -> Option<Duration> {
        bound(&self.progress)
    }
}

#[cfg(feature = "http")]
#[inline(always)]
fn bound(nanos: &AtomicU64) -> Option<Duration> {
    match nanos.load(Relaxed) {
        0 => None,
        nanos => Some(Duration::from_nanos(nanos)),
    }
}

// === impl Parts ===

impl Parts<'_> {
    /// The bounds of the response body. In a gate of the user, the timeout that applies to the
    /// request counts the bodies that are ended.
    #[cfg(feature = "http")]
    #[inline(always)]
    pub(crate) fn ending(&self) -> Option<Ending<'_>> {
        let mut ending = self.ending?;
        if let Some(budget) = self.deadline.filter(|_| !ending.is_beside) {
            ending.reporter = budget.reporter;
        }
        Some(ending)
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
