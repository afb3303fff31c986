//! What callers read when a gate says no.

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use seawall::{GateLayer, Reason, Rejection, Wire};
use tower::{Layer, Service};

use crate::support::*;

#[tokio::test]
async fn every_row_of_the_table() {
    let all = [
        (Reason::Overloaded, 503, "14"),
        (Reason::Full, 503, "8"),
        (Reason::QueueTimeout, 503, "8"),
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
async fn grpc_over_http1_is_answered_as_http() {
    let mut gate = GateLayer::from_policy(No::new(Reason::Full)).layer(answers(|| unreachable!()));
    let mut request = grpc();
    *request.version_mut() = http::Version::HTTP_11;
    assert_eq!(gate.call(request).await.unwrap().status(), 503);
}

#[tokio::test]
async fn respond_with_makes_the_answer_and_the_rejection_is_still_found() {
    let mut gate = GateLayer::from_policy(No::new(Reason::Full))
        .respond_with(|no: &Rejection, wire: Wire| {
            let mut response = no.to_response(wire);
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            *response.body_mut() = Bytes::from_static(b"later");
            response
        })
        .layer(answers(|| unreachable!()));
    let response = gate.call(get()).await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(reason(&response), Some(Reason::Full));
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(response.collect().await.unwrap().to_bytes(), "later");
}
