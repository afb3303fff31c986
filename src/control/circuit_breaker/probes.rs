//! The probes of a half-open circuit breaker: their places, and what they have said.

#[cfg(all(test, seawall_loom))]
use loom::sync::atomic::Ordering;
#[cfg(not(all(test, seawall_loom)))]
use std::sync::atomic::Ordering;

use super::breaker::{Breaker, Spans};
use super::circuit::{Cause, Decision, Mode, Probes, Word};
use super::counts::Sample;

impl Breaker {
    /// A call says nothing, or is not made after all: a probe gives its place back.
    pub(crate) fn give_back(
        &self,
        pass: Word,
        has_head: bool,
        now: impl Fn() -> u64,
        spans: &impl Spans,
    ) -> bool {
        self.update_probe(pass, now, spans, |probes| probes.release(has_head))
    }

    /// The response of a call has begun; says whether that is remembered of a probe, and must be said again when it is over.
    #[allow(dead_code, reason = "without a protocol nothing begins before it ends")]
    pub(crate) fn begin_response(
        &self,
        pass: Word,
        now: impl Fn() -> u64,
        spans: &impl Spans,
    ) -> bool {
        self.update_probe(pass, now, spans, Probes::begin)
    }

    /// Changes what is known of a probe, if its half-open time is not over. If it is, what was known until then decides.
    fn update_probe(
        &self,
        pass: Word,
        now: impl Fn() -> u64,
        spans: &impl Spans,
        change: impl Fn(Probes) -> Probes,
    ) -> bool {
        let generation = pass.generation();
        // The generation in full; that of the probes is only as long as it takes to find out that it has just passed.
        if pass.mode() != Mode::HalfOpen || self.word().generation() != generation {
            return false;
        }
        let now = now();
        if now >= self.ends(Mode::HalfOpen) {
            self.expire(generation, now, spans);
            return false;
        }
        self.update_probes(generation, |probes| Some(change(probes)))
            .is_some()
    }

    /// Changes the probes of that generation; `None` if they are no longer, or if `change` gives none.
    pub(super) fn update_probes(
        &self,
        generation: u64,
        change: impl Fn(Probes) -> Option<Probes>,
    ) -> Option<Probes> {
        let update = |old: u64| {
            let probes = Some(Probes(old)).filter(|probes| probes.is_of(generation));
            probes.and_then(&change).map(|probes| probes.0)
        };
        let old = self
            .probes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
        old.ok().and_then(update).map(Probes)
    }

    #[cold]
    pub(super) fn record_probe(
        &self,
        word: Word,
        has_head: bool,
        now: u64,
        sample: Sample,
        spans: &impl Spans,
    ) {
        self.window.record_past(sample);
        let generation = word.generation();
        if now >= self.ends(Mode::HalfOpen) {
            return self.expire(generation, now, spans);
        }
        let probes = self.update_probes(generation, |probes| {
            Some(probes.finish(has_head, sample.failed, sample.slow))
        });
        if let Some(probes) = probes {
            self.conclude(generation, now, probes, spans);
        }
    }

    pub(super) fn conclude(&self, generation: u64, now: u64, probes: Probes, spans: &impl Spans) {
        match spans.thresholds().decide(probes, false) {
            Decision::Undecided => {}
            Decision::Close => {
                self.close(generation, now, Cause::ProbesSucceeded);
            }
            Decision::Reopen => {
                self.open(generation, now, Cause::ProbesFailed, spans);
            }
        }
    }
}
