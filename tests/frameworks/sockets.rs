//! The answers as a client reads them over HTTP/1.1 and HTTP/2, and the state of the connection
//! after them.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use seawall::{
    CatchPanicLayer, ConcurrencyLimit, ConcurrencyLimitLayer, RequestLimitLayer, TimeoutLayer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceBuilder;

use crate::support::*;

const BOTH: [Version; 2] = [Version::Http1, Version::Http2];
const LIMIT: usize = 100_000;

/// All layers, with a limit of two requests in flight and of 100 kB.
async fn server() -> (SocketAddr, ConcurrencyLimit) {
    let limit = ConcurrencyLimit::from(2);
    let app = Router::new()
        .route("/", get(async || "hello"))
        .route("/never", get(async || pending::<&str>().await))
        .route("/panic", get(async || -> &str { panic!("secret") }))
        .route("/panic-body", get(async || panic_body()))
        .route("/endless", get(async || endless()))
        .route("/bytes", post(async |body: Bytes| body.len().to_string()))
        .route("/stream", post(async |body: Body| body))
        .layer(DefaultBodyLimit::disable())
        .layer(
            ServiceBuilder::new()
                .layer(CatchPanicLayer::new())
                .layer(
                    TimeoutLayer::new(Duration::from_secs(5)).per_request(|head| {
                        (head.uri.path() == "/never").then_some(Duration::from_millis(1))
                    }),
                )
                .layer(ConcurrencyLimitLayer::new(limit.clone()))
                .layer(RequestLimitLayer::new(LIMIT as u64)),
        );
    (serve(app).await, limit)
}

/// Sends a chunk, waits for one turn of the server's loop, and panics.
fn panic_body() -> Body {
    Body::from_stream(futures_util::stream::iter(0..3).then(async |chunk| {
        if chunk == 2 {
            tokio::task::yield_now().await;
            panic!("secret");
        }
        Ok::<_, Infallible>("chunk")
    }))
}

fn endless() -> Body {
    Body::from_stream(futures_util::stream::repeat_with(|| {
        Ok::<_, Infallible>(vec![0; 1000])
    }))
}

#[tokio::test]
async fn the_connection_goes_on_after_500_503_504() {
    for version in BOTH {
        let (address, limit) = server().await;
        let mut client = Client::connect(address, version).await;
        for _ in 0..2 {
            let (panicked, body) = client.get("/panic").await;
            assert_eq!(panicked.status(), 500);
            assert!(!String::from_utf8_lossy(&body).contains("secret"));

            let (late, _) = client.get("/never").await;
            assert_eq!(late.status(), 504);

            let held = [limit.try_acquire().unwrap(), limit.try_acquire().unwrap()];
            let (full, body) = client.get("/").await;
            assert_eq!(full.status(), 503);
            assert!(full.headers().contains_key("retry-after"));
            assert_eq!(full.headers()["content-type"], "application/problem+json");
            assert_eq!(full.headers()["content-length"], body.len().to_string());
            drop(held);

            let (hello, body) = client.get("/").await;
            assert_eq!((hello.status().as_u16(), &body[..]), (200, &b"hello"[..]));
            assert_eq!(hello.headers()["content-length"], "5");
        }
        assert_eq!(limit.in_flight(), 0);
    }
}

#[tokio::test]
async fn a_panic_in_the_body_costs_the_connection_or_the_stream_and_no_more() {
    for version in BOTH {
        let (address, limit) = server().await;
        let mut other = Client::connect(address, version).await;
        other.get("/").await;
        let mut client = Client::connect(address, version).await;
        let request = client.request("GET", "/panic-body", Body::empty());
        let response = client.send(request).await;
        // Over HTTP/1 the connection may close before the head is flushed.
        if let Ok(response) = response {
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap_err();
        } else {
            assert_eq!(version, Version::Http1);
        }
        let request = client.request("GET", "/", Body::empty());
        let next = client.send(request).await;
        assert_eq!(next.is_ok(), version == Version::Http2, "{version:?}");
        assert_eq!(other.get("/").await.0.status(), 200);
        assert_eq!(limit.in_flight(), 0);
    }
}

