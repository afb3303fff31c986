//! An axum server in production: settings from a file, drain, health checks, metrics and drills.
//!
//! ```text
//! cargo run --release --example production --features metrics,serde,tracing
//! curl -X POST localhost:3001/settings/reload   # reads the file of --settings again
//! curl localhost:3001/readyz                    # 503 once it drains
//! curl localhost:3001/{statusz,metrics}         # what every part is doing; ops/ has alerts
//! curl -X POST localhost:3001/drills/open       # /orders is 503; /drills/reset ends it
//! curl -X POST localhost:3001/drills/shed/true  # all is 503; /drills/shed/false ends it
//! ```
//!
//! At SIGTERM it drains. `.ci/production` shows that no request of a load test is lost.

use std::{fs, path::PathBuf, time::Duration};

use axum::routing::{get, post};
use axum::{Router, extract::Path, http::StatusCode};
use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;
use seawall::{CircuitBreaker, CircuitBreakerLayer, Health, Registry, SlowPoll, observe::BUCKETS};
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
    /// TOML with settings of the stack, such as `[timeout]` with `duration = "5s"`.
    #[arg(long)]
    settings: Option<PathBuf>,
    /// How long the requests in flight have after the lame-duck time.
    #[arg(long, default_value = "20s")]
    grace: humantime::Duration,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    tracing_subscriber::fmt().init();
    let prometheus = PrometheusBuilder::new().set_buckets(&BUCKETS)?;
    let metrics = prometheus.install_recorder()?;
    let database = CircuitBreaker::default().named("database");
    let stack = seawall::server().named("orders");
    let stack = stack.policy(SlowPoll::default()).build()?;
    let (tuned, file) = (stack.clone(), args.settings);
    let load = move || -> Result<String, BoxError> {
        let text = file.as_ref().map(fs::read_to_string).transpose()?;
        let settings = toml::from_str(&text.unwrap_or_default())?;
        Ok(tuned.apply(&settings)?.to_string()) // all of it, or an error and nothing
    };
    println!("settings: {}", load()?);
    let registry = Registry::new();
    registry.add("server", &stack)?;
    registry.add("database", &database)?;
    let orders = get(async || {
        tokio::time::sleep(Duration::from_millis(20)).await; // a call to the database
        "an order\n"
    });
    let orders = orders.layer(CircuitBreakerLayer::new(database.clone()));
    let app = Router::new()
        .route("/", get(async || "hello\n"))
        .route("/orders", orders)
        .layer(stack.clone());
    let health = Health::new(stack.drain().clone())
        .status(move || serde_json::to_string(&registry.snapshot()));
    let (open, lag_shed) = (database.clone(), stack.lag_shed().clone());
    let shed = async move |Path(on)| lag_shed.force_shedding(on);
    let reload = async move || load().map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()));
    let admin = Router::new()
        .route("/metrics", get(async move || metrics.render()))
        .route("/settings/reload", post(reload))
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
        terminate.recv().await;
        drain.begin();
    });
    let serve = |shutdown| axum::serve(listener, app).with_graceful_shutdown(shutdown);
    println!(
        "drained: {}",
        stack.drain().serve(serve, args.grace.into()).await?
    );
    Ok(())
}
