//! Faulty callers over real sockets: malformed gRPC, uploads that a proxy passes on, and rejections
//! while the client is still sending. The numbers are those of faults from production.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, CircuitState,
    ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings, RequestLimitLayer,
    TimeoutLayer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::support::*;

/// A breaker that opens at the first failure.
fn touchy() -> CircuitBreaker {
    CircuitBreaker::new(CircuitBreakerSettings::default().consecutive_failures(1)).unwrap()
}

/// Waits until the breaker has seen this many calls.
async fn seen(breaker: &CircuitBreaker, calls: u64) {
    let all = async {
        loop {
            let now = breaker.snapshot().totals;
            let ended = now.successes + now.failures + now.ignored;
            if ended >= calls {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, all).await;
    assert!(waited.is_ok(), "{:?} of {calls}", breaker.snapshot());
}

#[tokio::test]
async fn a3_malformed_grpc_does_not_open_the_breaker() {
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    const WATCH: &str = "/grpc.health.v1.Health/Watch";
    let breaker = touchy();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let (listener, address) = listen().await;
    let server = Server::builder()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let mut client = Client::connect(address, Version::Http2).await;
    let malformed: [(&str, &[u8], &str); 7] = [
        ("no message", b"", "13"),
        ("a short prefix", b"\0\0\0", "13"),
        ("no protobuf", b"\0\0\0\0\x03\xff\xff\xff", "13"),
        ("another type", b"\0\0\0\0\x02\x08\x01", "13"),
        ("compressed without an encoding", b"\x01\0\0\0\x01\0", "13"),
        ("no such flag", b"\x07\0\0\0\x01\0", "13"),
        ("less than it declares", b"\0\0\0\x01\0\x01\x02", "13"),
    ];
    for (name, message, code) in malformed {
        for path in [CHECK, WATCH] {
            let mut request = client.request("POST", path, Body::from(message));
            let grpc = header::HeaderValue::from_static("application/grpc");
            request.headers_mut().insert(header::CONTENT_TYPE, grpc);
            let response = client.send(request).await.unwrap();
            assert_eq!(response.headers()["grpc-status"], code, "{name}");
            assert_eq!(breaker.state(), CircuitState::Closed, "{name}");
        }
    }
    let mut request = client.request("POST", CHECK, Body::from(&b"\0\0\0\0\0"[..]));
    let grpc = header::HeaderValue::from_static("application/grpc");
    request.headers_mut().insert(header::CONTENT_TYPE, grpc);
    let response = client.send(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.failures, totals.ignored), (0, 14));
}

type Upstream = (Pool<HttpConnector, Body>, CircuitBreaker, SocketAddr);

/// Passes requests on, as axum's example does, or sends a request of its own.
async fn proxy(
    State((client, breaker, upstream)): State<Upstream>,
    mut request: Request<Body>,
) -> Response {
    let is_whole = request.uri().path() == "/whole";
    *request.uri_mut() = Uri::try_from(format!("http://{upstream}/")).unwrap();
    *request.version_mut() = http::Version::HTTP_11;
    if !is_whole {
        let (parts, body) = request.into_parts();
        request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.uri_mut() = parts.uri;
    }
    let layered = CircuitBreakerLayer::new(breaker).layer(client);
    match layered.oneshot(request).await {
        Ok(response) => response.map(Body::new).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// A proxy with a limit of 100 kB, and the breaker around its client.
async fn proxy_server(http2: bool) -> (SocketAddr, CircuitBreaker, Arc<AtomicU64>) {
    let begun = Arc::new(AtomicU64::new(0));
    let count = begun.clone();
    let upstream = Router::new()
        .route("/", post(async |body: Bytes| body.len().to_string()))
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::map_request(
            move |request: Request<Body>| {
                count.fetch_add(1, Relaxed);
                std::future::ready(request)
            },
        ));
    let upstream = serve(upstream).await;
    let client = Pool::builder(TokioExecutor::new())
        .http2_only(http2)
        .build_http();
    let breaker = touchy();
    let app = Router::new()
        .route("/{*path}", any(proxy))
        .with_state((client, breaker.clone(), upstream))
        .layer(DefaultBodyLimit::disable())
        .layer(RequestLimitLayer::new(100_000));
    (serve(app).await, breaker, begun)
}

#[tokio::test]
async fn a3_through_a_proxy_a_body_over_the_limit_is_no_failure_of_the_upstream() {
    for http2 in [false, true] {
        let (address, breaker, _) = proxy_server(http2).await;
        for path in ["/whole", "/parts"] {
            let mut client = Client::connect(address, Version::Http1).await;
            let request = client.request("POST", path, chunked(24, 10_000));
            let response = client.send(request).await.unwrap();
            assert_eq!(response.status(), 413, "{path}");
        }
        seen(&breaker, 2).await;
        assert_eq!(breaker.snapshot().totals.failures, 0, "HTTP/2: {http2}");
        let mut client = Client::connect(address, Version::Http1).await;
        let request = client.request("POST", "/parts", chunked(2, 10_000));
        let (served, body) = whole(client.send(request).await.unwrap()).await;
        assert_eq!((served.status().as_u16(), &body[..]), (200, &b"20000"[..]));
    }
}

#[tokio::test]
async fn a3_through_a_proxy_an_aborted_upload_is_no_failure_of_the_upstream() {
    const CALLS: u64 = 20;
    for http2 in [false, true] {
        let (address, breaker, begun) = proxy_server(http2).await;
        for call in 0..CALLS {
            let framing = match call % 2 {
                0 => "content-length: 90000",
                _ => "transfer-encoding: chunked",
            };
            let path = ["/whole", "/parts"][usize::from(call % 4 < 2)];
            let mut connection = TcpStream::connect(address).await.unwrap();
            let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n3\r\nabc\r\n");
            connection.write_all(head.as_bytes()).await.unwrap();
            let at_upstream = async {
                while begun.load(Relaxed) <= call {
                    tokio::task::yield_now().await;
                }
            };
            let waited = tokio::time::timeout(PATIENCE, at_upstream).await;
            waited.expect("the upload does not begin");
            drop(connection);
        }
        seen(&breaker, CALLS).await;
        assert_eq!(breaker.snapshot().totals.failures, 0, "HTTP/2: {http2}");
    }
}

/// A connection on which the test sends and reads bytes.
struct Raw(TcpStream);

impl Raw {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, bytes: &[u8]) {
        // The server may have closed the connection. The head then shows the reason.
        let _ = self.0.write_all(bytes).await;
    }

    /// Reads the head of the next response, and its body.
    async fn head(&mut self) -> String {
        let read = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.0.read_u8().await?);
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            self.0.read_exact(&mut body).await?;
            Ok::<_, std::io::Error>(head)
        };
        let read = tokio::time::timeout(PATIENCE, read).await;
        read.expect("no answer").unwrap_or_default()
    }
}

