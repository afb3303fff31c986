//! The answers that clients read when a gate rejects.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use seawall::{CustomReason, GateLayer, Outcome, Reason, Rejection, WireProtocol};
use tower::{Layer, Service, ServiceBuilder};

use crate::support::*;

#[tokio::test]
async fn every_row_of_the_table() {
    let all = [
        (Reason::Overloaded, 503, "14"),
        (Reason::ConcurrencyLimit, 503, "8"),
        (Reason::QueueTimeout, 503, "8"),
        (Reason::RateLimited, 429, "8"),
        (Reason::CircuitOpen, 503, "14"),
        (Reason::Draining, 503, "14"),
        (Reason::Timeout, 504, "4"),
        (Reason::BodyTooSlow, 408, "4"),
        (Reason::BodyTooLarge, 413, "8"),
        (Reason::HeadersTooLarge, 431, "8"),
        (Reason::UriTooLong, 414, "8"),
        (Reason::Panicked, 500, "13"),
    ];
    for (why, status, grpc_status) in all {
        let mut gate = GateLayer::from_policy(No::new(why)).layer(answers(|| unreachable!()));
        let close = matches!(why, Reason::Draining | Reason::BodyTooSlow);

        let http1 = gate.call(get()).await.unwrap();
        assert_eq!(http1.status(), status, "{why:?}");
        assert_eq!(
            http1.headers()["content-type"],
            "application/problem+json",
            "{why:?}"
        );
        let after: u64 = http1.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((7..=8).contains(&after), "{why:?}: {after}");
        assert_eq!(http1.headers().contains_key("connection"), close, "{why:?}");
        assert_eq!(reason(&http1), Some(why));
        let body = http1.into_body();
        let length = http_body::Body::size_hint(&body).exact();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(length, Some(body.len() as u64), "{why:?}");
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["status"], status, "{why:?}");

        let http2 = gate.call(http2()).await.unwrap();
        assert_eq!(http2.status(), status, "{why:?}");
        assert!(!http2.headers().contains_key("connection"), "{why:?}");

        let grpc = gate.call(grpc()).await.unwrap();
        assert_eq!(grpc.status(), 200, "{why:?}");
        assert_eq!(grpc.headers()["content-type"], "application/grpc");
        assert_eq!(grpc.headers()["grpc-status"], grpc_status, "{why:?}");
        assert!(grpc.headers().contains_key("grpc-message"), "{why:?}");
        let after: u64 = grpc.headers()["grpc-retry-pushback-ms"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((7000..=8750).contains(&after), "{why:?}: {after}");
        assert!(!grpc.headers().contains_key("retry-after"), "{why:?}");
        assert!(
            http_body::Body::is_end_stream(grpc.body()),
            "trailers-only: {why:?}"
        );
        assert_eq!(reason(&grpc), Some(why));
    }
}

#[tokio::test]
async fn b7_the_content_type_of_a_post_decides_and_not_the_version() {
    let mut gate =
        GateLayer::from_policy(No::new(Reason::ConcurrencyLimit)).layer(answers(|| unreachable!()));
    let mut request = grpc();
    *request.version_mut() = http::Version::HTTP_11;
    let response = gate.call(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "8");
    for (content_type, status) in [
        ("application/grpc-web+proto", 503),
        ("application/grpc-", 503),
        ("application/grp", 503),
        ("application/grpc+proto", 200),
        ("Application/GRPC ; x=y", 200),
    ] {
        let mut request = grpc();
        let headers = request.headers_mut();
        headers.insert("content-type", content_type.parse().unwrap());
        assert_eq!(gate.call(request).await.unwrap().status(), status);
    }
    // Among any number of headers.
    let mut request = grpc();
    let others = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    for name in others {
        request.headers_mut().insert(name, "x".parse().unwrap());
        let mut again = grpc();
        *again.headers_mut() = request.headers().clone();
        assert_eq!(gate.call(again).await.unwrap().status(), 200);
    }
}

/// A GET with the content type of gRPC must not get a 200 that a cache keeps, nor a CONNECT one
/// that opens a tunnel.
#[tokio::test(start_paused = true)]
async fn only_a_post_is_grpc() {
    let rejects = GateLayer::from_policy(No::new(Reason::Overloaded));
    let mut rejects = rejects.layer(answers(|| unreachable!()));
    let timeout = seawall::TimeoutLayer::new(Duration::from_secs(5));
    let mut timeout = timeout.layer(crate::handler::service_fn(|_| {
        std::future::pending::<Result<Response<Script>, std::convert::Infallible>>()
    }));
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::CONNECT] {
        let call = || {
            let mut request = grpc();
            *request.method_mut() = method.clone();
            let headers = request.headers_mut();
            headers.insert("grpc-timeout", "20m".parse().unwrap());
            request
        };
        let rejected = rejects.call(call()).await.unwrap();
        assert_eq!(rejected.status(), 503, "{method}");
        let (late, took) = timed(timeout.call(call())).await;
        assert_eq!(late.unwrap().status(), 504, "{method}");
        assert_eq!(took, Duration::from_secs(5), "{method}");
    }
}

