//! Requests that wait for the last policy of a tuple: every end, for every place of the others.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use seawall::policy::{
    Admission, Exempt, Mode, Permit, Policy, RequestKind, Switch, Switched, WaitFor,
};
use seawall::{
    CatchPanic, Completion, ConcurrencyLimit, ConcurrencyLimitSettings, GateLayer, Outcome, Reason,
    Rejection, RequestHead, Timeout,
};
use tokio_test::assert_pending;
use tokio_test::task::spawn;
use tower::{Layer, Service};

use self::End::*;
use super::endings::{Ending, Ends, ended, ends};
use crate::support::*;

/// The end of a wait.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Granted,
    Rejected,
    Panics,
    Late,
    Dropped,
}

/// A policy that waits for a moment.
#[derive(Clone)]
struct Waits(End, Recorder);

impl<R: RequestKind> Policy<R> for Waits {
    type Token = Record;
    type Wait = WaitFor<Pin<Box<dyn Future<Output = Result<Record, Rejection>> + Send>>>;

    fn admit(&self, _: &R::Head<'_>) -> Admission<Record, Self::Wait> {
        let end = self.0;
        let rejection = || Rejection::new(Reason::Overloaded);
        let wait = async move {
            tokio::task::yield_now().await;
            match end {
                Granted => Ok(Record::Admitted),
                Rejected => Err(rejection()),
                Panics => unwind(),
                Late | Dropped => std::future::pending().await,
            }
        };
        Admission::Wait(WaitFor::new(Box::pin(wait), rejection()))
    }

    fn settle(&self, token: &mut Record, outcome: Outcome) {
        Policy::<R>::settle(&self.1, token, outcome);
    }

    fn release(&self, token: &mut Record, completion: Completion) {
        Policy::<R>::release(&self.1, token, completion);
    }
}

impl End {
    /// The answer, and the ends of the policies before and after the deadline.
    fn expected(self) -> (Option<Reason>, [Told; 2], [Told; 2]) {
        use Completion as End;
        use Outcome::{Cancelled, Failure, Ignored, Panicked, Success};
        let (reason, before, after, end) = match self {
            Granted => (None, Success, Success, End::Complete),
            Rejected => (Some(Reason::Overloaded), Ignored, Ignored, End::Complete),
            Panics => (Some(Reason::Panicked), Panicked, Panicked, End::Panicked),
            Late => (Some(Reason::Timeout), Failure, Cancelled, End::Complete),
            Dropped => (None, Cancelled, Cancelled, End::Cancelled),
        };
        (reason, ends(before, end), ends(after, end))
    }
}

/// The tuples are nested, and a switch between them is turned off while the request waits.
#[tokio::test(start_paused = true)]
async fn every_policy_of_nested_tuples_gets_the_end_of_a_wait() {
    for is_isolated in [true, false] {
        for end in [Granted, Rejected, Panics, Late, Dropped] {
            let recorders: [Recorder; 5] = std::array::from_fn(|_| Recorder::new());
            let [a, b, c, d, last] = recorders.clone();
            let switch = Switch::new(Mode::Enforce);
            let exempt = Exempt::new((d, Waits(end, last)), |_: &RequestHead<'_>| false);
            let policies = (
                is_isolated.then(CatchPanic::new),
                a,
                (b, None::<Recorder>),
                Timeout::from(Duration::from_secs(1)),
                Switched::new((c, Some(exempt)), switch.clone()),
            );
            let layer = GateLayer::from_policy(policies);
            let mut service = layer.layer(Ends(Ending::WithoutBody));
            let mut call = spawn(service.call(get()));
            assert_pending!(call.poll());
            switch.set(Mode::Off);
            let (expected, before, after) = end.expected();
            if end == Dropped {
                drop(call);
            } else {
                match AssertUnwindSafe(call).catch_unwind().await {
                    Ok(response) => assert_eq!(reason(&response.unwrap()), expected),
                    Err(_) => assert!(end == Panics && !is_isolated),
                }
            }
            let at = format!("{end:?}, isolated: {is_isolated}");
            let told = recorders.each_ref().map(ended);
            let granted = if end == Granted { &after[..] } else { &[] };
            assert_eq!(told[..2], [before; 2], "{at}");
            assert_eq!(told[2..4], [after; 2], "{at}");
            assert_eq!(told[4], granted, "{at}");
        }
    }
}

/// A policy of the user in front of another one: no request waits.
#[derive(Clone)]
struct NoQueue<P>(P);

impl<R: RequestKind, P: Policy<R>> Policy<R> for NoQueue<P> {
    type Token = P::Token;
    type Wait = P::Wait;

    fn admit(&self, head: &R::Head<'_>) -> Admission<P::Token, P::Wait> {
        match self.0.admit(head) {
            Admission::Wait(_) => Admission::Reject(Rejection::new(Reason::Overloaded)),
            other => other,
        }
    }

    fn settle(&self, token: &mut P::Token, outcome: Outcome) {
        self.0.settle(token, outcome);
    }

    fn release(&self, token: &mut P::Token, completion: Completion) {
        self.0.release(token, completion);
    }
}

/// A limit that is reached.
fn full() -> (ConcurrencyLimit, Permit<ConcurrencyLimit>) {
    let settings = ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(60));
    let limit = ConcurrencyLimit::new(settings).unwrap();
    let permit = limit.try_acquire_owned().unwrap();
    (limit, permit)
}

/// A wait that is dropped before a gate has it releases the tokens of the others.
#[tokio::test(start_paused = true)]
async fn a_policy_that_drops_a_wait_releases_the_others() {
    let (limit, _permit) = full();
    let recorder = Recorder::new();
    let policy = NoQueue((recorder.clone(), limit.clone()));
    let mut service = GateLayer::from_policy(policy).layer(Ends(Ending::WithoutBody));
    let response = service.call(get()).await.unwrap();
    assert_eq!(reason(&response), Some(Reason::Overloaded));
    let cancelled = ends(Outcome::Cancelled, Completion::Cancelled);
    assert_eq!(ended(&recorder), cancelled);
    assert_eq!(limit.queued(), 0);
}

/// A dry run in which a request would wait: the policies of both tuples get no call.
#[tokio::test(start_paused = true)]
async fn a_dry_run_around_nested_tuples_waits_for_none() {
    let (limit, _permit) = full();
    let (outer, inner) = (Recorder::new(), Recorder::new());
    let policies = (outer.clone(), (inner.clone(), limit.clone()));
    let layer = GateLayer::from_policy(policies).dry_run();
    let mut service = layer.layer(Ends(Ending::WithoutBody));
    assert_eq!(service.call(get()).await.unwrap().status(), 204);
    let ignored = ends(Outcome::Ignored, Completion::Complete);
    assert_eq!([ended(&outer), ended(&inner)], [ignored; 2]);
    assert_eq!((limit.queued(), limit.in_flight()), (0, 1));
}
