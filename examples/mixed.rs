//! REST and gRPC on one port, behind one wall: each gets its own kind of answer.
//!
//! ```text
//! cargo run --release --example mixed -- --concurrency 16
//!
//! curl -i localhost:3000/                                               # 200
//! curl -i localhost:3000/sleep?ms=6000                                  # 504 after 5 s, application/problem+json
//! python3 examples/greeter.py localhost:3000 hello --delay-ms 6000      # DEADLINE_EXCEEDED after 5 s
//! hey -c 1440 -z 5s 'http://localhost:3000/sleep?ms=100'                # 200 and 503: too many at once
//! python3 examples/greeter.py localhost:3000 hello --calls 200 --delay-ms 500  # OK and RESOURCE_EXHAUSTED
//! curl -i localhost:3000/health                                         # 200, meanwhile
//! ```
//!
//! The flags are in `--help`. Ctrl-C and SIGTERM stop it when the requests under way are done.

mod common;
#[path = "common/patient.rs"]
mod patient;

use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use clap::Parser;
use seawall::{
    CatchPanicLayer, ConcurrencyLimitLayer, LagShed, LagShedLayer, RequestHead, TimeoutLayer,
};
use tonic::service::Routes;
use tower::{BoxError, ServiceBuilder};

use self::patient::{GreeterServer, Patient};

/// An axum router and a tonic service behind the layers of seawall.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: common::Common,
}

#[derive(serde::Deserialize)]
struct Millis {
    ms: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let Args { common } = Args::parse();
    let is_health = |head: &RequestHead<'_>| head.uri.path() == "/health";
    let rest = Router::new()
        .route("/", get(async || "hello\n"))
        .route("/health", get(async || "ok\n"))
        .route("/sleep", get(sleep));
    let grpc = Routes::new(GreeterServer::new(Patient)).into_axum_router();
    let service = ServiceBuilder::new()
        .map_response(common::logged)
        .layer(CatchPanicLayer::new().on_panic(common::log_panic))
        .layer(LagShedLayer::new(LagShed::default()).exempt(is_health))
        .layer(
            TimeoutLayer::new(common.timeout())
                .including_body()
                .expose_deadline(),
        )
        .layer(ConcurrencyLimitLayer::new(common.limit()?).exempt(is_health))
        .layer(common.requests())
        // Tonic's router answers what it does not know in gRPC: so the rest comes first.
        .service(rest.fallback_service(grpc));
    let listener = common.listen().await?;
    common.serve(listener, service).await;
    Ok(())
}

async fn sleep(Query(Millis { ms }): Query<Millis>) -> String {
    let ms = ms.unwrap_or(100);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("slept {ms} ms\n")
}
