//! The time until the response head.

use std::future::{Future, pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::task::Poll;
use std::time::Duration;

use http_body_util::BodyExt;
use seawall::{
    Completion, Deadline, GateLayer, Outcome, Reason, Rejection, RequestHead, Timeout,
    TimeoutLayer, WireProtocol,
};
use tokio::time::{advance, sleep};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready, assert_ready_ok};
use tower::{BoxError, Layer, Service};

use crate::handler::service_fn;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

fn slow<B>(
    time: Duration,
) -> impl Service<http::Request<B>, Response = http::Response<Script>, Error = BoxError> + Clone {
    service_fn(move |_| async move {
        sleep(time).await;
        Ok(ok(Script::data(&["a"])))
    })
}

#[tokio::test(start_paused = true)]
async fn answers_when_the_head_takes_too_long() {
    let timeout = Timeout::from(SECOND).named("api");
    let mut service = TimeoutLayer::new(timeout.clone()).layer(slow(2 * SECOND));
    let (response, took) = timed(service.call(get())).await;
    let response = response.unwrap();
    assert_eq!(took, SECOND);
    assert_eq!(response.status(), 504);
    assert!(!response.headers().contains_key("retry-after"));
    let rejection: &Rejection = response.extensions().get().unwrap();
    assert_eq!(rejection.reason(), Reason::Timeout);
    assert_eq!((rejection.layer(), rejection.name()), ("timeout", "api"));
    assert_eq!(timeout.snapshot().timed_out, 1);

    let grpc = service.call(grpc()).await.unwrap();
    assert_eq!(
        (grpc.status().as_u16(), &grpc.headers()["grpc-status"]),
        (200, &"4".parse().unwrap())
    );

    let mut quick = TimeoutLayer::new(SECOND).layer(slow(SECOND / 2));
    assert_eq!(quick.call(get()).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_ready_wins_over_a_timer_that_is_due() {
    let mut service = TimeoutLayer::new(SECOND).layer(slow(SECOND / 2));
    let mut call = spawn(service.call(get()));
    assert_pending!(call.poll());
    advance(5 * SECOND).await; // after a stall, both are due at the next poll
    assert_eq!(assert_ready_ok!(call.poll()).status(), 200);
}

/// Outside a runtime there is no clock and no timer: using one would panic.
#[test]
fn what_is_ready_at_its_first_poll_costs_no_timer_and_no_clock() {
    let mut service = TimeoutLayer::new(SECOND).layer(answers(|| ok(Script::default())));
    assert_eq!(
        assert_ready_ok!(spawn(service.call(get())).poll()).status(),
        200
    );
    let mut service = TimeoutLayer::new(Duration::MAX).layer(service_fn(|_| {
        pending::<Result<http::Response<Script>, BoxError>>()
    }));
    assert_pending!(spawn(service.call(get())).poll());
}

/// Two timeouts in one gate, of which the longer one exposes the deadline: it is the shorter one.
#[tokio::test(start_paused = true)]
async fn a_longer_timeout_exposes_the_deadline_of_the_gate() {
    let exposes = TimeoutLayer::new(2 * SECOND).expose_deadline();
    let policies = (exposes.policy().clone(), Timeout::from(SECOND));
    let mut service = GateLayer::from_policy(policies).layer(service_fn(
        async |request: http::Request<Script>| {
            let deadline: &Deadline = request.extensions().get().unwrap();
            assert_eq!(deadline.remaining(), SECOND);
            Ok::<_, BoxError>(ok(Script::default()))
        },
    ));
    assert_eq!(service.call(get()).await.unwrap().status(), 200);
}

/// A deadline that is set at once panics outside a runtime. It costs no token.
#[test]
fn a_deadline_outside_a_runtime_costs_no_token() {
    let recorder = Recorder::new();
    let policies = (recorder.clone(), Timeout::from(SECOND));
    let mut service = GateLayer::from_policy(policies).layer(answers(|| ok(Script::default())));
    let mut request = grpc();
    let time = "100m".parse().unwrap();
    request.headers_mut().insert("grpc-timeout", time);
    let call = AssertUnwindSafe(|| drop(service.call(request)));
    std::panic::catch_unwind(call).unwrap_err();
    let panicked = [
        Told::Settled(Outcome::Panicked),
        Told::Released(Completion::Panicked),
    ];
    assert_eq!(recorder.told(), panicked);
}

#[tokio::test(start_paused = true)]
async fn the_time_runs_from_the_first_poll_and_not_again_at_each() {
    let mut service = TimeoutLayer::new(SECOND).layer(slow(100 * SECOND));
    let mut call = spawn(service.call(get()));
    assert_pending!(call.poll());
    advance(SECOND * 9 / 10).await;
    assert_pending!(call.poll());
    advance(SECOND / 5).await;
    assert_eq!(
        reason(&assert_ready_ok!(call.poll())),
        Some(Reason::Timeout)
    );
}

/// Tokio makes resources pending for a task that has used up its budget. A handler that uses the
/// whole budget must not starve the timer, which needs a share of it too.
#[tokio::test(start_paused = true)]
async fn a_handler_that_is_always_busy_is_timed_out_too() {
    let mut service = TimeoutLayer::new(SECOND).layer(service_fn(|_| {
        poll_fn(|cx| {
            while std::pin::pin!(tokio::task::consume_budget())
                .poll(cx)
                .is_ready()
            {}
            Poll::<Result<http::Response<Script>, BoxError>>::Pending
        })
    }));
    let mut call = spawn(service.call(get()));
    assert_pending!(call.poll());
    advance(2 * SECOND).await;
    assert_eq!(assert_ready_ok!(call.poll()).status(), 504);
}

#[tokio::test(start_paused = true)]
async fn the_inner_future_is_dropped_when_its_time_is_up() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "in the drop");
        }
    }
    let layers = tower::ServiceBuilder::new()
        .layer(seawall::CatchPanicLayer::new())
        .layer(TimeoutLayer::new(SECOND));
    let mut service = layers.service(service_fn(async |_| {
        let _bomb = Bomb;
        pending::<Result<http::Response<Script>, BoxError>>().await
    }));
    let response = service.call(get()).await.unwrap();
    assert_eq!(reason(&response), Some(Reason::Panicked), "under the wall");
}

