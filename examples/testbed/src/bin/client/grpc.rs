//! A tonic channel for each host, behind a stack with the breaker of the host.

use std::collections::HashMap;
use std::net::SocketAddr;

use axum::Router;
use axum::middleware::from_fn;
use futures_util::future::BoxFuture;
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tower::{BoxError, ServiceBuilder};

use super::{Hosts, Mood, Parts};
use testbed::patient::{GreeterClient, GreeterServer, HelloRequest, Patient};

pub(super) fn routes(mood: Mood) -> Router {
    let failed = || Status::internal("as requested").into_http();
    Routes::new(GreeterServer::new(Patient))
        .into_axum_router()
        .layer(from_fn(move |request, next| {
            mood.clone().answer(request, next, failed)
        }))
}

/// Makes a call, and describes the result in a word.
pub(super) fn client(
    parts: &Parts,
    hosts: Hosts,
) -> Result<impl Fn(SocketAddr) -> BoxFuture<'static, String> + use<>, BoxError> {
    let mut clients = HashMap::new();
    for (_, address) in hosts {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        // A generated client makes requests without an authority, so `per_host` would find none.
        let breaker = parts.breakers.get_or_insert(&address.to_string().parse()?);
        let stack = seawall::client()
            .circuit_breaker(breaker)
            .timeout(parts.timeout)
            .concurrency_limit(parts.limit.clone()) // one limit for both hosts
            .build()?;
        let channel = ServiceBuilder::new()
            .layer(stack)
            .service(endpoint.connect_lazy());
        clients.insert(address, GreeterClient::new(channel));
    }
    Ok(move |address| -> BoxFuture<'static, String> {
        let mut client = clients[&address].clone();
        Box::pin(async move {
            match client.hello(HelloRequest::default()).await {
                Ok(_) => "OK".to_owned(),
                // Rejections and timeouts are statuses here, as if the server had sent them.
                Err(status) if status.code() == Code::Unavailable => {
                    format!("rejected: {}", status.message())
                }
                Err(status) => format!("{:?}: {}", status.code(), status.message()),
            }
        })
    })
}
