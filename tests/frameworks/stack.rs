//! The recommended stack in all frameworks.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use seawall::policy::{Admission, Mode, NoWait, Policy, RequestKind};
use seawall::stack::ClientBreakerSnapshot;
use seawall::{
    CircuitBreaker, CircuitBreakerSettings, ConcurrencyLimit, Reporter, RequestLimit,
    RequestLimitLayer, RequestLimitSettings, ResponseBodyTimeoutSettings, Timeout, TimeoutLayer,
    TimeoutSettings,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tower::make::Shared;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;
use crate::tonic::Test;

const SECOND: Duration = Duration::from_secs(1);

fn routes() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/health", get(async || "ok"))
        .route("/panic", get(async || -> &str { panic!("scripted") }))
        .route(
            "/never",
            get(async || -> &str { std::future::pending().await }),
        )
        .route("/echo", post(async |body: Bytes| body))
}

/// Every part works, and can be switched off and on.
#[tokio::test]
async fn through_router_layer() {
    let stack = seawall::server()
        .named("test")
        .timeout(PATIENCE)
        .concurrency_limit(2)
        .request_body_limit(100)
        .exempt(|head| head.path() == "/health")
        .build()
        .unwrap();
    let address = serve(routes().layer(stack.clone())).await;
    for version in [Version::Http1, Version::Http2] {
        let mut client = Client::connect(address, version).await;
        let (response, body) = client.get("/").await;
        assert_eq!(
            (response.status().as_u16(), &body[..]),
            (200, &b"hello"[..])
        );
        assert_eq!(client.get("/panic").await.0.status(), 500);
        stack.timeout().set_duration(SECOND / 20).unwrap();
        assert_eq!(client.get("/never").await.0.status(), 504);
        stack.timeout().set_duration(PATIENCE).unwrap();

        let permits = [(); 2].map(|()| stack.concurrency_limit().try_acquire().unwrap());
        assert_eq!(client.get("/").await.0.status(), 503);
        assert_eq!(client.get("/health").await.0.status(), 200);
        let switches = stack.switches();
        switches.concurrency_limit.set(Mode::DryRun);
        assert_eq!(client.get("/").await.0.status(), 200);
        switches.concurrency_limit.set(Mode::Off);
        assert_eq!(client.get("/").await.0.status(), 200);
        switches.concurrency_limit.set(Mode::Enforce);
        drop(permits);
        assert_eq!(client.get("/").await.0.status(), 200);

        let large = || Body::from(vec![0; 101]);
        switches.request_limit.set(Mode::Off);
        let request = client.request("POST", "/echo", large());
        let (response, body) = whole(client.send(request).await.unwrap()).await;
        assert_eq!((response.status().as_u16(), body.len()), (200, 101));
        switches.request_limit.set(Mode::Enforce);
        let request = client.request("POST", "/echo", large());
        let (response, _) = whole(client.send(request).await.unwrap()).await;
        assert_eq!(response.status(), 413);
    }
    let now = stack.snapshot();
    assert_eq!(now.catch_panic.state.panics, 2);
    assert_eq!(now.timeout.state.timed_out, 2);
    assert_eq!(now.concurrency_limit.state.rejected, 2);
    assert_eq!(now.concurrency_limit.state.would_reject, 2);
    assert_eq!(now.concurrency_limit.state.in_flight, 0);
    assert_eq!(now.request_limit.state.rejected, 2);
    assert_eq!(now.lag_shed.mode, Mode::Enforce);

    // Changes the settings while the stack runs.
    stack.concurrency_limit().set_limit(1).unwrap();
    stack.request_limit().set_max_body(1).unwrap();
    assert_eq!(stack.snapshot().concurrency_limit.state.limit, 1);
}

