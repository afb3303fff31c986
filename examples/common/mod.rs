//! What the example servers share: where they listen, how they serve, when they stop.
#![allow(dead_code, reason = "no example uses all of it")]

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use seawall::{PanicReport, Rejection, RequestLimitLayer};
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceExt};
use tracing_subscriber::EnvFilter;

/// The flags that all servers have.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Common {
    /// Port on 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 3000)]
    pub(crate) port: u16,
    /// Requests at once. Start from what a load test shows to be enough, and round up.
    #[arg(long, default_value_t = 512)]
    pub(crate) concurrency: usize,
    /// Requests that may wait for a place: enough for a burst, not for an overload.
    #[arg(long, default_value_t = 128)]
    pub(crate) wait: usize,
    /// How long they wait, in milliseconds: less than a caller notices.
    #[arg(long, default_value_t = 100)]
    pub(crate) max_wait_ms: u64,
    /// How long a request has until its response head, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    pub(crate) timeout_ms: u64,
    /// The largest request body, in bytes.
    #[arg(long, default_value_t = 2 * 1024 * 1024)]
    pub(crate) body_limit: u64,
    /// The largest headers, in bytes, names and values together.
    #[arg(long, default_value_t = 8 * 1024)]
    pub(crate) max_headers: u64,
    /// The longest path and query, in bytes.
    #[arg(long, default_value_t = 8 * 1024)]
    pub(crate) max_uri: u64,
    /// How long a client has to send its headers, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    pub(crate) header_read_ms: u64,
}

impl Common {
    pub(crate) fn limit(&self) -> Result<seawall::ConcurrencyLimit, seawall::ConfigError> {
        let max_wait = Duration::from_millis(self.max_wait_ms);
        Ok(seawall::ConcurrencyLimit::try_new(self.concurrency)?.wait(self.wait, max_wait))
    }

    pub(crate) fn requests(&self) -> RequestLimitLayer {
        RequestLimitLayer::new(self.body_limit)
            .headers(self.max_headers, 100)
            .uri(self.max_uri)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Logs to the standard output, says where it listens, and does.
    pub(crate) async fn listen(&self) -> std::io::Result<TcpListener> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
        tracing_subscriber::fmt().with_env_filter(filter).init();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let listener = TcpListener::bind(address).await?;
        println!("listening on http://{}", listener.local_addr()?);
        Ok(listener)
    }

    /// Serves HTTP/1 and HTTP/2 on one port until it is told to stop, and then what is under way. As `axum::serve` does, but
    /// with a time for the headers, which no layer can bound: there is no request yet.
    pub(crate) async fn serve<S, B>(&self, listener: TcpListener, service: S)
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
            .timer(TokioTimer::new()) // without it hyper could not keep the time below
            .header_read_timeout(header_read);
        server
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20)); // finds peers that are gone
        let connections = GracefulShutdown::new();
        let mut stopped = pin!(stopped());
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stopped => break,
            };
            let Ok((connection, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await; // out of file descriptors, most likely
                continue;
            };
            let _ = connection.set_nodelay(true);
            // Hyper's time begins when it knows which HTTP this is: until somebody asks for something, this one counts.
            let asked = Arc::new(AtomicBool::new(false));
            let seen = asked.clone();
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
                    Err(_) if asked.load(Relaxed) => drop(connection.await),
                    _ => {}
                }
            });
        }
        connections.shutdown().await;
    }
}

/// Ctrl-C, or SIGTERM where there is such a thing.
pub(crate) async fn stopped() {
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

/// Every layer leaves its rejection in the response's extensions. (With the `tracing` feature the layers log by themselves.)
pub(crate) fn logged<B>(response: Response<B>) -> Response<B> {
    if let Some(rejection) = response.extensions().get::<Rejection>() {
        let (layer, reason) = (rejection.layer(), rejection.reason().as_str());
        let status = response.status().as_u16();
        tracing::warn!(layer, reason, status, "rejected");
    }
    response
}

/// Keeps a worker busy, as a handler that computes does.
#[expect(clippy::disallowed_methods, reason = "burning time is the purpose")]
pub(crate) fn compute(time: Duration) -> u64 {
    let start = std::time::Instant::now();
    let mut rounds = 0;
    while start.elapsed() < time {
        rounds = std::hint::black_box(rounds + 1);
    }
    rounds
}

pub(crate) fn log_panic(panic: &PanicReport<'_>) {
    let uri = panic.request().map(|request| &request.uri);
    tracing::error!(?uri, message = panic.message(), "panicked");
}
