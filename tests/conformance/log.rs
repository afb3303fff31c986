//! A breaker that keeps a log of all calls, and counts the log for each decision. The tests run it
//! beside the handle, and beside the decisions alone.

use proptest::prelude::*;

use super::Outcome;

pub(crate) const OPEN: u64 = 1000;
pub(crate) const HALF_OPEN: u64 = 700;
pub(crate) const PROBES: usize = 3;
pub(crate) const MINIMUM: usize = 3;
pub(crate) const SLOW: u64 = 100;
pub(crate) const IN_A_ROW: usize = 4;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Acquire,
    /// The index of the permit, its outcome, and the duration in milliseconds.
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
pub(crate) enum Mode {
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
    ObserveOnly,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) generation: u64,
    pub(crate) at: u64,
    pub(crate) failed: bool,
    pub(crate) slow: bool,
}

/// All times are in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) last: Option<usize>,
    pub(crate) width: u64,
    pub(crate) now: u64,
    pub(crate) mode: Mode,
    pub(crate) generation: u64,
    pub(crate) until: u64,
    /// The results in the window of their generation.
    pub(crate) log: Vec<Entry>,
    pub(crate) outstanding: usize,
    pub(crate) probes: Vec<Entry>,
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    pub(crate) ignored: u64,
}

impl Model {
    pub(crate) fn new(last: Option<usize>) -> Self {
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

    pub(crate) fn enter(&mut self, mode: Mode, at: u64) {
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

    pub(crate) fn window(&self, generation: u64) -> Vec<Entry> {
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

    /// The changes of state that a call finds.
    pub(crate) fn catch_up(&mut self) {
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

    /// The state that a call would find.
    pub(crate) fn next(&self) -> Mode {
        let mut next = self.clone();
        next.catch_up();
        next.mode
    }

    pub(crate) fn acquire(&mut self) -> bool {
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

    pub(crate) fn settle(&mut self, generation: Option<u64>, outcome: Outcome, took: u64) {
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

    /// An outcome after the half-open time ends that state. It is not a call that would become a
    /// probe.
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

    pub(crate) fn force(&mut self, mode: Mode) {
        if self.mode != mode {
            self.catch_up();
            self.enter(mode, self.now);
        }
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

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => Just(Step::Acquire),
        16 => (any::<usize>(), outcome(), prop_oneof![Just(0), Just(SLOW), Just(SLOW + 1)])
            .prop_map(|(index, outcome, took)| Step::Settle(index, outcome, took)),
        2 => any::<usize>().prop_map(Step::Drop),
        4 => outcome().prop_map(Step::Record),
        6 => prop_oneof![
            Just(1), Just(99), Just(100), Just(HALF_OPEN), Just(OPEN), 0..2500_u64
        ]
        .prop_map(Step::Advance),
        1 => prop_oneof![
            1 => Just(Step::Trip),
            1 => Just(Step::ForceOpen),
            1 => Just(Step::ForceClosed),
            1 => Just(Step::ObserveOnly),
            3 => Just(Step::Reset),
        ],
    ]
}
