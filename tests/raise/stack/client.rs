//! A client stack: the order of its setters, and how it classifies errors.

use seawall::{
    CircuitBreaker, CircuitBreakerSettings, CircuitState, ConcurrencyLimit, ConcurrencyLimitLayer,
    Outcome, Rejection,
};
use tower::{BoxError, Layer, Service};

use crate::support::*;

fn breaker() -> CircuitBreaker {
    let settings = CircuitBreakerSettings::default().consecutive_failures(1);
    CircuitBreaker::new(settings).unwrap()
}

/// A breaker may come before or after a policy.
#[test]
fn setters_have_any_order() {
    let breaker = breaker();
    let first = seawall::client().circuit_breaker(breaker.clone());
    let first = first.policy(()).build().unwrap();
    let last = seawall::client()
        .policy(())
        .circuit_breaker(breaker.clone());
    let last = last.build().unwrap();
    breaker.force_open();
    for stack in [first, last] {
        assert_eq!(stack.circuit_breaker().state(), CircuitState::ForcedOpen);
    }
}

/// A rejection of an inner layer over `Plain` is an error. It says nothing about the dependency.
#[tokio::test(start_paused = true)]
async fn errors_can_be_classified() {
    let limit = ConcurrencyLimit::from(1);
    let _permit = limit.try_acquire().unwrap();
    let stack = || {
        let breaker = breaker();
        let stack = seawall::client().circuit_breaker(breaker.clone());
        (stack.build().unwrap(), breaker)
    };
    let inner = || {
        let answers = tower::service_fn(async |_: http::Request<Script>| {
            Ok::<_, BoxError>(ok(Script::default()))
        });
        ConcurrencyLimitLayer::new(limit.clone())
            .plain()
            .layer(answers)
    };
    let is_limit = |error: &BoxError| Rejection::find(&**error).is_some();

    let (plain, opens) = stack();
    let error = plain.layer(inner()).call(get()).await.unwrap_err();
    assert!(is_limit(&error));
    assert!(matches!(opens.state(), CircuitState::Open { .. }));

    let (found, stays) = stack();
    let found = found.find_rejections();
    found.layer(inner()).call(get()).await.unwrap_err();
    assert_eq!(stays.state(), CircuitState::Closed);

    let (classified, stays) = stack();
    let classified = classified
        .classify_error(move |error: &BoxError| is_limit(error).then_some(Outcome::Ignored));
    classified.layer(inner()).call(get()).await.unwrap_err();
    assert_eq!(stays.state(), CircuitState::Closed);
}
