//! The common code of the servers: flags, the accept loop, the shutdown, and a gRPC service.

pub mod patient;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use seawall::drain::DrainSignal;
use seawall::stack::ServerBuilder;
use seawall::{
    ConcurrencyLimitSettings, ConfigError, Drain, RequestLimitSettings, ResponseBodyTimeoutSettings,
};
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceExt};
use tracing_subscriber::EnvFilter;

/// The number of streams of an HTTP/2 connection: hyper's default.
pub const STREAMS: u32 = 200;
/// The window of a stream. The window of the connection is `STREAMS` times as large, so that no
/// upload has to wait until another one is read.
pub const STREAM_WINDOW: u32 = 64 * 1024;

/// The flags that all servers have.
#[derive(clap::Args, Clone, Debug)]
pub struct Common {
    /// Port on 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 3000)]
    pub port: u16,
    /// The upper bound for the requests in flight. Start from the result of a load test, and round
    /// up.
    #[arg(long, default_value_t = 512)]
    pub concurrency: usize,
    /// The upper bound for queued requests: enough for a burst, not for an overload.
    #[arg(long, default_value_t = 128)]
    pub queue: usize,
    /// The longest time in the queue, in milliseconds: less than a caller notices.
    #[arg(long, default_value_t = 100)]
    pub queue_timeout_ms: u64,
    /// The time that a request has until its response head, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    pub timeout_ms: u64,
    /// The longest time for which a response waits for a client that does not read, in
    /// milliseconds.
    #[arg(long, default_value_t = 60_000)]
    pub progress_ms: u64,
    /// The largest request body, in bytes.
    #[arg(long, default_value_t = 2 * 1024 * 1024)]
    pub body_limit: u64,
    /// The largest headers, in bytes, names and values together.
    #[arg(long, default_value_t = 8 * 1024)]
    pub max_headers: u64,
    /// The longest path and query, in bytes.
    #[arg(long, default_value_t = 8 * 1024)]
    pub max_uri: u64,
    /// The time that a client has to send its headers, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    pub header_read_ms: u64,
    /// The time for which the server still serves after SIGTERM, in milliseconds, at least 1000. A
    /// load balancer needs about 5000 to notice.
    #[arg(long, default_value_t = 1000)]
    pub lame_duck_ms: u64,
    /// The time that the requests in flight have after that, in milliseconds.
    #[arg(long, default_value_t = 10_000)]
    pub grace_ms: u64,
}

impl Common {
    /// The time that a request has until its response head.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The timeouts of response bodies: the longest time for which a response waits for a client
    /// that does not read.
    pub fn response_bodies(&self) -> ResponseBodyTimeoutSettings {
        ResponseBodyTimeoutSettings::default()
            .progress_timeout(Duration::from_millis(self.progress_ms))
    }

    /// A drain with the lame-duck time of the flags.
    pub fn drain(&self) -> Result<Drain, ConfigError> {
        Drain::new(Duration::from_millis(self.lame_duck_ms))
    }

    /// The concurrency limit of the flags.
    pub fn concurrency_limit(&self) -> ConcurrencyLimitSettings {
        let queue_timeout = Duration::from_millis(self.queue_timeout_ms);
        ConcurrencyLimitSettings::fixed(self.concurrency).queue(self.queue, queue_timeout)
    }

    /// The limits of the flags for requests.
    pub fn request_limit(&self) -> RequestLimitSettings {
        RequestLimitSettings::new(self.body_limit)
            .max_header_bytes(self.max_headers)
            .max_headers(100)
            .max_uri(self.max_uri)
    }

    /// The stack of the flags. A server adds what it needs besides.
    pub fn server(&self, drain: &Drain, requests: RequestLimitSettings) -> ServerBuilder {
        seawall::server()
            .timeout(self.timeout())
            .response_body_timeout(self.response_bodies())
            .drain(drain.clone())
            .concurrency_limit(self.concurrency_limit())
            .request_limit(requests)
    }

