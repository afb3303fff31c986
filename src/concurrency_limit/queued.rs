//! A request in the queue.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::shared::Shared;
use crate::clock::{self, Lent};
use crate::control::concurrency_limit::queue::Position;
use crate::deadline::Deadline;
use crate::observe::{Write, table};
use crate::reason::Reason;
use crate::rejection::Rejection;

/// The future of a request in the queue of a [`ConcurrencyLimit`](super::ConcurrencyLimit).
#[must_use = "futures do nothing unless polled"]
pub struct Queued {
    pub(super) shared: Arc<Shared>,
    pub(super) position: Option<Position>,
    pub(super) since: Instant,
    pub(super) timeout: Duration,
    pub(super) deadline: Option<Deadline>,
    pub(super) lent: Lent,
    /// It has been polled. In a dry run it is not.
    pub(super) is_counted: bool,
}

// === impl Queued ===

impl Queued {
    /// Returns whether the deadline has passed before the wait.
    pub(super) fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| wait_end(deadline) <= self.since)
    }

    /// Removes the request from the queue. Returns whether it had been granted a permit.
    fn leave_queue(&self, position: Position) -> bool {
        // The waker is dropped here, outside the lock: it may own a permit.
        let granted = self.shared.limiter.forget(position).is_none();
        if self.is_counted {
            let waited = clock::now().saturating_duration_since(self.since);
            let reporter = &self.shared.reporter;
            reporter.write(table::QUEUED, Write::Subtract(1.0));
            reporter.write(table::QUEUE_TIME, Write::Record(waited.as_secs_f64()));
        }
        granted
    }
}

impl Future for Queued {
    type Output = Result<(), Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !mem::replace(&mut this.is_counted, true) {
            let reporter = &this.shared.reporter;
            reporter.write(table::QUEUED, Write::Add(1.0));
        }
        let position = this.position.as_ref().expect("polled after completion");
        let mut waker = Some(cx.waker().clone());
        let limiter = &this.shared.limiter;
        let granted = limiter.is_served(position, |replaced| mem::swap(replaced, &mut waker));
        drop(waker);
        if !granted {
            let (since, timeout, deadline) = (this.since, this.timeout, this.deadline);
            ready!(this.lent.poll(
                || {
                    let due = since + timeout.min(clock::FAR);
                    deadline.map_or(due, |deadline| due.min(wait_end(deadline)))
                },
                cx
            ));
        }
        let position = this
            .position
            .take()
            .expect("it is there until it is granted");
        // The lock decides: a permit that is granted at the last moment is kept.
        Poll::Ready(if this.leave_queue(position) {
            this.shared.entered();
            Ok(())
        } else {
            Err(this.shared.rejection(Reason::QueueTimeout))
        })
    }
}

/// The end of a wait. A timeout around the queue may end a millisecond before the caller's
/// deadline, and the wait then ends that much earlier too. The timeout polls the queue first, so
/// that the answer has the reason of the queue.
fn wait_end(deadline: Deadline) -> Instant {
    let sooner = Duration::from_millis(deadline.is_callers().into());
    deadline.at().checked_sub(sooner).unwrap_or(deadline.at())
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(position) = self.position.take() {
            if self.leave_queue(position) {
                self.shared.leave();
            }
        }
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queued")
            .field("timeout", &self.timeout)
            .field("limit", &self.shared)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Admission;
    use crate::{ConcurrencyLimit, ConcurrencyLimitSettings};

    /// It does not wait for the grace time of its timer.
    #[tokio::test]
    async fn a_request_whose_deadline_has_passed_is_not_queued() {
        let settings = ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(60));
        let limit = ConcurrencyLimit::new(settings).unwrap();
        let _permit = limit.try_acquire().unwrap();
        let passed = clock::now().checked_sub(Duration::from_secs(1)).unwrap();
        for is_callers in [false, true] {
            let deadline = Deadline::new(passed, is_callers);
            let Admission::Reject(rejection) = limit.admit_over_limit(Some(deadline)) else {
                panic!("it waits");
            };
            assert_eq!(rejection.reason(), Reason::QueueTimeout);
            assert_eq!(limit.snapshot().queued, 0);
        }
    }
}
