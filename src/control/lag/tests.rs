//! The parts of the lag's decisions, on virtual time.

use super::law::{Call, Found, LagState, Law, Terms};
use super::queue::Queue;
use super::readings::{Polls, Readings, ServiceTime, Tick};
use super::thresholds::LagThresholds;
use super::{MS, Nanos};
use crate::config::Settings;

/// A queue whose mark has been around once. Requests arrive each millisecond.
fn marked() -> Queue {
    let mut queue = Queue::default();
    queue.on_mark_started(0);
    queue.on_turn(10 * MS);
    assert!(!queue.on_mark_returned(), "no call has passed");
    queue.on_turn_awaited(15 * MS);
    for call in 0..10 {
        queue.on_call((16 + call) * MS, 0, false);
    }
    queue.on_turn(30 * MS);
    queue.on_call(30 * MS, 0, false);
    for call in 1..10 {
        queue.on_call((30 + call) * MS, 0, false);
    }
    assert!(queue.on_mark_returned());
    queue.on_turn_awaited(50 * MS);
    queue
}

#[test]
fn an_age_is_known_by_two_turns_and_the_calls_between_them() {
    let mut queue = marked();
    // 20 calls arrived between 10 and 30 ms; the next ones arrived after 30 ms.
    assert_eq!(queue.on_call(50 * MS, 0, false), 20 * MS);
    assert_eq!(queue.on_call(50 * MS, 0, false), 19 * MS);
    for _ in 0..17 {
        queue.on_call(50 * MS, 0, false);
    }
    assert_eq!(queue.on_call(50 * MS, 0, false), MS);
    // No request arrives after the call itself.
    assert_eq!(queue.on_call(50 * MS, 0, false), 0);
    assert_eq!(queue.on_call(50 * MS, 0, false), 0);
}

#[test]
fn without_two_marks_an_age_is_a_lower_bound() {
    let mut queue = Queue::default();
    assert_eq!(queue.on_call(5 * MS, 0, false), 0, "no mark");
    queue.on_mark_started(5 * MS);
    assert_eq!(queue.on_call(90 * MS, 0, false), 85 * MS);
    queue.on_turn(100 * MS);
    assert_eq!(queue.on_call(130 * MS, 0, false), 30 * MS);
    assert_eq!(queue.newest(), Some(100 * MS));
    queue.on_mark_ended();
    assert_eq!(queue.on_call(140 * MS, 0, false), 0);
    assert_eq!(queue.newest(), None);
}

#[test]
fn a_bound_is_less_where_more_arrive_than_the_queue_holds() {
    // One request each millisecond: half of the local queue is 128 ms.
    assert_eq!(marked().bound(30 * MS), 30 * MS);
    assert_eq!(marked().bound(240 * MS), 128 * MS);
    assert_eq!(Queue::default().bound(240 * MS), 240 * MS);
}

#[test]
fn a_lost_mark_counts_as_none() {
    let mut queue = marked();
    assert_eq!(queue.on_call(550 * MS, 0, true), 519 * MS + MS);
    assert!(queue.has_mark(), "not older than half a second");
    assert!(queue.on_call(560 * MS, 0, false) > 500 * MS, "a long queue");
    assert_eq!(
        queue.on_call(560 * MS, 0, true),
        0,
        "the probe has returned since"
    );
    assert!(!queue.has_mark());
    let mut queue = marked();
    let late = (0..514).map(|_| queue.on_call(560 * MS, 0, false)).last();
    assert_eq!(late, Some(0), "more calls than the queue holds");
}

#[test]
fn a_stall_restarts_an_age() {
    let mut queue = marked();
    assert_eq!(queue.on_call(450 * MS, 400 * MS, false), 50 * MS);
    assert_eq!(queue.on_call(450 * MS, 400 * MS, false), 50 * MS);
}

#[test]
fn the_residual_time_is_half_of_a_constant_service() {
    let mut service = ServiceTime::default();
    let polls = |number: u64, each: f64| Polls {
        number,
        sum: number as f64 * each,
        squares: number as f64 * each * each,
    };
    service.on_polls(polls(7, 4e6));
    assert_eq!((service.residual(1), service.interval(1)), (None, None));
    service.on_polls(polls(1, 4e6));
    assert_eq!(service.residual(1), Some(2 * MS));
    assert_eq!(service.residual(4), Some(MS / 2));
    assert_eq!(service.interval(4), Some(MS));
    // Nine in ten take no time: an arrival nearly always finds the tenth.
    let mut service = ServiceTime::default();
    service.on_polls(Polls {
        number: 10,
        sum: 4e6,
        squares: 16e12,
    });
    assert_eq!(service.residual(1), Some(2 * MS));
}

