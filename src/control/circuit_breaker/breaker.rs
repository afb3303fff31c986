//! A circuit breaker without a clock. One word admits calls while the breaker is closed, another
//! counts the probes, and a lock protects changes of state.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use crate::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::probes::Probes;
use super::rules::{LiveRules, MAX_PROBES, Reached, Rules};
use super::state::{Change, Circuit, Times};
use super::window::{Counts, Window};
use super::word::{Mode, TransitionCause, Word};

/// A breaker. Times are nanoseconds since an origin.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Breaker {
    /// It is the first of the words that every call reads and no call writes.
    pub(super) word: AtomicU64,
    /// The number of changes that are not reported yet. It is written under the lock.
    pub(super) unreported: AtomicU32,
    /// The ends of the open time and of the half-open time. They are separate words: a call that
    /// still reads the word of one state must not read the end of the other.
    pub(super) open_until: AtomicU64,
    pub(super) half_open_until: AtomicU64,
    pub(crate) rules: LiveRules,
    pub(super) probes: AtomicU64,
    /// `| era: 32 | consecutive failures: 32 |`.
    pub(super) consecutive: AtomicU64,
    /// `| era: 32 | thresholds that are reached: 32 |`.
    pub(super) reached: AtomicU64,
    /// The number of times that each threshold was reached.
    pub(super) reached_totals: [AtomicU64; Reached::CAUSES.len()],
    pub(super) ignored: AtomicU64,
    pub(super) window: Window,
    pub(super) locked: Mutex<Locked>,
}

#[derive(Debug)]
pub(super) struct Locked {
    pub(super) circuit: Circuit,
    /// The changes that are not reported yet.
    pub(super) unreported: VecDeque<Change>,
    /// A call reports them now, in their order.
    pub(super) is_reporting: bool,
}

/// The admission of a call: the state that admitted it and, for a probe, whether the breaker knows
/// that its response has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) word: Word,
    pub(crate) has_begun: bool,
}

/// The reason to reject a call. Times are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The breaker stays open for this long.
    Open(u64),
    /// All probes are outstanding, and the breaker stays half-open for at most this long.
    HalfOpen(u64),
    /// The breaker stays open until it is reset.
    ForcedOpen,
}

/// The state of a breaker at a time, whether or not a call has changed the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// The state that the next call finds.
    pub(crate) circuit: Circuit,
    /// The counts of the window in that state, or those of the probes; while the breaker is open,
    /// the counts on which it opened.
    pub(crate) counts: Counts,
    /// The number of probes without an outcome.
    pub(crate) outstanding: u32,
}

// === impl Refusal ===

impl Refusal {
    /// The longest time until the state ends by itself.
    pub(crate) const fn ends_in(self) -> Duration {
        match self {
            Refusal::Open(nanos) | Refusal::HalfOpen(nanos) => Duration::from_nanos(nanos),
            Refusal::ForcedOpen => Duration::MAX,
        }
    }
}

// === impl Breaker: its state ===

