//! The conditions under which the shedder rejects requests.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use seawall::{LagMonitor, LagShed, LagShedLayer, LagState, LagThresholds, Reason, Rejection};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tower::{BoxError, Layer, Service, service_fn};

use crate::support::*;

#[test]
fn every_worker_blocked_is_seen_during_the_block() {
    let _alone = alone();
    let runtime = workers(2);
    let lag = LagShed::default();
    assert!(
        admits_in(runtime.handle(), &lag),
        "the first is admitted and starts it"
    );
    let blocked = [block(runtime.handle()), block(runtime.handle())];
    // Requests keep arriving, so that it is not a stall.
    until("rejected", || !admits_in(runtime.handle(), &lag));
    assert_eq!(lag.state(), LagState::Shedding);
    until("a share is rejected", || {
        admits_in(runtime.handle(), &lag);
        lag.snapshot().shed > 0.0
    });
    let snapshot = lag.snapshot();
    assert!(snapshot.lag >= Duration::from_millis(80), "{snapshot:?}");
    assert!(
        snapshot.rejected > 0 && snapshot.runtimes == 1,
        "{snapshot:?}"
    );
    drop(blocked);
    until("normal", || lag.state() == LagState::Normal);
    assert!(admits_in(runtime.handle(), &lag));
}

/// As over one HTTP/2 connection: a task calls the service, and spawns the futures. All requests
/// wait after the call.
#[test]
fn requests_that_one_task_spawns_are_shed() {
    let _alone = alone();
    for runtime in [workers(1), workers(2), current_thread()] {
        let lag = LagShed::default();
        let computes = service_fn(|()| async {
            (0..100_000_u64).for_each(|round| _ = black_box(round));
            Ok::<_, BoxError>(())
        });
        let mut service = LagShedLayer::new(lag.clone()).plain().layer(computes);
        let connection = runtime.spawn(async move {
            let (mut streams, mut served) = (JoinSet::new(), 0);
            while lag.snapshot().rejected < 1000 {
                assert!(served < 20_000, "{:?}", lag.snapshot());
                while streams.len() < 200 {
                    streams.spawn(service.call(()));
                }
                let mut finished = streams.join_next().await;
                while let Some(result) = finished {
                    served += usize::from(result.unwrap().is_ok());
                    finished = streams.try_join_next();
                }
            }
        });
        runtime.block_on(connection).unwrap();
    }
}

/// A handler that computes.
fn computes() -> impl Future<Output = Result<(), BoxError>> {
    std::future::poll_fn(|_| {
        (0..1_000_000_u64).for_each(|round| _ = black_box(round));
        Poll::Ready(Ok(()))
    })
}

/// A shedder that watches a runtime and is not armed, and that knows the mean service time.
fn watching(runtime: &Handle) -> LagShed {
    let lag = LagShed::new(LagThresholds::default().max_arm(ARM).arm(ARM)).unwrap();
    until("watched", || {
        admits_in(runtime, &lag);
        lag.state() != LagState::Normal
    });
    let mut service = LagShedLayer::new(lag.clone())
        .plain()
        .layer(service_fn(|()| computes()));
    let _entered = runtime.enter();
    for _ in 0..20 {
        assert_eq!(polled(service.call(())), Some(true));
    }
    lag
}

/// The lag that arms: longer than a test runs.
const ARM: Duration = Duration::from_secs(15);

/// Requests that are dropped, or whose call panics, wait for nothing.
#[test]
fn a_request_without_a_first_poll_does_not_count_for_ever() {
    let _alone = alone();
    let runtime = workers(1);
    let _blocked = block(runtime.handle());
    let lag = watching(runtime.handle());
    let mut service = LagShedLayer::new(lag.clone())
        .plain()
        .layer(service_fn(|panics: bool| {
            if panics {
                // Without the hook, which takes long enough for a stall.
                resume_unwind(Box::new("on purpose"));
            }
            computes()
        }));
    let _entered = runtime.enter();
    for round in 0..100_000 {
        let call = AssertUnwindSafe(|| drop(service.call(round % 1000 == 0)));
        let _ = catch_unwind(call);
    }
    // If they waited, the next request would wait for more than `ARM`.
    assert_eq!(polled(service.call(false)), Some(true));
    assert_eq!(lag.snapshot().rejected, 0);
}

/// They count while there is lag. Without it they wait for their caller, and the shedder is
/// disarmed.
#[test]
fn futures_that_are_held_do_not_keep_it_armed() {
    let _alone = alone();
    let runtime = workers(1);
    let blocked = block(runtime.handle());
    let lag = watching(runtime.handle());
    let mut service = LagShedLayer::new(lag.clone())
        .plain()
        .layer(service_fn(|()| computes()));
    let _entered = runtime.enter();
    let held: Vec<_> = (0..20_000).map(|_| service.call(())).collect();
    lag.set(LagThresholds::default()).unwrap();
    until("rejected", || polled(service.call(())) == Some(false));
    drop(blocked);
    until("normal", || {
        polled(service.call(()));
        lag.state() == LagState::Normal
    });
    assert_eq!(polled(service.call(())), Some(true));
    drop(held);
}

