//! A client stack: the order of its setters, and how it classifies errors.

use std::time::Duration;

use http_body_util::BodyExt;
use seawall::policy::Mode;
use seawall::{
    CircuitBreaker, CircuitBreakerSettings, CircuitState, ConcurrencyLimit, ConcurrencyLimitLayer,
    Outcome, Reason, Rejection, RequestBody, RequestLimitLayer, ResponseBodyTimeoutSettings,
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

/// The name is that of the parts that have none, also of a breaker that is passed.
#[test]
fn parts_without_a_name_have_that_of_the_stack() {
    for (own, name) in [("", "backend"), ("database", "database")] {
        let mut breaker = breaker();
        if !own.is_empty() {
            breaker = breaker.named(own);
        }
        let stack = seawall::client().circuit_breaker(breaker.clone());
        let stack = stack.named("backend").build().unwrap();
        assert_eq!(breaker.name(), name);
        let handle = stack.handle();
        assert_eq!(handle.name(), "backend");
        assert_eq!(handle.timeout().name(), "backend");
        assert_eq!(handle.concurrency_limit().name(), "backend");
    }
}

#[test]
fn parts_of_a_server_have_the_name_of_the_stack() {
    let limit = ConcurrencyLimit::from(1).named("own");
    let stack = seawall::server().concurrency_limit(limit).named("api");
    let stack = stack.build().unwrap();
    assert_eq!(stack.name(), "api");
    assert_eq!(stack.catch_panic().name(), "api");
    assert_eq!(stack.lag_shed().name(), "api");
    assert_eq!(stack.drain().name(), "api");
    assert_eq!(stack.timeout().name(), "api");
    assert_eq!(stack.request_limit().name(), "api");
    assert_eq!(stack.concurrency_limit().name(), "own");
}

/// The handle has the parts of the stack, and no type of the user.
#[test]
fn a_handle_has_all_parts() {
    struct Kept(seawall::stack::ClientHandle);

    let stack = seawall::client().policy(()).build().unwrap();
    let kept = Kept(stack.handle());
    kept.0.concurrency_limit().set_limit(7).unwrap();
    kept.0.switches().timeout.set(Mode::Off);
    let now = [stack.snapshot(), kept.0.snapshot()];
    assert_eq!(now[0].timeout, now[1].timeout);
    assert_eq!(now[0].concurrency_limit, now[1].concurrency_limit);
    assert_eq!(stack.settings(), kept.0.settings());
    assert_eq!(stack.concurrency_limit().snapshot().limit, 7);
    let changes = kept.0.apply(&seawall::client().build().unwrap().settings());
    assert_eq!(changes.unwrap().len(), 2);
    assert_eq!(stack.concurrency_limit().snapshot().limit, 128);

    struct Both(seawall::stack::ServerHandle);

    let stack = seawall::server().exempt(|_| false).on_panic(|_| {}).build();
    let stack = stack.unwrap();
    let kept = Both(stack.handle());
    kept.0.lag_shed().force_shedding(true);
    kept.0.drain().begin();
    kept.0
        .timeout()
        .set_duration(std::time::Duration::MAX)
        .unwrap();
    kept.0.request_limit().set_max_body(7).unwrap();
    assert_eq!(stack.settings(), kept.0.settings());
    assert_eq!(stack.snapshot(), kept.0.snapshot());
    assert!(stack.drain().is_draining());
}

/// A family of breakers has the name too, and the breakers that it makes later.
#[cfg(feature = "keyed")]
#[test]
fn breakers_per_host_have_the_name_of_the_stack() {
    let stack = seawall::client()
        .per_host()
        .named("backend")
        .build()
        .unwrap();
    let breakers = stack.handle().circuit_breaker().breakers().clone();
    let host = http::uri::Authority::from_static("localhost");
    assert_eq!(breakers.get_or_insert(&host).name(), "backend");
}

/// A client whose dependency stops after one frame. Returns whether the response is ended within
/// two minutes, and the number of permits that are held then.
async fn stops(builder: seawall::stack::ClientBuilder, grpc: bool, switch: Mode) -> (bool, usize) {
    let stack = builder.build().unwrap();
    stack.switches().response_body_timeout.set(switch);
    let dependency = tower::service_fn(move |_: http::Request<Script>| async move {
        let mut response = ok(Script::new([Step::Data("hello"), Step::Silent]));
        if grpc {
            as_grpc(&mut response);
        }
        Ok::<_, BoxError>(response)
    });
    let request = if grpc { self::grpc() } else { get() };
    let response = stack.layer(dependency).call(request).await.unwrap();
    let mut body = response.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    let next = tokio::time::timeout(Duration::from_secs(120), body.frame()).await;
    let ends = next.is_ok();
    if ends && !grpc {
        let error = next.unwrap().unwrap().unwrap_err();
        let reason = Rejection::find(&error).map(Rejection::reason);
        assert_eq!(reason, Some(Reason::Timeout));
    }
    (ends, stack.concurrency_limit().in_flight())
}

fn as_grpc(response: &mut http::Response<Script>) {
    let grpc = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    *response.version_mut() = http::Version::HTTP_2;
}

/// A dependency that stops in the middle of a response does not hold the permit for ever. Streams
/// of gRPC may be silent.
#[tokio::test(start_paused = true)]
async fn a_response_that_stops_is_ended() {
    let minute = Duration::from_secs(60);
    let default = seawall::client;
    let on = Mode::Enforce;
    assert_eq!(stops(default(), false, on).await, (true, 0));
    assert_eq!(stops(default(), false, Mode::Off).await, (false, 1));
    let bodies = ResponseBodyTimeoutSettings::default;
    let with = |settings| default().response_body_timeout(settings);
    let none = || with(bodies());
    assert_eq!(stops(none(), false, on).await, (false, 1));
    assert_eq!(
        stops(with(bodies().deadline(true)), false, on).await,
        (true, 0)
    );

    assert_eq!(stops(default(), true, on).await, (false, 1));
    let set = || with(bodies().idle_timeout(minute));
    assert_eq!(stops(set(), true, on).await, (true, 0));
}

/// The code that reads a response does not: the permit is released.
#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_read_is_ended_if_you_want() {
    for (progress, in_flight) in [(None, 1), (Some(Duration::from_secs(5)), 0)] {
        let bodies = ResponseBodyTimeoutSettings::default();
        let stack = seawall::client()
            .response_body_timeout(bodies.progress_timeout(progress))
            .build()
            .unwrap();
        let dependency = tower::service_fn(async |_: http::Request<Script>| {
            Ok::<_, BoxError>(ok(Script::data(&["hello", "world"])))
        });
        let response = stack.layer(dependency).call(get()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(stack.concurrency_limit().in_flight(), in_flight);
        drop(response);
    }
}

/// A stream that hangs while the handler reads its own request body is a failure of the dependency.
#[tokio::test(start_paused = true)]
async fn a_stream_that_hangs_beside_a_silent_upload_is_a_failure() {
    let breaker = breaker();
    let bodies = ResponseBodyTimeoutSettings::client().idle_exempts_grpc(false);
    let stack = seawall::client()
        .circuit_breaker(breaker.clone())
        .response_body_timeout(bodies.idle_timeout(Duration::from_secs(1)))
        .build()
        .unwrap();
    let stream = tower::service_fn(async |_: http::Request<Script>| {
        let mut response = ok(Script::new([Step::Data("hello"), Step::Silent]));
        as_grpc(&mut response);
        Ok::<_, BoxError>(response)
    });
    let client = stack.layer(stream);
    let handler = tower::service_fn(move |request: http::Request<RequestBody<Script>>| {
        let mut client = client.clone();
        async move {
            let mut upload = request.into_body();
            let response = client.call(grpc()).await?;
            let mut stream = response.into_body();
            let read = async { while let Some(Ok(_)) = stream.frame().await {} };
            tokio::select! {
                biased;
                _ = upload.frame() => panic!("it is silent"),
                () = read => {}
            }
            Ok::<_, BoxError>(ok(Script::default()))
        }
    });
    let mut service = RequestLimitLayer::new(1000).layer(handler);
    let request = post(Script::new([Step::Silent]));
    service.call(request).await.unwrap();
    assert!(matches!(breaker.state(), CircuitState::Open { .. }));
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
