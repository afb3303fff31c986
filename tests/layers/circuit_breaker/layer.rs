//! The breaker in front of a service.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use seawall::circuit_breaker::Window;
use seawall::{
    CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, CircuitState, Outcome, Permit,
    Reason, Rejection,
};
use tokio::time::advance;
use tokio_test::task::spawn;
use tokio_test::{assert_ready, assert_ready_ok};
use tower::{BoxError, Layer, Service};

use crate::handler::service_fn;
use crate::support::*;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A window of four calls of which half may fail; open for five seconds.
pub(crate) fn settings() -> CircuitBreakerSettings {
    CircuitBreakerSettings::default()
        .minimum_calls(4)
        .half_open_probes(2)
}

pub(crate) fn breaker() -> CircuitBreaker {
    CircuitBreaker::new(settings()).unwrap()
}

pub(crate) fn is_open(breaker: &CircuitBreaker) -> bool {
    matches!(breaker.state(), CircuitState::Open { .. })
}

pub(crate) fn status(status: u16) -> Response<Script> {
    let mut response = ok(Script::default().knowing_its_end());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// A breaker whose open time is over.
pub(crate) async fn due(settings: CircuitBreakerSettings) -> CircuitBreaker {
    let breaker = CircuitBreaker::new(settings).unwrap();
    breaker.trip();
    let CircuitState::Open { retry_in } = breaker.state() else {
        unreachable!("tripped")
    };
    advance(retry_in).await;
    breaker
}

#[tokio::test(start_paused = true)]
async fn it_refuses_with_what_is_left_of_the_open_time() {
    let breaker = breaker();
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(answers(|| status(500)));
    for _ in 0..4 {
        assert_eq!(service.call(get()).await.unwrap().status(), 500);
    }
    advance(2 * SECOND).await;
    let refused = service.call(get()).await.unwrap();
    assert_eq!(refused.status(), 503);
    let rejection = refused.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.reason(), Reason::CircuitOpen);
    assert_eq!(rejection.retry_after(), Some(3 * SECOND));
    let retry_after: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((3..=4).contains(&retry_after), "{retry_after}");
    let refused = service.call(grpc()).await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "14");
    let pushback = refused.headers()["grpc-retry-pushback-ms"]
        .to_str()
        .unwrap();
    let pushback: u64 = pushback.parse().unwrap();
    assert!((3000..=3750).contains(&pushback), "{pushback}");
    breaker.force_open();
    let refused = service.call(get()).await.unwrap();
    assert!(!refused.headers().contains_key("retry-after"));
    assert_eq!(breaker.snapshot().rejected, 3);
}

#[tokio::test(start_paused = true)]
async fn plain_services_and_futures() {
    let breaker = breaker();
    let mut service = CircuitBreakerLayer::new(breaker.clone())
        .plain()
        .layer(service_fn(async |fails: bool| {
            if fails {
                Err(BoxError::from("scripted"))
            } else {
                Ok(1)
            }
        }));
    for _ in 0..4 {
        service.call(true).await.unwrap_err();
    }
    let refused = service.call(false).await.unwrap_err();
    assert_eq!(
        refused.downcast_ref::<Rejection>().unwrap().reason(),
        Reason::CircuitOpen
    );
    let run = breaker.run(async { Ok::<_, BoxError>(1) }).await;
    assert!(run.unwrap_err().is::<Rejection>());
    advance(5 * SECOND).await;
    for _ in 0..2 {
        assert_eq!(
            breaker.run(async { Ok::<_, BoxError>(1) }).await.unwrap(),
            1
        );
    }
    assert_eq!(breaker.state(), CircuitState::Closed);
    for _ in 0..4 {
        breaker
            .run(async { Err::<(), _>(BoxError::from("scripted")) })
            .await
            .unwrap_err();
    }
    assert!(is_open(&breaker));
    breaker.reset();
    for _ in 0..4 {
        let inner =
            async { Err::<(), _>(BoxError::from(Rejection::new(Reason::ConcurrencyLimit))) };
        breaker.run(inner).await.unwrap_err();
    }
    assert_eq!(breaker.state(), CircuitState::Closed);
    for _ in 0..4 {
        let fails = async { Err::<(), _>(BoxError::from("not there")) };
        let run = breaker.run_with(fails, |result| result.is_err().then_some(Outcome::Success));
        run.await.unwrap_err();
    }
    assert_eq!(breaker.snapshot().failures, 0);
    breaker.reset();
    for _ in 0..4 {
        let mut run = spawn(breaker.run(async { panic!("scripted") as Result<(), BoxError> }));
        let poll = std::panic::AssertUnwindSafe(|| drop(run.poll()));
        std::panic::catch_unwind(poll).unwrap_err();
    }
    assert!(is_open(&breaker));
}

