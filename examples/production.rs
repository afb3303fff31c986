//! A service as it is operated: an axum server behind the recommended stack, with a drain, and an
//! admin listener for health checks, metrics, status and drills.
//!
//! ```text
//! cargo run --release --example production --features metrics,serde,tracing
//!
//! curl localhost:3000/orders                    # through a circuit breaker
//! curl localhost:3001/readyz                    # 503 once it drains
//! curl localhost:3001/{statusz,metrics}         # what every part is doing; ops/ has alerts
//! curl -X POST localhost:3001/drills/open       # /orders is 503, until /drills/reset
//! curl -X POST localhost:3001/drills/shed/true  # every request is 503, until /drills/shed/false
//! ```
//!
//! At SIGTERM or Ctrl-C it serves for `--lame-duck-ms` and then ends, after `--grace-ms` more at
//! the latest. `.ci/production` shows that no request of a load test is lost.

use std::time::Duration;

use axum::routing::{get, post};
use axum::{Router, extract::Path};
use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;
use seawall::{CircuitBreaker, CircuitBreakerLayer, Drain, Health, Registry, observe::BUCKETS};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower::BoxError;

#[derive(Parser)]
struct Args {
    /// Port of the service; 0 picks a free one.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Port for the operators: not to be reached from outside.
    #[arg(long, default_value_t = 3001)]
    admin_port: u16,
    /// How long requests are still served once the process is to end, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    lame_duck_ms: u64,
    /// How long the requests in flight have after that, in milliseconds.
    #[arg(long, default_value_t = 20_000)]
    grace_ms: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    tracing_subscriber::fmt().init();
    let prometheus = PrometheusBuilder::new().set_buckets(&BUCKETS)?;
    let metrics = prometheus.install_recorder()?;
    let database = CircuitBreaker::default().named("database");
    let stack = seawall::server()
        .named("orders")
        .drain(Drain::new(Duration::from_millis(args.lame_duck_ms))?)
        .build()?;
    let registry = Registry::new();
    registry.add("server", &stack)?;
    registry.add("database", &database)?;

    let orders = get(order).layer(CircuitBreakerLayer::new(database.clone()));
    let app = Router::new()
        .route("/", get(async || "hello\n"))
        .route("/orders", orders)
        .layer(stack.clone());

    let health = Health::new(stack.drain().clone())
        .status(move || serde_json::to_string(&registry.snapshot()));
    let (open, lag_shed) = (database.clone(), stack.lag_shed().clone());
    let shed = async move |Path(on)| lag_shed.force_shedding(on);
    let admin = Router::new()
        .route("/metrics", get(async move || metrics.render()))
        .route("/drills/open", post(async move || open.force_open()))
        .route("/drills/reset", post(async move || database.reset()))
        .route("/drills/shed/{on}", post(shed))
        .fallback_service(health);

    let listener = TcpListener::bind(("127.0.0.1", args.port)).await?;
    let admin_listener = TcpListener::bind(("127.0.0.1", args.admin_port)).await?;
    println!("admin on http://{}", admin_listener.local_addr()?);
    println!("listening on http://{}", listener.local_addr()?);
    // It answers until the process ends: probes have to see that it is not ready.
    tokio::spawn(async { axum::serve(admin_listener, admin).await });

    let mut terminate = signal(SignalKind::terminate())?;
    let drain = stack.drain().clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
        drain.begin();
    });
    let serve = |shutdown| axum::serve(listener, app).with_graceful_shutdown(shutdown);
    let grace = Duration::from_millis(args.grace_ms);
    println!("drained: {}", stack.drain().serve(serve, grace).await?);
    Ok(())
}

/// A call to a database that takes a while.
async fn order() -> &'static str {
    tokio::time::sleep(Duration::from_millis(20)).await;
    "an order\n"
}
