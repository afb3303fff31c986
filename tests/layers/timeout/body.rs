//! Bounds after the response head, and the timeouts of callers.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use seawall::policy::Mode;
use seawall::{
    ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings, Deadline, GateLayer, Reason,
    Rejection, ResponseBodyTimeout, ResponseBodyTimeoutSettings, Timeout, TimeoutLayer,
};
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::handler::service_fn;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);

/// The frame that follows after this many tenths of a second.
#[derive(Clone, Copy, Debug)]
enum Then {
    Data,
    Status,
}

type Steps = Vec<(u32, Then)>;

fn every(tenths: u32, times: usize) -> Steps {
    vec![(tenths, Then::Data); times]
}

type Frames = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

/// Answers after this many tenths of a second, with these frames.
fn streams(
    head: u32,
    steps: Steps,
) -> impl Service<Request<Script>, Response = Response<StreamBody<Frames>>, Error = Infallible> {
    service_fn(move |request: Request<Script>| {
        let steps = steps.clone();
        async move {
            sleep(head * TENTH).await;
            let frames = stream::unfold(steps.into_iter(), async |mut steps| {
                let (tenths, then) = steps.next()?;
                sleep(tenths * TENTH).await;
                let frame = match then {
                    Then::Data => Frame::data(Bytes::from_static(b"a")),
                    Then::Status => Frame::trailers(HeaderMap::from_iter([(
                        HeaderName::from_static("grpc-status"),
                        HeaderValue::from_static("0"),
                    )])),
                };
                Some((Ok(frame), steps))
            });
            let mut response = Response::new(StreamBody::new(frames.boxed()));
            if let Some(kind) = request.headers().get("content-type") {
                response.headers_mut().insert("content-type", kind.clone());
            }
            Ok(response)
        }
    })
}

/// The layer ends a body within this time after the body is due.
const LATE: Duration = Duration::from_millis(500);

/// The end of a response.
#[derive(Debug)]
struct End {
    frames: usize,
    kind: String,
    took: Duration,
}

impl End {
    /// The number of frames, the kind of end, and the seconds until it. A body that the layer ends
    /// is due then, has delivered the frames before, and ends within half a second.
    #[track_caller]
    fn assert(&self, wanted: &str, name: impl std::fmt::Debug) {
        let kind = &self.kind;
        let is_ended = kind == "cut" || kind == "status 4";
        if !is_ended {
            let seconds = self.took.as_secs_f64();
            assert_eq!(
                format!("{}, {kind} at {seconds}", self.frames),
                wanted,
                "{name:?}"
            );
            return;
        }
        let (frames, rest) = wanted.split_once(", ").unwrap();
        let (ends, due) = rest.split_once(" at ").unwrap();
        assert_eq!(kind, ends, "{name:?}");
        // A frame takes a tenth or more: those after the time that is due are at most these.
        let frames: usize = frames.parse().unwrap();
        let most = frames + LATE.div_duration_f64(TENTH) as usize;
        assert!((frames..=most).contains(&self.frames), "{name:?}: {self:?}");
        let due = Duration::from_secs_f64(due.parse().unwrap());
        assert!(
            (due..=due + LATE).contains(&self.took),
            "{name:?}: {self:?}"
        );
    }
}

async fn ends<S, B>(mut service: S, request: Request<Script>) -> End
where
    S: Service<Request<Script>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error = seawall::BodyError>,
{
    let ((frames, kind), took) = timed(async {
        let response = service.call(request).await.unwrap();
        if response.status() != 200 {
            return (0, response.status().as_u16().to_string());
        }
        let mut body = std::pin::pin!(response.into_body());
        let mut frames = 0;
        let ended = loop {
            match body.frame().await {
                None => break "end".to_owned(),
                Some(Ok(frame)) => match frame.trailers_ref() {
                    None => frames += 1,
                    Some(trailers) => {
                        break format!("status {}", trailers["grpc-status"].to_str().unwrap());
                    }
                },
                Some(Err(error)) => {
                    let reason = error.rejection().map(Rejection::reason);
                    assert_eq!(reason, Some(Reason::Timeout));
                    break "cut".to_owned();
                }
            }
        };
        assert!(body.frame().await.is_none(), "nothing comes after its end");
        (frames, ended)
    })
    .await;
    End { frames, kind, took }
}

