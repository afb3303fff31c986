//! All interleavings of two threads at a circuit breaker and its windows.

use loom::sync::Arc;
use loom::thread;

use super::breaker::Breaker;
use super::rules::Rules;
use super::state::Times;
use super::transition::{CircuitState, TransitionCause};
use super::window::{Sample, Window};
use super::word::{Mode, Word};
use crate::control::published::Published;

struct Fixed(u64);

impl Times for Fixed {
    fn now(&self) -> u64 {
        self.0
    }

    fn open(&self, _: u32, _: u64) -> u64 {
        100
    }

    fn half_open(&self, open: u64) -> u64 {
        open
    }
}

const RATE: Rules = Rules {
    failure_rate: Some(0.5),
    slow_call_rate: None,
    minimum_calls: 2,
    consecutive_failures: None,
    probes: 2,
    slow_call: u64::MAX,
};

/// Rules with consecutive failures only.
const CONSECUTIVE: Rules = Rules {
    failure_rate: None,
    consecutive_failures: Some(2),
    ..RATE
};

fn sample(failed: bool) -> Sample {
    Sample::new(failed, false, 0)
}

fn breaker() -> Arc<Breaker> {
    with(&RATE)
}

fn with(rules: &Rules) -> Arc<Breaker> {
    let window = Window::time_based(20, 2);
    Arc::new(Breaker::new(window, rules, Mode::Closed))
}

fn enter(breaker: &Breaker, now: u64) -> Option<Word> {
    breaker.admit(&Fixed(now)).ok()
}

fn record(breaker: &Breaker, word: Word, now: u64, failed: bool) {
    breaker.record(word, sample(failed), &Fixed(now));
}

fn mode(breaker: &Breaker, now: u64) -> Mode {
    breaker.look(&Fixed(now)).circuit.mode
}

fn outstanding(breaker: &Breaker, now: u64) -> u32 {
    breaker.look(&Fixed(now)).circuit.probes.outstanding
}

/// All interleavings with at most three preemptions, for tests that read the rules: they are many
/// words, each of which may be read before or after a switch.
fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

fn changes(breaker: &Breaker) -> Vec<(Mode, Mode)> {
    let mut changes = Vec::new();
    breaker.report(|change, to| {
        let from = match change.from {
            CircuitState::Closed => Mode::Closed,
            CircuitState::Open { .. } => Mode::Open,
            CircuitState::HalfOpen => Mode::HalfOpen,
            CircuitState::ForcedOpen => Mode::ForcedOpen,
            CircuitState::ForcedClosed => Mode::ForcedClosed,
            CircuitState::ObserveOnly => Mode::ObserveOnly,
        };
        changes.push((from, to));
    });
    changes
}

fn opened(breaker: &Breaker) -> u64 {
    breaker.trip(&Fixed(0));
    assert_eq!(changes(breaker), [(Mode::Closed, Mode::Open)]);
    100
}

/// Runs both closures on threads at the same time.
fn race<A, B>(
    breaker: &Arc<Breaker>,
    one: impl FnOnce(&Breaker) -> A + Send + 'static,
    other: impl FnOnce(&Breaker) -> B,
) {
    let clone = breaker.clone();
    let thread = thread::spawn(move || {
        one(&clone);
    });
    other(breaker);
    thread.join().unwrap();
}

#[test]
fn no_sample_is_lost_when_a_bucket_turns() {
    for late in [20, 19, 9, 0] {
        loom::model(move || {
            let window = Arc::new(Window::time_based(20, 2));
            window.record(0, || 0, sample(true));
            let other = window.clone();
            let thread = thread::spawn(move || {
                other.record(0, || late, sample(true));
            });
            window.record(0, || 20, sample(true));
            thread.join().unwrap();
            assert_eq!(window.totals().failures, 3);
            let in_window = if late >= 10 { 2 } else { 1 };
            let counts = window.counts(0, 20);
            // A call that is late by a whole window may find its bucket not yet reset. It is in no
            // window in both cases.
            assert_eq!(counts.calls, in_window, "at {late}");
        });
    }
}

#[test]
fn the_sums_of_a_ring_are_those_of_its_slots() {
    loom::model(|| {
        let window = Arc::new(Window::count_based(2));
        let other = window.clone();
        let thread = thread::spawn(move || {
            other.record(0, || 0, sample(true));
        });
        window.record(0, || 0, sample(true));
        window.record(0, || 0, sample(false));
        thread.join().unwrap();
        assert_eq!(window.totals().failures, 2);
        assert_eq!(window.totals().calls, 3);
        let held = window.counts(0, 0);
        assert_eq!(held.calls, 2);
        let sums = window.record(0, || 0, sample(true)).unwrap();
        let held = window.counts(0, 0);
        assert_eq!((sums.calls, sums.failures), (held.calls, held.failures));
    });
}

