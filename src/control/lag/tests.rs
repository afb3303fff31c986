//! The law by hand, on virtual time.

use proptest::prelude::*;

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A law and what it has seen, fed by hand.
struct Fed {
    law: LagLaw,
    lagging: Lagging,
    at: Duration,
}

impl Fed {
    fn new(law: LagLaw) -> Self {
        Self {
            law: law.check().unwrap(),
            lagging: Lagging::default(),
            at: ms(1000),
        }
    }

    fn read(&mut self, at: Duration, lag: Duration, is_queue: bool) -> Verdict {
        self.at = at;
        self.lagging
            .sample(&self.law, Reading { at, lag, is_queue })
    }

    /// A reading `after` the last one.
    fn after(&mut self, after: u64, lag: u64) -> Verdict {
        self.read(self.at + ms(after), ms(lag), false)
    }

    fn queue(&mut self, after: u64, lag: u64) -> Verdict {
        self.read(self.at + ms(after), ms(lag), true)
    }

    /// The same reading every 10 ms.
    fn hold(&mut self, for_ms: u64, lag: u64) -> Verdict {
        (0..for_ms / 10)
            .map(|_| self.after(10, lag))
            .last()
            .unwrap()
    }
}

#[test]
fn a_lag_above_the_target_arms_after_the_window() {
    let mut fed = Fed::new(LagLaw::default());
    fed.after(0, 50);
    assert_eq!(fed.hold(290, 50).state, LagState::Warn);
    let verdict = fed.after(10, 50);
    assert_eq!(verdict.state, LagState::Shedding);
    assert!((verdict.shed - 0.375).abs() < 0.001, "{verdict:?}");
}

#[test]
fn the_target_itself_never_arms() {
    let mut fed = Fed::new(LagLaw::default());
    let verdict = fed.hold(5000, 20);
    assert_eq!((verdict.state, verdict.shed), (LagState::Warn, 0.0));
    assert_eq!(
        fed.after(10, 10).state,
        LagState::Normal,
        "warn is above 10 ms"
    );
}

#[test]
fn the_hard_lag_arms_at_once_and_one_below_it_does_not() {
    let mut fed = Fed::new(LagLaw::default());
    fed.after(0, 0);
    assert_eq!(fed.queue(10, 299).shed, 0.0);
    assert_eq!(fed.queue(10, 0).shed, 0.0);
    let verdict = fed.after(10, 300);
    assert_eq!(verdict.state, LagState::Shedding);
}

#[test]
fn a_surge_arms_at_its_second_reading_if_it_is_a_queue() {
    let mut fed = Fed::new(LagLaw::default());
    fed.after(0, 0);
    assert_eq!(fed.queue(10, 150).shed, 0.0);
    assert_eq!(fed.queue(0, 150).shed, 0.0, "the same moment");
    assert_eq!(fed.after(10, 160).shed, 0.0, "a stall");
    assert_eq!(fed.queue(10, 160).shed, 0.0, "the first again");
    assert_eq!(fed.queue(10, 149).shed, 0.0, "less");
    assert_eq!(fed.queue(10, 150).shed, 0.0, "the first once more");
    assert!(fed.queue(10, 150).shed > 0.0);
}

#[test]
fn a_surge_begins_anew_after_a_calm() {
    let mut fed = Fed::new(LagLaw::default());
    fed.after(0, 0);
    fed.queue(10, 150);
    fed.queue(10, 0);
    assert_eq!(fed.queue(10, 150).shed, 0.0);
}

#[test]
fn it_is_disarmed_once_calm_for_the_exit_time() {
    let mut fed = Fed::new(LagLaw::default());
    fed.after(0, 0);
    fed.after(10, 400);
    assert!(fed.after(10, 400).shed > 0.0);
    // Refusing ends as soon as the lag is gone, and an armed law acts on the next at once.
    assert_eq!(fed.hold(100, 0).shed, 0.0);
    assert_eq!(fed.hold(400, 0).state, LagState::Warn, "still armed");
    assert!(fed.after(10, 90).shed > 0.0);
    assert_eq!(
        fed.hold(500, 0).state,
        LagState::Warn,
        "armed from the start again"
    );
    assert_eq!(fed.hold(20, 0).state, LagState::Normal);
    assert_eq!(fed.after(10, 200).shed, 0.0, "disarmed");
}

#[test]
fn the_share_is_told_with_how_long_it_takes() {
    let mut fed = Fed::new(LagLaw::default());
    fed.after(0, 0);
    assert_eq!(
        fed.after(10, 400).over_in,
        ms(900),
        "the lag, and all of the exit time"
    );
    fed.hold(200, 10);
    assert_eq!(fed.after(10, 10).over_in, ms(310));
}

