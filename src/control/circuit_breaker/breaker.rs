//! The circuit breaker: one word that decides while it is closed, a second one for probes, and a lock that is taken only to
//! change the state.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

#[cfg(all(test, seawall_loom))]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(all(test, seawall_loom)))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::circuit::{
    Cause, Change, Circuit, Decision, Exceeded, MAX_PROBES, Mode, Probes, Thresholds, Word, era,
};
use super::counts::{Counts, Sample};
use super::window::Window;

/// A breaker without a time of its own: `now` and all spans are nanoseconds.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Breaker {
    /// `| generation: 60 | calls are timed: 1 | mode: 3 |`. It leads the words that every call reads and none writes.
    pub(super) word: AtomicU64,
    /// How many changes nobody was told about yet; written under the lock.
    pub(super) untold: AtomicU32,
    pub(super) failed_recoveries: AtomicU32,
    /// When the open time is over, and when the half-open time is: apart, so that whoever still reads the word of the one
    /// does not take the time of the other for it.
    open_until: AtomicU64,
    half_open_until: AtomicU64,
    open_since: AtomicU64,
    pub(super) probes: AtomicU64,
    /// `| era: 32 | failures in a row: 32 |`.
    in_a_row: AtomicU64,
    /// `| era: 32 | thresholds that are reached: 32 |`.
    reached: AtomicU64,
    /// How often each threshold was reached.
    pub(super) crossed: [AtomicU64; Exceeded::CAUSES.len()],
    pub(super) ignored: AtomicU64,
    pub(super) window: Window,
    locked: Mutex<Locked>,
}

#[derive(Debug)]
pub(super) struct Locked {
    pub(super) circuit: Circuit,
    /// Changes that nobody was told about yet.
    pub(super) untold: VecDeque<Change>,
    /// Somebody is telling them, in their order.
    pub(super) telling: bool,
}

/// What decides how long it stays in a state.
pub(crate) trait Spans {
    /// The open time after so many failed recoveries, the same each time for a generation that it follows. It may run code of
    /// a user's, and is called outside the lock.
    fn open(&self, failed_recoveries: u32, generation: u64) -> u64;

    /// The half-open time after such an open time.
    fn half_open(&self, open: u64) -> u64;

    fn thresholds(&self) -> Thresholds;
}

/// What became of a call at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Go, and bring the generation back with the result.
    Pass(Word),
    /// Not now.
    Refused(Refusal),
}

/// Why a call may not pass. Nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is open for so long.
    Open(u64),
    /// All probes are out; it is half-open for so long at the most.
    HalfOpen(u64),
    /// It is open until somebody says otherwise.
    ForcedOpen,
}

// === impl Refusal ===

impl Refusal {
    /// When it is over by itself, at the latest.
    pub(crate) const fn ends_in(self) -> Duration {
        match self {
            Refusal::Open(nanos) | Refusal::HalfOpen(nanos) => Duration::from_nanos(nanos),
            Refusal::ForcedOpen => Duration::MAX,
        }
    }
}

// === impl Breaker ===

