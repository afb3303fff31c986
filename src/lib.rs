//! Composable [Tower](https://docs.rs/tower) layers that keep a service answering: when there is more work than its runtime
//! can do, when a dependency fails, when a request never ends, when a body is too large, when a handler panics. Each stops one of these, costs next to
//! nothing while nothing is wrong, and tells the caller what happened.
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, routing::get};
//! use seawall::{
//!     CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimit, ConcurrencyLimitLayer,
//!     LagShed, LagShedLayer, RequestLimitLayer, TimeoutLayer,
//! };
//! use tower::ServiceBuilder;
//!
//! let lag = LagShed::default();
//! let limit = ConcurrencyLimit::new(512);
//! let breaker = CircuitBreaker::builder().failure_rate(0.5).open_for(Duration::from_secs(5)).build()?;
//!
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .route("/health", get(async || "ok"))
//!     .layer(
//!         ServiceBuilder::new()
//!             .layer(CatchPanicLayer::new())
//!             .layer(LagShedLayer::new(lag.clone()).exempt(|head| head.uri.path() == "/health"))
//!             .layer(
//!                 CircuitBreakerLayer::new(breaker.clone())
//!                     .exempt(|head| head.uri.path() == "/health"),
//!             )
//!             .layer(TimeoutLayer::new(Duration::from_secs(5)))
//!             .layer(
//!                 ConcurrencyLimitLayer::new(limit.clone())
//!                     .exempt(|head| head.uri.path() == "/health"),
//!             )
//!             .layer(RequestLimitLayer::new(2 * 1024 * 1024)),
//!     );
//!
//! lag.state(); // Normal, Warn or Shedding
//! breaker.state(); // Closed, Open { retry_in }, HalfOpen …
//! limit.set_limit(1024)?; // retune while it runs
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! # The order of layers
//!
//! ```text
//!            request                             response
//!               │                                    ▲
//! ┌─────────────▼────────────────────────────────────┴───────────────────┐
//! │ CatchPanicLayer         nothing of the stack unwinds past it         │
//! │ ┌───────────▼────────────────────────────────────┴─────────────────┐ │
//! │ │ LagShedLayer            what refuses most, refuses cheapest      │ │
//! │ │ ┌─────────▼────────────────────────────────────┴───────────────┐ │ │
//! │ │ │ CircuitBreakerLayer     sees a time-out as a failure         │ │ │
//! │ │ │ ┌───────▼────────────────────────────────────┴─────────────┐ │ │ │
//! │ │ │ │ TimeoutLayer            waiting for a place counts       │ │ │ │
//! │ │ │ │ ┌─────▼────────────────────────────────────┴───────────┐ │ │ │ │
//! │ │ │ │ │ ConcurrencyLimitLayer   held until the body is done  │ │ │ │ │
//! │ │ │ │ │ ┌───▼────────────────────────────────────┴─────────┐ │ │ │ │ │
//! │ │ │ │ │ │ RequestLimitLayer       next to what reads a body│ │ │ │ │ │
//! │ │ │ │ │ │ ┌─▼────────────────────────────────────┴───────┐ │ │ │ │ │ │
//! │ │ │ │ │ │ │                 your service                 │ │ │ │ │ │ │
//! ```
//!
//! What is first in a `ServiceBuilder` is outermost. Refusing is cheapest at the outside, so what refuses most goes there;
//! a layer sees everything that is inside it and nothing that is outside. The lag shedder sees handlers that compute, the
//! concurrency limit those that await: both belong in the stack. A breaker there guards the service against itself; around the
//! clients that it calls with, or around the routes that share a dependency, it does so for each dependency alone.
//!
//! `Router::layer` runs after routing. To refuse before it, put the stack around the router. `axum::serve` wants axum's own
//! body there, so box it once, outermost; and what it does for a router, `with_state`, is yours to do, or each request makes its route
//! anew:
//!
//! ```no_run
//! use axum::{Router, extract::Request, response::Response};
//! use seawall::{CatchPanicLayer, LagShed, LagShedLayer};
//! use tower::{ServiceBuilder, make::Shared};
//!
//! # async fn serve(router: Router, listener: tokio::net::TcpListener) -> std::io::Result<()> {
//! let app = ServiceBuilder::new()
//!     .map_response(|response: Response<_>| response.map(axum::body::Body::new))
//!     .layer(CatchPanicLayer::new())
//!     .layer(LagShedLayer::new(LagShed::default()))
//!     .service(router.with_state(()));
//! axum::serve(listener, Shared::new(app)).await
//! # }
//! ```
//!
//! # A whole server
//!
//! The same with what a service in production has: names for the metrics, hooks, a room to wait in, a breaker around the
//! routes that share a database, longer times for one route, a gate that only counts so far, and a listener for operators
//! with the state of all of it.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use axum::{Router, routing::{get, post}};
//! use seawall::{
//!     CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimit, ConcurrencyLimitLayer, LagLaw, LagShed,
//!     LagShedLayer, Outcome, RequestHead, RequestLimitLayer, Timeout, TimeoutLayer, circuit_breaker::OpenFor,
//! };
//! use tokio::net::TcpListener;
//! use tower::ServiceBuilder;
//!
//! # async fn order() {} async fn upload() {}
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let second = Duration::from_secs(1);
//!
//! // The handles: made once, cloned into layers, tuned and read from anywhere.
//! let lag = LagShed::with_law(LagLaw::default().max_shed(0.99))?.named("runtime");
//! let limit = ConcurrencyLimit::try_new(512)?.wait(128, second / 10).named("all");
//! let uploads = ConcurrencyLimit::try_new(16)?.named("uploads");
//! let times = Timeout::new(5 * second);
//! let database = CircuitBreaker::builder()
//!     .name("database")
//!     .failure_rate(0.5)
//!     .slow_call(second, 0.5)
//!     .open_for(OpenFor::growing(2 * second, 2.0, 60 * second).jitter(0.1))
//!     .build()?;
//! database.on_transition(|change| eprintln!("{} -> {}", change.from, change.to));
//!
//! let orders: Router = Router::new().route("/orders", post(order)).route_layer(
//!     ServiceBuilder::new()
//!         .layer(
//!             CircuitBreakerLayer::new(database.clone())
//!                 // Who asks too often is told so, which is no fault of the database.
//!                 .classify(|head| (head.status == 429).then_some(Outcome::Ignored)),
//!         )
//!         .layer(TimeoutLayer::new(2 * second)), // what the breaker sees
//! );
//! let large: Router = Router::new()
//!     .route("/uploads", post(upload))
//!     .route_layer(ConcurrencyLimitLayer::new(uploads.clone()).dry_run()); // counts what it would refuse
//!
//! let is_health = |head: &RequestHead<'_>| head.uri.path() == "/health";
//! let is_upload = |head: &RequestHead<'_>| head.uri.path() == "/uploads";
//! let app: Router = Router::new()
//!     .route("/health", get(async || "ok"))
//!     .merge(orders)
//!     .merge(large)
//!     .layer(
//!         ServiceBuilder::new()
//!             .layer(CatchPanicLayer::new().on_panic(|panic| eprintln!("{:?}", panic.message())))
//!             .layer(LagShedLayer::new(lag.clone()).exempt(is_health))
//!             .layer(
//!                 TimeoutLayer::new(times.clone())
//!                     .per_request(move |head| is_upload(head).then_some(60 * second))
//!                     .body_idle(3 * second),
//!             )
//!             .layer(ConcurrencyLimitLayer::new(limit.clone()).exempt(is_health))
//!             .layer(
//!                 RequestLimitLayer::new(64 * 1024)
//!                     .per_request(move |head| is_upload(head).then_some(100 * 1024 * 1024))
//!                     .headers(8 * 1024, 100)
//!                     .uri(8 * 1024)
//!                     .body_idle(3 * second),
//!             ),
//!     );
//!
//! // Not behind the wall: a service that is full must not lock its operators out.
//! let state = get(async move || {
//!     format!("{:#?}", (lag.snapshot(), limit.snapshot(), uploads.snapshot(), database.snapshot()))
//! });
//! let operators = Router::new().route("/state", state);
//! let operators = axum::serve(TcpListener::bind("127.0.0.1:9000").await?, operators);
//! let public = axum::serve(TcpListener::bind("127.0.0.1:3000").await?, app);
//! tokio::try_join!(operators.into_future(), public.into_future())?;
//! # Ok(()) }
//! ```
//!
//! # Answers
//!
//! No layer turns an infallible service into a fallible one: each answers by itself, so that there is no
//! `HandleErrorLayer` anywhere. gRPC is recognised by its content type over HTTP/2 and gets a trailers-only response.
//!
//! | why | HTTP | gRPC | `Retry-After` |
//! |---|---|---|---|
//! | [`Overloaded`](Reason::Overloaded) | 503 | `UNAVAILABLE` 14 | yes |
//! | [`Full`](Reason::Full), [`QueueTimeout`](Reason::QueueTimeout) | 503 | `RESOURCE_EXHAUSTED` 8 | yes |
//! | [`CircuitOpen`](Reason::CircuitOpen) | 503 | `UNAVAILABLE` 14 | yes |
//! | [`Draining`](Reason::Draining) | 503, on HTTP/1 `connection: close` | `UNAVAILABLE` 14 | no |
//! | [`Timeout`](Reason::Timeout) | 504 | `DEADLINE_EXCEEDED` 4 | no |
//! | [`BodyTooSlow`](Reason::BodyTooSlow) | 408, on HTTP/1 `connection: close` | `DEADLINE_EXCEEDED` 4 | no |
//! | [`BodyTooLarge`](Reason::BodyTooLarge) | 413 | `RESOURCE_EXHAUSTED` 8 | no |
//! | [`HeadersTooLarge`](Reason::HeadersTooLarge) | 431 | `RESOURCE_EXHAUSTED` 8 | no |
//! | [`UriTooLong`](Reason::UriTooLong) | 414 | `RESOURCE_EXHAUSTED` 8 | no |
//! | [`Panicked`](Reason::Panicked) | 500 | `INTERNAL` 13 | no |
//!
//! `Retry-After` is there where the policy gave a time; over gRPC it is `grpc-retry-pushback-ms`. HTTP bodies are
//! `application/problem+json` (RFC 9457). Every layer's `respond_with` changes all of it. The [`Rejection`] is in the
//! extensions of the response, for layers further out.
//!
//! # Policies, yours too
//!
//! Whatever decides at the door is a [`Policy`](policy::Policy) behind one service, the [`Gate`]. Its layer has
//! [`exempt`](GateLayer::exempt), [`dry_run`](GateLayer::dry_run), [`classify`](GateLayer::classify),
//! [`respond_with`](GateLayer::respond_with) and [`plain`](GateLayer::plain), whatever the policy. See [`policy`] for how
//! to write one in a few lines, and for several in one gate.
//!
//! State lives in the handle ([`LagShed`], [`CircuitBreaker`], [`ConcurrencyLimit`], [`Timeout`], …), made once in its constructor. Axum applies a layer
//! again per route, per connection and even per request; a limit of 2 is 2 all the same.
//!
//! # Guides
//!
//! [What goes where](docs::placement), on servers and on clients; [how to choose the numbers](docs::numbers); [what each layer does not protect from](docs::limits); [what it costs](docs::cost); [moving over
//! from tower, tower-http and tower-resilience](docs::migration).
//!
//! # Features
//!
//! - `http` (default): the [`Http`] protocol and [`RequestLimitLayer`]. Without it every other layer works over
//!   [`Plain`], and no HTTP crate is pulled in.
//! - `keyed`: [`CircuitBreakers`](circuit_breaker), one breaker per host, route or tenant.
//! - `serde`: [`serde::Serialize`](https://docs.rs/serde) for every snapshot.
//! - `tower-http`: tower-http's classifiers say what a response means.
//! - `metrics`: counters, gauges and a histogram; see [`observe`].
//! - `tracing`: an event per rejection and per panic, and for each change of state of a breaker or a lag shedder; see [`observe`].

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod catch_panic;
pub mod circuit_breaker;
pub mod concurrency_limit;
#[cfg(feature = "http")]
pub mod docs;
pub mod gate;
pub mod lag_monitor;
pub mod lag_shed;
pub mod observe;
pub mod policy;
pub mod protocol;
#[cfg(feature = "http")]
pub mod request_limit;
pub mod timeout;

