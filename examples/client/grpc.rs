//! A tonic channel for each host, with the host's breaker around it.

use std::collections::HashMap;
use std::net::SocketAddr;

use axum::Router;
use axum::middleware::from_fn;
use futures_util::future::BoxFuture;
use seawall::{CircuitBreakerLayer, ConcurrencyLimitLayer, TimeoutLayer};
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tower::{BoxError, ServiceBuilder};

use super::patient::{GreeterClient, GreeterServer, HelloRequest, Patient};
use super::{Hosts, Mood, Parts};

pub(super) fn routes(mood: Mood) -> Router {
    let failed = || Status::internal("as you wished").into_http();
    Routes::new(GreeterServer::new(Patient))
        .into_axum_router()
        .layer(from_fn(move |request, next| {
            mood.clone().answer(request, next, failed)
        }))
}

/// Makes a call, and says what became of it in a word.
pub(super) fn client(
    parts: &Parts,
    hosts: Hosts,
) -> Result<impl Fn(SocketAddr) -> BoxFuture<'static, String> + use<>, BoxError> {
    let mut clients = HashMap::new();
    for (_, address) in hosts {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let breaker = parts.breakers.get(&address.to_string().parse()?);
        let channel = ServiceBuilder::new()
            .layer(CircuitBreakerLayer::new(breaker))
            .layer(TimeoutLayer::new(parts.timeout))
            .layer(ConcurrencyLimitLayer::new(parts.limit.clone()))
            .service(endpoint.connect_lazy());
        clients.insert(address, GreeterClient::new(channel));
    }
    Ok(move |address| -> BoxFuture<'static, String> {
        let mut client = clients[&address].clone();
        Box::pin(async move {
            match client.hello(HelloRequest::default()).await {
                Ok(_) => "OK".to_owned(),
                // A refusal and a time-out are answers here, as if the server had given them.
                Err(status) if status.code() == Code::Unavailable => {
                    format!("refused: {}", status.message())
                }
                Err(status) => format!("{:?}: {}", status.code(), status.message()),
            }
        })
    })
}