#[test]
fn readings_far_apart_have_nothing_to_do_with_each_other() {
    let minutes = Duration::from_secs(300);
    let mut fed = Fed::new(LagLaw::default());
    fed.after(0, 50);
    assert_eq!(
        fed.read(fed.at + minutes, ms(50), true).shed,
        0.0,
        "no window"
    );
    fed.hold(300, 50);
    assert!(fed.after(10, 50).shed > 0.0);
    let verdict = fed.read(fed.at + minutes, ms(50), true);
    assert_eq!(verdict.shed, 0.0, "armed by what is long over");
    assert_eq!(
        fed.read(fed.at + STALE, ms(50), true).state,
        LagState::Shedding,
        "one window"
    );
}

#[test]
fn time_that_stands_still_or_goes_back_is_no_time() {
    let mut fed = Fed::new(LagLaw::default());
    fed.after(0, 100);
    let before = fed.hold(200, 100);
    for back in [0, 10, 150, 400] {
        let verdict = fed.lagging.sample(
            &fed.law,
            Reading {
                at: fed.at.saturating_sub(ms(back)),
                lag: ms(100),
                is_queue: false,
            },
        );
        assert_eq!(verdict, before, "{back} ms back");
    }
    assert_eq!(fed.after(90, 100).shed, 0.0);
    assert!(
        fed.after(10, 100).shed > 0.0,
        "300 ms after the first, whatever was in between"
    );
}

#[test]
fn constants_may_change_in_the_middle() {
    let mut fed = Fed::new(LagLaw::default());
    fed.after(0, 60);
    fed.hold(300, 60);
    let half = fed.after(10, 60).shed;
    assert!((half - 0.5).abs() < 0.001, "{half}");
    fed.law = fed.law.hi(ms(60)).check().unwrap();
    let all = fed.after(10, 60).shed;
    assert!((all - 1.0).abs() < 0.001, "{all}");
    fed.law = fed.law.max_shed(0.25).check().unwrap();
    assert_eq!(fed.after(10, 60).shed, 0.25);
    fed.law = fed
        .law
        .target(ms(70))
        .surge(ms(400))
        .hard(ms(400))
        .exit(ms(30));
    assert_eq!(fed.hold(50, 60).shed, 0.0, "calm by the new target");
}

#[test]
fn a_latch_refuses_everything_until_it_was_calm_for_its_hold() {
    let law = LagLaw::latched(ms(100), Duration::from_secs(30));
    let mut fed = Fed::new(law);
    fed.after(0, 100);
    assert_eq!(fed.hold(1000, 100).shed, 0.0, "not above it");
    assert_eq!(fed.after(10, 101).shed, 1.0);
    let verdict = fed.hold(30_000, 0);
    assert_eq!((verdict.shed, verdict.over_in), (1.0, ms(10)));
    assert_eq!(fed.after(10, 0).shed, 0.0);
}

#[test]
fn presets_differ_in_what_they_wait_for() {
    let arms_after = |law: LagLaw, lag| {
        let mut fed = Fed::new(law);
        fed.queue(0, lag);
        (1..100)
            .find(|_| fed.queue(10, lag).shed > 0.0)
            .map(|n| n * 10)
    };
    let (strict, default, tolerant) = (
        LagLaw::strict(),
        LagLaw::default(),
        LagLaw::burst_tolerant(),
    );
    assert_eq!(
        [strict, default, tolerant].map(|law| arms_after(law, 60)),
        [Some(200), Some(300), Some(500)]
    );
    assert_eq!(
        [strict, default, tolerant].map(|law| arms_after(law, 120)),
        [Some(10), Some(300), Some(500)]
    );
    assert_eq!(
        [strict, default, tolerant].map(|law| arms_after(law, 200)),
        [Some(10), Some(10), Some(500)]
    );
}

#[test]
fn what_makes_no_sense_is_named() {
    let of = |law: LagLaw| law.check().unwrap_err().to_string();
    let law = LagLaw::default();
    for (law, field) in [
        (law.warn(Duration::ZERO), "warn"),
        (law.target(Duration::ZERO), "target"),
        (law.target(Duration::MAX), "target"),
        (law.window(Duration::ZERO), "window"),
        (law.surge(ms(19)), "surge"),
        (law.hard(ms(19)), "hard"),
        (law.exit(Duration::ZERO), "exit"),
        (law.lo(ms(100)), "lo"),
        (law.hi(Duration::ZERO), "hi"),
        (law.tau(Duration::ZERO), "tau"),
        (law.max_shed(1.1), "max_shed"),
        (law.max_shed(f64::NAN), "max_shed"),
        (law.min_shed(-0.1), "min_shed"),
        (law.max_shed(0.5).min_shed(0.6), "min_shed"),
    ] {
        let said = of(law);
        assert!(
            said.starts_with(&format!("`{field}` must be within ")),
            "{field}: {said}"
        );
    }
    for law in [
        LagLaw::strict(),
        LagLaw::burst_tolerant(),
        LagLaw::latched(ms(100), ms(30_000)),
    ] {
        assert_eq!(law.check(), Ok(law));
    }
}

