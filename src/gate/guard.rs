//! The state that all clones of a gate share, and the guard of one admitted request.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

#[cfg(feature = "http")]
pub(crate) use crate::http::answer::Responder;
#[cfg(feature = "http")]
use crate::http::{classify::Classifier, head::ResponseHeadMut};
use crate::observe::Reporter;
use crate::outcome::{Completion, Outcome};
use crate::panic_report::{PanicReport, RequestSummary, message};
#[cfg(feature = "http")]
use crate::policy::needs::InBody;
use crate::policy::needs::{InFuture, Owed};
use crate::policy::{Choice, Expiry, Isolation, Needs, NeedsOf, Parts, Policy, Time, Wait};
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::request::{RequestKind, Target};
use crate::unwind;
use crate::upload::{self, Report};

/// Without HTTP there is no responder: a rejection is an error.
#[cfg(not(feature = "http"))]
pub(crate) type Responder = ();

/// The state that all clones of a gate share, behind one reference count.
#[derive(Clone)]
pub(crate) struct Shared<P> {
    pub(crate) policy: P,
    /// Counts the admitted requests.
    pub(crate) reporter: Reporter,
    pub(crate) responder: Responder,
    #[cfg(feature = "http")]
    pub(crate) classifier: Option<Classifier>,
}

/// Owns the token of an admitted request. It settles the token once and then releases it once, for
/// every end of the request.
pub struct Guard<P: Policy<R>, R: RequestKind> {
    shared: Arc<Shared<P>>,
    token: P::Token,
    owed: <Owed<NeedsOf<P, R>> as Choice>::Maybe<Flags>,
    kind: PhantomData<fn(R)>,
}

/// The guard in a future.
pub(crate) type FutureGuard<P, R> = <InFuture<NeedsOf<P, R>> as Choice>::Maybe<Guard<P, R>>;
/// The guard in a response body.
#[cfg(feature = "http")]
pub(crate) type BodyGuard<P, R> = <InBody<NeedsOf<P, R>> as Choice>::Maybe<Guard<P, R>>;

/// The calls that the token still needs. It is a whole word, since a smaller value is moved byte by
/// byte. It is never 0, so that an `Option` of it has no tag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags(NonZeroU64);

// === impl Flags ===

impl Flags {
    const SETTLE: u64 = 1 << 0;
    const RELEASE: u64 = 1 << 1;
    /// Foreign code runs under the guard. A guard that is dropped now is dropped by a panic of that
    /// code. This is exact, while `thread::panicking()` is also true for a call that is dropped
    /// during another panic.
    const RUNNING: u64 = 1 << 2;
    const ALWAYS: u64 = 1 << 3;
    /// The response is complete. If the guard is dropped, it releases the token as complete.
    const DELIVERED: u64 = 1 << 4;
    /// The [`Report`] of earlier polls starts at this bit.
    const REPORT_SHIFT: u32 = u64::BITS - Report::BITS;

    #[inline(always)]
    const fn new(bits: u64) -> Self {
        match NonZeroU64::new(bits | Self::ALWAYS) {
            Some(bits) => Self(bits),
            None => unreachable!(),
        }
    }

    #[inline(always)]
    const fn bits(self) -> u64 {
        self.0.get()
    }
}

// === impl Guard ===

impl<P: Policy<R>, R: RequestKind> Guard<P, R> {
    const SETTLES: bool = NeedsOf::<P, R>::SETTLE;
    const RELEASES: bool = NeedsOf::<P, R>::RELEASE;
    pub(super) const OWES: bool = Self::SETTLES || Self::RELEASES;
    /// Whether the gate must know if the call unwinds. With isolation it knows without a mark.
    pub(super) const MARKS: bool =
        (Self::SETTLES || NeedsOf::<P, R>::COMPLETION) && !NeedsOf::<P, R>::ISOLATION;

    /// Makes a guard under which foreign code is about to run.
    #[inline(always)]
    pub(crate) fn running(shared: Arc<Shared<P>>, token: P::Token) -> Self {
        let mut bits = 0;
        if const { Self::SETTLES } {
            bits |= Flags::SETTLE;
        }
        if const { Self::RELEASES } {
            bits |= Flags::RELEASE;
        }
        if const { Self::MARKS } {
            bits |= Flags::RUNNING;
        }
        Self {
            shared,
            token,
            owed: <Owed<NeedsOf<P, R>> as Choice>::some(Flags::new(bits)),
            kind: PhantomData,
        }
    }

