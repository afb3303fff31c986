//! The state that all clones of a handle share, and the token of an admitted call.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Transition;
use super::open_duration::{LEAST, OpenDuration};
use super::settings::CircuitBreakerSettings;
use crate::clock::{self, nanos};
use crate::config::Current;
use crate::control::circuit_breaker::breaker::{Breaker, Look};
use crate::control::circuit_breaker::rules::Reached;
use crate::control::circuit_breaker::state::{Rejected, Times};
use crate::control::circuit_breaker::window::Sample;
use crate::control::circuit_breaker::word::{Mode, Word};
use crate::observe::{Reporter, table};
use crate::outcome::Outcome;
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::sync::lock;
use crate::unwind;
use crate::upload::{self, Detached, Unheard};

type Hook = Arc<dyn Fn(&Transition) + Send + Sync>;

pub(super) struct Shared {
    pub(super) breaker: Breaker,
    pub(super) reporter: Reporter,
    /// The origin of the times in nanoseconds.
    origin: Instant,
    pub(super) settings: Current<CircuitBreakerSettings>,
    /// The seed of the jitter, together with a generation.
    seed: u64,
    pub(super) hooks: Mutex<Vec<Hook>>,
    /// Wakes the services that wait for the breaker in `poll_ready`.
    pub(super) changed: Arc<Notify>,
    pub(super) ignored: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) panicked: AtomicU64,
    /// The number of times that each of [`Reached::CAUSES`] was reached.
    pub(super) reached: [AtomicU64; Reached::CAUSES.len()],
}

/// The token of a call that a [`CircuitBreaker`](super::CircuitBreaker) admitted.
#[derive(Clone, Copy, Debug)]
pub struct CircuitToken {
    pub(super) word: Word,
    /// The [`start`] of the call, or its duration in nanoseconds once that is known.
    time: u64,
}

/// The start of a timed call, in the time of a token: `| milliseconds for which the service waited
/// for the request body before the call: 24 | microseconds: 40 |`. Both wrap around: a call that
/// takes more than six days counts as one that takes no time, and four hours of a longer wait count
/// as time of the call.
mod start {
    const BITS: u32 = 40;
    const MICROS: u64 = (1 << BITS) - 1;
    const MILLIS: u64 = u64::MAX >> BITS;

    /// `now` and `waited` are in nanoseconds. It rounds the wait up, so that no part of it is taken
    /// for one during the call.
    pub(super) const fn new(now: u64, waited: u64) -> u64 {
        waited.div_ceil(1_000_000) << BITS | (now / 1000) & MICROS
    }

    /// The nanoseconds since the start, without those of `waited` that were in it.
    pub(super) const fn since(start: u64, now: u64, waited: u64) -> u64 {
        let took = (now / 1000).wrapping_sub(start) & MICROS;
        // The clock may be behind under paused time.
        let took = if took > MICROS / 2 { 0 } else { took * 1000 };
        let total = waited / 1_000_000;
        // `start` has the wait before the call, rounded up, and `total` is rounded down. The 1
        // keeps the difference from being negative; it is subtracted again below.
        let waited = (total + 1).wrapping_sub(start >> BITS) & MILLIS;
        // Another task that settles the token does not know the wait before the call.
        let waited = if waited > total + 1 { 0 } else { waited };
        took.saturating_sub(waited.saturating_sub(1) * 1_000_000)
    }
}

// === impl Shared ===

impl Times for Shared {
    #[inline]
    fn now(&self) -> u64 {
        let time = clock::now().saturating_duration_since(self.origin);
        time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
    }

    fn open(&self, failed_recoveries: u32, generation: u64) -> u64 {
        let settings = self.settings.get();
        let dice = fastrand::Rng::with_seed(self.seed.wrapping_add(generation)).f64();
        let mut length = OpenDuration::DEFAULT;
        // A function of the user; it may run while a call unwinds.
        unwind::without_panics(|| length = settings.open_duration.after(failed_recoveries, dice));
        unwind::without_panics(|| drop(settings));
        nanos(length.max(LEAST))
    }

    fn half_open(&self, open: u64) -> u64 {
        let settings = self.settings.get();
        match (settings.half_open_timeout, settings.slow_call) {
            (Some(timeout), _) => nanos(timeout),
            // A call that is not slow must be able to end in time.
            (None, Some(slow)) => open.max(nanos(slow.duration).saturating_mul(2)),
            (None, None) => open,
        }
    }
}

impl Shared {
    /// A breaker in this mode, after the settings are checked.
    pub(super) fn new(settings: CircuitBreakerSettings, reporter: Reporter, mode: Mode) -> Self {
        let shared = Self {
            breaker: Breaker::new(settings.effective_window().make(), &settings.rules(), mode),
            reporter,
            origin: clock::now(),
            settings: Current::new(settings),
            seed: fastrand::u64(..),
            hooks: Mutex::default(),
            changed: Arc::default(),
            ignored: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            reached: Default::default(),
        };
        shared.show();
        shared
    }