/// A panic of another call does not count for this one.
#[tokio::test(start_paused = true)]
async fn a_run_that_a_sibling_s_panic_drops_was_cancelled() {
    let breaker = due(settings().half_open_probes(1)).await;
    let handle = breaker.clone();
    let task = tokio::spawn(async move {
        let sibling = async {
            tokio::task::yield_now().await;
            panic!("scripted")
        };
        tokio::join!(
            handle.run(std::future::pending::<Result<(), BoxError>>()),
            sibling
        )
    });
    assert!(task.await.unwrap_err().is_panic());
    let now = breaker.snapshot();
    assert_eq!(
        (now.state, now.probes_in_flight),
        (CircuitState::HalfOpen, 0)
    );
    assert_eq!((now.totals.cancelled, now.totals.panicked), (1, 0));
}

/// A call that begins and ends while an unrelated panic unwinds does not count as panicked.
#[test]
fn a_ticket_of_a_destructor_is_cancelled_and_not_panicked() {
    struct CleansUp(CircuitBreaker);
    impl Drop for CleansUp {
        fn drop(&mut self) {
            drop(self.0.try_acquire());
        }
    }
    let breaker = breaker();
    let cleans_up = CleansUp(breaker.clone());
    let panics = std::panic::AssertUnwindSafe(move || {
        let _cleans_up = cleans_up;
        panic!("scripted");
    });
    std::panic::catch_unwind(panics).unwrap_err();
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.cancelled, totals.panicked), (1, 0));
}

/// A payload of a panic that panics again, with such a payload.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new(Self));
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_are_told_in_order_and_may_do_what_they_like() {
    use std::sync::Mutex;
    let breaker = breaker();
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let handle = breaker.clone();
    breaker.on_transition(|_| std::panic::resume_unwind(Box::new(PanicsInDrop)));
    breaker.on_transition(move |transition| {
        telling.lock().unwrap().push(transition.to_string());
        // Reads and changes the breaker that calls the hook.
        if transition.number == 1 {
            assert_eq!(handle.snapshot().transitions, 1);
            handle.force_closed();
            handle.reset();
        }
    });
    let trips = std::panic::AssertUnwindSafe(|| breaker.trip());
    if let Err(payload) = std::panic::catch_unwind(trips) {
        std::mem::forget(payload);
        panic!("a panic of a hook reached the caller");
    }
    assert_eq!(
        *told.lock().unwrap(),
        [
            "closed -> open: by hand, for 5s",
            "open -> forced_closed: by hand",
            "forced_closed -> closed: by hand"
        ]
    );
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn dry_run_counts_and_refuses_nothing() {
    let breaker = breaker();
    let layer = CircuitBreakerLayer::new(breaker.clone()).dry_run();
    let mut service = layer.layer(answers(|| status(500)));
    for _ in 0..10 {
        assert_eq!(service.call(get()).await.unwrap().status(), 500);
    }
    assert!(is_open(&breaker));
    let now = breaker.snapshot();
    assert_eq!((now.rejected, now.would_reject), (0, 6));
}

/// A thread remembers its current slice for a few breakers. With more breakers, and as time passes,
/// every call still counts in its own slice, whether it is the first of the slice or one of many.
#[tokio::test(start_paused = true)]
async fn calls_are_counted_in_their_slice_however_many_breakers_take_turns() {
    let window = Window::time_based(SECOND);
    let mut breakers = Vec::new();
    for _ in 0..20 {
        breakers.push(CircuitBreaker::new(settings().window(window)).unwrap());
        advance(SECOND / 10).await; // each numbers its slices from its own start
    }
    for slice in 0..25 {
        for _ in 0..3 {
            for breaker in breakers.iter().rev() {
                breaker.try_acquire().unwrap().success();
            }
        }
        advance(Duration::from_nanos(99_999_999)).await;
        for breaker in breakers.iter().rev() {
            breaker.try_acquire().unwrap().success();
            assert_eq!(breaker.snapshot().calls, 4 * 10.min(slice + 1));
        }
        advance(Duration::from_nanos(1)).await;
    }
}

/// A breaker that outlives a paused clock which was ahead, as a static one does in tests.
#[test]
fn a_clock_that_was_ahead_is_forgotten() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let breaker = breaker();
    let count = |times: usize| {
        for _ in 0..times {
            breaker.try_acquire().unwrap().success();
        }
    };
    runtime().block_on(async {
        advance(3605 * SECOND).await;
        count(3);
    });
    runtime().block_on(async {
        count(3);
        assert_eq!(breaker.snapshot().calls, 3);
    });
}

