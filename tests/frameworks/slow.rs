//! Slow senders and long responses, over real sockets. The times are short and real, and no test
//! asserts a duration.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use seawall::{
    ConcurrencyLimit, ConcurrencyLimitLayer, RequestLimit, RequestLimitLayer, RequestLimitSettings,
    ResponseBodyTimeoutSettings, TimeoutLayer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceBuilder;

use crate::support::*;

const SHORT: Duration = Duration::from_millis(50);

async fn read_all(body: Bytes) -> String {
    format!("{} bytes", body.len())
}

/// Never ends, and is never silent for long.
async fn endless() -> Body {
    Body::from_stream(futures_util::stream::repeat(()).then(async |()| {
        tokio::task::yield_now().await;
        Ok::<_, Infallible>("chunk")
    }))
}

/// One chunk, and then nothing.
async fn silent() -> Body {
    let one = futures_util::stream::iter([Ok::<_, Infallible>("chunk")]);
    Body::from_stream(one.chain(futures_util::stream::pending()))
}

/// Echoes what it reads, as long as the upgraded connection lasts.
async fn upgrade(mut request: Request) -> Response {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut connection = TokioIo::new(upgraded.await.unwrap());
        let mut bytes = [0; 4];
        while connection.read_exact(&mut bytes).await.is_ok() {
            connection.write_all(&bytes).await.unwrap();
        }
    });
    let headers = [("connection", "upgrade"), ("upgrade", "echo")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// A server like that of the example, with a timeout for the headers.
async fn server(requests: RequestLimitLayer, limit: &ConcurrencyLimit) -> SocketAddr {
    let bodies = ResponseBodyTimeoutSettings::default();
    let timeout = TimeoutLayer::new(4 * SHORT)
        .response_body_timeout(bodies.deadline(true).idle_timeout(SHORT))
        .per_request(|head| (head.uri.path() == "/read").then_some(PATIENCE));
    let app = Router::new()
        .route("/", get(async || "hello"))
        .route("/read", post(read_all))
        .route("/endless", get(endless))
        .route("/silent", get(silent))
        .route("/never", any(async || std::future::pending::<&str>().await))
        .route("/upgrade", get(upgrade))
        .layer(
            ServiceBuilder::new()
                .layer(timeout)
                .layer(ConcurrencyLimitLayer::new(limit.clone()))
                .layer(requests),
        );
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let mut server = Builder::new(TokioExecutor::new());
        let http1 = &mut server.http1();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(20 * SHORT);
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(app.clone());
            let connection =
                server.serve_connection_with_upgrades(TokioIo::new(connection), service);
            tokio::spawn(connection.into_owned());
        }
    });
    address
}

async fn served(requests: RequestLimitLayer) -> SocketAddr {
    server(requests, &ConcurrencyLimit::from(10)).await
}

