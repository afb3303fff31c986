//! For manual tests of REST and gRPC on one port behind one stack: the answer fits each request.
//!
//! ```text
//! cargo run --release -p testbed --bin mixed -- --concurrency 16
//!
//! curl -i localhost:3000/                    # 200
//! curl -i localhost:3000/sleep?ms=6000       # 504 after 5 s, application/problem+json
//! python3 examples/testbed/greeter.py localhost:3000 \
//!     hello --delay-ms 6000                  # DEADLINE_EXCEEDED after 5 s
//! hey -c 1440 -z 5s \
//!     'http://localhost:3000/sleep?ms=100'   # 200 and 503: too many at once
//! python3 examples/testbed/greeter.py localhost:3000 \
//!     hello --calls 200 --delay-ms 500       # OK and RESOURCE_EXHAUSTED
//! curl -i localhost:3000/health              # 200, meanwhile
//! ```
//!
//! The flags are in `--help`. The layers log. At Ctrl-C or SIGTERM the
//! server drains: it serves for one more second, and then waits for the requests in flight.

use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use clap::Parser;
use tonic::service::Routes;
use tower::{BoxError, Layer};

use testbed::patient::{GreeterServer, Patient};

/// An axum router and a tonic service behind the recommended stack of seawall.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: testbed::Common,
}

#[derive(serde::Deserialize)]
struct Millis {
    ms: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let Args { common } = Args::parse();
    let drain = common.drain()?;
    let stack = common
        .server(&drain, common.request_limit())
        .response_body_timeout(common.response_bodies().deadline(true))
        .expose_deadline()
        .exempt(|head| head.path() == "/health")
        .keep_requests()
        .build()?;

    let rest = Router::new()
        .route("/", get(async || "hello\n"))
        .route("/health", get(async || "ok\n"))
        .route("/sleep", get(sleep));
    let grpc = Routes::new(GreeterServer::new(Patient)).into_axum_router();
    // Tonic's router answers unknown paths in gRPC, so it is the fallback of the REST router.
    let service = stack.layer(rest.fallback_service(grpc).with_state(()));
    let listener = common.listen().await?;
    common.serve(&drain, listener, service).await;
    Ok(())
}

async fn sleep(Query(Millis { ms }): Query<Millis>) -> String {
    let ms = ms.unwrap_or(100);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("slept {ms} ms\n")
}