#[tokio::test(start_paused = true)]
async fn one_time_for_head_and_body() {
    let timeout = Timeout::from(SECOND);
    let layer = TimeoutLayer::new(timeout.clone()).including_body();
    for (name, head, steps, wanted) in [
        ("in time", 4, every(1, 3), "3, end at 0.7"),
        ("a slow head leaves less", 4, every(4, 9), "1, cut at 1"),
        ("a head that is late", 11, every(1, 1), "0, 504 at 1"),
        ("a head at once", 0, every(3, 9), "3, cut at 1"),
        (
            "a body that ends at the deadline",
            4,
            every(3, 2),
            "2, end at 1",
        ),
        ("and goes on after it", 5, every(5, 2), "1, cut at 1"),
        ("silent", 0, vec![(100, Then::Data)], "0, cut at 1"),
    ] {
        let ended = ends(layer.layer(streams(head, steps)), get()).await;
        ended.assert(wanted, name);
    }
    assert_eq!(timeout.snapshot().timed_out, 5);
    let head_only = TimeoutLayer::new(SECOND).layer(streams(4, every(3, 3)));
    ends(head_only, get()).await.assert("3, end at 1.3", ());
}

#[tokio::test(start_paused = true)]
async fn grpc_ends_with_a_status() {
    let layer = TimeoutLayer::new(SECOND).including_body();
    let with = |mut steps: Steps, tenths| {
        steps.push((tenths, Then::Status));
        steps
    };
    for (name, steps, wanted) in [
        ("in time", with(every(1, 3), 1), "3, status 0 at 0.4"),
        (
            "trailers at the deadline",
            with(every(1, 3), 7),
            "3, status 0 at 1",
        ),
        (
            "trailers after it",
            with(every(1, 3), 20),
            "3, status 4 at 1",
        ),
        ("cut", with(every(3, 9), 1), "3, status 4 at 1"),
    ] {
        let ended = ends(layer.layer(streams(0, steps)), grpc()).await;
        ended.assert(wanted, name);
    }
}

/// A body that is always ready is never pending, and is ended too. The task that ends bodies may
/// get no turn beside it.
#[tokio::test(start_paused = true)]
async fn an_endless_body_that_is_always_ready_ends() {
    let mut service =
        TimeoutLayer::new(SECOND)
            .including_body()
            .layer(service_fn(async |_: Request<Script>| {
                let frames = stream::repeat_with(|| {
                    Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"a")))
                });
                Ok::<_, Infallible>(Response::new(StreamBody::new(frames)))
            }));
    let mut body = Box::pin(service.call(get()).await.unwrap().into_body());
    // The clock moves, and no other task runs.
    let pass = || tokio_test::task::spawn(advance(Duration::from_millis(1))).poll();
    for _ in 0..1000 {
        body.frame().await.unwrap().unwrap();
        assert!(pass().is_pending());
    }
    assert!(body.frame().await.unwrap().is_ok(), "at the deadline");
    assert!(pass().is_pending());
    for n in 0..64 {
        assert!(
            body.frame().await.unwrap().is_ok(),
            "{n}: it may have been ready in time"
        );
    }
    assert!(body.frame().await.unwrap().is_err());
    assert!(body.frame().await.is_none());
}

/// After a stall of the runtime, the deadline has passed and all frames are ready: all of them are
/// delivered.
#[tokio::test(start_paused = true)]
async fn what_was_ready_when_a_stall_is_over_is_delivered() {
    for request in [get, grpc] {
        let layer = TimeoutLayer::new(SECOND).including_body();
        let script = || {
            let mut response = ok(Script::new([
                Step::Data("a"),
                Step::Data("b"),
                Step::Trailers("grpc-status", "0"),
            ]));
            let kind = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", kind);
            response
        };
        let mut service = layer.layer(service_fn(move |_: Request<Script>| async move {
            sleep(Duration::from_millis(990)).await;
            Ok::<_, Infallible>(script())
        }));
        let mut call = tokio_test::task::spawn(service.call(request()));
        tokio_test::assert_pending!(call.poll());
        advance(SECOND + Duration::from_millis(60)).await;
        let response = tokio_test::assert_ready_ok!(call.poll());
        assert_eq!(response.status(), 200);
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(collected.to_bytes(), "ab");
    }
}

