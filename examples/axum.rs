//! An axum server behind the wall. Start it, flood it, break it:
//!
//! ```text
//! cargo run --release --example axum -- --concurrency 16
//!
//! curl -i localhost:3000/                                                # 200
//! curl -i localhost:3000/panic localhost:3000/                           # 500, then 200 on the same connection
//! curl -i localhost:3000/panic-body                                      # 200, then the connection is closed
//! curl -i 'localhost:3000/sleep?ms=6000'                                 # 504 after 5 s
//! head -c 2200000 /dev/zero | curl -i -X POST -T- localhost:3000/upload  # 413, chunked
//! (printf a; sleep 9) | curl -i -X POST -T- localhost:3000/upload        # 408 after 3 s of silence
//! curl -i "localhost:3000/?$(head -c 9000 /dev/zero | tr '\0' x)"       # 414
//! curl -i -H "x: $(head -c 9000 /dev/zero | tr '\0' x)" localhost:3000/  # 431
//! curl -so /dev/null 'localhost:3000/flaky?fail=[1-20]'                  # 500, twenty times: enough for its breaker
//! curl -i localhost:3000/flaky                                           # 503: the circuit is open
//! curl -i 'localhost:3000/deadline'                                      # what is left for somebody further on
//! curl -i 'localhost:3000/stream?chunks=100'                             # with --including-body: cut after 5 s
//! hey -c 1440 -z 5s 'http://localhost:3000/sleep?ms=100'                 # 200 and 503: too many at once
//! hey -c 400 -z 5s -t 1 'http://localhost:3000/work?ms=5'                # 200 and 503: the runtime is behind
//! curl -i localhost:3000/health                                          # 200, meanwhile
//! ```
//!
//! The flags are in `--help`. Ctrl-C and SIGTERM stop it when the requests under way are done.

mod common;

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query};
use axum::http::{StatusCode, Uri};
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use clap::Parser;
use futures_util::{StreamExt, stream};
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimitLayer, Deadline, LagShed,
    LagShedLayer, RequestHead, TimeoutLayer,
};
use tower::{BoxError, ServiceBuilder};

/// An axum server behind the layers of seawall.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: common::Common,
    /// Puts the layers around the router and not into it: what is refused is not routed first.
    #[arg(long)]
    outside: bool,
    /// The longest silence of a body, in milliseconds, the request's and the response's.
    #[arg(long, default_value_t = 3000)]
    body_idle_ms: u64,
    /// How long a request body may take, in milliseconds, once the handler waits for it.
    #[arg(long, default_value_t = 60_000)]
    body_deadline_ms: u64,
    /// How fast a request body must come, in bytes a second on average, after five seconds of grace.
    #[arg(long, default_value_t = 500)]
    body_rate: u64,
    /// The time is for the response body as well.
    #[arg(long)]
    including_body: bool,
}

#[derive(serde::Deserialize)]
struct Millis {
    #[serde(default = "hundred")]
    ms: u64,
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
    let is_health = |head: &RequestHead<'_>| head.uri.path() == "/health";
    let body_idle = Duration::from_millis(args.body_idle_ms);
    let timeout = TimeoutLayer::new(common.timeout())
        .expose_deadline()
        .body_idle(body_idle);
    let timeout = if args.including_body {
        timeout.including_body()
    } else {
        timeout
    };
    let requests = common
        .requests()
        .body_idle(body_idle)
        .body_deadline(Duration::from_millis(args.body_deadline_ms))
        .body_rate(args.body_rate, Duration::from_secs(5));
    let wall = ServiceBuilder::new()
        .layer(CatchPanicLayer::new().on_panic(common::log_panic))
        .layer(LagShedLayer::new(LagShed::default()).exempt(is_health))
        .layer(timeout)
        .layer(ConcurrencyLimitLayer::new(common.limit()?).exempt(is_health))
        .layer(requests);

    let listener = common.listen().await?;
    let logs = ServiceBuilder::new();
    if args.outside {
        let wall = logs.map_response(common::logged).layer(wall);
        common
            .serve(listener, wall.service(routes().with_state(())))
            .await;
    } else {
        let wall = logs.map_response(common::logged).layer(wall);
        common.serve(listener, routes().layer(wall)).await;
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
        .route("/deadline", get(deadline))
        // What depends on somebody else has a breaker of its own.
        .route("/flaky", get(flaky).layer(breaker))
        .route("/echo", post(async |body: Bytes| body))
        .route("/upload", post(upload))
        .route("/panic", any(async || -> &str { panic!("as you wished") }))
        .route("/panic-body", get(panic_body))
        .layer(DefaultBodyLimit::disable()) // axum's own 2 MB: `RequestLimitLayer` decides
}

async fn work(Query(Millis { ms }): Query<Millis>) -> String {
    let rounds = common::compute(Duration::from_millis(ms));
    format!("{rounds} rounds\n")
}

/// Somebody that this one depends on, who fails as told.
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

/// What somebody further on would be given.
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
        tokio::time::sleep(Duration::from_millis(10) * chunk).await; // so that the beginning is sent
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
