//! The law in a closed loop: one worker as Tokio's, on virtual time, with the probe that reads it and the requests that are
//! refused for it. What it shows was compared with a real server under the same load (`examples/overload`), and agrees
//! within the noise of that.

use std::collections::VecDeque;
use std::time::Duration;

use super::law::{LagLaw, LagState};
use super::stall::{Calls, Judge};

/// Microseconds.
type Micros = u64;

const MS: Micros = 1000;
const TICK: Micros = 10 * MS;
const CALM_TICK: Micros = 50 * MS;

/// What a refusal costs, and a service on average.
const REFUSAL: Micros = 12;
const SERVICE: Micros = 2 * MS;

/// Polls between two looks at sockets and timers.
const DRIVER_INTERVAL: u64 = 61;
/// Polls between two looks at the injection queue, as it is tuned for polls of 2 ms.
const INJECTION_INTERVAL: u64 = 2;

const PATIENCE: Micros = 1000 * MS;

/// Milliseconds at a multiple of the capacity.
type Phase = (u64, f64);

#[derive(Default)]
struct Outcome {
    latencies: Vec<Micros>,
    busy: Micros,
    rejected: usize,
    failed: usize,
    states: Vec<LagState>,
}

impl Outcome {
    fn p99_ms(&mut self) -> u64 {
        self.latencies.sort_unstable();
        self.latencies[self.latencies.len() * 99 / 100] / MS
    }

    fn all(&self) -> usize {
        self.latencies.len() + self.rejected + self.failed
    }
}

#[derive(Clone, Copy)]
enum Task {
    Request(Micros),
    Probe,
}

#[derive(Clone, Copy)]
enum Probe {
    Home,
    Sent,
    Again,
}

struct World {
    law: LagLaw,
    service: Micros,
    now: Micros,
    random: fastrand::Rng,
    /// In the sockets, not yet seen by the driver.
    arriving: VecDeque<Micros>,
    local: VecDeque<Task>,
    injected: bool,
    probe: Probe,
    next_tick: Micros,
    calls: Calls,
    judge: Judge,
    shed: f64,
    outcome: Outcome,
}

impl World {
    fn new(law: LagLaw, phases: &[Phase], seed: u64) -> Self {
        Self::serving(SERVICE, law, phases, seed)
    }

    fn serving(service: Micros, law: LagLaw, phases: &[Phase], seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut arriving = VecDeque::new();
        let (mut at, mut end) = (0.0, 0.0);
        for (length, load) in phases {
            at = f64::max(at, end);
            end += *length as f64;
            loop {
                at -= (1.0 - random.f64()).ln() * service as f64 / MS as f64 / load;
                if at >= end {
                    break;
                }
                arriving.push_back((at * MS as f64) as Micros);
            }
        }
        Self {
            law,
            service,
            now: 0,
            random,
            arriving,
            local: VecDeque::new(),
            injected: false,
            probe: Probe::Home,
            next_tick: 0,
            calls: Calls::default(),
            judge: Judge::default(),
            shed: 0.0,
            outcome: Outcome::default(),
        }
    }

    /// The other thread, which is never late.
    fn catch_up(&mut self) {
        while self.next_tick <= self.now {
            let at = self.next_tick;
            let is_waiting = !matches!(self.probe, Probe::Home);
            let (now, gap) = (micros(at), self.calls.gap(micros(at)));
            let verdict = self
                .judge
                .look(&self.law, now, is_waiting, Duration::ZERO, gap);
            self.shed = verdict.shed;
            self.outcome.states.push(verdict.state);
            if let Probe::Home = self.probe {
                self.judge.sent(now);
                self.probe = Probe::Sent;
                self.injected = true;
            }
            let is_calm = self.judge.lag() < micros(5 * MS) && verdict.shed == 0.0;
            self.next_tick += if is_calm { CALM_TICK } else { TICK };
        }
    }

