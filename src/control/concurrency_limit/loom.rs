//! All interleavings of a few threads at the concurrency limit.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::limit::{Joined, Limiter, Occupancy};

type Flag = Arc<AtomicBool>;

fn leave(limiter: &Limiter<Flag>) {
    if let Some(called) = limiter.leave() {
        called.store(true, Ordering::Release);
    }
}

/// Takes a permit or waits for it, then releases it. A request that is never woken would spin
/// forever, which loom reports.
fn visit(limiter: &Limiter<Flag>) {
    if !limiter.try_enter() {
        let flag = Flag::new(AtomicBool::new(false));
        match limiter.join(8, flag.clone()) {
            Joined::Entered => {}
            Joined::Full => unreachable!("the queue is large enough"),
            Joined::Queued(position) => {
                while !flag.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                assert!(limiter.forget(position).is_none());
            }
        }
    }
    leave(limiter);
}

#[test]
fn nobody_is_forgotten() {
    loom::model(|| {
        let limiter = Arc::new(Limiter::new(1));
        let other = limiter.clone();
        let thread = thread::spawn(move || visit(&other));
        visit(&limiter);
        thread.join().unwrap();
        assert_eq!(limiter.occupancy(), Occupancy::new(1));
    });
}

#[test]
fn giving_up_races_with_being_served() {
    loom::model(|| {
        let limiter = Arc::new(Limiter::<Flag>::new(1));
        assert!(limiter.try_enter());
        let Joined::Queued(position) = limiter.join(1, Flag::new(AtomicBool::new(false))) else {
            unreachable!("the limit is reached");
        };
        let other = limiter.clone();
        let thread = thread::spawn(move || leave(&other));
        if limiter.forget(position).is_none() {
            leave(&limiter);
        }
        thread.join().unwrap();
        assert_eq!(limiter.occupancy(), Occupancy::new(1));
    });
}

#[test]
fn nobody_overtakes_who_waits() {
    loom::model(|| {
        let limiter = Arc::new(Limiter::<Flag>::new(1));
        assert!(limiter.try_enter());
        let Joined::Queued(position) = limiter.join(1, Flag::new(AtomicBool::new(false))) else {
            unreachable!("the limit is reached");
        };
        let other = limiter.clone();
        let thread = thread::spawn(move || leave(&other));
        assert!(!limiter.try_enter(), "the permit is the waiter's");
        thread.join().unwrap();
        assert!(limiter.forget(position).is_none());
    });
}

#[test]
fn a_higher_limit_lets_the_waiter_in() {
    loom::model(|| {
        let limiter = Arc::new(Limiter::<Flag>::new(1));
        assert!(limiter.try_enter());
        let other = limiter.clone();
        let thread = thread::spawn(move || {
            other.set_limit(2);
            while let Some(called) = other.serve() {
                called.store(true, Ordering::Release);
            }
        });
        visit(&limiter);
        thread.join().unwrap();
        leave(&limiter);
        assert_eq!(limiter.occupancy(), Occupancy::new(2));
    });
}