    /// Publishes the thresholds as gauges.
    pub(super) fn show(&self) {
        let settings = self.settings.get();
        let slow = settings.slow_call.map(|slow| slow.rate);
        let consecutive = settings.consecutive_failures.map(f64::from);
        // In the order of `Reached::CAUSES`, whose labels the gauges have.
        let values = [settings.failure_rate, slow, consecutive];
        for (label, value) in values.into_iter().enumerate() {
            let threshold = table::CIRCUIT_THRESHOLD.at(label);
            self.reporter.show_setting(threshold, value.unwrap_or(0.0));
        }
    }

    /// The present state.
    pub(super) fn look(&self) -> Look {
        self.breaker.look(self)
    }

    /// Registers the series, and publishes the state.
    #[inline]
    pub(super) fn register(&self) {
        let state = || self.look().circuit.mode as usize;
        self.reporter.state_seen(table::CIRCUIT_STATE, state);
    }

    /// Reports the changes of state, if there are any: one at a time, in order, outside any lock.
    /// It catches a panic of a hook or recorder, since most changes are found where a call is
    /// dropped.
    #[inline]
    pub(super) fn report(&self) {
        self.breaker.report(|transition, to| {
            self.notify();
            unwind::without_panics(|| self.reporter.circuit_changed(&transition, to));
            let hooks = lock(&self.hooks).clone();
            for hook in hooks {
                unwind::without_panics(|| hook(&transition));
            }
        });
    }

    /// Wakes the services that wait. A waker that panics does not end the call of this thread;
    /// Tokio may then not wake the others.
    pub(super) fn notify(&self) {
        unwind::without_panics(|| self.changed.notify_waiters());
    }

    pub(super) fn force(&self, to: Mode) {
        self.breaker.force(to, self);
        self.report();
    }
}

// === admission ===

impl Shared {
    /// A token for a call that begins now, or a rejection. `mark` is the flag of a permit, or 0. A
    /// call that is not timed needs no mark.
    #[inline(always)]
    pub(super) fn admit(&self, mark: u64) -> Result<CircuitToken, Rejection> {
        self.register();
        let word = self.breaker.word();
        if word.is_plain() {
            return Ok(CircuitToken { word, time: 0 });
        }
        self.decide(mark)
    }

    /// Decides about a call in any state.
    #[inline(never)]
    fn decide(&self, mark: u64) -> Result<CircuitToken, Rejection> {
        let mut token = self.reserve().map_err(|rejected| self.reject(rejected))?;
        token.word = token.word.with(mark);
        // Its time is not measured with the request that this thread serves.
        let _detached = token.word.has(Word::DETACHED).then(Detached::new);
        self.begin(&mut token);
        Ok(token)
    }

    /// A token for a call that has not started; see [`begin`](Self::begin). Or the reason to reject
    /// the call.
    #[inline(always)]
    pub(super) fn reserve(&self) -> Result<CircuitToken, Rejected> {
        let admitted = self.breaker.admit(self);
        self.report();
        admitted.map(|word| CircuitToken { word, time: 0 })
    }

    fn reject(&self, rejected: Rejected) -> Rejection {
        /// The probes decide within the duration of a call, which is unknown. An earlier retry is
        /// not useful.
        const SOON: u64 = 1_000_000_000;
        let rejection = self.reporter.reject(Reason::CircuitOpen);
        let after = match rejected.by {
            Mode::ForcedOpen => return rejection,
            Mode::HalfOpen => rejected.ends_in.min(SOON),
            _ => rejected.ends_in,
        };
        rejection.with_retry_after(Duration::from_nanos(after))
    }

    /// Starts the call now.
    pub(super) fn begin(&self, token: &mut CircuitToken) {
        if token.word.has(Word::TIMED) {
            token.time = start::new(self.now(), nanos(upload::waited_before()));
        }
    }

    /// Records the response head of a probe, or of a call that is timed.
    #[cfg(feature = "http")]
    #[inline(always)]
    pub(super) fn on_head(&self, token: &mut CircuitToken) {
        if !token.word.is_plain() {
            self.begin_response(token);
        }
    }

    #[cfg(feature = "http")]
    #[inline(never)]
    fn begin_response(&self, token: &mut CircuitToken) {
        let took = self.took(token);
        token.measured(took.unwrap_or(0));
        if !self.is_slow(took) {
            self.breaker.begin_response(&mut token.word, self);
        }
        self.report();
    }
}

// === outcomes ===

impl Shared {
    #[inline]
    pub(super) fn settle(&self, token: &mut CircuitToken, outcome: Outcome) {
        if outcome == Outcome::Success && !token.word.has(Word::TIMED) {
            return self.count(token.word, Sample::SUCCESS, outcome, None);
        }
        self.settle_rarely(token, outcome);
    }

