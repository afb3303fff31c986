//! Measures the polls of the inner future, where a policy asks for it.

use crate::lag_monitor::MeasuredPoll;
use crate::policy::{Choice, Needs, NeedsOf, Policy};
use crate::request::RequestKind;

/// Whether the inner future was polled and is pending; nothing where no policy asks.
pub(super) type PollsOf<P, R> = <<NeedsOf<P, R> as Needs>::Polls as Choice>::Maybe<()>;

/// One poll of the inner future; it ends when this is dropped, so that the response is not moved
/// for it. The clock is read only while a lag shedder watches.
pub(super) struct Polling<'a, P: Policy<R>, R: RequestKind> {
    pended: &'a mut PollsOf<P, R>,
    begun: Option<MeasuredPoll>,
    pends: bool,
}

// === impl Polling ===

impl<'a, P: Policy<R>, R: RequestKind> Polling<'a, P, R> {
    const IS: bool = <NeedsOf<P, R> as Needs>::Polls::IS;

    #[inline(always)]
    pub(super) fn begin(pended: &'a mut PollsOf<P, R>) -> Self {
        let begun = if const { Self::IS } {
            MeasuredPoll::begin()
        } else {
            None
        };
        let pends = false;
        Self {
            pended,
            begun,
            pends,
        }
    }

    /// The inner future is pending.
    #[inline(always)]
    pub(super) fn pend(&mut self) {
        if const { Self::IS } {
            self.pends = <NeedsOf<P, R> as Needs>::Polls::get(self.pended).is_none();
            *self.pended = <NeedsOf<P, R> as Needs>::Polls::some(());
        }
    }
}

impl<P: Policy<R>, R: RequestKind> Drop for Polling<'_, P, R> {
    #[inline(always)]
    fn drop(&mut self) {
        if const { Self::IS } {
            if let Some(begun) = self.begun.take() {
                begun.end(self.pends);
            }
        }
    }
}
