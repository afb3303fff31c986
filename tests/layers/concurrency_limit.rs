//! Permits, the queue, and that nothing leaks.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use http_body_util::BodyExt;
use seawall::policy::{Admission, NoWait, Policy, RequestKind};
use seawall::{
    CircuitBreaker, ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings, Drain,
    GateLayer, Permit, Reason, Rejection,
};
use tokio::time::{advance, sleep};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready, assert_ready_ok};
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::handler::service_fn;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

fn figures(limit: &ConcurrencyLimit) -> (usize, usize) {
    (limit.in_flight(), limit.queued())
}

#[tokio::test]
async fn rejects_at_once_by_default() {
    let limit = ConcurrencyLimit::from(2).named("db");
    let mut service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::data(&["a"]))));
    let held = [
        service.call(get()).await.unwrap(),
        service.call(get()).await.unwrap(),
    ];
    assert_eq!(limit.in_flight(), 2);
    let full = service.call(get()).await.unwrap();
    assert_eq!(full.status(), 503);
    assert!(full.headers().contains_key("retry-after"));
    let rejection: &Rejection = full.extensions().get().unwrap();
    assert_eq!(rejection.reason(), Reason::ConcurrencyLimit);
    assert_eq!(
        (rejection.layer(), rejection.name()),
        ("concurrency_limit", "db")
    );
    drop(held);
    assert_eq!(service.call(get()).await.unwrap().status(), 200);
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.limit, snapshot.rejected), (2, 1));
}

#[tokio::test]
async fn a_place_is_held_until_the_body_has_ended() {
    let limit = ConcurrencyLimit::from(1);
    let mut service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::data(&["a", "b"]))));
    let mut body = service.call(get()).await.unwrap().into_body();
    assert_eq!(limit.in_flight(), 1, "at the head");
    body.frame().await.unwrap().unwrap();
    assert_eq!(limit.in_flight(), 1, "in the middle");
    body.frame().await.unwrap().unwrap();
    assert_eq!(limit.in_flight(), 1, "the end is not known yet");
    assert!(body.frame().await.is_none());
    assert_eq!(limit.in_flight(), 0, "at the end, though the body lives");
    drop(body);
    assert_eq!(limit.in_flight(), 0, "exactly once");
}

