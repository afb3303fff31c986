//! The time of a response body while the connection polls it.

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{self, Lent};
use crate::gate::timer::Timer;
use crate::observe::Reporter;
use crate::policy::Ending;
use crate::reason::Reason;
use crate::rejection::Rejection;

/// When a body is late, or idle. A body in a cell is ended from outside as well, whether or not the
/// connection polls it.
pub(crate) struct BodyClock {
    reporter: Reporter,
    deadline: Deadline,
    idle: Option<Duration>,
    is_grpc: bool,
    /// The timer is set for the silence that there is now.
    is_waiting: bool,
    lent: Lent,
    /// Frames that were ready after the deadline.
    late: u32,
}

#[derive(Clone, Copy, Debug)]
enum Deadline {
    /// So many nanoseconds after the first wait.
    After(u64),
    At(Instant),
    Never,
}

// === impl BodyClock ===

impl BodyClock {
    /// As many frames as may have been ready when a stall of the runtime was over.
    const READY: u32 = 64;

    pub(crate) fn new(ending: Ending<'_>, timer: Option<&Timer>, is_grpc: bool) -> Self {
        let deadline = match timer {
            Some(timer) if ending.has_deadline => match (timer.due(), timer.nanos()) {
                (Some(due), _) => Deadline::At(due),
                (None, Timer::NEVER) => Deadline::Never,
                (None, nanos) => Deadline::After(nanos),
            },
            _ => Deadline::Never,
        };
        Self {
            reporter: ending.reporter.clone(),
            deadline,
            idle: ending.idle,
            is_grpc,
            is_waiting: false,
            lent: Lent::default(),
            late: 0,
        }
    }

    pub(crate) fn has_deadline(&self) -> bool {
        !matches!(self.deadline, Deadline::Never)
    }

    /// The deadline, from now on the same; `None` for never.
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        match self.deadline {
            Deadline::At(at) => Some(at),
            Deadline::Never => None,
            Deadline::After(nanos) => {
                let at = clock::due(nanos);
                self.deadline = Deadline::At(at);
                Some(at)
            }
        }
    }

    /// The body has no frame yet: ready when that has taken too long. The timer is set once for
    /// each silence.
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_waiting {
            let idle = self.idle.map(|idle| clock::now() + idle.min(clock::FAR));
            let due = match (self.deadline(), idle) {
                (Some(deadline), Some(idle)) => deadline.min(idle),
                (deadline, idle) => match deadline.or(idle) {
                    Some(due) => due,
                    None => return Poll::Pending,
                },
            };
            self.is_waiting = true;
            self.lent.set(due);
        }
        self.lent.poll(clock::now, cx)
    }

    /// A frame was ready.
    #[inline]
    pub(super) fn ready(&mut self) {
        self.is_waiting = false;
    }

    /// Whether a body that goes on is long past its deadline, however busy it is. What was ready
    /// when a stall was over is not thrown away.
    pub(super) fn is_long_over(&mut self) -> bool {
        let deadline = self.deadline();
        if deadline.is_some_and(|deadline| clock::now() > deadline) {
            self.late += 1;
        }
        self.late > Self::READY
    }

    /// The rejection of a body that is late, not yet counted.
    pub(super) fn rejection(&self) -> Rejection {
        self.reporter.reject(Reason::Timeout)
    }

    /// Over gRPC a body ends with trailers.
    pub(super) fn is_grpc(&self) -> bool {
        self.is_grpc
    }
}

impl fmt::Debug for BodyClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyClock")
            .field("deadline", &self.deadline)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}