/// A reading at this time, while the oldest queue has this age, in milliseconds.
fn read(readings: &mut Readings, now: u64, oldest: u64) -> Tick {
    let tick = Tick {
        now: now * MS,
        oldest: oldest * MS,
        workers: 1,
        ..Tick::default()
    };
    readings.on_tick(tick, Polls::default())
}

#[test]
fn the_lag_is_the_longer_wait_or_the_age_of_the_probe() {
    let mut readings = Readings::default();
    readings.on_sent(0);
    assert_eq!(readings.lag(30 * MS), 30 * MS);
    assert_eq!(readings.in_injection_queue(), Some(0));
    readings.on_polled(40 * MS, 0, false);
    assert_eq!(readings.lag(41 * MS), 40 * MS);
    assert_eq!(readings.in_injection_queue(), None);
    assert_eq!(readings.lag(90 * MS), 50 * MS);
    readings.on_polled(100 * MS, 0, false);
    assert!(readings.is_idle());
    assert_eq!(
        (readings.lag(500 * MS), read(&mut readings, 500, 0).returned),
        (60 * MS, Some(60 * MS))
    );
    readings.on_sent(500 * MS);
    assert_eq!(readings.lag(510 * MS), 60 * MS, "until it returns");
}

#[test]
fn a_stall_is_forgiven_once_and_its_backlog_drains() {
    let mut readings = Readings::default();
    readings.on_sent(0);
    readings.on_progress(200 * MS, 50 * MS, false);
    assert_eq!(readings.restarted(), 0, "it made progress");
    readings.on_progress(200 * MS, 200 * MS, true);
    assert_eq!(readings.restarted(), 0, "it is armed");
    readings.on_progress(200 * MS, 200 * MS, false);
    assert_eq!(readings.restarted(), 200 * MS);
    assert_eq!(readings.lag(210 * MS), 10 * MS);
    assert_eq!(readings.whole_lag(210 * MS), 210 * MS, "for a monitor");
    readings.on_progress(400 * MS, 200 * MS, false);
    assert_eq!(readings.restarted(), 200 * MS, "again");
    readings.on_progress(1400 * MS, 1200 * MS, true);
    let restarted = readings.restarted();
    assert_eq!(restarted, 1400 * MS, "no queue stands for so long");
    // 1200 ms and a margin of 50 ms, less a quarter of the time that passes.
    assert!(read(&mut readings, 1800, 1150).is_draining);
    assert!(!read(&mut readings, 1800, 1151).is_draining);
    readings.on_polled(1900 * MS, 0, false);
    readings.on_polled(1900 * MS, 0, false);
    let tick = read(&mut readings, 1900, 0);
    assert_eq!(tick.returned, Some(1900 * MS), "what a monitor reports");
    assert_eq!((tick.whole_lag, tick.probe_lag), (1900 * MS, 500 * MS));
}

/// A law that gets a reading every 10 ms.
struct Fed {
    thresholds: LagThresholds,
    law: Law,
    tick: Tick,
}

impl Fed {
    fn new() -> Self {
        let mut fed = Self {
            thresholds: LagThresholds::default(),
            law: Law::default(),
            tick: Tick {
                now: 1000 * MS,
                residual: Some(MS),
                workers: 1,
                ..Tick::default()
            },
        };
        fed.read(0);
        fed
    }

    fn read(&mut self, lag: Nanos) -> Terms {
        self.read_with(lag, Found::default())
    }

    fn read_with(&mut self, lag: Nanos, found: Found) -> Terms {
        self.tick.now += 10 * MS;
        self.tick.probe_lag = lag * MS;
        self.law.on_tick(&self.thresholds, &self.tick, found)
    }
}

#[test]
fn a_lag_is_watched_above_the_target_and_arms_in_two_readings() {
    let mut fed = Fed::new();
    assert!(!fed.read(20).is_watching);
    let terms = fed.read(21);
    assert!(terms.is_watching && !terms.is_armed && !terms.is_calm);
    assert_eq!(fed.law.state(), LagState::Warn);
    assert!(!fed.read(79).is_armed);
    assert!(!fed.read(80).is_armed, "one reading");
    assert!(!fed.read(79).is_armed);
    fed.read(80);
    let terms = fed.read(80);
    assert!(terms.is_armed);
    assert_eq!(terms.bound, 30 * MS);
    assert_eq!(fed.law.state(), LagState::Shedding);
}

