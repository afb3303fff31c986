//! Calls that a handler makes while it reads its request body. The caller does not cause their
//! failures, unless the call itself reads the body.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use seawall::{
    CircuitBreaker, CircuitBreakerLayer, GateLayer, RequestLimit, RequestLimitLayer, Timeout,
    TimeoutLayer,
};
use tokio::time::{sleep, timeout};
use tower::{BoxError, Layer, Service, ServiceBuilder, service_fn};

use super::moved_on::{breaker, counted};
use super::size::{Once, Twice, handler};
use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// A handler calls the dependency and reads its silent request body at the same time, for up to
/// `patience`. Returns what its breaker has counted.
async fn beside<F>(dependency: fn() -> F, patience: Duration) -> (u64, u64, u64)
where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let breaker = breaker();
    let policies = (breaker.clone(), Timeout::from(200 * MS));
    let client = GateLayer::from_policy(policies)
        .plain()
        .layer(service_fn(move |()| dependency()));
    let handler = service_fn(move |request: Request<Once>| {
        let mut client = client.clone();
        async move {
            let mut body = request.into_body();
            let call = client.call(());
            let both = async {
                tokio::select! {
                    biased;
                    _ = body.frame() => panic!("it is silent"),
                    _ = call => {}
                }
            };
            let _ = timeout(patience, both).await;
            Ok::<_, Infallible>(Response::new(Script::default()))
        }
    });
    let mut service = RequestLimitLayer::new(1000).layer(handler);
    let request = post(Script::new([Step::Silent]));
    service.call(request).await.unwrap();
    counted(&breaker)
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_fails_while_the_handler_reads_its_body_is_a_failure() {
    let fails = || async {
        sleep(10 * MS).await;
        Err("no connection".into())
    };
    assert_eq!(beside(fails, 500 * MS).await, (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_hangs_while_the_handler_reads_its_body_is_a_failure() {
    assert_eq!(beside(pending, 500 * MS).await, (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_is_slow_while_the_handler_reads_its_body_is_slow() {
    let slow = || async {
        sleep(150 * MS).await;
        Ok(())
    };
    assert_eq!(beside(slow, 500 * MS).await, (0, 1, 0));
}

/// The wait for the body before the call is not part of the call.
#[tokio::test(start_paused = true)]
async fn a_call_after_a_slow_body_is_not_slow() {
    let breaker = breaker();
    let dependency = service_fn(async |()| {
        sleep(50 * MS).await;
        Ok::<_, BoxError>(())
    });
    let layer = CircuitBreakerLayer::new(breaker.clone()).plain();
    let client = layer.layer(dependency);
    let handler = service_fn(move |request: Request<Once>| {
        let mut client = client.clone();
        async move {
            let mut body = request.into_body();
            assert!(timeout(300 * MS, body.frame()).await.is_err());
            client.call(()).await.unwrap();
            Ok::<_, Infallible>(Response::new(Script::default()))
        }
    });
    let mut service = RequestLimitLayer::new(1000).layer(handler);
    let request = post(Script::new([Step::Silent]));
    service.call(request).await.unwrap();
    assert_eq!(counted(&breaker), (0, 0, 0));
}

/// The caller does not leave: the handler ends the call.
#[tokio::test(start_paused = true)]
async fn a_slow_call_that_the_handler_drops_while_it_reads_its_body_is_a_failure() {
    assert_eq!(beside(pending, 150 * MS).await, (1, 1, 0));
}

/// The call that a timeout ends or the caller drops reads the body.
#[tokio::test(start_paused = true)]
async fn a_call_that_reads_the_silent_body_is_the_callers_fault() {
    let breaker = breaker();
    let mut service = ServiceBuilder::new()
        .layer(RequestLimitLayer::new(1000))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(TimeoutLayer::new(200 * MS))
        .service(handler::<Once>());
    let request = || post(Script::new([Step::Silent]));
    assert_eq!(service.call(request()).await.unwrap().status(), 408);
    assert_eq!(counted(&breaker), (0, 0, 1));
    let dropped = timeout(150 * MS, service.call(request())).await;
    assert!(dropped.is_err());
    assert_eq!(counted(&breaker), (0, 0, 2));
}

/// `run` around the code that reads the body: while it waits, and after it has given up.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_is_slow_unless_it_waits_for_the_body() {
    for (gives_up_after, expected) in [(20 * MS, (1, 1, 0)), (500 * MS, (0, 0, 1))] {
        let breaker = breaker();
        let of_handler = breaker.clone();
        let handler = service_fn(move |request: Request<Once>| {
            let breaker = of_handler.clone();
            async move {
                let mut body = request.into_body();
                let call = breaker.run(async {
                    assert!(timeout(gives_up_after, body.frame()).await.is_err());
                    sleep(50 * MS).await;
                    pending::<Result<(), BoxError>>().await
                });
                assert!(timeout(300 * MS, call).await.is_err());
                Ok::<_, Infallible>(Response::new(Script::default()))
            }
        });
        let mut service = RequestLimitLayer::new(1000).layer(handler);
        let request = post(Script::new([Step::Silent]));
        service.call(request).await.unwrap();
        assert_eq!(counted(&breaker), expected);
    }
}

/// A timeout of another crate, which polls its timer first and answers 504. The breaker is inside
/// the limit, in the same gate, or outside.
#[tokio::test(start_paused = true)]
async fn a_timeout_that_does_not_poll_the_call_again_is_the_callers_fault() {
    let timed = || {
        let inner = handler::<Once>();
        service_fn(move |request: Request<Once>| {
            // Both are dropped after the answer.
            let mut call = Box::pin(inner.clone().call(request));
            let mut timer = Box::pin(sleep(200 * MS));
            poll_fn(move |cx| {
                if timer.as_mut().poll(cx).is_pending() {
                    return call.as_mut().poll(cx);
                }
                let mut response = Response::new(Script::default());
                *response.status_mut() = http::StatusCode::GATEWAY_TIMEOUT;
                Poll::Ready(Ok::<_, Infallible>(response))
            })
        })
    };
    let request = || post(Script::new([Step::Silent]));
    let limit = || RequestLimitLayer::new(1000);

    let inside = breaker();
    let layer = CircuitBreakerLayer::new(inside.clone());
    let mut service = limit().layer(layer.layer(timed()));
    assert_eq!(service.call(request()).await.unwrap().status(), 504);
    assert_eq!(counted(&inside), (0, 0, 1));

    let beside = breaker();
    let policies = (beside.clone(), RequestLimit::from(1000));
    let mut service = GateLayer::from_policy(policies).layer(timed());
    assert_eq!(service.call(request()).await.unwrap().status(), 504);
    assert_eq!(counted(&beside), (0, 0, 1));

    let outside = breaker();
    let layer = CircuitBreakerLayer::new(outside.clone());
    let mut service = layer.layer(limit().layer(timed()));
    assert_eq!(service.call(request()).await.unwrap().status(), 504);
    assert_eq!(counted(&outside), (0, 0, 1));
}

/// The wait for the body before a call does not make the call fast.
#[tokio::test(start_paused = true)]
async fn a_slow_call_that_reads_the_rest_of_a_slow_body_is_slow() {
    let breaker = breaker();
    let of_handler = breaker.clone();
    let handler = service_fn(move |request: Request<Once>| {
        let breaker = of_handler.clone();
        async move {
            let mut body = request.into_body();
            assert!(timeout(300 * MS, body.frame()).await.is_err());
            let call = breaker.run(async {
                assert!(timeout(50 * MS, body.frame()).await.is_err());
                for _ in 0..4 {
                    sleep(50 * MS).await;
                }
                Ok::<_, BoxError>(())
            });
            call.await.unwrap();
            Ok::<_, Infallible>(Response::new(Script::default()))
        }
    });
    let mut service = RequestLimitLayer::new(1000).layer(handler);
    let request = post(Script::new([Step::Silent]));
    service.call(request).await.unwrap();
    assert_eq!(counted(&breaker), (0, 1, 0));
}

/// No policy needs the outcome, so that no gate has listened.
#[tokio::test(start_paused = true)]
async fn a_timeout_around_the_limit_answers_408_for_a_silent_body() {
    let mut nested = ServiceBuilder::new()
        .layer(TimeoutLayer::new(200 * MS))
        .layer(RequestLimitLayer::new(1000))
        .service(handler::<Once>());
    let policies = (Timeout::from(200 * MS), RequestLimit::from(1000));
    let mut one = GateLayer::from_policy(policies).layer(handler::<Once>());
    let request = || post(Script::new([Step::Silent]));
    assert_eq!(nested.call(request()).await.unwrap().status(), 408);
    assert_eq!(one.call(request()).await.unwrap().status(), 408);
}

/// The inner gate has rejected the request, and reads its rest.
#[tokio::test(start_paused = true)]
async fn a_timeout_around_a_rejection_that_waits_for_the_rest_answers_408() {
    let inner = RequestLimitLayer::new(10).layer(handler::<Twice>());
    let policies = (Timeout::from(300 * MS), RequestLimit::from(1 << 20));
    let mut service = GateLayer::from_policy(policies).layer(inner);
    let token = std::sync::Arc::new(());
    let request = post(Script::new([Step::Silent]).exact(100_000).holding(&token));
    assert_eq!(service.call(request).await.unwrap().status(), 408);
    let held = std::sync::Arc::strong_count(&token);
    assert_eq!(held, 2, "the outer gate reads on");
}

/// The handler waits for its body for `wait`, and makes one call of 150 ms after that.
async fn call_after<F>(wait: Duration, call: impl Fn(CircuitBreaker) -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    let breaker = breaker();
    let of_handler = breaker.clone();
    let handler = service_fn(move |request: Request<Once>| {
        let (breaker, call) = (of_handler.clone(), call.clone());
        async move {
            let mut body = request.into_body();
            assert!(timeout(wait, body.frame()).await.is_err());
            sleep(50 * MS).await;
            call(breaker).await;
            Ok::<_, Infallible>(Response::new(Script::default()))
        }
    });
    let mut service = RequestLimitLayer::new(1000).layer(handler);
    let request = post(Script::new([Step::Silent]));
    service.call(request).await.unwrap();
    assert_eq!(counted(&breaker), (0, 1, 0), "{wait:?}");
}

/// A wait before the call does not count as a wait during the call, however long it was.
#[tokio::test(start_paused = true)]
async fn a_slow_call_after_a_long_upload_is_slow() {
    for seconds in [1, 600, 1800, 17_000] {
        // Not a whole number of milliseconds.
        let wait = Duration::from_micros(seconds * 1_000_000 + 1500);
        call_after(wait, async |breaker: CircuitBreaker| {
            let permit = breaker.try_acquire().unwrap();
            sleep(150 * MS).await;
            permit.success();
        })
        .await;
        call_after(wait, async |breaker: CircuitBreaker| {
            let call = breaker.run(async {
                sleep(150 * MS).await;
                Ok::<_, BoxError>(())
            });
            call.await.unwrap();
        })
        .await;
    }
}

/// A call that waits for its body is not slow, however long it waits.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_long_for_its_body_is_not_slow() {
    for seconds in [1, 600, 1800, 15_000] {
        let breaker = breaker();
        let handler = service_fn(move |request: Request<Once>| async move {
            let mut body = request.into_body();
            let wait = Duration::from_secs(seconds);
            assert!(timeout(wait, body.frame()).await.is_err());
            sleep(50 * MS).await;
            Ok::<_, Infallible>(Response::new(Script::default()))
        });
        let mut service = ServiceBuilder::new()
            .layer(CircuitBreakerLayer::new(breaker.clone()))
            .layer(RequestLimitLayer::new(1000))
            .service(handler);
        let request = post(Script::new([Step::Silent]));
        service.call(request).await.unwrap();
        assert_eq!(counted(&breaker), (0, 0, 0), "{seconds} s");
        assert_eq!(breaker.snapshot().totals.successes, 1);
    }
}
