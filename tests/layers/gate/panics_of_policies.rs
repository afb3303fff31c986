//! Panics of the user's policies and closures, at every end of a request.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use seawall::policy::{Admission, Mode, NoWait, Policy, RequestKind, Switch, Switched, WaitFor};
use seawall::{
    CatchPanic, CatchPanicLayer, Completion, ConcurrencyLimit, ConcurrencyLimitSettings, GateLayer,
    Outcome, Reason, Rejection, RequestBody, RequestLimit, Timeout, TimeoutLayer,
};
use tokio_test::assert_pending;
use tokio_test::task::spawn;
use tower::{Layer, Service};

use super::endings::Ending::{
    DroppedBeforePoll, DroppedMidway, DroppedPending, DroppedUnread, GrpcDropped,
};
use super::endings::{Ending, Ends, ended, ends, play};
use crate::handler::service_fn;
use crate::support::*;

/// Panics in the named method.
#[derive(Clone)]
struct Panics(&'static str);

impl Policy<seawall::HttpRequest> for Panics {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &seawall::RequestHead<'_>) -> Admission<(), NoWait> {
        Admission::Admit(())
    }

    fn on_head(&self, (): &mut (), _: &mut seawall::ResponseHeadMut<'_>) {
        assert_ne!(self.0, "on_head", "scripted");
    }

    fn settle(&self, (): &mut (), _: Outcome) {
        assert_ne!(self.0, "settle", "scripted");
    }

    fn release(&self, (): &mut (), _: Completion) {
        assert_ne!(self.0, "release", "scripted");
    }
}

/// The policies and closures of a gate that isolates panics are isolated too.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_policy_is_answered_and_releases_the_others() {
    for place in ["on_head", "settle", "release", "classify"] {
        let (recorder, limit) = (Recorder::new(), ConcurrencyLimit::from(1));
        let last = Recorder::new();
        let policies = (
            CatchPanic::new(),
            recorder.clone(),
            Panics(place),
            last.clone(),
            limit.clone(),
        );
        let layer = GateLayer::from_policy(policies).classify(move |_| {
            assert_ne!(place, "classify", "scripted");
            None::<Outcome>
        });
        let mut service = layer.layer(Ends(Ending::WithoutBody));
        let response = service.call(get()).await.unwrap();
        assert_eq!(response.status(), 500, "{place}");
        assert_eq!(limit.in_flight(), 0, "{place}");
        let ended = ended(&recorder);
        assert_eq!(ended.len(), 2, "{place}: {ended:?}");
        let panicked = ends(Outcome::Panicked, Completion::Panicked);
        match place {
            "settle" | "release" => assert_eq!(ended.len(), 2, "{place}: {ended:?}"),
            _ => assert_eq!(ended, panicked, "{place}"),
        }
        let ended = self::ended(&last);
        assert_eq!(ended.len(), 2, "{place}: {ended:?}");
    }
}

