//! Requests that pass a gate without a token, in a dry run or exempt, or with a token that needs no
//! calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use seawall::{
    CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimit, ConcurrencyLimitLayer,
    ConcurrencyLimitSettings, GateLayer, Outcome, Reason,
};
use tokio_test::assert_ready_ok;
use tokio_test::task::spawn;
use tower::{BoxError, Layer, Service};

use crate::handler::service_fn;
use crate::support::*;

#[tokio::test]
async fn dry_run_lets_everything_through_and_counts() {
    let no = No::new(Reason::ConcurrencyLimit);
    let mut gate = GateLayer::from_policy(no.clone())
        .dry_run()
        .layer(answers(|| ok(Script::default())));
    assert_eq!(gate.call(get()).await.unwrap().status(), 200);
    assert_eq!((no.reporter.rejected(), no.reporter.would_reject()), (0, 1));

    // No request waits in a dry run. A request that would have to wait is counted, and is not in
    // the queue while it runs.
    let limit = ConcurrencyLimit::new(
        ConcurrencyLimitSettings::fixed(1).queue(1, std::time::Duration::from_secs(1)),
    )
    .unwrap();
    let seen = limit.clone();
    let mut gate = ConcurrencyLimitLayer::new(limit.clone())
        .dry_run()
        .layer(answers(move || {
            assert_eq!(seen.queued(), 0);
            ok(Script::data(&["a"]))
        }));
    let bodies = [
        assert_ready_ok!(spawn(gate.call(get())).poll()),
        assert_ready_ok!(spawn(gate.call(get())).poll()),
    ];
    assert_eq!((limit.in_flight(), limit.queued()), (1, 0));
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.would_reject, snapshot.rejected), (1, 0));
    drop(bodies);
    assert_eq!(limit.in_flight(), 0);
}

/// A classifier that counts its calls.
fn counting() -> (
    Arc<AtomicUsize>,
    impl Fn(&seawall::ResponseHead<'_>) -> Outcome + Clone,
) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = asked.clone();
    let classify = move |_: &seawall::ResponseHead<'_>| {
        counts.fetch_add(1, Relaxed);
        Outcome::Success
    };
    (asked, classify)
}

/// A request without a token is not classified.
#[tokio::test]
async fn what_passes_untracked_is_not_classified() {
    let breaker = CircuitBreaker::default();
    let (asked, classify) = counting();
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify(classify);
    let mut gate = layer.dry_run().layer(answers(|| ok(Script::data(&["a"]))));
    gate.call(get()).await.unwrap();
    breaker.trip();
    gate.call(get()).await.unwrap();
    assert_eq!(breaker.snapshot().would_reject, 1);
    assert_eq!(asked.load(Relaxed), 1);

    let (asked, classify) = counting();
    let layer = CircuitBreakerLayer::new(CircuitBreaker::default()).classify(classify);
    let layer = layer.exempt(|head| head.method == http::Method::HEAD);
    let mut gate = layer.layer(answers(|| ok(Script::data(&["a"]))));
    gate.call(head()).await.unwrap();
    assert_eq!(asked.load(Relaxed), 0);
    gate.call(get()).await.unwrap();
    assert_eq!(asked.load(Relaxed), 1);
}

/// A permit is released for every outcome, so that the classifier is not called. Beside a breaker,
/// which needs the outcome, it is called.
#[tokio::test]
async fn a_limit_has_nothing_classified() {
    let limit = ConcurrencyLimit::from(1);
    let (asked, classify) = counting();
    let layer = ConcurrencyLimitLayer::new(limit.clone()).classify(classify);
    let mut gate = layer.layer(answers(|| ok(Script::data(&["a"]))));
    let body = gate.call(get()).await.unwrap();
    assert_eq!((asked.load(Relaxed), limit.in_flight()), (0, 1));
    drop(body);
    assert_eq!(limit.in_flight(), 0);

    let layer = ConcurrencyLimitLayer::new(limit.clone());
    let layer = layer.classify_error(|_: &BoxError| -> Outcome { unreachable!("nobody listens") });
    let fails = service_fn(async |_| Err::<http::Response<Script>, BoxError>("fails".into()));
    layer.layer(fails).call(get()).await.unwrap_err();
    let layer = ConcurrencyLimitLayer::new(limit.clone()).plain();
    let layer = layer.classify(|_: &Result<u32, BoxError>| -> Outcome { unreachable!("nor here") });
    let fails = service_fn(async |_: u32| Err::<u32, BoxError>("fails".into()));
    layer.layer(fails).call(7).await.unwrap_err();
    assert_eq!(limit.in_flight(), 0);

    let (asked, classify) = counting();
    let layer = GateLayer::from_policy((CircuitBreaker::default(), limit.clone()));
    let mut gate = layer
        .classify(classify)
        .layer(answers(|| ok(Script::data(&["a"]))));
    let body = gate.call(get()).await.unwrap();
    assert_eq!((asked.load(Relaxed), limit.in_flight()), (1, 1));
    drop(body);
    assert_eq!(limit.in_flight(), 0);
}
