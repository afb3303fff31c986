//! The gRPC service of the servers: each request contains its delay and the behaviour of the
//! handler.

#[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated")]
pub mod greeter;

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use seawall::Deadline;
use tonic::{Request, Response, Status, Streaming};

use self::greeter::greeter_server::Greeter;
pub use self::greeter::{
    HelloReply, HelloRequest, greeter_client::GreeterClient, greeter_server::GreeterServer,
};

/// Behaves as the request asks, after its delay.
#[derive(Clone, Copy, Debug)]
pub struct Patient;

async fn reply(request: HelloRequest, what: &str) -> HelloReply {
    tokio::time::sleep(Duration::from_millis(request.delay_ms)).await;
    super::compute(Duration::from_millis(request.work_ms));
    assert!(!request.panic, "as you wished");
    let name = request.name.chars().take(100).collect::<String>();
    HelloReply {
        message: format!("{what}, {name}"),
    }
}

#[tonic::async_trait]
impl Greeter for Patient {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        // The time that a call to another service would get, which is at most the caller's timeout.
        let left = request.extensions().get::<Deadline>().map(|deadline| {
            let left = deadline.to_grpc_timeout();
            format!(", {} left", left.to_str().unwrap_or_default())
        });
        let mut reply = reply(request.into_inner(), "hello").await;
        reply.message += left.as_deref().unwrap_or_default();
        Ok(Response::new(reply))
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