/// B6: the layers of a route raise the limits of the stack around the router.
#[tokio::test]
async fn b6_a_route_raises_what_is_raisable() {
    let stack = seawall::server()
        .timeout(Timeout::new(TimeoutSettings::new(PATIENCE).raisable_to(10 * PATIENCE)).unwrap())
        .request_limit(RequestLimit::new(RequestLimitSettings::new(10).raisable_to(1000)).unwrap())
        .build()
        .unwrap();
    let upload = post(async |body: Bytes| {
        tokio::time::sleep(SECOND / 5).await;
        body
    });
    let layers = (
        TimeoutLayer::new(PATIENCE),
        RequestLimitLayer::new(100).request_body(Body::new),
    );
    let upload = upload.layer(layers);
    let address = serve(routes().route("/upload", upload).layer(stack.clone())).await;
    for version in [Version::Http1, Version::Http2] {
        let mut client = Client::connect(address, version).await;
        for (path, size, is_chunked, status) in [
            ("/echo", 10, false, 200),
            ("/echo", 11, false, 413),
            ("/echo", 11, true, 413),
            ("/upload", 100, false, 200),
            ("/upload", 100, true, 200),
            ("/upload", 101, false, 413),
            ("/upload", 101, true, 413),
        ] {
            let body = vec![0; size];
            let body = if is_chunked {
                let frames = futures_util::stream::iter([Ok::<_, BoxError>(body)]);
                Body::from_stream(frames)
            } else {
                Body::from(body)
            };
            let is_raised = path == "/upload";
            let time = if is_raised { SECOND / 20 } else { PATIENCE };
            stack.timeout().set_duration(time).unwrap();
            let request = client.request("POST", path, body);
            let (response, body) = whole(client.send(request).await.unwrap()).await;
            assert_eq!(response.status(), status, "{path}, {size}, {is_chunked}");
            if status == 200 {
                assert_eq!(body.len(), size);
            }
        }
        assert_eq!(client.get("/never").await.0.status(), 504);
    }
    assert_eq!(stack.snapshot().request_limit.state.rejected, 4);
    assert_eq!(stack.snapshot().timeout.state.timed_out, 2);
}

/// The bounds for response bodies, the deadline of a handler, and a hook.
#[tokio::test]
async fn with_setters_of_its_parts() {
    let (sender, mut panics) = tokio::sync::mpsc::unbounded_channel();
    let bodies = ResponseBodyTimeoutSettings::server();
    let stack = seawall::server()
        .timeout(SECOND / 5)
        .response_body_timeout(bodies.deadline(true).idle_timeout(PATIENCE))
        .expose_deadline()
        .on_panic(move |panic| sender.send(panic.message().map(str::to_owned)).unwrap())
        .build()
        .unwrap();
    let endless = async |deadline: axum::Extension<seawall::Deadline>| {
        assert!(deadline.remaining() <= SECOND / 5);
        let chunk = Ok::<_, Infallible>(Bytes::from_static(b"abc"));
        let rest = futures_util::stream::pending();
        let once = futures_util::stream::once(std::future::ready(chunk));
        Body::from_stream(futures_util::StreamExt::chain(once, rest))
    };
    let app = routes()
        .route("/endless", get(endless))
        .layer(stack.clone());
    let mut client = Client::connect(serve(app).await, Version::Http2).await;
    assert_eq!(client.get("/panic").await.0.status(), 500);
    assert_eq!(panics.recv().await.unwrap().as_deref(), Some("scripted"));
    let request = client.request("GET", "/endless", Body::empty());
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err(), "ended");
    assert_eq!(stack.concurrency_limit().in_flight(), 0);
    let now = stack.snapshot();
    assert_eq!(now.timeout.state.timed_out, 1);
}

/// Before routing: a request without a route is rejected too.
#[tokio::test]
async fn around_a_router() {
    let stack = seawall::server().concurrency_limit(1).build().unwrap();
    let converted = stack
        .clone()
        .request_body(Body::new)
        .response_body(Body::new);
    let app = converted.layer(routes().with_state(()));
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, Shared::new(app)).await.unwrap() });
    let mut client = Client::connect(address, Version::Http2).await;
    assert_eq!(client.get("/nowhere").await.0.status(), 404);
    let permit = stack.concurrency_limit().try_acquire().unwrap();
    assert_eq!(client.get("/nowhere").await.0.status(), 503);
    drop(permit);
    assert_eq!(client.get("/").await.0.status(), 200);
}

