//! For production: an axum server with settings in a file, a drain, health checks and metrics.
//!
//! ```text
//! cargo run --release --example production --features metrics,serde,tracing
//! curl -X POST localhost:3001/settings/reload   # reads the file of --settings again
//! curl localhost:3001/{readyz,statusz,metrics}  # readyz is 503 after SIGTERM; ops/ has alerts
//! hey -c 500 -z 10s http://localhost:3000/report  # an overload: most requests are 503
//! curl -X POST localhost:3001/drills/open       # /orders is 503; /drills/reset ends it
//! curl -X POST localhost:3001/drills/shed/true  # all is 503; /drills/shed/false ends it
//! ```

use std::{fs, hint::black_box, path::PathBuf, sync::Mutex, time::Duration};

use axum::routing::{get, post};
use axum::{Router, extract::Path, http::StatusCode};
use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;
use seawall::stack::Settings;
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
    let prometheus = PrometheusBuilder::new().set_buckets(BUCKETS)?;
    let metrics = prometheus.install_recorder()?;
    let database = CircuitBreaker::default().named("database");
    let stack = seawall::server().named("orders");
    let stack = stack.policy(SlowPoll::default()).build()?;
    let (tuned, code, file) = (stack.handle(), stack.settings(), args.settings);
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let load = move || -> Result<String, BoxError> {
        let _one = ONE_AT_A_TIME.lock(); // a file that was read later is applied later
        let text = file.as_ref().map(fs::read_to_string).transpose()?;
        let settings: Settings = toml::from_str(&text.unwrap_or_default())?;
        // A part that is not in the file is that of the code. In a table with more than a mode, a
        // field that is left out has its default. An error changes nothing.
        Ok(tuned.apply(&settings.or(&code))?.to_string())
    };
    println!("settings: {}", load()?);
    let registry = Registry::new();
    registry.add("server", &stack)?;
    registry.add("database", &database)?;
    let query = || tokio::time::sleep(Duration::from_millis(20)); // a call to the database
    let orders = get(async move || query().await);
    let orders = orders.layer(CircuitBreakerLayer::new(database.clone()));
    let computed = || (0..5_000_000_u64).fold(0, |sum, number| black_box(sum ^ number));
    let report = get(async move || format!("a report: {}\n", computed()));
    let app = Router::new()
        .route("/orders", orders)
        .route("/report", report)
        .layer(stack.clone());
    let health = Health::new(stack.drain().clone())
        .status(move || serde_json::to_string(&registry.snapshot()));
    let (open, lag_shed) = (database.clone(), stack.lag_shed().clone());
    let shed = async move |Path(on)| lag_shed.force_shedding(on);
    let reload = async move || load().map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()));
    let upkeep = metrics.clone();
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
        let every = Duration::from_secs(5);
        while tokio::time::timeout(every, terminate.recv()).await.is_err() {
            upkeep.run_upkeep(); // bounds the memory for histograms
        }
        drain.begin();
        terminate.recv().await; // a second signal ends the process
        std::process::exit(1);
    });
    let serve = |shutdown| axum::serve(listener, app).with_graceful_shutdown(shutdown);
    let report = stack.drain().serve(serve, args.grace.into()).await?;
    println!("drained: {report}");
    Ok(())
}