    fn polled(&mut self, is_back: bool) {
        let (now, gap) = (micros(self.now), self.calls.gap(micros(self.now)));
        if let Some(verdict) = self.judge.polled(&self.law, now, gap, is_back) {
            self.shed = verdict.shed;
        }
    }

    fn drive(&mut self) {
        while self.arriving.front().is_some_and(|at| *at <= self.now) {
            self.local
                .extend(self.arriving.pop_front().map(Task::Request));
        }
    }

    fn poll(&mut self, task: Task) {
        match (task, self.probe) {
            (Task::Probe, Probe::Sent) => {
                self.polled(false);
                self.probe = Probe::Again;
                self.local.push_back(Task::Probe);
            }
            (Task::Probe, Probe::Again) => {
                self.polled(true);
                self.probe = Probe::Home;
            }
            (Task::Probe, Probe::Home) => unreachable!("it is woken when it is sent"),
            (Task::Request(sent), _) => {
                let gap = self.calls.called(micros(self.now));
                if let Some(verdict) = self.judge.called(&self.law, micros(self.now), gap) {
                    self.shed = verdict.shed;
                }
                let refused = self.random.f64() < self.shed;
                let cost = if refused {
                    REFUSAL
                } else {
                    // Half of the mean for half of them, the mean for four tenths, 3.5 times as much for one.
                    self.service * [1, 1, 1, 1, 1, 2, 2, 2, 2, 7][self.random.usize(..10)] / 2
                };
                self.now += cost;
                let latency = self.now - sent;
                if latency >= PATIENCE {
                    self.outcome.failed += 1;
                } else if refused {
                    self.outcome.rejected += 1;
                } else {
                    self.outcome.busy += cost;
                    self.outcome.latencies.push(latency);
                }
            }
        }
    }

    /// Until all is done. A task that blocks comes at `stall.0` and takes `stall.1` milliseconds.
    fn run(mut self, stall: Option<(u64, u64)>) -> Outcome {
        let mut stall = stall.map(|(at, length)| (at * MS, length * MS));
        let mut polls = 0_u64;
        loop {
            if let Some((_, length)) = stall.take_if(|(at, _)| *at <= self.now) {
                self.now += length;
            }
            self.catch_up();
            polls += 1;
            if polls % DRIVER_INTERVAL == 0 {
                self.drive();
            }
            if self.injected && (polls % INJECTION_INTERVAL == 0 || self.local.is_empty()) {
                self.injected = false;
                self.poll(Task::Probe);
            } else if let Some(task) = self.local.pop_front() {
                self.poll(task);
            } else {
                self.drive();
                if self.local.is_empty() {
                    let Some(next) = self.arriving.front() else {
                        return self.outcome;
                    };
                    let wakes = [
                        *next,
                        self.next_tick,
                        stall.map_or(Micros::MAX, |(at, _)| at),
                    ];
                    self.now = wakes.into_iter().min().unwrap_or(*next).max(self.now);
                }
            }
        }
    }
}

fn micros(micros: Micros) -> Duration {
    Duration::from_micros(micros)
}

/// Five seconds at this load, three times.
fn overload(law: LagLaw, load: f64) -> (f64, Outcome) {
    let mut sum = Outcome::default();
    for seed in 0..3 {
        let one = World::new(law, &[(5000, load)], seed).run(None);
        sum.latencies.extend(one.latencies);
        sum.busy += one.busy;
        sum.rejected += one.rejected;
        sum.failed += one.failed;
    }
    (sum.busy as f64 / (3.0 * 5000.0 * MS as f64), sum)
}

/// What no law can exceed.
fn bound(load: f64) -> f64 {
    let p = REFUSAL as f64 / SERVICE as f64;
    ((1.0 - load * p) / (1.0 - p)).min(load)
}

/// By the law of which all began: neither surges nor stalls.
fn plain() -> LagLaw {
    LagLaw::default()
        .surge(Duration::from_millis(300))
        .forgive_stalls(false)
}