#[tokio::test]
async fn in_tonic() {
    let stack = seawall::server().concurrency_limit(1).build().unwrap();
    let (listener, address) = listen().await;
    let server = Server::builder().layer(stack.clone()).add_service(Test);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let mut client = Client::connect(address, Version::Http2).await;
    let mut call = async |path: &str| {
        let mut request = client.request("POST", path, Body::empty());
        let grpc = "application/grpc".parse().unwrap();
        request.headers_mut().insert("content-type", grpc);
        let response = client.send(request).await.unwrap();
        let head = response.headers().get("grpc-status").cloned();
        let trailers = response.into_body().collect().await.unwrap();
        let status = head.or_else(|| trailers.trailers()?.get("grpc-status").cloned());
        status.unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(call("/test/ok").await, "0");
    assert_eq!(call("/test/panic").await, "13");
    let permit = stack.concurrency_limit().try_acquire().unwrap();
    assert_eq!(call("/test/ok").await, "8");
    drop(permit);
    assert_eq!(call("/test/ok").await, "0");
    assert_eq!(stack.concurrency_limit().in_flight(), 0);
}

#[tokio::test]
async fn under_hyper() {
    let stack = seawall::server().build().unwrap();
    let service = stack.layer(service_fn(async |request: http::Request<_>| {
        let request: http::Request<seawall::RequestBody<Incoming>> = request;
        if request.uri().path() == "/never" {
            std::future::pending::<()>().await;
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(http::Response::new(Full::new(body)))
    }));
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(service);
        let connection = hyper::server::conn::http1::Builder::new();
        connection
            .serve_connection(TokioIo::new(io), service)
            .await
            .unwrap();
    });
    let mut client = Client::connect(address, Version::Http1).await;
    let request = client.request("POST", "/", Body::from("echo"));
    let (_, body) = whole(client.send(request).await.unwrap()).await;
    assert_eq!(body, "echo");
    stack.timeout().set_duration(SECOND / 20).unwrap();
    assert_eq!(client.get("/never").await.0.status(), 504);
    assert_eq!(stack.snapshot().timeout.state.timed_out, 1);
}

/// Your policy decides after the lag shedder, and not about an exempt request.
#[tokio::test]
async fn with_a_policy_of_ones_own() {
    #[derive(Clone)]
    struct Maintenance(Reporter);

    impl<R: RequestKind> Policy<R> for Maintenance {
        type Token = ();
        type Wait = NoWait;

        fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
            Admission::Reject(self.0.reject(seawall::Reason::RateLimited))
        }
    }

    let reporter = Reporter::new("maintenance");
    let stack = seawall::server()
        .policy(Maintenance(reporter.clone()))
        .exempt(|head| head.path() == "/health")
        .exempt(|head| head.path() == "/again")
        .build()
        .unwrap();
    let routes = routes().route("/again", get(async || "again"));
    let mut client = Client::connect(serve(routes.layer(stack)).await, Version::Http1).await;
    assert_eq!(client.get("/").await.0.status(), 429);
    assert_eq!(client.get("/health").await.0.status(), 200);
    // The second rule is added to the first.
    assert_eq!(client.get("/again").await.0.status(), 200);
    assert_eq!(reporter.rejected(), 1);
}

