//! Retries on a client, and deadlines that calls pass on.
//!
//! # Retry within a budget
//!
//! `tower::retry` has a budget that all calls share: each success deposits, each retry withdraws,
//! so that retries stay a fixed share of the calls. The policy below also waits for as long as the
//! server asks, by `Retry-After` (HTTP) or `grpc-retry-pushback-ms` (gRPC). It does not retry calls
//! that cannot succeed:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use bytes::Bytes;
//! use http::header::{HeaderMap, HeaderName, RETRY_AFTER};
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use seawall::{Deadline, Rejection, Timeout, TimeoutLayer};
//! use tower::retry::budget::{Budget, TpsBudget};
//! use tower::retry::{Policy, RetryLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! type Call = Request<Full<Bytes>>;
//!
//! /// Retries idempotent calls within a budget that all calls share.
//! #[derive(Clone)]
//! struct Retry {
//!     budget: Arc<TpsBudget>,
//!     tries_left: u32,
//! }
//!
//! const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
//!
//! /// The pause before the next try, or `None` if the server asks for no retry.
//! fn pause(headers: &HeaderMap, default: Duration) -> Option<Duration> {
//!     let number = |name| Some(headers.get(name)?.to_str().ok()?.parse::<u64>());
//!     match (number(PUSHBACK), number(RETRY_AFTER)) {
//!         // A negative number asks for no retry (gRFC A6).
//!         (Some(millis), _) => millis.ok().map(Duration::from_millis),
//!         // This example does not parse dates.
//!         (None, Some(seconds)) => seconds.ok().map(Duration::from_secs),
//!         (None, None) => Some(default),
//!     }
//! }
//!
//! /// A 5xx, or the head of a gRPC response with the status `UNAVAILABLE`.
//! fn is_failure<B>(response: &Response<B>) -> bool {
//!     let grpc_status = response.headers().get("grpc-status");
//!     response.status().is_server_error() || grpc_status.is_some_and(|status| status == "14")
//! }
//!
//! impl<B, E> Policy<Call, Response<B>, E> for Retry {
//!     type Future = tokio::time::Sleep;
//!
//!     fn retry(
//!         &mut self,
//!         call: &mut Call,
//!         result: &mut Result<Response<B>, E>,
//!     ) -> Option<Self::Future> {
//!         let mut wait = Duration::from_millis(50); // in production: growing, with jitter
//!         if let Ok(response) = result {
//!             if !is_failure(response) {
//!                 self.budget.deposit();
//!                 return None;
//!             }
//!             // An open breaker or a full limit of this client rejects the next try too.
//!             let rejection = response.extensions().get::<Rejection>();
//!             if rejection.is_some_and(|rejection| !rejection.is_dependency_failure()) {
//!                 return None;
//!             }
//!             wait = pause(response.headers(), wait)?;
//!         }
//!         let remaining = call.extensions().get::<Deadline>().map(Deadline::remaining);
//!         let is_too_late = remaining.is_some_and(|remaining| remaining <= wait);
//!         if self.tries_left == 0 || is_too_late || !self.budget.withdraw() {
//!             return None;
//!         }
//!         self.tries_left -= 1;
//!         Some(tokio::time::sleep(wait))
//!     }
//!
//!     fn clone_request(&mut self, call: &Call) -> Option<Call> {
//!         call.method().is_idempotent().then(|| call.clone())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower::BoxError> {
//! # use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
//! # let tries = Arc::new(AtomicU32::new(0));
//! # let counter = tries.clone();
//! // A client whose server answers the first try with 503 and `retry-after: 2`.
//! let pool = service_fn(move |_: Call| {
//!     let status = if counter.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
//!     let response = Response::builder().status(status).header(RETRY_AFTER, "2");
//!     std::future::ready(response.body(Full::<Bytes>::default()))
//! });
//! let upstream = seawall::client()
//!     .named("upstream")
//!     .timeout(Duration::from_secs(1)) // for one try
//!     .build()?;
//! let all = Timeout::from(Duration::from_secs(5)).named("all tries");
//! let client = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(all).expose_deadline())
//!     .layer(RetryLayer::new(Retry { budget: Arc::default(), tries_left: 2 }))
//!     .layer(upstream.clone())
//!     .service(pool);
//!
//! let start = tokio::time::Instant::now();
//! let request = Request::get("http://localhost:3000/").body(Full::default())?;
//! let response = client.oneshot(request).await?;
//! assert_eq!(response.status(), 200);
//! assert_eq!(start.elapsed().as_secs(), 2);
//! # assert_eq!(tries.load(Relaxed), 2);
//! # Ok(()) }
//! ```
//!
//! - **The order** is the timeout for all tries, the retry, the stack with the timeout for one try;
//!   see [placement](crate::docs::placement#on-a-client). The breaker counts each try.
//! - **Rejections of this client** are responses with a [`Rejection`](crate::Rejection) in their
//!   extensions. The policy retries only those that are
//!   [failures of the dependency](crate::Rejection::is_dependency_failure), such as a timeout.
//!   Rejections of the server have no such extension, and the policy honours their `Retry-After`.
//! - **gRPC.** The status of most gRPC failures is in the trailers, after a response head with 200.
//!   A retry sees only trailers-only responses, which have their status in the head. Every answer
//!   of this crate before the response head is trailers-only. gRPC calls are `POST`, which is not
//!   idempotent: replace `is_idempotent` with a list of the paths of idempotent methods.
//! - **Request bodies.** A retry must clone the request body. Collect the body into a `Full` first.
//!   If you cannot collect it, retry only requests without a body, for which `is_end_stream()`
//!   returns `true`. Copy the extensions to the clone.
//! - **The wait** is bounded by the deadline: if the server asks for a pause that is longer than
//!   the time that is left, the caller gets the 503 at once.
//! - **One level.** Retry in one layer of your system. If three layers make three tries each, one
//!   call becomes 27.
//!
//! # Pass a deadline on
//!
//! [`expose_deadline`](crate::GateLayer::expose_deadline) puts a [`Deadline`](crate::Deadline) into
//! the extensions of a request. A handler copies it into the requests that it makes, and the client
//! writes the time that is left into a header. Here the header is `x-timeout-ms`, on which both
//! services agree; over gRPC it is `grpc-timeout`, which a
//! [`TimeoutLayer`](crate::TimeoutLayer) reads by itself:
//!
//! ```
//! use std::time::Duration;
//! use axum::body::Body;
//! use axum::extract::{Extension, State};
//! use axum::http::{HeaderValue, Request, StatusCode};
//! use axum::{Router, routing::get};
//! use hyper_util::client::legacy::{Client, connect::HttpConnector};
//! use hyper_util::rt::TokioExecutor;
//! use seawall::{Deadline, RequestHead, TimeoutLayer};
//! use tower::util::MapRequestLayer;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! const DEFAULT: Duration = Duration::from_secs(30);
//!
//! /// The time that the caller grants, at most the default.
//! fn granted(head: &RequestHead<'_>) -> Option<Duration> {
//!     let millis = head.headers.get("x-timeout-ms")?.to_str().ok()?.parse().ok()?;
//!     Some(Duration::from_millis(millis).min(DEFAULT))
//! }
//!
//! /// Writes the time that is left into the header.
//! fn write_timeout(mut request: Request<Body>) -> Request<Body> {
//!     if let Some(deadline) = request.extensions().get::<Deadline>() {
//!         let left = deadline.remaining().as_millis() as u64;
//!         request.headers_mut().insert("x-timeout-ms", HeaderValue::from(left));
//!     }
//!     request
//! }
//!
//! async fn price(
//!     State(pool): State<Client<HttpConnector, Body>>,
//!     Extension(deadline): Extension<Deadline>,
//! ) -> Result<StatusCode, StatusCode> {
//!     // A call needs at least this long: without it, do not call.
//!     if deadline.remaining() < Duration::from_millis(20) {
//!         return Err(StatusCode::GATEWAY_TIMEOUT);
//!     }
//!     let request = Request::get("http://prices.internal/").extension(deadline);
//!     let request = request.body(Body::empty()).unwrap();
//!     let client = ServiceBuilder::new()
//!         .layer(TimeoutLayer::new(Duration::from_secs(2)).expose_deadline())
//!         .layer(MapRequestLayer::new(write_timeout))
//!         .service(pool);
//!     let response = client.oneshot(request).await;
//!     response.map(|response| response.status()).map_err(|_| StatusCode::BAD_GATEWAY)
//! }
//!
//! let pool = Client::builder(TokioExecutor::new()).build_http();
//! let stack = seawall::server().build()?;
//! let app: Router = Router::new()
//!     .route("/price", get(price))
//!     .layer(TimeoutLayer::new(DEFAULT).per_request(granted).expose_deadline())
//!     .layer(stack)
//!     .with_state(pool);
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! - **A circuit breaker** belongs inside the layer that reads the header. If a caller grants too
//!   little time, the breaker then sees a cancelled call, and not a failure. Put a timeout with a
//!   time of the server inside the breaker. For `grpc-timeout` this is not needed: the breaker
//!   ignores a call for which the caller had the shorter deadline.
//! - **The earlier deadline applies.** A layer that exposes a deadline keeps the one that is in the
//!   extensions if that one is earlier.
//! - **The callee stops first**: over gRPC, [`to_grpc_timeout`](crate::Deadline::to_grpc_timeout)
//!   rounds the remaining time down.
//! - **A call that starts shortly before the deadline** ends in a timeout, which a breaker counts
//!   as a failure of the dependency, unless the deadline is that of a `grpc-timeout`. Check
//!   [`remaining`](crate::Deadline::remaining) first, as above.
//! - **Do not accept a longer time** than your own default from a caller that you do not trust.