#[test]
fn a_signal_stands_for_a_lag_above_the_target() {
    let law = LagLaw::default();
    assert_eq!(law.lag_of(0.0), Duration::ZERO);
    assert_eq!(law.lag_of(-1.0), Duration::ZERO);
    assert_eq!(law.lag_of(f64::NAN), Duration::ZERO);
    assert!(law.lag_of(1e-9) > law.target);
    assert_eq!(law.lag_of(1.0).as_millis(), 100);
    assert!(law.lag_of(3.5) >= law.hard);
    assert!(law.lag_of(f64::INFINITY) >= law.hard);
}

/// A lag for each time, in steps.
#[derive(Clone, Debug)]
struct Steps(Vec<(u64, u64)>);

impl Steps {
    fn at(&self, at: u64) -> u64 {
        let mut end = 0;
        for (length, lag) in &self.0 {
            end += length;
            if at < end {
                return *lag;
            }
        }
        0
    }

    fn length(&self) -> u64 {
        self.0.iter().map(|(length, _)| length).sum()
    }
}

/// Long enough for the moving average to arrive: a coarse tick takes a step up to a tick earlier, and stays ahead by that. No
/// steps one after the other come near the law's times, 300 ms and 500 ms, where a tick makes all the difference.
fn steps() -> impl Strategy<Value = Steps> {
    let length = (1..5_u64, 0..15_u64).prop_map(|(long, more)| 200 * long + more);
    proptest::collection::vec((length, 0..400_u64), 1..8).prop_map(Steps)
}

/// What the law says at each reading.
fn verdicts(law: LagLaw, tick: u64, until: u64, lag: impl Fn(u64) -> u64) -> Vec<(u64, Verdict)> {
    let mut fed = Fed::new(law);
    let start = fed.at;
    (0..=until / tick)
        .map(|n| n * tick)
        .map(|at| (at, fed.read(start + ms(at), ms(lag(at)), true)))
        .collect()
}

proptest! {
    #[test]
    fn nothing_is_refused_unless_armed(lags in proptest::collection::vec(0..150_u64, 1..200)) {
        // Never above the target for the whole window, never a surge.
        let calmed = |at: u64| {
            let n = (at / 10) as usize;
            if n % 30 == 29 { 0 } else { lags.get(n).copied().unwrap_or(0) }
        };
        for (at, verdict) in verdicts(LagLaw::default(), 10, lags.len() as u64 * 10, calmed) {
            prop_assert_eq!(verdict.shed, 0.0, "at {}", at);
            prop_assert_ne!(verdict.state, LagState::Shedding);
        }
    }

    #[test]
    fn a_longer_lag_never_refuses_less(
        lags in proptest::collection::vec((0..400_u64, 0..200_u64), 1..300),
    ) {
        let n = |at: u64| lags.get((at / 10) as usize).copied().unwrap_or((0, 0));
        let until = lags.len() as u64 * 10;
        let less = verdicts(LagLaw::default(), 10, until, |at| n(at).0);
        let more = verdicts(LagLaw::default(), 10, until, |at| n(at).0 + n(at).1);
        for ((at, less), (_, more)) in less.iter().zip(&more) {
            prop_assert!(less.shed <= more.shed + 1e-12, "at {at}: {} > {}", less.shed, more.shed);
        }
    }

    #[test]
    fn the_tick_makes_no_difference_but_a_tick(steps in steps()) {
        let until = steps.length();
        let fine = verdicts(LagLaw::default(), 1, until + 100, |at| steps.at(at));
        for tick in [5, 10, 20] {
            for (at, coarse) in verdicts(LagLaw::default(), tick, until, |at| steps.at(at)) {
                // A surge takes two readings.
                let from = at.saturating_sub(2 * tick) as usize;
                let near = &fine[from..fine.len().min((at + 2 * tick) as usize + 1)];
                let sheds = || near.iter().map(|(_, verdict)| verdict.shed);
                let (least, most) = (sheds().fold(1.0, f64::min), sheds().fold(0.0, f64::max));
                prop_assert!(
                    (least - 0.01..=most + 0.01).contains(&coarse.shed),
                    "tick {tick} at {at}: {} is not within {least}..={most}", coarse.shed
                );
            }
        }
    }

    #[test]
    fn a_calm_exit_time_disarms_whatever_was(steps in steps()) {
        let until = steps.length();
        let all = verdicts(LagLaw::default(), 10, until + 600, |at| steps.at(at));
        let (_, last) = all.last().unwrap();
        prop_assert_eq!(last.state, LagState::Normal);
    }

    #[test]
    fn nothing_that_is_fed_breaks_it(
        readings in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 1..100),
    ) {
        let mut fed = Fed::new(LagLaw::default());
        for (at, lag, is_queue) in readings {
            let at = Duration::from_nanos(at);
            let verdict = fed.read(at, Duration::from_nanos(lag), is_queue);
            prop_assert!((0.0..=1.0).contains(&verdict.shed));
        }
    }
}