/// A caller with a very short timeout cannot open the breaker for other callers.
#[tokio::test(start_paused = true)]
async fn a_caller_s_own_time_does_not_speak_against_the_service() {
    let settings = seawall::CircuitBreakerSettings::default().minimum_calls(1);
    let breaker = seawall::CircuitBreaker::new(settings).unwrap();
    let mut service = ServiceBuilder::new()
        .layer(seawall::CircuitBreakerLayer::new(breaker.clone()))
        .layer(TimeoutLayer::new(SECOND))
        .service(streams(100, every(1, 1)));
    let response = service.call(asking("1n")).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "4");
    let rejection: &Rejection = response.extensions().get().unwrap();
    assert!(!rejection.is_dependency_failure());
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.ignored, totals.failures), (1, 0));
    // The timeout of the layer was shorter: this is a failure of the service.
    service.call(asking("2S")).await.unwrap();
    assert_eq!(breaker.snapshot().totals.failures, 1);
}

/// A service that honours the caller's deadline answers shortly before the gate would.
#[tokio::test(start_paused = true)]
async fn an_answer_shortly_before_the_caller_s_deadline_does_not_speak_against_the_service() {
    for (tenths, failures) in [(8, 1), (9, 0)] {
        let service = service_fn(move |_: Request<Script>| async move {
            sleep(tenths * TENTH).await;
            let mut response = ok(Script::default().knowing_its_end());
            let headers = response.headers_mut();
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_static("4"));
            Ok::<_, Infallible>(response)
        });
        let timeout = Timeout::from(2 * SECOND);
        let fused = seawall::CircuitBreaker::default();
        let policies = (fused.clone(), timeout.clone());
        let mut gate = GateLayer::from_policy(policies).layer(service.clone());
        gate.call(asking("1S")).await.unwrap();
        let nested = seawall::CircuitBreaker::default();
        let inner = TimeoutLayer::new(timeout).layer(service);
        let mut layers = seawall::CircuitBreakerLayer::new(nested.clone()).layer(inner);
        layers.call(asking("1S")).await.unwrap();
        for breaker in [fused, nested] {
            let totals = breaker.snapshot().totals;
            assert_eq!((totals.failures, totals.ignored), (failures, 1 - failures));
        }
    }
}

/// The handler calls a dependency with a deadline of its own, which is no excuse for the handler.
#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_call_does_not_excuse_the_handler() {
    for hangs in [false, true] {
        let handler = service_fn(move |_: Request<Script>| async move {
            let dependency = service_fn(|_: Request<Script>| async {
                sleep(9 * TENTH).await;
                let mut response = ok(Script::default().knowing_its_end());
                let headers = response.headers_mut();
                headers.insert("content-type", HeaderValue::from_static("application/grpc"));
                headers.insert("grpc-status", HeaderValue::from_static("4"));
                Ok::<_, Infallible>(response)
            });
            let mut client = TimeoutLayer::new(2 * SECOND).layer(dependency);
            client.call(asking("1S")).await.unwrap();
            if hangs {
                sleep(60 * SECOND).await;
            }
            let mut response = ok(Script::default());
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            Ok::<_, Infallible>(response)
        });
        let breaker = seawall::CircuitBreaker::default();
        let policies = (breaker.clone(), Timeout::from(5 * SECOND));
        let mut service = GateLayer::from_policy(policies).layer(handler);
        let response = service.call(get()).await.unwrap();
        assert_eq!(response.status(), if hangs { 504 } else { 500 });
        assert_eq!(breaker.snapshot().totals.failures, 1);
    }
}

/// Tonic's channel has a timer of its own for the caller's deadline, and returns an error.
#[tokio::test(start_paused = true)]
async fn an_error_at_the_caller_s_deadline_does_not_speak_against_the_service() {
    for (tenths, failures) in [(9, 1), (10, 0)] {
        let service = service_fn(move |_: Request<Script>| async move {
            sleep(tenths * TENTH).await;
            Err::<Response<Script>, _>(tower::BoxError::from("the time is over"))
        });
        let breaker = seawall::CircuitBreaker::default();
        let policies = (breaker.clone(), Timeout::from(2 * SECOND));
        let mut gate = GateLayer::from_policy(policies).layer(service);
        gate.call(asking("1S")).await.unwrap_err();
        let totals = breaker.snapshot().totals;
        assert_eq!((totals.failures, totals.ignored), (failures, 1 - failures));
    }
}