impl Breaker {
    pub(crate) fn new(window: Window, timed: bool, now: u64) -> Self {
        Self {
            word: AtomicU64::new(Word::new(0, Mode::Closed, timed).0),
            open_until: AtomicU64::new(0),
            half_open_until: AtomicU64::new(0),
            open_since: AtomicU64::new(0),
            failed_recoveries: AtomicU32::new(0),
            // Of no generation yet.
            probes: AtomicU64::new(Probes::new(u64::MAX).0),
            in_a_row: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            crossed: std::array::from_fn(|_| AtomicU64::new(0)),
            ignored: AtomicU64::new(0),
            window,
            untold: AtomicU32::new(0),
            locked: Mutex::new(Locked {
                circuit: Circuit::new(now),
                untold: VecDeque::new(),
                telling: false,
            }),
        }
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// The state, if every call passes.
    #[inline]
    pub(crate) fn lets_pass(&self) -> Option<Word> {
        Some(self.word()).filter(|word| word.lets_pass())
    }

    /// May a call pass? While it may, whatever else there is to know is not looked at: neither the time nor the settings.
    #[inline]
    pub(crate) fn enter(&self, now: impl FnOnce() -> u64, spans: &impl Spans) -> Entry {
        let word = self.word();
        if word.lets_pass() {
            return Entry::Pass(word);
        }
        self.enter_unclosed(now(), spans)
    }

    /// What a call is told while it is open, unless that is nearly over. The time is one that is known only to have come less
    /// than `grain` nanoseconds ago.
    #[inline]
    pub(crate) fn refuses(&self, about: impl FnOnce() -> u64, grain: u64) -> Option<Refusal> {
        if self.word().mode() != Mode::Open {
            return None;
        }
        // No longer than it is open, though the time may be one before that.
        let now = about().max(self.open_since.load(Ordering::Acquire));
        let left = self.ends(Mode::Open).checked_sub(now)?;
        (left > grain).then_some(Refusal::Open(left))
    }

    #[cold]
    fn enter_unclosed(&self, now: u64, spans: &impl Spans) -> Entry {
        loop {
            let word = self.word();
            let generation = word.generation();
            match word.mode() {
                Mode::Closed | Mode::ForcedClosed | Mode::ObserveOnly => return Entry::Pass(word),
                Mode::ForcedOpen => return Entry::Refused(Refusal::ForcedOpen),
                // The time may be that of a later generation; what follows from its end is checked under the lock.
                mode @ (Mode::Open | Mode::HalfOpen) => {
                    let until = self.ends(mode);
                    if now >= until {
                        self.expire(generation, now, spans);
                    } else if mode == Mode::Open {
                        return Entry::Refused(Refusal::Open(until - now));
                    } else {
                        let places = spans.thresholds().probes.min(MAX_PROBES);
                        let entered = self.update_probes(generation, |probes| probes.enter(places));
                        if entered.is_some() {
                            return Entry::Pass(word);
                        }
                        // Where fewer probes are asked for now than had come back, nobody else would decide.
                        let probes = Probes(self.probes.load(Ordering::Acquire));
                        if probes.is_of(generation) && probes.outstanding() == 0 {
                            self.conclude(generation, now, probes, spans);
                        }
                        if self.word() == word {
                            return Entry::Refused(Refusal::HalfOpen(until - now));
                        }
                    }
                }
            }
        }
    }

    /// A call came back that was a success, and not slow: counted here if that is all there is to do, as it nearly always is;
    /// `None` if not, and nothing is done. The time is the number of a slice of the window. Says which thresholds it reached.
    #[inline]
    pub(crate) fn record_success(
        &self,
        pass: Word,
        slice: impl FnOnce() -> u64,
        now: impl Fn() -> u64,
        spans: &impl Spans,
    ) -> Option<Exceeded> {
        let word = self.word();
        let is_plain = word == pass && word.mode() == Mode::Closed;
        if !is_plain || self.in_a_row.load(Ordering::Relaxed) as u32 > 0 {
            return None;
        }
        if self.window.record_success(era(word.generation()), slice)? {
            return Some(Exceeded::default());
        }
        Some(self.judge_success(word, now, spans))
    }

    #[cold]
    fn judge_success(&self, word: Word, now: impl Fn() -> u64, spans: &impl Spans) -> Exceeded {
        let counts = self.window.counts(era(word.generation()), now());
        self.judge(word, now, &counts, 0, spans)
    }

    /// A call came back with a verdict. The time is asked for where it matters: not for a ring that stays below its
    /// thresholds. Says which thresholds it reached.
    #[inline]
    pub(crate) fn record(
        &self,
        pass: Word,
        has_head: bool,
        now: impl Fn() -> u64,
        sample: Sample,
        spans: &impl Spans,
    ) -> Exceeded {
        let word = self.word();
        if word.generation() != pass.generation() {
            self.window.record_past(sample);
            return Exceeded::default();
        }
        match word.mode() {
            Mode::Closed | Mode::ObserveOnly => {
                let era = era(word.generation());
                let in_a_row = self.count_in_a_row(era, sample.failed, spans);
                let counts = self.window.record(era, &now, sample);
                if counts.is_some() || in_a_row > 0 || word.mode() == Mode::ObserveOnly {
                    let counts = counts.unwrap_or_default();
                    return self.judge(word, now, &counts, in_a_row, spans);
                }
            }
            Mode::HalfOpen => self.record_probe(word, has_head, now(), sample, spans),
            Mode::Open | Mode::ForcedOpen | Mode::ForcedClosed => self.window.record_past(sample),
        }
        Exceeded::default()
    }

    /// A call that asked nobody: counted where calls pass freely.
    pub(crate) fn record_unasked(
        &self,
        now: impl Fn() -> u64,
        sample: Sample,
        spans: &impl Spans,
    ) -> Exceeded {
        let word = self.word();
        if word.lets_pass() {
            return self.record(word, false, now, sample, spans);
        }
        self.window.record_past(sample);
        Exceeded::default()
    }

    /// Counts a call that came back and says nothing.
    pub(crate) fn ignore(&self) {
        self.ignored.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the state is the one in which the call passed, and its time is not over.
    pub(crate) fn is_current(&self, pass: Word, now: impl FnOnce() -> u64) -> bool {
        self.word().generation() == pass.generation()
            && (pass.lets_pass() || now() < self.ends(pass.mode()))
    }

    #[inline]
    fn count_in_a_row(&self, era: u64, failed: bool, spans: &impl Spans) -> u32 {
        let tag = era as u32;
        let is_later = |old: u64| ((old >> 32) as u32).wrapping_sub(tag).wrapping_sub(1) < 1 << 31;
        if !failed {
            let old = self.in_a_row.load(Ordering::Relaxed);
            if old as u32 > 0 {
                let _ = self
                    .in_a_row
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                        (!is_later(old)).then_some(u64::from(tag) << 32)
                    });
            }
            return 0;
        }
        if spans.thresholds().consecutive_failures.is_none() {
            return 0;
        }
        let update = |old: u64| {
            let is_current = (old >> 32) as u32 == tag;
            let count = if is_current { old as u32 } else { 0 };
            let new = u64::from(tag) << 32 | u64::from(count.saturating_add(1));
            (!is_later(old)).then_some(new)
        };
        let old = self
            .in_a_row
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
        old.ok().and_then(update).map_or(0, |new| new as u32)
    }

