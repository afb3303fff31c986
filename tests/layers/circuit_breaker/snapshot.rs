//! Snapshots and reports of a breaker belong to one state. C1 to C5 are faults from production.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use seawall::circuit_breaker::{CircuitBreakerSnapshot, TransitionCause, Window};
use seawall::{CircuitBreaker, CircuitBreakerSettings, CircuitState, Outcome, Transition};
use tokio::time::advance;

const SECOND: Duration = Duration::from_secs(1);

/// Opens for 10 s when half of four calls have failed, and has four probes in 10 s.
fn breaker() -> (CircuitBreaker, Arc<Mutex<Vec<Transition>>>) {
    let settings = CircuitBreakerSettings::default()
        .minimum_calls(4)
        .open_duration(10 * SECOND)
        .half_open_probes(4);
    let breaker = CircuitBreaker::new(settings).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = seen.clone();
    breaker.on_transition(move |transition| hook.lock().unwrap().push(transition.clone()));
    (breaker, seen)
}

fn opened(breaker: &CircuitBreaker) {
    for outcome in [Outcome::Success, Outcome::Failure, Outcome::Success] {
        breaker.try_acquire().unwrap().settle(outcome);
    }
    breaker.try_acquire().unwrap().failure();
}

/// The state and its values: calls, failures, failed recoveries, transitions, time.
fn shown(now: &CircuitBreakerSnapshot) -> (&str, u64, u64, u32, u64, Duration) {
    let recoveries = now.failed_recoveries;
    let state = now.state.as_str();
    (
        state,
        now.calls,
        now.failures,
        recoveries,
        now.transitions,
        now.in_state,
    )
}

