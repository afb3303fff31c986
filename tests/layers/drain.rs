//! The states of a drain.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use seawall::policy::Mode;
use seawall::{
    BodyError, Drain, DrainLayer, DrainSettings, DrainState, Reason, Rejection,
    ResponseBodyTimeoutSettings,
};
use tokio::time::{advance, sleep};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};

use crate::handler::service_fn;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);
/// The shortest lame-duck time.
const LAME_DUCK: Duration = SECOND;
const GRACE: Duration = Duration::from_secs(10);
/// The longest time for the end of bodies after the grace period.
const FLUSH: Duration = Duration::from_millis(750);

fn drain() -> Drain {
    Drain::new(LAME_DUCK).unwrap()
}

/// A body of unknown length that never ends.
fn endless() -> Response<Script> {
    ok(Script::new(vec![Step::Data("abc"); 1000]))
}

fn silent() -> Response<Script> {
    ok(Script::new([Step::Data("abc"), Step::Silent]))
}

async fn call(
    drain: &Drain,
    request: Request<Script>,
    response: fn() -> Response<Script>,
) -> Response<Pin<Box<impl Body<Data = Bytes, Error = BodyError> + use<>>>> {
    let layer = DrainLayer::new(drain.clone());
    let service = layer.layer(answers(response));
    service.oneshot(request).await.unwrap().map(Box::pin)
}