/// If the rest is not read, the answer has `connection: close`; else the connection stays open.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table of requests and bodies")]
async fn b10_an_http_1_connection_goes_on_or_says_that_it_does_not() {
    let full = ConcurrencyLimit::from(1);
    let permit = full.try_acquire().unwrap();
    let queue = ConcurrencyLimitSettings::fixed(1).queue(9, Duration::from_millis(20));
    let queueing = ConcurrencyLimit::new(queue).unwrap();
    let queueing_permit = queueing.try_acquire().unwrap();
    let late = || TimeoutLayer::new(Duration::from_millis(20));
    let hangs = async |body: Body| -> &'static str {
        let _body = body;
        std::future::pending().await
    };
    let panics = async |body: Body| -> &'static str {
        let _body = body;
        panic!("as requested")
    };
    let alone = Router::new()
        .route("/", any(async || "hello"))
        .route("/next", any(async || "next"))
        .route_layer(ConcurrencyLimitLayer::new(full.clone()).exempt(|head| head.path() == "/next"))
        .merge(
            Router::new()
                .route("/queued", any(async || "hello"))
                .route_layer(ConcurrencyLimitLayer::new(queueing.clone())),
        )
        .merge(Router::new().route("/late", any(hangs)).route_layer(late()))
        .merge(
            Router::new()
                .route("/panic", any(panics))
                .route_layer(CatchPanicLayer::new()),
        );
    let stack = |limit: ConcurrencyLimit| {
        ServiceBuilder::new().layer(
            seawall::server()
                .timeout(Duration::from_millis(20))
                .concurrency_limit(limit)
                .exempt(|head| head.path() == "/next")
                .build()
                .unwrap(),
        )
    };
    let rejecting = Router::new()
        .route("/", any(async || "hello"))
        .route("/next", any(async || "next"))
        .layer(stack(full.clone()));
    let answering = Router::new()
        .route("/next", any(async || "next"))
        .route("/late", any(hangs))
        .route("/panic", any(panics))
        .layer(stack(ConcurrencyLimit::from(9)));
    for (app, requests) in [
        (
            alone,
            &[
                "POST /",
                "GET /",
                "POST /queued",
                "GET /queued",
                "POST /late",
                "POST /panic",
            ][..],
        ),
        (rejecting, &["POST /", "GET /"]),
        (answering, &["POST /late", "POST /panic"]),
    ] {
        let address = serve(app).await;
        for request in requests {
            let status = match request.split_once('/').unwrap().1 {
                "" | "queued" => "503",
                "late" => "504",
                _ => "500",
            };
            let large = vec![b'x'; 100_000];
            let bodies: [(&str, &[u8], &[u8]); 6] = [
                ("content-length: 10", b"", b"0123456789"),
                ("content-length: 10", b"0123456789", b""),
                ("content-length: 100000", &large, b""),
                ("content-length: 100000", &large[..50_000], &large[50_000..]),
                ("transfer-encoding: chunked", b"3\r\nabc\r\n", b"0\r\n\r\n"),
                (
                    "content-length: 10\r\nexpect: 100-continue",
                    b"",
                    b"0123456789",
                ),
            ];
            for (framing, now, later) in bodies {
                let mut connection = Raw::connect(address).await;
                let head = format!("{request} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n");
                connection.send(head.as_bytes()).await;
                connection.send(now).await;
                let mut head = connection.head().await;
                if head.starts_with("http/1.1 100") {
                    head = connection.head().await;
                }
                let name = format!("{request} {framing} {} {}", now.len(), later.len());
                assert!(head.contains(status), "{name}: {head}");
                if head.contains("connection: close") {
                    continue;
                }
                connection.send(later).await;
                let next = b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n";
                connection.send(next).await;
                let next = connection.head().await;
                assert!(next.starts_with("http/1.1 200"), "{name}: {next}");
            }
        }
    }
    drop((permit, queueing_permit));
}