#[test]
fn it_does_not_arm_without_calls_nor_while_a_stall_drains() {
    let mut fed = Fed::new();
    fed.tick.gap = 41 * MS;
    assert!(
        (0..9).all(|_| !fed.read(80).is_armed),
        "no call for half of the lag"
    );
    fed.tick.gap = 40 * MS;
    fed.tick.is_draining = true;
    let terms = fed.read(80);
    assert!(!terms.is_armed && terms.arm == Nanos::MAX);
    fed.tick.is_draining = false;
    assert!(fed.read(80).is_armed);
}

#[test]
fn thresholds_grow_with_the_handlers_up_to_a_maximum() {
    let mut fed = Fed::new();
    for (residual, bound, arm) in [(1, 30, 80), (3, 60, 120), (10, 200, 400), (100, 240, 400)] {
        fed.tick.residual = Some(residual * MS);
        let terms = fed.read(30);
        assert_eq!(
            (terms.bound, terms.arm),
            (bound * MS, arm * MS),
            "{residual} ms"
        );
    }
    // If nothing is known, only the maximum arms.
    fed.tick.residual = None;
    assert_eq!(fed.read(100).arm, 400 * MS);
    assert!((0..9).all(|_| !fed.read(399).is_armed));
    fed.read(400);
    assert!(fed.read(400).is_armed);
}

/// Without lag their caller holds them: they neither arm the law nor keep it armed.
#[test]
fn requests_that_have_not_started_show_an_overload_while_there_is_lag() {
    let behind = |is_calm, is_armed| {
        let terms = Terms {
            is_watching: true,
            is_armed,
            bound: 30 * MS,
            arm: 80 * MS,
            workers: 1,
            interval: 10 * MS,
            is_calm,
            most_pended: u64::MAX,
            ..Terms::default()
        };
        let call = Call {
            now: 1000 * MS,
            unpolled: 100,
            ..Call::default()
        };
        terms.on_call(&mut Queue::default(), &call)
    };
    assert!(behind(false, false).arms && !behind(true, false).arms);
    assert!(behind(false, true).keeps_armed && behind(true, true).is_rejected);
    assert!(!behind(true, true).keeps_armed && !behind(true, true).was_half_full);
}

#[test]
fn it_is_disarmed_after_half_a_second_without_lag_and_rejections() {
    let mut fed = Fed::new();
    fed.read(80);
    assert!(fed.read(80).is_armed);
    assert!((0..50).all(|_| fed.read(20).is_armed));
    let rejected = Found {
        has_rejected: true,
        ..Found::default()
    };
    assert!(fed.read_with(20, rejected).is_armed);
    assert!((0..49).all(|_| fed.read(20).is_armed), "from there again");
    assert_eq!(fed.law.terms().retry_after, (20 + 10) * MS);
    let terms = fed.read(20);
    assert!(!terms.is_armed && !terms.is_watching);
    assert_eq!(fed.law.state(), LagState::Normal);
}

#[test]
fn readings_far_apart_have_nothing_to_do_with_each_other() {
    let mut fed = Fed::new();
    fed.read(80);
    assert!(fed.read(80).is_armed);
    fed.tick.now += 500 * MS;
    assert!(!fed.read(80).is_armed);
}

