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
//! curl -i -H "x: $(head -c 17000 /dev/zero | tr '\0' x)" localhost:3000/  # 431
//! curl -i 'localhost:3000/deadline'                                      # what is left for somebody further on
//! curl -i 'localhost:3000/stream?chunks=100'                             # with --including-body: cut after 5 s
//! hey -c 1440 -z 5s 'http://localhost:3000/sleep?ms=100'                 # 200 and 503: too many at once
//! hey -c 400 -z 5s -t 1 'http://localhost:3000/work?ms=5'                # 200 and 503: the runtime is behind
//! curl -i localhost:3000/health                                          # 200, meanwhile
//! ```
//!
//! The flags are in `--help`. Ctrl-C and SIGTERM stop it when the requests under way are done.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query};
use axum::http::Response;
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use clap::Parser;
use futures_util::{StreamExt, stream};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use seawall::{
    CatchPanicLayer, ConcurrencyLimit, ConcurrencyLimitLayer, Deadline, LagShed, LagShedLayer,
    PanicReport, Rejection, RequestHead, RequestLimitLayer, TimeoutLayer,
};
use tokio::net::TcpListener;
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
    /// The longest silence of a body, in milliseconds, the request's and the response's.
    #[arg(long, default_value_t = 3000)]
    body_idle_ms: u64,
    /// How long a request body may take, in milliseconds, once the handler waits for it.
    #[arg(long, default_value_t = 60_000)]
    body_deadline_ms: u64,
    /// How fast a request body must come, in bytes a second on average, after five seconds of grace.
    #[arg(long, default_value_t = 500)]
    body_rate: u64,
    /// The largest headers, in bytes, names and values together.
    #[arg(long, default_value_t = 16 * 1024)]
    max_headers: u64,
    /// The longest path and query, in bytes.
    #[arg(long, default_value_t = 8 * 1024)]
    max_uri: u64,
    /// The time is for the response body as well.
    #[arg(long)]
    including_body: bool,
    /// How long a client has to send its headers, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    header_read_ms: u64,
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
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    serve(
        listener,
        app(&args)?,
        Duration::from_millis(args.header_read_ms),
    )
    .await;
    Ok(())
}

/// As `axum::serve` does, but with a time for the headers, which no layer can bound: there is no request yet.
async fn serve(listener: TcpListener, app: Router, header_read: Duration) {
    let mut server = Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new()) // without it the time below would be ignored, or panic
        .header_read_timeout(header_read);
    server.http2().timer(TokioTimer::new());
    let connections = GracefulShutdown::new();
    let mut stopped = pin!(stopped());
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = &mut stopped => break,
        };
        let Ok((connection, _)) = connection else {
            tokio::time::sleep(Duration::from_millis(100)).await; // out of file descriptors, most likely
            continue;
        };
        let _ = connection.set_nodelay(true);
        let service = TowerToHyperService::new(app.clone());
        let connection = server
            .serve_connection_with_upgrades(TokioIo::new(connection), service)
            .into_owned();
        tokio::spawn(connections.watch(connection));
    }
    connections.shutdown().await;
}

fn app(args: &Args) -> Result<Router, seawall::ConfigError> {
    let max_wait = Duration::from_millis(args.max_wait_ms);
    let limit = ConcurrencyLimit::try_new(args.concurrency)?.wait(args.wait, max_wait);
    let is_health = |head: &RequestHead<'_>| head.uri.path() == "/health";
    let body_idle = Duration::from_millis(args.body_idle_ms);
    let requests = RequestLimitLayer::new(args.body_limit)
        .headers(args.max_headers, 100)
        .uri(args.max_uri)
        .body_idle(body_idle)
        .body_deadline(Duration::from_millis(args.body_deadline_ms))
        .body_rate(args.body_rate, Duration::from_secs(5));
    let timeout = TimeoutLayer::new(Duration::from_millis(args.timeout_ms))
        .expose_deadline()
        .body_idle(body_idle);
    let timeout = if args.including_body {
        timeout.including_body()
    } else {
        timeout
    };

    Ok(Router::new()
        .route("/", get(async || "hello\n"))
        .route("/health", get(async || "ok\n"))
        .route("/work", any(work))
        .route("/sleep", any(sleep))
        .route("/stream", get(stream))
        .route("/deadline", get(deadline))
        .route("/echo", post(async |body: Bytes| body))
        .route("/upload", post(upload))
        .route("/panic", any(async || -> &str { panic!("as you wished") }))
        .route("/panic-body", get(panic_body))
        .layer(DefaultBodyLimit::disable()) // axum's own 2 MB: the layer below decides
        .layer(
            ServiceBuilder::new()
                .map_response(logged)
                .layer(CatchPanicLayer::new().on_panic(log_panic))
                .layer(LagShedLayer::new(LagShed::default()).exempt(is_health))
                .layer(timeout)
                .layer(ConcurrencyLimitLayer::new(limit).exempt(is_health))
                .layer(requests),
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
