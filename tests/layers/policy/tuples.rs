//! Several policies behind one gate.

use seawall::policy::{Admission, NoWait, Policy};
use seawall::{
    Completion, ConcurrencyLimit, ConcurrencyLimitSettings, GateLayer, LagShed, Outcome, Reason,
};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready_ok};
use tower::{Layer, Service};

use crate::gate::told;
use crate::support::*;

#[tokio::test]
async fn a_tuple_asks_in_order_and_gives_back_what_it_had() {
    let (first, second) = (ConcurrencyLimit::from(2), ConcurrencyLimit::from(1));
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
    assert_eq!(
        reason(&gate.call(get()).await.unwrap()),
        Some(Reason::ConcurrencyLimit)
    );
    assert_eq!(
        recorder.told(),
        [
            Told::Head,
            Told::Settled(Outcome::Success),
            // The second request, which a later policy rejects.
            Told::Settled(Outcome::Ignored),
            Told::Released(Completion::Complete),
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
    let limit = ConcurrencyLimit::new(
        ConcurrencyLimitSettings::fixed(1).queue(1, std::time::Duration::from_secs(1)),
    )
    .unwrap();
    let mut gate = GateLayer::from_policy((recorder.clone(), limit.clone()))
        .layer(answers(|| ok(Script::data(&["a"]))));
    let permit = limit.try_acquire().unwrap();
    let mut waiting = spawn(gate.call(get()));
    assert_pending!(waiting.poll());
    assert_eq!(recorder.told(), []);
    drop(permit);
    assert_ready_ok!(waiting.poll());
    assert_eq!(
        recorder.told(),
        told(Outcome::Success, Completion::Cancelled)
    );

    let permit = limit.try_acquire().unwrap();
    let mut waiting = spawn(gate.call(get()));
    assert_pending!(waiting.poll());
    drop(waiting);
    let cancelled = Told::Released(Completion::Cancelled);
    assert_eq!(recorder.told().last(), Some(&cancelled));
    assert_eq!(limit.queued(), 0);
    drop(permit);
}

/// A member without a token neither admits a request for the others nor releases their tokens.
#[tokio::test(start_paused = true)]
async fn an_untracked_member_changes_nothing_for_the_others() {
    let inner = answers(|| ok(Script::data(&["a"])));
    let limit = ConcurrencyLimit::from(1);
    let mut gate = GateLayer::from_policy((LagShed::default(), limit.clone())).layer(inner.clone());
    let body = gate.call(get()).await.unwrap();
    assert_eq!(limit.in_flight(), 1);
    assert_eq!(
        reason(&gate.call(get()).await.unwrap()),
        Some(Reason::ConcurrencyLimit)
    );
    drop(body);
    assert_eq!(limit.in_flight(), 0);

    let queued = limit.settings().queue(1, std::time::Duration::from_secs(1));
    limit.set(queued).unwrap();
    let mut gate = GateLayer::from_policy((LagShed::default(), limit.clone())).layer(inner.clone());
    let body = gate.call(get()).await.unwrap();
    let mut waiting = spawn(gate.call(get()));
    assert_pending!(waiting.poll());
    drop(body);
    let body = assert_ready_ok!(waiting.poll());
    assert_eq!(limit.in_flight(), 1);
    drop(body);
    assert_eq!(limit.in_flight(), 0);

    let recorder = Recorder::new();
    let policies = (recorder.clone(), LagShed::default());
    let mut gate = GateLayer::from_policy(policies).layer(inner.clone());
    let body = gate.call(get()).await.unwrap();
    let settled = [Told::Head, Told::Settled(Outcome::Success)];
    assert_eq!(recorder.told(), settled);
    drop(body);
    let ended = [Told::Released(Completion::Cancelled)];
    assert_eq!(recorder.told(), [&settled[..], &ended].concat());

    let policies = (LagShed::default(), LagShed::default());
    let layer = GateLayer::from_policy(policies)
        .classify(|_: &seawall::ResponseHead<'_>| -> Outcome { unreachable!("nobody listens") });
    assert_eq!(layer.layer(inner).call(get()).await.unwrap().status(), 200);
}

/// A policy in the middle rejects: the earlier ones are settled and released, and the later ones do
/// not decide.
#[tokio::test]
async fn a_rejection_in_the_middle_releases_those_before_it() {
    let (before, after) = (Recorder::new(), Recorder::new());
    let limit = ConcurrencyLimit::from(1);
    let no = No::new(Reason::Overloaded);
    let policies = (before.clone(), no, after.clone(), limit.clone());
    let mut gate = GateLayer::from_policy(policies).layer(answers(|| unreachable!()));
    let response = gate.call(get()).await.unwrap();
    assert_eq!(reason(&response), Some(Reason::Overloaded));
    let rejected = [
        Told::Settled(Outcome::Ignored),
        Told::Released(Completion::Complete),
    ];
    assert_eq!(before.told(), rejected);
    assert_eq!(after.told(), []);
    assert_eq!(limit.in_flight(), 0);
}

/// In a dry run, a request that would wait passes at once, and the earlier policies saw no call.
#[tokio::test(start_paused = true)]
async fn in_a_dry_run_nothing_waits_and_nothing_is_held() {
    let recorder = Recorder::new();
    let second = std::time::Duration::from_secs(1);
    let settings = ConcurrencyLimitSettings::fixed(1).queue(1, second);
    let limit = ConcurrencyLimit::new(settings).unwrap();
    let mut gate = GateLayer::from_policy((recorder.clone(), limit.clone()))
        .dry_run()
        .layer(answers(|| ok(Script::default())));
    let _permit = limit.try_acquire().unwrap();
    let mut call = spawn(gate.call(get()));
    assert_eq!(assert_ready_ok!(call.poll()).status(), 200);
    assert_eq!(
        recorder.told(),
        [
            Told::Settled(Outcome::Ignored),
            Told::Released(Completion::Complete),
        ]
    );
    assert_eq!((limit.queued(), limit.snapshot().would_reject), (0, 1));
}

/// The deadline and the queue are in a tuple within a tuple.
#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_queue_settles_the_policies_of_an_inner_tuple() {
    let (before, after) = (Recorder::new(), Recorder::new());
    let [second, minute] = [1, 60].map(std::time::Duration::from_secs);
    let settings = ConcurrencyLimitSettings::fixed(1).queue(1, minute);
    let limit = ConcurrencyLimit::new(settings).unwrap();
    let timeout = seawall::Timeout::from(second);
    let inner = (timeout.clone(), after.clone(), limit.clone());
    let mut gate =
        GateLayer::from_policy((before.clone(), inner)).layer(answers(|| ok(Script::default())));
    let _permit = limit.try_acquire().unwrap();
    let response = gate.call(get()).await.unwrap();
    assert_eq!(reason(&response), Some(Reason::Timeout));
    assert_eq!(timeout.snapshot().timed_out, 1);
    let complete = Told::Released(Completion::Complete);
    assert_eq!(before.told(), [Told::Settled(Outcome::Failure), complete]);
    assert_eq!(after.told(), [Told::Settled(Outcome::Cancelled), complete]);
    assert_eq!(limit.queued(), 0);
}

/// Notes the calls of its gate, in a list that it shares.
#[derive(Clone)]
struct Notes(
    u32,
    std::sync::Arc<std::sync::Mutex<Vec<(&'static str, u32)>>>,
);

impl Policy<seawall::HttpRequest> for Notes {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &seawall::RequestHead<'_>) -> Admission<(), NoWait> {
        Admission::Admit(())
    }

    fn settle(&self, (): &mut (), _: Outcome) {
        self.1.lock().unwrap().push(("settle", self.0));
    }

    fn release(&self, (): &mut (), _: Completion) {
        self.1.lock().unwrap().push(("release", self.0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tuple_settles_in_order_and_releases_in_reverse_order() {
    let first = Notes(1, std::sync::Arc::default());
    let [second, third] = [2, 3].map(|number| Notes(number, first.1.clone()));
    let policies = (first.clone(), second, third);
    let mut gate = GateLayer::from_policy(policies).layer(answers(|| ok(Script::default())));
    let response = gate.call(get()).await.unwrap();
    drop(response);
    let calls = first.1.lock().unwrap().clone();
    let settled = [1, 2, 3].map(|number| ("settle", number));
    let released = [3, 2, 1].map(|number| ("release", number));
    assert_eq!(calls, [settled, released].concat());
}