#[tokio::test(start_paused = true)]
async fn c1_a_close_that_an_admission_finds_is_reported_with_it() {
    let (breaker, seen) = breaker();
    opened(&breaker);
    advance(10 * SECOND).await;
    breaker.try_acquire().unwrap().success();
    advance(10 * SECOND).await;
    assert_eq!(seen.lock().unwrap().len(), 2);
    let permit = breaker.try_acquire().unwrap();
    let last = seen.lock().unwrap().last().unwrap().clone();
    assert_eq!((last.number, last.to), (3, CircuitState::Closed));
    permit.success();
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn c2_the_mean_duration_is_that_of_the_calls_that_were_measured() {
    let settings = CircuitBreakerSettings::default().slow_call(SECOND, 1.0);
    for window in [Window::time_based(10 * SECOND), Window::count_based(100)] {
        let breaker = CircuitBreaker::new(settings.clone().window(window)).unwrap();
        breaker.record_timed(Outcome::Success, Duration::from_millis(100));
        breaker.record_timed(Outcome::Failure, Duration::from_millis(200));
        breaker.record_timed(Outcome::Success, 3 * SECOND);
        breaker.record(Outcome::Success);
        breaker.record(Outcome::Failure);
        let now = breaker.snapshot();
        assert_eq!(now.calls, 5, "{window:?}");
        assert_eq!(now.mean_duration, Some(Duration::from_millis(1100)));
    }
}

#[tokio::test(start_paused = true)]
async fn c3_a_snapshot_belongs_to_the_state_that_it_shows() {
    let (breaker, _) = breaker();
    opened(&breaker);
    // Open, with the calls on which the breaker opened, however long ago.
    advance(9 * SECOND).await;
    let open = ("open", 4, 2, 0, 1, 9 * SECOND);
    assert_eq!(shown(&breaker.snapshot()), open);
    assert_eq!(breaker.snapshot().failure_rate, Some(0.5));

    // The open time is over, and no call has arrived.
    advance(3 * SECOND).await;
    let half_open = ("half_open", 0, 0, 0, 2, 2 * SECOND);
    assert_eq!(shown(&breaker.snapshot()), half_open);
    assert_eq!(breaker.snapshot().failure_rate, None);

    // Two of three probes failed, and the half-open time is over.
    for outcome in [Outcome::Success, Outcome::Failure] {
        breaker.try_acquire().unwrap().settle(outcome);
    }
    let hangs = breaker.try_acquire().unwrap();
    assert_eq!(breaker.snapshot().probes_in_flight, 1);
    advance(12 * SECOND).await;
    let lost = ("open", 2, 1, 1, 3, 2 * SECOND);
    assert_eq!(shown(&breaker.snapshot()), lost);
    assert_eq!(breaker.snapshot().probes_in_flight, 0);

    // That open time is over too.
    advance(9 * SECOND).await;
    let again = ("half_open", 0, 0, 1, 4, SECOND);
    assert_eq!(shown(&breaker.snapshot()), again);
    drop(hangs);

    // The probes succeed by the end of the half-open time.
    breaker.try_acquire().unwrap().success();
    advance(11 * SECOND).await;
    let won = ("closed", 0, 0, 0, 5, SECOND);
    assert_eq!(shown(&breaker.snapshot()), won);
    breaker.try_acquire().unwrap().failure();
    let closed = ("closed", 1, 1, 0, 5, SECOND);
    assert_eq!(shown(&breaker.snapshot()), closed);
}

#[tokio::test(start_paused = true)]
async fn c4_what_is_recorded_while_it_shows_closed_counts() {
    let (breaker, _) = breaker();
    opened(&breaker);
    advance(10 * SECOND).await;
    breaker.try_acquire().unwrap().success();
    advance(10 * SECOND).await;
    assert_eq!(breaker.state(), CircuitState::Closed);
    breaker.record(Outcome::Failure);
    assert_eq!(breaker.snapshot().failures, 1);
}

/// The probes have decided, since the settings allow fewer of them now.
#[tokio::test(start_paused = true)]
async fn c4_what_is_recorded_after_fewer_probes_counts() {
    let (breaker, _) = breaker();
    opened(&breaker);
    advance(10 * SECOND).await;
    for _ in 0..2 {
        breaker.try_acquire().unwrap().success();
    }
    let settings = breaker.settings().half_open_probes(2);
    breaker.set(settings).unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
    breaker.record(Outcome::Failure);
    assert_eq!(breaker.snapshot().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn c5_a_trip_while_it_shows_open_changes_nothing() {
    let (breaker, seen) = breaker();
    opened(&breaker);
    advance(10 * SECOND).await;
    let hangs = breaker.try_acquire().unwrap();
    advance(14 * SECOND).await;
    let open = CircuitState::Open {
        retry_in: 6 * SECOND,
    };
    assert_eq!(breaker.state(), open);
    breaker.trip();
    assert_eq!(breaker.state(), open);
    let last = seen.lock().unwrap().last().unwrap().clone();
    assert_eq!(last.cause, TransitionCause::HalfOpenTimeOver);
    drop(hangs);
}

#[tokio::test(start_paused = true)]
async fn a_transition_has_the_counts_on_which_it_was_decided() {
    let (breaker, seen) = breaker();
    opened(&breaker);
    advance(10 * SECOND).await;
    breaker.try_acquire().unwrap().failure();
    breaker.try_acquire().unwrap().failure();
    advance(10 * SECOND).await;
    for _ in 0..3 {
        breaker.try_acquire().unwrap().success();
    }
    breaker.trip();
    let counts = |t: &Transition| (t.cause, t.calls, t.failures);
    let seen: Vec<_> = seen.lock().unwrap().iter().map(counts).collect();
    let all = [
        (TransitionCause::FailureRate, 4, 2),
        (TransitionCause::OpenTimeOver, 0, 0),
        (TransitionCause::ProbesFailed, 2, 2),
        (TransitionCause::OpenTimeOver, 0, 0),
        (TransitionCause::ProbesSucceeded, 3, 0),
        (TransitionCause::ByHand, 0, 0),
    ];
    assert_eq!(seen, all);
}

#[tokio::test(start_paused = true)]
async fn while_it_is_open_it_shows_all_that_it_was_decided_on() {
    for window in [Window::time_based(10 * SECOND), Window::count_based(100)] {
        let settings = CircuitBreakerSettings::default()
            .slow_call(SECOND, 1.0)
            .window(window)
            .minimum_calls(2);
        let breaker = CircuitBreaker::new(settings).unwrap();
        let took = |seconds| Duration::from_secs(seconds);
        let permit = breaker.try_acquire().unwrap();
        permit.settle_timed(Outcome::Success, took(1));
        breaker
            .try_acquire()
            .unwrap()
            .settle_timed(Outcome::Failure, took(3));
        advance(SECOND).await;
        let now = breaker.snapshot();
        assert_eq!(now.state.as_str(), "open");
        let counts = (now.calls, now.failures, now.slow_calls, now.slow_failures);
        assert_eq!(counts, (2, 1, 1, 1), "{window:?}");
        assert_eq!(now.mean_duration, Some(took(2)));
    }
}

/// If fewer probes are allowed than have ended, they decide for the next call, and a snapshot shows
/// it.
#[tokio::test(start_paused = true)]
async fn it_shows_what_fewer_probes_decide() {
    for (last, state) in [(Outcome::Success, "closed"), (Outcome::Failure, "open")] {
        let (breaker, _) = breaker();
        breaker.trip();
        advance(10 * SECOND).await;
        breaker.try_acquire().unwrap().success();
        breaker.try_acquire().unwrap().settle(last);
        assert_eq!(breaker.state().as_str(), "half_open");
        breaker.set(breaker.settings().half_open_probes(2)).unwrap();
        assert_eq!(breaker.state().as_str(), state);
        assert_eq!(breaker.try_acquire().is_ok(), state == "closed");
        assert_eq!(breaker.state().as_str(), state);
    }
    // Four are allowed now; three succeeded and five were outstanding.
    let settings = CircuitBreakerSettings::default().open_duration(10 * SECOND);
    let breaker = CircuitBreaker::new(settings).unwrap();
    breaker.trip();
    advance(10 * SECOND).await;
    let seen = Arc::new(Mutex::new(None));
    let hook = seen.clone();
    breaker.on_transition(move |transition| *hook.lock().unwrap() = Some(transition.to));
    let mut permits: Vec<_> = (0..8).map(|_| breaker.try_acquire().unwrap()).collect();
    for _ in 0..3 {
        permits.pop().unwrap().success();
    }
    breaker.set(breaker.settings().half_open_probes(4)).unwrap();
    for _ in 0..3 {
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        permits.pop().unwrap().ignore();
    }
    // The last probe changes the state, and not only the snapshot.
    assert_eq!(*seen.lock().unwrap(), Some(CircuitState::Closed));
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn thresholds_are_reached_once_while_it_observes() {
    let settings = CircuitBreakerSettings::default().minimum_calls(2);
    let breaker = CircuitBreaker::new(settings).unwrap();
    breaker.observe_only();
    for _ in 0..3 {
        breaker.try_acquire().unwrap().failure();
    }
    assert_eq!(breaker.snapshot().thresholds_reached.failure_rate, 1);
    for _ in 0..9 {
        breaker.try_acquire().unwrap().success();
    }
    advance(20 * SECOND).await;
    // The threshold is not reached any more, and then reached again.
    breaker.try_acquire().unwrap().success();
    for _ in 0..2 {
        breaker.try_acquire().unwrap().failure();
    }
    assert_eq!(breaker.snapshot().thresholds_reached.failure_rate, 2);
}

/// A function of the user may call the breaker when the function is dropped.
#[tokio::test(start_paused = true)]
async fn a_function_that_is_replaced_or_not_applied_is_dropped_outside_the_lock() {
    struct Reads(CircuitBreaker);
    impl Drop for Reads {
        fn drop(&mut self) {
            let _ = self.0.settings();
        }
    }
    let breaker = CircuitBreaker::default();
    let function = || {
        let reads = Reads(breaker.clone());
        seawall::circuit_breaker::OpenDuration::from_fn(move |_| {
            let _ = &reads;
            SECOND
        })
    };
    assert!(breaker.set_open_duration(function().jitter(2.0)).is_err());
    breaker.set_open_duration(function()).unwrap();
    breaker.set_open_duration(SECOND).unwrap();
}

/// Without a failure rate, the number of consecutive failures decides about the probes.
#[tokio::test(start_paused = true)]
async fn consecutive_failures_alone_decide_half_open() {
    let settings = CircuitBreakerSettings::default()
        .failure_rate(None)
        .consecutive_failures(2)
        .open_duration(10 * SECOND)
        .half_open_probes(4);
    let breaker = CircuitBreaker::new(settings).unwrap();
    breaker.trip();
    advance(10 * SECOND).await;
    breaker.try_acquire().unwrap().failure();
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    breaker.try_acquire().unwrap().failure();
    assert_eq!(breaker.state().as_str(), "open");
    advance(10 * SECOND).await;
    breaker.try_acquire().unwrap().failure();
    breaker.try_acquire().unwrap().success();
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

/// A recorded call finds that the half-open time is over, and reports the change.
#[tokio::test(start_paused = true)]
async fn a_recorded_call_reports_the_end_of_the_half_open_time() {
    let settings = CircuitBreakerSettings::default()
        .half_open_probes(2)
        .half_open_timeout(SECOND);
    let breaker = CircuitBreaker::new(settings).unwrap();
    let last = Arc::new(Mutex::new(None));
    let seen = last.clone();
    breaker.on_transition(move |transition| *seen.lock().unwrap() = Some(transition.to));
    breaker.trip();
    let CircuitState::Open { retry_in } = breaker.state() else {
        unreachable!("tripped")
    };
    advance(retry_in).await;
    breaker.try_acquire().unwrap().success();
    advance(SECOND).await;
    breaker.record(Outcome::Success);
    let closed = matches!(breaker.state(), CircuitState::Closed);
    let told = matches!(*last.lock().unwrap(), Some(CircuitState::Closed));
    assert_eq!((closed, told), (true, true));
}
