//! A limit of 2 admits two requests in total, however axum applies the layer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::Router;
use axum::body::Body;
use axum::handler::Handler;
use axum::routing::get;
use http::{Request, Response};
use seawall::{
    CatchPanicLayer, ConcurrencyLimit, ConcurrencyLimitLayer, LagShed, LagShedLayer, LagState,
    LoadSignal,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::{ServiceBuilder, ServiceExt};

use crate::support::*;

/// A handler that waits until the test releases it, and counts its requests.
#[derive(Clone)]
struct Hold {
    entered: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Hold {
    fn new() -> Self {
        Self {
            entered: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    fn handler(&self) -> impl Handler<((),), ()> + use<> {
        let this = self.clone();
        move || async move {
            this.entered.fetch_add(1, SeqCst);
            let _ = this.gate.acquire().await;
            "held"
        }
    }

    /// Of ten concurrent requests, eight are rejected while two are in the handler. Then the two
    /// are released.
    async fn takes_two_of_ten<F>(&self, limit: &ConcurrencyLimit, send: impl Fn(usize) -> F)
    where
        F: Future<Output = u16> + Send + 'static,
    {
        let mut all: JoinSet<_> = (0..10).map(send).collect();
        for _ in 0..8 {
            let next = tokio::time::timeout(PATIENCE, all.join_next());
            let status = next.await.expect("more than two are inside");
            assert_eq!(status.unwrap().unwrap(), 503);
        }
        // The two have their permits, even if they have not reached the handler.
        assert_eq!(limit.in_flight(), 2);
        self.gate.close();
        while let Some(status) = all.join_next().await {
            assert_eq!(status.unwrap(), 200);
        }
        assert_eq!(self.entered.load(SeqCst), 2);
        assert_eq!(limit.in_flight(), 0);
    }
}

/// Sends to a router as axum's own server does: with a clone for each request.
fn oneshot(app: &Router, path: String) -> impl Future<Output = u16> + Send + 'static {
    let app = app.clone();
    async move {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        axum::body::to_bytes(response.into_body(), 1000)
            .await
            .unwrap();
        status
    }
}

#[tokio::test]
async fn by_handler_layer() {
    let (hold, limit) = (Hold::new(), ConcurrencyLimit::from(2));
    let handler = hold
        .handler()
        .layer(ConcurrencyLimitLayer::new(limit.clone()));
    let app = Router::new().route("/", get(handler));
    hold.takes_two_of_ten(&limit, |_| oneshot(&app, "/".into()))
        .await;
}

#[tokio::test]
async fn on_a_method_router() {
    let (hold, limit) = (Hold::new(), ConcurrencyLimit::from(2));
    let route = get(hold.handler()).layer(ConcurrencyLimitLayer::new(limit.clone()));
    let app = Router::new().route("/", route);
    hold.takes_two_of_ten(&limit, |_| oneshot(&app, "/".into()))
        .await;
}

#[tokio::test]
async fn on_a_bare_router_used_as_a_service() {
    let (hold, limit) = (Hold::new(), ConcurrencyLimit::from(2));
    let app = Router::new()
        .route("/", get(hold.handler()))
        .layer(ConcurrencyLimitLayer::new(limit.clone()));
    hold.takes_two_of_ten(&limit, |_| oneshot(&app, "/".into()))
        .await;
}

#[tokio::test]
async fn on_four_routes_with_one_policy() {
    let (hold, limit) = (Hold::new(), ConcurrencyLimit::from(2));
    let mut app = Router::new();
    for path in ["/0", "/1", "/2", "/3"] {
        let layer = ConcurrencyLimitLayer::new(limit.clone());
        app = app.route(path, get(hold.handler()).layer(layer));
    }
    hold.takes_two_of_ten(&limit, |n| oneshot(&app, format!("/{}", n % 4)))
        .await;

    let (hold, limit) = (Hold::new(), ConcurrencyLimit::from(2));
    let mut app = Router::new();
    for path in ["/0", "/1", "/2", "/3"] {
        app = app.route(path, get(hold.handler()));
    }
    let app = app.layer(ConcurrencyLimitLayer::new(limit.clone()));
    hold.takes_two_of_ten(&limit, |n| oneshot(&app, format!("/{}", n % 4)))
        .await;
}

#[tokio::test]
async fn by_axum_serve_over_ten_connections() {
    for version in [Version::Http1, Version::Http2] {
        let (hold, limit) = (Hold::new(), ConcurrencyLimit::from(2));
        let app = Router::new()
            .route("/", get(hold.handler()))
            .layer(ConcurrencyLimitLayer::new(limit.clone()));
        let address = serve(app).await;
        hold.takes_two_of_ten(&limit, |_| async move {
            let mut client = Client::connect(address, version).await;
            client.get("/").await.0.status().as_u16()
        })
        .await;
    }
}

/// The stack is a handle too.
#[tokio::test]
async fn the_stack_on_four_routes_over_ten_connections() {
    for version in [Version::Http1, Version::Http2] {
        let (hold, limit) = (Hold::new(), ConcurrencyLimit::from(2));
        let stack = seawall::server().concurrency_limit(limit.clone());
        let stack = stack.build().unwrap();
        let mut app = Router::new();
        for path in ["/0", "/1", "/2", "/3"] {
            app = app.route(path, get(hold.handler()).layer(stack.clone()));
        }
        let address = serve(app).await;
        hold.takes_two_of_ten(&limit, |n| async move {
            let mut client = Client::connect(address, version).await;
            let (response, _) = client.get(&format!("/{}", n % 4)).await;
            response.status().as_u16()
        })
        .await;
        assert_eq!(stack.snapshot().concurrency_limit.state.rejected, 8);
    }
}

#[tokio::test]
async fn outermost_before_routing_over_ten_connections() {
    let (hold, limit) = (Hold::new(), ConcurrencyLimit::from(2));
    let router = Router::new().route("/", get(hold.handler()));
    let app = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(CatchPanicLayer::new())
        .layer(ConcurrencyLimitLayer::new(limit.clone()))
        .service(router);
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        axum::serve(listener, tower::make::Shared::new(app))
            .await
            .unwrap();
    });
    hold.takes_two_of_ten(&limit, |_| async move {
        let mut client = Client::connect(address, Version::Http1).await;
        client.get("/").await.0.status().as_u16()
    })
    .await;
}

/// Four ways to attach the lag shedder, over four routes and ten connections: one state, which
/// rejects everywhere.
#[tokio::test]
async fn a_lag_shedder_is_one_for_the_runtime() {
    let overloaded = Arc::new(AtomicUsize::new(0));
    let signal = {
        let overloaded = overloaded.clone();
        LoadSignal::new("switch", move || overloaded.load(SeqCst) as f64)
    };
    let lag = LagShed::from(signal);
    let layer = || LagShedLayer::new(lag.clone());
    let hello = async || "hello";
    let by_handler = Router::new().route("/", get(hello.layer(layer())));
    let on_routes = ["/", "/1", "/2", "/3"]
        .into_iter()
        .fold(Router::new(), |app, path| {
            app.route(path, get(hello).layer(layer()))
        });
    let routed = Router::new().route("/", get(hello)).layer(layer());
    let outermost = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(layer())
        .service(Router::new().route("/", get(hello)));
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        axum::serve(listener, tower::make::Shared::new(outermost))
            .await
            .unwrap();
    });
    let served = [
        serve(by_handler).await,
        serve(on_routes).await,
        serve(routed).await,
        address,
    ];
    let expect = async |status| {
        for address in served {
            for version in [Version::Http1, Version::Http2] {
                let mut client = Client::connect(address, version).await;
                for _ in 0..3 {
                    assert_eq!(client.get("/").await.0.status(), status, "{address}");
                }
            }
        }
    };
    expect(200).await;
    assert_eq!(lag.snapshot().runtimes, 1);
    overloaded.store(5, SeqCst);
    while lag.snapshot().shed < 1.0 {
        tokio::task::yield_now().await;
    }
    expect(503).await;
    let snapshot = lag.snapshot();
    assert_eq!((snapshot.runtimes, snapshot.rejected), (1, 24));
    overloaded.store(0, SeqCst);
    while lag.state() == LagState::Shedding {
        tokio::task::yield_now().await;
    }
    expect(200).await;
}
