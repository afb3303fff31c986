//! One hyper client for all hosts: its stack finds the breaker by the URI.

use std::fmt::Display;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use seawall::{Reason, Rejection};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

use super::{Mood, Parts};

pub(super) fn routes(mood: Mood) -> Router {
    let failed = || StatusCode::INTERNAL_SERVER_ERROR.into_response();
    Router::new()
        .route("/", get(async || "hello"))
        .layer(from_fn(move |request, next| {
            mood.clone().answer(request, next, failed)
        }))
}

pub(super) fn client(
    parts: &Parts,
) -> Result<impl Fn(SocketAddr) -> BoxFuture<'static, String> + use<>, BoxError> {
    let stack = seawall::client()
        .timeout(parts.timeout)
        .concurrency_limit(parts.limit.clone())
        .per_host()
        .circuit_breakers(&parts.breakers)
        .build()?;
    let client = ServiceBuilder::new()
        .layer(stack)
        .service(Client::builder(TokioExecutor::new()).build_http::<Body>());
    Ok(move |address| call(client.clone(), address))
}

/// Makes a call, and describes the result in a word.
fn call<S, B>(client: S, address: SocketAddr) -> BoxFuture<'static, String>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Display, Future: Send>,
    S: Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    Box::pin(async move {
        let request = Request::get(format!("http://{address}/")).body(Body::empty());
        let request = request.expect("an address makes a URI");
        let response = match client.oneshot(request).await {
            Ok(response) => response,
            Err(error) => return error.to_string(),
        };
        // Rejections and timeouts are responses here, with the rejection in their extensions.
        let rejection = response.extensions().get::<Rejection>();
        let reason = rejection.map(Rejection::reason);
        let status = response.status();
        let _ = response.into_body().collect().await;
        match reason {
            Some(Reason::CircuitOpen) => "rejected: the circuit is open".to_owned(),
            Some(reason) => reason.to_string(),
            None => status.to_string(),
        }
    })
}
