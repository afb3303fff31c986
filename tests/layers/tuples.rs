//! Several policies behind one gate.

use seawall::{ConcurrencyLimit, End, GateLayer, Outcome, Reason};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready_ok};
use tower::{Layer, Service};

use crate::gate::told;
use crate::support::*;

#[tokio::test]
async fn a_tuple_asks_in_order_and_gives_back_what_it_had() {
    let (first, second) = (ConcurrencyLimit::new(2), ConcurrencyLimit::new(1));
    let mut gate = GateLayer::from_policy((Recorder::new(), Recorder::new(), first.clone()))
        .layer(answers(|| ok(Script::data(&["a"]))));
    let response = gate.call(get()).await.unwrap();
    assert_eq!(first.in_flight(), 1);
    drop(response);
    assert_eq!(first.in_flight(), 0);

    let recorder = Recorder::new();
    let mut gate = GateLayer::from_policy((recorder.clone(), second.clone()))
        .layer(answers(|| ok(Script::data(&["a"]))));
    let response = gate.call(get()).await.unwrap();
    assert_eq!(
        recorder.told(),
        [Told::Head, Told::Settled(Outcome::Success)]
    );
    assert_eq!(reason(&gate.call(get()).await.unwrap()), Some(Reason::Full));
    assert_eq!(
        recorder.told(),
        [
            Told::Head,
            Told::Settled(Outcome::Success),
            Told::Dropped // the second request's: it never got there, so there is no verdict
        ]
    );
    drop(response);
    assert_eq!(second.in_flight(), 0);

    let no = No::new(Reason::Overloaded);
    let mut gate = GateLayer::from_policy((no, second.clone())).layer(answers(|| unreachable!()));
    let response = gate.call(get()).await.unwrap();
    assert_eq!(reason(&response), Some(Reason::Overloaded));
    assert_eq!(second.in_flight(), 0);
}

#[tokio::test]
async fn the_last_of_a_tuple_may_wait_while_the_others_tickets_are_held() {
    let recorder = Recorder::new();
    let limit = ConcurrencyLimit::new(1).wait(1, std::time::Duration::from_secs(1));
    let mut gate = GateLayer::from_policy((recorder.clone(), limit.clone()))
        .layer(answers(|| ok(Script::data(&["a"]))));
    let permit = limit.try_acquire().unwrap();
    let mut waiting = spawn(gate.call(get()));
    assert_pending!(waiting.poll());
    assert_eq!(recorder.told(), []);
    drop(permit);
    assert_ready_ok!(waiting.poll());
    assert_eq!(recorder.told(), told(Outcome::Success, End::Cancelled));

    let permit = limit.try_acquire().unwrap();
    let mut waiting = spawn(gate.call(get()));
    assert_pending!(waiting.poll());
    drop(waiting);
    assert_eq!(recorder.told().last(), Some(&Told::Dropped));
    assert_eq!(limit.waiting(), 0);
    drop(permit);
}
