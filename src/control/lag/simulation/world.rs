//! The scheduler on virtual time, as far as it affects the law: local queues of 256 slots with
//! overflow, the slot for the task that was woken last, the injection queue, turns of the driver
//! every 61 polls or when idle, deferred wakes, stealing, parking; requests that compute or await,
//! the cost of rejections, and the thread that measures. One seed gives one result. Times are
//! microseconds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::laws::Law;
use super::setup::{Done, Fate, Handlers, MS, Phase, Setup, Us};
use super::worker::{Mark, Task, Worker};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Sent,
    Again,
}

pub(super) struct World<'a> {
    setup: Setup,
    law: &'a mut dyn Law,
    random: fastrand::Rng,
    /// The requests in the sockets.
    arriving: VecDeque<Us>,
    /// The requests that each connection has received.
    received: Vec<VecDeque<Us>>,
    timers: BinaryHeap<Reverse<(Us, Us, u64)>>,
    workers: Vec<Worker>,
    injected: VecDeque<Task>,
    /// The worker that waits in the driver.
    driver: Option<usize>,
    probe: Stage,
    next_tick: Us,
    busy_at: Us,
    turn: u64,
    done: Vec<Done>,
}

const SLOTS: usize = 256;
const POLLS_TO_DRIVER: u64 = 61;
const EVENTS: usize = 1024;
const PATIENCE: Us = 1000 * MS;
const TICK: Us = 10 * MS;
const CALM_TICK: Us = 20 * MS;

// === impl World ===

impl<'a> World<'a> {
    pub(super) fn new(setup: Setup, law: &'a mut dyn Law, phases: &[Phase], seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut arriving = Vec::new();
        let (mut at, mut end) = (0.0_f64, 0.0_f64);
        for (length, load) in phases {
            at = at.max(end);
            end += (*length * MS) as f64;
            let rate = load * setup.workers as f64 / setup.service;
            loop {
                at -= (1.0 - random.f64()).ln() / rate;
                if at >= end {
                    break;
                }
                arriving.push(at as Us);
            }
        }
        if let Some((at, number)) = setup.burst {
            arriving.extend(std::iter::repeat_n(at, number));
            arriving.sort_unstable();
        }
        Self {
            setup,
            law,
            random,
            arriving: arriving.into(),
            received: vec![VecDeque::new(); setup.connections],
            timers: BinaryHeap::new(),
            workers: (0..setup.workers).map(Worker::new).collect(),
            injected: VecDeque::new(),
            driver: None,
            probe: Stage::Idle,
            next_tick: 0,
            busy_at: 0,
            turn: 0,
            done: Vec::new(),
        }
    }

    /// Runs until all requests have ended.
    pub(super) fn run(mut self) -> Vec<Done> {
        loop {
            let awake = (0..self.workers.len()).filter(|w| !self.workers[*w].is_parked);
            let first = awake.min_by_key(|w| self.workers[*w].now);
            let now = first.map_or(Us::MAX, |w| self.workers[w].now);
            // Events outside the workers come first.
            let event = match self.driver {
                Some(_) => self.next_event(),
                None => Us::MAX,
            };
            let stall = self.setup.stall.map_or(Us::MAX, |(at, _)| at);
            let next = self.next_tick.min(event).min(stall);
            if next > now {
                self.step(first.expect("one is awake"));
            } else if stall == next {
                self.block();
            } else if event == next {
                let w = self.driver.take().expect("there is an event");
                self.workers[w].is_parked = false;
                self.workers[w].now = self.workers[w].now.max(event + 3);
                self.drive(w);
            } else if self.is_over() {
                return self.done;
            } else {
                self.tick();
            }
        }
    }

    fn is_over(&self) -> bool {
        let is_idle = |worker: &Worker| worker.is_parked && worker.local.is_empty();
        self.next_event() == Us::MAX && self.injected.is_empty() && self.workers.iter().all(is_idle)
    }

    fn next_event(&self) -> Us {
        let arrives = self.arriving.front().copied().unwrap_or(Us::MAX);
        arrives.min(self.timers.peek().map_or(Us::MAX, |timer| timer.0.0))
    }

    fn block(&mut self) {
        let Some((at, length)) = self.setup.stall.take() else {
            return;
        };
        for worker in &mut self.workers {
            worker.local.push_front(Task::Blocks(length));
            if std::mem::take(&mut worker.is_parked) {
                worker.now = worker.now.max(at);
            }
        }
        self.driver = None;
    }

