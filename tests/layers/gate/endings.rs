//! For every end of a request, its token is settled once and then released once.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use seawall::policy::{Admission, Mode, NoWait, Policy, RequestKind, Switch, Switched};
use seawall::{
    CatchPanic, CircuitBreaker, Completion, ConcurrencyLimit, ConcurrencyLimitSettings, GateLayer,
    LagShed, Outcome, Reason, RequestLimit, Timeout,
};
use tokio::time::advance;
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};
use tower::{BoxError, Layer, Service, ServiceBuilder};

use crate::support::*;

/// The behaviour of the inner service, its response body and the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    ReadToTheEnd,
    WithTrailers,
    WithoutBody,
    ToHead,
    LastFrameKnown,
    AllPromisedRead,
    ServerError,
    DroppedUnread,
    DroppedMidway,
    BodyFails,
    BodyPanics,
    CallFails,
    CallPanics,
    PollPanics,
    DroppedBeforePoll,
    DroppedPending,
    GrpcSucceeds,
    GrpcFails,
    GrpcHasNoStatus,
    GrpcDropped,
    GrpcTrailersOnly,
}

use Ending::*;

impl Ending {
    pub(super) const ALL: [(Self, Outcome, Completion); 21] = [
        (ReadToTheEnd, Outcome::Success, Completion::Complete),
        (WithTrailers, Outcome::Success, Completion::Complete),
        (WithoutBody, Outcome::Success, Completion::Complete),
        (ToHead, Outcome::Success, Completion::Complete),
        (LastFrameKnown, Outcome::Success, Completion::Complete),
        (AllPromisedRead, Outcome::Success, Completion::Complete),
        (ServerError, Outcome::Failure, Completion::Complete),
        (DroppedUnread, Outcome::Success, Completion::Cancelled),
        (DroppedMidway, Outcome::Success, Completion::Cancelled),
        (BodyFails, Outcome::Success, Completion::Failed),
        (BodyPanics, Outcome::Success, Completion::Panicked),
        (CallFails, Outcome::Failure, Completion::Complete),
        (CallPanics, Outcome::Panicked, Completion::Panicked),
        (PollPanics, Outcome::Panicked, Completion::Panicked),
        (DroppedBeforePoll, Outcome::Cancelled, Completion::Cancelled),
        (DroppedPending, Outcome::Cancelled, Completion::Cancelled),
        (GrpcSucceeds, Outcome::Success, Completion::Complete),
        (GrpcFails, Outcome::Failure, Completion::Complete),
        (GrpcHasNoStatus, Outcome::Failure, Completion::Complete),
        (GrpcDropped, Outcome::Cancelled, Completion::Cancelled),
        (GrpcTrailersOnly, Outcome::Failure, Completion::Complete),
    ];

    fn request(self) -> Request<Script> {
        match self {
            ToHead => head(),
            GrpcSucceeds | GrpcFails | GrpcHasNoStatus | GrpcDropped | GrpcTrailersOnly => grpc(),
            _ => get(),
        }
    }

    fn response(self) -> Response<Script> {
        let a = || Step::Data("a");
        let mut response = ok(match self {
            WithTrailers => Script::new([a(), Step::Trailers("x", "y")]),
            LastFrameKnown => Script::new([a()]).knowing_its_end(),
            AllPromisedRead => Script::new([a(), Step::Panic]).exact(1),
            BodyFails => Script::new([a(), Step::Error]),
            BodyPanics => Script::new([a(), Step::Panic]),
            GrpcSucceeds => Script::new([a(), Step::Trailers("grpc-status", "0")]),
            GrpcFails => Script::new([a(), Step::Pending, Step::Trailers("grpc-status", "14")]),
            GrpcTrailersOnly => Script::default().knowing_its_end(),
            _ => Script::new([a(), Step::Pending, a()]),
        });
        match self {
            WithoutBody => *response.status_mut() = http::StatusCode::NO_CONTENT,
            ServerError => *response.status_mut() = http::StatusCode::BAD_GATEWAY,
            GrpcSucceeds | GrpcFails | GrpcHasNoStatus | GrpcDropped | GrpcTrailersOnly => {
                let headers = response.headers_mut();
                headers.insert("content-type", "application/grpc".parse().unwrap());
                if self == GrpcTrailersOnly {
                    headers.insert("grpc-status", "13".parse().unwrap());
                }
            }
            _ => {}
        }
        response
    }
}