#[test]
fn a_call_is_rejected_by_its_age_its_queue_or_the_quota() {
    let terms = Terms {
        is_watching: true,
        is_armed: true,
        bound: 30 * MS,
        most_pended: 10,
        workers: 1,
        interval: 10 * MS,
        ..Terms::default()
    };
    let at = |age| Call {
        now: 1000 * MS,
        probe_age: age * MS,
        ..Call::default()
    };
    let rejects = |call: Call| terms.on_call(&mut Queue::default(), &call).is_rejected;
    assert!(!rejects(at(30)) && rejects(at(31)));
    assert!(
        !rejects(Call {
            injected: 32,
            ..at(0)
        }) && rejects(Call {
            injected: 33,
            ..at(0)
        })
    );
    assert!(
        !rejects(Call { pended: 9, ..at(0) })
            && rejects(Call {
                pended: 10,
                ..at(0)
            })
    );
    // Each request that has not started takes 10 ms, but for one that a worker starts at once.
    let behind = |unpolled| Call { unpolled, ..at(5) };
    assert!(!rejects(behind(3)) && rejects(behind(4)));
    let keeps_armed = |call: Call| terms.on_call(&mut Queue::default(), &call).keeps_armed;
    let beyond = |age| Call {
        pended: 10,
        ..at(age)
    };
    assert!(!keeps_armed(at(30)) && keeps_armed(at(31)));
    // A burst of tasks, while the probe finds no lag.
    let burst = Call {
        injected: 33,
        ..at(0)
    };
    let calm = Terms {
        is_calm: true,
        ..terms
    };
    let decision = calm.on_call(&mut Queue::default(), &burst);
    assert!(decision.is_rejected && !decision.keeps_armed && keeps_armed(burst));
    assert!(!keeps_armed(beyond(14)) && keeps_armed(beyond(15)));
    let unarmed = Terms {
        is_armed: false,
        arm: 80 * MS,
        ..terms
    };
    let decide = |age| unarmed.on_call(&mut Queue::default(), &at(age));
    assert!(!decide(80).is_rejected && !decide(80).arms);
    assert!(decide(81).is_rejected && decide(81).arms);
    assert!(!decide(14).was_half_full && decide(15).was_half_full);
}

#[test]
fn the_quota_follows_the_average_and_grows_while_nothing_waits() {
    let mut fed = Fed::new();
    let full = Found {
        was_half_full: true,
        ..Found::default()
    };
    let mut quota = |found: Found| {
        fed.tick.pended += 100;
        let terms = fed.read_with(50, found);
        terms.most_pended - fed.tick.pended
    };
    let steady = (0..200).map(|_| quota(full)).last();
    assert_eq!(steady, Some(149), "half as many again as 100 in 10 ms");
    assert!(quota(Found::default()) > 150);
    let most = (0..200).map(|_| quota(Found::default())).last();
    assert_eq!(most, Some(1199), "eight times that");
    assert_eq!(quota(full), 149);
}

#[test]
fn a_load_signal_rejects_a_share() {
    let mut fed = Fed::new();
    let mut share = |pressure| {
        let found = Found {
            pressure,
            ..Found::default()
        };
        (0..50)
            .map(|_| fed.read_with(0, found).share)
            .last()
            .unwrap()
    };
    assert!((share(0.5) - 0.5).abs() < 1e-6);
    assert_eq!(share(7.0), 1.0);
    assert_eq!(share(f64::NAN), 0.0);
    assert_eq!(share(-1.0), 0.0);
    assert_eq!(fed.law.state(), LagState::Normal);
}

#[test]
fn a_load_signal_near_its_threshold_changes_the_state_once() {
    let mut fed = Fed::new();
    let mut states = Vec::new();
    let mut share_after = |pressure, readings| {
        let found = Found {
            pressure,
            ..Found::default()
        };
        let mut last = Terms::default();
        for _ in 0..readings {
            last = fed.read_with(0, found);
            states.push(fed.law.state());
        }
        last.share
    };
    for _ in 0..5 {
        assert!(share_after(0.5, 20) > 0.0);
        assert_eq!(share_after(0.0, 40), 0.0, "nothing is rejected in between");
    }
    share_after(0.0, 40);
    states.dedup();
    assert_eq!(states, [LagState::Shedding, LagState::Normal]);
}

#[test]
fn what_makes_no_sense_is_named() {
    use std::time::Duration;
    let default = LagThresholds::default;
    let ms = Duration::from_millis;
    for (thresholds, field) in [
        (default().target(Duration::ZERO), "target"),
        (default().target(Duration::MAX), "target"),
        (default().bound(Duration::ZERO), "bound"),
        (default().max_bound(ms(29)), "max_bound"),
        (default().arm(ms(19)), "arm"),
        (default().max_arm(ms(79)), "max_arm"),
        (default().disarm_after(Duration::ZERO), "disarm_after"),
    ] {
        let said = thresholds.check().unwrap_err().to_string();
        assert!(
            said.starts_with(&format!("`{field}` must be within ")),
            "{said}"
        );
    }
    for preset in [
        LagThresholds::strict(),
        default(),
        LagThresholds::burst_tolerant(),
    ] {
        assert_eq!(preset.check(), Ok(()));
    }
}