    /// The thread that measures.
    fn tick(&mut self) {
        let now = self.next_tick;
        let lag = self.law.on_tick(now);
        if self.probe == Stage::Idle {
            self.law.on_sent(now);
            self.probe = Stage::Sent;
            self.injected.push_back(Task::Probe);
            self.notify(now);
        }
        if lag >= 5 * MS {
            self.busy_at = now;
        }
        let is_calm = now - self.busy_at >= 500 * MS;
        self.next_tick += if is_calm { CALM_TICK } else { TICK };
    }

    /// One turn of the loop of a worker.
    fn step(&mut self, w: usize) {
        self.workers[w].polls += 1;
        if self.workers[w].polls % POLLS_TO_DRIVER == 0 {
            self.drive(w);
        }
        if let Some(task) = self.next_task(w) {
            if std::mem::take(&mut self.workers[w].is_searching) {
                let worker = &self.workers[w];
                if !worker.local.is_empty() || !self.injected.is_empty() {
                    self.notify(worker.now);
                }
            }
            self.poll(w, task);
        } else if self.workers[w].deferred {
            self.drive(w);
        } else if self.driver.is_none() {
            if self.drive(w) == 0 {
                self.park(w);
                self.driver = Some(w);
            }
        } else {
            self.park(w);
        }
    }

    fn park(&mut self, w: usize) {
        self.workers[w].is_parked = true;
        self.workers[w].is_searching = false;
    }

    /// Polls sockets and timers, and then wakes the deferred tasks.
    fn drive(&mut self, w: usize) -> usize {
        let now = self.workers[w].now;
        let mut events = 0;
        if self.driver.is_none_or(|driver| driver == w) {
            while events < EVENTS && self.arriving.front().is_some_and(|at| *at <= now) {
                let arrived = self.arriving.pop_front().expect("there is one");
                self.receive(w, arrived);
                events += 1;
            }
            while self.timers.peek().is_some_and(|timer| timer.0.0 <= now) {
                let Reverse((_, arrived, cost)) = self.timers.pop().expect("there is one");
                let cost = f64::from_bits(cost);
                self.schedule(w, Task::Resumed { arrived, cost });
                events += 1;
            }
        }
        if std::mem::take(&mut self.workers[w].deferred) {
            self.law.on_turn(w, now);
            self.schedule(w, Task::Mark { of: w });
            events += 1;
        }
        self.workers[w].now += 1;
        if events > 1 {
            self.notify(now);
        }
        events
    }

    fn receive(&mut self, w: usize, arrived: Us) {
        if self.received.is_empty() {
            return self.schedule(w, Task::Request { arrived });
        }
        let connection = self.random.usize(..self.received.len());
        let received = &mut self.received[connection];
        received.push_back(arrived);
        if received.len() == 1 {
            self.schedule(w, Task::Connection(connection));
        }
    }

    fn schedule(&mut self, w: usize, task: Task) {
        if let Some(earlier) = self.workers[w].newest.replace(task) {
            self.push_back(w, earlier);
        }
    }

    fn push_back(&mut self, w: usize, task: Task) {
        let local = &mut self.workers[w].local;
        if local.len() < SLOTS {
            local.push_back(task);
        } else {
            self.injected.extend(local.drain(..SLOTS / 2));
            self.injected.push_back(task);
        }
    }

    /// Wakes a parked worker; the one in the driver last.
    fn notify(&mut self, now: Us) {
        if self.workers.iter().any(|worker| worker.is_searching) {
            return;
        }
        let mut all = (0..self.workers.len()).rev();
        let parked = all.find(|w| self.workers[*w].is_parked && self.driver != Some(*w));
        let in_driver = self.driver.filter(|w| self.workers[*w].is_parked);
        if let Some(w) = parked.or(in_driver) {
            self.driver = self.driver.filter(|driver| *driver != w);
            let worker = &mut self.workers[w];
            worker.is_parked = false;
            worker.is_searching = true;
            worker.now = worker.now.max(now + 8);
        }
    }

    fn next_task(&mut self, w: usize) -> Option<Task> {
        let worker = &mut self.workers[w];
        let interval = (200.0 / worker.mean_poll).clamp(2.0, 127.0) as u64;
        if worker.polls % interval == 0 {
            if let Some(task) = self.injected.pop_front() {
                return Some(task);
            }
        }
        if let Some(task) = worker.newest.take().or_else(|| worker.local.pop_front()) {
            return Some(task);
        }
        if let Some(task) = self.injected.pop_front() {
            let share = (self.injected.len() / self.workers.len()).min(SLOTS / 2 - 1);
            self.workers[w].local.extend(self.injected.drain(..share));
            return Some(task);
        }
        self.steal(w)
    }