/// A service that ends as scripted.
#[derive(Clone)]
pub(super) struct Ends(pub(super) Ending);

impl<Req> Service<Req> for Ends {
    type Response = Response<Script>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Script>, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        let ending = self.0;
        assert_ne!(ending, CallPanics, "scripted");
        Box::pin(async move {
            match ending {
                PollPanics => panic!("scripted"),
                DroppedPending => std::future::pending().await,
                CallFails => Err(io::Error::other("scripted")),
                _ => Ok(ending.response()),
            }
        })
    }
}

/// Sends one request to a service, as the caller. Returns whether it panicked.
pub(super) fn play<S, B>(mut service: S, ending: Ending) -> bool
where
    S: Service<Request<Script>, Response = Response<B>, Error = io::Error>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let play = || {
        let mut call = Box::pin(service.call(ending.request()));
        if ending == DroppedBeforePoll {
            return;
        }
        let Poll::Ready(response) = call.as_mut().poll(&mut cx) else {
            assert_eq!(ending, DroppedPending);
            return;
        };
        let Ok(response) = response else {
            assert_eq!(ending, CallFails);
            return;
        };
        let mut body = Box::pin(response.into_body());
        let most = match ending {
            DroppedUnread | WithoutBody | ToHead => 0,
            DroppedMidway | LastFrameKnown | AllPromisedRead | GrpcDropped => 1,
            _ => usize::MAX,
        };
        for _ in 0..most {
            match body.as_mut().poll_frame(&mut cx) {
                Poll::Pending | Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => break,
            }
        }
    };
    catch_unwind(AssertUnwindSafe(play)).is_err()
}

/// All calls except `on_head`, which exists only if there is a head.
pub(super) fn ended(recorder: &Recorder) -> Vec<Told> {
    let mut told = recorder.told();
    told.retain(|told| *told != Told::Head);
    told
}

pub(super) fn ends(outcome: Outcome, completion: Completion) -> [Told; 2] {
    [Told::Settled(outcome), Told::Released(completion)]
}

/// A policy that admits, and needs no further calls.
#[derive(Clone)]
struct Pass;

impl<R: RequestKind> Policy<R> for Pass {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
        Admission::Admit(())
    }
}

/// Every ending, with the witness in every position.
macro_rules! every_ending {
    ($($name:ident: |$witness:ident| $layer:expr;)+) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            seawall::pool_timers_when_paused();
            for (ending, outcome, completion) in Ending::ALL {
                let recorder = Recorder::new();
                let $witness = recorder.clone();
                play(Layer::layer(&$layer, Ends(ending)), ending);
                assert_eq!(ended(&recorder), ends(outcome, completion), "{ending:?}");
            }
        }
    )+};
}