/// The queue timeout and the timeout are due at the same time: the queue answers, and the breaker
/// ignores the request.
#[tokio::test(start_paused = true)]
async fn the_waiting_room_answers_before_the_time_out() {
    let limit =
        ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(8, 10 * SECOND)).unwrap();
    let _permit = limit.try_acquire_owned().unwrap();
    let mut service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(SECOND).expose_deadline())
        .layer(ConcurrencyLimitLayer::new(limit))
        .service(answers(|| ok(Script::default())));
    let call = service.call(get());
    advance(3 * TENTH).await;
    let (response, took) = timed(call).await;
    assert_eq!(reason(&response.unwrap()), Some(Reason::QueueTimeout));
    assert_eq!(took, 7 * TENTH);
    // Before the caller's own deadline, both end a little earlier.
    for micros in [0, 1, 500, 999] {
        advance(Duration::from_micros(micros)).await;
        let (response, took) = timed(service.call(asking("100m"))).await;
        assert_eq!(reason(&response.unwrap()), Some(Reason::QueueTimeout));
        assert!(took <= TENTH, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_may_live_long_but_not_be_silent_for_long() {
    let idle = TimeoutLayer::new(SECOND)
        .response_body_timeout(ResponseBodyTimeoutSettings::default().idle_timeout(SECOND / 2));
    for (name, head, steps, wanted) in [
        ("long", 9, every(4, 100), "100, end at 40.9"),
        ("silent at once", 9, vec![(20, Then::Data)], "0, cut at 1.4"),
        (
            "silent later",
            0,
            vec![(4, Then::Data), (20, Then::Data)],
            "1, cut at 0.9",
        ),
        ("at the boundary", 0, every(5, 3), "3, end at 1.5"),
    ] {
        let ended = ends(idle.layer(streams(head, steps)), get()).await;
        ended.assert(wanted, name);
    }
    let both = TimeoutLayer::new(SECOND).response_body_timeout(
        ResponseBodyTimeoutSettings::default()
            .deadline(true)
            .idle_timeout(SECOND / 2),
    );
    let ended = ends(both.layer(streams(0, every(4, 9))), get()).await;
    ended.assert("2, cut at 1", ());
    let silent = vec![(4, Then::Data), (20, Then::Data)];
    let ended = ends(both.layer(streams(0, silent)), get()).await;
    ended.assert("1, cut at 0.9", ());
    let no_limit = TimeoutLayer::new(SECOND)
        .response_body_timeout(ResponseBodyTimeoutSettings::default().idle_timeout(Duration::ZERO));
    let ended = ends(no_limit.layer(streams(0, every(90, 2))), get()).await;
    ended.assert("2, end at 18", ());
    let never = TimeoutLayer::new(Duration::MAX).including_body();
    let ended = ends(never.layer(streams(9, every(90, 2))), get()).await;
    ended.assert("2, end at 18.9", ());
}

/// The bounds change for responses whose head comes later, also those that are already in a layer.
#[tokio::test(start_paused = true)]
async fn the_bounds_change_while_the_server_runs() {
    let settings = ResponseBodyTimeoutSettings::default;
    let timeout = Timeout::from(SECOND).named("api");
    let bodies = ResponseBodyTimeout::new(settings()).unwrap();
    let layer = TimeoutLayer::new(timeout.clone()).response_body_timeout(bodies.clone());
    let silent = || vec![(4, Then::Data), (90, Then::Data)];
    let over_grpc = || vec![(4, Then::Data), (90, Then::Status)];
    let both = async || {
        let http = ends(layer.layer(streams(0, silent())), get()).await;
        (
            http,
            ends(layer.layer(streams(0, over_grpc())), grpc()).await,
        )
    };
    for (settings, http, over_grpc) in [
        (settings(), "2, end at 9.4", "1, status 0 at 9.4"),
        (settings().deadline(true), "1, cut at 1", "1, status 4 at 1"),
        (
            settings().idle_timeout(SECOND / 2),
            "1, cut at 0.9",
            "1, status 4 at 0.9",
        ),
        (
            ResponseBodyTimeoutSettings::client(),
            "2, end at 9.4",
            "1, status 0 at 9.4",
        ),
        (
            ResponseBodyTimeoutSettings::client().idle_timeout(SECOND / 2),
            "1, cut at 0.9",
            "1, status 0 at 9.4",
        ),
        (
            ResponseBodyTimeoutSettings::server().idle_timeout(SECOND),
            "1, cut at 1.4",
            "1, status 4 at 1.4",
        ),
    ] {
        bodies.set(settings.clone()).unwrap();
        assert_eq!(bodies.settings(), settings);
        let ended = both().await;
        ended.0.assert(http, &settings);
        ended.1.assert(over_grpc, &settings);
    }
    assert_eq!(timeout.snapshot().timed_out, 7);
    let now = bodies.snapshot();
    assert_eq!((now.deadline, now.idle_timeout), (false, Some(SECOND)));
    assert_eq!(now.progress_timeout, Some(60 * SECOND));
}

/// In a gate of your own, the timeout beside it counts too.
#[tokio::test(start_paused = true)]
async fn the_timeout_of_the_same_gate_counts_bodies() {
    let idle = ResponseBodyTimeoutSettings::default().idle_timeout(SECOND / 2);
    let bodies = ResponseBodyTimeout::new(idle.clone()).unwrap();
    let timeout = Timeout::from(SECOND);
    let layer = GateLayer::from_policy((bodies, timeout.clone()));
    let silent = vec![(20, Then::Data)];
    let ended = ends(layer.layer(streams(0, silent)), get()).await;
    ended.assert("0, cut at 0.5", ());
    assert_eq!(timeout.snapshot().timed_out, 1);
    // A shorter timeout of another policy does not take those of a layer or stack.
    let layer = TimeoutLayer::new(timeout.clone()).response_body_timeout(idle);
    let layer = GateLayer::from_policy((layer.policy().clone(), Timeout::from(SECOND / 2)));
    let silent = vec![(20, Then::Data)];
    let ended = ends(layer.layer(streams(0, silent)), get()).await;
    ended.assert("0, cut at 0.5", ());
    assert_eq!(timeout.snapshot().timed_out, 2);
}

/// The progress timeout changes too, also for the responses that are being sent.
#[tokio::test(start_paused = true)]
async fn the_progress_timeout_changes_while_the_server_runs() {
    let progress = |time| ResponseBodyTimeoutSettings::default().progress_timeout(time);
    let bodies = ResponseBodyTimeout::new(progress(None)).unwrap();
    let (timeout, limit) = (Timeout::from(SECOND), ConcurrencyLimit::from(10));
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(timeout.clone()).response_body_timeout(bodies.clone()))
        .layer(ConcurrencyLimitLayer::new(limit.clone()))
        .service(answers(|| ok(Script::new(vec![Step::Data("abc"); 100]))));
    let ended = || (limit.in_flight(), timeout.snapshot().timed_out);
    let unread = async || service.clone().oneshot(get()).await.unwrap();
    // None, one that is later turned off, and one that is then shortened.
    for (first, then, expected) in [
        (None, None, (1, 0)),
        (Some(2 * SECOND), None, (1, 0)),
        (Some(2 * SECOND), Some(Duration::ZERO), (1, 0)),
        (Some(2 * SECOND), Some(2 * SECOND), (0, 1)),
        (Some(3600 * SECOND), Some(2 * SECOND), (0, 2)),
    ] {
        bodies.set(progress(first)).unwrap();
        let response = unread().await;
        sleep(SECOND).await;
        bodies.set(progress(then)).unwrap();
        sleep(3 * SECOND).await;
        assert_eq!(ended(), expected, "{first:?} {then:?}");
        drop(response);
        assert_eq!(limit.in_flight(), 0);
    }
}

/// A response without bounds gets one with its next frame. Over gRPC, it ends with a status.
#[tokio::test(start_paused = true)]
async fn a_new_progress_timeout_ends_a_grpc_response_of_known_size() {
    let progress = |time| ResponseBodyTimeoutSettings::default().progress_timeout(time);
    let bodies = ResponseBodyTimeout::new(progress(None)).unwrap();
    let layer = TimeoutLayer::new(SECOND).response_body_timeout(bodies.clone());
    let steps = [
        Step::Data("abc"),
        Step::Data("def"),
        Step::Trailers("grpc-status", "0"),
    ];
    let service = layer.layer(answers(move || {
        let mut response = ok(Script::new(steps.clone()).exact(6));
        let content_type = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", content_type);
        response
    }));
    let response = service.oneshot(grpc()).await.unwrap();
    bodies.set(progress(Some(2 * SECOND))).unwrap();
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    sleep(4 * SECOND).await;
    let rest = body.collect().await.unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "4");
    assert_eq!(rest.to_bytes(), "");
}