#[tokio::test(start_paused = true)]
async fn some_requests_have_another_time() {
    let layer = TimeoutLayer::new(SECOND)
        .per_request(|head: &RequestHead<'_>| (head.uri.path() == "/slow").then_some(10 * SECOND));
    let mut service = layer.layer(slow(5 * SECOND));
    assert_eq!(service.call(get()).await.unwrap().status(), 504);
    let mut request = get();
    *request.uri_mut() = "/slow".parse().unwrap();
    assert_eq!(service.call(request).await.unwrap().status(), 200);

    let mut plain = TimeoutLayer::new(SECOND)
        .plain()
        .per_request(|seconds: &u32| SECOND * *seconds)
        .layer(service_fn(async |_: u32| {
            sleep(5 * SECOND).await;
            Ok::<_, BoxError>(())
        }));
    let error = plain.call(4).await.unwrap_err();
    assert_eq!(
        error.downcast::<Rejection>().unwrap().reason(),
        Reason::Timeout
    );
    plain.call(6).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_handle_changes_the_time_of_requests_to_come() {
    let timeout = Timeout::from(SECOND);
    let mut service = TimeoutLayer::new(timeout.clone()).layer(slow(5 * SECOND));
    timeout.set_duration(10 * SECOND).unwrap();
    assert_eq!(timeout.duration(), 10 * SECOND);
    assert_eq!(service.call(get()).await.unwrap().status(), 200);
    timeout.set_duration(Duration::MAX).unwrap();
    assert_eq!(timeout.duration(), Duration::MAX);
}

#[tokio::test(start_paused = true)]
async fn the_body_has_all_the_time_it_needs() {
    let mut service = TimeoutLayer::new(SECOND).layer(answers(|| {
        ok(Script::new([
            Step::Data("a"),
            Step::Pending,
            Step::Data("b"),
        ]))
    }));
    let response = service.call(get()).await.unwrap();
    advance(10 * SECOND).await;
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "ab"
    );
}

#[tokio::test(start_paused = true)]
async fn nested_timeouts_the_shorter_wins() {
    for (outer, inner) in [(1, 2), (2, 1)] {
        let (outer, inner) = (Timeout::from(SECOND * outer), Timeout::from(SECOND * inner));
        let mut service = TimeoutLayer::new(outer.clone())
            .layer(TimeoutLayer::new(inner.clone()).layer(slow(5 * SECOND)));
        let (response, took) = timed(service.call(get())).await;
        assert_eq!((response.unwrap().status().as_u16(), took), (504, SECOND));
        let timed_out = outer.snapshot().timed_out + inner.snapshot().timed_out;
        assert_eq!(timed_out, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn respond_with_makes_the_answer() {
    let mut service = TimeoutLayer::new(SECOND)
        .per_request(|_| None)
        .respond_with(|no: &Rejection, protocol: WireProtocol| {
            let mut response = no.to_response(protocol);
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            response
        })
        .layer(slow(5 * SECOND));
    let response = service.call(get()).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(reason(&response), Some(Reason::Timeout));
}

#[tokio::test]
async fn an_error_of_the_inner_service_passes() {
    let mut polls = 0;
    let mut service = TimeoutLayer::new(SECOND).layer(service_fn(move |_| {
        poll_fn(move |cx| {
            polls += 1;
            if polls == 1 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Err::<http::Response<Script>, BoxError>("inner".into()))
        })
    }));
    let mut call = spawn(service.call(get()));
    assert_pending!(call.poll());
    let result = assert_ready!(call.poll());
    assert_eq!(result.err().unwrap().to_string(), "inner");
}

fn runtime() -> tokio::runtime::Runtime {
    seawall::pool_timers_when_paused();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

/// The timers of a thread fit the runtime that polls them.
#[test]
fn two_runtimes_take_turns_on_one_thread() {
    let runtimes = [runtime(), runtime()];
    for _ in 0..3 {
        for runtime in &runtimes {
            runtime.block_on(async {
                let mut service = TimeoutLayer::new(SECOND).layer(slow::<Script>(2 * SECOND));
                // This one returns its timer.
                let mut dropped = spawn(service.call(get()));
                assert_pending!(dropped.poll());
                drop(dropped);
                let (response, took) = timed(service.call(get())).await;
                assert_eq!(reason(&response.unwrap()), Some(Reason::Timeout));
                assert_eq!(took, SECOND);
            });
        }
    }
}

/// A call that has a timer, is not polled, and outlives its runtime.
#[test]
fn a_call_that_outlives_its_runtime_does_not_panic() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    static PANICS: AtomicUsize = AtomicUsize::new(0);

    let here = std::thread::current().id();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == here {
            PANICS.fetch_add(1, SeqCst);
        }
        before(info);
    }));
    let runtime = runtime();
    let call = |is_polled: bool| {
        let _entered = runtime.enter();
        let layer = TimeoutLayer::new(SECOND).expose_deadline();
        let mut call = spawn(layer.layer(slow::<Script>(2 * SECOND)).call(get()));
        if is_polled {
            assert_pending!(call.poll());
        }
        call
    };
    drop(call(true)); // the thread has a pool for the runtime
    let calls = [call(true), call(false), call(false)];
    drop(runtime);
    drop(calls);
    assert_eq!(PANICS.load(SeqCst), 0);
}