every_ending! {
    alone: |witness| GateLayer::from_policy(witness);
    first: |witness| GateLayer::from_policy((witness, Pass, Pass));
    in_the_middle: |witness| GateLayer::from_policy((Pass, witness, Pass));
    last: |witness| GateLayer::from_policy((Pass, Pass, witness));
    in_a_nested_tuple: |witness| GateLayer::from_policy((((), (Pass, witness)), (Pass, ())));
    optional: |witness| GateLayer::from_policy(Some(witness));
    optional_in_a_tuple: |witness| GateLayer::from_policy((None::<Pass>, Some(witness), Some(Pass)));
    not_exempt: |witness| GateLayer::from_policy(witness).exempt(|_| false);
    in_a_dry_run: |witness| GateLayer::from_policy(witness).dry_run();
    switched_on: |witness| {
        GateLayer::from_policy((Pass, Switched::new(witness, Switch::new(Mode::Enforce))))
    };
    in_the_outer_of_two_gates: |witness| {
        ServiceBuilder::new()
            .layer(GateLayer::from_policy(witness))
            .layer(GateLayer::from_policy((Pass, ConcurrencyLimit::from(1))))
    };
    in_the_inner_of_two_gates: |witness| {
        ServiceBuilder::new()
            .layer(GateLayer::from_policy((Pass, ConcurrencyLimit::from(1))))
            .layer(GateLayer::from_policy(witness))
    };
    isolated: |witness| GateLayer::from_policy((CatchPanic::new(), witness));
    before_an_isolation: |witness| GateLayer::from_policy((witness, CatchPanic::new()));
    beside_a_deadline: |witness| {
        GateLayer::from_policy((witness, Timeout::from(Duration::from_secs(1))))
    };
    after_a_deadline: |witness| {
        GateLayer::from_policy((Timeout::from(Duration::from_secs(1)), witness))
    };
    beside_a_request_limit: |witness| {
        GateLayer::from_policy((witness, RequestLimit::from(1000)))
    };
    beside_every_part: |witness| {
        GateLayer::from_policy((
            CatchPanic::new(),
            LagShed::default(),
            witness,
            Timeout::from(Duration::from_secs(1)),
            RequestLimit::from(1000),
            ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(1))).unwrap(),
        ))
    };
    in_a_stack: |witness| seawall::server().policy(witness).build().unwrap();
}

/// No token is granted, and nothing is settled.
#[tokio::test(start_paused = true)]
async fn without_a_token_nothing_is_settled() {
    for (ending, ..) in Ending::ALL {
        let recorder = Recorder::new();
        let off = Switched::new(recorder.clone(), Switch::new(Mode::Off));
        play(
            GateLayer::from_policy(recorder.clone())
                .exempt(|_| true)
                .layer(Ends(ending)),
            ending,
        );
        play(
            GateLayer::from_policy((off, None::<Recorder>, Pass)).layer(Ends(ending)),
            ending,
        );
        assert_eq!(recorder.told(), [], "{ending:?}");
    }
}

/// The rows of the table in the docs for a timeout.
#[tokio::test(start_paused = true)]
async fn a_timeout_is_a_failure_before_the_deadline_and_a_cancellation_after_it() {
    seawall::pool_timers_when_paused();
    let (before, after) = (Recorder::new(), Recorder::new());
    let timeout = Timeout::from(Duration::from_secs(1));
    let layer = GateLayer::from_policy((before.clone(), timeout.clone(), after.clone()));
    let mut call = spawn(layer.layer(Ends(DroppedPending)).call(get()));
    assert_pending!(call.poll());
    advance(Duration::from_millis(1001)).await;
    let response = assert_ready!(call.poll()).unwrap();
    assert_eq!(reason(&response), Some(Reason::Timeout));
    let failed = ends(Outcome::Failure, Completion::Complete);
    let cancelled = ends(Outcome::Cancelled, Completion::Complete);
    assert_eq!(before.told(), failed);
    assert_eq!(after.told(), cancelled);

    // The same while the request is queued.
    let (before, after) = (Recorder::new(), Recorder::new());
    let limit =
        ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(60)))
            .unwrap();
    let _permit = limit.try_acquire().unwrap();
    let policies = (before.clone(), timeout, after.clone(), limit.clone());
    let layer = GateLayer::from_policy(policies);
    let mut call = spawn(layer.layer(Ends(ReadToTheEnd)).call(get()));
    assert_pending!(call.poll());
    advance(Duration::from_millis(1001)).await;
    let response = assert_ready!(call.poll()).unwrap();
    assert_eq!(reason(&response), Some(Reason::Timeout));
    assert_eq!(limit.queued(), 0);
    assert_eq!(before.told()[0], Told::Settled(Outcome::Failure));
    assert_eq!(after.told()[0], Told::Settled(Outcome::Cancelled));
    assert_eq!((before.told().len(), after.told().len()), (2, 2));
}