#[tokio::test]
async fn a_place_comes_back_wherever_the_call_ends() {
    let limit = ConcurrencyLimit::from(1);
    let layer = ConcurrencyLimitLayer::new(limit.clone());

    let mut stuck = layer.layer(service_fn(|_| {
        pending::<Result<http::Response<Script>, BoxError>>()
    }));
    drop(stuck.call(get()));
    assert_eq!(limit.in_flight(), 0, "before the first poll");
    let mut future = spawn(stuck.call(get()));
    assert_pending!(future.poll());
    assert_eq!(limit.in_flight(), 1);
    drop(future);
    assert_eq!(limit.in_flight(), 0, "after the first poll");

    let mut fails = layer.layer(service_fn(async |_| {
        Err::<http::Response<Script>, BoxError>("no".into())
    }));
    assert!(fails.call(get()).await.is_err());
    assert_eq!(limit.in_flight(), 0, "at an error");

    let mut panics = layer.layer(service_fn(
        |_| -> std::future::Ready<Result<http::Response<Script>, BoxError>> { panic!("call") },
    ));
    let call = AssertUnwindSafe(|| drop(panics.call(get())));
    assert!(std::panic::catch_unwind(call).is_err());
    assert_eq!(limit.in_flight(), 0, "at a panic in call");

    let scripted = |script: fn() -> Script| layer.layer(answers(move || ok(script())));
    let mut service = scripted(|| Script::new([Step::Data("a"), Step::Panic]));
    let body = service.call(get()).await.unwrap().into_body();
    assert!(tokio::spawn(body.collect()).await.is_err());
    assert_eq!(limit.in_flight(), 0, "at a panic in the body");

    let mut service = scripted(|| Script::new([Step::Data("a"), Step::Error, Step::Pending]));
    let mut body = service.call(get()).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap_err();
    assert_eq!(limit.in_flight(), 0, "at an error of the body");
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_the_order_they_came() {
    let limit = ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(2, SECOND)).unwrap();
    let mut service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::data(&["a"]))));
    let running = service.call(get()).await.unwrap();
    let mut first = spawn(service.call(get()));
    let mut second = spawn(service.call(get()));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_eq!(figures(&limit), (1, 2));
    let third = service.call(get()).await.unwrap();
    assert_eq!(
        reason(&third),
        Some(Reason::ConcurrencyLimit),
        "the queue is full"
    );

    drop(running);
    assert!(first.is_woken() && !second.is_woken());
    assert_pending!(second.poll());
    let running = assert_ready_ok!(first.poll());
    drop(running);
    assert!(second.is_woken());
    drop(assert_ready_ok!(second.poll()));
    assert_eq!(figures(&limit), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_who_waits() {
    let limit = ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(2, SECOND)).unwrap();
    let mut service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::data(&["a"]))));
    let running = service.call(get()).await.unwrap();
    let mut waiting = spawn(service.call(get()));
    assert_pending!(waiting.poll());
    drop(running);
    // The permit belongs to the queued request, although it has not been polled since.
    let mut late = spawn(service.call(get()));
    assert_pending!(late.poll());
    assert!(limit.try_acquire().is_err());
    assert_ready_ok!(waiting.poll());
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_the_time_is_up() {
    let limit = ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(2, SECOND)).unwrap();
    let mut service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::data(&["a"]))));
    let _running = service.call(get()).await.unwrap();
    let (response, took) = timed(service.call(get())).await;
    let response = response.unwrap();
    assert_eq!(took, SECOND);
    assert_eq!(reason(&response), Some(Reason::QueueTimeout));
    assert_eq!(response.status(), 503);
    assert_eq!(figures(&limit), (1, 0));
    assert_eq!(limit.snapshot().rejected, 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_served_at_the_last_moment_keeps_the_place() {
    let limit = ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, SECOND)).unwrap();
    let mut service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::data(&["a"]))));
    let running = service.call(get()).await.unwrap();
    let mut waiting = spawn(service.call(get()));
    assert_pending!(waiting.poll());
    advance(2 * SECOND).await;
    drop(running);
    assert_eq!(assert_ready_ok!(waiting.poll()).status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_is_gone_and_hands_on_what_it_was_given() {
    let limit = ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(3, SECOND)).unwrap();
    let mut service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::data(&["a"]))));
    let running = service.call(get()).await.unwrap();
    let unpolled = service.call(get());
    let mut first = spawn(service.call(get()));
    let mut second = spawn(service.call(get()));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_eq!(limit.queued(), 3);
    drop(unpolled);
    assert_eq!(limit.queued(), 2);
    drop(running);
    assert!(first.is_woken());
    drop(first);
    assert!(second.is_woken(), "served by the one that left");
    drop(assert_ready_ok!(second.poll()));
    assert_eq!(figures(&limit), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_limit_moves_both_ways_while_requests_run() {
    let limit = ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(3).queue(3, SECOND)).unwrap();
    let mut service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::data(&["a"]))));
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(service.call(get()).await.unwrap());
    }
    let mut waiting: Vec<_> = (0..3).map(|_| spawn(service.call(get()))).collect();
    for call in &mut waiting {
        assert_pending!(call.poll());
    }

    limit.set_limit(1).unwrap();
    assert_eq!(
        (limit.limit(), limit.in_flight()),
        (1, 3),
        "nobody is turned out"
    );
    running.truncate(1);
    assert_eq!(figures(&limit), (1, 3), "nobody comes in above the limit");

    limit.set_limit(3).unwrap();
    assert_eq!(figures(&limit), (3, 1), "as many as there are permits");
    assert!(waiting[0].is_woken() && waiting[1].is_woken() && !waiting[2].is_woken());

    let error = limit.set_limit(0).unwrap_err();
    assert_eq!(error.field(), "limit");
    assert_eq!(limit.limit(), 3, "a refused setting changes nothing");
}

