//! A circuit breaker without a clock. One word admits calls while the breaker is closed, and a
//! window counts them. A lock protects everything else: changes of state, and the probes.

use crate::control::published::Published;
use crate::sync::{
    Mutex,
    atomic::{AtomicU32, AtomicU64, Ordering},
    lock,
};

use super::probes::Probes;
use super::rules::{Reached, Rules};
use super::state::{At, Circuit, Rejected, Times};
use super::transition::{CircuitState, Transition, TransitionCause};
use super::window::{Counts, Sample, Tallies, Window};
use super::word::{Mode, Word, era, update_in_era};

/// A breaker. Times are nanoseconds since an origin.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Breaker {
    /// It is the first of the words that every call reads and no call writes.
    word: AtomicU64,
    /// The number of changes that are not reported yet. It is written under the lock.
    unreported: AtomicU32,
    /// The end of the open time, so that a call is rejected without the lock.
    open_until: AtomicU64,
    /// The words of the [`Rules`].
    rules: Published<5>,
    /// `| era: 32 | consecutive failures: 32 |`.
    consecutive: AtomicU64,
    /// `| era: 32 | thresholds that are reached: 32 |`.
    reached: AtomicU64,
    window: Window,
    /// The samples of probes, and of calls of an older era, which are in no window.
    elsewhere: Tallies,
    circuit: Mutex<Circuit>,
}

/// The state of a breaker at a time, whether or not a call has changed the state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Look {
    /// The state that the next call finds.
    pub(crate) circuit: Circuit,
    pub(crate) now: u64,
    /// The counts of the window in that state, or those of the probes; while the breaker is open,
    /// the counts on which it opened.
    pub(crate) counts: Counts,
}

// === impl Look ===

impl Look {
    pub(crate) fn state(&self) -> CircuitState {
        let left = self.circuit.until.saturating_sub(self.now);
        CircuitState::new(self.circuit.mode, left)
    }
}

// === impl Breaker: its state ===

impl Breaker {
    /// A breaker that begins in this mode.
    pub(crate) fn new(window: Window, rules: &Rules, mode: Mode) -> Self {
        let circuit = Circuit {
            mode,
            until: u64::MAX,
            ..Circuit::default()
        };
        Self {
            word: AtomicU64::new(Word::new(0, mode, rules.slow_call != Rules::NOT_TIMED).0),
            unreported: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
            rules: Published::new(rules.words()),
            consecutive: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            window,
            elsewhere: Tallies::default(),
            circuit: Mutex::new(circuit),
        }
    }

    /// The state, as calls read it.
    #[inline]
    pub(crate) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    fn word_of(&self, circuit: &Circuit) -> Word {
        let is_timed = self.slow_call() != Rules::NOT_TIMED;
        Word::new(circuit.generation, circuit.mode, is_timed)
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules::of(self.rules.get())
    }

    /// The longest duration of a call that is not slow.
    #[inline]
    pub(crate) fn slow_call(&self) -> u64 {
        self.rules.word(Rules::SLOW_CALL)
    }