/// The shorter of two timeouts in a tuple applies, in any order.
#[tokio::test(start_paused = true)]
async fn the_shorter_of_two_timeouts_applies() {
    let [short, long] = [1, 5].map(|seconds| Timeout::from(Duration::from_secs(seconds)));
    for (first, second) in [(&short, &long), (&long, &short)] {
        let two = GateLayer::from_policy((first.clone(), second.clone()));
        let limit = ConcurrencyLimit::from(1);
        let three = GateLayer::from_policy((first.clone(), second.clone(), limit));
        let calls = (
            two.layer(Ends(DroppedPending)).call(get()),
            three.layer(Ends(DroppedPending)).call(get()),
        );
        let (mut two, mut three) = (spawn(calls.0), spawn(calls.1));
        assert_pending!(two.poll());
        assert_pending!(three.poll());
        advance(Duration::from_millis(1001)).await;
        assert_eq!(assert_ready!(two.poll()).unwrap().status(), 504);
        assert_eq!(assert_ready!(three.poll()).unwrap().status(), 504);
    }
    assert_eq!(short.snapshot().timed_out, 4);
    assert_eq!(long.snapshot().timed_out, 0);
}

/// The shorter one passes: the policies before it see a failure, also those after the longer one.
#[tokio::test(start_paused = true)]
async fn policies_between_two_timeouts_see_the_one_that_passes() {
    use Outcome::{Cancelled, Failure};
    let [short, long] = [1, 5].map(|seconds| Timeout::from(Duration::from_secs(seconds)));
    for (first, second, expected) in [
        (&short, &long, [Failure, Cancelled, Cancelled]),
        (&long, &short, [Failure, Failure, Cancelled]),
        (&short, &short, [Failure, Cancelled, Cancelled]),
    ] {
        let recorders = [Recorder::new(), Recorder::new(), Recorder::new()];
        let [a, b, c] = recorders.clone();
        let policies = (a, first.clone(), b, second.clone(), c);
        let layer = GateLayer::from_policy(policies);
        let mut call = spawn(layer.layer(Ends(DroppedPending)).call(get()));
        assert_pending!(call.poll());
        advance(Duration::from_millis(1001)).await;
        assert_eq!(assert_ready!(call.poll()).unwrap().status(), 504);
        for (recorder, outcome) in recorders.iter().zip(expected) {
            assert_eq!(recorder.told()[0], Told::Settled(outcome));
        }
    }
}

/// A deadline that the caller sets is not a failure of the service.
#[tokio::test(start_paused = true)]
async fn a_callers_deadline_is_ignored_before_it() {
    let (before, after) = (Recorder::new(), Recorder::new());
    let timeout = Timeout::from(Duration::from_secs(60));
    let layer = GateLayer::from_policy((before.clone(), timeout, after.clone()));
    let mut request = grpc();
    let headers = request.headers_mut();
    headers.insert("grpc-timeout", "1S".parse().unwrap());
    let mut call = spawn(layer.layer(Ends(DroppedPending)).call(request));
    assert_pending!(call.poll());
    advance(Duration::from_millis(1001)).await;
    assert_ready!(call.poll()).unwrap();
    assert_eq!(before.told()[0], Told::Settled(Outcome::Ignored));
    assert_eq!(after.told()[0], Told::Settled(Outcome::Cancelled));
}

/// Panics in `admit`.
#[derive(Clone)]
struct PanicsInAdmit;

impl<R: RequestKind> Policy<R> for PanicsInAdmit {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
        panic!("scripted");
    }
}

