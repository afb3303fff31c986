//! A tonic server behind the wall: the whole server's layers, one service's own, and a health service that is never refused.
//! With Python's grpcio, or any gRPC client for `examples/proto/greeter.proto`:
//!
//! ```text
//! cargo run --release --example tonic -- --concurrency 16
//!
//! python3 -m pip install grpcio
//! python3 examples/greeter.py localhost:3000 hello                     # OK, and what is left of the deadline
//! python3 examples/greeter.py localhost:3000 hello --timeout-ms 1000   # OK, and less is left
//! python3 examples/greeter.py localhost:3000 hello --delay-ms 6000     # DEADLINE_EXCEEDED after 5 s
//! python3 examples/greeter.py localhost:3000 hello --panic             # INTERNAL
//! python3 examples/greeter.py localhost:3000 hello --bytes 3000000     # RESOURCE_EXHAUSTED: too large
//! python3 examples/greeter.py localhost:3000 stream --count 0 --delay-ms 100  # DEADLINE_EXCEEDED after 5 s of answers
//! python3 examples/greeter.py localhost:3000 chat --count 3            # OK
//! python3 examples/greeter.py localhost:3000 hello --calls 200 --delay-ms 500 # OK and RESOURCE_EXHAUSTED, with a pushback
//!
//! # started again, with more places than calls:
//! cargo run --release --example tonic -- --concurrency 4096
//! python3 examples/greeter.py localhost:3000 hello --calls 1000 --work-ms 20  # OK and UNAVAILABLE: the runtime is behind
//!
//! # and again, as calls that were fine count for ten seconds:
//! cargo run --release --example tonic
//! python3 examples/greeter.py localhost:3000 hello --calls 20 --panic  # INTERNAL, enough for the breaker
//! python3 examples/greeter.py localhost:3000 hello                     # UNAVAILABLE: the circuit is open
//! ```
//!
//! The flags are in `--help`. Ctrl-C and SIGTERM stop it when the calls under way are done.

mod common;
#[path = "common/patient.rs"]
mod patient;

use std::time::Duration;

use clap::Parser;
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimitLayer, LagShed,
    LagShedLayer, RequestHead, TimeoutLayer,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::LayerExt;
use tonic::transport::Server;
use tower::{BoxError, ServiceBuilder};

use self::patient::{GreeterServer, Patient};

/// A tonic server behind the layers of seawall.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: common::Common,
    /// The longest silence of a request that is waited for, in milliseconds; 0 is no limit, as chats may be silent.
    #[arg(long, default_value_t = 0)]
    body_idle_ms: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let Args {
        common,
        body_idle_ms,
    } = Args::parse();
    let is_health = |head: &RequestHead<'_>| head.uri.path().starts_with("/grpc.health.");
    // Around all services.
    let wall = ServiceBuilder::new()
        .map_response(common::logged)
        .layer(CatchPanicLayer::new().on_panic(common::log_panic))
        .layer(LagShedLayer::new(LagShed::default()).exempt(is_health))
        .into_inner();
    // Around one of them.
    let greeter = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(CircuitBreaker::default()))
        .layer(
            TimeoutLayer::new(common.timeout())
                .including_body()
                .expose_deadline(),
        )
        .layer(ConcurrencyLimitLayer::new(common.limit()?))
        .layer(
            common
                .requests()
                .body_idle(Duration::from_millis(body_idle_ms)),
        )
        .into_inner()
        .named_layer(GreeterServer::new(Patient).max_decoding_message_size(usize::MAX));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<GreeterServer<Patient>>().await;

    let listener = common.listen().await?;
    Server::builder()
        .layer(wall)
        .add_service(health_service)
        .add_service(greeter)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), common::stopped())
        .await?;
    Ok(())
}