#[tokio::test]
async fn a_client_that_goes_gives_its_place_back() {
    for version in BOTH {
        let (address, limit) = server().await;
        let mut client = Client::connect(address, version).await;
        let request = client.request("GET", "/endless", Body::empty());
        let mut response = client.send(request).await.unwrap();
        response.frame().await.unwrap().unwrap();
        assert_eq!(limit.in_flight(), 1);
        drop((response, client));
        let free = async {
            while limit.in_flight() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, free)
            .await
            .expect("the place is lost");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_a_413_on_every_path() {
    for version in BOTH {
        for path in ["/bytes", "/stream"] {
            let (address, limit) = server().await;
            let declared = || Body::from(vec![0; LIMIT + 1]);
            let unknown = || chunked(LIMIT / 1000 + 1, 1000);
            let one_byte = || {
                Body::from_stream(
                    chunked(LIMIT / 1000, 1000)
                        .into_data_stream()
                        .chain(chunked(1, 1).into_data_stream()),
                )
            };
            for (name, body) in [
                ("declared", declared()),
                ("unknown", unknown()),
                ("one byte over", one_byte()),
            ] {
                // "/stream" sends its head before it reads, so that only a declared length can be
                // rejected.
                if path == "/stream" && name != "declared" {
                    continue;
                }
                let at = format!("{version:?} {path} {name}");
                let mut client = Client::connect(address, version).await;
                let request = client.request("POST", path, body);
                let (response, body) = whole(client.send(request).await.expect(&at)).await;
                assert_eq!(response.status(), 413, "{at}");
                assert!(body.starts_with(b"{"), "{at}");
                assert!(!response.headers().contains_key("retry-after"), "{at}");
                // The rest was small enough to be read, so the connection stays open.
                assert_eq!(client.get("/").await.0.status(), 200, "{at}");
            }
            let mut client = Client::connect(address, version).await;
            let exactly = client.request("POST", path, chunked(LIMIT / 1000, 1000));
            let (response, _) = whole(client.send(exactly).await.unwrap()).await;
            assert_eq!(response.status(), 200);
            assert_eq!(limit.in_flight(), 0);
        }
    }
}

#[tokio::test]
async fn a_body_that_is_far_too_large_still_gets_its_413() {
    for version in BOTH {
        let (address, limit) = server().await;
        for body in [Body::from(vec![0; 300_000]), chunked(300, 1000)] {
            let mut client = Client::connect(address, version).await;
            let request = client.request("POST", "/bytes", body);
            let (response, _) = whole(client.send(request).await.unwrap()).await;
            assert_eq!(response.status(), 413, "{version:?}");
        }
        assert_eq!(limit.in_flight(), 0);
    }
}

#[tokio::test]
async fn after_the_head_the_body_ends_with_an_error() {
    for version in BOTH {
        let (address, limit) = server().await;
        let mut client = Client::connect(address, version).await;
        let request = client.request("POST", "/stream", chunked(LIMIT / 1000 + 1, 1000));
        if let Ok(response) = client.send(request).await {
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap_err();
        }
        let mut client = Client::connect(address, version).await;
        assert_eq!(client.get("/").await.0.status(), 200);
        assert_eq!(limit.in_flight(), 0);
    }
}

/// Writes bytes unchanged, and reads until the server sends nothing more.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    let _ = read.await.expect("the connection stays open");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn who_expects_100_continue_reads_413_and_sends_nothing() {
    let (address, _) = server().await;
    let head = "POST /bytes HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\n";
    let answer = raw(address, &format!("{head}content-length: 100001\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_head_that_lies_about_its_length_is_answered() {
    let (address, limit) = server().await;
    let head = "POST /bytes HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    for (lengths, status) in [
        ("content-length: 3\r\ncontent-length: 4\r\n", 400),
        ("content-length: three\r\n", 400),
        ("content-length: -3\r\n", 400),
        ("content-length: 99999999999999999999999\r\n", 400),
        ("content-length: 200000\r\n", 413),
    ] {
        let answer = raw(address, &format!("{head}{lengths}\r\nabcd")).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{lengths}: {answer}");
    }
    assert_eq!(limit.in_flight(), 0);
}

/// Hyper's HTTP/2 server sends any body, and a body in the answer to HEAD is a protocol error.
#[tokio::test]
async fn a_refused_head_request_reads_the_head_alone() {
    for version in BOTH {
        let limit = ConcurrencyLimit::from(1);
        let _permit = limit.try_acquire_owned().unwrap();
        let app = ServiceBuilder::new()
            .map_response(|response: http::Response<_>| response.map(Body::new))
            .layer(ConcurrencyLimitLayer::new(limit))
            .service(Router::new());
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            axum::serve(listener, tower::make::Shared::new(app))
                .await
                .unwrap();
        });
        let mut client = Client::connect(address, version).await;
        for _ in 0..2 {
            let request = client.request("HEAD", "/", Body::empty());
            let (response, body) = whole(client.send(request).await.unwrap()).await;
            assert_eq!(response.status(), 503, "{version:?}");
            assert_eq!(response.headers()["content-length"], "151", "{version:?}");
            assert!(body.is_empty(), "{version:?}");
        }
    }
}

#[tokio::test]
async fn head_requests_read_the_length_and_give_their_place_back() {
    let (address, limit) = server().await;
    let mut client = Client::connect(address, Version::Http1).await;
    let request = client.request("HEAD", "/", Body::empty());
    let response = client.send(request).await.unwrap();
    assert_eq!(response.headers()["content-length"], "5");
    assert_eq!(limit.in_flight(), 0);
    assert_eq!(client.get("/").await.0.status(), 200);
}
