//! Any sequence of calls, results, times and hands, beside a model that keeps a log of everything and counts it again each
//! time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use seawall::circuit_breaker::{TransitionCause, Window};
use seawall::{CircuitBreaker, CircuitBreakerSettings, CircuitState, Outcome, Permit, Transition};
use tokio::time::advance;

const OPEN: u64 = 1000;
const HALF_OPEN: u64 = 700;
const PROBES: usize = 3;
const MINIMUM: usize = 3;
const SLOW: u64 = 100;
const IN_A_ROW: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    /// Which of the tickets, what became of it, after how many milliseconds.
    Settle(usize, Outcome, u64),
    Drop(usize),
    Record(Outcome),
    Advance(u64),
    Trip,
    ForceOpen,
    ForceClosed,
    ObserveOnly,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
    ObserveOnly,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    generation: u64,
    at: u64,
    failed: bool,
    slow: bool,
}

/// Milliseconds throughout.
#[derive(Clone, Debug)]
struct Model {
    last: Option<usize>,
    width: u64,
    now: u64,
    mode: Mode,
    generation: u64,
    until: u64,
    /// Results in the window of their generation.
    log: Vec<Entry>,
    outstanding: usize,
    probes: Vec<Entry>,
    successes: u64,
    failures: u64,
    ignored: u64,
}

impl Model {
    fn new(last: Option<usize>) -> Self {
        Self {
            last,
            width: 100,
            now: 0,
            mode: Mode::Closed,
            generation: 0,
            until: 0,
            log: Vec::new(),
            outstanding: 0,
            probes: Vec::new(),
            successes: 0,
            failures: 0,
            ignored: 0,
        }
    }

    fn enter(&mut self, mode: Mode, at: u64) {
        self.mode = mode;
        self.generation += 1;
        self.outstanding = 0;
        self.until = match mode {
            Mode::Open => at + OPEN,
            Mode::HalfOpen => at + HALF_OPEN,
            _ => u64::MAX,
        };
        if mode == Mode::HalfOpen {
            self.probes.clear();
        }
    }

    fn window(&self, generation: u64) -> Vec<Entry> {
        let of_generation = self.log.iter().filter(|e| e.generation == generation);
        match self.last {
            Some(n) => {
                let all: Vec<_> = of_generation.copied().collect();
                all[all.len().saturating_sub(n)..].to_vec()
            }
            None => of_generation
                .filter(|e| e.at / self.width + 10 > self.now / self.width)
                .copied()
                .collect(),
        }
    }

    /// What happens by itself when a call comes.
    fn catch_up(&mut self) {
        loop {
            match self.mode {
                Mode::Open if self.now >= self.until => self.enter(Mode::HalfOpen, self.now),
                Mode::HalfOpen if self.now >= self.until => {
                    let all = self.probes.len() + self.outstanding;
                    let bad = |is: fn(&Entry) -> bool| {
                        (self.probes.iter().filter(|e| is(e)).count() + self.outstanding) * 2 >= all
                    };
                    let reopen = self.probes.is_empty() || bad(|e| e.failed) || bad(|e| e.slow);
                    let at = self.until;
                    self.enter(if reopen { Mode::Open } else { Mode::Closed }, at);
                }
                _ => return,
            }
        }
    }

    /// What a call would find.
    fn next(&self) -> Mode {
        let mut next = self.clone();
        next.catch_up();
        next.mode
    }

    fn acquire(&mut self) -> bool {
        self.catch_up();
        match self.mode {
            Mode::Closed | Mode::ForcedClosed | Mode::ObserveOnly => true,
            Mode::HalfOpen if self.outstanding + self.probes.len() < PROBES => {
                self.outstanding += 1;
                true
            }
            Mode::Open | Mode::ForcedOpen | Mode::HalfOpen => false,
        }
    }

