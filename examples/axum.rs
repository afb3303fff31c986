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
//! hey -c 1440 -z 5s 'http://localhost:3000/sleep?ms=100'                 # 200 and 503: too many at once
//! hey -c 400 -z 5s -t 1 'http://localhost:3000/work?ms=5'                # 200 and 503: the runtime is behind
//! curl -i localhost:3000/health                                          # 200, meanwhile
//! ```
//!
//! The flags are in `--help`. Ctrl-C and SIGTERM stop it when the requests under way are done.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query};
use axum::http::Response;
use axum::routing::{get, post};
use clap::Parser;
use futures_util::{StreamExt, stream};
use seawall::{
    CatchPanicLayer, ConcurrencyLimit, ConcurrencyLimitLayer, LagShed, LagShedLayer, PanicReport,
    Rejection, RequestHead, RequestLimitLayer, TimeoutLayer,
};
use tower::ServiceBuilder;
use tracing_subscriber::EnvFilter;

/// An axum server behind every layer of seawall.
#[derive(Parser)]
struct Args {
    /// Port on 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Requests at once. Start from what a load test shows to be enough, and round up.
    #[arg(long, default_value_t = 512)]
    concurrency: usize,
    /// Requests that may wait for a place: enough for a burst, not for an overload.
    #[arg(long, default_value_t = 128)]
    wait: usize,
    /// How long they wait, in milliseconds: less than a caller notices.
    #[arg(long, default_value_t = 100)]
    max_wait_ms: u64,
    /// How long a request has until its response head, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    timeout_ms: u64,
    /// The largest request body, in bytes.
    #[arg(long, default_value_t = 2 * 1024 * 1024)]
    body_limit: u64,
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
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).init();

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    axum::serve(listener, app(&args)?)
        .with_graceful_shutdown(stopped())
        .await?;
    Ok(())
}

fn app(args: &Args) -> Result<Router, seawall::ConfigError> {
    let max_wait = Duration::from_millis(args.max_wait_ms);
    let limit = ConcurrencyLimit::try_new(args.concurrency)?.wait(args.wait, max_wait);
    let is_health = |head: &RequestHead<'_>| head.uri.path() == "/health";

    Ok(Router::new()
        .route("/", get(async || "hello\n"))
        .route("/health", get(async || "ok\n"))
        .route("/work", get(work))
        .route("/sleep", get(sleep))
        .route("/stream", get(stream))
        .route("/echo", post(async |body: Bytes| body))
        .route("/upload", post(upload))
        .route("/panic", get(async || -> &str { panic!("as you wished") }))
        .route("/panic-body", get(panic_body))
        .layer(DefaultBodyLimit::disable()) // axum's own 2 MB: the layer below decides
        .layer(
            ServiceBuilder::new()
                .map_response(logged)
                .layer(CatchPanicLayer::new().on_panic(log_panic))
                .layer(LagShedLayer::new(LagShed::default()).exempt(is_health))
                .layer(TimeoutLayer::new(Duration::from_millis(args.timeout_ms)))
                .layer(ConcurrencyLimitLayer::new(limit).exempt(is_health))
                .layer(RequestLimitLayer::new(args.body_limit)),
        ))
}

/// Every layer leaves its rejection in the response's extensions. (With the `tracing` feature the layers log by themselves.)
fn logged<B>(response: Response<B>) -> Response<B> {
    if let Some(rejection) = response.extensions().get::<Rejection>() {
        let (layer, reason) = (rejection.layer(), rejection.reason().as_str());
        tracing::warn!(
            layer,
            reason,
            status = response.status().as_u16(),
            "rejected"
        );
    }
    response
}

fn log_panic(panic: &PanicReport<'_>) {
    let uri = panic.request().map(|request| &request.uri);
    tracing::error!(?uri, message = panic.message(), "panicked");
}

/// Keeps a worker busy, as a handler that computes does.
#[expect(clippy::disallowed_methods, reason = "burning time is the purpose")]
async fn work(Query(Millis { ms }): Query<Millis>) -> String {
    let start = std::time::Instant::now();
    let mut rounds = 0_u64;
    while start.elapsed() < Duration::from_millis(ms) {
        rounds = std::hint::black_box(rounds + 1);
    }
    format!("{rounds} rounds\n")
}

async fn sleep(Query(Millis { ms }): Query<Millis>) -> String {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("slept {ms} ms\n")
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

/// Ctrl-C, or SIGTERM where there is such a thing.
async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = tokio::signal::ctrl_c().await;
    tracing::info!("stopping");
}

fn ten() -> u64 {
    10
}

fn hundred() -> u64 {
    100
}