#[test]
fn an_older_generation_changes_nothing_in_a_ring() {
    loom::model(|| {
        let window = Arc::new(Window::count_based(2));
        window.record(0, || 0, sample(true));
        let other = window.clone();
        let thread = thread::spawn(move || {
            other.record(0, || 0, sample(true));
        });
        window.record(1, || 0, sample(true));
        thread.join().unwrap();
        let held = window.counts(1, 0);
        let sums = window.record(1, || 0, sample(true)).unwrap();
        assert_eq!((held.calls, held.failures), (1, 1));
        assert_eq!((sums.calls, sums.failures), (2, 2));
        assert_eq!(window.totals().failures, 4);
    });
}

#[test]
fn it_opens_once() {
    loom::model(|| {
        let breaker = breaker();
        let word = enter(&breaker, 0).unwrap();
        record(&breaker, word, 0, true);
        race(
            &breaker,
            move |breaker| record(breaker, word, 1, true),
            |breaker| record(breaker, word, 1, true),
        );
        assert_eq!(changes(&breaker), [(Mode::Closed, Mode::Open)]);
        assert_eq!(breaker.totals().failures, 3);
        assert_eq!(enter(&breaker, 50), None);
    });
}

#[test]
fn two_failures_in_a_row_at_once_open_it() {
    loom::model(|| {
        let breaker = with(&CONSECUTIVE);
        let word = enter(&breaker, 0).unwrap();
        race(
            &breaker,
            move |breaker| record(breaker, word, 1, true),
            |breaker| record(breaker, word, 1, true),
        );
        assert_eq!(changes(&breaker), [(Mode::Closed, Mode::Open)]);
    });
}

/// A failure that passed before a reset and is counted after it does not count, and does not
/// discard later calls.
#[test]
fn an_older_failure_is_not_in_the_row() {
    model(|| {
        let breaker = with(&CONSECUTIVE);
        let old = enter(&breaker, 0).unwrap();
        race(
            &breaker,
            move |breaker| record(breaker, old, 0, true),
            |breaker| {
                breaker.force(Mode::Closed, &Fixed(0));
                let new = enter(breaker, 0).unwrap();
                record(breaker, new, 0, true);
                assert_eq!(mode(breaker, 0), Mode::Closed);
                record(breaker, new, 0, true);
                assert_eq!(mode(breaker, 0), Mode::Open);
            },
        );
    });
}

/// One of them sees both, although the window had no failure before.
#[test]
fn a_failure_and_a_success_at_once_open_it() {
    loom::model(|| {
        let breaker = breaker();
        let word = enter(&breaker, 0).unwrap();
        race(
            &breaker,
            move |breaker| record(breaker, word, 100, true),
            |breaker| record(breaker, word, 100, false),
        );
        assert_eq!(changes(&breaker), [(Mode::Closed, Mode::Open)]);
    });
}

#[test]
fn two_failures_at_once_open_it() {
    loom::model(|| {
        let breaker = breaker();
        let word = enter(&breaker, 0).unwrap();
        race(
            &breaker,
            move |breaker| record(breaker, word, 1, true),
            |breaker| record(breaker, word, 1, true),
        );
        assert_eq!(changes(&breaker), [(Mode::Closed, Mode::Open)]);
    });
}

#[test]
fn it_is_half_open_once_and_admits_no_more_than_its_probes() {
    loom::model(|| {
        let breaker = breaker();
        let over = opened(&breaker);
        let probe = enter(&breaker, over).unwrap();
        race(
            &breaker,
            move |breaker| enter(breaker, over),
            |breaker| enter(breaker, over),
        );
        assert_eq!(outstanding(&breaker, over), 2);
        assert_eq!(changes(&breaker), [(Mode::Open, Mode::HalfOpen)]);
        assert!(breaker.release(probe, &Fixed(over)));
        assert!(enter(&breaker, over).is_some());
    });
}

#[test]
fn two_find_the_open_time_over() {
    loom::model(|| {
        let breaker = breaker();
        let over = opened(&breaker);
        race(
            &breaker,
            move |breaker| assert!(enter(breaker, over).is_some()),
            |breaker| assert!(enter(breaker, over).is_some()),
        );
        assert_eq!(changes(&breaker), [(Mode::Open, Mode::HalfOpen)]);
        assert_eq!(outstanding(&breaker, over), 2);
    });
}

#[test]
fn a_slot_that_is_released_is_not_lost() {
    loom::model(|| {
        let breaker = breaker();
        let over = opened(&breaker);
        let first = enter(&breaker, over).unwrap();
        let second = enter(&breaker, over).unwrap();
        race(
            &breaker,
            move |breaker| assert!(breaker.release(first, &Fixed(over))),
            |breaker| record(breaker, second, over, false),
        );
        assert_eq!(outstanding(&breaker, over), 0);
        let third = enter(&breaker, over).unwrap();
        record(&breaker, third, over, false);
        let closed = (Mode::HalfOpen, Mode::Closed);
        assert_eq!(changes(&breaker), [(Mode::Open, Mode::HalfOpen), closed]);
    });
}