#[test]
fn one_of_two_workers_blocked_is_no_lag() {
    let _alone = alone();
    let runtime = workers(2);
    let lag = LagShed::default();
    lag.start(runtime.handle());
    let monitor = LagMonitor::start(runtime.handle());
    let shed = Arc::new(AtomicBool::new(false));
    let seen = shed.clone();
    monitor.on_lag(Duration::from_millis(300), move |_| {
        seen.store(true, SeqCst);
    });
    let _blocked = block(runtime.handle());
    let start = monitor.snapshot().probes;
    until("forty probes came back", || {
        assert_ne!(lag.state(), LagState::Shedding);
        monitor.snapshot().probes >= start + 40
    });
    assert!(!shed.load(SeqCst));
    until("normal", || lag.state() == LagState::Normal);
}

#[test]
fn runtimes_are_decided_about_by_themselves() {
    let _alone = alone();
    let (busy, idle) = (workers(1), workers(1));
    let lag = LagShed::default();
    lag.start(busy.handle());
    lag.start(idle.handle());
    lag.start(idle.handle());
    assert_eq!(lag.snapshot().runtimes, 2);
    let blocked = block(busy.handle());
    until("one refuses", || !admits_in(busy.handle(), &lag));
    // This thread moves between the two runtimes, also between two readings.
    for _ in 0..100 {
        admits_in(busy.handle(), &lag);
        assert!(admits_in(idle.handle(), &lag), "the other does not");
        admits_in(busy.handle(), &lag);
        assert!(admits(&lag), "nor is anything outside of any runtime");
    }
    drop(blocked);
    drop(busy);
    assert_eq!(lag.snapshot().runtimes, 1);
    assert_ne!(
        lag.state(),
        LagState::Shedding,
        "what has ended sheds no more"
    );
    assert!(admits_in(idle.handle(), &lag));
}

#[test]
fn the_next_runtime_on_the_same_thread_is_bound_anew() {
    let _alone = alone();
    let lag = LagShed::default();
    for _ in 0..3 {
        let runtime = current_thread();
        runtime.block_on(async { assert!(admits(&lag)) });
        assert_eq!(lag.snapshot().runtimes, 1);
        drop(runtime);
        assert_eq!(lag.snapshot().runtimes, 0);
    }
    // Two runtimes take turns on one thread: the second is measured within a reading.
    let runtimes = [current_thread(), current_thread()];
    let mut turns = runtimes.iter().cycle();
    until("both are bound", || {
        turns.next().unwrap().block_on(async {
            tokio::task::yield_now().await;
            assert!(admits(&lag));
        });
        lag.snapshot().runtimes == 2
    });
}

#[test]
fn more_handles_than_a_thread_keeps_apart() {
    let _alone = alone();
    let runtime = workers(1);
    let all: Vec<_> = (0..9).map(|_| LagShed::default()).collect();
    let _entered = runtime.enter();
    for _ in 0..3 {
        assert!(all.iter().all(admits));
    }
    let blocked = block(runtime.handle());
    for lag in &all {
        until("each refuses", || !admits(lag));
    }
    assert!(all.iter().all(|lag| lag.snapshot().runtimes == 1));
    drop(blocked);
}

#[test]
fn a_runtime_that_was_not_driven_starts_with_a_clean_slate() {
    let _alone = alone();
    let runtime = current_thread();
    let lag = LagShed::default();
    lag.start(runtime.handle());
    until("it lags", || lag.state() == LagState::Warn);
    runtime.block_on(async {
        let served = tokio::spawn({
            let lag = lag.clone();
            async move { admits(&lag) }
        });
        assert!(served.await.unwrap(), "the stall is over and forgiven");
    });
    assert_eq!(lag.snapshot().rejected, 0);
}

#[test]
fn short_blocking_calls_at_light_load_refuse_nothing() {
    let _alone = alone();
    let runtime = workers(1);
    let lag = LagShed::default();
    let monitor = LagMonitor::start(runtime.handle());
    runtime.block_on(async {
        for _ in 0..10 {
            let (lag, within) = (lag.clone(), monitor.clone());
            let blocks = tokio::spawn(async move {
                assert!(admits(&lag));
                until("150 ms", || within.lag() >= Duration::from_millis(150));
            });
            blocks.await.unwrap();
            until("the next is there", || {
                monitor.lag() < Duration::from_millis(20)
            });
        }
    });
    let snapshot = lag.snapshot();
    assert_eq!(snapshot.rejected, 0, "{snapshot:?}");
}

