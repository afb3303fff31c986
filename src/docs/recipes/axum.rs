//! Axum: the address of the client, middleware functions, CORS and authentication.
//!
//! # The address of the client
//!
//! `into_make_service_with_connect_info` puts axum's `ConnectInfo` into the extensions of each
//! request, outside all layers. Handlers see it, and so do the closures and policies of a layer,
//! inside the router and around it:
//!
//! ```no_run
//! use std::net::SocketAddr;
//! use axum::body::Body;
//! use axum::extract::{ConnectInfo, Request};
//! use axum::{Router, ServiceExt, routing::get};
//! use seawall::RequestHead;
//! use tokio::net::TcpListener;
//! use tower::Layer;
//!
//! async fn whoami(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
//!     peer.to_string()
//! }
//!
//! fn is_local(head: &RequestHead<'_>) -> bool {
//!     let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
//!     peer.is_some_and(|ConnectInfo(peer)| peer.ip().is_loopback())
//! }
//!
//! # type Error = Box<dyn std::error::Error>;
//! # async fn f(inside: TcpListener, around: TcpListener) -> Result<(), Error> {
//! let router = Router::new().route("/", get(whoami));
//! let stack = seawall::server().exempt(is_local).build()?;
//!
//! // With `Router::layer`.
//! let app = router.clone().layer(stack.clone());
//! axum::serve(inside, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
//!
//! // Around the router.
//! let stack = stack.request_body(Body::new).response_body(Body::new);
//! let app = stack.layer(router.with_state(()));
//! let app = ServiceExt::<Request>::into_make_service_with_connect_info::<SocketAddr>(app);
//! axum::serve(around, app).await?;
//! # Ok(()) }
//! ```
//!
//! - `ServiceExt` is axum's. `tower::make::Shared`, which the other guides use around a router,
//!   adds no `ConnectInfo`: the extractor then answers 500, and `is_local` returns `false`.
//! - In an accept loop of your own, put `axum::Extension(ConnectInfo(peer))`, which is a layer,
//!   around a clone of the service for each connection.
//! - Behind a proxy, the peer is the proxy. An exemption for its address exempts all requests.
//!
//! # `from_fn` inside the request limit
//!
//! A middleware function that reads the body belongs inside the request limit, which counts what it
//! reads. `axum::middleware::from_fn` requires requests with `axum::body::Body`. In one
//! `ServiceBuilder` with the stack, keep that type with
//! [`request_body(Body::new)`](crate::GateLayer::request_body):
//!
//! ```
//! use axum::body::{Body, Bytes, to_bytes};
//! use axum::extract::Request;
//! use axum::http::StatusCode;
//! use axum::middleware::{Next, from_fn};
//! use axum::response::Response;
//! use axum::{Router, routing::post};
//! use tower::ServiceBuilder;
//!
//! const MAX: usize = 64 << 10;
//!
//! async fn verify(request: Request, next: Next) -> Result<Response, StatusCode> {
//!     let (parts, body) = request.into_parts();
//!     let body = to_bytes(body, MAX).await.map_err(|_| StatusCode::BAD_REQUEST)?;
//!     if body.ends_with(b"unsigned") {
//!         return Err(StatusCode::FORBIDDEN);
//!     }
//!     Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
//! }
//!
//! let stack = seawall::server().request_body_limit(MAX as u64).build()?;
//! let app: Router = Router::new()
//!     .route("/", post(async |body: Bytes| body.len().to_string()))
//!     .layer(
//!         ServiceBuilder::new()
//!             .layer(stack.request_body(Body::new))
//!             .layer(from_fn(verify)),
//!     );
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! - **Two calls of `Router::layer`** work as well: `.layer(from_fn(verify)).layer(stack)`. The
//!   layer that you add last is the outermost. The router converts the body between the two, so
//!   that `request_body` only saves an allocation.
//! - **What the function sees.** A body that declares too many bytes does not reach it: the client
//!   reads 413. From a body of unknown length it reads an error when there are too many bytes, and
//!   [`Rejection::find`](crate::Rejection::find) finds the reason in that error. Whatever it then
//!   answers, the client reads 413, as long as the head of the response is not sent.
//! - **What the handler sees** is what the function passes on: here a body of known length. Axum's
//!   extractors apply their limit of 2 MiB to it, unless you disable `DefaultBodyLimit`.
//! - **The limit of `to_bytes`** applies if the request limit is switched off. Do not set it lower
//!   than the request limit: the client would read the function's answer, here 400, and not 413.
//! - **Outside the stack**, a function reads bodies that nothing counts and that hold no permit.
//!
//! # CORS and authentication
//!
//! Put CORS outside the stack, and authentication inside it. The example uses tower-http 0.7:
//!
//! ```
//! use axum::body::Body;
//! use axum::extract::Request;
//! use axum::http::header::{AUTHORIZATION, ORIGIN, RETRY_AFTER};
//! use axum::http::{HeaderValue, Method, StatusCode};
//! use axum::middleware::{Next, from_fn};
//! use axum::response::Response;
//! use axum::{Router, routing::get};
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_http::cors::CorsLayer;
//!
//! async fn authenticate(request: Request, next: Next) -> Result<Response, StatusCode> {
//!     match request.headers().get(AUTHORIZATION) {
//!         Some(token) if token == "Bearer secret" => Ok(next.run(request).await),
//!         _ => Err(StatusCode::UNAUTHORIZED),
//!     }
//! }
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cors = CorsLayer::new()
//!     .allow_origin(HeaderValue::from_static("https://app.example"))
//!     .allow_methods([Method::GET])
//!     .allow_headers([AUTHORIZATION])
//!     .expose_headers([RETRY_AFTER]);
//! let stack = seawall::server().build()?;
//! let app: Router = Router::new().route("/", get(async || "hello")).layer(
//!     ServiceBuilder::new()
//!         .layer(cors)
//!         .layer(stack.clone().request_body(Body::new))
//!         .layer(from_fn(authenticate)),
//! );
//!
//! let call = || Request::get("/").header(ORIGIN, "https://app.example").body(Body::empty());
//! let response = app.clone().oneshot(call()?).await?;
//! assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
//!
//! stack.lag_shed().force_shedding(true);
//! let response = app.oneshot(call()?).await?;
//! assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
//! assert!(response.headers().contains_key("access-control-allow-origin"));
//! # Ok(()) }
//! ```
//!
//! - **CORS outside.** A rejection then has the CORS headers, so that a script of another origin
//!   can read its status, and its `retry-after` if you expose it. The CORS layer answers
//!   preflights itself: they take no permit.
//! - **Authentication inside.** The stack bounds what authentication costs, for example a lookup in
//!   a database. A request without credentials holds a permit until it is answered. If your check
//!   only compares a signature, it may go outside instead.
//! - **Tenants.** A policy of the stack runs before the authentication inside it. A policy that
//!   needs the authenticated tenant goes into a layer inside the authentication; see
//!   [`policies`](super::policies).