/// A probe of an earlier half-open time takes no slot of the next one, however soon that begins.
#[test]
fn a_stale_probe_releases_no_slot_of_the_next() {
    loom::model(|| {
        let breaker = breaker();
        let over = opened(&breaker);
        let probe = enter(&breaker, over).unwrap();
        race(
            &breaker,
            move |breaker| breaker.release(probe, &Fixed(over)),
            |breaker| {
                breaker.force(Mode::Closed, &Fixed(over));
                breaker.trip(&Fixed(over));
                assert!(enter(breaker, over + 100).is_some());
            },
        );
        assert_eq!(outstanding(&breaker, over + 100), 1);
    });
}

#[test]
fn two_verdicts_make_one_decision() {
    loom::model(|| {
        let breaker = breaker();
        let over = opened(&breaker);
        let first = enter(&breaker, over).unwrap();
        let second = enter(&breaker, over).unwrap();
        race(
            &breaker,
            move |breaker| record(breaker, first, over, true),
            |breaker| record(breaker, second, over, false),
        );
        let half_open = (Mode::Open, Mode::HalfOpen);
        let reopened = (Mode::HalfOpen, Mode::Open);
        assert_eq!(changes(&breaker), [half_open, reopened]);
    });
}

#[test]
fn a_late_probe_races_with_the_end_of_the_half_open_time() {
    loom::model(|| {
        let breaker = breaker();
        let over = opened(&breaker);
        let probe = enter(&breaker, over).unwrap();
        let end = over + 100;
        race(
            &breaker,
            move |breaker| record(breaker, probe, end, false),
            |breaker| enter(breaker, end),
        );
        let mut reported = changes(&breaker);
        assert_eq!(reported.remove(0), (Mode::Open, Mode::HalfOpen));
        assert_eq!(reported, [(Mode::HalfOpen, Mode::Open)]);
        assert_eq!(enter(&breaker, end), None);
    });
}

#[test]
fn a_hand_and_a_threshold_race() {
    loom::model(|| {
        let breaker = breaker();
        let word = enter(&breaker, 0).unwrap();
        record(&breaker, word, 0, true);
        race(
            &breaker,
            move |breaker| record(breaker, word, 0, true),
            |breaker| breaker.force(Mode::ForcedOpen, &Fixed(0)),
        );
        let reported = changes(&breaker);
        assert_eq!(reported.last().unwrap().1, Mode::ForcedOpen);
        assert!(reported.windows(2).all(|pair| pair[0].1 == pair[1].0));
    });
}

/// A thread that finds changes reports them, those of other threads included: each change is
/// reported exactly once, in order.
#[test]
fn every_change_is_reported_once_and_in_order() {
    loom::model(|| {
        let breaker = breaker();
        let reported = Arc::new(loom::sync::Mutex::new(Vec::new()));
        let report = |breaker: &Breaker, reported: &loom::sync::Mutex<Vec<u64>>| {
            breaker.report(|change, _| {
                assert_eq!(change.cause, TransitionCause::ByHand);
                reported.lock().unwrap().push(change.number);
            });
        };
        let theirs = reported.clone();
        race(
            &breaker,
            move |breaker| {
                breaker.force(Mode::ForcedOpen, &Fixed(0));
                report(breaker, &theirs);
            },
            |breaker| {
                breaker.force(Mode::ObserveOnly, &Fixed(0));
                report(breaker, &reported);
            },
        );
        assert_eq!(*reported.lock().unwrap(), [1, 2]);
    });
}

/// Rules that change while a call is classified: the old rules or the new ones apply to the call.
#[test]
fn rules_are_read_whole() {
    const STRICT: Rules = Rules {
        failure_rate: Some(1.0),
        minimum_calls: 1,
        probes: 1,
        ..RATE
    };
    model(|| {
        let rules = Arc::new(Published::new(RATE.words()));
        let other = rules.clone();
        let thread = thread::spawn(move || other.set(STRICT.words()));
        let read = Rules::of(rules.get());
        assert!(read == RATE || read == STRICT);
        thread.join().unwrap();
        assert_eq!(Rules::of(rules.get()), STRICT);
    });
}

/// The states closed, open, half-open and closed again, while another thread records.
#[test]
fn a_late_failure_of_an_older_state_changes_nothing() {
    loom::model(|| {
        let breaker = breaker();
        let old = enter(&breaker, 0).unwrap();
        let over = opened(&breaker);
        race(
            &breaker,
            move |breaker| record(breaker, old, over, true),
            |breaker| {
                for _ in 0..2 {
                    let probe = enter(breaker, over).unwrap();
                    record(breaker, probe, over, false);
                }
            },
        );
        assert_eq!(mode(&breaker, over), Mode::Closed);
        assert_eq!(breaker.look(&Fixed(over)).counts.calls, 0);
        assert_eq!(breaker.totals().failures, 1);
    });
}