impl Breaker {
    pub(crate) fn new(window: Window, rules: &Rules, now: u64) -> Self {
        Self {
            word: AtomicU64::new(Word::new(0, Mode::Closed, rules.is_timed()).0),
            unreported: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
            half_open_until: AtomicU64::new(0),
            rules: LiveRules::new(rules),
            // It belongs to no generation yet.
            probes: AtomicU64::new(Probes::new(u64::MAX).0),
            consecutive: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            reached_totals: std::array::from_fn(|_| AtomicU64::new(0)),
            ignored: AtomicU64::new(0),
            window,
            locked: Mutex::new(Locked {
                circuit: Circuit::new(now),
                unreported: VecDeque::new(),
                is_reporting: false,
            }),
        }
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    pub(super) fn probes(&self) -> Probes {
        Probes(self.probes.load(Ordering::Acquire))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until(&self, mode: Mode) -> Option<&AtomicU64> {
        match mode {
            Mode::Open => Some(&self.open_until),
            Mode::HalfOpen => Some(&self.half_open_until),
            _ => None,
        }
    }

    /// The time at which a state ends. It may be that of a later generation; the lock checks what
    /// follows from it.
    fn ends(&self, mode: Mode) -> u64 {
        let until = self.until(mode);
        until.map_or(u64::MAX, |until| until.load(Ordering::Acquire))
    }

    /// Changes the state, if it is still that of `generation`. It makes the new state outside the
    /// lock, where code of a user may run. Returns whether the state was that of `generation`.
    pub(super) fn change(
        &self,
        generation: u64,
        change: impl FnOnce(&mut Circuit) -> Option<Change>,
    ) -> bool {
        let mut circuit = self.lock().circuit.clone();
        if circuit.generation != generation {
            return false;
        }
        let changed = change(&mut circuit);
        let mut locked = self.lock();
        let is_current = locked.circuit.generation == generation;
        if is_current {
            locked.circuit = circuit;
            locked.unreported.extend(changed);
            self.publish(&locked);
        }
        is_current
    }

    /// Writes the values of a state before its word, so that a reader of the word reads no older
    /// values.
    fn publish(&self, locked: &Locked) {
        let unreported = locked.unreported.len() as u32;
        self.unreported.store(unreported, Ordering::Relaxed);
        let circuit = &locked.circuit;
        if let Some(until) = self.until(circuit.mode) {
            until.store(circuit.until, Ordering::Release);
        }
        if circuit.mode == Mode::HalfOpen {
            let probes = Probes::new(circuit.generation);
            // A swap and not a store: it comes after the change of a stale probe.
            self.probes.swap(probes.0, Ordering::AcqRel);
        }
        let word = Word::new(circuit.generation, circuit.mode, self.word().is_timed());
        self.word.store(word.0, Ordering::Release);
    }

    /// Leaves the states whose time is over, and returns the word of the current state.
    pub(super) fn advance(&self, now: u64, times: &impl Times) -> Word {
        loop {
            let word = self.word();
            if now < self.ends(word.mode()) {
                return word;
            }
            self.expire(word, now, times);
        }
    }

    /// Leaves a half-open state whose time is over. The next half-open time starts with a call.
    pub(super) fn end_half_open(&self, now: u64, times: &impl Times) -> Word {
        let word = self.word();
        if word.mode() == Mode::HalfOpen && now >= self.ends(Mode::HalfOpen) {
            self.expire(word, now, times);
        }
        self.word()
    }

    fn expire(&self, word: Word, now: u64, times: &impl Times) {
        let rules = self.rules.get();
        self.change(word.generation(), |circuit| {
            circuit.expire(now, true, self.probes(), &rules, times)
        });
    }

    pub(super) fn open(
        &self,
        word: Word,
        now: u64,
        cause: TransitionCause,
        counts: Counts,
        times: &impl Times,
    ) -> bool {
        self.change(word.generation(), |circuit| {
            let lasts = times.open(circuit.next_recovery(), circuit.generation);
            circuit.enter(Mode::Open, cause, now, Some(lasts), counts)
        })
    }

    /// The state at a time, with all values that belong to it.
    pub(crate) fn look(&self, now: u64, times: &impl Times) -> Look {
        let rules = self.rules.get();
        let (stored, probes) = {
            let locked = self.lock();
            (locked.circuit.clone(), self.probes())
        };
        let mut circuit = stored.clone();
        while circuit.expire(now, false, probes, &rules, times).is_some() {}
        let has_slots = probes.done() + probes.outstanding() < rules.probes;
        if circuit.mode == Mode::HalfOpen && circuit.generation == stored.generation && !has_slots {
            circuit.conclude(now, probes, &rules, times);
        }
        let is_stored = circuit.generation == stored.generation;
        let word = Word::new(circuit.generation, circuit.mode, false);
        Look {
            counts: match circuit.mode {
                Mode::Closed | Mode::ObserveOnly => self.window.counts(word.era(), now),
                Mode::HalfOpen if is_stored => probes.counts(),
                Mode::Open => circuit.decided_on,
                Mode::HalfOpen | Mode::ForcedOpen | Mode::ForcedClosed => Counts::default(),
            },
            outstanding: match circuit.mode {
                Mode::HalfOpen if is_stored => probes.outstanding(),
                _ => 0,
            },
            circuit,
        }
    }

    /// The counts of all calls so far.
    pub(crate) fn totals(&self) -> Counts {
        self.window.totals()
    }

    /// The number of all calls so far that ended without an outcome.
    pub(crate) fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }

    /// The number of times that each of [`Reached::CAUSES`] was reached.
    pub(crate) fn reached_totals(&self) -> [u64; Reached::CAUSES.len()] {
        std::array::from_fn(|index| self.reached_totals[index].load(Ordering::Relaxed))
    }
}

// === impl Breaker: admission ===

impl Breaker {
    /// The state, if it is closed and no call is timed.
    #[inline]
    pub(crate) fn admits_plainly(&self) -> Option<Word> {
        Some(self.word()).filter(|word| word.is_plain())
    }

    /// Decides about a call. It reads `now` unless the state admits all calls.
    pub(crate) fn admit(
        &self,
        now: impl FnOnce() -> u64,
        times: &impl Times,
    ) -> Result<Word, Refusal> {
        let word = self.word();
        match word.mode() {
            Mode::Closed | Mode::ForcedClosed | Mode::ObserveOnly => Ok(word),
            Mode::ForcedOpen => Err(Refusal::ForcedOpen),
            Mode::Open => {
                let now = now();
                match self.ends(Mode::Open).checked_sub(now) {
                    Some(left) if left > 0 => Err(Refusal::Open(left)),
                    _ => self.admit_probe(now, times),
                }
            }
            Mode::HalfOpen => self.admit_probe(now(), times),
        }
    }

    #[cold]
    fn admit_probe(&self, now: u64, times: &impl Times) -> Result<Word, Refusal> {
        loop {
            let word = self.advance(now, times);
            let left = self.ends(word.mode()).saturating_sub(now);
            match word.mode() {
                Mode::Closed | Mode::ForcedClosed | Mode::ObserveOnly => return Ok(word),
                Mode::ForcedOpen => return Err(Refusal::ForcedOpen),
                Mode::Open => return Err(Refusal::Open(left)),
                Mode::HalfOpen => {}
            }
            let rules = self.rules.get();
            let most = rules.probes.min(MAX_PROBES);
            let generation = word.generation();
            let is_admitted = self.update_probes(generation, |probes| probes.enter(most));
            if is_admitted.is_some() {
                return Ok(word);
            }
            // If the rules allow fewer probes than before, the finished ones may have decided.
            self.conclude(word, now, self.probes(), times);
            if self.word() == word {
                return Err(Refusal::HalfOpen(left));
            }
        }
    }

    /// Returns whether the state that admitted a call is the current one, and its time is not over.
    pub(crate) fn is_current(&self, word: Word, now: impl FnOnce() -> u64) -> bool {
        self.word().generation() == word.generation()
            && (word.admits_all() || now() < self.ends(word.mode()))
    }

    /// Notes that the response of a call has begun. Returns whether that is recorded for a probe.
    #[allow(dead_code, reason = "without a protocol nothing begins before it ends")]
    pub(crate) fn begin_response(
        &self,
        word: Word,
        now: impl FnOnce() -> u64,
        times: &impl Times,
    ) -> bool {
        self.update_probe(word, now, Probes::begin, times)
    }
}
