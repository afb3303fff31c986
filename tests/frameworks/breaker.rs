//! A breaker between real servers and real clients.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::get;
use http::Request;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::TokioExecutor;
use seawall::{CircuitBreaker, CircuitBreakerLayer, CircuitState, Reason, Rejection};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::support::*;

fn breaker() -> CircuitBreaker {
    CircuitBreaker::default()
}

/// Four routes and ten connections: twenty failures on any of them open the breaker, and it rejects
/// on every route and every connection.
#[tokio::test]
async fn one_breaker_over_four_routes_and_ten_connections_is_one() {
    for version in [Version::Http1, Version::Http2] {
        let breaker = breaker();
        let calls = Arc::new(AtomicUsize::new(0));
        let mut app = Router::new();
        for path in ["/0", "/1", "/2", "/3"] {
            let calls = calls.clone();
            let handler = get(async move || {
                calls.fetch_add(1, SeqCst);
                StatusCode::INTERNAL_SERVER_ERROR
            });
            app = app.route(
                path,
                handler.layer(CircuitBreakerLayer::new(breaker.clone())),
            );
        }
        let address = serve(app).await;
        let mut clients = Vec::new();
        for _ in 0..10 {
            clients.push(Client::connect(address, version).await);
        }
        for n in 0..20 {
            let (response, _) = clients[n % 10].get(&format!("/{}", n % 4)).await;
            assert_eq!(response.status(), 500, "{version:?} {n}");
        }
        assert!(matches!(breaker.state(), CircuitState::Open { .. }));
        for (n, client) in clients.iter_mut().enumerate() {
            let (response, _) = client.get(&format!("/{}", n % 4)).await;
            assert_eq!(response.status(), 503, "{version:?} {n}");
            assert!(response.headers().contains_key("retry-after"));
        }
        assert_eq!(calls.load(SeqCst), 20);
        assert_eq!(breaker.snapshot().rejected, 10);
    }
}

/// A classifier, a closure or one of tower-http's, fits `Router::layer`.
#[tokio::test]
async fn a_classifier_fits_a_router() {
    let breaker = breaker();
    let layer = CircuitBreakerLayer::new(breaker.clone())
        .classify(|head| (head.status == 404).then_some(seawall::Outcome::Failure));
    let app = Router::new()
        .route("/", get(async || StatusCode::NOT_FOUND))
        .layer(layer);
    #[cfg(feature = "tower-http-06")]
    let app = app.layer(
        CircuitBreakerLayer::new(CircuitBreaker::default()).classify_with(
            tower_http::classify::StatusInRangeAsFailures::new(500..=599),
        ),
    );
    #[cfg(feature = "tower-http-07")]
    let app = app.layer(
        CircuitBreakerLayer::new(CircuitBreaker::default()).classify_with(
            tower_http_07::classify::StatusInRangeAsFailures::new(500..=599),
        ),
    );
    let mut client = Client::connect(serve(app).await, Version::Http1).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.0.status(), 404);
    }
    assert_eq!(client.get("/").await.0.status(), 503);
    assert_eq!(breaker.snapshot().failures, 20);
}

/// Around hyper-util's client: errors of the connection are failures, and a rejection is a
/// response.
#[tokio::test]
async fn around_a_client() {
    let (listener, address) = listen().await;
    drop(listener); // the port is closed
    let breaker = breaker();
    let pool = Pool::builder(TokioExecutor::new()).build_http::<Body>();
    let mut client = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .map_err(tower::BoxError::from)
        .service(pool);
    let request = || {
        let request = Request::get(format!("http://{address}/"));
        request.body(Body::empty()).unwrap()
    };
    for _ in 0..20 {
        client
            .ready()
            .await
            .unwrap()
            .call(request())
            .await
            .unwrap_err();
    }
    let refused = client.ready().await.unwrap().call(request()).await.unwrap();
    assert_eq!(refused.status(), 503);
    let rejection = refused.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.reason(), Reason::CircuitOpen);
    assert_eq!(breaker.snapshot().totals.failures, 20);
    assert_eq!(breaker.name(), "");

    // A closure classifies errors.
    let breaker = self::breaker();
    let pool = Pool::builder(TokioExecutor::new()).build_http::<Body>();
    let layer = CircuitBreakerLayer::new(breaker.clone())
        .classify(|_| None)
        .classify_error(|error: &hyper_util::client::legacy::Error| {
            error.is_connect().then_some(seawall::Outcome::Ignored)
        });
    let mut client = layer.layer(pool);
    client
        .ready()
        .await
        .unwrap()
        .call(request())
        .await
        .unwrap_err();
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.failures, totals.ignored), (0, 1));
}

/// The rule of the docs of `classify_error`, over HTTP/1: a body that the client cannot read is
/// ignored, and a server that closes its connections is a failure.
#[tokio::test]
async fn an_upload_that_breaks_is_not_the_server() {
    let reads = async |body: axum::body::Bytes| body.len().to_string();
    let works = serve(Router::new().route("/", axum::routing::post(reads))).await;
    let (listener, closes) = listen().await;
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let breaker = breaker();
    let pool = Pool::builder(TokioExecutor::new()).build_http::<Body>();
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify_error(
        |error: &hyper_util::client::legacy::Error| {
            let hyper = error.source();
            let hyper = hyper.and_then(|error| error.downcast_ref::<hyper::Error>());
            let is_body = hyper.is_some_and(hyper::Error::is_user);
            is_body.then_some(seawall::Outcome::Ignored)
        },
    );
    let mut client = layer.layer(pool);
    for (address, broken) in [(works, true), (closes, false)] {
        let frames = broken.then_some(Err(std::io::Error::other("broken")));
        let body = Body::from_stream(futures_util::stream::iter(
            frames.into_iter().chain([Ok("a")]),
        ));
        let request = Request::post(format!("http://{address}/"))
            .body(body)
            .unwrap();
        client
            .ready()
            .await
            .unwrap()
            .call(request)
            .await
            .unwrap_err();
    }
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.failures, totals.ignored), (1, 1));
}
