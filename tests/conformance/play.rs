//! Runs a row: each word is a step or an assertion.
//!
//! | word | what happens |
//! |---|---|
//! | `S` `F` `I` | a call that is admitted and succeeds, fails, is ignored |
//! | `Ss` `Fs` `S(2.5)` `F(2.5)` | the same, with a duration of 10 s, or of this many seconds |
//! | `A+` `A-` | a call is admitted and kept, is rejected |
//! | `Rel` `kS` `kF` | the oldest kept call is dropped, succeeds, fails |
//! | `@5` `@5-` `@5+` | moves the time to 5 s after the start, a nanosecond less, a nanosecond more |
//! | `trip` `isolate` `disable` `observe` `reset` | calls the method of the handle |
//! | `=C` `=O` `=H` `=FO` `=FC` `=OO` | the state |
//! | `5/3` | calls in the window and failures among them |
//! | `rate:60` `slow:40` | percent; -1 below the minimum |
//! | `name:n` | a counter of the snapshot, or the number of times that a state was entered |

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seawall::{
    CircuitBreaker, CircuitBreakerSettings, CircuitState, Outcome, Permit, Reason, Transition,
};
use tokio::time::{Instant, advance};

pub(crate) struct Play {
    id: String,
    pub(crate) breaker: CircuitBreaker,
    kept: VecDeque<Permit<CircuitBreaker>>,
    begin: Instant,
    told: Arc<Mutex<Vec<Transition>>>,
    done: String,
}

pub(crate) const NANO: Duration = Duration::from_nanos(1);

/// Runs the words on a breaker of its own.
pub(crate) async fn play(id: &str, settings: CircuitBreakerSettings, words: &str) -> Play {
    let mut play = Play::new(id, settings);
    play.go(words).await;
    play
}

impl Play {
    #[expect(clippy::disallowed_methods, reason = "the paused clock of a test")]
    pub(crate) fn new(id: &str, settings: CircuitBreakerSettings) -> Self {
        let breaker = CircuitBreaker::new(settings).unwrap_or_else(|error| panic!("{id}: {error}"));
        let told = Arc::new(Mutex::new(Vec::new()));
        let telling = told.clone();
        breaker.on_transition(move |transition| telling.lock().unwrap().push(transition.clone()));
        Self {
            id: id.to_owned(),
            breaker,
            kept: VecDeque::new(),
            begin: Instant::now(),
            told,
            done: String::new(),
        }
    }

    pub(crate) async fn go(&mut self, words: &str) {
        for word in words.split_whitespace() {
            self.done.push_str(word);
            self.done.push(' ');
            self.word(word).await;
        }
    }

    fn is<T: PartialEq + std::fmt::Debug>(&self, got: T, wanted: T) {
        assert_eq!(got, wanted, "row {} at: {}", self.id, self.done);
    }

    async fn word(&mut self, word: &str) {
        match word {
            "A+" => {
                let ticket = self.admitted();
                self.kept.push_back(ticket);
            }
            "A-" => {
                let refused = self.breaker.try_acquire();
                let reason = refused.err().map(|rejection| rejection.reason());
                self.is(reason, Some(Reason::CircuitOpen));
            }
            "Rel" => drop(self.oldest()),
            "kS" => self.oldest().success(),
            "kF" => self.oldest().failure(),
            "trip" => self.breaker.trip(),
            "isolate" => self.breaker.force_open(),
            "disable" => self.breaker.force_closed(),
            "observe" => self.breaker.observe_only(),
            "reset" => self.breaker.reset(),
            _ if word.starts_with('@') => self.until(&word[1..]).await,
            _ if word.starts_with('=') => self.state(&word[1..]),
            _ if word.contains('/') => self.counts(word),
            _ if word.contains(':') => self.counter(word),
            _ => self.call(word),
        }
    }

    fn admitted(&self) -> Permit<CircuitBreaker> {
        let ticket = self.breaker.try_acquire_owned();
        ticket.unwrap_or_else(|_| panic!("row {}: refused at: {}", self.id, self.done))
    }

    fn oldest(&mut self) -> Permit<CircuitBreaker> {
        self.kept.pop_front().expect("a call that is kept")
    }

    fn call(&self, word: &str) {
        let ticket = self.admitted();
        let outcome = match word.as_bytes()[0] {
            b'S' => Outcome::Success,
            b'F' => Outcome::Failure,
            b'I' => Outcome::Ignored,
            _ => panic!("row {}: what is {word}?", self.id),
        };
        let took = match &word[1..] {
            "" => return ticket.settle(outcome),
            "s" => 10.0,
            seconds => seconds.trim_matches(['(', ')']).parse().unwrap(),
        };
        ticket.settle_timed(outcome, Duration::from_secs_f64(took));
    }

    #[expect(clippy::disallowed_methods, reason = "the paused clock of a test")]
    async fn until(&self, time: &str) {
        let seconds: f64 = time.trim_end_matches(['-', '+']).parse().unwrap();
        // Whole microseconds, since the literals of the rows are exact to them.
        let mut at = Duration::from_micros((seconds * 1e6).round() as u64);
        if time.ends_with('-') {
            at -= NANO;
        } else if time.ends_with('+') {
            at += NANO;
        }
        let now = Instant::now().duration_since(self.begin);
        let ahead = at.checked_sub(now);
        advance(ahead.unwrap_or_else(|| panic!("row {}: back to {time}", self.id))).await;
    }

    fn state(&self, wanted: &str) {
        let state = match self.breaker.state() {
            CircuitState::Closed => "C",
            CircuitState::Open { .. } => "O",
            CircuitState::HalfOpen => "H",
            CircuitState::ForcedOpen => "FO",
            CircuitState::ForcedClosed => "FC",
            CircuitState::ObserveOnly => "OO",
            other => panic!("{other}"),
        };
        self.is(state, wanted);
    }

    fn counts(&self, word: &str) {
        let now = self.breaker.snapshot();
        self.is(format!("{}/{}", now.calls, now.failures), word.to_owned());
    }

    fn entered(&self, state: &str) -> usize {
        let told = self.told.lock().unwrap();
        told.iter().filter(|told| told.to.as_str() == state).count()
    }

    fn counter(&self, word: &str) {
        let (name, wanted) = word.split_once(':').unwrap();
        let now = self.breaker.snapshot();
        let percent = |rate: Option<f64>| rate.map_or(-1.0, |rate| 100.0 * rate);
        let seconds = |time: Option<Duration>| time.map_or(-1.0, |time| time.as_secs_f64());
        let retry = || {
            let refused = self.breaker.try_acquire().expect_err("refused");
            seconds(refused.retry_after())
        };
        let got = match name {
            "rate" => percent(now.failure_rate),
            "slow" => percent(now.slow_call_rate),
            "slow_calls" => now.slow_calls as f64,
            "slow_failures" => now.slow_failures as f64,
            "mean" => seconds(now.mean_duration),
            "rejected" => now.rejected as f64,
            "reached" => now.thresholds_reached.failure_rate as f64,
            "reached_slow" => now.thresholds_reached.slow_call_rate as f64,
            "retry" => retry(),
            "failed_recoveries" => f64::from(now.failed_recoveries),
            "transitions" => now.transitions as f64,
            "total_failures" => now.totals.failures as f64,
            "ignored" => now.totals.ignored as f64,
            state => self.entered(state) as f64,
        };
        let wanted: f64 = wanted.parse().unwrap();
        assert!(
            (got - wanted).abs() < 0.001,
            "row {} at: {} it is {got}",
            self.id,
            self.done
        );
    }
}
