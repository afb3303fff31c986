//! Other load signals.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use seawall::{LagShed, LagShedLayer, LagState, LoadSignal};

use crate::support::*;

#[test]
fn a_signal_sheds_beside_the_lag_or_by_itself() {
    let _alone = alone();
    let runtime = workers(1);
    let level = Arc::new(AtomicU64::new(0));
    let signal = {
        let level = level.clone();
        LoadSignal::new("level", move || level.load(SeqCst) as f64)
    };
    assert_eq!(signal.name(), "level");
    for lag in [
        {
            let shed = LagShed::default();
            shed.add_signal(signal.clone());
            shed
        },
        signal.into(),
    ] {
        assert!(admits_in(runtime.handle(), &lag));
        level.store(5, SeqCst);
        until("shedding", || lag.state() == LagState::Shedding);
        until("everything is refused", || lag.snapshot().shed == 1.0);
        let signals = lag.snapshot().signals;
        assert!(signals.into_iter().eq([("level".into(), 1.0)]));
        assert!((0..100).all(|_| !admits_in(runtime.handle(), &lag)));
        level.store(0, SeqCst);
        until("normal", || lag.state() == LagState::Normal);
        assert!(admits_in(runtime.handle(), &lag));
    }
}

#[test]
fn a_shedder_for_a_signal_alone_does_not_mind_the_lag() {
    let _alone = alone();
    let runtime = workers(1);
    let quiet = LagShed::from(LoadSignal::new("quiet", || 0.0));
    let lag = LagShed::default();
    lag.start(runtime.handle());
    quiet.start(runtime.handle());
    let _blocked = block(runtime.handle());
    until("shedding for the lag", || {
        admits_in(runtime.handle(), &quiet);
        !admits_in(runtime.handle(), &lag)
    });
    assert_eq!(quiet.state(), LagState::Normal);
    assert!(admits_in(runtime.handle(), &quiet));
}

#[test]
fn a_signal_that_panics_refuses_nothing_and_stops_nobody_else() {
    let _alone = alone();
    let runtime = workers(1);
    let broken = LagShed::default();
    broken.add_signal(LoadSignal::new("broken", || panic!("in a signal")));
    broken.start(runtime.handle());
    let lag = LagShed::default();
    let other = workers(1);
    lag.start(other.handle());
    let _blocked = block(other.handle());
    until("the other is read", || !admits_in(other.handle(), &lag));
    assert!(admits_in(runtime.handle(), &broken));
}

#[test]
#[cfg(target_os = "linux")]
fn memory_is_held_against_a_limit() {
    let _alone = alone();
    let runtime = workers(1);
    let enough = LagShed::from(LoadSignal::memory_limit(u64::MAX).unwrap());
    let little = LagShed::from(LoadSignal::memory_limit(4096).unwrap());
    enough.start(runtime.handle());
    little.start(runtime.handle());
    until("the process is larger than a page", || {
        little.state() == LagState::Shedding
    });
    assert_eq!(enough.state(), LagState::Normal);
    assert!(admits_in(runtime.handle(), &enough));
    let error = LoadSignal::memory_limit(0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    // On any machine, it is a limit or the absence of one.
    match LoadSignal::cgroup_memory() {
        Ok(signal) => assert_eq!(signal.name(), "memory"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
    }
}

#[test]
fn a_signal_becomes_a_layer() {
    let layer: LagShedLayer = LagShedLayer::new(LoadSignal::new("none", || f64::NAN));
    assert_eq!(layer.policy().state(), LagState::Normal);
}