#[tokio::test(start_paused = true)]
async fn the_waiting_room_can_be_opened_and_closed() {
    let limit = ConcurrencyLimit::from(1);
    let mut service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::data(&["a"]))));
    let _running = service.call(get()).await.unwrap();
    assert_eq!(service.call(get()).await.unwrap().status(), 503);
    limit.set(limit.settings().queue(1, SECOND)).unwrap();
    let mut waiting = spawn(service.call(get()));
    assert_pending!(waiting.poll());
    limit.set(limit.settings().queue(0, SECOND)).unwrap();
    assert_eq!(service.call(get()).await.unwrap().status(), 503);
    assert_eq!(limit.queued(), 1, "who is in stays in");
}

#[tokio::test(start_paused = true)]
async fn the_instance_that_was_polled_ready_waits() {
    let limit = ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, SECOND)).unwrap();
    let inner = MustBeReady::new(answers(|| ok(Script::data(&["a"]))));
    let mut service = ConcurrencyLimitLayer::new(limit.clone()).layer(inner);
    let running = service.ready().await.unwrap().call(get()).await.unwrap();
    let mut waiting = spawn(service.ready().await.unwrap().call(get()));
    assert_pending!(waiting.poll());
    drop(running);
    assert_ready_ok!(waiting.poll());
}

#[tokio::test(start_paused = true)]
async fn an_outer_timeout_includes_the_wait_and_frees_the_place_in_the_room() {
    let limit =
        ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, 10 * SECOND)).unwrap();
    let mut service = tower::ServiceBuilder::new()
        .layer(seawall::TimeoutLayer::new(SECOND))
        .layer(ConcurrencyLimitLayer::new(limit.clone()))
        .service(answers(|| ok(Script::data(&["a"]))));
    let _running = service.call(get()).await.unwrap();
    let response = service.call(get()).await.unwrap();
    assert_eq!(reason(&response), Some(Reason::Timeout));
    assert_eq!(figures(&limit), (1, 0));
}

#[tokio::test]
async fn plain_services_get_an_error() {
    let limit = ConcurrencyLimit::from(1);
    let mut service = ConcurrencyLimitLayer::new(limit.clone())
        .plain()
        .layer(service_fn(|n: u32| async move {
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(n)
        }));
    let mut running = spawn(service.call(1));
    assert_pending!(running.poll());
    let error = service.call(2).await.unwrap_err();
    let rejection = error.downcast::<Rejection>().unwrap();
    assert_eq!(rejection.reason(), Reason::ConcurrencyLimit);
    assert_eq!(rejection.retry_after(), Some(SECOND));
    assert_eq!(assert_ready!(running.poll()).unwrap(), 1);
    assert_eq!(limit.in_flight(), 0, "over when the future is done");
}

#[test]
fn a_limit_that_makes_no_sense_is_refused() {
    let error = ConcurrencyLimit::new(usize::MAX).unwrap_err();
    assert_eq!(error.field(), "limit");
    let panic = std::panic::catch_unwind(|| ConcurrencyLimit::from(0)).unwrap_err();
    let message = panic.downcast::<String>().unwrap();
    assert_eq!(*message, "`limit` must be within 1..=2147483647, not 0");
}