#[test]
fn below_the_capacity_nothing_is_refused() {
    for law in [
        LagLaw::strict(),
        LagLaw::default(),
        LagLaw::burst_tolerant(),
    ] {
        let (_, outcome) = overload(law, 0.8);
        assert_eq!(outcome.rejected, 0, "{law:?}");
    }
}

#[test]
fn above_it_the_server_works_as_much_as_it_can_and_answers_in_time() {
    for (load, longest) in [(2.0, 200), (5.0, 250), (10.0, 280)] {
        let (goodput, mut outcome) = overload(LagLaw::default(), load);
        assert!(goodput >= 0.95 * bound(load), "{load}x: {goodput}");
        assert!(
            outcome.p99_ms() <= longest,
            "{load}x: {} ms",
            outcome.p99_ms()
        );
        assert_eq!(outcome.failed, 0, "{load}x");
    }
}

#[test]
fn without_it_most_clients_have_given_up() {
    let never = LagLaw::default().max_shed(0.0).min_shed(0.0);
    let (_, outcome) = overload(never, 5.0);
    assert!(
        outcome.failed * 10 > outcome.all() * 7,
        "{} of {}",
        outcome.failed,
        outcome.all()
    );
}

#[test]
fn a_surge_is_seen_before_its_backlog_is_long() {
    let (_, mut before) = overload(plain(), 10.0);
    let (_, mut after) = overload(LagLaw::default(), 10.0);
    let (before, after) = (before.p99_ms(), after.p99_ms());
    assert!(after + 50 <= before, "{before} ms, then {after} ms");
}

#[test]
fn a_stall_is_shedding_while_it_lasts_and_forgiven_afterwards() {
    let rejected = |law, load, stall| {
        let outcomes =
            (0..5).map(|seed| World::new(law, &[(4000, load)], seed).run(Some((1000, stall))));
        let mut rejected = 0;
        for outcome in outcomes {
            assert_eq!(outcome.failed, 0);
            let shedding = outcome.states.contains(&LagState::Shedding);
            assert_eq!(shedding, stall > 300, "{stall} ms");
            rejected += outcome.rejected;
        }
        rejected
    };
    assert_eq!(rejected(LagLaw::default(), 0.3, 150), 0);
    let (before, after) = (
        rejected(plain(), 0.3, 500),
        rejected(LagLaw::default(), 0.3, 500),
    );
    assert!(
        before > 200 && after * 10 < before,
        "{before}, then {after}"
    );
}

#[test]
fn overload_is_overload_though_a_worker_was_held_up() {
    let outcome = World::new(LagLaw::default(), &[(4000, 3.0)], 1).run(Some((1000, 500)));
    assert!(
        outcome.rejected * 10 > outcome.all() * 6,
        "{} of {}",
        outcome.rejected,
        outcome.all()
    );
    assert!(
        outcome.failed * 100 < outcome.all() * 2,
        "{} of {}",
        outcome.failed,
        outcome.all()
    );
}

/// One stall after the other is a queue.
#[test]
fn long_handlers_are_refused_like_short_ones() {
    for service in [50 * MS, 200 * MS, 400 * MS] {
        let run = |law| {
            let mut sum = Outcome::default();
            for seed in 0..5 {
                let one = World::serving(service, law, &[(20_000, 4.0)], seed).run(None);
                sum.busy += one.busy;
                sum.rejected += one.rejected;
                sum.failed += one.failed;
                sum.latencies.extend(one.latencies);
            }
            sum
        };
        let (never, with) = (run(LagLaw::default().max_shed(0.0)), run(LagLaw::default()));
        let (before, after) = (never.latencies.len(), with.latencies.len());
        assert!(
            after > 5 * before,
            "{service} µs: {after} served, {before} without"
        );
        // One in ten takes longer at 400 ms than its client waits.
        let busy = with.busy as f64 / (5.0 * 20_000.0 * MS as f64);
        assert!(
            busy > if service > 200 * MS { 0.4 } else { 0.7 },
            "{service} µs: {busy}"
        );
    }
}
