//! Every layer in one `ServiceBuilder` with the layers of other crates: the types fit.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::Request;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::TokioExecutor;
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimit, ConcurrencyLimitLayer,
    LagShed, LagShedLayer, RequestHead, RequestLimit, RequestLimitLayer, RequestLimitSettings,
    TimeoutLayer,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic_health::pb::health_client::HealthClient;
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_http::cors::CorsLayer;
use tower_http::validate_request::ValidateRequestHeaderLayer;

use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

fn routes() -> Router {
    Router::new().route("/", get(async || "hello"))
}

async fn status(app: Router, authorization: Option<&str>) -> u16 {
    let mut client = Client::connect(serve(app).await, Version::Http1).await;
    let mut request = client.request("GET", "/", Body::empty());
    if let Some(value) = authorization {
        let headers = request.headers_mut();
        headers.insert("authorization", value.parse().unwrap());
    }
    client.send(request).await.unwrap().status().as_u16()
}

/// A layer that makes its responses with `Default` can make those of this crate.
#[tokio::test]
async fn inside_layers_that_answer_by_default() {
    let limit = ConcurrencyLimit::from(1);
    let app = routes().layer(
        ServiceBuilder::new()
            .layer(CorsLayer::very_permissive())
            .layer(ConcurrencyLimitLayer::new(limit.clone())),
    );
    assert_eq!(status(app.clone(), None).await, 200);
    let permit = limit.try_acquire().unwrap();
    assert_eq!(status(app, None).await, 503);
    drop(permit);

    #[expect(deprecated, reason = "many still use it")]
    let bearer = ValidateRequestHeaderLayer::bearer("secret");
    let app = routes().layer(
        ServiceBuilder::new()
            .layer(bearer)
            .layer(TimeoutLayer::new(SECOND))
            .layer(seawall::server().build().unwrap()),
    );
    assert_eq!(status(app.clone(), None).await, 401);
    assert_eq!(status(app, Some("Bearer secret")).await, 200);
}

/// `option_layer` needs the same types with the layer and without it.
#[tokio::test]
async fn as_an_optional_layer() {
    for is_on in [false, true] {
        let limit = ConcurrencyLimit::from(1);
        let layer = ConcurrencyLimitLayer::new(limit.clone()).response_body(Body::new);
        let timeout = TimeoutLayer::new(SECOND)
            .including_body()
            .response_body(Body::new);
        let requests = RequestLimitLayer::new(1000)
            .request_body(Body::new)
            .response_body(Body::new);
        let stack = seawall::server().build().unwrap();
        let stack = stack.request_body(Body::new).response_body(Body::new);
        let app = routes().layer(
            ServiceBuilder::new()
                .option_layer(is_on.then_some(stack))
                .option_layer(is_on.then_some(timeout))
                .option_layer(is_on.then_some(layer))
                .option_layer(is_on.then_some(requests)),
        );
        let _permit = limit.try_acquire().unwrap();
        assert_eq!(status(app, None).await, if is_on { 503 } else { 200 });
    }
}

/// The same exemption on every layer.
#[tokio::test]
async fn exempt_on_every_layer() {
    let is_root = |head: &RequestHead<'_>| head.path() == "/";
    let limit = ConcurrencyLimit::from(1);
    let breaker = CircuitBreaker::default();
    breaker.force_open();
    let app = Router::new()
        .route("/", get(async |_: axum::body::Bytes| "hello"))
        .layer(
            ServiceBuilder::new()
                .layer(CatchPanicLayer::new().exempt(is_root))
                .layer(LagShedLayer::new(LagShed::default()).exempt(is_root))
                .layer(CircuitBreakerLayer::new(breaker).exempt(is_root))
                .layer(TimeoutLayer::new(Duration::ZERO).exempt(is_root))
                .layer(ConcurrencyLimitLayer::new(limit.clone()).exempt(is_root))
                .layer(
                    RequestLimitLayer::new(
                        RequestLimit::new(RequestLimitSettings::new(1000).max_uri(0)).unwrap(),
                    )
                    .exempt(is_root),
                ),
        );
    let _permit = limit.try_acquire().unwrap();
    assert_eq!(status(app, None).await, 200);
}

/// A tonic client with an interceptor, on a channel behind the layers of this crate.
#[tokio::test]
async fn under_a_client_of_tonic_with_an_interceptor() {
    let (listener, address) = listen().await;
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let layered = ServiceBuilder::new()
        .layer(seawall::client().build().unwrap())
        .service(channel);
    let mut client = HealthClient::with_interceptor(layered, |request: tonic::Request<()>| {
        Ok::<_, tonic::Status>(request)
    });
    let request = tonic_health::pb::HealthCheckRequest {
        service: String::new(),
    };
    let response = client.check(request).await.unwrap();
    assert_eq!(response.into_inner().status, 1);
}

/// A handler converts an error, and rustc must see that its future is `Send`.
#[tokio::test]
async fn under_map_err_in_a_handler_and_a_task() {
    let backend = serve(routes()).await;
    let client = ServiceBuilder::new()
        .map_err(BoxError::from)
        .layer(CircuitBreakerLayer::new(CircuitBreaker::default()))
        .layer(TimeoutLayer::new(PATIENCE))
        .layer(ConcurrencyLimitLayer::new(8))
        .service(Pool::builder(TokioExecutor::new()).build_http::<Body>());
    let request = move || {
        let request = Request::get(format!("http://{backend}/"));
        request.body(Body::empty()).unwrap()
    };
    let handled = client.clone();
    let app = Router::new().route(
        "/",
        get(move || async move {
            let response = handled.clone().oneshot(request()).await;
            response.map_or(http::StatusCode::BAD_GATEWAY, |response| response.status())
        }),
    );
    assert_eq!(status(app, None).await, 200);
    let task = tokio::spawn(async move { client.oneshot(request()).await.map(drop) });
    task.await.unwrap().unwrap();
}
