//! Health checks over real sockets: in axum beside a stack that rejects everything, in hyper alone,
//! and beside tonic, with gRPC's own health checks.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use seawall::{ConcurrencyLimit, Drain, Health};
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic_health::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::*;

const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

/// The answer to GET, and to a HEAD before it on the same connection: it has the same status and
/// length, and no body.
async fn ask(client: &mut Client, path: &str) -> (u16, String) {
    let request = client.request("HEAD", path, Body::empty());
    let (head, nothing) = whole(client.send(request).await.unwrap()).await;
    let (response, body) = client.get(path).await;
    assert_eq!(
        (head.status(), nothing.len()),
        (response.status(), 0),
        "{path}"
    );
    assert_eq!(head.headers()["content-length"], body.len().to_string());
    assert_eq!(response.headers()["cache-control"], "no-store");
    let text = String::from_utf8(body.to_vec()).unwrap();
    (response.status().as_u16(), text)
}

/// All paths, before a drain and in it.
async fn probe(address: SocketAddr, version: Version, drain: &Drain) {
    let mut client = Client::connect(address, version).await;
    let answer = |status: u16, text: &str| (status, text.to_owned());
    let live = answer(200, "live\n");
    assert_eq!(ask(&mut client, "/livez").await, live);
    assert_eq!(ask(&mut client, "/readyz").await, answer(200, "ready\n"));
    assert_eq!(ask(&mut client, "/statusz").await, answer(200, "{}"));
    drain.begin();
    // A draining HTTP/1 server may close its connections.
    let mut client = Client::connect(address, version).await;
    let not_ready = answer(503, "not ready: draining\n");
    assert_eq!(ask(&mut client, "/readyz").await, not_ready);
    let mut client = Client::connect(address, version).await;
    assert_eq!(ask(&mut client, "/livez").await, live);
}

fn health(drain: &Drain) -> Health {
    Health::new(drain.clone()).status(|| Ok::<_, std::fmt::Error>("{}".to_owned()))
}

fn mounted(router: Router, health: &Health) -> Router {
    router
        .route_service("/livez", health.clone())
        .route_service("/readyz", health.clone())
        .route_service("/statusz", health.clone())
}

#[tokio::test]
async fn in_axum_a_stack_that_rejects_everything_exempts_them() {
    for version in VERSIONS {
        let limit = ConcurrencyLimit::from(1);
        let _permit = limit.try_acquire_owned().unwrap();
        let stack = seawall::server()
            .concurrency_limit(limit)
            .exempt(|head| Health::has_path(head.path()))
            .build()
            .unwrap();
        stack.lag_shed().force_shedding(true);
        let drain = stack.drain().clone();
        let router = Router::new().route("/", get(async || "hello"));
        let address = serve(mounted(router, &health(&drain)).layer(stack)).await;

        let mut client = Client::connect(address, version).await;
        assert_eq!(client.get("/").await.0.status(), 503, "{version:?}");
        probe(address, version, &drain).await;
    }
}

#[tokio::test]
async fn in_hyper_it_is_the_service_of_a_connection() {
    for version in VERSIONS {
        let drain = Drain::default();
        let service = TowerToHyperService::new(health(&drain));
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service.clone();
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let mut client = Client::connect(address, version).await;
        assert_eq!(ask(&mut client, "/else").await.0, 404, "{version:?}");
        probe(address, version, &drain).await;
    }
}

/// Beside gRPC's own health checks, which follow the drain.
#[tokio::test]
async fn beside_tonic_grpc_checks_follow_the_drain() {
    for version in VERSIONS {
        let drain = Drain::default();
        let (reporter, service) = tonic_health::server::health_reporter();
        reporter
            .set_service_status("", ServingStatus::Serving)
            .await;
        let draining = drain.clone();
        tokio::spawn(async move {
            draining.started().await;
            let status = ServingStatus::NotServing;
            reporter.set_service_status("", status).await;
        });
        let router = Routes::new(service).into_axum_router();
        let address = serve(mounted(router, &health(&drain))).await;

        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        let mut client = HealthClient::new(channel.connect().await.unwrap());
        let request = HealthCheckRequest::default();
        let mut watch = client.watch(request.clone()).await.unwrap().into_inner();
        let serving = ServingStatus::Serving as i32;
        assert_eq!(watch.message().await.unwrap().unwrap().status, serving);

        probe(address, version, &drain).await;
        let next = tokio::time::timeout(PATIENCE, watch.message()).await;
        let status = next.expect("no change").unwrap().unwrap().status;
        assert_eq!(status, ServingStatus::NotServing as i32, "{version:?}");
        let checked = client.check(request).await.unwrap().into_inner();
        assert_eq!(checked.status, status);
    }
}
