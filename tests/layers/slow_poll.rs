//! Which polls are reported as slow, and with what.

use std::future::{pending, ready};
use std::time::Duration;

use http::{Request, Response};
use seawall::policy::{Mode, Switch};
use seawall::{CatchPanicLayer, GateLayer, SlowPoll, SlowPollLayer, SlowPollSettings};
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::handler::service_fn;

/// Every poll is slow.
fn all() -> SlowPoll {
    SlowPoll::new(Duration::ZERO).unwrap()
}

fn get(path: &str) -> Request<String> {
    let path = format!("http://api{path}?secret");
    Request::get(path).body(String::new()).unwrap()
}

#[tokio::test]
async fn each_poll_of_the_inner_future_is_measured() {
    let slow = all();
    let mut service = SlowPollLayer::new(slow.clone())
        .route(|head| Some(head.uri.path().trim_end_matches("/7").into()))
        .layer(service_fn(async |_: Request<String>| {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(Response::new(String::new()))
        }));
    let response = service.call(get("/users/7")).await.unwrap();
    drop(response);
    let snapshot = slow.snapshot();
    assert_eq!((snapshot.slow_polls, snapshot.worst.len()), (3, 3));
    for report in snapshot.worst {
        assert_eq!(report.method.as_deref(), Some("GET"));
        assert_eq!(report.path.as_deref(), Some("/users/7"));
        assert_eq!(report.route.as_deref(), Some("/users"));
    }
}

#[tokio::test]
async fn what_is_below_the_threshold_is_not_reported() {
    let slow = SlowPoll::new(Duration::MAX).unwrap();
    let mut service = SlowPollLayer::new(slow.clone()).layer(service_fn(|_: Request<String>| {
        ready(Ok::<_, BoxError>(Response::new(String::new())))
    }));
    service.call(get("/")).await.unwrap();
    assert_eq!(slow.snapshot().slow_polls, 0);
    slow.set(SlowPollSettings::new(Duration::ZERO)).unwrap();
    assert_eq!(slow.settings().threshold, Duration::ZERO);
    service.call(get("/")).await.unwrap();
    assert_eq!(slow.snapshot().slow_polls, 1);
    let ten = Duration::from_millis(10);
    assert_eq!(SlowPoll::default().settings().threshold, ten);
}

#[tokio::test]
async fn the_ten_longest_come_first_until_they_are_forgotten() {
    let slow = all();
    let mut service = SlowPollLayer::new(slow.clone()).layer(service_fn(|_: Request<String>| {
        ready(Ok::<_, BoxError>(Response::new(String::new())))
    }));
    for _ in 0..100 {
        service.call(get("/")).await.unwrap();
    }
    let snapshot = slow.snapshot();
    assert_eq!((snapshot.slow_polls, snapshot.worst.len()), (100, 10));
    assert!(
        snapshot
            .worst
            .is_sorted_by(|longer, report| longer.took >= report.took)
    );
    slow.forget_worst();
    let snapshot = slow.snapshot();
    assert_eq!((snapshot.slow_polls, snapshot.worst.len()), (100, 0));
}

#[tokio::test]
async fn a_layer_that_is_off_measures_nothing() {
    let (slow, switch) = (all(), Switch::new(Mode::Off));
    let mut service = SlowPollLayer::new(slow.clone())
        .switched_by(switch.clone())
        .layer(service_fn(|_: Request<String>| {
            ready(Ok::<_, BoxError>(Response::new(String::new())))
        }));
    service.call(get("/")).await.unwrap();
    assert_eq!(slow.snapshot().slow_polls, 0);
    switch.set(Mode::Enforce);
    service.call(get("/")).await.unwrap();
    assert_eq!(slow.snapshot().slow_polls, 1);
}

async fn answer<B>(request: Request<B>) -> Result<Response<String>, BoxError> {
    assert_ne!(request.uri().path(), "/panics", "on purpose");
    Ok(Response::new(String::new()))
}

/// In one gate with isolation, and in a stack.
#[tokio::test]
async fn it_is_a_part_of_other_gates() {
    let slow = all().named("api");
    let stack = seawall::server().policy(slow.clone()).build().unwrap();
    let mut service = stack.layer(service_fn(answer));
    service.call(get("/")).await.unwrap();
    assert_eq!(slow.snapshot().slow_polls, 1);
    assert_eq!(service.call(get("/panics")).await.unwrap().status(), 500);
    assert_eq!(
        slow.snapshot().slow_polls,
        1,
        "a poll that panics has no end"
    );

    let mut service = CatchPanicLayer::new()
        .layer(GateLayer::from_policy(slow.clone().with_route(|_| None)).layer(service_fn(answer)));
    service.call(get("/")).await.unwrap();
    assert_eq!(slow.snapshot().slow_polls, 2);
    assert!(
        slow.snapshot()
            .worst
            .iter()
            .all(|report| report.route.is_none())
    );
}

#[tokio::test]
async fn requests_over_plain_have_no_path() {
    let slow = all();
    let service = SlowPollLayer::new(slow.clone())
        .plain()
        .layer(service_fn(|()| pending::<Result<(), BoxError>>()));
    let mut call = tokio_test::task::spawn(service.oneshot(()));
    assert!(call.poll().is_pending());
    let snapshot = slow.snapshot();
    assert_eq!(snapshot.slow_polls, 1);
    assert_eq!(
        (&snapshot.worst[0].method, &snapshot.worst[0].path),
        (&None, &None)
    );
    drop(call);
}