    fn judge(
        &self,
        word: Word,
        now: impl Fn() -> u64,
        counts: &Counts,
        in_a_row: u32,
        spans: &impl Spans,
    ) -> Exceeded {
        let exceeded = spans.thresholds().exceeded(counts, in_a_row);
        if word.mode() == Mode::ObserveOnly {
            return self.observe(era(word.generation()), exceeded);
        }
        match exceeded.cause() {
            Some(cause) if self.open(word.generation(), now(), cause, spans) => {
                self.count_crossed(exceeded)
            }
            _ => Exceeded::default(),
        }
    }

    /// Counts the thresholds that are newly reached while nothing follows from it.
    fn observe(&self, era: u64, exceeded: Exceeded) -> Exceeded {
        let new = u64::from(era as u32) << 32 | u64::from(exceeded.bits());
        let update = |old: u64| {
            let ahead = (new >> 32).wrapping_sub(old >> 32) as u32;
            (old != new && ahead < 1 << 31).then_some(new)
        };
        let updated = self
            .reached
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        let Ok(old) = updated else {
            return Exceeded::default();
        };
        let before = if old >> 32 == new >> 32 {
            old as u32
        } else {
            0
        };
        self.count_crossed(Exceeded::from_bits(exceeded.bits() & !before))
    }