fn connection<B>(response: &Response<B>) -> Option<&str> {
    let value = response.headers().get("connection")?;
    Some(value.to_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn it_serves_then_closes_then_rejects() {
    let drain = drain();
    let whole = || ok(Script::data(&["abc"]));
    let response = call(&drain, get(), whole).await;
    assert_eq!(
        (response.status().as_u16(), connection(&response)),
        (200, None)
    );
    drop(response);
    assert_eq!(
        (drain.state(), drain.is_draining()),
        (DrainState::Serving, false)
    );

    drain.begin();
    assert_eq!(
        (drain.state(), drain.is_draining()),
        (DrainState::LameDuck, true)
    );
    for _ in 0..2 {
        let response = call(&drain, get(), whole).await;
        assert_eq!(response.status(), 200);
        assert_eq!(connection(&response), Some("close"));
        let response = call(&drain, http2(), whole).await;
        assert_eq!(
            (response.status().as_u16(), connection(&response)),
            (200, None)
        );
        advance((LAME_DUCK / 2).saturating_sub(MILLI)).await;
    }
    advance(2 * MILLI).await;

    assert_eq!(
        (drain.state(), drain.is_draining()),
        (DrainState::Rejecting, true)
    );
    let response = call(&drain, get(), whole).await;
    assert_eq!(response.status(), 503);
    assert_eq!(reason(&response), Some(Reason::Draining));
    assert_eq!(connection(&response), Some("close"));
    assert!(!response.headers().contains_key("retry-after"));
    let response = call(&drain, http2(), whole).await;
    assert_eq!(
        (response.status().as_u16(), connection(&response)),
        (503, None)
    );
    let response = call(&drain, grpc(), whole).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "14");
    assert!(!response.headers().contains_key("grpc-retry-pushback-ms"));
    let now = drain.snapshot();
    assert_eq!(
        (now.state, now.in_flight, now.rejected),
        (DrainState::Rejecting, 0, 3)
    );
}

/// A request that arrived before the drain has its head after it began.
#[tokio::test(start_paused = true)]
async fn a_late_head_closes_the_connection() {
    let drain = drain();
    let late = service_fn(async |_: Request<Script>| {
        sleep(2 * LAME_DUCK).await;
        Ok::<_, Infallible>(ok(Script::default()))
    });
    let service = DrainLayer::new(drain.clone()).layer(late);
    let begins = async {
        sleep(LAME_DUCK / 2).await;
        drain.begin();
    };
    let (response, ()) = tokio::join!(service.oneshot(get()), begins);
    let response = response.unwrap();
    assert_eq!(drain.state(), DrainState::Rejecting);
    assert_eq!(
        (response.status().as_u16(), connection(&response)),
        (200, Some("close"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_keeps_its_connection_header() {
    let drain = drain();
    drain.begin();
    let upgrade = || {
        let response = Response::builder()
            .status(101)
            .header("connection", "upgrade");
        response.body(Script::default()).unwrap()
    };
    let response = call(&drain, get(), upgrade).await;
    assert_eq!(connection(&response), Some("upgrade"));
    let kept = || {
        let response = Response::builder().header("connection", "keep-alive");
        response.body(Script::default()).unwrap()
    };
    let response = call(&drain, get(), kept).await;
    assert_eq!(connection(&response), Some("close"), "replaced");
}

/// It waits for the begin of the drain, for the lame-duck time, and for the last body, not only for
/// its head.
#[tokio::test(start_paused = true)]
async fn it_waits_for_the_last_body() {
    let drain = drain();
    let mut idle = tokio_test::task::spawn(drain.wait_idle(GRACE));
    assert!(idle.poll().is_pending());
    advance(10 * GRACE).await;
    assert!(idle.poll().is_pending(), "it has not begun");

    drain.begin();
    assert!(idle.is_woken());
    assert!(idle.poll().is_pending(), "requests may still come");
    let (one, two) = (
        call(&drain, get(), silent).await,
        call(&drain, get(), silent).await,
    );
    drop(one);
    advance(LAME_DUCK).await;
    assert!(idle.poll().is_pending());
    advance(GRACE.saturating_sub(MILLI)).await;
    assert!(idle.poll().is_pending());
    assert_eq!(drain.in_flight(), 1);
    drop(two);
    assert!(idle.is_woken());
    let std::task::Poll::Ready(report) = idle.poll() else {
        panic!("it is idle")
    };
    assert_eq!((report.cut, report.left, report.is_clean()), (0, 0, true));
}

#[tokio::test(start_paused = true)]
async fn without_requests_it_is_idle_after_the_lame_duck_time() {
    let drain = drain();
    drain.begin();
    let (report, took) = timed(drain.wait_idle(GRACE)).await;
    assert_eq!((report.is_clean(), took), (true, LAME_DUCK));
    // A second call returns at once.
    let (report, took) = timed(drain.wait_idle(GRACE)).await;
    assert_eq!((report.is_clean(), took), (true, Duration::ZERO));
}

/// Rejected requests do not delay it: they are not in flight.
#[tokio::test(start_paused = true)]
async fn rejected_requests_are_not_waited_for() {
    let drain = drain();
    drain.begin();
    sleep(LAME_DUCK).await;
    let response = call(&drain, get(), silent).await;
    assert_eq!((response.status().as_u16(), drain.in_flight()), (503, 0));
    let (report, took) = timed(drain.wait_idle(GRACE)).await;
    assert_eq!((report.is_clean(), took), (true, Duration::ZERO));
}

/// Bodies that no client reads, a body that a client reads without an end, and silent bodies.
#[tokio::test(start_paused = true)]
async fn bodies_are_cut_when_the_grace_period_is_over() {
    let drain = drain();
    let [unread, silent, busy, trailers] = [
        (get(), endless as fn() -> _),
        (get(), silent),
        (http2(), endless),
        (grpc(), || endless().map(Script::knowing_its_end)),
    ]
    .map(|(request, response)| {
        let is_grpc = request.headers().contains_key("content-type");
        let drain = drain.clone();
        async move {
            let layer = DrainLayer::new(drain);
            let service = answers(move || {
                let mut response = response();
                if is_grpc {
                    let grpc = "application/grpc".parse().unwrap();
                    response.headers_mut().insert("content-type", grpc);
                }
                response
            });
            let response = layer.layer(service).oneshot(request).await.unwrap();
            Box::pin(response.into_body())
        }
    });
    let (mut unread, mut silent, mut busy, mut trailers) =
        tokio::join!(unread, silent, busy, trailers);
    assert_eq!(drain.in_flight(), 4);
    drain.begin();
    let mut idle = tokio_test::task::spawn(drain.wait_idle(GRACE));
    assert!(idle.poll().is_pending());
    advance(LAME_DUCK).await;
    assert!(idle.poll().is_pending());
    // Nothing is cut before the end.
    let almost = GRACE.saturating_sub(MILLI);
    let frame = silent.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "abc");
    advance(almost).await;
    tokio::task::yield_now().await;
    assert!(idle.poll().is_pending());
    assert_eq!((drain.in_flight(), drain.snapshot().cut), (4, 0));
    busy.frame().await.unwrap().unwrap();
    trailers.frame().await.unwrap().unwrap();

    advance(2 * MILLI).await;
    assert!(idle.poll().is_pending());
    // A body that is read ends with its next frame.
    let error = busy.frame().await.unwrap().unwrap_err();
    assert_eq!(
        error.rejection().map(Rejection::reason),
        Some(Reason::Draining)
    );
    assert!(busy.frame().await.is_none());
    let frame = trailers.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap()["grpc-status"], "14");
    assert_eq!((drain.in_flight(), drain.snapshot().cut), (2, 2));
    // The others are ended from outside.
    let report = idle.await;
    assert_eq!((report.cut, report.left, report.is_clean()), (4, 0, false));
    let silence = silent.frame().await.unwrap().unwrap_err();
    assert_eq!(
        silence.rejection().map(Rejection::reason),
        Some(Reason::Draining)
    );
    assert!(unread.frame().await.unwrap().is_err());
    let now = drain.snapshot();
    assert_eq!((now.cut, now.rejected), (4, 0), "they were admitted");
}

/// Work that has no body to end is reported: a handler, a small response, a permit.
#[tokio::test(start_paused = true)]
async fn what_still_runs_after_the_grace_period_is_reported() {
    let drain = drain();
    let layer = DrainLayer::new(drain.clone());
    let pending = service_fn(async |_: Request<Script>| {
        std::future::pending::<()>().await;
        Ok::<_, Infallible>(ok(Script::default()))
    });
    let mut handler = tokio_test::task::spawn(layer.layer(pending).oneshot(get()));
    assert!(handler.poll().is_pending());
    let small = call(&drain, get(), || ok(Script::new([Step::Silent]).exact(3))).await;
    let permit = drain.try_acquire().unwrap();
    drain.begin();
    let (report, took) = timed(drain.wait_idle(GRACE)).await;
    assert_eq!((report.cut, report.left), (0, 3));
    assert_eq!(took, LAME_DUCK + GRACE + FLUSH);
    drop((handler, small, permit));
    assert_eq!(drain.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_small_body_is_over_with_its_last_frame() {
    let drain = drain();
    let small = || ok(Script::data(&["abc"]).exact(3).knowing_its_end());
    let mut body = call(&drain, get(), small).await.into_body();
    assert_eq!(drain.in_flight(), 1);
    body.frame().await.unwrap().unwrap();
    assert_eq!(drain.in_flight(), 0);
}

/// A request is not in flight after any end.
#[tokio::test(start_paused = true)]
async fn every_end_is_an_end() {
    let drain = drain();
    let layer = DrainLayer::new(drain.clone());
    for step in [
        Step::Error,
        Step::Panic,
        Step::Data("abc"),
        Step::Trailers("a", "b"),
    ] {
        let service = layer.layer(answers(move || ok(Script::new([step.clone()]))));
        let body = service.oneshot(get()).await.unwrap().into_body();
        assert_eq!(drain.in_flight(), 1);
        let collected = tokio::spawn(body.collect()).await;
        drop(collected);
        assert_eq!(drain.in_flight(), 0);
    }
    let never = service_fn(async |_: Request<Script>| {
        sleep(SECOND).await;
        unwind();
        #[expect(unreachable_code, reason = "the type of the response")]
        Ok::<_, Infallible>(ok(Script::default()))
    });
    let mut dropped = tokio_test::task::spawn(layer.layer(never.clone()).oneshot(get()));
    assert!(dropped.poll().is_pending());
    assert_eq!(drain.in_flight(), 1);
    drop(dropped);
    assert_eq!(drain.in_flight(), 0);
    let panicked = tokio::spawn(layer.layer(never).oneshot(get())).await;
    assert!(panicked.is_err());
    assert_eq!(drain.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_begins_once_and_from_any_thread() {
    let drain = drain();
    let mut before = tokio_test::task::spawn(drain.started());
    assert!(before.poll().is_pending());
    let other = drain.clone();
    // Outside a runtime, the clock is not paused, and this drain does not read it.
    std::thread::spawn(move || drop(other.started()))
        .join()
        .unwrap();
    drain.begin();
    assert!(before.is_woken());
    for _ in 0..2 {
        assert!(before.poll().is_ready(), "it stays ready");
    }
    drain.started().await;
    advance(LAME_DUCK / 2).await;
    drain.begin();
    advance(LAME_DUCK / 2).await;
    assert_eq!(drain.state(), DrainState::Rejecting);
}

#[test]
fn it_begins_on_a_thread_without_a_runtime() {
    let drain = Drain::default();
    let other = drain.clone();
    std::thread::spawn(move || other.begin()).join().unwrap();
    assert_eq!(drain.state(), DrainState::LameDuck);
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_waited_for() {
    let drain = drain();
    let permit = drain.try_acquire_owned().unwrap();
    drain.begin();
    let late = drain.try_acquire_owned().expect("it still serves");
    assert_eq!(drain.in_flight(), 2);
    tokio::spawn(async move {
        sleep(LAME_DUCK + SECOND).await;
        drop((permit, late));
    });
    let (report, took) = timed(drain.wait_idle(GRACE)).await;
    assert_eq!((report.is_clean(), took), (true, LAME_DUCK + SECOND));
    let rejection = drain.try_acquire().unwrap_err();
    assert_eq!(rejection.reason(), Reason::Draining);
    assert_eq!((rejection.retry_after(), drain.in_flight()), (None, 0));
    assert_eq!(drain.snapshot().rejected, 1);
}

#[test]
fn settings_are_checked_and_read_back() {
    let drain = Drain::default();
    assert_eq!(drain.settings(), DrainSettings::default());
    assert_eq!(drain.settings().lame_duck, 5 * SECOND);
    let day = 24 * 60 * 60 * SECOND;
    drain.set(day.into()).unwrap();
    assert_eq!(drain.settings().lame_duck, day);
    for wrong in [
        SECOND.saturating_sub(Duration::from_nanos(1)),
        day + Duration::from_nanos(1),
    ] {
        let error = drain.set(wrong.into()).unwrap_err();
        assert_eq!(error.field(), "lame_duck");
        assert!(Drain::new(wrong).is_err());
    }
    assert_eq!(drain.settings().lame_duck, day);
}

#[cfg(feature = "serde")]
#[test]
fn settings_and_snapshots_are_serialized() {
    let settings = DrainSettings::default().lame_duck(7 * SECOND);
    let text = toml::to_string(&settings).unwrap();
    assert_eq!(text, "lame_duck = \"7s\"\n");
    assert_eq!(toml::from_str::<DrainSettings>(&text).unwrap(), settings);
    assert_eq!(
        toml::from_str::<DrainSettings>("").unwrap(),
        DrainSettings::default()
    );
    assert!(toml::from_str::<DrainSettings>("lame_dug = \"7s\"").is_err());
    let drain = Drain::new(settings).unwrap();
    drain.begin();
    let json = serde_json::to_value(drain.snapshot()).unwrap();
    assert_eq!(json["state"], "lame_duck");
    assert_eq!(json["in_flight"], 0);
}

/// A change has no effect on a drain that has begun.
#[tokio::test(start_paused = true)]
async fn a_drain_that_has_begun_keeps_its_time() {
    let drain = drain();
    drain.begin();
    drain.set((10 * LAME_DUCK).into()).unwrap();
    advance(LAME_DUCK).await;
    assert_eq!(drain.state(), DrainState::Rejecting);
}

#[tokio::test(start_paused = true)]
async fn in_a_stack_it_can_be_exempted_replaced_and_switched_off() {
    let drain = drain();
    let stack = seawall::server()
        .named("test")
        .drain(drain.clone())
        .exempt(|head| head.path() == "/health")
        .build()
        .unwrap();
    let mut service = stack.layer(service_fn(
        async |_: Request<seawall::RequestBody<Script>>| Ok::<_, Infallible>(silent()),
    ));
    let at = |path: &str| {
        let mut request = get();
        *request.uri_mut() = path.parse().unwrap();
        request
    };
    let health = service.call(at("/health")).await.unwrap();
    assert_eq!(drain.in_flight(), 0, "exempt");
    let body = service.call(at("/")).await.unwrap();
    assert_eq!((drain.in_flight(), stack.drain().in_flight()), (1, 1));
    drop((health, body));

    drain.begin();
    let health = service.call(at("/health")).await.unwrap();
    assert_eq!((health.status().as_u16(), connection(&health)), (200, None));
    let response = service.call(at("/")).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), connection(&response)),
        (200, Some("close"))
    );
    drop(response);
    advance(LAME_DUCK).await;
    assert_eq!(service.call(at("/health")).await.unwrap().status(), 200);
    let response = service.call(at("/")).await.unwrap();
    assert_eq!(reason(&response), Some(Reason::Draining));
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!((rejection.layer(), rejection.name()), ("drain", "test"));
    let now = stack.snapshot().drain;
    assert_eq!((now.mode, now.state.rejected), (Mode::Enforce, 1));

    stack.switches().drain.set(Mode::Off);
    let response = service.call(at("/")).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), connection(&response)),
        (200, None)
    );
    assert_eq!(drain.in_flight(), 0);
}

/// In the lame-duck time, every answer of the stack closes the connection, not only those of the
/// handler.
#[tokio::test(start_paused = true)]
async fn in_the_lame_duck_time_rejections_close_the_connection() {
    let drain = drain();
    let stack = seawall::server()
        .drain(drain.clone())
        .timeout(10 * MILLI)
        .concurrency_limit(1)
        .request_body_limit(5)
        .build()
        .unwrap();
    let mut service = stack.layer(service_fn(
        async |request: Request<seawall::RequestBody<Script>>| match request.uri().path() {
            "/panics" => unwind(),
            "/hangs" => std::future::pending().await,
            _ => Ok::<_, Infallible>(silent()),
        },
    ));
    let at = |path: &str, mut request: Request<Script>| {
        *request.uri_mut() = path.parse().unwrap();
        request
    };
    let large = || post(Script::data(&["too large"]).exact(9));
    for (begun, expected) in [(false, None), (true, Some("close"))] {
        if begun {
            drain.begin();
        }
        for (request, why) in [
            (at("/panics", get()), Reason::Panicked),
            (at("/hangs", get()), Reason::Timeout),
            (large(), Reason::BodyTooLarge),
        ] {
            let response = service.call(request).await.unwrap();
            assert_eq!(reason(&response), Some(why));
            if begun || why != Reason::BodyTooLarge {
                assert_eq!(connection(&response), expected, "{why:?}");
            }
        }
        let held = service.call(get()).await.unwrap();
        for (request, expected) in [(get(), expected), (http2(), None)] {
            let response = service.call(request).await.unwrap();
            assert_eq!(reason(&response), Some(Reason::ConcurrencyLimit));
            assert_eq!(connection(&response), expected);
        }
        drop(held);
    }
}

/// The bodies of a stack are cut even without a progress timeout.
#[tokio::test(start_paused = true)]
async fn a_stack_without_a_progress_timeout_cuts_bodies() {
    let stack = seawall::server()
        .drain(drain())
        .response_body_timeout(ResponseBodyTimeoutSettings::default())
        .build()
        .unwrap();
    let service = stack.layer(service_fn(
        async |_: Request<seawall::RequestBody<Script>>| Ok::<_, Infallible>(endless()),
    ));
    let response = service.oneshot(get()).await.unwrap();
    stack.drain().begin();
    let report = stack.drain().wait_idle(GRACE).await;
    assert_eq!((report.cut, report.left), (1, 0));
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn over_plain_it_returns_rejections() {
    let drain = drain();
    let layer = DrainLayer::new(drain.clone()).plain();
    let mut service = ServiceBuilder::new()
        .layer(layer)
        .service_fn(async |n: u32| Ok::<_, BoxError>(n + 1));
    assert_eq!(service.call(1).await.unwrap(), 2);
    drain.begin();
    assert_eq!(service.call(1).await.unwrap(), 2);
    advance(LAME_DUCK).await;
    let error = service.call(1).await.unwrap_err();
    let reason = Rejection::find(&*error).map(Rejection::reason);
    assert_eq!(reason, Some(Reason::Draining));
}

/// The future of a server, as `serve` sees it.
mod serve {
    use super::*;

    type Ended = Result<(), BoxError>;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_ends_early_ends_it() {
        let drain = drain();
        let report = drain.serve(async |_| Ended::Ok(()), GRACE).await.unwrap();
        assert!(report.is_clean());
        let error = drain
            .serve(async |_| Ended::Err("bind".into()), GRACE)
            .await;
        assert_eq!(error.unwrap_err().to_string(), "bind");
    }

    #[tokio::test(start_paused = true)]
    async fn the_signal_comes_when_the_lame_duck_time_is_over() {
        let drain = drain();
        let seen = Mutex::new(None);
        let served = drain.serve(
            async |shutdown| {
                shutdown.await;
                *seen.lock().unwrap() = Some(drain.state());
                Ended::Ok(())
            },
            GRACE,
        );
        let begins = async {
            sleep(SECOND).await;
            drain.begin();
        };
        let ((served, took), ()) = tokio::join!(timed(served), begins);
        assert!(served.unwrap().is_clean());
        assert_eq!(took, SECOND + LAME_DUCK);
        assert_eq!(*seen.lock().unwrap(), Some(DrainState::Rejecting));
    }

    /// A client sends requests until it reads the signal.
    #[tokio::test(start_paused = true)]
    async fn requests_under_way_are_served_for_a_second_after_the_signal() {
        let drain = drain();
        drain.begin();
        let served = drain.serve(
            async |shutdown| {
                shutdown.await;
                assert!(drain.try_acquire().is_ok());
                sleep(Duration::from_millis(999)).await;
                assert!(drain.try_acquire().is_ok());
                sleep(Duration::from_millis(1)).await;
                assert!(drain.try_acquire().is_err());
                Ended::Ok(())
            },
            GRACE,
        );
        assert!(served.await.unwrap().is_clean());
    }

    /// A listener that starts when the drain is over.
    #[tokio::test(start_paused = true)]
    async fn a_drain_that_rejects_goes_on_rejecting() {
        let drain = drain();
        drain.begin();
        assert!(drain.wait_idle(GRACE).await.is_clean());
        let served = drain.serve(
            async |shutdown| {
                assert!(drain.try_acquire().is_err());
                shutdown.await;
                Ended::Ok(())
            },
            GRACE,
        );
        assert!(served.await.unwrap().is_clean());
    }

    /// It waits until no request can follow.
    #[tokio::test(start_paused = true)]
    async fn beside_a_server_a_waiting_task_waits_for_the_last_second_too() {
        let drain = drain();
        drain.begin();
        let served = drain.serve(
            async |shutdown| {
                shutdown.await;
                sleep(SECOND / 2).await;
                let permit = drain.try_acquire().unwrap();
                sleep(2 * SECOND).await;
                drop(permit);
                Ended::Ok(())
            },
            GRACE,
        );
        let ((waited, took), served) = tokio::join!(timed(drain.wait_idle(GRACE)), served);
        assert!(waited.is_clean() && served.unwrap().is_clean());
        assert_eq!(took, LAME_DUCK + 5 * SECOND / 2);
    }

    /// It waits for the server and for requests in flight outside it.
    #[tokio::test(start_paused = true)]
    async fn the_server_and_the_permits_have_the_grace_period() {
        for (server, permit) in [(3, 5), (5, 3)] {
            let drain = drain();
            let held = drain.try_acquire_owned().unwrap();
            drain.begin();
            tokio::spawn(async move {
                sleep(LAME_DUCK + permit * SECOND).await;
                drop(held);
            });
            let served = drain.serve(
                async |shutdown| {
                    shutdown.await;
                    sleep(server * SECOND).await;
                    Ended::Ok(())
                },
                GRACE,
            );
            let (report, took) = timed(served).await;
            assert!(report.unwrap().is_clean());
            assert_eq!(took, LAME_DUCK + 5 * SECOND);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_end_is_dropped() {
        let drain = drain();
        let held = Arc::new(());
        drain.begin();
        let token = held.clone();
        let served = drain.serve(
            async move |_| {
                let ended = std::future::pending::<Ended>().await;
                drop(token);
                ended
            },
            GRACE,
        );
        let (report, took) = timed(served).await;
        assert!(report.unwrap().is_clean(), "no request was in flight");
        assert_eq!(took, LAME_DUCK + GRACE + FLUSH);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    /// A server that fails while it drains.
    #[tokio::test(start_paused = true)]
    async fn an_error_while_draining_is_returned_at_once() {
        let drain = drain();
        drain.begin();
        let served = drain.serve(
            async |shutdown| {
                shutdown.await;
                sleep(SECOND).await;
                Ended::Err("lost".into())
            },
            GRACE,
        );
        let (error, took) = timed(served).await;
        assert_eq!(error.unwrap_err().to_string(), "lost");
        assert_eq!(took, LAME_DUCK + SECOND);
    }

    /// A server that ends in the lame-duck time leaves the tasks that it has spawned.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_ends_in_the_lame_duck_time_is_waited_after() {
        let drain = drain();
        let held = drain.try_acquire().unwrap();
        drain.begin();
        let (report, took) = timed(drain.serve(async |_| Ended::Ok(()), GRACE)).await;
        assert_eq!(report.unwrap().left, 1);
        assert_eq!(took, LAME_DUCK + GRACE + FLUSH);
        drop(held);
    }
}