/// The drain of a stack counts a response without bounds. A new progress timeout applies to it,
/// also while the switch is off.
#[tokio::test(start_paused = true)]
async fn a_new_progress_timeout_ends_a_response_that_a_drain_counts() {
    for mode in [Mode::Enforce, Mode::Off] {
        let stack = seawall::server()
            .response_body_timeout(ResponseBodyTimeoutSettings::default())
            .build()
            .unwrap();
        let service = stack.layer(answers(|| ok(Script::new(vec![Step::Data("abc"); 100]))));
        let response = service.oneshot(get()).await.unwrap();
        sleep(10 * SECOND).await;
        let progress = ResponseBodyTimeoutSettings::default().progress_timeout(2 * SECOND);
        stack.response_body_timeout().set(progress).unwrap();
        stack.switches().response_body_timeout.set(mode);
        assert_eq!(stack.drain().in_flight(), 1);
        sleep(3 * SECOND).await;
        assert_eq!(stack.drain().in_flight(), 0, "{mode}");
        assert_eq!(stack.timeout().snapshot().timed_out, 1);
        drop(response);
    }
}

#[tokio::test(start_paused = true)]
async fn nested_the_shorter_wins() {
    for (outer, inner) in [(2, 1), (1, 2)] {
        let of = |seconds: u32| TimeoutLayer::new(seconds * SECOND).including_body();
        let stack = ServiceBuilder::new().layer(of(outer)).layer(of(inner));
        let service = stack.service(streams(0, every(3, 99)));
        ends(service, get()).await.assert("3, cut at 1", ());
    }
}