/// Nor does a panic of a policy prevent the answer, or the end of the body, at any other time.
#[tokio::test(start_paused = true)]
async fn no_panic_of_a_policy_unwinds_past_an_isolation() {
    for place in ["settle", "release"] {
        let gate = || {
            let (panics, recorder) = (CatchPanic::new(), Recorder::new());
            let after = Recorder::new();
            let policies = (
                panics.clone(),
                recorder.clone(),
                Panics(place),
                after.clone(),
                Timeout::from(Duration::from_secs(1)),
                RequestLimit::from(2),
            );
            (panics, [recorder, after], GateLayer::from_policy(policies))
        };
        for (ending, _, _) in Ending::ALL {
            if matches!(
                ending,
                DroppedUnread | DroppedMidway | DroppedBeforePoll | DroppedPending | GrpcDropped
            ) {
                continue; // in the destructor of the caller
            }
            let (panics, recorders, layer) = gate();
            assert!(
                !play(layer.layer(Ends(ending)), ending),
                "{place} {ending:?}"
            );
            assert!(panics.snapshot().panics > 0, "{place} {ending:?}");
            for recorder in recorders {
                assert_eq!(ended(&recorder).len(), 2, "{place} {ending:?}");
            }
        }

        let (panics, recorders, layer) = gate();
        let response = layer.layer(Ends(DroppedPending)).call(get()).await.unwrap();
        assert_eq!(response.status(), 504, "{place}");
        assert_eq!(panics.snapshot().panics, 1, "{place}");
        for recorder in recorders {
            let late = ends(Outcome::Failure, Completion::Complete);
            assert_eq!(ended(&recorder), late, "{place}");
        }

        let (panics, recorders, layer) = gate();
        let large = post(Script::data(&["abc"]).exact(3));
        let response = layer
            .layer(Ends(Ending::ReadToTheEnd))
            .call(large)
            .await
            .unwrap();
        assert_eq!(response.status(), 413, "{place}");
        assert_eq!(panics.snapshot().panics, 1, "{place}");
        for recorder in recorders {
            assert_eq!(ended(&recorder).len(), 2, "{place}");
        }

        // The same if the service has read too much of a body whose length is unknown.
        let (panics, recorders, layer) = gate();
        let reads = service_fn(async |request: Request<RequestBody<Script>>| {
            assert!(request.into_body().collect().await.is_err());
            Ok::<_, Infallible>(ok(Script::default()))
        });
        let long = post(Script::data(&["abc"]));
        let response = layer.layer(reads).call(long).await.unwrap();
        assert_eq!(response.status(), 413, "{place}");
        assert_eq!(panics.snapshot().panics, 1, "{place}");
        for recorder in recorders {
            let large = ends(Outcome::Ignored, Completion::Complete);
            assert_eq!(ended(&recorder), large, "{place}");
        }
    }
}

/// The deadline of a response body passes.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_policy_at_the_deadline_of_a_body_is_reported() {
    for place in ["settle", "release"] {
        let (panics, before, after) = (CatchPanic::new(), Recorder::new(), Recorder::new());
        let timeout = TimeoutLayer::new(Duration::from_secs(1)).including_body();
        let policies = (
            panics.clone(),
            before.clone(),
            Panics(place),
            after.clone(),
            timeout.policy().clone(),
        );
        let mut service = GateLayer::from_policy(policies).layer(answers(|| {
            let mut response = ok(Script::new([Step::Silent]));
            let grpc = "application/grpc".parse().unwrap();
            response.headers_mut().insert("content-type", grpc);
            response
        }));
        let mut body = service.call(grpc()).await.unwrap().into_body();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.trailers_ref().unwrap()["grpc-status"], "4", "{place}");
        assert_eq!(panics.snapshot().panics, 1, "{place}");
        let late = ends(Outcome::Failure, Completion::Failed);
        assert_eq!(ended(&before), late, "{place}");
        assert_eq!(ended(&after), late, "{place}");
    }
}

/// A gate whose isolation is left out at start. The panic unwinds to the caller.
#[tokio::test(start_paused = true)]
async fn without_an_isolation_a_panic_of_a_policy_unwinds() {
    for place in ["settle", "release"] {
        for ending in [
            Ending::ReadToTheEnd,
            Ending::GrpcSucceeds,
            Ending::CallFails,
        ] {
            let recorder = Recorder::new();
            let policies = (None::<CatchPanic>, recorder.clone(), Panics(place));
            let service = GateLayer::from_policy(policies).layer(Ends(ending));
            assert!(play(service, ending), "{place} {ending:?}");
            assert_eq!(ended(&recorder).len(), 2, "{place} {ending:?}");
        }
    }
}

/// A classifier whose verdict about the end of a body panics.
#[cfg(feature = "tower-http-06")]
#[derive(Clone)]
struct PanicsAtTheEnd;

#[cfg(feature = "tower-http-06")]
impl tower_http::classify::ClassifyResponse for PanicsAtTheEnd {
    type FailureClass = ();
    type ClassifyEos = Self;

    fn classify_response<B>(
        self,
        _: &http::Response<B>,
    ) -> tower_http::classify::ClassifiedResponse<(), Self> {
        tower_http::classify::ClassifiedResponse::RequiresEos(self)
    }

    fn classify_error<E: std::fmt::Display + 'static>(self, _: &E) {}
}

#[cfg(feature = "tower-http-06")]
impl tower_http::classify::ClassifyEos for PanicsAtTheEnd {
    type FailureClass = ();

    fn classify_eos(self, _: Option<&http::HeaderMap>) -> Result<(), ()> {
        unwind()
    }

    fn classify_error<E: std::fmt::Display + 'static>(self, _: &E) {}
}

