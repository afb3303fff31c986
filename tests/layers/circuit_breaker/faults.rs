//! The faults that users of other breakers have reported.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::{Request, Response};
use seawall::circuit_breaker::Window;
use seawall::{
    CircuitBreaker, CircuitBreakerLayer, CircuitState, ConcurrencyLimit, GateLayer, Outcome, Reason,
};
use tokio::runtime::Handle;
use tokio::time::{advance, sleep, timeout};
use tokio_test::assert_pending;
use tokio_test::task::spawn;
use tower::{Layer, Service};

use crate::circuit_breaker::layer::{SECOND, due, is_open, settings, status};
use crate::handler::service_fn;
use crate::support::*;

/// A breaker that samples everything since its start would need hours to notice an outage after 100
/// 000 successes.
#[tokio::test(start_paused = true)]
async fn an_outage_after_100_000_successes_opens_it_within_one_window() {
    for window in [Window::count_based(100), Window::time_based(10 * SECOND)] {
        let breaker = CircuitBreaker::new(settings().window(window)).unwrap();
        for _ in 0..100_000 {
            breaker.try_acquire().unwrap().success();
            advance(Duration::from_millis(1)).await;
        }
        let mut failures = 0;
        while let Ok(ticket) = breaker.try_acquire() {
            ticket.failure();
            failures += 1;
            assert!(failures < 10_000, "it never opens");
            advance(Duration::from_millis(1)).await;
        }
        let window = if window == Window::count_based(100) {
            50
        } else {
            5000
        };
        assert!(failures <= window, "{failures}");
    }
}

