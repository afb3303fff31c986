//! The counting of outcomes, and the changes of state that follow.

use crate::sync::atomic::Ordering;

use super::breaker::{Breaker, Pass};
use super::probes::Probes;
use super::rules::{Reached, Verdict};
use super::state::Times;
use super::window::{Counts, Sample};
use super::word::{Mode, Word};

impl Breaker {
    /// Records the outcome of a call. It reads `now` for a window of time, and if the state may
    /// change. Returns the thresholds that the outcome reached.
    #[inline]
    pub(crate) fn record(
        &self,
        pass: Pass,
        now: impl Fn() -> u64,
        sample: Sample,
        times: &impl Times,
    ) -> Reached {
        let word = self.word();
        let is_current = word.generation() == pass.word.generation();
        if !is_current || word.mode() != Mode::Closed {
            return self.record_elsewhere(word, is_current, pass, now(), sample, times);
        }
        let consecutive = self.count_consecutive(word, sample.failed());
        let counts = self.window.record(word.era(), &now, sample);
        if counts.is_none() && consecutive == 0 {
            return Reached::default();
        }
        self.judge(word, now, counts.unwrap_or_default(), consecutive, times)
    }

    #[cold]
    fn record_elsewhere(
        &self,
        word: Word,
        is_current: bool,
        pass: Pass,
        now: u64,
        sample: Sample,
        times: &impl Times,
    ) -> Reached {
        match word.mode() {
            Mode::ObserveOnly if is_current => {
                let consecutive = self.count_consecutive(word, sample.failed());
                let counts = self.window.record(word.era(), || now, sample);
                // Without counts, the window has only fast successes, or the sample is too late.
                let counts = match counts {
                    Some(counts) => counts,
                    None if self.reached.load(Ordering::Relaxed) as u32 == 0 => Counts::default(),
                    None => self.window.counts(word.era(), now),
                };
                let reached = self.rules.get().reached(&counts, consecutive);
                return self.observe(word, reached);
            }
            Mode::HalfOpen if is_current => {
                self.window.record_past(sample);
                let finish =
                    |probes: Probes| probes.finish(pass.has_begun, sample.failed(), sample.slow());
                if self.update_probe(word, || now, finish, times) {
                    self.conclude(word, now, self.probes(), times);
                }
            }
            _ => self.window.record_past(sample),
        }
        Reached::default()
    }

    /// Records a call that was not admitted. It counts in states that admit every call.
    pub(crate) fn record_unadmitted(
        &self,
        now: impl Fn() -> u64,
        sample: Sample,
        times: &impl Times,
    ) -> Reached {
        let mut word = self.word();
        if word.mode() == Mode::HalfOpen {
            word = self.end_half_open(now(), times);
        }
        if !word.admits_all() {
            self.window.record_past(sample);
            return Reached::default();
        }
        let pass = Pass {
            word,
            has_begun: false,
        };
        self.record(pass, now, sample, times)
    }

    /// Counts a call that ended without an outcome.
    pub(crate) fn ignore(&self) {
        self.ignored.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has no outcome, or is not made: a probe releases its slot. Returns whether the call
    /// had one.
    pub(crate) fn release(&self, pass: Pass, now: impl Fn() -> u64, times: &impl Times) -> bool {
        let release = |probes: Probes| probes.release(pass.has_begun);
        let is_released = self.update_probe(pass.word, &now, release, times);
        if is_released {
            // If the rules allow fewer probes than before, the others may have decided.
            self.conclude(pass.word, now(), self.probes(), times);
        }
        is_released
    }

    /// Changes a probe, unless its half-open time is over. If it is over, the probes decide without
    /// this one.
    pub(super) fn update_probe(
        &self,
        word: Word,
        now: impl FnOnce() -> u64,
        change: impl Fn(Probes) -> Probes,
        times: &impl Times,
    ) -> bool {
        // Compares the whole generation, since the probes have only a part of it.
        let is_current = || self.word().generation() == word.generation();
        if word.mode() != Mode::HalfOpen || !is_current() {
            return false;
        }
        self.end_half_open(now(), times);
        is_current()
            && self
                .update_probes(word.generation(), |probes| Some(change(probes)))
                .is_some()
    }

    /// Changes the probes of a generation. Returns `None` if they are those of another generation,
    /// or if `change` returns `None`.
    pub(super) fn update_probes(
        &self,
        generation: u64,
        change: impl Fn(Probes) -> Option<Probes>,
    ) -> Option<Probes> {
        let update = |old: u64| {
            let probes = Some(Probes(old)).filter(|probes| probes.is_of(generation));
            probes.and_then(&change).map(|probes| probes.0)
        };
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        let old = self.probes.fetch_update(set, fetch, update);
        old.ok().and_then(update).map(Probes)
    }

    /// Changes the state as soon as the probes have decided.
    pub(super) fn conclude(&self, word: Word, now: u64, probes: Probes, times: &impl Times) {
        let rules = self.rules.get();
        let is_decided = rules.decide(probes, false) != Verdict::Undecided;
        if is_decided && probes.is_of(word.generation()) {
            self.change(word.generation(), |circuit| {
                circuit.conclude(now, probes, &rules, times)
            });
        }
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
        if failed && self.rules.get().consecutive_failures.is_none() {
            return 0;
        }
        let tag = word.era() as u32;
        let update = |old: u64| {
            let era = (old >> 32) as u32;
            let count = if era == tag { old as u32 } else { 0 };
            let count = if failed { count.saturating_add(1) } else { 0 };
            let is_later = era != tag && era.wrapping_sub(tag) < 1 << 31;
            (!is_later).then_some(u64::from(tag) << 32 | u64::from(count))
        };
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        let old = self.consecutive.fetch_update(set, fetch, update);
        old.ok().and_then(update).map_or(0, |new| new as u32)
    }

    #[cold]
    fn judge(
        &self,
        word: Word,
        now: impl Fn() -> u64,
        counts: Counts,
        consecutive: u32,
        times: &impl Times,
    ) -> Reached {
        let reached = self.rules.get().reached(&counts, consecutive);
        let Some(cause) = reached.cause() else {
            return Reached::default();
        };
        let now = now();
        // Reads also the counts that the rates do not need.
        let whole = self.window.counts(word.era(), now);
        let counts = Counts {
            slow_failures: whole.slow_failures.min(counts.slow),
            timed: whole.timed,
            took: whole.took,
            ..counts
        };
        if self.open(word, now, cause, counts, times) {
            return self.count_reached(reached);
        }
        Reached::default()
    }

    /// Counts the thresholds that are newly reached while the breaker only observes.
    fn observe(&self, word: Word, reached: Reached) -> Reached {
        let new = u64::from(word.era() as u32) << 32 | u64::from(reached.bits());
        let update = |old: u64| {
            let ahead = (new >> 32).wrapping_sub(old >> 32) as u32;
            (old != new && ahead < 1 << 31).then_some(new)
        };
        let relaxed = Ordering::Relaxed;
        let Ok(old) = self.reached.fetch_update(relaxed, relaxed, update) else {
            return Reached::default();
        };
        let is_same_era = old >> 32 == new >> 32;
        let before = if is_same_era { old as u32 } else { 0 };
        self.count_reached(Reached::from_bits(reached.bits() & !before))
    }

    fn count_reached(&self, reached: Reached) -> Reached {
        for (index, total) in self.reached_totals.iter().enumerate() {
            if reached.has(index) {
                total.fetch_add(1, Ordering::Relaxed);
            }
        }
        reached
    }
}