#[cfg(feature = "tower-http-06")]
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_classifier_at_the_end_of_a_body_is_reported() {
    for ending in [
        Ending::ReadToTheEnd,
        Ending::WithTrailers,
        Ending::GrpcSucceeds,
    ] {
        let (panics, recorder) = (CatchPanic::new(), Recorder::new());
        let layer = GateLayer::from_policy((panics.clone(), recorder.clone()))
            .classify_with(PanicsAtTheEnd);
        assert!(!play(layer.layer(Ends(ending)), ending), "{ending:?}");
        assert_eq!(panics.snapshot().panics, 1, "{ending:?}");
        let panicked = ends(Outcome::Panicked, Completion::Complete);
        assert_eq!(ended(&recorder), panicked, "{ending:?}");
    }
}

/// Counts its releases, and panics in `settle`.
#[derive(Clone, Default)]
struct PanicsInSettle(Arc<AtomicUsize>);

impl<R: RequestKind> Policy<R> for PanicsInSettle {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
        Admission::Admit(())
    }

    fn settle(&self, (): &mut (), _: Outcome) {
        unwind();
    }

    fn release(&self, (): &mut (), _: Completion) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A later policy rejects. The policies in between did not see a call, and the one that panics is
/// released.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_policy_after_a_rejection_is_no_panic_of_the_call() {
    let (first, between, last) = (
        PanicsInSettle::default(),
        Recorder::new(),
        PanicsInSettle::default(),
    );
    let policies = (
        first.clone(),
        between.clone(),
        last.clone(),
        No::new(Reason::Overloaded),
    );
    assert!(play(
        GateLayer::from_policy(policies).layer(Ends(Ending::WithoutBody)),
        Ending::WithoutBody
    ));
    assert_eq!(between.told(), ends(Outcome::Ignored, Completion::Complete));
    assert_eq!((first.0.load(Relaxed), last.0.load(Relaxed)), (1, 1));
}

/// Two policies panic. The second panic is discarded, and all are released.
#[tokio::test(start_paused = true)]
async fn two_policies_that_panic_release_the_others() {
    let (first, second) = (PanicsInSettle::default(), PanicsInSettle::default());
    let (panics, last) = (CatchPanic::new(), Recorder::new());
    let policies = (panics.clone(), first.clone(), second.clone(), last.clone());
    let mut service = GateLayer::from_policy(policies).layer(Ends(Ending::WithoutBody));
    assert_eq!(service.call(get()).await.unwrap().status(), 500);
    assert_eq!(panics.snapshot().panics, 1);
    assert_eq!((first.0.load(Relaxed), second.0.load(Relaxed)), (1, 1));
    assert_eq!(ended(&last).len(), 2);
}

/// The deadline passes in the queue. Without an isolation, the panic unwinds to the caller.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_policy_in_the_queue_is_answered_and_releases_the_others() {
    for isolation in [Some(CatchPanic::new()), None] {
        let settings = ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(60));
        let limit = ConcurrencyLimit::new(settings).unwrap();
        let (before, panics, after) = (Recorder::new(), PanicsInSettle::default(), Recorder::new());
        let policies = (
            isolation.clone(),
            before.clone(),
            panics.clone(),
            after.clone(),
            Timeout::from(Duration::from_secs(1)),
            limit.clone(),
        );
        let mut service = GateLayer::from_policy(policies).layer(Ends(Ending::WithoutBody));
        let _permit = limit.try_acquire().unwrap();
        let called = AssertUnwindSafe(service.call(get())).catch_unwind().await;
        if let Some(isolation) = &isolation {
            assert_eq!(called.unwrap().unwrap().status(), 504);
            assert_eq!(isolation.snapshot().panics, 1);
        } else {
            assert!(called.is_err());
        }
        let late = ends(Outcome::Failure, Completion::Complete);
        assert_eq!(
            (before.told(), after.told()),
            (late.to_vec(), late.to_vec())
        );
        assert_eq!(panics.0.load(Relaxed), 1);
        assert_eq!(limit.snapshot().queued, 0);
    }
}

/// A policy that waits, and whose wait panics.
#[derive(Clone)]
struct PanicsInWait;

