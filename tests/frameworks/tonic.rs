//! The stack in tonic's own server, through its `layer`, called with gRPC frames that the test
//! writes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimit, ConcurrencyLimitLayer,
    RequestLimitLayer, TimeoutLayer,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::server::NamedService;
use tonic::transport::Server;
use tower::{Service, ServiceBuilder};

use crate::support::*;

/// A gRPC service like a generated one: `/test/ok`, `/test/panic`, `/test/never`, `/test/read`.
#[derive(Clone)]
pub(crate) struct Test;

impl NamedService for Test {
    const NAME: &'static str = "test";
}

impl Service<Request<tonic::body::Body>> for Test {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async move {
            match request.uri().path() {
                "/test/panic" => panic!("secret"),
                "/test/never" => std::future::pending().await,
                "/test/read" => {
                    let _ = request.into_body().collect().await;
                }
                _ => {}
            }
            let trailers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("0"),
            )]);
            let frames = [
                Ok::<_, tonic::Status>(Frame::data(Bytes::from_static(b"\0\0\0\0\0"))),
                Ok(Frame::trailers(trailers)),
            ];
            let body = StreamBody::new(futures_util::stream::iter(frames));
            let mut response = Response::new(tonic::body::Body::new(body));
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", grpc);
            Ok(response)
        })
    }
}

async fn server() -> (SocketAddr, ConcurrencyLimit) {
    let limit = ConcurrencyLimit::from(1);
    let stack = ServiceBuilder::new()
        .layer(CatchPanicLayer::new())
        .layer(
            TimeoutLayer::new(Duration::from_secs(5)).per_request(|head| {
                (head.uri.path() == "/test/never").then_some(Duration::from_millis(1))
            }),
        )
        .layer(ConcurrencyLimitLayer::new(limit.clone()))
        .layer(RequestLimitLayer::new(1000))
        .into_inner();
    let (listener, address) = listen().await;
    let server = Server::builder().layer(stack).add_service(Test);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, limit)
}

/// A call: the head, and the trailers unless it is trailers-only.
async fn call(client: &mut Client, path: &str, body: Body) -> (HeaderMap, Option<HeaderMap>) {
    let mut request = client.request("POST", path, body);
    let grpc = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert("content-type", grpc);
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    (parts.headers, body.trailers().cloned())
}

#[tokio::test]
async fn every_answer_is_a_status_and_the_connection_goes_on() {
    let (address, limit) = server().await;
    let mut client = Client::connect(address, Version::Http2).await;
    for _ in 0..2 {
        let (_, trailers) = call(&mut client, "/test/ok", Body::empty()).await;
        assert_eq!(trailers.unwrap()["grpc-status"], "0");
        assert_eq!(limit.in_flight(), 0, "the trailers are the end");

        let permit = limit.try_acquire().unwrap();
        let (full, trailers) = call(&mut client, "/test/ok", Body::empty()).await;
        assert_eq!(
            (&full["grpc-status"], trailers),
            (&"8".parse().unwrap(), None)
        );
        assert!(full.contains_key("grpc-retry-pushback-ms"));
        drop(permit);

        let (panicked, _) = call(&mut client, "/test/panic", Body::empty()).await;
        assert_eq!(panicked["grpc-status"], "13");
        assert!(!format!("{panicked:?}").contains("secret"));

        let (late, _) = call(&mut client, "/test/never", Body::empty()).await;
        assert_eq!(late["grpc-status"], "4");

        let (large, _) = call(&mut client, "/test/read", chunked(2, 1000)).await;
        assert_eq!(large["grpc-status"], "8");
        let (large, _) = call(&mut client, "/test/read", Body::from(vec![0; 1001])).await;
        assert_eq!(large["grpc-status"], "8");
    }
    assert_eq!(limit.in_flight(), 0);
}

/// B7 of the faults from production: behind `tonic-web`, a call over HTTP/1.1 is gRPC.
#[tokio::test]
async fn b7_grpc_web_over_http_1() {
    let (limit, breaker) = (ConcurrencyLimit::from(1), CircuitBreaker::default());
    let stack = ServiceBuilder::new()
        .layer(tonic_web::GrpcWebLayer::new())
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::new(Duration::from_secs(60)))
        .layer(ConcurrencyLimitLayer::new(limit.clone()))
        .layer(RequestLimitLayer::new(1000))
        .into_inner();
    let (listener, address) = listen().await;
    let server = Server::builder()
        .accept_http1(true)
        .layer(stack)
        .add_service(Test);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let mut client = Client::connect(address, Version::Http1).await;
    let mut call = async |path: &str, body: Vec<u8>| {
        let mut request = client.request("POST", path, Body::from(body));
        let headers = request.headers_mut();
        let web = HeaderValue::from_static("application/grpc-web+proto");
        headers.insert("content-type", web);
        let (head, body) = whole(client.send(request).await.unwrap()).await;
        assert_eq!(head.status(), 200, "{path}");
        let status = head.headers().get("grpc-status").cloned();
        (
            status.map(|status| status.to_str().unwrap().to_owned()),
            body,
        )
    };
    let (status, body) = call("/test/ok", Vec::new()).await;
    assert_eq!(status, None);
    assert!(
        String::from_utf8_lossy(&body).contains("grpc-status:0"),
        "{body:?}"
    );
    let permit = limit.try_acquire().unwrap();
    let (status, _) = call("/test/ok", Vec::new()).await;
    assert_eq!(status.as_deref(), Some("8"));
    drop(permit);
    let (status, _) = call("/test/panic", Vec::new()).await;
    assert_eq!(status.as_deref(), Some("13"));
    let (status, _) = call("/test/read", vec![0; 1001]).await;
    assert_eq!(status.as_deref(), Some("8"));
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.successes, totals.failures), (1, 1), "{totals:?}");
    breaker.force_open();
    let (status, _) = call("/test/ok", Vec::new()).await;
    assert_eq!(status.as_deref(), Some("14"));
}
