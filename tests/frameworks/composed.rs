//! The layers of this crate inside and outside common layers of other crates.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{any, get};
use futures_util::{SinkExt, StreamExt};
use seawall::circuit_breaker::CircuitBreakerReadyLayer;
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, ConcurrencyLimit,
    ConcurrencyLimitLayer, Rejection, RequestLimit, RequestLimitLayer, RequestLimitSettings,
    ResponseBodyTimeoutSettings, TimeoutLayer,
};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tower::balance::p2c::Balance;
use tower::buffer::BufferLayer;
use tower::discover::ServiceList;
use tower::load::Constant;
use tower::retry::budget::{Budget, TpsBudget};
use tower::retry::{Policy, RetryLayer};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::TraceLayer;

use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

/// More bytes than the minimum size of a compressor.
async fn large() -> String {
    "again and ".repeat(1000)
}

/// All layers of this crate as one. It is a macro, since the type of the layer has no name.
macro_rules! wall {
    ($limit:expr) => {
        ServiceBuilder::new()
            .layer(CatchPanicLayer::new())
            .layer(CircuitBreakerLayer::new(CircuitBreaker::default()))
            .layer(
                TimeoutLayer::new(5 * SECOND)
                    .response_body_timeout(
                        ResponseBodyTimeoutSettings::default()
                            .deadline(true)
                            .idle_timeout(SECOND),
                    )
                    .expose_deadline(),
            )
            .layer(ConcurrencyLimitLayer::new($limit))
            .layer(RequestLimitLayer::new(
                RequestLimit::new(RequestLimitSettings::new(1000).body_idle_timeout(SECOND))
                    .unwrap(),
            ))
    };
}

/// The layers of tower-http as one.
macro_rules! theirs {
    () => {
        ServiceBuilder::new()
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
            .layer(PropagateRequestIdLayer::x_request_id())
            .layer(TraceLayer::new_for_http())
            .layer(CorsLayer::permissive())
            .layer(CompressionLayer::new())
    };
}

/// Checks rejections, panics, compression, the request id and the CORS header, and that all permits
/// are released.
async fn works(app: Router, limit: ConcurrencyLimit) {
    let address = serve(app).await;
    for version in [Version::Http1, Version::Http2] {
        let mut client = Client::connect(address, version).await;
        for path in ["/", "/panic", "/nowhere"] {
            let mut request = client.request("GET", path, Body::empty());
            let headers = request.headers_mut();
            headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
            headers.insert("origin", HeaderValue::from_static("http://elsewhere"));
            let (response, body) = whole(client.send(request).await.unwrap()).await;
            let headers = response.headers();
            assert!(
                headers.contains_key("access-control-allow-origin"),
                "{path}"
            );
            assert!(headers.contains_key("x-request-id"), "{path}");
            match path {
                "/" => {
                    assert_eq!(headers["content-encoding"], "gzip");
                    assert!(body.len() < 1000 && !body.is_empty());
                }
                "/panic" => assert_eq!(response.status(), 500),
                _ => assert_eq!(response.status(), 404),
            }
        }
        let permits: Vec<_> = std::iter::from_fn(|| limit.try_acquire().ok()).collect();
        assert_eq!(permits.len(), 3, "every place is back");
        let (response, _) = client.get("/").await;
        assert_eq!(response.status(), 503);
    }
}

fn routes() -> Router {
    Router::new()
        .route("/", get(large))
        .route("/panic", get(async || -> &str { panic!("scripted") }))
}

#[tokio::test]
async fn inside_tower_http_s_layers() {
    let limit = ConcurrencyLimit::from(3);
    let app = routes().layer(wall!(limit.clone())).layer(theirs!());
    works(app, limit).await;
}

/// A panic inside has no id in its answer: the panic unwinds through the layer of the id, and the
/// outer layer answers.
#[tokio::test]
async fn outside_tower_http_s_layers() {
    let limit = ConcurrencyLimit::from(3);
    let app = routes()
        .layer(CatchPanicLayer::new())
        .layer(theirs!())
        .layer(wall!(limit.clone()));
    let address = serve(app).await;
    let mut client = Client::connect(address, Version::Http2).await;
    let mut request = client.request("GET", "/", Body::empty());
    let gzip = HeaderValue::from_static("gzip");
    request.headers_mut().insert("accept-encoding", gzip);
    let (response, body) = whole(client.send(request).await.unwrap()).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(body.len() < 1000 && !body.is_empty());
    assert_eq!(limit.in_flight(), 0);
    assert_eq!(client.get("/panic").await.0.status(), 500);
}

/// Axum's middleware functions take axum's body; one `map_request` converts it.
#[tokio::test]
async fn around_and_within_middleware_functions() {
    async fn marks(request: Request, next: Next) -> Response {
        let mut response = next.run(request).await;
        let rejected = response.extensions().get::<Rejection>().is_some();
        response
            .headers_mut()
            .insert("x-rejected", rejected.to_string().parse().unwrap());
        response
    }
    let limit = ConcurrencyLimit::from(3);
    let outer = routes().layer(wall!(limit.clone())).layer(from_fn(marks));
    let mut client = Client::connect(serve(outer).await, Version::Http1).await;
    assert_eq!(client.get("/").await.0.headers()["x-rejected"], "false");
    assert_eq!(client.get("/panic").await.0.headers()["x-rejected"], "true");

    let inner = routes().layer(
        ServiceBuilder::new()
            .layer(wall!(limit))
            .map_request(|request: http::Request<_>| request.map(Body::new))
            .layer(from_fn(marks)),
    );
    let mut client = Client::connect(serve(inner).await, Version::Http1).await;
    assert_eq!(client.get("/").await.0.headers()["x-rejected"], "false");
}