/// Hyper's HTTP/2 server would send the body of an answer with such a status.
#[tokio::test]
async fn an_answer_without_content_has_no_body() {
    static GONE: CustomReason = CustomReason::new("gone", "It is gone.").status(204);
    static SAME: CustomReason = CustomReason::new("same", "It is the same.").status(304);
    for (reason, status) in [(&GONE, 204), (&SAME, 304)] {
        let gate = GateLayer::from_policy(No::new(Reason::Custom(reason)));
        let gate = gate.respond_with(|rejection, wire| {
            let mut response = rejection.to_response(wire);
            let length = response.body().len().into();
            response.headers_mut().insert("content-length", length);
            response
        });
        let mut gate = gate.layer(answers(|| unreachable!()));
        for request in [get(), head(), http2()] {
            let response = gate.call(request).await.unwrap();
            assert_eq!(response.status(), status);
            assert!(!response.headers().contains_key("content-length"));
            assert!(http_body::Body::is_end_stream(response.body()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn b7_a_caller_over_http_1_may_give_the_time() {
    let never = crate::handler::service_fn(|_| {
        std::future::pending::<Result<Response<Script>, std::convert::Infallible>>()
    });
    let mut timeout = seawall::TimeoutLayer::new(Duration::from_secs(60)).layer(never);
    let mut request = grpc();
    *request.version_mut() = http::Version::HTTP_11;
    let headers = request.headers_mut();
    headers.insert("grpc-timeout", "20m".parse().unwrap());
    let (response, took) = timed(timeout.call(request)).await;
    assert_eq!(response.unwrap().headers()["grpc-status"], "4");
    assert_eq!(took, Duration::from_millis(20));
}

/// Tonic's server counts the same `grpc-timeout`, from a moment before the gate is called, and
/// answers `CANCELLED`. Tokio rounds both times up to its next millisecond, which may differ.
#[tokio::test(start_paused = true)]
async fn a_callers_time_is_over_before_that_of_a_framework_outside() {
    let never = crate::handler::service_fn(|_| {
        std::future::pending::<Result<Response<Script>, std::convert::Infallible>>()
    });
    let mut timeout = seawall::TimeoutLayer::new(Duration::from_secs(60)).layer(never);
    for moment in [0, 1, 300, 900] {
        let mut request = grpc();
        let headers = request.headers_mut();
        headers.insert("grpc-timeout", "200m".parse().unwrap());
        let of_the_framework = tokio::time::sleep(Duration::from_millis(200));
        tokio::time::advance(Duration::from_micros(moment)).await;
        tokio::select! {
            biased;
            response = timeout.call(request) => {
                assert_eq!(response.unwrap().headers()["grpc-status"], "4");
            }
            () = of_the_framework => panic!("{moment} microseconds too late"),
        }
    }
}

#[tokio::test]
async fn respond_with_makes_the_answer_and_the_rejection_is_still_found() {
    let mut gate = GateLayer::from_policy(No::new(Reason::ConcurrencyLimit))
        .respond_with(|no: &Rejection, protocol: WireProtocol| {
            let mut response = no.to_response(protocol);
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            *response.body_mut() = Bytes::from_static(b"later");
            response
        })
        .layer(answers(|| unreachable!()));
    let response = gate.call(get()).await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(reason(&response), Some(Reason::ConcurrencyLimit));
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(response.collect().await.unwrap().to_bytes(), "later");
}

/// A reason of your own policy has its own label, status, code and outcome.
#[tokio::test]
async fn a_reason_of_ones_own() {
    static UNPAID: CustomReason = CustomReason::new("unpaid", "The account has an open invoice.")
        .status(402)
        .grpc_code(9);
    static BACKEND_GONE: CustomReason = CustomReason::new("backend_gone", "The backend is gone.")
        .status(502)
        .dependency_failure(true);

    for (reason, status, code, outcome) in [
        (&UNPAID, 402, "9", Outcome::Ignored),
        (&BACKEND_GONE, 502, "14", Outcome::Failure),
    ] {
        let reason = Reason::Custom(reason);
        let outer = Recorder::new();
        let mut service = ServiceBuilder::new()
            .layer(GateLayer::from_policy(outer.clone()))
            .layer(GateLayer::from_policy(No::new(reason)))
            .service(answers(|| ok(Script::default())));
        let response = service.call(get()).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["reason"], reason.as_str());
        assert_eq!(problem["status"], status);
        assert_eq!(outer.told()[1], Told::Settled(outcome));
        let response = service.call(grpc()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], code);
    }
}

/// A reason that would break the JSON of an answer, or that no server can send, is a mistake.
#[test]
fn a_custom_reason_can_be_sent() {
    let panics = |made: fn() -> CustomReason| std::panic::catch_unwind(made).is_err();
    assert!(!panics(
        || CustomReason::new("quota_2", "no quota is left").status(599)
    ));
    assert!(panics(|| CustomReason::new("", "a message")));
    assert!(panics(|| CustomReason::new("a\"b", "a message")));
    assert!(panics(|| CustomReason::new("Quota", "a message")));
    assert!(panics(|| CustomReason::new("quota", "a \"message\"")));
    assert!(panics(
        || CustomReason::new("quota", "a message").status(101)
    ));
    assert!(panics(
        || CustomReason::new("quota", "a message").status(1000)
    ));
}
