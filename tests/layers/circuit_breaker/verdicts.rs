//! The outcomes of responses, and when a breaker records them.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use seawall::{
    CatchPanicLayer, CircuitBreakerLayer, CircuitState, ConcurrencyLimit, ConcurrencyLimitLayer,
    Outcome, Reason, Rejection, TimeoutLayer,
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceBuilder};

use crate::circuit_breaker::layer::{SECOND, breaker, due, is_open, settings, status};
use crate::handler::service_fn;
use crate::support::*;

/// The outcome of each response, by its effect on a probe.
#[tokio::test(start_paused = true)]
async fn every_answer_has_its_verdict() {
    async fn after(response: fn() -> Response<Script>, request: fn() -> Request<Script>) -> String {
        let breaker = due(settings()).await;
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(answers(response));
        let response = service.call(request()).await.unwrap();
        let _ = response.into_body().collect().await;
        let now = breaker.snapshot();
        assert_eq!(now.probes_in_flight, 0);
        format!("{}/{} {}", now.calls, now.failures, now.totals.ignored)
    }
    fn grpc_head(code: &'static str) -> Response<Script> {
        let mut response = ok(Script::default().knowing_its_end());
        let headers = response.headers_mut();
        headers.insert("content-type", "application/grpc".parse().unwrap());
        headers.insert("grpc-status", code.parse().unwrap());
        response
    }
    fn grpc_trailers(code: &'static str) -> Response<Script> {
        let steps = [Step::Data("a"), Step::Trailers("grpc-status", code)];
        let mut response = ok(Script::new(steps));
        let headers = response.headers_mut();
        headers.insert("content-type", "application/grpc".parse().unwrap());
        response
    }
    fn inner(reason: Reason) -> Response<Script> {
        let mut response = status(503);
        response.extensions_mut().insert(Rejection::new(reason));
        response
    }
    let (success, failure, ignored) = ("1/0 0", "1/1 0", "0/0 1");
    for (name, response, wanted) in [
        ("200", (|| status(200)) as fn() -> _, success),
        ("302", || status(302), success),
        ("404", || status(404), success),
        ("429", || status(429), ignored),
        ("500", || status(500), failure),
        ("503", || status(503), failure),
        ("501", || status(501), ignored),
        ("505", || status(505), ignored),
        ("overloaded", || inner(Reason::Overloaded), ignored),
        ("full", || inner(Reason::ConcurrencyLimit), ignored),
        ("queue timeout", || inner(Reason::QueueTimeout), ignored),
        ("open", || inner(Reason::CircuitOpen), ignored),
        ("draining", || inner(Reason::Draining), ignored),
        ("too large", || inner(Reason::BodyTooLarge), ignored),
        ("timeout", || inner(Reason::Timeout), failure),
        ("panicked", || inner(Reason::Panicked), failure),
    ] {
        assert_eq!(after(response, get).await, wanted, "{name}");
    }
    for (code, head, trailers, wanted) in [
        (
            "0",
            (|| grpc_head("0")) as fn() -> _,
            (|| grpc_trailers("0")) as fn() -> _,
            success,
        ),
        ("1", || grpc_head("1"), || grpc_trailers("1"), success),
        ("2", || grpc_head("2"), || grpc_trailers("2"), failure),
        ("3", || grpc_head("3"), || grpc_trailers("3"), success),
        ("4", || grpc_head("4"), || grpc_trailers("4"), failure),
        ("5", || grpc_head("5"), || grpc_trailers("5"), success),
        ("7", || grpc_head("7"), || grpc_trailers("7"), success),
        ("8", || grpc_head("8"), || grpc_trailers("8"), ignored),
        ("12", || grpc_head("12"), || grpc_trailers("12"), success),
        ("13", || grpc_head("13"), || grpc_trailers("13"), failure),
        ("14", || grpc_head("14"), || grpc_trailers("14"), failure),
        ("15", || grpc_head("15"), || grpc_trailers("15"), failure),
        ("16", || grpc_head("16"), || grpc_trailers("16"), success),
    ] {
        assert_eq!(after(head, grpc).await, wanted, "gRPC {code} in the head");
        assert_eq!(
            after(trailers, grpc).await,
            wanted,
            "gRPC {code} in the trailers"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn real_layers_further_in_are_told_apart() {
    let breaker = breaker();
    let full = ConcurrencyLimit::from(1);
    let _permit = full.try_acquire_owned().unwrap();
    let mut shed = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(ConcurrencyLimitLayer::new(full))
        .service(answers(|| status(200)));
    for _ in 0..10 {
        assert_eq!(shed.call(get()).await.unwrap().status(), 503);
    }
    assert_eq!(
        (breaker.state(), breaker.snapshot().totals.ignored),
        (CircuitState::Closed, 10)
    );
    let mut late = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(TimeoutLayer::new(SECOND))
        .service(service_fn(|_: Request<Script>| {
            pending::<Result<Response<Script>, Infallible>>()
        }));
    for _ in 0..4 {
        assert_eq!(late.call(get()).await.unwrap().status(), 504);
    }
    assert!(is_open(&breaker));
    breaker.reset();
    let mut panics = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(CatchPanicLayer::new())
        .service(answers(|| panic!("scripted")));
    for _ in 0..4 {
        assert_eq!(panics.call(get()).await.unwrap().status(), 500);
    }
    assert!(is_open(&breaker));
    assert_eq!(breaker.snapshot().totals.panicked, 4);
}

#[tokio::test(start_paused = true)]
async fn classify_has_the_say() {
    let breaker = breaker();
    let mut service = CircuitBreakerLayer::new(breaker.clone())
        .classify(|head| match head.status.as_u16() {
            404 => Some(Outcome::Failure),
            500 => Some(Outcome::Ignored),
            _ => None,
        })
        .layer(service_fn(async |request: Request<Script>| {
            let code = request.uri().path()[1..].parse().unwrap();
            Ok::<_, Infallible>(status(code))
        }));
    for path in ["/500", "/500", "/500", "/500", "/404", "/404", "/200"] {
        let mut request = get();
        *request.uri_mut() = path.parse().unwrap();
        service.call(request).await.unwrap();
        assert_eq!(breaker.state(), CircuitState::Closed);
    }
    let now = breaker.snapshot();
    assert_eq!((now.calls, now.failures, now.totals.ignored), (3, 2, 4));
}

/// The outcome is recorded at the head: a long stream delays nothing, and is not slow.
#[tokio::test(start_paused = true)]
async fn a_stream_of_hours_holds_up_nothing() {
    let breaker = due(settings().half_open_probes(1).slow_call(SECOND, 0.5)).await;
    let stream = || Script::new([Step::Data("a"), Step::Pending, Step::Data("b")]);
    let mut service =
        CircuitBreakerLayer::new(breaker.clone()).layer(answers(move || ok(stream())));
    let body = service.call(get()).await.unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
    drop(body);
    assert_eq!(breaker.snapshot().totals.successes, 1);

    let mut grpc_service = CircuitBreakerLayer::new(breaker.clone()).layer(answers(|| {
        let steps = [Step::Data("a"), Step::Trailers("grpc-status", "0")];
        let mut response = ok(Script::new(steps));
        let headers = response.headers_mut();
        headers.insert("content-type", "application/grpc".parse().unwrap());
        response
    }));
    let response = grpc_service.call(grpc()).await.unwrap();
    advance(3600 * SECOND).await;
    response.into_body().collect().await.unwrap();
    let now = breaker.snapshot();
    assert_eq!((now.calls, now.slow_calls, now.totals.successes), (1, 0, 2));
    // Dropped in the middle of the stream, it was not slow either.
    let response = grpc_service.call(grpc()).await.unwrap();
    advance(3600 * SECOND).await;
    drop(response);
    let totals = breaker.snapshot().totals;
    assert_eq!(
        (totals.failures, totals.cancelled, totals.slow_calls),
        (0, 1, 0)
    );
}

/// If all calls are streams, no outcome is recorded in time: streams that have begun count as
/// successes at the end of the half-open time.
#[tokio::test(start_paused = true)]
async fn streams_that_have_begun_close_it() {
    let timed = || settings().slow_call(SECOND, 0.5);
    let cases = [
        (timed(), Duration::ZERO, true),
        (timed(), 2 * SECOND, false),
        (settings(), Duration::ZERO, true),
    ];
    for (settings, late, closes) in cases {
        let breaker = due(settings).await;
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(
            move |_: Request<Script>| async move {
                tokio::time::sleep(late).await;
                let steps = [Step::Data("a"), Step::Trailers("grpc-status", "13")];
                let mut response = ok(Script::new(steps));
                let headers = response.headers_mut();
                headers.insert("content-type", "application/grpc".parse().unwrap());
                Ok::<_, Infallible>(response)
            },
        ));
        let first = service.call(grpc()).await.unwrap();
        let second = service.call(grpc()).await.unwrap();
        let third = service.call(grpc()).await.unwrap();
        assert_eq!(third.headers()["grpc-status"], "14", "two places");
        let second = if closes {
            drop(second); // releases its slot
            service.call(grpc()).await.unwrap()
        } else {
            second
        };
        assert!(!second.headers().contains_key("grpc-status"));
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        advance(5 * SECOND).await;
        assert_eq!(breaker.state() == CircuitState::Closed, closes);
        assert_eq!(breaker.try_acquire().is_ok(), closes);
        first.into_body().collect().await.unwrap();
        second.into_body().collect().await.unwrap();
        let now = breaker.snapshot();
        assert_eq!(now.totals.failures, 2);
        assert_eq!(now.transitions, 3, "they came too late");
        assert_eq!(breaker.state() == CircuitState::Closed, closes);
    }
}

/// A head that arrives after the half-open time is not a success in time.
#[tokio::test(start_paused = true)]
async fn a_head_that_is_late_does_not_close_it() {
    let breaker = due(settings().half_open_probes(1)).await;
    let mut service =
        CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(async |_: Request<Script>| {
            tokio::time::sleep(6 * SECOND).await;
            let mut response = ok(Script::new([Step::Pending]));
            let headers = response.headers_mut();
            headers.insert("content-type", "application/grpc".parse().unwrap());
            Ok::<_, Infallible>(response)
        }));
    let _stream = service.call(grpc()).await.unwrap();
    assert!(is_open(&breaker));
}

/// A classifier of tower-http sees the head as it is.
#[cfg(feature = "tower-http-06")]
#[tokio::test(start_paused = true)]
async fn a_classifier_sees_the_version() {
    use tower_http::classify::{ClassifiedResponse, ClassifyResponse, NeverClassifyEos};

    #[derive(Clone)]
    struct Http2Fails;

    impl ClassifyResponse for Http2Fails {
        type FailureClass = ();
        type ClassifyEos = NeverClassifyEos<()>;

        fn classify_response<B>(
            self,
            response: &http::Response<B>,
        ) -> ClassifiedResponse<(), NeverClassifyEos<()>> {
            let is_http2 = response.version() == http::Version::HTTP_2;
            ClassifiedResponse::Ready(if is_http2 { Err(()) } else { Ok(()) })
        }

        fn classify_error<E: std::fmt::Display + 'static>(self, _: &E) {}
    }

    let http2 = || {
        let mut response = status(200);
        *response.version_mut() = http::Version::HTTP_2;
        response
    };
    let by_trait = CircuitBreakerLayer::new(breaker()).classify_with(Http2Fails);
    let by_closure = CircuitBreakerLayer::new(breaker())
        .classify(|head| (head.version == http::Version::HTTP_2).then_some(Outcome::Failure));
    for layer in [by_trait, by_closure] {
        layer.layer(answers(http2)).call(get()).await.unwrap();
        layer
            .layer(answers(|| status(200)))
            .call(get())
            .await
            .unwrap();
        let totals = layer.policy().snapshot().totals;
        assert_eq!((totals.failures, totals.successes), (1, 1));
    }
}

/// The response to another method is HTTP, also if a service answers it with gRPC.
#[tokio::test(start_paused = true)]
async fn only_the_response_to_a_post_is_grpc() {
    for (method, failures) in [(http::Method::POST, 1), (http::Method::PUT, 0)] {
        let breaker = breaker();
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(answers(|| {
            let steps = [Step::Data("a"), Step::Trailers("grpc-status", "13")];
            let mut response = ok(Script::new(steps));
            let headers = response.headers_mut();
            headers.insert("content-type", "application/grpc".parse().unwrap());
            response
        }));
        let mut request = grpc();
        *request.method_mut() = method;
        let body = service.call(request).await.unwrap().into_body();
        body.collect().await.unwrap();
        let totals = breaker.snapshot().totals;
        assert_eq!(
            (totals.failures, totals.successes),
            (failures, 1 - failures)
        );
    }
}

macro_rules! a_classifier_has_the_say {
    ($feature:literal, $tower_http:ident, $name:ident) => {
        #[cfg(feature = $feature)]
        #[tokio::test(start_paused = true)]
        async fn $name() {
            use $tower_http::classify::{GrpcCode, GrpcErrorsAsFailures, StatusInRangeAsFailures};
            let breaker = breaker();
            let mut service = CircuitBreakerLayer::new(breaker.clone())
                .classify_with(StatusInRangeAsFailures::new(400..=499))
                .layer(answers(|| {
                    let mut response = status(404);
                    let headers = response.headers_mut();
                    headers.insert("x-kept", "yes".parse().unwrap());
                    response.extensions_mut().insert(7_u32);
                    response
                }));
            let response = service.call(get()).await.unwrap();
            assert_eq!(
                (response.status().as_u16(), &response.headers()["x-kept"]),
                (404, &"yes".parse().unwrap())
            );
            assert_eq!(response.extensions().get(), Some(&7_u32));
            let mut fine = CircuitBreakerLayer::new(breaker.clone())
                .classify_with(StatusInRangeAsFailures::new(400..=499))
                .layer(answers(|| status(500)));
            fine.call(get()).await.unwrap();
            let now = breaker.snapshot();
            assert_eq!((now.calls, now.failures), (2, 1));

            // A response that is delivered, though its body is dropped before its end: a large last
            // frame, and the declared length of an HTTP/1 response.
            for body in [
                |large| Script::data(&[large]).exact(100_000).knowing_its_end(),
                |large| Script::data(&[large, "rest"]).exact(100_000),
                |_| Script::data(&["abc", "rest"]).exact(3),
            ] {
                let large: &'static str = "x".repeat(100_000).leak();
                let breaker = self::breaker();
                let response = CircuitBreakerLayer::new(breaker.clone())
                    .classify_with(GrpcErrorsAsFailures::new())
                    .layer(answers(move || ok(body(large))))
                    .call(get());
                let mut body = response.await.unwrap().into_body();
                body.frame().await.unwrap().unwrap();
                drop(body);
                let now = breaker.snapshot();
                assert_eq!((now.calls, now.totals.cancelled), (1, 0));
            }

            // At the end of the body, in all versions: by its trailers, or without any.
            for (steps, wanted) in [
                (
                    vec![Step::Data("a"), Step::Trailers("grpc-status", "5")],
                    (1, 0),
                ),
                (
                    vec![Step::Data("a"), Step::Trailers("grpc-status", "3")],
                    (1, 1),
                ),
                // A stream without a status is a success to this classifier.
                (vec![Step::Data("a")], (1, 0)),
                (vec![Step::Data("a"), Step::Error], (1, 1)),
            ] {
                breaker.reset();
                let classifier = GrpcErrorsAsFailures::new().with_success(GrpcCode::NotFound);
                let mut service = CircuitBreakerLayer::new(breaker.clone())
                    .classify_with(classifier)
                    .layer(answers(move || ok(Script::new(steps.clone()))));
                let body = service.call(get()).await.unwrap().into_body();
                assert_eq!(breaker.snapshot().calls, 0, "it is not over");
                let _ = body.collect().await;
                let now = breaker.snapshot();
                assert_eq!((now.calls, now.failures), wanted);
            }
            // Hyper does not poll a body that reports its end.
            breaker.reset();
            let mut ended = CircuitBreakerLayer::new(breaker.clone())
                .classify_with(GrpcErrorsAsFailures::new())
                .layer(answers(|| ok(Script::data(&["a"]).knowing_its_end())));
            let mut body = ended.call(get()).await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
            drop(body);
            assert_eq!(breaker.snapshot().calls, 1, "its last frame is the end");

            breaker.reset();
            let mut over = CircuitBreakerLayer::new(breaker.clone())
                .classify_with(GrpcErrorsAsFailures::new())
                .layer(answers(|| status(200)));
            over.call(get()).await.unwrap();
            assert_eq!(breaker.snapshot().calls, 1, "there is no body to wait for");
        }
    };
}

a_classifier_has_the_say!(
    "tower-http-06",
    tower_http,
    b4_a_classifier_of_tower_http_0_6_has_the_say
);
a_classifier_has_the_say!(
    "tower-http-07",
    tower_http_07,
    b4_a_classifier_of_tower_http_0_7_has_the_say
);