/// Requests that hold a permit, wait, stream, fail and panic, dropped at random points.
#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_cancelled_at_random_points_leave_nothing_behind() {
    fastrand::seed(7);
    let limit = ConcurrencyLimit::new(
        ConcurrencyLimitSettings::fixed(8).queue(16, Duration::from_millis(20)),
    )
    .unwrap();
    let service = ConcurrencyLimitLayer::new(limit.clone()).layer(service_fn(async |_| {
        sleep(Duration::from_millis(fastrand::u64(0..10))).await;
        match fastrand::u8(0..20) {
            0 => Err::<_, BoxError>("failed".into()),
            1 => panic!("scripted"),
            _ => Ok(ok(Script::new((0..fastrand::u8(0..5)).map(|_| {
                if fastrand::bool() {
                    Step::Pending
                } else {
                    Step::Data("a")
                }
            })))),
        }
    }));
    std::panic::set_hook(Box::new(|_| {}));
    let mut seen = [0_u32; 3];
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let mut service = service.clone();
        calls.spawn(async move {
            sleep(Duration::from_millis(fastrand::u64(0..3_000))).await;
            let call = async {
                let response = service.ready().await?.call(get()).await?;
                let rejected = reason(&response).is_some();
                response.into_body().collect().await?;
                Ok::<_, BoxError>(rejected)
            };
            tokio::time::timeout(Duration::from_millis(fastrand::u64(0..25)), call).await
        });
    }
    while let Some(result) = calls.join_next().await {
        match result {
            Ok(Ok(Ok(true))) => seen[0] += 1,
            Ok(Ok(Ok(false))) => seen[1] += 1,
            _ => seen[2] += 1,
        }
    }
    let _ = std::panic::take_hook();
    assert!(seen.iter().all(|&n| n > 300), "every kind occurs: {seen:?}");
    assert_eq!(figures(&limit), (0, 0));
    let all: Vec<_> = (0..8).map(|_| limit.try_acquire().unwrap()).collect();
    let rejected = limit.snapshot().rejected;
    assert!(limit.try_acquire().is_err(), "the limit is whole");
    assert_eq!(limit.snapshot().rejected, rejected + 1);
    drop(all);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_moves_to_another_task_is_woken_there() {
    let limit = ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, SECOND)).unwrap();
    let mut service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::default())));
    let permit = limit.try_acquire().unwrap();
    let mut waiting = Box::pin(service.call(get()));
    assert_pending!(spawn(&mut waiting).poll());
    let mut moved = spawn(&mut waiting);
    assert_pending!(moved.poll());
    drop(permit);
    assert!(moved.is_woken());
    assert_eq!(limit.snapshot().rejected, 0);
}

/// A queued request whose waker panics: neither the request that ends nor the other requests in the
/// queue wait for it, and the earlier policies of the gate release their tokens.
#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_keeps_no_permit() {
    let drain = seawall::Drain::default();
    let settings = ConcurrencyLimitSettings::fixed(1).queue(3, Duration::from_secs(1));
    let limit = ConcurrencyLimit::new(settings).unwrap();
    let mut service = seawall::GateLayer::from_policy((drain.clone(), limit.clone()))
        .layer(answers(|| ok(Script::data(&["a"]))));
    let first = service.call(get()).await.unwrap();
    let waker = waker_that_panics();
    let mut bad = Box::pin(service.call(get()));
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(bad.as_mut().poll(&mut cx).is_pending());
    let mut good = spawn(service.call(get()));
    assert_pending!(good.poll());
    drop(first);
    assert_eq!((drain.in_flight(), limit.in_flight()), (2, 1));
    limit.set_limit(2).unwrap();
    assert!(good.is_woken());
    drop((bad, good));
    assert_eq!((drain.in_flight(), limit.in_flight()), (0, 0));
}

/// A waker may own a permit, as a task does that only its wakers keep. The queue drops it after it
/// has unlocked the limit.
#[tokio::test(start_paused = true)]
async fn a_waker_may_release_a_permit_when_it_is_dropped() {
    struct Owns(#[expect(dead_code, reason = "it is dropped")] Permit<ConcurrencyLimit>);

    impl Wake for Owns {
        fn wake(self: Arc<Self>) {}
    }

    let settings = ConcurrencyLimitSettings::fixed(1).queue(1, SECOND);
    let limit = ConcurrencyLimit::new(settings).unwrap();
    let waker = Waker::from(Arc::new(Owns(limit.try_acquire_owned().unwrap())));
    let mut service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::default())));
    let mut call = Box::pin(service.call(get()));
    let mut cx = Context::from_waker(&waker);
    assert!(call.as_mut().poll(&mut cx).is_pending());
    drop(waker);
    advance(2 * SECOND).await; // the timer drops its waker
    drop(call);
    assert_eq!(figures(&limit), (0, 0));
}