#[tokio::test(start_paused = true)]
async fn probes_slower_than_the_window_reach_a_verdict() {
    for (outcome, closes) in [(Outcome::Success, true), (Outcome::Failure, false)] {
        let slow = settings()
            .window(Window::time_based(SECOND))
            .open_duration(60 * SECOND);
        let breaker = due(slow).await;
        let probes = [
            breaker.try_acquire().unwrap(),
            breaker.try_acquire().unwrap(),
        ];
        advance(30 * SECOND).await;
        for probe in probes {
            probe.settle(outcome);
        }
        assert_eq!(breaker.state() == CircuitState::Closed, closes);
        assert_eq!(is_open(&breaker), !closes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_neither_wedges_nor_closes_it() {
    let breaker = due(settings()).await;
    let hung = [
        breaker.try_acquire().unwrap(),
        breaker.try_acquire().unwrap(),
    ];
    assert!(breaker.try_acquire().is_err());
    advance(5 * SECOND).await;
    assert!(is_open(&breaker));
    advance(5 * SECOND).await;
    let probe = breaker.try_acquire().unwrap();
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    drop(hung);
    assert_eq!(
        breaker.snapshot().probes_in_flight,
        1,
        "a stale probe gives no place back"
    );
    probe.success();
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_stale_probe_neither_wedges_nor_closes_it() {
    let breaker = due(settings()).await;
    let stale = [
        breaker.try_acquire().unwrap(),
        breaker.try_acquire().unwrap(),
    ];
    advance(10 * SECOND).await;
    let probes = [
        breaker.try_acquire().unwrap(),
        breaker.try_acquire().unwrap(),
    ];
    for stale in stale {
        stale.success();
    }
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    assert!(breaker.try_acquire().is_err());
    for probe in probes {
        probe.failure();
    }
    assert!(is_open(&breaker));
}

/// Dropped before its first poll, while it waits, or by an outer timeout: each releases its slot.
#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_gives_its_place_back() {
    let breaker = due(settings().half_open_probes(1)).await;
    let never = service_fn(|_: Request<Script>| pending::<Result<Response<Script>, Infallible>>());
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(never);
    drop(service.call(get()));
    let mut call = spawn(service.call(get()));
    assert_pending!(call.poll());
    let refused = spawn(service.call(get())).await.unwrap();
    assert_eq!(reason(&refused), Some(Reason::CircuitOpen));
    drop(call);
    assert!(timeout(SECOND, service.call(get())).await.is_err());
    let now = breaker.snapshot();
    assert_eq!(
        (now.state, now.probes_in_flight, now.totals.cancelled),
        (CircuitState::HalfOpen, 0, 3)
    );
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_panicked_probe_opens_it() {
    let breaker = due(settings().half_open_probes(1)).await;
    let mut service =
        CircuitBreakerLayer::new(breaker.clone()).layer(answers(|| panic!("scripted")));
    let call = std::panic::AssertUnwindSafe(|| drop(service.call(get())));
    std::panic::catch_unwind(call).unwrap_err();
    assert!(is_open(&breaker));
    advance(5 * SECOND).await;
    let ticket = breaker.try_acquire().unwrap();
    let dropped = std::panic::AssertUnwindSafe(move || {
        let _ticket = ticket;
        panic!("scripted");
    });
    std::panic::catch_unwind(dropped).unwrap_err();
    assert!(is_open(&breaker));
    assert_eq!(breaker.snapshot().totals.panicked, 2);
}

/// A call that a later policy rejects is ignored, and its probe is released.
#[tokio::test(start_paused = true)]
async fn a_probe_that_a_later_policy_of_the_tuple_rejects_is_released() {
    let breaker = due(settings().half_open_probes(1)).await;
    let limit = ConcurrencyLimit::from(1);
    let permit = limit.try_acquire_owned().unwrap();
    let mut service =
        GateLayer::from_policy((breaker.clone(), limit)).layer(answers(|| status(200)));
    for _ in 0..3 {
        let refused = service.call(get()).await.unwrap();
        assert_eq!(reason(&refused), Some(Reason::ConcurrencyLimit));
    }
    let now = breaker.snapshot();
    assert_eq!(
        (
            now.probes_in_flight,
            now.totals.ignored,
            now.totals.cancelled
        ),
        (0, 3, 0)
    );
    drop(permit);
    assert_eq!(service.call(get()).await.unwrap().status(), 200);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

/// All threads ask at the same moment, and keep their permits until all have asked.
#[tokio::test(start_paused = true)]
async fn of_200_callers_in_half_open_n_are_admitted() {
    for _ in 0..20 {
        let breaker = due(settings().half_open_probes(7)).await;
        let start = Barrier::new(200);
        let runtime = Handle::current(); // the clock of this runtime is paused
        let admitted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..200 {
                scope.spawn(|| {
                    let _runtime = runtime.enter();
                    start.wait();
                    let ticket = breaker.try_acquire();
                    admitted.fetch_add(usize::from(ticket.is_ok()), Relaxed);
                    start.wait();
                });
            }
        });
        assert_eq!(admitted.load(Relaxed), 7);
        assert_eq!(breaker.snapshot().rejected, 193);
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_calls_cancelled_when_slow_open_it() {
    for (patience, opens) in [(1001, true), (1000, false)] {
        let settings = settings().slow_call(SECOND, 1.0).minimum_calls(50);
        let breaker = CircuitBreaker::new(settings).unwrap();
        let never =
            service_fn(|_: Request<Script>| pending::<Result<Response<Script>, Infallible>>());
        let service = CircuitBreakerLayer::new(breaker.clone()).layer(never);
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let mut service = service.clone();
                tokio::spawn(async move {
                    let patience = Duration::from_millis(patience);
                    timeout(patience, service.call(get())).await.is_err()
                })
            })
            .collect();
        for call in calls {
            assert!(call.await.unwrap());
        }
        assert_eq!(is_open(&breaker), opens, "{patience}");
        assert_eq!(breaker.snapshot().totals.cancelled, 50);
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_panics_open_it() {
    let breaker = CircuitBreaker::new(settings().minimum_calls(50)).unwrap();
    let service = service_fn(
        async |_: Request<Script>| -> Result<Response<Script>, Infallible> { panic!("scripted") },
    );
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(service);
    for n in 1..=50 {
        let mut service = service.clone();
        let call = tokio::spawn(async move { service.call(get()).await });
        assert!(call.await.unwrap_err().is_panic());
        assert_eq!(is_open(&breaker), n == 50);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_probes_do_not_close_it() {
    let breaker = due(settings().slow_call(SECOND, 0.5)).await;
    let mut service =
        CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(async |_: Request<Script>| {
            sleep(2 * SECOND).await;
            Ok::<_, Infallible>(status(200))
        }));
    assert_eq!(service.call(get()).await.unwrap().status(), 200);
    assert!(is_open(&breaker));
}