    fn settle(&mut self, generation: Option<u64>, outcome: Outcome, took: u64) {
        let slow = took > SLOW;
        let failed = match outcome {
            Outcome::Success => false,
            Outcome::Failure | Outcome::Panicked => true,
            Outcome::Cancelled if slow => true,
            _ => {
                self.ignored += 1;
                if self.mode == Mode::HalfOpen && generation == Some(self.generation) {
                    if self.now >= self.until {
                        self.expire();
                    } else {
                        self.outstanding -= 1;
                    }
                }
                return;
            }
        };
        if failed {
            self.failures += 1;
        } else {
            self.successes += 1;
        }
        let is_probe = generation.is_some();
        if !is_probe && self.mode == Mode::HalfOpen && self.now >= self.until {
            self.expire();
        }
        if generation.is_some_and(|generation| generation != self.generation) {
            return;
        }
        let entry = Entry {
            generation: self.generation,
            at: self.now,
            failed,
            slow,
        };
        match self.mode {
            Mode::Closed | Mode::ObserveOnly => {
                self.log.push(entry);
                if self.mode == Mode::Closed && self.is_exceeded() {
                    self.enter(Mode::Open, self.now);
                }
            }
            Mode::HalfOpen if is_probe && self.now >= self.until => self.expire(),
            Mode::HalfOpen if is_probe => {
                self.outstanding -= 1;
                self.probes.push(entry);
                let missing = PROBES - self.probes.len();
                let count = |is: fn(&Entry) -> bool| self.probes.iter().filter(|e| is(e)).count();
                let bad = count(|e| e.failed).max(count(|e| e.slow));
                if bad * 2 >= PROBES {
                    self.enter(Mode::Open, self.now);
                } else if (bad + missing) * 2 < PROBES {
                    self.enter(Mode::Closed, self.now);
                }
            }
            _ => {}
        }
    }

    /// A result that comes after the half-open time finds it over, but is no call that would become a probe.
    fn expire(&mut self) {
        let now = self.now;
        self.now = self.until;
        self.catch_up();
        self.now = now;
    }

    fn is_exceeded(&self) -> bool {
        let window = self.window(self.generation);
        let count = |is: fn(&Entry) -> bool| window.iter().filter(|e| is(e)).count();
        let enough = window.len() >= MINIMUM;
        let log = self.log.iter().rev();
        let in_a_row = log
            .take_while(|e| e.generation == self.generation && e.failed)
            .count();
        enough && (count(|e| e.failed) * 2 >= window.len() || count(|e| e.slow) * 2 >= window.len())
            || in_a_row >= IN_A_ROW
    }

    fn force(&mut self, mode: Mode) {
        if self.mode != mode {
            self.catch_up();
            self.enter(mode, self.now);
        }
    }
}

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
    breaker.on_transition(move |transition| telling.lock().unwrap().push(*transition));
    let mut model = Model::new(last);
    // With the generation and the time that they are of.
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
    // A silent window empties without a call.
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
        prop_assert_eq!((now.calls, now.failures, now.probes), (0, 0, 0));
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
            prop_assert_eq!(now.probes as usize, model.outstanding);
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

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Success),
        4 => Just(Outcome::Failure),
        1 => Just(Outcome::Ignored),
        1 => Just(Outcome::Cancelled),
        1 => Just(Outcome::Panicked),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => Just(Step::Acquire),
        16 => (any::<usize>(), outcome(), prop_oneof![Just(0), Just(SLOW), Just(SLOW + 1)])
            .prop_map(|(index, outcome, took)| Step::Settle(index, outcome, took)),
        2 => any::<usize>().prop_map(Step::Drop),
        4 => outcome().prop_map(Step::Record),
        6 => prop_oneof![Just(1), Just(99), Just(100), Just(HALF_OPEN), Just(OPEN), 0..2500u64].prop_map(Step::Advance),
        1 => prop_oneof![
            Just(Step::Trip), Just(Step::ForceOpen), Just(Step::ForceClosed), Just(Step::ObserveOnly),
            Just(Step::Reset), Just(Step::Reset), Just(Step::Reset)
        ],
    ]
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
