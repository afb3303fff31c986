//! Moving over from tower, tower-http and tower-resilience.
//!
//! Layer by layer: what you have, what takes its place, and what you will notice. One at a time is fine: what stays of
//! [tower](https://docs.rs/tower), [tower-http](https://docs.rs/tower-http) and
//! [tower-resilience](https://docs.rs/tower-resilience) goes into the same `ServiceBuilder`.
//!
//! | there | here | what changes |
//! |---|---|---|
//! | axum `HandleErrorLayer` | nothing | each layer answers by itself |
//! | tower `TimeoutLayer` | [`TimeoutLayer`](crate::TimeoutLayer) | 504 and no error; waiting for a place counts |
//! | tower `ConcurrencyLimitLayer`, `GlobalConcurrencyLimitLayer` | [`ConcurrencyLimitLayer`](crate::ConcurrencyLimitLayer) | refuses where they wait; held until the body has ended; one limit for all routes |
//! | tower `LoadShedLayer` | nothing around our limit | the limit refuses by itself; for a busy runtime there is [`LagShedLayer`](crate::LagShedLayer) |
//! | tower `RateLimitLayer`, `BufferLayer`, `SpawnReadyLayer`, `RetryLayer`, `balance` | [they stay](#what-stays-in-tower) | |
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
//! # What changes everywhere
//!
//! - **Errors.** Over HTTP a refusal is a response, and the error type stays the inner service's. With `.plain()` it is an error,
//!   for which the inner one must be `From<Rejection>`; a `BoxError` is, and `.map_err(BoxError::from)` next to the service makes
//!   one. Either way it is one type, [`Rejection`](crate::Rejection), in the response's extensions or as the error.
//! - **Bodies.** Over HTTP the response body becomes a [`Body`](crate::Body) around yours, with the same frames and a
//!   [`BodyError`](crate::BodyError). `Router::layer` takes it; around a router box it once, as the
//!   [crate's docs](crate#the-order-of-layers) do. It is not `Default`, which tower-http's `TimeoutLayer` asks of what is inside.
//! - **State.** It is in the handle, which you keep, read and tune. Tower's `ConcurrencyLimitLayer`, and what tower-resilience's
//!   breaker and bulkhead `build()`, make it when they are applied: `Router::layer` does that for each route, and `axum::serve`
//!   again for each connection, unless `with_state` came after the layer. A limit of 2 is then 2 in each of them; ours is 2 in all.
//! - **Answers.** They are all in [one table](crate#answers), and [`respond_with`](crate::GateLayer::respond_with) changes any.
//!
//! # tower `timeout`, `load_shed`, a concurrency limit
//!
//! Three layers, two of them with errors, and a fourth to get rid of these, become two:
//!
//! ```
//! # use std::time::Duration;
//! # use axum::{BoxError, Router, body::Body, error_handling::HandleErrorLayer, http::{Request, StatusCode}, routing::get};
//! use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, TimeoutLayer};
//! # use tower::{ServiceBuilder, ServiceExt};
//! use tower::{limit::GlobalConcurrencyLimitLayer, load_shed::error::Overloaded, timeout::error::Elapsed};
//!
//! async fn answer(error: BoxError) -> StatusCode {
//!     match (error.is::<Elapsed>(), error.is::<Overloaded>()) {
//!         (true, _) => StatusCode::GATEWAY_TIMEOUT,
//!         (_, true) => StatusCode::SERVICE_UNAVAILABLE,
//!         _ => StatusCode::INTERNAL_SERVER_ERROR,
//!     }
//! }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let before = ServiceBuilder::new()
//!     .layer(HandleErrorLayer::new(answer))
//!     .timeout(Duration::from_secs(5)) // a method of tower's, which remains tower's
//!     .load_shed()
//!     .layer(GlobalConcurrencyLimitLayer::new(1));
//! let limit = ConcurrencyLimit::new(1);
//! let after = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(Duration::from_secs(5)))
//!     .layer(ConcurrencyLimitLayer::new(limit.clone()));
//!
//! let ask = || Request::get("/").body(Body::empty());
//! let app: Router = Router::new().route("/", get(async || "hello"));
//! let (before, after) = (app.clone().layer(before), app.layer(after));
//! let _unread = before.clone().oneshot(ask()?).await?;
//! assert_eq!(before.oneshot(ask()?).await?.status(), 200); // the place came back with the head
//! let _unread = after.clone().oneshot(ask()?).await?;
//! assert_eq!(after.oneshot(ask()?).await?.status(), 503); // the first body has not been read
//! assert_eq!(limit.in_flight(), 1);
//! # Ok(()) }
//! ```
//!
//! - **A place is held longer**, until the response body has ended or is dropped. Tower gives it back at the head, so that bodies
//!   that stream are not limited at all. A limit that was found with tower may have to be higher here.
//! - **Waiting is not the default.** Without `load_shed` tower waits as long as it takes, with no bound on how many do.
//!   [`ConcurrencyLimit::wait`](crate::ConcurrencyLimit::wait) lets a few wait for a short while.
//! - **The wait is within the time-out.** Tower waits in `poll_ready`, before its time-out starts in `call`.
//!   Here `poll_ready` reserves nothing, and the wait is in the call's own future.
//! - **The service must be `Clone`** for our limit, as a request that waits keeps the instance that was ready for it. A limit of 0
//!   panics; with tower it is never ready.
//! - **`load_shed` that is left around our limit** sheds nothing, as the limit is ready whenever its inner service is, and brings
//!   the boxed error back. Around a `Buffer`, a `RateLimit` or a balancer it works as before.
//! - **On a client**, with `.plain()`, `error.is::<Elapsed>()` becomes `error.downcast_ref::<Rejection>()` and a look at its
//!   [`reason`](crate::Rejection::reason). An error of your own that is `From<Rejection>` needs no box; tower boxes every error.
//!
//! # What stays in tower
//!
//! Rate limits, retries, hedging, buffers, balancing, filters and reconnecting are not replaced. Ours fit around and inside them.
//!
//! - `RateLimit` is not `Clone`, which our limit and axum ask for: a `Buffer` goes around it, as before. On a server both belong
//!   around the router: in `Router::layer` they are made for each route and connection, each with a task and a rate of its own.
//! - `SpawnReady` and `Buffer` drive a service that is slow to become ready. Our layers are ready when what is inside is.
//! - A retry outside should leave a [`Rejection`](crate::Rejection) alone, or heed its `retry_after`; see
//!   [what a refusal looks like](crate::circuit_breaker#what-a-refusal-looks-like).
//! - Under `balance` use [`CircuitBreakerReadyLayer`](crate::circuit_breaker::CircuitBreakerReadyLayer): not ready while open.
//!
//! # tower-http: the three time-outs
//!
//! ```
//! # use std::{convert::Infallible, time::Duration};
//! # use axum::{BoxError, Router, body::{Body, Bytes}, http::{Request, StatusCode}, routing::post};
//! # use futures_util::stream;
//! use seawall::{RequestLimitLayer, TimeoutLayer};
//! # use tower::{ServiceBuilder, ServiceExt};
//! use tower_http::timeout;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), BoxError> {
//! let (silence, whole) = (Duration::from_secs(3), Duration::from_secs(5));
//! let before = ServiceBuilder::new()
//!     .layer(timeout::ResponseBodyTimeoutLayer::new(silence))
//!     .layer(timeout::TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, whole))
//!     .layer(timeout::RequestBodyTimeoutLayer::new(silence));
//! let after = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(whole).body_idle(silence))
//!     .layer(RequestLimitLayer::new(u64::MAX).body_idle(silence)); // of any size
//! let app: Router = Router::new().route("/", post(async |body: Bytes| body.len().to_string()));
//! let silent = || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
//! let response = app.clone().layer(before).oneshot(Request::post("/").body(silent())?).await?;
//! assert_eq!(response.status(), 400);
//! let response = app.layer(after).oneshot(Request::post("/").body(silent())?).await?;
//! assert_eq!(response.status(), 408);
//! # Ok(()) }
//! ```
//!
//! - **The status is 504** and not of your choice, with a body where tower-http's is empty; `respond_with` makes it another. 408 is
//!   left for a request body that is too slow: tower-http gives the handler an error, of which axum's extractors make 400.
//! - **Finished work wins.** Tower-http asks its timers first, so that what is ready and late is thrown away.
//! - **The length survives.** Tower-http's body wrapper hides the size of what it wraps; such a response has no `content-length`.
//! - **More than silence**: [`including_body`](crate::TimeoutLayer::including_body) is one time for head and body,
//!   [`body_deadline`](crate::RequestLimitLayer::body_deadline) and [`body_rate`](crate::RequestLimitLayer::body_rate) a request's.
//!
//! # tower-http `RequestBodyLimitLayer`, axum `DefaultBodyLimit`
//!
//! ```
//! # use std::convert::Infallible;
//! # use axum::{BoxError, Router, body::{self, Body, Bytes}, http::{Request, StatusCode}, routing::post};
//! # use futures_util::stream;
//! use axum::extract::DefaultBodyLimit;
//! use seawall::RequestLimitLayer;
//! # use tower::ServiceExt;
//! use tower_http::limit::RequestBodyLimitLayer;
//! async fn upload(body: Body) -> Result<String, StatusCode> {
//!     let read = body::to_bytes(body, usize::MAX).await;
//!     read.map(|bytes| bytes.len().to_string()).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
//! }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let app: Router = Router::new().route("/", post(upload)).layer(DefaultBodyLimit::disable());
//! let before = app.clone().layer(RequestBodyLimitLayer::new(8 << 20));
//! let after = app.layer(RequestLimitLayer::new(8 << 20).per_request(|head| (head.uri.path() == "/login").then_some(4096)));
//! let chunked = || Body::from_stream(stream::iter([Ok::<_, Infallible>(Bytes::from(vec![0_u8; 9 << 20]))]));
//! assert_eq!(before.oneshot(Request::post("/").body(chunked())?).await?.status(), 500);
//! assert_eq!(after.oneshot(Request::post("/").body(chunked())?).await?.status(), 413);
//! # Ok(()) }
//! ```
//!
//! - **413 on every path.** With tower-http the client reads it where a length was declared, or where an axum extractor reads the
//!   body. Here the answer is replaced whoever reads, as long as the head is unsent.
//! - **`DefaultBodyLimit` must be disabled or raised.** It limits extractors to 2 MB inside of our limit, and handlers that read the
//!   body themselves not at all. One that a route has for itself becomes `per_request`, in bytes as a `u64`.
//! - **The body must be `Unpin`**, as those of hyper, axum and tonic are. Its type is ours inside, which `axum::middleware::from_fn`
//!   does not take: see [where it goes](crate::request_limit#where-it-goes).
//!
//! # tower-http `CatchPanicLayer`
//!
//! ```
//! # use std::any::Any;
//! # use axum::{BoxError, Router, body::{Body, Bytes}, http::{Request, Response, StatusCode}, routing::get};
//! use seawall::{CatchPanicLayer, Rejection, Wire};
//! # use tower::ServiceExt;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! fn oh_dear<B: From<&'static str>>() -> Response<B> {
//!     let mut response = Response::new(B::from("Oh dear."));
//!     *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
//!     response
//! }
//! let before = tower_http::catch_panic::CatchPanicLayer::custom(|panic: Box<dyn Any + Send + 'static>| {
//!     eprintln!("panicked: {}", panic.downcast_ref::<&str>().unwrap_or(&"?"));
//!     oh_dear::<Body>()
//! });
//! let after = CatchPanicLayer::new()
//!     .on_panic(|panic| eprintln!("{:?} panicked: {:?}", panic.request(), panic.message()))
//!     .respond_with(|_: &Rejection, _: Wire| oh_dear::<Bytes>());
//! let app: Router = Router::new().route("/", get(async || { if true { panic!("oh no") } }));
//! let before = app.clone().layer(before).oneshot(Request::get("/").body(Body::empty())?).await?;
//! let after = app.layer(after).oneshot(Request::get("/").body(Body::empty())?).await?;
//! assert_eq!((before.status().as_u16(), after.status().as_u16()), (500, 500));
//! # Ok(()) }
//! ```
//!
//! - **The payload** is for a hook, and the answer does not see it.
//! - **Panics of the response body and of `poll_ready` are caught** too; after the head the body ends with an error.
//! - **The default answer** is `application/problem+json` and not the text `Service panicked`; over gRPC it is `INTERNAL`. What
//!   tower-http's writes to `tracing` is the feature `tracing` here. Tower-http boxes the body of every response, ours does not.
//!
//! # tower-resilience `circuitbreaker`
//!
//! ```
//! # use std::{convert::Infallible, time::Duration};
//! # use axum::{BoxError, Router, body::Body, error_handling::HandleErrorLayer, http::{Request, StatusCode}, response::Response, routing::get};
//! use seawall::{CircuitBreaker, CircuitBreakerLayer, circuit_breaker::Window};
//! # use tower::{ServiceBuilder, ServiceExt};
//! use tower_resilience_circuitbreaker as theirs;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! async fn answer(_: theirs::CircuitBreakerError<Infallible>) -> StatusCode { StatusCode::SERVICE_UNAVAILABLE }
//! let (layer, handle) = theirs::CircuitBreakerLayer::builder()
//!     .failure_classifier(|result: &Result<Response, Infallible>| {
//!         result.as_ref().is_ok_and(|response| response.status().is_server_error())
//!     })
//!     .failure_rate_threshold(0.5)
//!     .sliding_window_size(100)
//!     .wait_duration_in_open(Duration::from_secs(5))
//!     .build_with_handle()?;
//! let before = ServiceBuilder::new().layer(HandleErrorLayer::new(answer)).layer(layer);
//!
//! let breaker = CircuitBreaker::builder()
//!     .failure_rate(0.5)
//!     .window(Window::calls(100))
//!     .minimum_calls(100)
//!     .open_for(Duration::from_secs(5))
//!     .build()?;
//! let after = CircuitBreakerLayer::new(breaker.clone());
//! handle.force_open().await;
//! breaker.trip();
//! let app: Router = Router::new().route("/", get(async || "from a database"));
//! let before = app.clone().layer(before).oneshot(Request::get("/").body(Body::empty())?).await?;
//! let after = app.layer(after).oneshot(Request::get("/").body(Body::empty())?).await?;
//! assert_eq!((before.status().as_u16(), after.status().as_u16()), (503, 503));
//! # Ok(()) }
//! ```
//!
//! | there (default) | here, of [`CircuitBreakerBuilder`](crate::circuit_breaker::CircuitBreakerBuilder) and [`CircuitBreaker`](crate::CircuitBreaker) (default) |
//! |---|---|
//! | `failure_rate_threshold` (0.5), `slow_call_…_threshold` (none, 1.0) | `failure_rate` (0.5), `slow_call` (none) |
//! | `sliding_window_…` (100 calls), `minimum_number_of_calls` (all of them) | `window` (10 s), `minimum_calls` (20) |
//! | `wait_duration_in_open` (30 s), `permitted_calls_in_half_open` (1) | `open_for` (5 s), `half_open` (10) |
//! | `consecutive_failures`, in place of the rate | `consecutive_failures`, beside it; `failure_rate(None)` is without |
//! | `failure_classifier`, `classify_response` | [`classify`](crate::GateLayer::classify), on the layer |
//! | `on_state_transition`, `metrics().await` | `on_transition`, `snapshot` |
//! | `force_open().await`, until the open time is over | `trip`; `force_open` lasts until `reset` |
//! | `force_closed().await`, `reset().await` | `reset`; `force_closed` switches the breaker off |
//! | `manual_mode` | `observe_only`, and `force_open` by hand |
//!
//! - **On a client a refusal is `Ok`** as well, a 503, where theirs is `Err(OpenCircuit)`. `.plain()` makes it an error.
//! - **What fails.** There every `Err` and nothing else; here 5xx, failing gRPC statuses and panics too, while 429 and refusals of
//!   inner layers count for nothing. See [what counts](crate::circuit_breaker#what-counts).
//! - **The window of calls slides.** Theirs decides once it is full, and from then on by all calls since the last change of state.
//! - **Late results count for nothing.** There one counts in the state that it meets, and may close or open a half-open breaker.
//! - **Half-open goes by the rates** and has a time of its own. There the first failure opens it, and a probe that hangs keeps its
//!   place. A call that is dropped counts for nothing there; here it is a failure once it has outlasted `slow_call`.
//! - **No counterpart**: `with_fallback` (`respond_with` makes a fixed answer, without a look at the request); the hooks for each
//!   call, as `on_call_rejected` (the features `metrics` and `tracing` have counters and events); `health_status`, `http_status`;
//!   the presets; `backpressure`, but for balancers.
//!
//! # tower-resilience `bulkhead`, `timelimiter`
//!
//! ```
//! # use std::time::Duration;
//! use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, Reason, Rejection, TimeoutLayer};
//! # use tower::{BoxError, ServiceBuilder, ServiceExt};
//! use tower_resilience_bulkhead::BulkheadLayer;
//! use tower_resilience_timelimiter::{TimeLimiterError, TimeLimiterLayer};
//!
//! async fn query(seconds: u32) -> Result<u32, BoxError> {
//!     tokio::time::sleep(Duration::from_secs(seconds.into())).await;
//!     Ok(seconds)
//! }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), BoxError> {
//! let (wait, whole) = (Duration::from_millis(100), Duration::from_secs(5));
//! let before = ServiceBuilder::new()
//!     .layer(TimeLimiterLayer::builder().timeout_duration(whole).build())
//!     .layer(BulkheadLayer::builder().max_concurrent_calls(25).max_wait_duration(wait).build()?)
//!     .service_fn(query);
//! let after = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(whole).plain())
//!     .layer(ConcurrencyLimitLayer::new(ConcurrencyLimit::new(25).wait(100, wait)).plain())
//!     .service_fn(query);
//! assert!(matches!(before.oneshot(7).await, Err(TimeLimiterError::Timeout)));
//! let error = after.oneshot(7).await.unwrap_err();
//! assert_eq!(error.downcast_ref::<Rejection>().map(Rejection::reason), Some(Reason::Timeout));
//! # Ok(()) }
//! ```
//!
//! - **The limit refuses by default**, as `reject_when_full` does; a bulkhead waits without end. Our room has a length besides.
//! - **Two reasons**, [`Full`](crate::Reason::Full) and [`QueueTimeout`](crate::Reason::QueueTimeout), where a bulkhead has
//!   `BulkheadError::Timeout` for both. Its errors and the limiter's are wrapped in one another; ours are one `Rejection`.
//! - **Over HTTP** a place is held until the body has ended; there, as over `.plain()`, until the future has.
//! - `timeout_fn` is [`per_request`](crate::TimeoutLayer::per_request), `active_calls` is
//!   [`in_flight`](crate::ConcurrencyLimit::in_flight), `on_timeout` a count in [`Timeout::snapshot`](crate::Timeout::snapshot).
//! - **No counterpart**: `backpressure` (tower's `ConcurrencyLimit` waits in `poll_ready`); `cancel_running_future(false)` and
//!   `detached` (when the time is up the call is dropped: what must go on, the service spawns); the other hooks, the presets.
//!
//! # What has no counterpart
//!
//! Of tower-resilience `adaptive` (our limit is the number that you give it, though a controller of yours may call
//! [`set_limit`](crate::ConcurrencyLimit::set_limit)), `cache`, `chaos`, `coalesce`, `executor`, `fallback`, `healthcheck`, `hedge`,
//! `outlier`, `ratelimiter`, `reconnect`, `retry` and `router`. They go around a layer with `.plain()`, whose refusal is an error
//! to them. Of tower-http everything but the layers above.