/// `retry_in` is exact to the nanosecond, although a rejection before that reads a time that is
/// exact to a millisecond.
#[tokio::test(start_paused = true)]
async fn it_is_open_until_its_time_is_over_and_no_longer() {
    let breaker = breaker();
    advance(Duration::from_nanos(1_234_567)).await;
    breaker.trip();
    for left in [5_000_000_000, 1_000_001, 1_000_000, 999_999, 1] {
        let CircuitState::Open { retry_in } = breaker.state() else {
            unreachable!("open for 5 s")
        };
        advance(retry_in.saturating_sub(Duration::from_nanos(left))).await;
        let after = breaker.try_acquire().unwrap_err().retry_after().unwrap();
        assert!(after <= 5 * SECOND, "{after:?} is longer than it is open");
        let left = Duration::from_nanos(left);
        let late = after.checked_sub(left).expect("no earlier than it is over");
        assert!(late < Duration::from_millis(1), "{late:?} too late");
    }
    advance(Duration::from_nanos(1)).await;
    breaker.try_acquire().unwrap().success();
}

#[tokio::test(start_paused = true)]
async fn an_open_time_with_jitter_stays_near_it() {
    use seawall::circuit_breaker::OpenDuration;
    let growing = OpenDuration::exponential(10 * SECOND, 2.0, 15 * SECOND).jitter(0.1);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let settings = settings().open_duration(growing.clone());
        let breaker = CircuitBreaker::new(settings).unwrap();
        breaker.trip();
        let CircuitState::Open { retry_in } = breaker.state() else {
            unreachable!("tripped")
        };
        assert!(
            (9 * SECOND..=11 * SECOND).contains(&retry_in),
            "{retry_in:?}"
        );
        seen.insert(retry_in);
        advance(retry_in).await;
        breaker.try_acquire().unwrap().failure();
        let _ = breaker.try_acquire().map(Permit::failure);
        let CircuitState::Open { retry_in } = breaker.state() else {
            unreachable!("failed again")
        };
        assert!(
            retry_in <= 15 * SECOND && retry_in >= 135 * SECOND / 10,
            "{retry_in:?}"
        );
    }
    assert!(seen.len() > 50);
}

/// A fixed time becomes longer or shorter: of 64 times, none is exact.
#[tokio::test(start_paused = true)]
async fn jitter_changes_a_fixed_open_time_in_both_directions() {
    let open = seawall::circuit_breaker::OpenDuration::from(10 * SECOND).jitter(0.1);
    let (mut shorter, mut longer) = (0, 0);
    for _ in 0..64 {
        let settings = CircuitBreakerSettings::default().open_duration(open.clone());
        let breaker = CircuitBreaker::new(settings).unwrap();
        breaker.trip();
        let CircuitState::Open { retry_in } = breaker.state() else {
            panic!("it is open");
        };
        assert!(retry_in >= 9 * SECOND && retry_in <= 11 * SECOND);
        shorter += u32::from(retry_in < 10 * SECOND);
        longer += u32::from(retry_in > 10 * SECOND);
    }
    assert!(shorter > 0 && longer > 0);
}

#[test]
fn a_ready_answer_leaves_nothing_pending() {
    let breaker = breaker();
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(answers(|| status(200)));
    let mut call = spawn(service.call(get()));
    assert_eq!(assert_ready_ok!(call.poll()).status(), 200);
    let mut run = spawn(breaker.run(async { Ok::<_, BoxError>(()) }));
    assert_ready!(run.poll()).unwrap();
    assert_eq!(breaker.snapshot().totals.successes, 2);
}