/// Over HTTP/2, a client that sends its whole upload reads the rejection, for every reason.
#[tokio::test]
async fn b10_over_http_2_a_client_that_sends_reads_its_rejection() {
    let full = ConcurrencyLimit::from(1);
    let permit = full.try_acquire_owned().unwrap();
    let stack = seawall::server()
        .timeout(Duration::from_millis(20))
        .concurrency_limit(full)
        .exempt(|head| head.path() != "/")
        .build()
        .unwrap();
    let app = Router::new()
        .route("/", post(async || "posted"))
        .route(
            "/panic",
            any(async || -> &'static str { panic!("as requested") }),
        )
        .route(
            "/late",
            any(async |body: Body| -> &'static str {
                let _body = body;
                std::future::pending().await
            }),
        )
        .layer(stack);
    let address = serve(app).await;
    let mut client = Client::connect(address, Version::Http2).await;
    for (path, status) in [("/", 503), ("/panic", 500), ("/late", 504)] {
        // The sender sees the end of the upload only if the stream is not reset before.
        let (sent, is_sent) = tokio::sync::oneshot::channel();
        let mut sent = Some(sent);
        let chunks = futures_util::stream::iter(0..11).then(move |chunk| {
            let sent = sent.take_if(|_| chunk == 10);
            async move {
                tokio::task::yield_now().await;
                if let Some(sent) = sent {
                    let _ = sent.send(());
                    return Ok::<_, Infallible>(Bytes::new());
                }
                Ok(Bytes::from(vec![0; 10_000]))
            }
        });
        let request = client.request("POST", path, Body::from_stream(chunks));
        let (response, body) = whole(client.send(request).await.unwrap()).await;
        assert_eq!(response.status(), status, "{path}");
        assert!(!body.is_empty(), "{path}");
        let sent = tokio::time::timeout(PATIENCE, is_sent).await;
        assert!(sent.is_ok_and(|sent| sent.is_ok()), "{path}: reset");
    }
    drop(permit);
}