    /// Takes half of another worker's queue.
    fn steal(&mut self, w: usize) -> Option<Task> {
        let all = self.workers.len();
        let start = self.random.usize(..all);
        let mut others = (0..all)
            .map(|offset| (start + offset) % all)
            .filter(|v| *v != w);
        let victim = others.find(|v| !self.workers[*v].local.is_empty())?;
        let half = self.workers[victim].local.len().div_ceil(2);
        let mut stolen: Vec<Task> = self.workers[victim].local.drain(..half).collect();
        let last = stolen.pop();
        self.workers[w].local.extend(stolen);
        last
    }

    fn poll(&mut self, w: usize, task: Task) {
        let now = self.workers[w].now;
        match task {
            Task::Blocks(length) => self.workers[w].now += length,
            Task::Resumed { arrived, cost } => self.compute(w, arrived, cost),
            Task::Request { arrived } => {
                if self.admits(w, arrived) {
                    self.serve(w, arrived);
                }
            }
            Task::Connection(connection) => {
                for arrived in std::mem::take(&mut self.received[connection]) {
                    if self.admits(w, arrived) {
                        self.workers[w].spend(3.0);
                        let is_counted = self.law.on_spawned();
                        self.schedule(
                            w,
                            Task::Spawned {
                                arrived,
                                is_counted,
                            },
                        );
                    }
                }
            }
            Task::Spawned {
                arrived,
                is_counted,
            } => {
                if is_counted {
                    self.law.on_first_poll();
                }
                self.serve(w, arrived);
            }
            Task::Probe => {
                self.workers[w].spend(0.5);
                self.law.on_probe_polled(now);
                if self.probe == Stage::Sent {
                    self.probe = Stage::Again;
                    self.push_back(w, Task::Probe);
                } else {
                    self.probe = Stage::Idle;
                }
            }
            Task::Mark { of } => {
                self.workers[w].spend(0.5);
                if of != w {
                    // The mark was stolen.
                    self.workers[of].mark = Mark::Absent;
                    self.law.on_mark_ended(of);
                } else if self.workers[w].mark == Mark::AwaitsTurn {
                    self.workers[w].mark = Mark::Queued;
                    self.push_back(w, task);
                } else if self.law.on_mark_returned(w, now) {
                    self.workers[w].mark = Mark::AwaitsTurn;
                    self.workers[w].deferred = true;
                } else {
                    self.workers[w].mark = Mark::Absent;
                    self.law.on_mark_ended(w);
                }
            }
        }
    }

    fn admits(&mut self, w: usize, arrived: Us) -> bool {
        let now = self.workers[w].now;
        let injected = self.injected.len();
        let rejects = self.law.on_call(w, now, injected, &mut self.random);
        if self.workers[w].mark == Mark::Absent && self.law.starts_mark(w, now) {
            self.workers[w].mark = Mark::AwaitsTurn;
            self.workers[w].deferred = true;
        }
        if rejects {
            self.workers[w].spend(self.setup.rejection);
            self.finish(w, arrived, 0.0, Fate::Rejected);
        }
        !rejects
    }

    fn serve(&mut self, w: usize, arrived: Us) {
        let now = self.workers[w].now;
        let cost = self.cost();
        if self.setup.awaits == 0 {
            self.compute(w, arrived, cost);
        } else {
            self.workers[w].spend(5.0);
            self.law.on_polled(w, self.workers[w].now, 5, true);
            let due = (now + self.setup.awaits).div_ceil(MS) * MS;
            self.timers.push(Reverse((due, arrived, cost.to_bits())));
        }
    }

    fn compute(&mut self, w: usize, arrived: Us, cost: f64) {
        let before = self.workers[w].now;
        self.workers[w].spend(cost);
        let after = self.workers[w].now;
        self.law.on_polled(w, after, after - before, false);
        self.finish(w, arrived, cost, Fate::Served);
    }

    fn finish(&mut self, w: usize, arrived: Us, cost: f64, fate: Fate) {
        let end = self.workers[w].now;
        let fate = if end - arrived >= PATIENCE {
            Fate::GaveUp
        } else {
            fate
        };
        self.done.push(Done {
            arrived,
            end,
            cost,
            fate,
        });
    }

    fn cost(&mut self) -> f64 {
        let turn = self.turn;
        self.turn += 1;
        let mean = self.setup.service;
        match self.setup.handlers {
            Handlers::Mixed => match turn * 7 % 10 {
                0..=4 => mean * 0.5,
                5..=8 => mean,
                _ => mean * 3.5,
            },
            Handlers::Exponential => -(1.0 - self.random.f64()).ln() * mean,
            Handlers::Bimodal if self.random.f64() < 0.9 => mean * 0.05,
            Handlers::Bimodal => mean * 9.55,
        }
    }
}