    /// Changes the state. `change` runs outside the lock, since it may run code of a user, and runs
    /// again if another thread has changed the state meanwhile.
    fn update<T: Times, R>(&self, times: &T, change: impl Fn(&mut Circuit, &At<'_, T>) -> R) -> R {
        let now = times.now();
        loop {
            let before = lock(&self.circuit).clone();
            let mut circuit = before.clone();
            let rules = &self.rules();
            let result = change(&mut circuit, &At { now, rules, times });
            if circuit == before {
                return result;
            }
            let mut current = lock(&self.circuit);
            if *current == before {
                *current = circuit;
                self.publish(&current);
                return result;
            }
        }
    }

    /// Writes the end of the open time before the word, so that a reader of the word does not read
    /// an older one. It may read a later one.
    fn publish(&self, circuit: &Circuit) {
        let unreported = circuit.unreported.len() as u32;
        self.unreported.store(unreported, Ordering::Relaxed);
        if circuit.mode == Mode::Open {
            self.open_until.store(circuit.until, Ordering::Release);
        }
        self.word.store(self.word_of(circuit).0, Ordering::Release);
    }

    /// Leaves a half-open state whose time is over, or whose probes have decided.
    pub(crate) fn end_half_open(&self, times: &impl Times) {
        if self.word().is(Mode::HalfOpen) {
            self.update(times, Circuit::end_half_open);
        }
    }

    /// Changes the rules. The caller makes one change at a time.
    pub(crate) fn set_rules(&self, rules: &Rules) {
        let circuit = lock(&self.circuit);
        self.rules.set(rules.words());
        self.publish(&circuit);
    }

    /// Opens the breaker, if it is closed or half-open, as if a threshold were reached.
    pub(crate) fn trip(&self, times: &impl Times) {
        self.update(times, |circuit, at| {
            circuit.advance(true, at);
            if let Mode::Closed | Mode::HalfOpen = circuit.mode {
                circuit.open(TransitionCause::ByHand, Counts::default(), at);
            }
        });
    }

    /// Forces a state, unless the breaker is in that state. A closed breaker that is closed again
    /// has an empty window.
    pub(crate) fn force(&self, to: Mode, times: &impl Times) {
        self.update(times, |circuit, at| {
            circuit.advance(true, at);
            if circuit.mode != to || to == Mode::Closed {
                circuit.enter(to, TransitionCause::ByHand, at.now, None, Counts::default());
            }
        });
    }

    /// Reports the changes that are not reported yet, in their order and outside the lock. `report`
    /// must not unwind.
    #[inline]
    pub(crate) fn report(&self, report: impl FnMut(Transition, Mode)) {
        if self.unreported.load(Ordering::Relaxed) > 0 {
            self.report_all(report);
        }
    }

    #[cold]
    fn report_all(&self, mut report: impl FnMut(Transition, Mode)) {
        let mut circuit = lock(&self.circuit);
        if std::mem::replace(&mut circuit.is_reporting, true) {
            return; // the thread that reports also reports these
        }
        while let Some((transition, to)) = circuit.unreported.pop_front() {
            let left = circuit.unreported.len() as u32;
            self.unreported.store(left, Ordering::Relaxed);
            drop(circuit);
            report(transition, to);
            circuit = lock(&self.circuit);
        }
        circuit.is_reporting = false;
    }

    /// The present state, with all values that belong to it.
    pub(crate) fn look(&self, times: &impl Times) -> Look {
        let (now, rules) = (times.now(), &self.rules());
        let mut circuit = lock(&self.circuit).clone();
        circuit.advance(false, &At { now, rules, times });
        let counts = match circuit.mode {
            Mode::Closed | Mode::ObserveOnly => self.window.counts(era(circuit.generation), now),
            Mode::HalfOpen => circuit.probes.counts,
            Mode::Open | Mode::ForcedOpen | Mode::ForcedClosed => circuit.decided_on,
        };
        Look {
            circuit,
            now,
            counts,
        }
    }

    /// The counts of all calls so far.
    pub(crate) fn totals(&self) -> Counts {
        let mut totals = self.window.totals();
        self.elsewhere.add_to(&mut totals);
        totals
    }
}

// === impl Breaker: admission ===

impl Breaker {
    /// Decides about a call. It reads the time unless the state admits all calls.
    #[inline(always)]
    pub(crate) fn admit(&self, times: &impl Times) -> Result<Word, Rejected> {
        let word = self.word();
        if word.is(Mode::Open) {
            let until = self.open_until.load(Ordering::Acquire);
            let ends_in = until.saturating_sub(times.now());
            if ends_in > 0 {
                let by = Mode::Open;
                return Err(Rejected { by, ends_in });
            }
        } else if word.admits_all() {
            return Ok(word);
        }
        self.admit_probe(times)
    }

    #[cold]
    fn admit_probe(&self, times: &impl Times) -> Result<Word, Rejected> {
        self.update(times, |circuit, at| {
            circuit.admit(at)?;
            Ok(self.word_of(circuit))
        })
    }

    /// Returns whether the state that admitted a call is the current one, and its time is not over.
    pub(crate) fn is_current(&self, word: Word, times: &impl Times) -> bool {
        self.word().generation() == word.generation()
            && (word.admits_all() || times.now() < lock(&self.circuit).until)
    }

    /// Notes in the breaker, and in the word of the call, that the response of a probe has begun.
    #[allow(dead_code, reason = "without a protocol nothing begins before it ends")]
    pub(crate) fn begin_response(&self, word: &mut Word, times: &impl Times) {
        if self.update_probe(*word, |probes| probes.begun += 1, times) {
            *word = word.with(Word::BEGUN);
        }
    }

    /// Records whether a probe is reserved: the call is not made yet.
    pub(crate) fn set_reserved(&self, word: Word, is_reserved: bool, times: &impl Times) {
        let by = if is_reserved { 1 } else { -1 };
        let change = |probes: &mut Probes| {
            probes.reserved = probes.reserved.wrapping_add_signed(by);
        };
        self.update_probe(word, change, times);
    }