    /// Adds the token that a later policy has granted.
    pub(super) fn add(&mut self, waited: P::Token) {
        P::Wait::add(&mut self.token, waited);
    }

    #[inline(always)]
    fn owed(&mut self) -> &mut Flags {
        match <Owed<NeedsOf<P, R>> as Choice>::get(&mut self.owed) {
            Some(owed) => owed,
            None => unreachable!("a guard that owes nothing is not asked"),
        }
    }

    /// The token does not need this call any more.
    #[inline(always)]
    fn clear(&mut self, call: u64) {
        let owed = self.owed();
        *owed = Flags::new(owed.bits() & !call);
    }

    /// Marks whether foreign code runs.
    #[inline(always)]
    pub(crate) fn set_running(&mut self, is_running: bool) {
        if const { Self::MARKS } {
            let owed = self.owed();
            *owed = Flags::new(if is_running {
                owed.bits() | Flags::RUNNING
            } else {
                owed.bits() & !Flags::RUNNING
            });
        }
    }

    /// The report of inner gates and bodies in earlier polls.
    #[inline(always)]
    pub(crate) fn report(&mut self) -> Report {
        if const { Self::SETTLES } {
            Report::from_bits(self.owed().bits() >> Flags::REPORT_SHIFT)
        } else {
            Report::NOTHING
        }
    }

    /// Keeps the report of inner gates and bodies for later polls, unless the token is settled.
    #[inline(always)]
    pub(crate) fn keep_report(&mut self) {
        let settles = const { Self::SETTLES } && self.owes(Flags::SETTLE);
        if settles && upload::reported().is_present() {
            let report = upload::reported().kept();
            let owed = self.owed();
            let flags = owed.bits() & ((1 << Flags::REPORT_SHIFT) - 1);
            *owed = Flags::new(report.bits() << Flags::REPORT_SHIFT | flags);
        }
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &Arc<Shared<P>> {
        &self.shared
    }

    /// The parts of the gate that the policies use for this request.
    #[inline(always)]
    pub(crate) fn parts(&self) -> Parts<'_> {
        self.shared.policy.parts(Some(&self.token))
    }

    #[inline(always)]
    fn owes(&mut self, flag: u64) -> bool {
        self.owed().bits() & flag != 0
    }

    #[cfg(feature = "http")]
    #[inline(always)]
    pub(crate) fn is_settled(&mut self) -> bool {
        if const { Self::SETTLES } {
            !self.owes(Flags::SETTLE)
        } else {
            true
        }
    }

    /// The token needs no further call.
    #[inline(always)]
    pub(crate) fn is_done(&mut self) -> bool {
        if const { Self::OWES } {
            !self.owes(Flags::SETTLE | Flags::RELEASE)
        } else {
            true
        }
    }

    /// The response is complete: only the release is left.
    #[cfg(feature = "http")]
    pub(crate) fn set_delivered(&mut self) {
        if const { Self::RELEASES } {
            let owed = self.owed();
            *owed = Flags::new(owed.bits() | Flags::DELIVERED);
        }
    }

    #[cfg(feature = "http")]
    #[inline(always)]
    pub(crate) fn on_head<B>(&mut self, response: &mut http::Response<B>) {
        if const { NeedsOf::<P, R>::SETTLE } {
            let mut head = ResponseHeadMut::new(response);
            self.shared.policy.on_head(&mut self.token, &mut head);
        }
    }