impl<R: RequestKind> Policy<R> for PanicsInWait {
    type Token = ();
    type Wait = WaitFor<Pin<Box<dyn Future<Output = Result<(), Rejection>> + Send>>>;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), Self::Wait> {
        let wait = async { unwind() };
        Admission::Wait(WaitFor::new(
            Box::pin(wait),
            Rejection::new(Reason::Overloaded),
        ))
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_panics_is_answered_and_releases_the_others() {
    let recorder = Recorder::new();
    let policies = (CatchPanic::new(), recorder.clone(), PanicsInWait);
    let mut service = GateLayer::from_policy(policies).layer(Ends(Ending::WithoutBody));
    assert_eq!(service.call(get()).await.unwrap().status(), 500);
    let panicked = ends(Outcome::Panicked, Completion::Panicked);
    assert_eq!(ended(&recorder), panicked);

    // Without an isolation, the panic unwinds to the caller.
    let recorder = Recorder::new();
    let policies = (None::<CatchPanic>, recorder.clone(), PanicsInWait);
    let mut service = GateLayer::from_policy(policies).layer(Ends(Ending::WithoutBody));
    let called = AssertUnwindSafe(service.call(get())).catch_unwind();
    assert!(called.now_or_never().unwrap().is_err());
    assert_eq!(ended(&recorder), panicked);
}

/// The queue rejects. The policies around it did not see a call, as with any later policy.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_policy_at_the_end_of_the_queue_is_no_end_of_the_others() {
    for is_dry in [false, true] {
        let settings = ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(1));
        let limit = ConcurrencyLimit::new(settings).unwrap();
        let (first, last) = (PanicsInSettle::default(), PanicsInSettle::default());
        let between = Recorder::new();
        let policies = (first.clone(), between.clone(), last.clone(), limit.clone());
        let _permit = limit.try_acquire().unwrap();
        let layer = GateLayer::from_policy(policies);
        let unwound = if is_dry {
            let mut service = layer.dry_run().layer(Ends(Ending::WithoutBody));
            catch_unwind(AssertUnwindSafe(|| drop(service.call(get())))).is_err()
        } else {
            let mut service = layer.layer(Ends(Ending::WithoutBody));
            let called = AssertUnwindSafe(service.call(get())).catch_unwind().await;
            called.is_err()
        };
        assert!(unwound, "dry: {is_dry}");
        let ignored = ends(Outcome::Ignored, Completion::Complete);
        assert_eq!(between.told(), ignored, "dry: {is_dry}");
        assert_eq!((first.0.load(Relaxed), last.0.load(Relaxed)), (1, 1));
        assert_eq!(limit.queued(), 0);
    }
}

/// A closure of the user makes the body that the inner service gets, also after a wait.
#[tokio::test(start_paused = true)]
async fn a_request_body_that_panics_is_answered() {
    for is_queued in [false, true] {
        let limit = ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(1));
        let limit = ConcurrencyLimit::new(limit).unwrap();
        let recorder = Recorder::new();
        let policies = (
            CatchPanic::new(),
            recorder.clone(),
            RequestLimit::from(9),
            limit.clone(),
        );
        let layer = GateLayer::from_policy(policies)
            .request_body(|_: seawall::RequestBody<Script>| -> Script { unwind() });
        let mut service = layer.layer(Ends(Ending::WithoutBody));
        let permit = is_queued.then(|| limit.try_acquire().unwrap());
        let mut call = spawn(service.call(post(Script::data(&["abc"]))));
        if let Some(permit) = permit {
            assert_pending!(call.poll());
            drop(permit);
        }
        assert_eq!(call.await.unwrap().status(), 500);
        assert_eq!(limit.in_flight(), 0);
        assert_eq!(
            ended(&recorder),
            ends(Outcome::Panicked, Completion::Panicked)
        );
    }
}

/// A policy that panics in `settle` during a drop leaks no permit.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_destructor_releases_the_others() {
    let limit = ConcurrencyLimit::from(1);
    let layer = GateLayer::from_policy((Panics("settle"), limit.clone()));
    let mut call = spawn(layer.layer(Ends(DroppedPending)).call(get()));
    assert_pending!(call.poll());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(call))).is_err());
    assert_eq!(limit.in_flight(), 0);
}