/// Ends of a request before the inner service sees it.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_called_settles_the_policies_that_admitted_it() {
    let complete = ends(Outcome::Ignored, Completion::Complete);
    let cancelled = ends(Outcome::Cancelled, Completion::Cancelled);

    let recorder = Recorder::new();
    let policies = (recorder.clone(), Pass, No::new(Reason::Overloaded));
    play(
        GateLayer::from_policy(policies).layer(Ends(WithoutBody)),
        WithoutBody,
    );
    assert_eq!(recorder.told(), complete, "a later policy rejects");

    let (first, last) = (Recorder::new(), Recorder::new());
    let policies = (first.clone(), RequestLimit::from(2), last.clone());
    let layer = GateLayer::from_policy(policies);
    let large = post(Script::data(&["abc"]).exact(3));
    let response = layer.layer(Ends(ReadToTheEnd)).call(large).await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(first.told(), complete, "the request limit rejects");
    assert_eq!(last.told(), complete, "the request limit rejects");

    let recorder = Recorder::new();
    let policies = (recorder.clone(), PanicsInAdmit);
    play(
        GateLayer::from_policy(policies).layer(Ends(WithoutBody)),
        WithoutBody,
    );
    assert_eq!(
        recorder.told(),
        ends(Outcome::Panicked, Completion::Panicked),
        "a later policy panics"
    );

    let recorder = Recorder::new();
    let limit =
        ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(1)))
            .unwrap();
    let layer = GateLayer::from_policy((recorder.clone(), limit.clone()));
    let mut service = layer.layer(Ends(DroppedUnread));
    let permit = limit.try_acquire().unwrap();
    let mut call = spawn(service.call(get()));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(recorder.told(), cancelled, "dropped in the queue");
    let call = service.call(get());
    assert_eq!(call.await.unwrap().status(), 503);
    assert_eq!(recorder.told()[2..], complete, "the queue timeout");
    let mut call = spawn(service.call(get()));
    assert_pending!(call.poll());
    drop(permit);
    drop(assert_ready!(call.poll()));
    assert_eq!(
        ended(&recorder)[4..],
        ends(Outcome::Success, Completion::Cancelled),
        "admitted from the queue"
    );
}

/// Over `Plain`, a request ends with its future.
mod plain {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Ends {
        Ok,
        Err,
        CallPanics,
        PollPanics,
        DroppedBeforePoll,
        DroppedPending,
    }

    impl Service<Ends> for Pass {
        type Response = ();
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>>>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Ends) -> Self::Future {
            assert_ne!(request, Ends::CallPanics, "scripted");
            Box::pin(async move {
                match request {
                    Ends::Ok => Ok(()),
                    Ends::Err => Err("scripted".into()),
                    Ends::PollPanics => panic!("scripted"),
                    _ => std::future::pending().await,
                }
            })
        }
    }

    fn play<S: Service<Ends, Response = (), Error = BoxError>>(mut service: S, ends: Ends) {
        let play = || {
            let mut call = Box::pin(service.call(ends));
            if ends != Ends::DroppedBeforePoll {
                let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            }
        };
        let _ = catch_unwind(AssertUnwindSafe(play));
    }

    #[tokio::test(start_paused = true)]
    async fn every_ending() {
        for (ending, outcome, completion) in [
            (Ends::Ok, Outcome::Success, Completion::Complete),
            (Ends::Err, Outcome::Failure, Completion::Complete),
            (Ends::CallPanics, Outcome::Panicked, Completion::Panicked),
            (Ends::PollPanics, Outcome::Panicked, Completion::Panicked),
            (
                Ends::DroppedBeforePoll,
                Outcome::Cancelled,
                Completion::Cancelled,
            ),
            (
                Ends::DroppedPending,
                Outcome::Cancelled,
                Completion::Cancelled,
            ),
        ] {
            let second = Duration::from_secs(1);
            macro_rules! with {
                ($($layer:expr;)+) => {$(
                    let recorder = Recorder::new();
                    play($layer(recorder.clone()).layer(Pass), ending);
                    assert_eq!(recorder.told(), ends(outcome, completion), "{ending:?}");
                )+};
            }
            with! {
                |witness| GateLayer::from_policy(witness).plain();
                |witness| GateLayer::from_policy((witness, Pass, Pass)).plain();
                |witness| GateLayer::from_policy((Pass, witness, Pass)).plain();
                |witness| GateLayer::from_policy((Pass, witness)).plain();
                |witness| GateLayer::from_policy(Some(witness)).plain();
                |witness| GateLayer::from_policy(witness).dry_run().plain();
                |witness| GateLayer::from_policy(witness).plain().exempt(|_: &Ends| false);
                |witness| GateLayer::from_policy((CatchPanic::new(), witness)).plain();
                |witness| GateLayer::from_policy((Timeout::from(second), witness)).plain();
                |witness| GateLayer::from_policy((
                    witness,
                    Timeout::from(second),
                    ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, second)).unwrap(),
                ))
                .plain();
            }
        }
    }
}

