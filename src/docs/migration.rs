//! Moving over from tower, tower-http and tower-resilience.
//!
//! Layer by layer: what you have, what takes its place, and what you will notice. One layer at a time is fine: what stays of
//! [tower](https://docs.rs/tower), [tower-http](https://docs.rs/tower-http) and
//! [tower-resilience](https://docs.rs/tower-resilience) goes in the same `ServiceBuilder`.
//!
//! | there | here | what changes |
//! |---|---|---|
//! | axum `HandleErrorLayer` | nothing | each layer answers by itself |
//! | tower `TimeoutLayer` | [`TimeoutLayer`](crate::TimeoutLayer) | 504 and no error; waiting for a place counts |
//! | tower `ConcurrencyLimitLayer`, `GlobalConcurrencyLimitLayer` | [`ConcurrencyLimitLayer`](crate::ConcurrencyLimitLayer) | refuses where they wait; a place is held until the body has ended; one limit for all routes |
//! | tower `LoadShedLayer` | nothing around our limit | the limit refuses by itself; for a busy runtime there is [`LagShedLayer`](crate::LagShedLayer) |
//! | tower `RateLimitLayer`, `BufferLayer`, `SpawnReadyLayer`, `RetryLayer`, `balance` | they stay | [what stays in tower](#what-stays-in-tower) |
//! | tower-http `TimeoutLayer` | [`TimeoutLayer`](crate::TimeoutLayer) | 504 with a body; gRPC is answered as gRPC |
//! | tower-http `ResponseBodyTimeoutLayer` | [`TimeoutLayer::body_idle`](crate::TimeoutLayer::body_idle) | the length of the body survives |
//! | tower-http `RequestBodyTimeoutLayer` | [`RequestLimitLayer::body_idle`](crate::RequestLimitLayer::body_idle) | 408, whatever the handler makes of the error |
//! | tower-http `RequestBodyLimitLayer` | [`RequestLimitLayer`](crate::RequestLimitLayer) | 413, whatever the handler makes of the error |
//! | axum `DefaultBodyLimit` | stays, disabled or raised | below our limit it would cut in first |
//! | tower-http `CatchPanicLayer` | [`CatchPanicLayer`](crate::CatchPanicLayer) | panics of the body too; the answer does not see the payload |
//! | tower-resilience `circuitbreaker` | [`CircuitBreakerLayer`](crate::CircuitBreakerLayer) | 503 and no error; 5xx are failures; a window that slides |
//! | tower-resilience `bulkhead` | [`ConcurrencyLimitLayer`](crate::ConcurrencyLimitLayer) | 503 and no error; refuses unless told to wait |
//! | tower-resilience `timelimiter` | [`TimeoutLayer`](crate::TimeoutLayer) | 504 and no error; always cancels |
//!
//! Many names are the same, so that often the import is all that changes. `ServiceBuilder::timeout`, `concurrency_limit` and
//! `load_shed` remain tower's: write `.layer(..)`.
//!
//! # What changes everywhere
//!
//! - **Errors.** Over HTTP a refusal is a response, and the error type stays the inner service's. With `.plain()` it is an error,
//!   for which the inner error must be `From<Rejection>`; a `BoxError` is. For any other put `.map_err(BoxError::from)` next to the
//!   service. What says no is a [`Rejection`](crate::Rejection) in every layer, in the response's extensions or as the error.
//! - **Bodies.** Over HTTP the response body becomes a [`Body`](crate::Body) around yours. The frames are the same, the error is a
//!   [`BodyError`](crate::BodyError). `Router::layer` takes it as it is; around a router box it once, as the
//!   [crate's docs](crate#the-order-of-layers) do. It is not `Default`, which tower-http's `TimeoutLayer` asks for.
//! - **State.** It is in the handle ([`ConcurrencyLimit`](crate::ConcurrencyLimit), [`CircuitBreaker`](crate::CircuitBreaker), …), which
//!   you keep, read and tune. Tower's `ConcurrencyLimitLayer`, and the layers of tower-resilience that come from `build()`, make it
//!   when they are applied. `Router::layer` applies a layer to each route, and `axum::serve` again for each connection.
//! - **Readiness.** `poll_ready` is passed through and reserves nothing; a request waits in its own future.
//! - **Status.** The [table of answers](crate#answers) has them all, and [`respond_with`](crate::GateLayer::respond_with) changes any.
//!
//! # axum: `HandleErrorLayer`, `timeout`, `load_shed`, a concurrency limit
//!
//! Before, three layers with an error and a fourth to get rid of it:
//!
//! ```
//! use std::time::Duration;
//! use axum::{BoxError, Router, error_handling::HandleErrorLayer, http::StatusCode, routing::get};
//! use tower::{ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::error::Overloaded, timeout::error::Elapsed};
//!
//! async fn answer(error: BoxError) -> StatusCode {
//!     if error.is::<Elapsed>() {
//!         StatusCode::GATEWAY_TIMEOUT
//!     } else if error.is::<Overloaded>() {
//!         StatusCode::SERVICE_UNAVAILABLE
//!     } else {
//!         StatusCode::INTERNAL_SERVER_ERROR
//!     }
//! }
//!
//! let app: Router = Router::new().route("/", get(async || "hello")).layer(
//!     ServiceBuilder::new()
//!         .layer(HandleErrorLayer::new(answer))
//!         .timeout(Duration::from_secs(5))
//!         .load_shed()
//!         .layer(GlobalConcurrencyLimitLayer::new(512)),
//! );
//! # let _ = app;
//! ```
//!
//! After:
//!
//! ```
//! use std::time::Duration;
//! use axum::{BoxError, Router, body::Body, http::Request, routing::get};
//! use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, TimeoutLayer};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), BoxError> {
//! let limit = ConcurrencyLimit::new(1); // 512, in earnest
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .route("/slow", get(async || tokio::time::sleep(Duration::from_secs(60)).await))
//!     .layer(
//!         ServiceBuilder::new()
//!             .layer(TimeoutLayer::new(Duration::from_secs(5)))
//!             .layer(ConcurrencyLimitLayer::new(limit.clone())),
//!     );
//!
//! let slow = app.clone().oneshot(Request::get("/slow").body(Body::empty())?).await?;
//! assert_eq!(slow.status(), 504);
//! let unread = app.clone().oneshot(Request::get("/").body(Body::empty())?).await?;
//! assert_eq!(limit.in_flight(), 1); // the head is here and the body is not
//! let refused = app.oneshot(Request::get("/").body(Body::empty())?).await?;
//! assert_eq!(refused.status(), 503);
//! drop(unread);
//! assert_eq!(limit.in_flight(), 0);
//! # Ok(()) }
//! ```
//!
//! - **A place is held longer**, until the response body has ended or is dropped. Tower gives it back at the head, so that bodies
//!   that stream are not limited at all. A limit that was measured with tower may need more places here.
//! - **Waiting is not the default.** Without `load_shed` tower waits, for as long as it takes and with no bound on how many do.
//!   [`ConcurrencyLimit::wait`](crate::ConcurrencyLimit::wait) lets a few wait for a short while.
//! - **The wait is within the time-out.** Tower waits in `poll_ready`, its time-out starts in `call`: what a request has waited for a
//!   permit is not counted. Here it is, with the time-out outside the limit.
//! - **`GlobalConcurrencyLimitLayer` is the plain layer here.** Tower's `ConcurrencyLimitLayer` makes a semaphore for each route and
//!   connection; if your numbers rely on that, give each route a limit of its own with `MethodRouter::layer`.
//! - **The service must be `Clone`** for our limit, since a request that waits keeps the instance that was ready for it.
//! - **Zero** panics in [`ConcurrencyLimit::new`](crate::ConcurrencyLimit::new); a semaphore of 0 is never ready.
//! - **`load_shed` left around our limit** sheds nothing, as the limit is ready whenever its inner service is, and brings
//!   the boxed error back. Around a `Buffer`, a `RateLimit` or a balancer it does its work as before.
//!
//! # tower `timeout` on a client
//!
//! ```
//! # use std::time::Duration;
//! # use tower::{BoxError, ServiceBuilder, ServiceExt};
//! # async fn query(seconds: u32) -> Result<u32, BoxError> {
//! #     tokio::time::sleep(Duration::from_secs(seconds.into())).await;
//! #     Ok(seconds)
//! # }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let before = ServiceBuilder::new().timeout(Duration::from_secs(5)).service_fn(query);
//! let error = before.oneshot(7).await.unwrap_err();
//! assert!(error.is::<tower::timeout::error::Elapsed>());
//!
//! let after = ServiceBuilder::new()
//!     .layer(seawall::TimeoutLayer::new(Duration::from_secs(5)).plain())
//!     .service_fn(query);
//! let error = after.oneshot(7).await.unwrap_err();
//! assert!(error.is::<seawall::Rejection>());
//! # }
//! ```
//!
//! Where you do not box, an error of your own that is `From<Rejection>` stays what it is; tower boxes every error.
//!
//! # What stays in tower
//!
//! Rate limits, retries, hedging, buffers, balancing, discovery, steering, filters and reconnecting are not replaced. Ours go around them and into
//! them:
//!
//! ```
//! use std::time::Duration;
//! use seawall::{CircuitBreaker, CircuitBreakerLayer, TimeoutLayer};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, buffer::BufferLayer};
//!
//! # async fn query(id: u32) -> Result<u32, BoxError> { Ok(id) }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let service = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::new(CircuitBreaker::default()).plain())
//!     .layer(BufferLayer::<u32>::new(64)) // tower's `RateLimit` is not `Clone`
//!     .rate_limit(100, Duration::from_secs(1))
//!     .layer(TimeoutLayer::new(Duration::from_secs(1)).plain())
//!     .service_fn(query);
//! assert_eq!(service.oneshot(7).await?, 7);
//! # Ok(()) }
//! ```
//!
//! - `RateLimit` waits in `poll_ready`. On a server put it and its `Buffer` around the router: `BufferLayer` spawns a task where it is
//!   applied, and in `Router::layer` that is once per route and connection, each with a rate of its own.
//! - `SpawnReady` and `Buffer` drive a service that is slow to become ready. Our layers are ready when what is inside is, and need neither.
//! - A retry outside should leave a [`Rejection`](crate::Rejection) alone, or heed its
//!   [`retry_after`](crate::Rejection::retry_after); the [breaker's docs](crate::circuit_breaker#what-a-refusal-looks-like) say where it is.
//! - Under `tower::balance` use [`CircuitBreakerReadyLayer`](crate::circuit_breaker::CircuitBreakerReadyLayer), which is not ready while it is open.
//!
//! # tower-http: the three time-outs
//!
//! Before:
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, body::Bytes, http::StatusCode, routing::post};
//! use tower::ServiceBuilder;
//! use tower_http::timeout::{RequestBodyTimeoutLayer, ResponseBodyTimeoutLayer, TimeoutLayer};
//!
//! let app: Router = Router::new()
//!     .route("/upload", post(async |body: Bytes| body.len().to_string()))
//!     .layer(
//!         ServiceBuilder::new()
//!             .layer(ResponseBodyTimeoutLayer::new(Duration::from_secs(3)))
//!             .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(5)))
//!             .layer(RequestBodyTimeoutLayer::new(Duration::from_secs(3))),
//!     );
//! # let _ = app;
//! ```
//!
//! After:
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//! use axum::{BoxError, Router, body::{Body, Bytes}, http::Request, routing::post};
//! use futures_util::stream;
//! use seawall::{RequestLimitLayer, TimeoutLayer};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), BoxError> {
//! let app: Router = Router::new()
//!     .route("/upload", post(async |body: Bytes| body.len().to_string()))
//!     .layer(
//!         ServiceBuilder::new()
//!             .layer(TimeoutLayer::new(Duration::from_secs(5)).body_idle(Duration::from_secs(3)))
//!             .layer(RequestLimitLayer::new(u64::MAX).body_idle(Duration::from_secs(3))), // any size
//!     );
//!
//! let silent = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
//! let response = app.oneshot(Request::post("/upload").body(silent)?).await?;
//! assert_eq!(response.status(), 408);
//! # Ok(()) }
//! ```
//!
//! - **The status is 504**, and 408 is left for a request body that comes too slowly. Answers have a body, `application/problem+json`,
//!   where tower-http's is empty. To keep the old status:
//!
//! ```
//! use std::time::Duration;
//! use axum::http::StatusCode;
//! use seawall::{Rejection, TimeoutLayer, Wire};
//!
//! let layer = TimeoutLayer::new(Duration::from_secs(5)).respond_with(|no: &Rejection, wire: Wire| {
//!     let mut response = no.to_response(wire);
//!     if wire != Wire::Grpc {
//!         *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
//!     }
//!     response
//! });
//! # let _ = layer;
//! ```
//!
//! - **Finished work wins.** Tower-http asks the timer first, the head's and the bodies': what is ready and late is thrown away.
//! - **The length survives.** Tower-http's body wrapper hides the size of what it wraps, so that a response has no `content-length`.
//! - **A slow request body is answered.** Tower-http gives the handler an error, of which axum's extractors make a 400. Here the
//!   answer is 408 as long as the head is unsent, and HTTP/1 closes the connection.
//! - **More than silence**: [`including_body`](crate::TimeoutLayer::including_body),
//!   [`body_deadline`](crate::RequestLimitLayer::body_deadline) and [`body_rate`](crate::RequestLimitLayer::body_rate) bound the whole;
//!   [`per_request`](crate::TimeoutLayer::per_request) gives some requests another time; a caller's `grpc-timeout` counts.
//! - With `body_idle` or `including_body` the response body is not `Unpin`; nor is tower-http's.
//!
//! # tower-http `RequestBodyLimitLayer`, axum `DefaultBodyLimit`
//!
//! Before:
//!
//! ```
//! use axum::{Router, body::Bytes, extract::DefaultBodyLimit, routing::post};
//! use tower_http::limit::RequestBodyLimitLayer;
//!
//! let app: Router = Router::new()
//!     .route("/login", post(async |_: Bytes| "welcome").layer(DefaultBodyLimit::max(4096)))
//!     .route("/upload", post(async |body: Bytes| body.len().to_string()))
//!     .layer(DefaultBodyLimit::disable())
//!     .layer(RequestBodyLimitLayer::new(8 << 20));
//! # let _ = app;
//! ```
//!
//! After:
//!
//! ```
//! use std::convert::Infallible;
//! use axum::{BoxError, Router, body::{Body, Bytes}, extract::DefaultBodyLimit, http::Request, routing::post};
//! use futures_util::stream;
//! use seawall::RequestLimitLayer;
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let app: Router = Router::new()
//!     .route("/login", post(async |_: Bytes| "welcome"))
//!     .route("/upload", post(async |body: Bytes| body.len().to_string()))
//!     .layer(DefaultBodyLimit::disable()) // axum's 2 MB: ours decides
//!     .layer(RequestLimitLayer::new(8 << 20).per_request(|head| {
//!         (head.uri.path() == "/login").then_some(4096)
//!     }));
//!
//! let chunks = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![0_u8; 9 << 20]))]); // chunked: no length
//! let response = app.oneshot(Request::post("/upload").body(Body::from_stream(chunks))?).await?;
//! assert_eq!(response.status(), 413);
//! # Ok(()) }
//! ```
//!
//! - **`DefaultBodyLimit` must be disabled or raised.** It limits axum's extractors to 2 MB inside of our limit, and a handler that
//!   takes the body as a stream not at all. Where the answer is its own, it is plain text.
//! - **413 on every path.** With tower-http the client reads 413 where a length was declared, or where an axum extractor reads the
//!   body; of any other handler it reads what that makes of the error. Here that is replaced as long as the head is unsent.
//! - **The client gets to read it**: some of the rest is read and thrown away first, at most 256 KiB for at most one second.
//! - **The body must be `Unpin`**, as those of hyper, axum and tonic are. Inside, `axum::middleware::from_fn` wants axum's own body: see
//!   [where it goes](crate::request_limit#where-it-goes).
//! - The number is a `u64`, in bytes; tower-http's is a `usize`.
//!
//! # tower-http `CatchPanicLayer`
//!
//! Before:
//!
//! ```
//! use std::any::Any;
//! use axum::{Router, http::StatusCode, response::{IntoResponse, Response}, routing::get};
//! use tower_http::catch_panic::CatchPanicLayer;
//!
//! fn answer(panic: Box<dyn Any + Send + 'static>) -> Response {
//!     eprintln!("panicked: {}", panic.downcast_ref::<&str>().unwrap_or(&"?"));
//!     (StatusCode::INTERNAL_SERVER_ERROR, "Oh dear.").into_response()
//! }
//!
//! let app: Router = Router::new()
//!     .route("/", get(async || { if true { panic!("oh no") } }))
//!     .layer(CatchPanicLayer::custom(answer));
//! # let _ = app;
//! ```
//!
//! After, in two: a hook that is told, and an answer that is not:
//!
//! ```
//! use axum::{BoxError, Router, body::{Body, Bytes}, http::{Request, Response, StatusCode}, routing::get};
//! use seawall::{CatchPanicLayer, Rejection, Wire};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let layer = CatchPanicLayer::new()
//!     .on_panic(|panic| {
//!         let at = panic.request().map(|request| request.uri.path());
//!         eprintln!("{at:?} panicked: {}", panic.message().unwrap_or("?"));
//!     })
//!     .respond_with(|_: &Rejection, _: Wire| {
//!         let mut response = Response::new(Bytes::from_static(b"Oh dear."));
//!         *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
//!         response
//!     });
//! let app: Router = Router::new()
//!     .route("/", get(async || { if true { panic!("oh no") } }))
//!     .layer(layer);
//!
//! let response = app.oneshot(Request::get("/").body(Body::empty())?).await?;
//! assert_eq!(response.status(), 500);
//! # Ok(()) }
//! ```
//!
//! - **Panics of the response body and of `poll_ready` are caught**, too. After the head, the body ends with an error.
//! - **The answer cannot show the payload**, so that it does not reach a client by accident.
//! - **The log is yours.** Tower-http writes to `tracing` unless you give it an answer of your own; here that is the feature `tracing`.
//! - **No box.** Tower-http boxes the body of every response.
//! - The default answer is `application/problem+json` in place of the text `Service panicked`, and over gRPC `INTERNAL`.
//!
//! # tower-resilience `circuitbreaker`
//!
//! Before:
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//! use axum::{Router, error_handling::HandleErrorLayer, http::StatusCode, response::Response, routing::get};
//! use tower::ServiceBuilder;
//! use tower_resilience_circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer};
//!
//! async fn answer(_: CircuitBreakerError<Infallible>) -> StatusCode {
//!     StatusCode::SERVICE_UNAVAILABLE
//! }
//!
//! let (layer, handle) = CircuitBreakerLayer::builder()
//!     .failure_classifier(|result: &Result<Response, Infallible>| {
//!         result.as_ref().is_ok_and(|response| response.status().is_server_error())
//!     })
//!     .failure_rate_threshold(0.5)
//!     .sliding_window_size(100)
//!     .wait_duration_in_open(Duration::from_secs(5))
//!     .on_state_transition(|from, to| println!("{from:?} -> {to:?}"))
//!     .build_with_handle()?;
//! let app: Router = Router::new()
//!     .route("/reports", get(async || "from a database"))
//!     .layer(ServiceBuilder::new().layer(HandleErrorLayer::new(answer)).layer(layer));
//! assert!(!handle.is_open());
//! # let _ = app;
//! # Ok::<_, tower_resilience_circuitbreaker::CircuitBreakerConfigError>(())
//! ```
//!
//! After:
//!
//! ```
//! use std::time::Duration;
//! use axum::{BoxError, Router, body::Body, http::Request, routing::get};
//! use seawall::circuit_breaker::Window;
//! use seawall::{CircuitBreaker, CircuitBreakerLayer, CircuitState};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let breaker = CircuitBreaker::builder()
//!     .failure_rate(0.5)
//!     .window(Window::calls(100))
//!     .minimum_calls(100)
//!     .open_for(Duration::from_secs(5))
//!     .build()?;
//! breaker.on_transition(|transition| println!("{transition}"));
//! let app: Router = Router::new()
//!     .route("/reports", get(async || "from a database"))
//!     .layer(CircuitBreakerLayer::new(breaker.clone()));
//! assert_eq!(breaker.state(), CircuitState::Closed);
//!
//! breaker.force_open();
//! let response = app.oneshot(Request::get("/reports").body(Body::empty())?).await?;
//! assert_eq!(response.status(), 503);
//! # Ok(()) }
//! ```
//!
//! | there (default) | here (default) |
//! |---|---|
//! | `failure_rate_threshold` (0.5) | [`failure_rate`](crate::circuit_breaker::CircuitBreakerBuilder::failure_rate) (0.5) |
//! | `sliding_window_type`, `sliding_window_size`, `sliding_window_duration` (100 calls) | [`window`](crate::circuit_breaker::CircuitBreakerBuilder::window) (10 s) |
//! | `minimum_number_of_calls` (the size of the window) | [`minimum_calls`](crate::circuit_breaker::CircuitBreakerBuilder::minimum_calls) (20) |
//! | `wait_duration_in_open` (30 s) | [`open_for`](crate::circuit_breaker::CircuitBreakerBuilder::open_for) (5 s) |
//! | `permitted_calls_in_half_open` (1) | [`half_open`](crate::circuit_breaker::CircuitBreakerBuilder::half_open) (10) |
//! | `slow_call_duration_threshold`, `slow_call_rate_threshold` (none, 1.0) | [`slow_call`](crate::circuit_breaker::CircuitBreakerBuilder::slow_call) (none) |
//! | `consecutive_failures(k)`, in place of the rate | [`consecutive_failures`](crate::circuit_breaker::CircuitBreakerBuilder::consecutive_failures), beside it; `failure_rate(None)` switches that off |
//! | `failure_classifier`, `classify_response` | [`classify`](crate::GateLayer::classify), on the layer |
//! | `build_with_handle`, `handle.state()` | the handle itself, [`state`](crate::CircuitBreaker::state) |
//! | `handle.metrics().await` | [`snapshot`](crate::CircuitBreaker::snapshot) |
//! | `on_state_transition` | [`on_transition`](crate::CircuitBreaker::on_transition) |
//! | `force_open().await`, until the open time is over | [`trip`](crate::CircuitBreaker::trip); [`force_open`](crate::CircuitBreaker::force_open) is until `reset` |
//! | `force_closed().await`, `reset().await` | [`reset`](crate::CircuitBreaker::reset); [`force_closed`](crate::CircuitBreaker::force_closed) switches it off |
//! | `manual_mode` | [`observe_only`](crate::CircuitBreaker::observe_only), and `force_open` by hand |
//! | `backpressure` | [`CircuitBreakerReadyLayer`](crate::circuit_breaker::CircuitBreakerReadyLayer), for balancers |
//!
//! - **On a client too a refusal is `Ok`**, a 503 with the [`Rejection`](crate::Rejection) in its extensions, where there it is
//!   `Err(OpenCircuit)`. `.plain()` makes it an error.
//! - **What fails.** There every `Err` and nothing else; here also 5xx, failing gRPC statuses and a panic, while 429 and the refusals
//!   of inner layers count for nothing. See [what counts](crate::circuit_breaker#what-counts).
//! - **The window of calls slides.** There it opens when it is full and then counts every call since the last change of state.
//! - **Late results count for nothing.** There one counts in the state that it finds: it may close or open a half-open breaker.
//! - **Half-open goes by the rates.** There the first failure opens it, and a probe that hangs keeps its place for as long as it does.
//! - **A call that is dropped** counts as a failure once it has outlasted `slow_call`. There it counts for nothing.
//! - **No counterpart**: `with_fallback`, the hooks for each call (`on_call_permitted`, `on_call_rejected`, `on_success`, `on_failure`,
//!   `on_slow_call`; count with the features `metrics` and `tracing`), `health_status` and `http_status`, and the presets. A fixed answer
//!   in place of the refusal is [`respond_with`](crate::GateLayer::respond_with); it does not see the request.
//!
//! # tower-resilience `bulkhead`
//!
//! Before:
//!
//! ```
//! use std::time::Duration;
//! use tower::{BoxError, ServiceBuilder, ServiceExt};
//! use tower_resilience_bulkhead::{BulkheadLayer, BulkheadServiceError};
//!
//! # async fn query(id: u32) -> Result<u32, BoxError> { Ok(id) }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let bulkhead = BulkheadLayer::builder()
//!     .max_concurrent_calls(25)
//!     .max_wait_duration(Duration::from_millis(100))
//!     .name("rows")
//!     .build()?;
//! let service = ServiceBuilder::new().layer(bulkhead).service_fn(query);
//! match service.oneshot(7).await {
//!     Ok(row) => println!("{row}"),
//!     Err(BulkheadServiceError::Bulkhead(no)) => println!("{no}"),
//!     Err(BulkheadServiceError::Inner(error)) => return Err(error),
//! }
//! # Ok(()) }
//! ```
//!
//! After:
//!
//! ```
//! use std::time::Duration;
//! use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, Rejection};
//! use tower::{BoxError, ServiceBuilder, ServiceExt};
//!
//! # async fn query(id: u32) -> Result<u32, BoxError> { Ok(id) }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let limit = ConcurrencyLimit::new(25).wait(100, Duration::from_millis(100)).named("rows");
//! let service = ServiceBuilder::new()
//!     .layer(ConcurrencyLimitLayer::new(limit.clone()).plain())
//!     .service_fn(query);
//! match service.oneshot(7).await {
//!     Ok(row) => println!("{row}"),
//!     Err(error) => match error.downcast_ref::<Rejection>() {
//!         Some(no) => println!("{no}, come back in {:?}", no.retry_after()),
//!         None => return Err(error),
//!     },
//! }
//! # Ok(()) }
//! ```
//!
//! - **The default is to refuse**, as with `reject_when_full()`; there it is to wait without end. The room is bounded in length, too.
//! - **Two reasons**: [`Full`](crate::Reason::Full) at once, [`QueueTimeout`](crate::Reason::QueueTimeout) after waiting. There both are `BulkheadError::Timeout`.
//! - **Over HTTP** a place is held until the response body has ended; there, as over `.plain()`, until the future ends.
//! - `active_calls()` of its handle is [`in_flight`](crate::ConcurrencyLimit::in_flight), and [`set_limit`](crate::ConcurrencyLimit::set_limit)
//!   changes the limit while it runs.
//! - **No counterpart**: `backpressure()`, which waits in `poll_ready`: tower's `ConcurrencyLimit` does that. Nor the `on_call_…` hooks
//!   and the presets.
//!
//! # tower-resilience `timelimiter`
//!
//! ```
//! # use std::time::Duration;
//! # use tower::{BoxError, ServiceBuilder, ServiceExt};
//! use seawall::{Reason, Rejection, TimeoutLayer};
//! use tower_resilience_timelimiter::{TimeLimiterError, TimeLimiterLayer};
//!
//! # async fn query(seconds: u32) -> Result<u32, BoxError> {
//! #     tokio::time::sleep(Duration::from_secs(seconds.into())).await;
//! #     Ok(seconds)
//! # }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let limiter = TimeLimiterLayer::builder()
//!     .timeout_fn(|id: &u32| Duration::from_secs(if *id == 0 { 60 } else { 5 }))
//!     .build();
//! let before = ServiceBuilder::new().layer(limiter).service_fn(query);
//! assert!(matches!(before.oneshot(7).await, Err(TimeLimiterError::Timeout)));
//!
//! let timeout = TimeoutLayer::new(Duration::from_secs(5))
//!     .plain()
//!     .per_request(|id: &u32| (*id == 0).then_some(Duration::from_secs(60)));
//! let after = ServiceBuilder::new().layer(timeout).service_fn(query);
//! let error = after.oneshot(7).await.unwrap_err();
//! assert_eq!(error.downcast_ref().map(Rejection::reason), Some(Reason::Timeout));
//! # }
//! ```
//!
//! - **Over HTTP** it is 504 and no error. Both run to the response head; here [`including_body`](crate::TimeoutLayer::including_body) goes on.
//! - **No counterpart**: `cancel_running_future(false)` and `detached()`. When the time is up the call is dropped, and what must go on
//!   is spawned by the service itself. Nor `on_success`, `on_error`, `on_timeout`; [`Timeout::snapshot`](crate::Timeout::snapshot) counts the last.
//!
//! # What has no counterpart
//!
//! Of tower-resilience: `adaptive` (a [`ConcurrencyLimit`](crate::ConcurrencyLimit) has the number that you give it, though
//! [`set_limit`](crate::ConcurrencyLimit::set_limit) lets a controller of yours change it), `cache`, `chaos`, `coalesce`, `executor`,
//! `fallback`, `healthcheck`, `hedge`, `outlier`, `ratelimiter`, `reconnect`, `retry`, `router`. They go around a layer with `.plain()`, whose refusal
//! is an error to them. `ResilienceError` and `.unified()` have no use between our own layers, as all of them say no with a
//! [`Rejection`](crate::Rejection).
//!
//! Of tower-http everything but the layers above, and nothing here is in its way.