/// A request or a body is dropped while the thread unwinds, where a second panic that leaves the
/// destructor would abort the process.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_policy_while_the_thread_unwinds_is_discarded() {
    fn drops_while_it_unwinds<T>(value: T) {
        let unwinds = || {
            let _value = value;
            unwind()
        };
        assert!(catch_unwind(AssertUnwindSafe(unwinds)).is_err());
    }

    for place in ["settle", "release"] {
        let limit = ConcurrencyLimit::from(1);
        let layer = GateLayer::from_policy((Panics(place), limit.clone()));
        let mut call = spawn(layer.layer(Ends(DroppedPending)).call(get()));
        assert_pending!(call.poll());
        drops_while_it_unwinds(call);
        assert_eq!(limit.in_flight(), 0, "{place}");
    }

    let limit = ConcurrencyLimit::from(1);
    let layer = GateLayer::from_policy((Panics("release"), limit.clone()));
    let response = layer.layer(Ends(DroppedUnread)).call(get()).await.unwrap();
    assert_eq!(limit.in_flight(), 1);
    drops_while_it_unwinds(response);
    assert_eq!(limit.in_flight(), 0);
}

/// A handler that panics when it is dropped: after its deadline, or after a panic of its own.
struct PanicsOnDrop {
    panics_before: bool,
}

impl Future for PanicsOnDrop {
    type Output = Result<Response<Script>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if self.panics_before {
            unwind();
        }
        Poll::Pending
    }
}

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        unwind();
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_handler_that_is_dropped_is_answered() {
    for panics_before in [false, true] {
        let (panics, recorder) = (CatchPanic::new(), Recorder::new());
        let timeout = Timeout::from(Duration::from_secs(1));
        let policies = (panics.clone(), recorder.clone(), timeout);
        let handler = service_fn(move |_: Request<Script>| PanicsOnDrop { panics_before });
        let mut service = GateLayer::from_policy(policies).layer(handler);
        let response = service.call(get()).await.unwrap();
        let (status, end) = if panics_before {
            (500, ends(Outcome::Panicked, Completion::Panicked))
        } else {
            (504, ends(Outcome::Failure, Completion::Complete))
        };
        assert_eq!(response.status(), status);
        assert_eq!(ended(&recorder), end);
        assert_eq!(panics.snapshot().panics, 1);
    }
}

/// Without isolation, the panic unwinds, and the policies see it.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_handler_that_is_dropped_is_one_of_the_call() {
    let off = Switch::new(Mode::Off);
    for has_isolation in [false, true] {
        let (recorder, time) = (Recorder::new(), Duration::from_secs(1));
        let policies = (recorder.clone(), Timeout::from(time));
        let handler = service_fn(move |_: Request<Script>| PanicsOnDrop {
            panics_before: false,
        });
        let unwinds = if has_isolation {
            let isolation = Switched::new(CatchPanic::new(), off.clone());
            let layer = GateLayer::from_policy((isolation, policies));
            unwinds_at(layer.layer(handler).call(get()), 2 * time).await
        } else {
            let layer = GateLayer::from_policy(policies);
            unwinds_at(layer.layer(handler).call(get()), 2 * time).await
        };
        assert!(unwinds);
        assert_eq!(
            ended(&recorder),
            ends(Outcome::Panicked, Completion::Panicked)
        );
    }
}

/// Returns whether the call is pending until a time, and unwinds then.
async fn unwinds_at(call: impl Future, time: Duration) -> bool {
    let mut call = spawn(call);
    assert!(call.poll().is_pending());
    tokio::time::advance(time).await;
    catch_unwind(AssertUnwindSafe(|| call.poll().is_ready())).is_err()
}

/// A policy whose `clone` panics.
struct ClonePanics(Recorder);

impl Clone for ClonePanics {
    fn clone(&self) -> Self {
        unwind()
    }
}

impl Policy<seawall::HttpRequest> for ClonePanics {
    type Token = Record;
    type Wait = NoWait<Record>;

    fn admit(&self, head: &seawall::RequestHead<'_>) -> Admission<Record, NoWait<Record>> {
        Policy::<seawall::HttpRequest>::admit(&self.0, head)
    }

    fn settle(&self, token: &mut Record, outcome: Outcome) {
        Policy::<seawall::HttpRequest>::settle(&self.0, token, outcome);
    }