#[cfg(feature = "http")]
mod body;
mod clock;
mod config;
mod control;
mod deadline;
mod rejection;

pub use self::catch_panic::{CatchPanic, CatchPanicLayer, CatchPanicService, PanicReport};
pub use self::circuit_breaker::{
    CircuitBreaker, CircuitBreakerLayer, CircuitState, CircuitTicket, Transition,
};
pub use self::concurrency_limit::{ConcurrencyLimit, ConcurrencyLimitLayer, Permit};
pub use self::config::ConfigError;
pub use self::control::lag::{LagLaw, LagState};
pub use self::deadline::Deadline;
pub use self::gate::{Gate, GateLayer};
pub use self::lag_monitor::{LagMonitor, LagReport};
pub use self::lag_shed::{LagShed, LagShedLayer, LoadSignal};
pub use self::observe::Meter;
pub use self::policy::{End, Outcome};
pub use self::protocol::{Http, Plain};
pub use self::rejection::{Reason, Rejection};
pub use self::timeout::{Timeout, TimeoutLayer, TimeoutService};

#[cfg(feature = "http")]
pub use self::{
    body::{Body, BodyError},
    protocol::{RequestHead, RequestSummary, ResponseHead, ResponseHeadMut, Wire},
    request_limit::{RequestLimit, RequestLimitLayer, RequestLimitService},
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