/// A gate uses one request limit: the first of the tuple that admits the request.
#[tokio::test(start_paused = true)]
async fn the_first_of_two_request_limits_applies() {
    let switch = Switch::default();
    let first = Switched::new(RequestLimit::from(5), switch.clone());
    let policies = (first, RequestLimit::from(1), Recorder::new());
    let layer = GateLayer::from_policy(policies);
    for (mode, status) in [(Mode::Enforce, 204), (Mode::Off, 413)] {
        switch.set(mode);
        let request = post(Script::data(&["abc"]).exact(3));
        let response = layer.layer(Ends(WithoutBody)).call(request).await.unwrap();
        assert_eq!(response.status(), status, "{mode}");
    }
}

/// A dry run of a tuple turns those members off that have none; the others decide and count.
#[tokio::test(start_paused = true)]
async fn a_dry_run_of_a_tuple_counts() {
    let timeout = Timeout::from(Duration::from_secs(1));
    let limit = ConcurrencyLimit::from(1);
    let breaker = CircuitBreaker::default();
    let policies = (CatchPanic::new(), breaker.clone(), (timeout, limit.clone()));
    let layer = GateLayer::from_policy(policies).dry_run();
    let mut call = spawn(layer.layer(Ends(DroppedPending)).call(get()));
    assert_pending!(call.poll());
    assert_eq!(limit.in_flight(), 1);
    advance(Duration::from_secs(2)).await;
    assert_pending!(call.poll());
    let other = layer.layer(Ends(WithoutBody)).call(get()).await.unwrap();
    assert_eq!(other.status(), 204);
    assert_eq!(limit.snapshot().would_reject, 1);
    drop(call);
    assert_eq!(limit.in_flight(), 0);
    layer.layer(Ends(WithoutBody)).call(get()).await.unwrap();
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.successes, totals.ignored), (1, 2));
}

/// A dry run rejects nothing: policies that do not decide at the arrival of a request are off.
#[tokio::test(start_paused = true)]
async fn a_dry_run_ends_no_request() {
    let timeout = Timeout::from(Duration::from_secs(1));
    let switch = Switch::new(Mode::DryRun);
    let recorder = Recorder::new();
    let policies = (
        recorder.clone(),
        Switched::new(CatchPanic::new(), switch.clone()),
        Switched::new(timeout.clone(), switch.clone()),
        Switched::new(RequestLimit::from(1), switch.clone()),
    );
    let layer = GateLayer::from_policy(policies);
    let mut call = spawn(layer.layer(Ends(DroppedPending)).call(get()));
    assert_pending!(call.poll());
    advance(Duration::from_secs(2)).await;
    assert_pending!(call.poll());
    drop(call);
    let large = post(Script::data(&["abc"]).exact(3));
    let response = layer.layer(Ends(WithoutBody)).call(large).await.unwrap();
    assert_eq!(response.status(), 204);
    let mut service = layer.layer(Ends(PollPanics));
    let poll = AssertUnwindSafe(|| spawn(service.call(get())).poll().is_ready());
    assert!(catch_unwind(poll).is_err(), "it unwinds");
    assert_eq!(timeout.snapshot().timed_out, 0);

    switch.set(Mode::Enforce);
    let mut service = layer.layer(Ends(PollPanics));
    assert_eq!(service.call(get()).await.unwrap().status(), 500);
}