    fn release(&self, token: &mut Record, completion: Completion) {
        Policy::<seawall::HttpRequest>::release(&self.0, token, completion);
    }
}

/// A tuple clones its policies when a request is queued.
#[tokio::test(start_paused = true)]
async fn a_policy_whose_clone_panics_keeps_no_token() {
    let settings = ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(1));
    let limit = ConcurrencyLimit::new(settings).unwrap();
    let _permit = limit.try_acquire_owned().unwrap();
    let recorder = Recorder::new();
    let policies = (CatchPanic::new(), ClonePanics(recorder.clone()), limit);
    let layer = GateLayer::from_policy(policies);
    let mut service = layer.layer(service_fn(async |_: Request<Script>| {
        Ok::<_, Infallible>(ok(Script::default()))
    }));
    assert_eq!(service.call(get()).await.unwrap().status(), 500);
    assert_eq!(
        ended(&recorder),
        ends(Outcome::Panicked, Completion::Panicked)
    );
}

/// A service that panics when it is cloned.
struct PanicsOnClone;

impl Clone for PanicsOnClone {
    fn clone(&self) -> Self {
        unwind()
    }
}

impl Service<Request<Script>> for PanicsOnClone {
    type Response = Response<Script>;
    type Error = Infallible;
    type Future = std::future::Pending<Result<Response<Script>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Script>) -> Self::Future {
        std::future::pending()
    }
}

/// A request that waits takes the service, and leaves a clone.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_service_that_is_cloned_is_answered() {
    let settings = ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(1));
    let limit = ConcurrencyLimit::new(settings).unwrap();
    let recorder = Recorder::new();
    let policies = (CatchPanic::new(), recorder.clone(), limit.clone());
    let mut service = GateLayer::from_policy(policies).layer(PanicsOnClone);
    let _permit = limit.try_acquire().unwrap();
    assert_eq!(service.call(get()).await.unwrap().status(), 500);
    assert_eq!(
        ended(&recorder),
        ends(Outcome::Panicked, Completion::Panicked)
    );
    assert_eq!(limit.queued(), 0);
}

/// Without isolation for the request, the caller gets the panic of the handler.
#[tokio::test(start_paused = true)]
async fn a_panic_that_is_not_isolated_reaches_the_caller() {
    let (ends, off) = (Ends(Ending::PollPanics), Switch::new(Mode::Off));
    let exempt = CatchPanicLayer::new().exempt(|_| true);
    let switched = CatchPanicLayer::new().switched_by(off);
    let none = GateLayer::from_policy(None::<CatchPanic>);
    let calls = [
        exempt.layer(ends.clone()).call(get()).map(drop).boxed(),
        switched.layer(ends.clone()).call(get()).map(drop).boxed(),
        none.layer(ends).call(get()).map(drop).boxed(),
    ];
    for call in calls {
        let payload = AssertUnwindSafe(call).catch_unwind().await.unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"scripted"));
    }
}

/// A response body that panics when it is dropped, and when it is polled or never.
struct BodyPanics {
    in_poll: bool,
}

impl http_body::Body for BodyPanics {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
        if self.in_poll {
            unwind();
        }
        Poll::Pending
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(9)
    }
}

impl Drop for BodyPanics {
    fn drop(&mut self) {
        unwind();
    }
}

fn body(in_poll: bool) -> std::future::Ready<Result<Response<BodyPanics>, Infallible>> {
    std::future::ready(Ok(Response::new(BodyPanics { in_poll })))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_and_panics_again_when_it_is_dropped_is_isolated() {
    let handler = tower::service_fn(|_: Request<Script>| body(true));
    let mut service = CatchPanicLayer::new().layer(handler);
    let mut body = service.call(get()).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_late_body_that_panics_when_it_is_dropped_counts() {
    let timeout = Timeout::from(Duration::from_secs(1));
    let handler = tower::service_fn(|_: Request<Script>| body(false));
    let layer = TimeoutLayer::new(timeout.clone()).including_body();
    let mut body = layer.layer(handler).call(get()).await.unwrap().into_body();
    let late = body.frame().await.unwrap().unwrap_err();
    let reason = late.rejection().map(Rejection::reason);
    assert_eq!(
        reason,
        Some(Reason::Timeout),
        "the panic does not reach the connection"
    );
    assert_eq!(timeout.snapshot().timed_out, 1);
}