    /// Settles the token, unless it is settled.
    #[inline(always)]
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if const { Self::SETTLES } && self.owes(Flags::SETTLE) {
            self.clear(Flags::SETTLE);
            self.shared.policy.settle(&mut self.token, outcome);
        }
    }

    /// The deadline has passed: settles the token, unless it is settled.
    pub(crate) fn expire(&mut self, outcome: Outcome) {
        if const { Self::SETTLES } && self.owes(Flags::SETTLE) {
            let time = self.parts().deadline.map(|budget| budget.time);
            let nanos = time.map_or(u64::MAX, Time::nanos);
            let mut expiry = Expiry { outcome, nanos };
            self.clear(Flags::SETTLE);
            self.shared.policy.expire(&mut self.token, &mut expiry);
        }
    }

    /// Releases the token, unless it is released.
    #[inline(always)]
    pub(crate) fn release(&mut self, completion: Completion) {
        if const { Self::RELEASES } && self.owes(Flags::RELEASE) {
            self.clear(Flags::RELEASE);
            self.shared.policy.release(&mut self.token, completion);
        }
    }

    /// Settles the token with `settle`, and releases it, also if `settle` panics.
    #[inline(always)]
    pub(crate) fn finish(&mut self, settle: impl FnOnce(&mut Self), completion: Completion) {
        unwind::both(
            self,
            |guard| guard.isolated(settle),
            |guard| guard.isolated(|guard| guard.release(completion)),
        );
    }

    /// Calls a policy. With isolation, a panic of the user's policy is reported, and interrupts
    /// nothing.
    #[inline(always)]
    pub(crate) fn isolated(&mut self, call: impl FnOnce(&mut Self)) {
        if const { NeedsOf::<P, R>::ISOLATION && !P::IS_OURS } {
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| call(self))) {
                self.caught(payload);
            }
            return;
        }
        call(self);
    }

    /// Reports a panic of a policy or a closure. Without isolation for this request, it unwinds
    /// further.
    #[cold]
    #[inline(never)]
    pub(crate) fn caught(&self, payload: Box<dyn Any + Send>) -> Outcome {
        self.parts().caught(payload);
        Outcome::Panicked
    }

    /// The guard is dropped with its token not yet settled.
    #[cold]
    #[inline(never)]
    fn settle_dropped(&mut self) {
        let outcome = if self.owes(Flags::RUNNING) {
            Outcome::Panicked
        } else {
            Outcome::Cancelled
        };
        let end = |guard: &mut Self| guard.settle(outcome);
        unwind::in_drop(|| unwind::both(self, end, Self::release_dropped));
    }

    #[inline(always)]
    fn release_dropped(&mut self) {
        if const { Self::RELEASES } && self.owes(Flags::RELEASE) {
            let completion = if const { Self::MARKS } && self.owes(Flags::RUNNING) {
                Completion::Panicked
            } else if const { NeedsOf::<P, R>::COMPLETION } && self.owes(Flags::DELIVERED) {
                Completion::Complete
            } else {
                Completion::Cancelled
            };
            unwind::in_drop(|| self.release(completion));
        }
    }
}

impl<P: Policy<R>, R: RequestKind> Drop for Guard<P, R> {
    #[inline(always)]
    fn drop(&mut self) {
        if const { Self::SETTLES } && self.owes(Flags::SETTLE) {
            self.settle_dropped();
        }
        self.release_dropped();
    }
}

impl<P: Policy<R>, R: RequestKind> fmt::Debug for Guard<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

// === impl Parts, Isolation ===

impl Parts<'_> {
    /// Makes a rejection of a panic, and reports it. Without isolation for this request, the panic
    /// unwinds further.
    pub(crate) fn caught(&self, payload: Box<dyn Any + Send>) -> Rejection {
        match self.isolation {
            Some(isolation) => isolation.caught(payload),
            None => panic::resume_unwind(payload),
        }
    }
}

impl<'a> Isolation<'a> {
    /// The properties of the request for events, if a policy keeps them.
    pub(crate) fn target(&self) -> Option<Target<'a>> {
        self.request.map(RequestSummary::target)
    }

    /// Makes a rejection of a panic, and reports it. The payload goes to the hook and not to the
    /// client.
    #[cold]
    pub(crate) fn caught(&self, payload: Box<dyn Any + Send>) -> Rejection {
        let rejection = self.panics.reporter.reject(Reason::Panicked);
        unwind::without_panics(|| rejection.count_panic(message(&*payload), self.target()));
        if let Some(hook) = self.hook {
            unwind::without_panics(|| hook(&PanicReport::new(&*payload, self.request)));
        }
        if let Some(escalation) = self.panics.escalation.get() {
            unwind::without_panics(escalation);
        }
        unwind::discard(payload);
        rejection
    }
}