    /// Changes a probe. Returns `false` if the call is none, or if its half-open time is over.
    fn update_probe(&self, word: Word, change: impl Fn(&mut Probes), times: &impl Times) -> bool {
        word.is(Mode::HalfOpen)
            && self.update(times, |circuit, at| circuit.update_probe(word, &change, at))
    }
}

// === impl Breaker: outcomes ===

impl Breaker {
    /// Records the outcome of a call that was admitted with this word. It reads the time for a
    /// window of time, and if the state may change. Returns the thresholds that the outcome
    /// reached; `None` if it cannot change the state.
    #[inline]
    pub(crate) fn record(
        &self,
        admitted: Word,
        sample: Sample,
        times: &impl Times,
    ) -> Option<Reached> {
        let word = self.word();
        let is_plain = word == admitted && word.is_plain();
        if !is_plain && (!word.counts() || word.generation() != admitted.generation()) {
            self.record_elsewhere(admitted, sample, times);
            return Some(Reached::default());
        }
        let consecutive = self.count_consecutive(word, sample.failed());
        let counts = self.window.record(word.era(), || times.now(), sample);
        if counts.is_none() && consecutive == 0 && word.is(Mode::Closed) {
            return None;
        }
        Some(self.judge(word, counts, consecutive, times))
    }

    /// Records the outcome of a probe, or of a call that belongs to no window.
    #[cold]
    fn record_elsewhere(&self, admitted: Word, sample: Sample, times: &impl Times) {
        self.elsewhere.add(sample.class, 1);
        let finish = |probes: &mut Probes| probes.finish(admitted.has(Word::BEGUN), sample);
        self.update_probe(admitted, finish, times);
    }

    /// The word with which to record a call that was not admitted.
    pub(crate) fn word_for_unadmitted(&self, times: &impl Times) -> Word {
        self.end_half_open(times);
        // It counts in states that count every call.
        let word = self.word();
        if word.counts() { word } else { Word::NONE }
    }

    /// A call has no outcome, or is not made: a probe releases its slot. Returns whether the call
    /// had one.
    pub(crate) fn release(&self, admitted: Word, times: &impl Times) -> bool {
        let release = |probes: &mut Probes| probes.release(admitted.has(Word::BEGUN));
        self.update_probe(admitted, release, times)
    }

    /// The number of consecutive failures with this outcome, if the rules use it.
    #[inline]
    fn count_consecutive(&self, word: Word, failed: bool) -> u32 {
        let is_any = self.consecutive.load(Ordering::Relaxed) as u32 > 0;
        if failed || is_any {
            return self.update_consecutive(word, failed);
        }
        0
    }

    #[cold]
    fn update_consecutive(&self, word: Word, failed: bool) -> u32 {
        if failed && self.rules().consecutive_failures.is_none() {
            return 0;
        }
        let count = |count: u32| if failed { count.saturating_add(1) } else { 0 };
        let changed = update_in_era(&self.consecutive, word.era(), count);
        changed.map_or(0, |(_, count)| count)
    }

    /// Opens the breaker if a threshold is reached. Returns the thresholds that are reached; while
    /// the breaker only observes, those that are newly reached.
    #[cold]
    fn judge(
        &self,
        word: Word,
        counts: Option<Counts>,
        consecutive: u32,
        times: &impl Times,
    ) -> Reached {
        let is_closed = word.is(Mode::Closed);
        let counts = match counts {
            Some(counts) => counts,
            // The window has only fast successes, or the sample is too late for it.
            None if is_closed || self.reached.load(Ordering::Relaxed) as u32 == 0 => {
                Counts::default()
            }
            None => self.window.counts(word.era(), times.now()),
        };
        let reached = self.rules().reached(&counts, consecutive);
        if !is_closed {
            let changed = update_in_era(&self.reached, word.era(), |_| reached.0);
            return changed.map_or(Reached::default(), |(before, now)| Reached(now & !before));
        }
        let Some(cause) = reached.cause() else {
            return Reached::default();
        };
        // Reads also the counts that the rates do not need.
        let whole = self.window.counts(word.era(), times.now());
        let counts = Counts {
            slow_failures: whole.slow_failures.min(counts.slow),
            timed: whole.timed,
            took: whole.took,
            ..counts
        };
        self.update(times, |circuit, at| {
            if circuit.generation != word.generation() {
                return Reached::default();
            }
            circuit.open(cause, counts, at);
            reached
        })
    }
}
