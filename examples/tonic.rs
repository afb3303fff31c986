//! A tonic server behind the wall: the whole server's layers, one service's own, and a health service that is never refused.
//! With Python's grpcio, or any gRPC client for `examples/proto/greeter.proto`:
//!
//! ```text
//! cargo run --release --example tonic -- --concurrency 16
//!
//! python3 -m pip install grpcio
//! python3 examples/greeter.py localhost:3000 hello                     # OK
//! python3 examples/greeter.py localhost:3000 hello --delay-ms 6000     # DEADLINE_EXCEEDED after 5 s
//! python3 examples/greeter.py localhost:3000 hello --panic             # INTERNAL
//! python3 examples/greeter.py localhost:3000 hello --bytes 3000000     # RESOURCE_EXHAUSTED: too large
//! python3 examples/greeter.py localhost:3000 stream --count 0 --delay-ms 100  # DEADLINE_EXCEEDED after 5 s of answers
//! python3 examples/greeter.py localhost:3000 chat --count 3            # OK
//! python3 examples/greeter.py localhost:3000 hello --calls 200 --delay-ms 500 # OK and RESOURCE_EXHAUSTED, with a pushback
//! ```
//!
//! The flags are in `--help`. Ctrl-C and SIGTERM stop it when the calls under way are done.

mod common;
#[path = "proto/greeter.rs"]
#[allow(
    clippy::all,
    clippy::pedantic,
    missing_docs,
    unreachable_pub,
    reason = "generated"
)]
mod greeter;

use std::pin::Pin;
use std::time::Duration;

use clap::Parser;
use futures_util::{Stream, StreamExt, stream};
use seawall::{
    CatchPanicLayer, ConcurrencyLimitLayer, Deadline, LagShed, LagShedLayer, RequestHead,
    RequestLimitLayer, TimeoutLayer,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::LayerExt;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tower::{BoxError, ServiceBuilder};

use self::greeter::greeter_server::{Greeter, GreeterServer};
use self::greeter::{HelloReply, HelloRequest};

/// A tonic server behind the layers of seawall.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: common::Common,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let Args { common } = Args::parse();
    let is_health = |head: &RequestHead<'_>| head.uri.path().starts_with("/grpc.health.");
    // Around all services.
    let wall = ServiceBuilder::new()
        .map_response(common::logged)
        .layer(CatchPanicLayer::new().on_panic(common::log_panic))
        .layer(LagShedLayer::new(LagShed::default()).exempt(is_health))
        .layer(
            TimeoutLayer::new(common.timeout())
                .including_body()
                .expose_deadline(),
        )
        .into_inner();
    // Around one of them.
    let greeter = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(common.limit()?))
        .layer(RequestLimitLayer::new(common.body_limit))
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

/// Does what it is told, when it is told.
#[derive(Clone, Copy)]
struct Patient;

async fn reply(request: HelloRequest, what: &str) -> HelloReply {
    tokio::time::sleep(Duration::from_millis(request.delay_ms)).await;
    assert!(!request.panic, "as you wished");
    let name = request.name.chars().take(100).collect::<String>();
    HelloReply {
        message: format!("{what}, {name}"),
    }
}

#[tonic::async_trait]
impl Greeter for Patient {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let left = request
            .extensions()
            .get::<Deadline>()
            .map(Deadline::remaining);
        tracing::debug!(?left, "hello");
        Ok(Response::new(reply(request.into_inner(), "hello").await))
    }

    type StreamStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let request = request.into_inner();
        let count = match request.count {
            0 => usize::MAX,
            count => count as usize,
        };
        let requests = stream::iter(std::iter::repeat_n(request, count));
        let replies = requests.then(async |request| Ok(reply(request, "again").await));
        Ok(Response::new(Box::pin(replies)))
    }

    type ChatStream = Self::StreamStream;

    async fn chat(
        &self,
        requests: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        let replies = requests
            .into_inner()
            .then(async |request| Ok(reply(request?, "you said").await));
        Ok(Response::new(Box::pin(replies)))
    }
}
