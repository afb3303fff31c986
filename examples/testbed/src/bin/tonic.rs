//! For manual tests and load tests of every layer under tonic, with a breaker and a health service.
//!
//! Call it with Python's grpcio, or any gRPC client for `examples/testbed/greeter.proto`:
//!
//! ```text
//! cargo run --release -p testbed --bin tonic -- --concurrency 16
//!
//! python3 -m pip install grpcio
//! greeter='python3 examples/testbed/greeter.py localhost:3000'
//! $greeter hello                              # OK, and the time that is left
//! $greeter hello --timeout-ms 1000            # OK, and less time is left
//! $greeter hello --delay-ms 6000              # DEADLINE_EXCEEDED after 5 s
//! $greeter hello --panic                      # INTERNAL
//! $greeter hello --bytes 3000000              # RESOURCE_EXHAUSTED: too large
//! $greeter stream --count 0 --delay-ms 100    # DEADLINE_EXCEEDED after 5 s of messages
//! $greeter chat --count 3                     # OK
//! $greeter health                             # SERVING, and NOT_SERVING after SIGTERM
//! $greeter hello --calls 200 --delay-ms 500   # OK and RESOURCE_EXHAUSTED, with a pushback
//!
//! # Started again, with more permits than calls:
//! cargo run --release -p testbed --bin tonic -- --concurrency 4096
//! $greeter hello --calls 1000 --work-ms 20    # OK and UNAVAILABLE: the runtime is behind
//!
//! # Started again, as successful calls stay in the breaker's window for ten seconds:
//! cargo run --release -p testbed --bin tonic
//! $greeter hello --calls 20 --panic           # INTERNAL, often enough for the breaker
//! $greeter hello                              # UNAVAILABLE: the circuit is open
//! ```
//!
//! The flags are in `--help`. The layers log. At Ctrl-C or SIGTERM the
//! server drains: it serves for one more second, and then waits for the calls in flight.

use std::time::Duration;

use clap::Parser;
use futures_util::{StreamExt, stream};
use seawall::{CircuitBreaker, CircuitBreakerLayer};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::LayerExt;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tower::{BoxError, ServiceBuilder};

use testbed::patient::{GreeterServer, Patient};

/// A tonic server behind the recommended stack of seawall.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: testbed::Common,
    /// The longest silence of a request that a handler waits for, in milliseconds; 0 is no limit,
    /// as chats may be silent.
    #[arg(long, default_value_t = 0)]
    body_idle_ms: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let Args {
        common,
        body_idle_ms,
    } = Args::parse();
    let mut requests = common.request_limit();
    if body_idle_ms > 0 {
        requests = requests.body_idle_timeout(Duration::from_millis(body_idle_ms));
    }
    let drain = common.drain()?;
    let stack = common
        .server(&drain, requests)
        .response_body_timeout(common.response_bodies().deadline(true))
        .expose_deadline()
        .keep_requests()
        .build()?;

    // Around this service only: clients may watch the health service without a bound.
    let greeter = ServiceBuilder::new()
        // The stack of a server has no breaker. This one sees the streams that the timeout ends.
        .layer(CircuitBreakerLayer::new(CircuitBreaker::default()))
        .layer(stack)
        .named_layer(GreeterServer::new(Patient).max_decoding_message_size(usize::MAX));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<GreeterServer<Patient>>().await;
    let started = drain.started();
    tokio::spawn(async move {
        started.await;
        health.set_not_serving::<GreeterServer<Patient>>().await;
        // The name of the whole server.
        health
            .set_service_status("", ServingStatus::NotServing)
            .await;
    });

    let incoming = TcpListenerStream::new(common.listen().await?);
    let (streams, window) = (testbed::STREAMS, testbed::STREAM_WINDOW);
    let server = Server::builder()
        .max_concurrent_streams(streams)
        .initial_stream_window_size(window)
        .initial_connection_window_size(streams * window)
        .add_service(health_service)
        .add_service(greeter);
    let serve = |shutdown| {
        // At the signal, the stream ends and closes the socket. Tonic then shuts down.
        let incoming = stream::unfold(
            (incoming, shutdown),
            async |(mut incoming, mut shutdown)| {
                tokio::select! {
                    Some(connection) = incoming.next() => Some((connection, (incoming, shutdown))),
                    () = &mut shutdown => None,
                }
            },
        );
        server.serve_with_incoming_shutdown(incoming, std::future::pending())
    };
    common.drained(&drain, serve).await?;
    Ok(())
}
