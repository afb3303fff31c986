//! Any sequence of calls, outcomes, times and forced states, compared with a model that keeps a log
//! of all calls.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use seawall::circuit_breaker::{TransitionCause, Window};
use seawall::{CircuitBreaker, CircuitBreakerSettings, CircuitState, Outcome, Permit, Transition};
use tokio::time::advance;

use super::log::{
    Entry, HALF_OPEN, IN_A_ROW, MINIMUM, Mode, Model, OPEN, PROBES, SLOW, Step, step,
};

fn settings(last: Option<usize>) -> CircuitBreakerSettings {
    let window = match last {
        Some(n) => Window::count_based(u32::try_from(n).unwrap()),
        None => Window::time_based(Duration::from_secs(1)),
    };
    CircuitBreakerSettings::default()
        .window(window)
        .minimum_calls(MINIMUM as u32)
        .failure_rate(0.5)
        .slow_call(Duration::from_millis(SLOW), 0.5)
        .consecutive_failures(IN_A_ROW as u32)
        .half_open_probes(PROBES as u32)
        .open_duration(Duration::from_millis(OPEN))
        .half_open_timeout(Duration::from_millis(HALF_OPEN))
}

async fn run(last: Option<usize>, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let breaker = CircuitBreaker::new(settings(last)).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    breaker.on_transition(move |transition| telling.lock().unwrap().push(transition.clone()));
    let mut model = Model::new(last);
    // Each permit with its generation and the time at which it was granted.
    let mut tickets: Vec<(Permit<CircuitBreaker>, u64, u64)> = Vec::new();
    for step in steps {
        match step {
            Step::Acquire => {
                let ticket = breaker.try_acquire_owned();
                prop_assert_eq!(ticket.is_ok(), model.acquire(), "admitted");
                tickets.extend(
                    ticket
                        .ok()
                        .map(|ticket| (ticket, model.generation, model.now)),
                );
            }
            Step::Settle(index, outcome, took) if !tickets.is_empty() => {
                let (ticket, generation, _) = tickets.remove(index % tickets.len());
                ticket.settle_timed(outcome, Duration::from_millis(took));
                model.settle(Some(generation), outcome, took);
            }
            Step::Drop(index) if !tickets.is_empty() => {
                let (ticket, generation, since) = tickets.remove(index % tickets.len());
                drop(ticket);
                let took = model.now - since;
                model.settle(Some(generation), Outcome::Cancelled, took);
            }
            Step::Settle(..) | Step::Drop(_) => {}
            Step::Record(outcome) => {
                breaker.record(outcome);
                model.settle(None, outcome, 0);
            }
            Step::Advance(millis) => {
                advance(Duration::from_millis(millis)).await;
                model.now += millis;
            }
            Step::Trip => {
                breaker.trip();
                model.catch_up();
                if matches!(model.mode, Mode::Closed | Mode::HalfOpen) {
                    model.enter(Mode::Open, model.now);
                }
            }
            Step::ForceOpen => {
                breaker.force_open();
                model.force(Mode::ForcedOpen);
            }
            Step::ForceClosed => {
                breaker.force_closed();
                model.force(Mode::ForcedClosed);
            }
            Step::ObserveOnly => {
                breaker.observe_only();
                model.force(Mode::ObserveOnly);
            }
            Step::Reset => {
                breaker.reset();
                model.catch_up();
                model.enter(Mode::Closed, model.now);
            }
        }
        compare(&breaker, &model)?;
    }
    for transition in told.lock().unwrap().iter() {
        prop_assert!(is_legal(transition), "{}", transition);
    }
    let numbers = told
        .lock()
        .unwrap()
        .iter()
        .map(|t| t.number)
        .collect::<Vec<_>>();
    prop_assert_eq!(&numbers, &(1..=numbers.len() as u64).collect::<Vec<_>>());
    // A window without calls empties.
    breaker.observe_only();
    breaker.record(Outcome::Failure);
    advance(Duration::from_secs(1)).await;
    prop_assert!(last.is_some() || breaker.snapshot().calls == 0);
    Ok(())
}

fn compare(breaker: &CircuitBreaker, model: &Model) -> Result<(), TestCaseError> {
    let now = breaker.snapshot();
    let expired = model.now >= model.until;
    if expired && now.state == CircuitState::HalfOpen {
        prop_assert_eq!((now.calls, now.failures, now.probes_in_flight), (0, 0, 0));
    }
    match (model.mode, now.state) {
        (Mode::Closed, CircuitState::Closed)
        | (Mode::ForcedOpen, CircuitState::ForcedOpen)
        | (Mode::ForcedClosed, CircuitState::ForcedClosed)
        | (Mode::ObserveOnly, CircuitState::ObserveOnly) => {}
        (Mode::Open, CircuitState::Open { retry_in }) => {
            prop_assert_eq!(retry_in, Duration::from_millis(model.until - model.now));
        }
        (Mode::Open, CircuitState::HalfOpen) => prop_assert!(expired),
        (Mode::HalfOpen, CircuitState::HalfOpen) if !expired => {
            prop_assert_eq!(now.probes_in_flight as usize, model.outstanding);
            prop_assert!(model.outstanding <= PROBES);
        }
        (Mode::HalfOpen, state) => {
            prop_assert!(expired);
            let wanted = model.next();
            let is_same = match (wanted, state) {
                (Mode::Closed, CircuitState::Closed) | (Mode::HalfOpen, CircuitState::HalfOpen) => {
                    true
                }
                (Mode::Open, CircuitState::Open { retry_in }) => {
                    retry_in == Duration::from_millis(model.until + OPEN - model.now)
                }
                _ => false,
            };
            prop_assert!(is_same, "{:?} is shown as {:?}", wanted, state);
        }
        (mode, state) => prop_assert!(false, "{mode:?} is {state:?}"),
    }
    if let Mode::Closed | Mode::ObserveOnly = model.mode {
        let window = model.window(model.generation);
        let count = |is: fn(&Entry) -> bool| window.iter().filter(|e| is(e)).count() as u64;
        prop_assert_eq!(
            (now.calls, now.failures, now.slow_calls, now.slow_failures),
            (
                window.len() as u64,
                count(|e| e.failed),
                count(|e| e.slow),
                count(|e| e.failed && e.slow)
            )
        );
    }
    let totals = now.totals;
    prop_assert_eq!(
        (totals.successes, totals.failures, totals.ignored),
        (model.successes, model.failures, model.ignored)
    );
    Ok(())
}

fn is_legal(transition: &Transition) -> bool {
    use CircuitState::*;
    let Transition { from, to, .. } = transition;
    match transition.cause {
        TransitionCause::FailureRate
        | TransitionCause::SlowCallRate
        | TransitionCause::ConsecutiveFailures => {
            matches!((from, to), (Closed, Open { .. }))
        }
        TransitionCause::OpenTimeOver => matches!((from, to), (Open { .. }, HalfOpen)),
        TransitionCause::ProbesSucceeded => matches!((from, to), (HalfOpen, Closed)),
        TransitionCause::ProbesFailed | TransitionCause::HalfOpenTimeOver => {
            matches!((from, to), (HalfOpen, Open { .. }))
        }
        TransitionCause::ByHand => from != to,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_breaker_is_what_its_log_says(
        last in prop_oneof![Just(None), (3..8usize).prop_map(Some)],
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(last, steps))?;
    }
}
