//! The state that all clones of a gate share, and the guard of one admitted request.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
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
use crate::policy::needs::InFuture;
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
    /// The [`Flags`]. It is a whole word, since a smaller value is moved byte by byte.
    owed: u64,
    kind: PhantomData<fn(R)>,
}

/// The guard in a future.
pub(crate) type FutureGuard<P, R> = <InFuture<NeedsOf<P, R>> as Choice>::Maybe<Guard<P, R>>;
/// The guard in a response body.
#[cfg(feature = "http")]
pub(crate) type BodyGuard<P, R> = <InBody<NeedsOf<P, R>> as Choice>::Maybe<Guard<P, R>>;

/// The calls that the token still needs, and the report of earlier polls.
struct Flags;

// === impl Flags ===

impl Flags {
    const SETTLE: u64 = 1 << 0;
    const RELEASE: u64 = 1 << 1;
    /// Foreign code runs under the guard. A guard that is dropped now is dropped by a panic of that
    /// code. This is exact, while `thread::panicking()` is also true for a call that is dropped
    /// during another panic.
    const RUNNING: u64 = 1 << 2;
    /// The response is complete. If the guard is dropped, it releases the token as complete.
    const DELIVERED: u64 = 1 << 3;
    /// The [`Report`] of earlier polls starts at this bit.
    const REPORT_SHIFT: u32 = u64::BITS - Report::BITS;

    const fn only_if(condition: bool, flag: u64) -> u64 {
        if condition { flag } else { 0 }
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
    /// The flags of a new guard: foreign code is about to run.
    const INITIAL: u64 = Flags::only_if(Self::SETTLES, Flags::SETTLE)
        | Flags::only_if(Self::RELEASES, Flags::RELEASE)
        | Flags::only_if(Self::MARKS, Flags::RUNNING);
    /// The flags that may be set. The code for the others is not compiled.
    const FLAGS: u64 = Self::INITIAL
        | Flags::only_if(
            Self::RELEASES && NeedsOf::<P, R>::COMPLETION,
            Flags::DELIVERED,
        );

    /// Makes a guard under which foreign code is about to run.
    #[inline(always)]
    pub(crate) fn running(shared: Arc<Shared<P>>, token: P::Token) -> Self {
        Self {
            shared,
            token,
            owed: Self::INITIAL,
            kind: PhantomData,
        }
    }

    /// Adds the token that a later policy has granted.
    pub(super) fn add(&mut self, waited: P::Token) {
        P::Wait::add(&mut self.token, waited);
    }

    /// Marks whether foreign code runs.
    #[inline(always)]
    pub(crate) fn set_running(&mut self, is_running: bool) {
        if const { Self::MARKS } {
            if is_running {
                self.owed |= Flags::RUNNING;
            } else {
                self.owed &= !Flags::RUNNING;
            }
        }
    }

    /// The report of inner gates and bodies in earlier polls.
    #[inline(always)]
    pub(crate) fn report(&mut self) -> Report {
        if const { Self::SETTLES } {
            Report::from_bits(self.owed >> Flags::REPORT_SHIFT)
        } else {
            Report::NOTHING
        }
    }

    /// Keeps the report of inner gates and bodies for later polls, unless the token is settled.
    #[inline(always)]
    pub(crate) fn keep_report(&mut self, kept: impl FnOnce(Report) -> Report) {
        if self.owes(Flags::SETTLE) && upload::reported().is_present() {
            let report = kept(upload::reported());
            let flags = self.owed & ((1 << Flags::REPORT_SHIFT) - 1);
            self.owed = report.bits() << Flags::REPORT_SHIFT | flags;
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
    const fn owes(&self, flags: u64) -> bool {
        Self::FLAGS & flags != 0 && self.owed & flags != 0
    }

    #[cfg(feature = "http")]
    #[inline(always)]
    pub(crate) const fn is_settled(&self) -> bool {
        !self.owes(Flags::SETTLE)
    }

    /// The token needs no further call.
    #[inline(always)]
    pub(crate) const fn is_done(&self) -> bool {
        !self.owes(Flags::SETTLE | Flags::RELEASE)
    }

    /// The response is complete: only the release is left.
    #[cfg(feature = "http")]
    pub(crate) fn set_delivered(&mut self) {
        self.owed |= Flags::DELIVERED & Self::FLAGS;
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
        if self.owes(Flags::SETTLE) {
            self.owed &= !Flags::SETTLE;
            self.shared.policy.settle(&mut self.token, outcome);
        }
    }

    /// The deadline has passed: settles the token, unless it is settled.
    pub(crate) fn expire(&mut self, outcome: Outcome) {
        if self.owes(Flags::SETTLE) {
            let time = self.parts().deadline.map(|budget| budget.time);
            let nanos = time.map_or(u64::MAX, Time::nanos);
            let mut expiry = Expiry { outcome, nanos };
            self.owed &= !Flags::SETTLE;
            self.shared.policy.expire(&mut self.token, &mut expiry);
        }
    }

    /// Releases the token, unless it is released.
    #[inline(always)]
    pub(crate) fn release(&mut self, completion: Completion) {
        if self.owes(Flags::RELEASE) {
            self.owed &= !Flags::RELEASE;
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
        if self.owes(Flags::RELEASE) {
            let completion = if self.owes(Flags::RUNNING) {
                Completion::Panicked
            } else if self.owes(Flags::DELIVERED) {
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
        if self.owes(Flags::SETTLE) {
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