/// Reads until the server closes the connection, or until `enough` has arrived.
async fn reads(connection: &mut TcpStream, enough: &str) -> String {
    let mut all = Vec::new();
    let read = async {
        let mut bytes = [0; 1024];
        while !String::from_utf8_lossy(&all).contains(enough) || enough.is_empty() {
            match connection.read(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(read) => all.extend_from_slice(&bytes[..read]),
            }
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("it neither answers nor closes");
    String::from_utf8_lossy(&all).into_owned()
}

async fn raw(address: SocketAddr, text: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(text.as_bytes()).await.unwrap();
    connection
}

const CHUNKED: &str =
    "POST /read HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
const DECLARED: &str = "POST /read HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\na";

#[tokio::test]
async fn a_silent_body_is_answered_408_and_closed() {
    let limit = ConcurrencyLimit::from(10);
    let address = server(
        RequestLimitLayer::new(
            RequestLimit::new(RequestLimitSettings::new(1000).body_idle_timeout(SHORT)).unwrap(),
        ),
        &limit,
    )
    .await;
    for request in [CHUNKED, DECLARED] {
        let answer = reads(&mut raw(address, request).await, "").await;
        assert!(
            answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{answer}"
        );
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(answer.contains("too slowly."), "{answer}");
        assert!(
            answer.ends_with("\"reason\":\"body_too_slow\"}"),
            "{answer}"
        );
    }
    assert_eq!(limit.in_flight(), 0);
}

/// A client that waits for a 100 and then sends nothing reads the answer too.
#[tokio::test]
async fn expect_100_continue_and_then_nothing() {
    let address = served(RequestLimitLayer::new(
        RequestLimit::new(RequestLimitSettings::new(1000).body_idle_timeout(SHORT)).unwrap(),
    ))
    .await;
    let expects = DECLARED.replace("\r\n\r\na", "\r\nexpect: 100-continue\r\n\r\n");
    let answer = reads(&mut raw(address, &expects).await, "").await;
    assert!(
        answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 408 "),
        "{answer}"
    );
}

/// One byte at a time without an end: never silent, but over its time.
#[tokio::test]
async fn a_dribbled_body_is_answered_408() {
    for requests in [
        RequestLimitLayer::new(
            RequestLimit::new(RequestLimitSettings::new(u64::MAX).body_timeout(3 * SHORT)).unwrap(),
        ),
        RequestLimitLayer::new(
            RequestLimit::new(
                RequestLimitSettings::new(u64::MAX).min_body_rate(u64::MAX, 3 * SHORT),
            )
            .unwrap(),
        ),
    ] {
        let address = served(requests).await;
        let (mut read, mut write) = raw(address, CHUNKED).await.into_split();
        // The pause between two bytes is another request, whose response is silent until it is cut.
        let dribbles = tokio::spawn(async move {
            while write.write_all(b"1\r\na\r\n").await.is_ok() {
                let mut client = Client::connect(address, Version::Http1).await;
                let request = client.request("GET", "/silent", Body::empty());
                let response = client.send(request).await.unwrap();
                response.into_body().collect().await.unwrap_err();
            }
        });
        let mut answer = [0; 12];
        let read = tokio::time::timeout(PATIENCE, read.read_exact(&mut answer));
        read.await.expect("it answers").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408");
        dribbles.abort();
    }
}

/// Only the stream ends: the connection serves the next request.
#[tokio::test]
async fn over_http2_the_connection_stays_usable() {
    let address = served(RequestLimitLayer::new(
        RequestLimit::new(RequestLimitSettings::new(1000).body_idle_timeout(SHORT)).unwrap(),
    ))
    .await;
    let mut client = Client::connect(address, Version::Http2).await;
    let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
    let request = client.request("POST", "/read", never);
    let (response, _) = whole(client.send(request).await.unwrap()).await;
    assert_eq!(response.status(), 408);
    assert!(!response.headers().contains_key("connection"));
    let (response, body) = client.get("/").await;
    assert_eq!(
        (response.status().as_u16(), &body[..]),
        (200, &b"hello"[..])
    );
}

#[tokio::test]
async fn heads_that_are_too_large_are_told_so() {
    let address = served(RequestLimitLayer::new(
        RequestLimit::new(
            RequestLimitSettings::new(1000)
                .max_header_bytes(2000)
                .max_headers(20)
                .max_uri(100),
        )
        .unwrap(),
    ))
    .await;
    for version in [Version::Http1, Version::Http2] {
        let mut client = Client::connect(address, version).await;
        let (response, _) = client.get(&format!("/?{}", "x".repeat(100))).await;
        assert_eq!(response.status(), 414, "{version:?}");
        let mut request = client.request("GET", "/", Body::empty());
        let headers = request.headers_mut();
        headers.insert("x-large", "x".repeat(2000).parse().unwrap());
        let (response, _) = whole(client.send(request).await.unwrap()).await;
        assert_eq!(response.status(), 431, "{version:?}");
        let mut request = client.request("GET", "/", Body::empty());
        for n in 0..21 {
            request.headers_mut().append("x-many", n.into());
        }
        let (response, _) = whole(client.send(request).await.unwrap()).await;
        assert_eq!(response.status(), 431, "{version:?}");
        let (response, _) = client.get("/").await;
        assert_eq!(response.status(), 200, "{version:?}");
    }
}

/// The bounds of hyper itself, as in the example.
#[tokio::test]
async fn slow_headers_are_closed() {
    let address = served(RequestLimitLayer::new(1000)).await;
    for begun in ["GET", "GET / HTTP/1.1\r\nhost: localh"] {
        let mut connection = raw(address, begun).await;
        let answer = reads(&mut connection, "").await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "{answer}"
        );
    }
    let mut client = Client::connect(address, Version::Http1).await;
    assert_eq!(client.get("/").await.0.status(), 200);
}

/// The client sees that the body is incomplete. Over HTTP/2, the connection stays usable.
#[tokio::test]
async fn a_response_that_does_not_end_is_cut() {
    let limit = ConcurrencyLimit::from(10);
    let address = server(RequestLimitLayer::new(1000), &limit).await;
    for version in [Version::Http1, Version::Http2] {
        for path in ["/endless", "/silent"] {
            let mut client = Client::connect(address, version).await;
            let request = client.request("GET", path, Body::empty());
            let response = client.send(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let body = tokio::time::timeout(PATIENCE, response.into_body().collect());
            body.await.expect("it ends").unwrap_err();
            if version == Version::Http2 {
                assert_eq!(client.get("/").await.0.status(), 200);
            }
        }
    }
    while limit.in_flight() > 0 {
        tokio::task::yield_now().await; // the server notices it slightly later than the client
    }
}

/// A client that closes its half has given up: the handler is dropped, and its permit is released.
#[tokio::test]
async fn half_closed() {
    let limit = ConcurrencyLimit::from(1);
    let address = server(RequestLimitLayer::new(1000), &limit).await;
    let mut connection = raw(address, "GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    while limit.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    connection.shutdown().await.unwrap();
    let freed = async {
        while limit.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed)
        .await
        .expect("the place comes back");
}

/// The bounds for response bodies do not apply to an upgraded connection.
#[tokio::test]
async fn an_upgraded_connection_is_left_alone() {
    let address = served(RequestLimitLayer::new(
        RequestLimit::new(RequestLimitSettings::new(1000).body_idle_timeout(SHORT)).unwrap(),
    ))
    .await;
    let upgrade =
        "GET /upgrade HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let mut connection = raw(address, upgrade).await;
    let answer = reads(&mut connection, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // Two responses that are cut, one after the other: together they take longer than a response
    // may.
    for _ in 0..2 {
        let mut client = Client::connect(address, Version::Http1).await;
        let request = client.request("GET", "/endless", Body::empty());
        let response = client.send(request).await.unwrap();
        response.into_body().collect().await.unwrap_err();
    }
    let mut echo = [0; 4];
    connection.write_all(b"ping").await.unwrap();
    connection.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
}

/// Through all body wrappers.
#[tokio::test]
async fn the_length_is_there() {
    let address = served(RequestLimitLayer::new(
        RequestLimit::new(RequestLimitSettings::new(1000).body_idle_timeout(SHORT)).unwrap(),
    ))
    .await;
    for version in [Version::Http1, Version::Http2] {
        let mut client = Client::connect(address, version).await;
        for method in ["GET", "HEAD"] {
            let request = client.request(method, "/", Body::empty());
            let (response, body) = whole(client.send(request).await.unwrap()).await;
            assert_eq!(
                response.headers()["content-length"],
                "5",
                "{version:?} {method}"
            );
            assert_eq!(body.len(), if method == "GET" { 5 } else { 0 });
        }
    }
}