pub(super) fn asking(value: &'static str) -> Request<Script> {
    let mut request = grpc();
    let value = HeaderValue::from_static(value);
    request.headers_mut().insert("grpc-timeout", value);
    request
}

#[tokio::test(start_paused = true)]
async fn a_caller_s_time_counts_where_it_is_shorter() {
    let timeout = Timeout::from(SECOND);
    let layer = TimeoutLayer::new(timeout.clone()).including_body();
    let late = || layer.layer(streams(100, every(1, 1)));
    let waits = async |request| {
        let (response, took) = timed(late().call(request)).await;
        let status = response.unwrap().headers()["grpc-status"].clone();
        assert_eq!(status, "4");
        took
    };
    assert_eq!(waits(asking("300m")).await, Duration::from_millis(300));
    assert_eq!(waits(asking("2S")).await, SECOND);
    assert_eq!(timeout.snapshot().malformed, 0);
    for (n, malformed) in (1..).zip(["", "1", "1x", "123456789n", "-1S"]) {
        assert_eq!(waits(asking(malformed)).await, SECOND, "{malformed:?}");
        assert_eq!(timeout.snapshot().malformed, n);
    }
    // Over plain HTTP, the header has no meaning.
    let mut request = asking("300m");
    request.headers_mut().remove("content-type");
    let (response, took) = timed(late().call(request)).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (504, SECOND));
    let ended = ends(layer.layer(streams(1, every(1, 9))), asking("500m")).await;
    ended.assert("4, status 4 at 0.5", ());
}

