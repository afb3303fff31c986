//! The time of a response body while the connection polls it.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{self, Lent};
use crate::gate::timer::Timer;
use crate::observe::Reporter;
use crate::policy::Ending;
use crate::reason::Reason;
use crate::rejection::Rejection;

/// The times at which a body is late or idle. A body in a cell is also ended from outside, whether
/// or not the connection polls it.
#[expect(clippy::struct_excessive_bools, reason = "they are independent")]
pub(crate) struct BodyClock {
    reporter: Reporter,
    deadline: Deadline,
    idle: Option<Duration>,
    is_grpc: bool,
    /// The deadline is that of the caller.
    pub(super) is_callers: bool,
    /// The body may be ended from outside.
    pub(crate) is_remote: bool,
    /// The timer is set for the current silence.
    is_waiting: bool,
    lent: Lent,
    /// The number of frames that were ready after the deadline.
    late: u32,
}

#[derive(Clone, Copy, Debug)]
enum Deadline {
    /// This many nanoseconds after the first pending poll.
    After(u64),
    At(Instant),
    Never,
}

// === impl BodyClock ===

impl BodyClock {
    /// The number of frames that may have been ready at the end of a stall of the runtime.
    const READY: u32 = 64;

    pub(crate) fn new(ending: Ending<'_>, timer: Option<&Timer>, is_grpc: bool) -> Self {
        let deadline = match timer {
            Some(timer) if ending.bounds.has_deadline() => match (timer.due(), timer.nanos()) {
                (Some(due), _) => Deadline::At(due),
                (None, Timer::NEVER) => Deadline::Never,
                (None, nanos) => Deadline::After(nanos),
            },
            _ => Deadline::Never,
        };
        Self {
            reporter: ending.reporter.clone(),
            deadline,
            idle: ending.bounds.idle(is_grpc),
            is_grpc,
            is_callers: timer.is_some_and(Timer::is_callers),
            is_remote: false,
            is_waiting: false,
            lent: Lent::default(),
            late: 0,
        }
    }

    pub(crate) fn has_deadline(&self) -> bool {
        !matches!(self.deadline, Deadline::Never)
    }

    /// The deadline, which is fixed from now on; `None` for no deadline.
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

    /// Polls the wait for the next frame: ready when the body is late or idle. It sets the timer
    /// once for each silence.
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_waiting {
            let idle = self.idle.map(|idle| clock::now() + idle.min(clock::FAR));
            let Some(due) = [self.deadline(), idle].into_iter().flatten().min() else {
                return Poll::Pending;
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

    /// Returns whether a body that is still busy is long past its deadline. Frames that were ready
    /// at the end of a stall are still delivered.
    pub(super) fn is_long_over(&mut self) -> bool {
        let deadline = self.deadline();
        if deadline.is_some_and(|deadline| clock::now() > deadline) {
            self.late += 1;
        }
        self.late > Self::READY
    }

    /// The rejection of a body that is late or idle. It is not counted yet.
    pub(super) fn rejection(&mut self) -> Rejection {
        let is_callers = self.is_callers && self.deadline().is_some_and(|at| clock::now() >= at);
        let rejection = self.reporter.reject(Reason::Timeout);
        rejection.with_callers_time(is_callers)
    }

    /// A gRPC body ends with trailers.
    pub(super) fn is_grpc(&self) -> bool {
        self.is_grpc
    }
}
