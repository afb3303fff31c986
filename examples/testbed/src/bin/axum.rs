//! For manual tests and load tests of every layer under axum; start with `quickstart.rs`.
//!
//! ```text
//! cargo run --release -p testbed --bin axum -- --concurrency 16
//!
//! url=localhost:3000
//! curl -i $url/                                      # 200
//! curl -i $url/panic $url/                           # 500, then 200 on the same connection
//! curl -i $url/panic-body                            # 200, then the connection is closed
//! curl -i "$url/sleep?ms=6000"                       # 504 after 5 s
//! head -c 2200000 /dev/zero |
//!     curl -i -X POST -T- $url/upload                # 413, chunked
//! (printf a; sleep 9) |
//!     curl -i -X POST -T- $url/upload                # 408 after 3 s of silence
//! long=$(head -c 9000 /dev/zero | tr '\0' x)
//! curl -i "$url/?$long"                              # 414
//! curl -i -H "x: $long" $url/                        # 431
//! curl -so /dev/null "$url/flaky?fail=[1-20]"        # 500, often enough for its breaker
//! curl -i $url/flaky                                 # 503: the circuit is open
//! curl -i $url/deadline                              # the time that is left
//! curl -so /dev/null $url/blob?bytes=1048576         # 200, in one frame
//! curl -i "$url/stream?chunks=100"                   # with --including-body: cut after 5 s
//! hey -c 1440 -z 5s "http://$url/sleep?ms=100"       # 200 and 503: too many at once
//! hey -c 400 -z 5s -t 1 "http://$url/work?ms=5"      # 200 and 503: the runtime is behind
//! curl -i $url/health                                # 200, meanwhile
//! ```
//!
//! The flags are in `--help`. The layers log. At Ctrl-C or SIGTERM the
//! server drains: it serves for one more second, and then waits for the requests in flight.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query};
use axum::http::{StatusCode, Uri};
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use clap::Parser;
use futures_util::{StreamExt, stream};
use seawall::{CircuitBreaker, CircuitBreakerLayer, Deadline};
use tower::{BoxError, Layer};

/// An axum server behind the recommended stack of seawall.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: testbed::Common,
    /// Puts the layers around the router instead of into it: a rejection then comes before routing.
    #[arg(long)]
    outside: bool,
    /// The longest silence of a request or response body, in milliseconds.
    #[arg(long, default_value_t = 3000)]
    body_idle_ms: u64,
    /// The longest time for which a handler waits for a request body, in milliseconds.
    #[arg(long, default_value_t = 60_000)]
    body_timeout_ms: u64,
    /// The least average rate of a request body, in bytes a second, after a grace time of five
    /// seconds.
    #[arg(long, default_value_t = 500)]
    min_body_rate: u64,
    /// The timeout includes the response body.
    #[arg(long)]
    including_body: bool,
}

#[derive(serde::Deserialize)]
struct Millis {
    #[serde(default = "hundred")]
    ms: u64,
}

#[derive(serde::Deserialize)]
struct Size {
    bytes: usize,
}

#[derive(serde::Deserialize)]
struct Chunks {
    #[serde(default = "ten")]
    chunks: u64,
    #[serde(default = "hundred")]
    ms: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    let common = &args.common;
    let body_idle = Duration::from_millis(args.body_idle_ms);
    let requests = common
        .request_limit()
        .body_idle_timeout(body_idle)
        .body_timeout(Duration::from_millis(args.body_timeout_ms))
        .min_body_rate(args.min_body_rate, Duration::from_secs(5));
    let drain = common.drain()?;
    let responses = common
        .response_bodies()
        .deadline(args.including_body)
        .idle_timeout(body_idle);
    let stack = common
        .server(&drain, requests)
        .response_body_timeout(responses)
        .expose_deadline()
        .exempt(|head| head.path() == "/health")
        .keep_requests()
        .build()?;

    let listener = common.listen().await?;
    if args.outside {
        let service = stack.layer(routes().with_state(()));
        common.serve(&drain, listener, service).await;
    } else {
        common.serve(&drain, listener, routes().layer(stack)).await;
    }
    Ok(())
}

fn routes() -> Router {
    let breaker = CircuitBreakerLayer::new(CircuitBreaker::default());
    Router::new()
        .route("/", get(async || "hello\n"))
        .route("/health", get(async || "ok\n"))
        .route("/work", any(work))
        .route("/sleep", any(sleep))
        .route("/stream", get(stream))
        .route("/blob", get(blob))
        .route("/deadline", get(deadline))
        // A route with a dependency has a breaker of its own.
        .route("/flaky", get(flaky).layer(breaker))
        .route("/echo", post(async |body: Bytes| body))
        .route("/upload", post(upload))
        .route("/panic", any(async || -> &str { panic!("as requested") }))
        .route("/panic-body", get(panic_body))
        .layer(DefaultBodyLimit::disable()) // axum's own, 2 MB: the limit of the stack applies
}

async fn work(Query(Millis { ms }): Query<Millis>) -> String {
    let rounds = testbed::compute(Duration::from_millis(ms));
    format!("{rounds} rounds\n")
}

/// A dependency that fails on request.
async fn flaky(uri: Uri) -> (StatusCode, &'static str) {
    match uri.query() {
        Some(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed\n"),
        None => (StatusCode::OK, "works\n"),
    }
}

async fn sleep(Query(Millis { ms }): Query<Millis>) -> String {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("slept {ms} ms\n")
}

/// A large response in one frame, which a client may read slowly or not at all.
async fn blob(Query(Size { bytes }): Query<Size>) -> Vec<u8> {
    vec![b'x'; bytes.min(16 << 20)]
}

/// Shows the time that a call to another service would get.
async fn deadline(Extension(deadline): Extension<Deadline>) -> String {
    let header = deadline.to_grpc_timeout();
    format!("grpc-timeout: {}\n", header.to_str().unwrap_or_default())
}

async fn stream(Query(Chunks { chunks, ms }): Query<Chunks>) -> Body {
    Body::from_stream(stream::unfold(0, move |chunk| async move {
        if chunk == chunks {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Some((Ok::<_, Infallible>(format!("chunk {chunk}\n")), chunk + 1))
    }))
}

async fn upload(body: Body) -> Result<String, String> {
    let mut body = body.into_data_stream();
    let mut bytes = 0;
    while let Some(chunk) = body.next().await {
        bytes += chunk.map_err(|error| format!("{error}\n"))?.len();
    }
    Ok(format!("{bytes} bytes\n"))
}

async fn panic_body() -> Body {
    Body::from_stream(stream::iter(0..2).then(async |chunk| {
        // The pause lets the first chunk be sent.
        tokio::time::sleep(Duration::from_millis(10) * chunk).await;
        assert_eq!(chunk, 0, "in the middle");
        Ok::<_, Infallible>("the beginning\n")
    }))
}

fn ten() -> u64 {
    10
}

fn hundred() -> u64 {
    100
}