/// A boxed service around the layers, as `tower::buffer` makes it.
#[tokio::test]
async fn behind_a_buffer_and_a_box() {
    let limit = ConcurrencyLimit::from(1);
    let service = ServiceBuilder::new()
        .layer(BufferLayer::new(8))
        .layer(ConcurrencyLimitLayer::new(limit.clone()).plain())
        .layer(TimeoutLayer::new(SECOND).plain())
        .service(service_fn(async |n: u32| Ok::<_, BoxError>(n + 1)));
    let boxed: BoxCloneSyncService<u32, u32, BoxError> = BoxCloneSyncService::new(service);
    let calls = (0..8).map(|n| boxed.clone().oneshot(n));
    let results = futures_util::future::join_all(calls).await;
    assert!(results.iter().any(Result::is_ok));
    let _permit = limit.try_acquire().unwrap();
    let refused = boxed.clone().oneshot(1).await.unwrap_err();
    assert!(refused.downcast_ref::<Rejection>().is_some(), "{refused}");
}

/// A retry outside recognises a rejection by its extension, and does not repeat it. It repeats
/// failures, within a budget.
#[tokio::test]
async fn within_a_retry_with_a_budget() {
    #[derive(Clone)]
    struct Again(std::sync::Arc<TpsBudget>, u32);

    impl<B> Policy<http::Request<()>, http::Response<B>, Infallible> for Again {
        type Future = std::future::Ready<()>;

        fn retry(
            &mut self,
            _: &mut http::Request<()>,
            result: &mut Result<http::Response<B>, Infallible>,
        ) -> Option<Self::Future> {
            let response = result.as_ref().unwrap();
            let refused = response.extensions().get::<Rejection>().is_some();
            self.1 += 1;
            let again = response.status().is_server_error() && !refused && self.1 < 4;
            (again && self.0.withdraw()).then(|| std::future::ready(()))
        }

        fn clone_request(&mut self, _: &http::Request<()>) -> Option<http::Request<()>> {
            Some(http::Request::new(()))
        }
    }

    let settings = CircuitBreakerSettings::default().minimum_calls(3);
    let breaker = CircuitBreaker::new(settings).unwrap();
    let budget = std::sync::Arc::new(TpsBudget::default());
    let fails = service_fn(async |_: http::Request<()>| {
        let mut response = http::Response::new(Body::empty());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        Ok::<_, Infallible>(response)
    });
    let mut service = RetryLayer::new(Again(budget, 0))
        .layer(CircuitBreakerLayer::new(breaker.clone()).layer(fails));
    let response = service
        .ready()
        .await
        .unwrap()
        .call(http::Request::new(()))
        .await
        .unwrap();
    // The third failure opened the breaker. The fourth try was rejected, and was the last.
    assert_eq!(response.status(), 503);
    let now = breaker.snapshot();
    assert_eq!((now.failures, now.rejected), (3, 1));
}

/// A WebSocket through every layer: its request ends at the 101, so that neither its silence nor
/// its length counts.
#[tokio::test]
async fn a_web_socket_goes_through() {
    async fn echo(mut socket: WebSocket) {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                break;
            }
        }
    }
    let limit = ConcurrencyLimit::from(1);
    let app = Router::new()
        .route("/", any(async |up: WebSocketUpgrade| up.on_upgrade(echo)))
        .layer(wall!(limit.clone()))
        .layer(theirs!());
    let address = serve(app).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let io = TcpStream::connect(address).await.unwrap();
        let request = format!("ws://{address}/");
        let (socket, response) = tokio_tungstenite::client_async(request, io).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        sockets.push(socket);
    }
    assert_eq!(limit.in_flight(), 0);
    for mut socket in sockets {
        let long = Message::text("more than the limit of a request".repeat(100));
        socket.send(long.clone()).await.unwrap();
        let told = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
        assert_eq!(told.unwrap().unwrap(), long);
        socket.close(None).await.unwrap();
    }
}

/// Two servers, each with a breaker that a balancer can see. One of the servers fails.
#[tokio::test]
async fn under_a_balancer() {
    let fails = serve(Router::new().route("/", get(async || StatusCode::BAD_GATEWAY))).await;
    let works = serve(routes()).await;
    let settings = CircuitBreakerSettings::default().minimum_calls(3);
    let breakers = [(); 2].map(|()| CircuitBreaker::new(settings.clone()).unwrap());
    let endpoints = [fails, works]
        .into_iter()
        .zip(&breakers)
        .map(|(address, breaker)| {
            let service = ServiceBuilder::new()
                .layer(CircuitBreakerReadyLayer::new(breaker.clone()))
                .layer(TimeoutLayer::new(PATIENCE))
                .service(service_fn(move |request: http::Request<Body>| async move {
                    let mut client = Client::connect(address, Version::Http1).await;
                    client.send(request).await
                }));
            Constant::new(service, 1)
        });
    let mut balance = Balance::new(ServiceList::new::<http::Request<Body>>(
        endpoints.collect::<Vec<_>>(),
    ));
    let mut failed = 0;
    for _ in 0..50 {
        let request = http::Request::get("/")
            .header("host", "localhost")
            .body(Body::empty());
        let response = balance
            .ready()
            .await
            .unwrap()
            .call(request.unwrap())
            .await
            .unwrap();
        failed += usize::from(response.status() == StatusCode::BAD_GATEWAY);
    }
    assert_eq!((failed, breakers[0].snapshot().calls), (3, 3));
    assert_eq!(breakers[1].snapshot().totals.successes, 47);
}