/// A policy takes a permit of a handle, and rejects with what the handle returns.
#[tokio::test(start_paused = true)]
async fn a_rejection_of_a_permit_counts_once_if_a_policy_passes_it_on() {
    #[derive(Clone)]
    struct OfOne(ConcurrencyLimit, Drain, CircuitBreaker);

    impl<R: RequestKind> Policy<R> for OfOne {
        type Token = ();
        type Wait = NoWait<()>;

        fn admit(&self, _: &R::Head<'_>) -> Admission<(), Self::Wait> {
            let limit = self.0.try_acquire().unwrap_err();
            let drain = self.1.try_acquire().unwrap_err();
            let breaker = self.2.try_acquire().unwrap_err();
            // It rejects with each of them in turn.
            Admission::Reject(match self.0.snapshot().rejected {
                1 => limit,
                2 => drain,
                _ => breaker,
            })
        }
    }

    let limit = ConcurrencyLimit::from(1);
    let _permit = limit.try_acquire().unwrap();
    let drain = Drain::default();
    drain.begin();
    advance(drain.settings().lame_duck).await;
    let breaker = CircuitBreaker::default();
    breaker.force_open();
    let policy = OfOne(limit.clone(), drain.clone(), breaker.clone());
    let mut service = GateLayer::from_policy(policy).layer(answers(|| ok(Script::default())));
    for expected in [
        Reason::ConcurrencyLimit,
        Reason::Draining,
        Reason::CircuitOpen,
    ] {
        let response = service.call(get()).await.unwrap();
        assert_eq!(reason(&response), Some(expected));
    }
    let rejected = (
        limit.snapshot().rejected,
        drain.snapshot().rejected,
        breaker.snapshot().rejected,
    );
    assert_eq!(rejected, (3, 3, 3));
}

/// Work without a service is queued with the requests, in the order of their arrival.
#[tokio::test(start_paused = true)]
async fn a_permit_can_be_waited_for() {
    let settings = ConcurrencyLimitSettings::fixed(1).queue(2, 10 * SECOND);
    let limit = ConcurrencyLimit::new(settings).unwrap();
    let held = limit.acquire().await.unwrap();
    let mut service =
        ConcurrencyLimitLayer::new(limit.clone()).layer(answers(|| ok(Script::default())));
    let mut request = spawn(service.call(get()));
    assert_pending!(request.poll());
    let mut work = spawn(limit.acquire_owned());
    assert_pending!(work.poll());

    let full = limit.acquire().await.unwrap_err();
    assert_eq!(full.reason(), Reason::ConcurrencyLimit);
    let overtakes = limit.try_acquire().unwrap_err();
    assert_eq!(overtakes.reason(), Reason::ConcurrencyLimit);

    drop(held);
    assert_pending!(work.poll());
    drop(assert_ready!(request.poll()));
    let permit = assert_ready!(work.poll()).unwrap();
    assert_eq!(figures(&limit), (1, 0));

    let late = limit.acquire().await.unwrap_err();
    assert_eq!(late.reason(), Reason::QueueTimeout);
    let mut leaves = spawn(limit.acquire());
    let mut next = spawn(limit.acquire());
    assert_pending!(leaves.poll());
    assert_pending!(next.poll());
    drop(permit);
    drop(leaves); // it has just been granted the permit
    drop(assert_ready!(next.poll()).unwrap());
    assert_eq!(figures(&limit), (0, 0));
    assert_eq!(limit.snapshot().rejected, 3);

    let in_a_task = tokio::spawn(limit.acquire_owned()).await.unwrap();
    assert_eq!(figures(&limit), (1, 0));
    drop(in_a_task);
}