    #[inline(never)]
    fn settle_rarely(&self, token: &CircuitToken, outcome: Outcome) {
        // A permit may be settled inside an unrelated request, whose reports must not change it.
        let _unheard = token.word.has(Word::HELD).then(Unheard::new);
        let _detached = token.word.has(Word::DETACHED).then(Detached::new);
        self.record(token.word, outcome, self.took(token));
    }

    /// Records the outcome of a call that the breaker did not admit.
    pub(super) fn record_unadmitted(&self, outcome: Outcome, took: Option<u64>) {
        let word = self.breaker.word_for_unadmitted(self);
        self.record(word, outcome, took);
        self.report();
    }

    /// Records the outcome of a call. `took` is `None` if its duration was not measured.
    #[inline(never)]
    fn record(&self, admitted: Word, outcome: Outcome, took: Option<u64>) {
        let slow = self.is_slow(took);
        let failed = match outcome {
            Outcome::Success => false,
            Outcome::Failure => true,
            Outcome::Panicked => {
                self.panicked.fetch_add(1, Relaxed);
                true
            }
            Outcome::Cancelled => {
                self.cancelled.fetch_add(1, Relaxed);
                if !slow || upload::is_callers_fault(true) {
                    return self.ignore(admitted, outcome);
                }
                true
            }
            Outcome::Ignored => return self.ignore(admitted, outcome),
        };
        let micros = took.map_or(0, |took| (took / 1000).max(1));
        self.count(admitted, Sample::new(failed, slow, micros), outcome, took);
    }

    #[inline]
    fn count(&self, admitted: Word, sample: Sample, outcome: Outcome, took: Option<u64>) {
        let reached = self.breaker.record(admitted, sample, self);
        self.reporter.circuit_outcome(outcome, took);
        if let Some(reached) = reached {
            if reached != Reached::default() {
                self.count_reached(reached);
            }
            self.report();
        }
    }

    #[cold]
    fn count_reached(&self, reached: Reached) {
        for index in (0..Reached::CAUSES.len()).filter(|index| reached.has(*index)) {
            self.reached[index].fetch_add(1, Relaxed);
            self.reporter.circuit_reached(index);
        }
    }

    #[cold]
    fn ignore(&self, admitted: Word, outcome: Outcome) {
        self.ignored.fetch_add(1, Relaxed);
        self.release(admitted);
        self.reporter.circuit_outcome(outcome, None);
    }

    /// Releases a token that has no outcome.
    pub(super) fn release(&self, word: Word) {
        if self.breaker.release(word, self) {
            self.notify();
        }
        self.report();
    }

    fn is_slow(&self, took: Option<u64>) -> bool {
        took.is_some_and(|took| took > self.breaker.slow_call())
    }

    /// The nanoseconds for which a timed call has run, without those during the call in which it
    /// has waited for the request body.
    fn took(&self, token: &CircuitToken) -> Option<u64> {
        if !token.word.has(Word::TIMED) {
            return None;
        }
        if token.word.has(Word::MEASURED) {
            return Some(token.time);
        }
        let waited = nanos(upload::waited());
        Some(start::since(token.time, self.now(), waited))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        unwind::without_panics(|| self.reporter.state_gone(table::CIRCUIT_STATE));
    }
}

// === impl CircuitToken ===

impl CircuitToken {
    pub(super) fn measured(&mut self, took: u64) {
        self.time = took;
        self.word = self.word.with(Word::MEASURED);
    }
}

#[cfg(test)]
mod tests {
    use super::start;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1000 * MS;
    const HOUR: u64 = 3600 * SECOND;
    const TIMES: [u64; 4] = [0, 7, 100 * 24 * HOUR, 6 * 24 * HOUR];

    /// Neither before the wraps nor after them.
    #[test]
    fn a_wait_before_a_call_is_no_part_of_it() {
        let took = 150 * MS;
        for now in TIMES {
            for waited in [
                0,
                1,
                MS,
                600 * SECOND,
                16_800 * SECOND + MS / 2,
                50 * HOUR + 1,
            ] {
                let start = start::new(now, waited);
                assert_eq!(
                    start::since(start, now + took, waited),
                    took,
                    "{now}, {waited}"
                );
                // The service reads the body beside the call: the wait is unknown.
                assert_eq!(start::since(start, now + took, 0), took, "{now}, {waited}");
            }
        }
    }

    /// Up to a millisecond of the wait counts as time of the call.
    #[test]
    fn a_wait_during_a_call_does_not_count() {
        let took = 150 * MS;
        for now in TIMES {
            for before in [0, 1, MS, 600 * SECOND, 5 * HOUR + MS / 2] {
                for during in [MS, SECOND + 1, 600 * SECOND, 4 * HOUR] {
                    let start = start::new(now, before);
                    let since = start::since(start, now + took + during, before + during);
                    assert!(
                        (took..=took + 2 * MS).contains(&since),
                        "{now}, {before}, {during}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_behind_is_no_long_call() {
        assert_eq!(start::since(start::new(SECOND, 0), MS, 0), 0);
    }
}
