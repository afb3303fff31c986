//! What passes a gate without a ticket: in a dry run, and exempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, GateLayer, Outcome, Reason};
use tokio_test::assert_ready_ok;
use tokio_test::task::spawn;
use tower::{Layer, Service};

use crate::support::*;

#[tokio::test]
async fn dry_run_lets_everything_through_and_counts() {
    let no = No::new(Reason::Full);
    let mut gate = GateLayer::from_policy(no.clone())
        .dry_run()
        .layer(answers(|| ok(Script::default())));
    assert_eq!(gate.call(get()).await.unwrap().status(), 200);
    assert_eq!((no.meter.rejected(), no.meter.would_reject()), (0, 1));

    // Nor does anybody wait: who would have to is counted, and is in no room while it runs.
    let limit = ConcurrencyLimit::new(1).wait(1, std::time::Duration::from_secs(1));
    let seen = limit.clone();
    let mut gate = ConcurrencyLimitLayer::new(limit.clone())
        .dry_run()
        .layer(answers(move || {
            assert_eq!(seen.waiting(), 0);
            ok(Script::data(&["a"]))
        }));
    let bodies = [
        assert_ready_ok!(spawn(gate.call(get())).poll()),
        assert_ready_ok!(spawn(gate.call(get())).poll()),
    ];
    assert_eq!((limit.in_flight(), limit.waiting()), (1, 0));
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.would_reject, snapshot.rejected), (1, 0));
    drop(bodies);
    assert_eq!(limit.in_flight(), 0);
}

/// What carries no ticket is nobody's to judge.
#[tokio::test]
async fn what_passes_untracked_is_not_classified() {
    let (dry, exempt) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counting = |asked: &Arc<AtomicUsize>| {
        let asked = asked.clone();
        move |_: &seawall::ResponseHead<'_>| {
            asked.fetch_add(1, Relaxed);
            Outcome::Success
        }
    };
    let limit = ConcurrencyLimit::new(1);
    let layer = ConcurrencyLimitLayer::new(limit.clone()).classify(counting(&dry));
    let mut gate = layer.dry_run().layer(answers(|| ok(Script::data(&["a"]))));
    let tracked = gate.call(get()).await.unwrap();
    let untracked = gate.call(get()).await.unwrap();
    assert_eq!((dry.load(Relaxed), limit.snapshot().would_reject), (1, 1));
    drop((tracked, untracked));
    let layer = ConcurrencyLimitLayer::new(limit).classify(counting(&exempt));
    let layer = layer.exempt(|head| head.method == http::Method::HEAD);
    let mut gate = layer.layer(answers(|| ok(Script::data(&["a"]))));
    gate.call(head()).await.unwrap();
    assert_eq!(exempt.load(Relaxed), 0);
    gate.call(get()).await.unwrap();
    assert_eq!(exempt.load(Relaxed), 1);
}