#[test]
fn without_readings_everything_is_admitted() {
    let _alone = alone();
    let runtime = workers(1);
    let lag = LagShed::default();
    let (stop, stopped) = channel::<()>();
    let stopped = Mutex::new(stopped);
    let monitor = LagMonitor::start(runtime.handle());
    lag.start(runtime.handle());
    // A hook that never returns: the thread that measures is blocked.
    monitor.on_lag(Duration::from_millis(800), move |report| {
        if !report.is_over {
            let _ = stopped.lock().unwrap().recv();
        }
    });
    let _blocked = block(runtime.handle());
    until("refused", || !admits_in(runtime.handle(), &lag));
    until("admitted for want of a reading", || {
        lag.snapshot().fail_open > 0 || {
            admits_in(runtime.handle(), &lag);
            false
        }
    });
    assert_eq!(lag.state(), LagState::Shedding, "as of the last reading");
    for _ in 0..100 {
        assert!(admits_in(runtime.handle(), &lag));
    }
    drop(stop);
    until("refused by fresh readings", || {
        !admits_in(runtime.handle(), &lag)
    });
}

#[test]
fn http_answers_say_when_to_come_back_and_exempt_paths_are_served() {
    let _alone = alone();
    let runtime = workers(1);
    let lag = LagShed::default();
    let ok =
        || service_fn(async |_| Ok::<_, std::convert::Infallible>(Response::new(String::new())));
    let mut all = LagShedLayer::new(lag.clone())
        .exempt(|head| head.uri.path() == "/health")
        .layer(ok());
    let mut dry = LagShedLayer::new(lag.clone()).dry_run().layer(ok());
    let _entered = runtime.enter();
    let mut call = |request: Request<()>| {
        let future = futures_util::FutureExt::now_or_never(all.call(request));
        future.unwrap().unwrap()
    };
    let to = |path: &str| Request::get(path).body(()).unwrap();
    assert_eq!(call(to("/")).status(), 200);
    let _blocked = block(runtime.handle());
    until("rejected", || call(to("/")).status() == 503);
    let refused = call(to("/"));
    let seconds: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
    let rejection = refused.extensions().get::<Rejection>().unwrap();
    assert_eq!(
        (rejection.reason(), rejection.layer()),
        (Reason::Overloaded, "lag_shed")
    );
    assert!(rejection.retry_after().unwrap() >= Duration::from_secs(1));
    let body = http_body_util::BodyExt::collect(refused.into_body());
    let body = futures_util::FutureExt::now_or_never(body)
        .unwrap()
        .unwrap()
        .to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["detail"], "Server is busy, come back later!");

    let mut grpc = to("/service/method");
    (*grpc.version_mut(), *grpc.method_mut()) = (http::Version::HTTP_2, http::Method::POST);
    grpc.headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    let refused = call(grpc);
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["grpc-status"]),
        (200, &"14".parse().unwrap())
    );
    assert!(refused.headers().contains_key("grpc-retry-pushback-ms"));

    assert_eq!(call(to("/health")).status(), 200);
    let before = lag.snapshot();
    let served = futures_util::FutureExt::now_or_never(dry.call(to("/")))
        .unwrap()
        .unwrap();
    assert_eq!(served.status(), 200);
    let after = lag.snapshot();
    assert_eq!(
        (after.rejected, after.would_reject),
        (before.rejected, before.would_reject + 1)
    );
}

#[test]
fn thresholds_change_while_it_runs() {
    let _alone = alone();
    let runtime = workers(1);
    let lag = LagShed::new(LagThresholds::burst_tolerant()).unwrap();
    assert_eq!(lag.settings(), LagThresholds::burst_tolerant());
    let blocked = block(runtime.handle());
    until("rejected", || !admits_in(runtime.handle(), &lag));
    let hour = Duration::from_secs(3600);
    let long = lag.settings().max_bound(hour).bound(hour);
    lag.set(long.clone()).unwrap();
    until("nothing is rejected any more", || {
        admits_in(runtime.handle(), &lag)
    });
    assert!((0..100).all(|_| admits_in(runtime.handle(), &lag)));
    assert!(lag.set(lag.settings().arm(Duration::ZERO)).is_err());
    assert_eq!(lag.settings(), long);
    drop(blocked);
}

#[test]
fn shedding_is_forced_in_every_runtime_until_it_is_not() {
    let _alone = alone();
    let runtime = workers(1);
    let (lag, other) = (LagShed::default(), LagShed::default());
    for _ in 0..2 {
        assert!(admits_in(runtime.handle(), &lag));
        lag.force_shedding(true);
        lag.force_shedding(true);
        let snapshot = lag.snapshot();
        assert_eq!((snapshot.state, snapshot.shed), (LagState::Shedding, 1.0));
        assert!(!admits_in(runtime.handle(), &lag));
        assert!(!admits(&lag), "outside of any runtime");
        assert!(admits_in(runtime.handle(), &other));
        lag.force_shedding(false);
        assert_eq!(lag.state(), LagState::Normal);
    }
    assert!(admits_in(runtime.handle(), &lag));
    assert_eq!(lag.snapshot().rejected, 4);
}

/// A drill that begins before the first request: the runtime is measured from then on.
#[test]
fn a_runtime_whose_first_request_is_in_a_drill_is_measured() {
    let _alone = alone();
    let runtime = workers(1);
    let lag = LagShed::default();
    lag.force_shedding(true);
    assert!(!admits_in(runtime.handle(), &lag));
    assert_eq!(lag.snapshot().runtimes, 1);
}