    /// Starts logging to the standard output, and prints the address it listens on.
    pub async fn listen(&self) -> std::io::Result<TcpListener> {
        // The layers limit their own events. H2 logs faults of clients: show only its errors.
        let default = || "info,seawall=debug,h2=error".into();
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| default());
        tracing_subscriber::fmt().with_env_filter(filter).init();
        limit_panic_messages();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let listener = TcpListener::bind(address).await?;
        println!("listening on http://{}", listener.local_addr()?);
        Ok(listener)
    }

    /// Serves HTTP/1 and HTTP/2 on one port until the drain is over.
    ///
    /// Unlike `axum::serve`, it bounds the time for the headers. No layer can do that, since there
    /// is no request yet.
    pub async fn serve<S, B>(&self, drain: &Drain, listener: TcpListener, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + 'static,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let header_read = Duration::from_millis(self.header_read_ms);
        let mut server = Builder::new(TokioExecutor::new());
        server
            .http1()
            .max_buf_size(64 * 1024) // hyper's default is 400 kB for each connection
            .timer(TokioTimer::new()) // without it, the next line has no effect
            .header_read_timeout(header_read);
        server
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20)) // closes dead connections
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAMS * STREAM_WINDOW);
        let serve = async |shutdown: DrainSignal| {
            let connections = GracefulShutdown::new();
            let mut shutdown = pin!(shutdown);
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = &mut shutdown => break,
                };
                let Ok((connection, _)) = accepted else {
                    // Most likely there are no file descriptors left.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let _ = connection.set_nodelay(true);
                // Hyper's timeout for the headers starts with the first bytes, which show the HTTP
                // version. Until the first request, this flag and the timeout below bound the
                // connection.
                let has_request = Arc::new(AtomicBool::new(false));
                let seen = has_request.clone();
                let service = service.clone().map_request(move |request| {
                    seen.store(true, Relaxed);
                    request
                });
                let service = TowerToHyperService::new(service);
                let connection = server
                    .serve_connection_with_upgrades(TokioIo::new(connection), service)
                    .into_owned();
                let connection = connections.watch(connection);
                tokio::spawn(async move {
                    let mut connection = pin!(connection);
                    match tokio::time::timeout(header_read, &mut connection).await {
                        Err(_) if has_request.load(Relaxed) => drop(connection.await),
                        _ => {}
                    }
                });
            }
            drop(listener); // closes the backlog for clients that connect now
            connections.shutdown().await;
            Ok::<_, Infallible>(())
        };
        let Ok(()) = self.drained(drain, serve).await;
    }

    /// Runs a server until Ctrl-C or SIGTERM, and then drains it.
    pub async fn drained<F, S, T, E>(&self, drain: &Drain, server: F) -> Result<(), E>
    where
        F: FnOnce(DrainSignal) -> S,
        S: IntoFuture<Output = Result<T, E>>,
    {
        let begins = drain.clone();
        tokio::spawn(async move {
            stopped().await;
            tracing::info!("stopping");
            begins.begin();
        });
        let grace = Duration::from_millis(self.grace_ms);
        let report = drain.serve(server, grace).await?;
        if !report.is_clean() {
            tracing::warn!("the grace period is over: {report}");
        }
        Ok(())
    }
}

/// Ends at Ctrl-C, or at SIGTERM where the system has it.
pub async fn stopped() {
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
}

/// Prints where a panic happened, at most four times a second, since clients can cause many panics.
/// The layer reports the message of the panic.
#[expect(
    clippy::disallowed_methods,
    reason = "a log has the time of the system"
)]
fn limit_panic_messages() {
    static LAST: AtomicU64 = AtomicU64::new(0);
    std::panic::set_hook(Box::new(|panic| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let quarter = now.map_or(0, |now| now.as_millis() as u64 / 250);
        if LAST.swap(quarter, Relaxed) != quarter {
            let place = panic.location().map(ToString::to_string);
            tracing::error!(place, "panicked");
        }
    }));
}

/// Keeps a worker busy, like a handler that computes. It takes at most a second, so that no request
/// delays the shutdown for longer.
#[expect(clippy::disallowed_methods, reason = "burning time is the purpose")]
pub fn compute(time: Duration) -> u64 {
    let time = time.min(Duration::from_secs(1));
    let start = std::time::Instant::now();
    let mut rounds = 0;
    while start.elapsed() < time {
        rounds = std::hint::black_box(rounds + 1);
    }
    rounds
}
