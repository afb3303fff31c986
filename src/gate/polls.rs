//! Measures the polls of the inner future, if a policy needs that.

use std::time::Duration;

use super::guard::FutureGuard;
use crate::clock;
use crate::lag_monitor::{MeasuredPoll, Unpolled, stamp};
use crate::policy::needs::InFuture;
use crate::policy::{Choice, Needs, NeedsOf, Policy};
use crate::request::RequestKind;

/// From the call to the first poll of the inner future, or to its end without one: the request
/// waits. Nothing if no policy needs that.
pub(super) type PollsOf<P, R> = <<NeedsOf<P, R> as Needs>::Polls as Choice>::Maybe<Unpolled>;

/// One poll of the inner future. It ends when this is dropped, so that the response is not moved
/// for it. The clock is read only while a lag shedder watches.
#[derive(Default)]
pub(super) struct Polling {
    begun: Option<MeasuredPoll>,
    is_first: bool,
    pends: bool,
}

/// One poll of the inner future, which is reported if it is slow. The clock is read only if a
/// policy of this request needs that.
pub(super) struct SlowPolling(Option<Duration>);

/// Returns whether requests that wait for their first poll count now: while a lag shedder watches.
#[inline(always)]
pub(super) fn counts<P: Policy<R>, R: RequestKind>() -> bool {
    let measures = const { NeedsOf::<P, R>::POLLS };
    measures && stamp::is_watched()
}

/// Starts the wait of a request. It comes before the call, so that the future of the call is not
/// moved again.
#[inline(always)]
pub(super) fn begin<P: Policy<R>, R: RequestKind>() -> PollsOf<P, R> {
    if counts::<P, R>() {
        if let Some(unpolled) = Unpolled::begin() {
            return <NeedsOf<P, R> as Needs>::Polls::some(unpolled);
        }
    }
    PollsOf::<P, R>::default()
}

// === impl Polling ===

impl Polling {
    #[inline(always)]
    pub(super) fn begin<P: Policy<R>, R: RequestKind>(unpolled: &mut PollsOf<P, R>) -> Self {
        let mut this = Self::default();
        if const { NeedsOf::<P, R>::POLLS } {
            this.is_first = <NeedsOf<P, R> as Needs>::Polls::get(unpolled).is_some();
            if this.is_first {
                *unpolled = PollsOf::<P, R>::default();
            }
            this.begun = MeasuredPoll::begin();
        }
        this
    }

    /// The inner future is pending.
    #[inline(always)]
    pub(super) fn pend(&mut self) {
        self.pends = self.is_first;
    }
}

impl Drop for Polling {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            begun.end(self.pends);
        }
    }
}

// === impl SlowPolling ===

impl SlowPolling {
    #[inline(always)]
    pub(super) fn begin<P: Policy<R>, R: RequestKind>(guard: &mut FutureGuard<P, R>) -> Self {
        if const { !NeedsOf::<P, R>::SLOW_POLLS } {
            return Self(None);
        }
        let guard = InFuture::<NeedsOf<P, R>>::get(guard);
        let asks = guard.is_some_and(|guard| guard.parts().slow_polls.is_some());
        Self(asks.then(clock::monotonic))
    }

    /// It comes before the guard moves into the response body.
    #[inline(always)]
    pub(super) fn end<P: Policy<R>, R: RequestKind>(self, guard: &mut FutureGuard<P, R>) {
        if const { !NeedsOf::<P, R>::SLOW_POLLS } {
            return;
        }
        let (Some(begun), Some(guard)) = (self.0, InFuture::<NeedsOf<P, R>>::get(guard)) else {
            return;
        };
        if let Some(slow_polls) = guard.parts().slow_polls {
            slow_polls.on_poll(clock::monotonic().saturating_sub(begun));
        }
    }
}