    fn count_crossed(&self, newly: Exceeded) -> Exceeded {
        for (index, crossed) in self.crossed.iter().enumerate() {
            if newly.has(index) {
                crossed.fetch_add(1, Ordering::Relaxed);
            }
        }
        newly
    }

    /// The time of an open or half-open state is over: probes may go, or what they have said by now must do.
    pub(super) fn expire(&self, generation: u64, now: u64, spans: &impl Spans) {
        if self.word().mode() == Mode::Open {
            self.change(generation, |circuit| {
                let lasts = spans.half_open(circuit.until.saturating_sub(circuit.since));
                circuit.enter(Mode::HalfOpen, Cause::OpenTimeOver, now, Some(lasts))
            });
            return;
        }
        let at = self.ends(Mode::HalfOpen).min(now);
        let probes = Probes(self.probes.load(Ordering::Acquire));
        if spans.thresholds().decide(probes, true) == Decision::Close {
            self.close(generation, at, Cause::ProbesSucceeded);
        } else {
            self.open(generation, at, Cause::HalfOpenTimeOver, spans);
        }
    }

    pub(super) fn close(&self, generation: u64, now: u64, cause: Cause) -> bool {
        self.change(generation, |circuit| {
            circuit.enter(Mode::Closed, cause, now, None)
        })
    }

    pub(super) fn open(&self, generation: u64, now: u64, cause: Cause, spans: &impl Spans) -> bool {
        let failed_recoveries = self.failed_recoveries.load(Ordering::Acquire);
        let failed_recoveries = match self.word().mode() {
            Mode::HalfOpen => failed_recoveries.saturating_add(1),
            _ => 0,
        };
        // If any of this belongs to another generation, so does the word, and nothing is changed.
        let lasts = spans.open(failed_recoveries, generation);
        self.change(generation, |circuit| {
            circuit.enter(Mode::Open, cause, now, Some(lasts))
        })
    }

    /// Changes the state if it is still of that generation.
    fn change(&self, generation: u64, change: impl FnOnce(&mut Circuit) -> Option<Change>) -> bool {
        let mut locked = self.lock();
        if locked.circuit.generation != generation {
            return false;
        }
        let changed = change(&mut locked.circuit);
        self.publish(&mut locked, changed);
        true
    }

    /// What a state needs comes before its word, so that whoever reads the word reads no older.
    pub(super) fn publish(&self, locked: &mut Locked, changed: Option<Change>) {
        locked.untold.extend(changed);
        self.untold
            .store(locked.untold.len() as u32, Ordering::Relaxed);
        let circuit = &locked.circuit;
        if let Some(until) = self.until(circuit.mode) {
            until.store(circuit.until, Ordering::Release);
        }
        if circuit.mode == Mode::Open {
            self.open_since.store(circuit.since, Ordering::Release);
        }
        self.failed_recoveries
            .store(circuit.failed_recoveries, Ordering::Release);
        if circuit.mode == Mode::HalfOpen {
            let probes = Probes::new(circuit.generation);
            // Not a store: it comes after whatever a stale probe has changed.
            self.probes.swap(probes.0, Ordering::AcqRel);
        }
        let word = Word::new(circuit.generation, circuit.mode, self.word().is_timed());
        self.word.store(word.0, Ordering::Release);
    }

    fn until(&self, mode: Mode) -> Option<&AtomicU64> {
        match mode {
            Mode::Open => Some(&self.open_until),
            Mode::HalfOpen => Some(&self.half_open_until),
            _ => None,
        }
    }

    pub(super) fn ends(&self, mode: Mode) -> u64 {
        let until = self.until(mode);
        until.map_or(u64::MAX, |until| until.load(Ordering::Acquire))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