#[tokio::test]
async fn of_a_client() {
    let broken = async || http::StatusCode::BAD_GATEWAY;
    let address = serve(routes().route("/broken", get(broken))).await;
    let settings = CircuitBreakerSettings::default().minimum_calls(4);
    let stack = seawall::client()
        .named("backend")
        .timeout(PATIENCE)
        .concurrency_limit(1)
        .circuit_breaker(CircuitBreaker::new(settings).unwrap())
        .build()
        .unwrap();
    let pool = Pool::builder(TokioExecutor::new()).build_http::<Body>();
    let client = stack.layer(pool);
    let call = async |path: &str| {
        let request = http::Request::get(format!("http://{address}{path}"));
        let request = request.body(Body::empty()).unwrap();
        client
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(call("/").await, 200);
    stack.timeout().set_duration(SECOND / 20).unwrap();
    assert_eq!(call("/never").await, 504);
    stack.timeout().set_duration(PATIENCE).unwrap();
    let permit = stack.concurrency_limit().try_acquire().unwrap();
    assert_eq!(call("/").await, 503);
    drop(permit);
    assert_eq!(call("/broken").await, 502);
    assert_eq!(call("/broken").await, 502);
    assert_eq!(call("/").await, 503);
    let now = stack.snapshot();
    let ClientBreakerSnapshot::One(breaker) = &now.circuit_breaker.state else {
        panic!("{now:?}");
    };
    assert_eq!((breaker.rejected, breaker.totals.failures), (1, 3));
    assert_eq!(now.timeout.state.timed_out, 1);
    assert_eq!(now.concurrency_limit.state.rejected, 1);
    stack.switches().circuit_breaker.set(Mode::Off);
    assert_eq!(call("/").await, 200);
}

/// One breaker for each host.
#[cfg(feature = "keyed")]
#[tokio::test]
async fn of_a_client_of_many_hosts() {
    let works = serve(routes()).await;
    let broken = async || http::StatusCode::BAD_GATEWAY;
    let fails = serve(Router::new().route("/", get(broken))).await;
    let stack = seawall::client().per_host().build().unwrap();
    let client = stack.layer(Pool::builder(TokioExecutor::new()).build_http::<Body>());
    let call = async |address: std::net::SocketAddr| {
        let request = http::Request::get(format!("http://{address}/"));
        let request = request.body(Body::empty()).unwrap();
        client
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    for _ in 0..20 {
        assert_eq!(call(fails).await, 502);
    }
    assert_eq!(call(fails).await, 503);
    assert_eq!(call(works).await, 200);
    let now = stack.snapshot();
    let ClientBreakerSnapshot::Hosts(breakers) = now.circuit_breaker.state else {
        panic!("one breaker");
    };
    assert_eq!(breakers.keys.len(), 2);
    assert_eq!(breakers.keys[&fails.to_string()].rejected, 1);
}

/// A handler uses a client behind the stack, and converts its error. The types must have no
/// lifetime that rustc cannot resolve.
#[tokio::test]
async fn of_a_client_in_a_handler() {
    let backend = serve(routes()).await;
    let stack = seawall::client().build().unwrap();
    let pool = Pool::builder(TokioExecutor::new()).build_http::<Body>();
    let client = ServiceBuilder::new()
        .map_err(BoxError::from)
        .layer(stack)
        .service(pool);
    let app = Router::new().route(
        "/",
        get(move || async move {
            let request = http::Request::get(format!("http://{backend}/"));
            let request = request.body(Body::empty()).unwrap();
            let response = client.clone().oneshot(request).await;
            response.map_or(http::StatusCode::BAD_GATEWAY, |response| response.status())
        }),
    );
    let mut client = Client::connect(serve(app).await, Version::Http1).await;
    assert_eq!(client.get("/").await.0.status(), 200);
}

/// A limit in the stack is a handle that other code shares.
#[tokio::test]
async fn its_parts_are_handles() {
    let limit = ConcurrencyLimit::from(4);
    let stack = seawall::server()
        .concurrency_limit(limit.clone())
        .build()
        .unwrap();
    let mut service = stack.layer(service_fn(async |_: http::Request<_>| {
        Ok::<_, Infallible>(http::Response::new(Body::from("body")))
    }));
    let request = http::Request::new(Body::empty());
    let response = service.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(limit.in_flight(), 1);
    drop(response);
    assert_eq!(limit.in_flight(), 0);
}
