//! The breaker that is not ready while it is open.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use seawall::circuit_breaker::{CircuitBreakerReady, CircuitBreakerReadyLayer};
use seawall::{CircuitBreaker, CircuitBreakerLayer, CircuitState, Outcome, Plain};
use tokio::time::advance;
use tokio_test::task::{Spawn, spawn};
use tokio_test::{assert_pending, assert_ready_ok};
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::Constant;
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::circuit_breaker::layer::{SECOND, breaker, due, is_open, settings, status};
use crate::handler::service_fn;
use crate::support::*;

fn endpoint(
    breaker: &CircuitBreaker,
) -> Spawn<CircuitBreakerReady<impl Service<u32, Response = u32, Error = BoxError> + Clone, Plain>>
{
    let inner = MustBeReady::new(service_fn(async |n: u32| {
        if n == 13 {
            Err(BoxError::from("unlucky"))
        } else {
            Ok(n)
        }
    }));
    spawn(
        CircuitBreakerReadyLayer::new(breaker.clone())
            .plain()
            .layer(inner),
    )
}

macro_rules! poll_ready {
    ($endpoint:expr) => {
        $endpoint.enter(|cx, mut service| service.poll_ready(cx))
    };
}

#[tokio::test(start_paused = true)]
async fn open_it_is_not_ready_and_is_woken_when_the_open_time_is_over() {
    let breaker = breaker();
    let mut endpoint = endpoint(&breaker);
    for n in [1, 13, 13, 13] {
        assert_ready_ok!(poll_ready!(endpoint));
        let _ = endpoint.call(n).await;
    }
    assert!(is_open(&breaker));
    assert_pending!(poll_ready!(endpoint));
    assert_pending!(poll_ready!(endpoint));
    advance(Duration::from_millis(4999)).await;
    assert!(!endpoint.is_woken(), "nobody spins");
    advance(Duration::from_millis(2)).await;
    tokio::task::yield_now().await;
    assert!(endpoint.is_woken());
    assert_ready_ok!(poll_ready!(endpoint));
    assert_eq!(breaker.snapshot().probes_in_flight, 1);
    assert_eq!(endpoint.call(7).await.unwrap(), 7);
    let now = breaker.snapshot();
    assert_eq!((now.probes_in_flight, now.calls, now.rejected), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn forced_open_it_is_woken_by_hand() {
    let breaker = breaker();
    let mut endpoint = endpoint(&breaker);
    breaker.force_open();
    assert_pending!(poll_ready!(endpoint));
    advance(3600 * SECOND).await;
    assert!(!endpoint.is_woken());
    breaker.reset();
    assert!(endpoint.is_woken());
    assert_ready_ok!(poll_ready!(endpoint));
}

#[tokio::test(start_paused = true)]
async fn a_grant_is_honoured_and_looked_at_again() {
    let breaker = breaker();
    let mut endpoint = endpoint(&breaker);
    assert_ready_ok!(poll_ready!(endpoint));
    breaker.trip();
    assert_eq!(endpoint.call(7).await.unwrap(), 7);
    let now = breaker.snapshot();
    assert_eq!(
        (now.calls, now.totals.successes),
        (0, 1),
        "of a state that is no more"
    );
    breaker.reset();
    assert_ready_ok!(poll_ready!(endpoint));
    breaker.trip();
    assert_pending!(poll_ready!(endpoint));
}

#[tokio::test(start_paused = true)]
async fn a_reserved_probe_is_given_back() {
    let breaker = due(settings().half_open_probes(1)).await;
    let (mut first, mut second) = (endpoint(&breaker), endpoint(&breaker));
    assert_ready_ok!(poll_ready!(first));
    assert_ready_ok!(poll_ready!(first));
    assert_pending!(poll_ready!(second));
    // A clone has none.
    let mut clone = spawn(first.clone());
    assert_pending!(poll_ready!(clone));
    assert_eq!(breaker.snapshot().probes_in_flight, 1);
    drop(first);
    assert!(second.is_woken() && clone.is_woken());
    assert_ready_ok!(poll_ready!(second));
    assert_pending!(poll_ready!(clone));
    let call = second.call(7);
    assert_pending!(poll_ready!(second), "that was its only one");
    drop(call);
    assert!(second.is_woken() && clone.is_woken());
    assert_ready_ok!(poll_ready!(clone));
    assert_eq!(clone.call(7).await.unwrap(), 7);
    assert_eq!(breaker.state(), CircuitState::Closed);
    assert_ready_ok!(poll_ready!(second));
    let totals = breaker.snapshot().totals;
    assert_eq!(
        (totals.ignored, totals.cancelled),
        (1, 1),
        "a reservation is no call"
    );
}

/// The hooks are called, although a task that waits cannot be woken.
#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_does_not_stop_a_transition() {
    let breaker = breaker();
    let told = Arc::new(AtomicUsize::new(0));
    let tells = told.clone();
    breaker.on_transition(move |_| {
        tells.fetch_add(1, Relaxed);
    });
    breaker.force_open();
    let mut endpoint = endpoint(&breaker).into_inner();
    let waker = waker_that_panics();
    let polled = endpoint.poll_ready(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    breaker.force_closed();
    assert_eq!(told.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn it_is_woken_when_there_are_more_probes() {
    let breaker = due(settings().half_open_probes(1)).await;
    let (mut first, mut second) = (endpoint(&breaker), endpoint(&breaker));
    assert_ready_ok!(poll_ready!(first));
    assert_pending!(poll_ready!(second));
    breaker.set(settings().half_open_probes(2)).unwrap();
    assert!(second.is_woken());
    assert_ready_ok!(poll_ready!(second));
}

#[tokio::test(start_paused = true)]
async fn a_reservation_that_is_not_used_expires() {
    let breaker = due(settings().half_open_probes(1)).await;
    let (mut idle, mut other) = (endpoint(&breaker), endpoint(&breaker));
    assert_ready_ok!(poll_ready!(idle));
    assert_pending!(poll_ready!(other));
    advance(5 * SECOND).await;
    tokio::task::yield_now().await;
    assert!(other.is_woken());
    assert_pending!(poll_ready!(other));
    assert!(is_open(&breaker));
    assert_pending!(poll_ready!(idle), "it looks again");
    advance(5 * SECOND).await;
    assert_ready_ok!(poll_ready!(other));
    assert_eq!(other.call(7).await.unwrap(), 7);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

/// A balancer polls every endpoint and calls one. At the end of the half-open time, the probes that
/// were made decide, and a reservation is none of them.
#[tokio::test(start_paused = true)]
async fn a_reservation_that_is_not_used_is_no_failed_probe() {
    for (calls, opens) in [(1, false), (0, true)] {
        let breaker = due(settings().half_open_probes(3)).await;
        let (mut idle, mut called) = (endpoint(&breaker), endpoint(&breaker));
        assert_ready_ok!(poll_ready!(idle));
        for _ in 0..calls {
            assert_ready_ok!(poll_ready!(called));
            assert_eq!(called.call(7).await.unwrap(), 7);
        }
        advance(5 * SECOND).await;
        assert_eq!(is_open(&breaker), opens);
        assert_eq!(breaker.state() == CircuitState::Closed, !opens);
        // The reservation belongs to a state that is over.
        drop(idle);
        assert_eq!(breaker.snapshot().probes_in_flight, 0);
    }
}

/// The call of a reservation whose half-open time is over.
#[tokio::test(start_paused = true)]
async fn a_call_reports_the_transition_that_it_makes() {
    let breaker = due(settings().half_open_probes(1)).await;
    let mut endpoint = endpoint(&breaker);
    assert_ready_ok!(poll_ready!(endpoint));
    let transitions = Arc::new(AtomicUsize::new(0));
    let counts = transitions.clone();
    breaker.on_transition(move |_| {
        counts.fetch_add(1, Relaxed);
    });
    advance(5 * SECOND).await;
    let call = endpoint.call(7);
    assert_eq!(transitions.load(Relaxed), 1);
    assert_eq!(call.await.unwrap(), 7);
}

/// The time between the two calls does not count for the endpoint.
#[tokio::test(start_paused = true)]
async fn a_call_begins_when_it_is_called() {
    let breaker = CircuitBreaker::new(settings().slow_call(SECOND, 0.5)).unwrap();
    let mut endpoint = endpoint(&breaker);
    assert_ready_ok!(poll_ready!(endpoint));
    advance(3600 * SECOND).await;
    assert_eq!(endpoint.call(7).await.unwrap(), 7);
    let now = breaker.snapshot();
    assert_eq!((now.calls, now.slow_calls), (1, 0));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "`poll_ready` must have been ready before `call`")]
async fn a_call_without_a_grant_panics() {
    let breaker = CircuitBreaker::default();
    let mut endpoint = endpoint(&breaker);
    let _ = endpoint.call(7).await;
}

/// A service whose readiness, or error, the test sets.
#[derive(Clone)]
struct Told(Arc<AtomicUsize>);

impl Service<u32> for Told {
    type Response = u32;
    type Error = BoxError;
    type Future = std::future::Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.0.load(Relaxed) {
            0 => Poll::Pending,
            1 => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err("broken".into())),
        }
    }

    fn call(&mut self, n: u32) -> Self::Future {
        std::future::ready(Ok(n))
    }
}

#[tokio::test(start_paused = true)]
async fn no_probe_is_reserved_for_what_is_not_ready() {
    let breaker = due(settings().half_open_probes(1)).await;
    let told = Arc::new(AtomicUsize::new(0));
    let layer = CircuitBreakerReadyLayer::new(breaker.clone()).plain();
    let mut endpoint = spawn(layer.layer(Told(told.clone())));
    assert_pending!(poll_ready!(endpoint));
    assert_eq!(breaker.snapshot().probes_in_flight, 0);
    told.store(1, Relaxed);
    assert_ready_ok!(poll_ready!(endpoint));
    assert_eq!(breaker.snapshot().probes_in_flight, 1);
    told.store(0, Relaxed);
    assert_pending!(poll_ready!(endpoint));
    assert_eq!(breaker.snapshot().probes_in_flight, 0);
    told.store(2, Relaxed);
    let error = tokio_test::assert_ready_err!(poll_ready!(endpoint));
    assert_eq!(error.to_string(), "broken");
    assert_eq!(breaker.snapshot().totals.failures, 0);
}

/// It is HTTP by default, with the classifier of the layer from which it is made.
#[tokio::test(start_paused = true)]
async fn it_counts_as_the_layer_it_is_made_of() {
    let breaker = CircuitBreaker::new(settings().minimum_calls(1)).unwrap();
    let service = service_fn(async |_: Request<Script>| Ok::<_, Infallible>(status(404)));
    let mut plain = CircuitBreakerReadyLayer::new(breaker.clone()).layer(service.clone());
    plain.ready().await.unwrap().call(get()).await.unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
    breaker.reset();
    let layer = CircuitBreakerLayer::new(breaker.clone())
        .classify(|head| (head.status == 404).then_some(Outcome::Failure));
    let mut classified = CircuitBreakerReadyLayer::from(layer).layer(service);
    let response: Response<_> = classified.ready().await.unwrap().call(get()).await.unwrap();
    assert_eq!(response.status(), 404);
    assert!(is_open(&breaker));
}

/// `tower::balance` sends to the endpoint that works, and sends to the other one again when its
/// breaker allows it.
#[tokio::test(start_paused = true)]
async fn a_balancer_sends_elsewhere() {
    let breakers = [breaker(), breaker()];
    let calls = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let fails = Arc::new(AtomicUsize::new(1));
    let endpoints: Vec<_> = breakers
        .iter()
        .enumerate()
        .map(|(index, breaker)| {
            let (calls, fails) = (calls.clone(), fails.clone());
            let service = service_fn(move |n: u32| {
                calls[index].fetch_add(1, Relaxed);
                let fails = index == 0 && fails.load(Relaxed) == 1;
                async move {
                    if fails {
                        Err(BoxError::from("down"))
                    } else {
                        Ok(n)
                    }
                }
            });
            let layer = CircuitBreakerReadyLayer::new(breaker.clone()).plain();
            Constant::new(layer.layer(service), 1)
        })
        .collect();
    let mut balance = Balance::new(ServiceList::new::<u32>(endpoints));
    let mut failed = 0;
    for n in 0..100 {
        failed += usize::from(balance.ready().await.unwrap().call(n).await.is_err());
    }
    assert!(is_open(&breakers[0]), "{calls:?}");
    // Two to four failures open the breaker. Then all calls go to the other endpoint.
    assert!((2..=4).contains(&failed), "{failed}");
    assert_eq!(calls[0].load(Relaxed) + calls[1].load(Relaxed), 100);
    fails.store(0, Relaxed);
    advance(5 * SECOND).await;
    for n in 0..100 {
        balance.ready().await.unwrap().call(n).await.unwrap();
    }
    assert_eq!(breakers[0].state(), CircuitState::Closed);
    assert!(calls[0].load(Relaxed) > failed + 2);
}