/// The time starts with the call and not with its first poll: tonic's server has a timer around
/// this crate that starts then, and would answer `CANCELLED`.
#[tokio::test(start_paused = true)]
async fn a_caller_s_time_runs_at_once() {
    let mut service = TimeoutLayer::new(SECOND).layer(streams(100, every(1, 1)));
    let call = service.call(asking("300m"));
    advance(2 * TENTH).await;
    let (response, took) = timed(call).await;
    assert_eq!(
        (&response.unwrap().headers()["grpc-status"], took),
        (&HeaderValue::from_static("4"), TENTH)
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_works_on_it_sees_when_it_is_due() {
    let sees = service_fn(async |request: Request<Script>| {
        sleep(TENTH).await;
        let deadline: Option<&Deadline> = request.extensions().get();
        let mut response = ok(Script::default());
        if let Some(deadline) = deadline {
            let headers = response.headers_mut();
            headers.insert(
                "left",
                format!("{:?}", deadline.remaining()).parse().unwrap(),
            );
            headers.insert("grpc-timeout", deadline.to_grpc_timeout());
        }
        Ok::<_, Infallible>(response)
    });
    let of = |seconds: u32| TimeoutLayer::new(seconds * SECOND).expose_deadline();
    let response = of(1).layer(sees.clone()).call(get()).await.unwrap();
    assert_eq!(response.headers()["left"], "900ms");
    assert_eq!(response.headers()["grpc-timeout"], "900000u");
    // The shortest of all timeouts applies, wherever it is set.
    let mut nested = ServiceBuilder::new()
        .layer(of(1))
        .layer(of(2))
        .service(sees.clone());
    assert_eq!(nested.call(get()).await.unwrap().headers()["left"], "900ms");
    let mut nested = ServiceBuilder::new()
        .layer(of(2))
        .layer(of(1))
        .service(sees.clone());
    assert_eq!(nested.call(get()).await.unwrap().headers()["left"], "900ms");
    let response = of(5).layer(sees.clone()).call(asking("1S")).await.unwrap();
    assert_eq!(response.headers()["left"], "900ms");
    let none = TimeoutLayer::new(Duration::MAX).expose_deadline();
    let response = none.layer(sees.clone()).call(get()).await.unwrap();
    assert!(!response.headers().contains_key("left"));
    let quiet = TimeoutLayer::new(SECOND)
        .layer(sees.clone())
        .call(get())
        .await
        .unwrap();
    assert!(!quiet.headers().contains_key("left"));

    assert_eq!(Deadline::after(Duration::ZERO).to_grpc_timeout(), "1n");
    assert_eq!(
        Deadline::after(Duration::MAX).to_grpc_timeout(),
        "15768000M"
    );
}

/// No request waits for a permit longer than until its deadline.
#[tokio::test(start_paused = true)]
async fn the_waiting_room_knows_the_deadline() {
    let limit =
        ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(8, 10 * SECOND)).unwrap();
    let _permit = limit.try_acquire().unwrap();
    let mut inside =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::default())));
    let mut request = get();
    request.extensions_mut().insert(Deadline::after(SECOND));
    let (response, took) = timed(inside.call(request)).await;
    assert_eq!(
        (reason(&response.unwrap()), took),
        (Some(Reason::QueueTimeout), SECOND)
    );
    let mut request = get();
    request
        .extensions_mut()
        .insert(Deadline::after(Duration::ZERO));
    let (response, took) = timed(inside.call(request)).await;
    assert_eq!(
        (reason(&response.unwrap()), took),
        (Some(Reason::QueueTimeout), Duration::ZERO)
    );
    assert_eq!(limit.queued(), 0);
}

/// A call that is ready at once uses neither a timer nor a runtime.
#[test]
fn what_is_ready_costs_no_timer() {
    let layer = TimeoutLayer::new(SECOND).response_body_timeout(
        ResponseBodyTimeoutSettings::default()
            .deadline(true)
            .idle_timeout(SECOND),
    );
    let mut service = layer.layer(answers(|| ok(Script::data(&["a", "b"]))));
    let mut call = tokio_test::task::spawn(service.call(get()));
    let response = tokio_test::assert_ready_ok!(call.poll());
    let mut collect = tokio_test::task::spawn(response.into_body().collect());
    assert_eq!(
        tokio_test::assert_ready_ok!(collect.poll()).to_bytes(),
        "ab"
    );
}
