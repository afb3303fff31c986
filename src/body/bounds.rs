//! The bounds for the time of a response body.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::cutoff::Cutoff;
use crate::gate::timer::Timer;
use crate::observe::Reporter;
use crate::policy::{BodyBounds, Ending, Parts};
use crate::reason::Reason;
use crate::rejection::Rejection;

/// The properties of a response head that decide how its body is ended from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtHead {
    deadline: Deadline,
    /// Whether the deadline is that of the caller.
    is_callers: bool,
    /// Whether the response is gRPC: it then ends with trailers.
    is_grpc: bool,
}

#[derive(Clone, Copy, Debug)]
enum Deadline {
    /// This many nanoseconds after the body gets its cell.
    After(u64),
    At(Instant),
    Never,
}

/// The bounds at which a body is ended from outside.
#[derive(Debug)]
pub(crate) struct Bounds {
    pub(crate) reporter: Reporter,
    pub(crate) deadline: Option<Instant>,
    /// The idle timeout and the progress timeout, which may change.
    pub(crate) current: Option<Arc<BodyBounds>>,
    /// Ends the body independently of the connection.
    pub(crate) cutoff: Option<Cutoff>,
    pub(crate) is_callers: bool,
    pub(crate) is_grpc: bool,
}

// === impl AtHead ===

impl AtHead {
    #[inline(always)]
    pub(crate) fn new(ending: Option<Ending<'_>>, timer: Option<&Timer>, is_grpc: bool) -> Self {
        let has_deadline = ending.is_some_and(|ending| ending.bounds.has_deadline());
        let timer = timer.filter(|_| has_deadline);
        let deadline = match timer.map(|timer| (timer.due(), timer.nanos())) {
            Some((Some(due), _)) => Deadline::At(due),
            Some((None, nanos)) if nanos != Timer::NEVER => Deadline::After(nanos),
            _ => Deadline::Never,
        };
        Self {
            deadline,
            is_callers: timer.is_some_and(Timer::is_callers),
            is_grpc,
        }
    }
}

// === impl Bounds ===

impl Bounds {
    /// The bounds of a body whose policies use these parts; `None` if it has none now.
    pub(super) fn new(parts: &Parts<'_>, at_head: AtHead) -> Option<Self> {
        let ending = parts.ending();
        let current = ending.map(|ending| ending.bounds);
        let deadline = match at_head.deadline {
            Deadline::After(nanos) => Some(clock::due(nanos)),
            Deadline::At(at) => Some(at),
            Deadline::Never => None,
        };
        let is_grpc = at_head.is_grpc;
        let is_timed = |bounds: &Arc<BodyBounds>| {
            bounds.progress().is_some() || bounds.idle(is_grpc).is_some()
        };
        if deadline.is_none() && !current.is_some_and(is_timed) && parts.cutoff.is_none() {
            return None;
        }
        let reporter = match (ending, parts.cutoff) {
            (Some(ending), _) => ending.reporter,
            (None, cutoff) => cutoff?.reporter(),
        };
        Some(Self {
            reporter: reporter.clone(),
            deadline,
            current: current.cloned(),
            cutoff: parts.cutoff.cloned(),
            is_callers: at_head.is_callers,
            is_grpc,
        })
    }

    /// The idle timeout if the body is idle, else the progress timeout.
    pub(super) fn silence(&self, is_idle: bool) -> Option<Duration> {
        let current = self.current.as_ref()?;
        if is_idle {
            current.idle(self.is_grpc)
        } else {
            current.progress()
        }
    }

    /// Returns whether the deadline has passed.
    #[inline]
    pub(super) fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| clock::now() > deadline)
    }

    /// The rejection of a body whose time is over. It is not counted yet.
    pub(super) fn timeout(&self, is_callers: bool) -> Rejection {
        let rejection = self.reporter.reject(Reason::Timeout);
        rejection.with_callers_time(is_callers)
    }

    /// The cutoff, if it ends bodies now.
    pub(super) fn due_cutoff(&self) -> Option<&Cutoff> {
        self.cutoff.as_ref().filter(|cutoff| cutoff.is_over())
    }
}
