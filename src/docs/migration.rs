//! How to migrate from tower 0.5, tower-http 0.7 and tower-resilience 0.14.
//!
//! This page lists for each layer its replacement and the changes. You can replace one layer at a
//! time. The other layers of [tower](https://docs.rs/tower),
//! [tower-http](https://docs.rs/tower-http) and
//! [tower-resilience](https://docs.rs/tower-resilience) go into the same `ServiceBuilder`. If you
//! replace several of them on a server, use [`seawall::server()`](crate::server), which has the
//! layers in [the right order](crate::stack#the-parts-of-a-server).
//!
//! | there | here | what changes |
//! |---|---|---|
//! | axum `HandleErrorLayer` | nothing | each layer answers by itself |
//! | tower `TimeoutLayer` | [`TimeoutLayer`](crate::TimeoutLayer) | 504 and no error; the time in the queue counts |
//! | tower `ConcurrencyLimitLayer`, `GlobalConcurrencyLimitLayer` | [`ConcurrencyLimitLayer`](crate::ConcurrencyLimitLayer) | rejects by default; a permit is held until the response body has ended; one limit for all routes |
//! | tower `LoadShedLayer` | nothing around our limit | the limit rejects by itself; for a runtime that cannot keep up use [`LagShedLayer`](crate::LagShedLayer) |
//! | tower `RateLimitLayer`, `BufferLayer`, `SpawnReadyLayer`, `RetryLayer`, `balance` | [they stay](#what-stays-in-tower) | |
//! | tower-http `TimeoutLayer` | [`TimeoutLayer`](crate::TimeoutLayer) | 504 with a body; gRPC gets a gRPC status |
//! | tower-http `ResponseBodyTimeoutLayer` | [`response_body_timeout`](crate::TimeoutLayer::response_body_timeout) of `TimeoutLayer` | the body keeps its size |
//! | tower-http `RequestBodyTimeoutLayer` | [`body_idle_timeout`](crate::RequestLimitSettings::body_idle_timeout()) of `RequestLimitSettings` | 408, independent of the handler |
//! | tower-http `RequestBodyLimitLayer` | [`RequestLimitLayer`](crate::RequestLimitLayer) | 413, independent of the handler |
//! | axum `DefaultBodyLimit` | stays, disabled or raised | a smaller one applies before our limit; for an inner layer that raises the limit see [`raisable_to`](crate::RequestLimitSettings::raisable_to()) |
//! | tower-http `CatchPanicLayer` | [`CatchPanicLayer`](crate::CatchPanicLayer) | catches panics of the body too; the responder does not get the payload |
//! | tower-resilience `circuitbreaker` | [`CircuitBreakerLayer`](crate::CircuitBreakerLayer) | 503 and no error; 5xx are failures; the window slides |
//! | tower-resilience `bulkhead` | [`ConcurrencyLimitLayer`](crate::ConcurrencyLimitLayer) | 503 and no error; rejects by default |
//! | tower-resilience `timelimiter` | [`TimeoutLayer`](crate::TimeoutLayer) | 504 and no error; always cancels the call |
//!
//! # What changes everywhere
//!
//! - **Errors.** Over HTTP a rejection is a response, and the error type is that of the inner
//!   service. With `.plain()` a rejection is an error, and the error type of the inner service must
//!   implement `From<Rejection>`. `BoxError` does; `.map_err(BoxError::from)` next to the service
//!   converts any other. All layers use one type, [`Rejection`](crate::Rejection): in the
//!   extensions of the response, or as the error.
//! - **Bodies.** Over HTTP the response body becomes a [`Body`](crate::Body) around yours, with the
//!   same frames and with [`BodyError`](crate::BodyError) as its error. `Router::layer` accepts it.
//!   Where the type must not change, use
//!   [`response_body(axum::body::Body::new)`](crate::GateLayer::response_body).
//! - **State.** It is in the handle, which you keep, read and tune. Tower's `ConcurrencyLimitLayer`
//!   and tower-resilience's breaker and bulkhead from `build()` make their state when the layer is
//!   applied. `Router::layer` applies it for each route, and `axum::serve` again for each
//!   connection, unless you call `with_state` after `layer`. There, a limit of 2 is 2 for each of
//!   them. Here, it is 2 for all of them.
//! - **Answers.** They are in [one table](crate#answers).
//!   [`respond_with`](crate::GateLayer::respond_with) changes them.
//!
//! # tower `timeout`, `load_shed` and a concurrency limit
//!
//! Two layers replace four. The fourth is there only to handle the errors of two of the others.
//!
//! ```
//! # use std::time::Duration;
//! # use axum::{BoxError, Router, http::StatusCode, routing::get};
//! use axum::error_handling::HandleErrorLayer;
//! use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, TimeoutLayer};
//! # use tower::ServiceBuilder;
//! use tower::limit::GlobalConcurrencyLimitLayer;
//! use tower::{load_shed::error::Overloaded, timeout::error::Elapsed};
//!
//! async fn answer(error: BoxError) -> StatusCode {
//!     match (error.is::<Elapsed>(), error.is::<Overloaded>()) {
//!         (true, _) => StatusCode::GATEWAY_TIMEOUT,
//!         (_, true) => StatusCode::SERVICE_UNAVAILABLE,
//!         _ => StatusCode::INTERNAL_SERVER_ERROR,
//!     }
//! }
//!
//! let before = ServiceBuilder::new()
//!     .layer(HandleErrorLayer::new(answer))
//!     .timeout(Duration::from_secs(5)) // tower's own
//!     .load_shed()
//!     .layer(GlobalConcurrencyLimitLayer::new(512));
//!
//! let limit = ConcurrencyLimit::new(512)?;
//! let after = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(Duration::from_secs(5)))
//!     .layer(ConcurrencyLimitLayer::new(limit.clone()));
//! # let app: Router = Router::new().route("/", get(async || "hello"));
//! # let _ = (app.clone().layer(before), app.layer(after));
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! - **A permit is held longer**, until the response body has ended or is dropped. Tower releases
//!   it at the response head, so that it does not limit bodies at all. A limit that you found with
//!   tower may have to be higher here.
//! - **There is no queue by default.** Without `load_shed`, tower queues without a bound on the
//!   number of requests or on the time. Here
//!   [`queue`](crate::ConcurrencyLimitSettings::queue) sets both.
//! - **The timeout includes the time in the queue.** Tower queues in `poll_ready`, and its timeout
//!   starts in `call`. Here `poll_ready` reserves nothing, and a request is queued in the future of
//!   the call.
//! - **The service must be `Clone`** for our limit, since a queued request keeps the instance that
//!   was polled ready. With tower, a service with a limit of 0 is never ready. Here
//!   `ConcurrencyLimit::new(0)` returns an error, and `ConcurrencyLimitLayer::new(0)` panics.
//! - **Remove `load_shed` around our limit.** It sheds nothing, since our limit is ready when the
//!   inner service is, and it adds the boxed error again. Around a `Buffer`, a `RateLimit` or a
//!   balancer it works as before.
//! - **On a client**, with `.plain()`, use [`Rejection::find`](crate::Rejection::find) and its
//!   [`reason`](crate::Rejection::reason) in place of `error.is::<Elapsed>()`. Tower boxes every
//!   error; here an error type of your own that is `From<Rejection>` needs no box.
//!
//! # What stays in tower
//!
//! Rate limits, retries, hedging, buffers, balancers, filters and reconnecting have no replacement
//! here. Our layers work around them and inside them.
//!
//! - `RateLimit` is not `Clone`, which our limit and axum require: put a `Buffer` around it, as
//!   before. On a server, put both around the router. `Router::layer` makes them for each route and
//!   connection, each with a task and a rate of its own.
//! - `SpawnReady` and `Buffer` drive a service that takes time to become ready. Our layers are
//!   ready when the inner service is.
//! - A retry outside our layers should not repeat a [`Rejection`](crate::Rejection), or wait for
//!   its [`retry_after`](crate::Rejection::retry_after); see [what a rejection looks
//!   like](crate::circuit_breaker#what-a-rejection-looks-like).
//! - Inside `balance`, use
//!   [`CircuitBreakerReadyLayer`](crate::circuit_breaker::CircuitBreakerReadyLayer), which is not
//!   ready while the breaker is open.
//!
//! # tower-http: the three timeouts
//!
//! ```
//! # use std::time::Duration;
//! # use axum::{Router, body::Bytes, http::StatusCode, routing::post};
//! use seawall::{
//!     RequestLimit, RequestLimitLayer, RequestLimitSettings, ResponseBodyTimeoutSettings,
//!     TimeoutLayer,
//! };
//! # use tower::ServiceBuilder;
//! use tower_http::timeout;
//!
//! let (idle, whole) = (Duration::from_secs(3), Duration::from_secs(5));
//! let before = ServiceBuilder::new()
//!     .layer(timeout::ResponseBodyTimeoutLayer::new(idle))
//!     .layer(timeout::TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, whole))
//!     .layer(timeout::RequestBodyTimeoutLayer::new(idle));
//!
//! let any_size = RequestLimitSettings::new(u64::MAX).body_idle_timeout(idle);
//! let bodies = ResponseBodyTimeoutSettings::default().idle_timeout(idle);
//! let after = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(whole).response_body_timeout(bodies))
//!     .layer(RequestLimitLayer::new(RequestLimit::new(any_size)?));
//! # let app: Router = Router::new().route("/", post(async |body: Bytes| body.len().to_string()));
//! # let _ = (app.clone().layer(before), app.layer(after));
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! - **The status is 504**, with a body. Tower-http answers the status that you pass, without a
//!   body; [`respond_with`](crate::GateLayer::respond_with) does the same here.
//! - **A slow request body is a 408.** Tower-http returns an error to the handler, which axum's
//!   extractors answer with 400.
//! - **Finished work is not dropped.** When the response is ready and the timer is due, the
//!   response wins. Tower-http polls its timer first.
//! - **The body keeps its size.** The body of tower-http's `ResponseBodyTimeoutLayer` has none, so
//!   that the response has no `content-length`.
//! - **There are more bounds**: [`including_body`](crate::TimeoutLayer::including_body) is one
//!   deadline for response head and body, and
//!   [`progress_timeout`](crate::ResponseBodyTimeoutSettings::progress_timeout()) ends a response
//!   that the client does not read. [`body_timeout`](crate::RequestLimitSettings::body_timeout())
//!   and [`min_body_rate`](crate::RequestLimitSettings::min_body_rate()) apply to request bodies.
//!
//! # tower-http `RequestBodyLimitLayer`, axum `DefaultBodyLimit`
//!
//! ```
//! # use axum::{Router, body::Bytes, routing::post};
//! use axum::extract::DefaultBodyLimit;
//! use seawall::RequestLimitLayer;
//! use tower_http::limit::RequestBodyLimitLayer;
//!
//! let app: Router = Router::new()
//!     .route("/", post(async |body: Bytes| body.len().to_string()))
//!     .layer(DefaultBodyLimit::disable());
//!
//! let before = app.clone().layer(RequestBodyLimitLayer::new(8 << 20));
//! let after = app.layer(
//!     RequestLimitLayer::new(8 << 20)
//!         .per_request(|head| (head.path() == "/login").then_some(4096)),
//! );
//! # let _ = (before, after);
//! ```
//!
//! - **413 in all cases.** With tower-http the client gets it if the request declares a length, or
//!   if an axum extractor reads the body; else it gets the answer of the handler to the error. Here
//!   the answer is replaced as long as the response head is not sent.
//! - **Disable or raise `DefaultBodyLimit`.** It limits extractors to 2 MiB, below our limit, and
//!   does not limit handlers that read the body themselves. If a route has one of its own, use
//!   [`per_request`](crate::RequestLimitLayer::per_request), in bytes as a `u64`.
//! - **The request body must be `Unpin`, `Send` and `'static`**, as those of hyper, axum and tonic
//!   are. The inner service gets a [`RequestBody`](crate::RequestBody). For
//!   `axum::middleware::from_fn` keep the type with
//!   [`request_body(axum::body::Body::new)`](crate::GateLayer::request_body).
//!
//! # tower-http `CatchPanicLayer`
//!
//! ```
//! # use std::any::Any;
//! # use axum::{Router, body::{Body, Bytes}, http::{Response, StatusCode}, routing::get};
//! use seawall::{CatchPanicLayer, Rejection, WireProtocol};
//!
//! fn oh_dear<B: From<&'static str>>() -> Response<B> {
//!     let mut response = Response::new(B::from("Oh dear."));
//!     *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
//!     response
//! }
//!
//! let before = tower_http::catch_panic::CatchPanicLayer::custom(
//!     |panic: Box<dyn Any + Send + 'static>| {
//!         eprintln!("panicked: {}", panic.downcast_ref::<&str>().unwrap_or(&"?"));
//!         oh_dear::<Body>()
//!     },
//! );
//! let after = CatchPanicLayer::new()
//!     .on_panic(|panic| eprintln!("{:?} panicked: {:?}", panic.request(), panic.message()))
//!     .respond_with(|_: &Rejection, _: WireProtocol| oh_dear::<Bytes>());
//! # let app: Router = Router::new().route("/", get(async || "hello"));
//! # let _ = (app.clone().layer(before), app.layer(after));
//! ```
//!
//! - **The payload** is passed to the hook and not to the responder.
//! - **Panics of the response body and of `poll_ready` are caught** too. After the response head,
//!   the body ends with an error.
//! - **The default answer** is `application/problem+json`, and over gRPC the status `INTERNAL`.
//!   Tower-http answers the text `Service panicked` in both cases. Its event in `tracing` is the
//!   feature `tracing` here. Tower-http boxes the body of every response; this crate does not.
//!
//! # tower-resilience `circuitbreaker`
//!
//! Before:
//!
//! ```text
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
//!     .build_with_handle()?;
//! let before = ServiceBuilder::new().layer(HandleErrorLayer::new(answer)).layer(layer);
//!
//! handle.force_open().await;
//! ```
//!
//! After:
//!
//! ```
//! # use std::time::Duration;
//! # use axum::{Router, routing::get};
//! use seawall::{CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings};
//! use seawall::circuit_breaker::Window;
//!
//! let settings = CircuitBreakerSettings::default()
//!     .failure_rate(0.5)
//!     .window(Window::count_based(100))
//!     .minimum_calls(100)
//!     .open_duration(Duration::from_secs(5));
//! let breaker = CircuitBreaker::new(settings)?;
//! let after = CircuitBreakerLayer::new(breaker.clone());
//!
//! breaker.trip();
//! # let _: Router = Router::new().route("/", get(async || "from a database")).layer(after);
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! | there (default) | here, of [`CircuitBreakerSettings`](crate::CircuitBreakerSettings) and [`CircuitBreaker`](crate::CircuitBreaker) (default) |
//! |---|---|
//! | `failure_rate_threshold` (0.5), `slow_call_…_threshold` (none, 1.0) | `failure_rate` (0.5), `slow_call` (none) |
//! | `sliding_window_…` (100 calls), `minimum_number_of_calls` (all of them) | `window` (10 s), `minimum_calls` (20) |
//! | `wait_duration_in_open` (30 s), `permitted_calls_in_half_open` (1) | `open_duration` (5 s), `half_open_probes` (10) |
//! | `consecutive_failures`, instead of the rate | `consecutive_failures`, in addition to it; `failure_rate(None)` switches the rate off |
//! | `failure_classifier`, `classify_response` | [`classify`](crate::GateLayer::classify) of the layer |
//! | `on_state_transition`, `metrics().await` | `on_transition`, `snapshot` |
//! | `force_open().await`, for the open duration | `trip`; `force_open` lasts until `reset` |
//! | `force_closed().await`, `reset().await` | `reset`; `force_closed` switches the breaker off |
//! | `manual_mode` | `observe_only`, and `force_open` |
//!
//! - **On a client a rejection is `Ok`** too, a 503. There it is `Err(OpenCircuit)`. `.plain()`
//!   makes it an error.
//! - **What counts as a failure.** There, every `Err` and nothing else. Here, 5xx, failing gRPC
//!   statuses and panics too, while 429 and rejections of inner layers are ignored; see [what
//!   counts](crate::circuit_breaker#what-counts).
//! - **The window of calls slides**, and decides from `minimum_calls` on. There, the breaker
//!   decides when the window is full, and then from all calls since the last change of state.
//! - **Late results are ignored.** There, a result counts in the state in which it arrives, and can
//!   close or open a half-open breaker.
//! - **The half-open state is decided by the rates** and has a timeout of its own. There, the first
//!   failure opens the breaker, and a probe that hangs keeps its slot.
//! - **A call that is dropped** is ignored there. Here it is a failure if it took longer than
//!   `slow_call`.
//! - **No counterpart**: `with_fallback` (`respond_with` makes a fixed answer, without the
//!   request); the hooks for each call, as `on_call_rejected` (the features `metrics` and `tracing`
//!   have counters and events); `health_status` and `http_status`; the presets; `backpressure`,
//!   except for balancers.
//!
//! # tower-resilience `bulkhead`, `timelimiter`
//!
//! Before:
//!
//! ```text
//! let (queue_timeout, whole) = (Duration::from_millis(100), Duration::from_secs(5));
//! let before = ServiceBuilder::new()
//!     .layer(TimeLimiterLayer::builder().timeout_duration(whole).build())
//!     .layer(
//!         BulkheadLayer::builder()
//!             .max_concurrent_calls(25)
//!             .max_wait_duration(queue_timeout)
//!             .build()?,
//!     )
//!     .service_fn(query);
//! ```
//!
//! After:
//!
//! ```
//! # use std::time::Duration;
//! use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings};
//! use seawall::{Reason, Rejection, TimeoutLayer};
//! # use tower::{BoxError, ServiceBuilder, ServiceExt};
//!
//! async fn query(seconds: u64) -> Result<u64, BoxError> {
//!     tokio::time::sleep(Duration::from_secs(seconds)).await;
//!     Ok(seconds)
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main()
//! # -> Result<(), BoxError> {
//! let (queue_timeout, whole) = (Duration::from_millis(100), Duration::from_secs(5));
//! let settings = ConcurrencyLimitSettings::fixed(25).queue(100, queue_timeout);
//! let limit = ConcurrencyLimit::new(settings)?;
//! let after = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(whole).plain())
//!     .layer(ConcurrencyLimitLayer::new(limit.clone()).plain())
//!     .service_fn(query);
//!
//! let error = after.oneshot(7).await.unwrap_err();
//! let rejection = error.downcast_ref::<Rejection>();
//! assert_eq!(rejection.map(Rejection::reason), Some(Reason::Timeout));
//! # Ok(())
//! # }
//! ```
//!
//! - **The limit rejects by default**, as `reject_when_full` does. A bulkhead queues without a
//!   bound on the time, and on the number of calls also with `max_wait_duration`.
//! - **Two reasons**, [`ConcurrencyLimit`](crate::Reason::ConcurrencyLimit) and
//!   [`QueueTimeout`](crate::Reason::QueueTimeout), where a bulkhead with a queue has
//!   `BulkheadError::Timeout`. The errors of the bulkhead and the time limiter wrap each other;
//!   here both are a [`Rejection`](crate::Rejection).
//! - **Over HTTP** a permit is held until the response body has ended. There, as here with
//!   `.plain()`, it is held until the future ends.
//! - [`per_request`](crate::TimeoutLayer::per_request) replaces `timeout_fn`,
//!   [`in_flight`](crate::ConcurrencyLimit::in_flight) replaces `active_calls`, and the count in
//!   [`Timeout::snapshot`](crate::Timeout::snapshot) replaces `on_timeout`.
//! - **No counterpart**: `backpressure` (tower's `ConcurrencyLimit` queues in `poll_ready`);
//!   `cancel_running_future(false)` and `detached` (the call is dropped when its time is over:
//!   spawn what must continue); the other hooks; the presets.
//!
//! # What has no counterpart
//!
//! From tower-resilience: `adaptive` (our limit is the number that you set; a controller of your
//! own can call [`set_limit`](crate::ConcurrencyLimit::set_limit)), `cache`, `chaos`, `coalesce`,
//! `executor`, `fallback`, `healthcheck`, `hedge`, `outlier`, `ratelimiter`, `reconnect`, `retry`
//! and `router`. Put them around a layer with `.plain()`, whose rejection is an error for them.
//! From tower-http: everything except the layers above.
