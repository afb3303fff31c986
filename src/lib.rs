//! Composable [Tower](https://docs.rs/tower) layers that keep a service answering when it is
//! overloaded, when a dependency fails, when a request never ends, and when a handler panics.
//!
//! One line puts the recommended stack in front of an axum `Router`:
//!
//! ```
//! use axum::{Router, routing::get};
//!
//! let stack = seawall::server().build()?;
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .layer(stack.clone());
//!
//! // The stack is also the handle: read and tune its parts while the server runs.
//! stack.concurrency_limit().set_limit(2048)?;
//! println!("{:#?}", stack.snapshot());
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! [`server`] isolates panics, and sheds load when the runtime falls behind. It limits the time to
//! the response head, the requests in flight and the size of request bodies, and ends the response
//! to a client that stops reading. [`client`] puts a circuit breaker, a timeout and a limit in
//! front of calls to one dependency. The [`stack`] module describes their parts, their order and
//! their defaults.
//!
//! # The layers
//!
//! Every part also works alone. Each layer has a handle ([`LagShed`], [`CircuitBreaker`],
//! [`ConcurrencyLimit`], [`Timeout`], [`RequestLimit`], [`CatchPanic`], [`Drain`]). The handle
//! holds the state: clone it, read it and change it from anywhere. The layer puts it in front of a
//! service.
//!
//! | layer | protects from | the request gets |
//! |---|---|---|
//! | [`LagShedLayer`] | more work than the runtime can do | 503 |
//! | [`ConcurrencyLimitLayer`] | more requests in flight than you allow, with an optional queue | 503 |
//! | [`CircuitBreakerLayer`] | calls to a dependency that fails or is slow | 503 |
//! | [`TimeoutLayer`] | requests and bodies that never end | 504 |
//! | [`RequestLimitLayer`] | bodies, headers and URIs that are too large, bodies that are too slow | 413, 431, 414, 408 |
//! | [`CatchPanicLayer`] | panics of handlers | 500 |
//! | [`DrainLayer`] | deployments that cut requests off | 503 once the process is about to end |
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, routing::{get, post}};
//! use seawall::{
//!     CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, ConcurrencyLimit,
//!     ConcurrencyLimitLayer, ConcurrencyLimitSettings, Outcome, TimeoutLayer,
//! };
//! use tower::ServiceBuilder;
//! # async fn order() {} async fn upload() {}
//!
//! let settings = CircuitBreakerSettings::default()
//!     .failure_rate(0.5)
//!     .open_duration(Duration::from_secs(5));
//! let database = CircuitBreaker::new(settings)?.named("database");
//! let uploads = ConcurrencyLimit::new(16)?.named("uploads");
//!
//! let orders: Router = Router::new().route("/orders", post(order)).route_layer(
//!     ServiceBuilder::new()
//!         .layer(
//!             CircuitBreakerLayer::new(database.clone())
//!                 // A rate limit is not a failure of the database.
//!                 .classify(|head| (head.status == 429).then_some(Outcome::Ignored)),
//!         )
//!         .layer(TimeoutLayer::new(Duration::from_secs(2))),
//! );
//! let large: Router = Router::new()
//!     .route("/uploads", post(upload))
//!     // Counts what it would reject.
//!     .route_layer(ConcurrencyLimitLayer::new(uploads.clone()).dry_run());
//!
//! let limit = ConcurrencyLimitSettings::fixed(512).queue(128, Duration::from_millis(100));
//! let stack = seawall::server()
//!     .concurrency_limit(ConcurrencyLimit::new(limit)?)
//!     .exempt(|head| head.path() == "/health")
//!     .build()?;
//! let app: Router = Router::new()
//!     .route("/health", get(async || "ok"))
//!     .merge(orders)
//!     .merge(large)
//!     .layer(stack);
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! In a `ServiceBuilder` the first layer is the outermost. The
//! [order of the stack](stack#the-parts-of-a-server) applies to single layers too.
//!
//! `Router::layer` runs after routing. To reject requests before routing, put the stack around the
//! router, and convert response bodies to axum's body type:
//!
//! ```no_run
//! use axum::{Router, body::Body};
//! use tower::{Layer, make::Shared};
//!
//! # type Error = Box<dyn std::error::Error>;
//! # async fn serve(router: Router, listener: tokio::net::TcpListener) -> Result<(), Error> {
//! let stack = seawall::server().build()?.request_body(Body::new).response_body(Body::new);
//! let app = stack.layer(router.with_state(()));
//! axum::serve(listener, Shared::new(app)).await?;
//! # Ok(()) }
//! ```
//!
//! # Answers
//!
//! No layer makes an infallible service fallible: a rejected request gets a response, so you need
//! no `HandleErrorLayer`. A gRPC request is recognised by its content type and gets a
//! trailers-only response.
//!
//! | reason | HTTP | gRPC | `Retry-After` |
//! |---|---|---|---|
//! | [`Overloaded`](Reason::Overloaded) | 503 | `UNAVAILABLE` 14 | yes |
//! | [`ConcurrencyLimit`](Reason::ConcurrencyLimit), [`QueueTimeout`](Reason::QueueTimeout) | 503 | `RESOURCE_EXHAUSTED` 8 | yes |
//! | [`RateLimited`](Reason::RateLimited) | 429 | `RESOURCE_EXHAUSTED` 8 | yes |
//! | [`CircuitOpen`](Reason::CircuitOpen) | 503 | `UNAVAILABLE` 14 | yes |
//! | [`Draining`](Reason::Draining) | 503, on HTTP/1 `connection: close` | `UNAVAILABLE` 14 | no |
//! | [`Timeout`](Reason::Timeout) | 504; 408 and on HTTP/1 `connection: close` if the service waits for the request body | `DEADLINE_EXCEEDED` 4 | no |
//! | [`BodyTooSlow`](Reason::BodyTooSlow) | 408, on HTTP/1 `connection: close` | `DEADLINE_EXCEEDED` 4 | no |
//! | [`BodyTooLarge`](Reason::BodyTooLarge) | 413 | `RESOURCE_EXHAUSTED` 8 | no |
//! | [`HeadersTooLarge`](Reason::HeadersTooLarge) | 431 | `RESOURCE_EXHAUSTED` 8 | no |
//! | [`UriTooLong`](Reason::UriTooLong) | 414 | `RESOURCE_EXHAUSTED` 8 | no |
//! | [`Panicked`](Reason::Panicked) | 500 | `INTERNAL` 13 | no |
//! | [`Custom`](Reason::Custom) | set by your [`CustomReason`] | set by your [`CustomReason`] | yes |
//!
//! `Retry-After` is sent if the policy sets a retry time; over gRPC it is `grpc-retry-pushback-ms`.
//! `RateLimited` is a reason for your own policies. HTTP bodies are
//! `application/problem+json` (RFC 9457). `respond_with` on any layer replaces the answer. The
//! [`Rejection`] is in the extensions of the response, for outer layers.
//!
//! # Your own policies
//!
//! A [`Policy`](policy::Policy) admits or rejects a request and learns how it ended. All layers are
//! one service, the [`Gate`], over such policies; [`GateLayer::from_policy`] takes yours, or a
//! tuple of them. See [`policy`].
//!
//! # Operation
//!
//! [`Drain::serve`] ends a process without cutting requests off. [`Health`] answers `/livez`,
//! `/readyz` and `/statusz`; a [`Registry`] collects what all stacks and handles of the process are
//! doing.
//!
//! # Guides
//!
//! [Where to put each layer](docs::placement), on servers and on clients; [how to choose the
//! numbers](docs::numbers); [recipes](docs::recipes) for reqwest, AWS Lambda and streams; [what
//! each layer does not protect from](docs::limits); [what it costs](docs::cost); [how to move from
//! tower, tower-http and tower-resilience](docs::migration).
//!
//! # Features
//!
//! - `http` (default): the [`Http`] protocol, [`RequestLimitLayer`] and the [`stack`]. Without it
//!   every other layer works over [`Plain`], and the crate depends on no HTTP crate.
//! - `keyed`: [`CircuitBreakers`](circuit_breaker), one breaker per host, route or tenant.
//! - `serde`: [`serde::Serialize`](https://docs.rs/serde) for every snapshot.
//! - `tower-http`, `tower-http-07`: the classifiers of tower-http 0.6 or 0.7 say what a response
//!   means.
//! - `metrics`: counters, gauges and a histogram; see [`observe`].
//! - `tracing`: an event for each rejection and panic, and for each change of state of a breaker or
//!   a lag shedder; see [`observe`].

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod catch_panic;
pub mod circuit_breaker;
pub mod concurrency_limit;
#[cfg(feature = "http")]
pub mod docs;
pub mod drain;
pub mod gate;
#[cfg(feature = "http")]
pub mod health;
pub mod lag_monitor;
pub mod lag_shed;
pub mod observe;
pub mod policy;
pub mod protocol;
#[cfg(feature = "http")]
pub mod registry;
#[cfg(feature = "http")]
pub mod request_limit;
#[cfg(feature = "http")]
pub mod stack;
pub mod timeout;

#[cfg(feature = "http")]
mod body;
mod clock;
mod config;
mod control;
mod cutoff;
mod deadline;
#[cfg(feature = "http")]
mod http;
mod outcome;
mod panic_report;
mod plain;
#[cfg(feature = "http")]
mod raise;
mod reason;
mod rejection;
mod request;
mod sync;
#[cfg(feature = "http")]
mod upload;

pub use self::catch_panic::{CatchPanic, CatchPanicLayer, PanicReport};
pub use self::circuit_breaker::{
    CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, CircuitState, Transition,
};
#[doc(hidden)]
pub use self::clock::pool_timers_when_paused;
pub use self::concurrency_limit::{
    ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings,
};
pub use self::config::ConfigError;
pub use self::control::lag::law::LagState;
pub use self::control::lag::thresholds::LagThresholds;
pub use self::deadline::Deadline;
pub use self::drain::{Drain, DrainLayer, DrainReport, DrainSettings, DrainState};
pub use self::gate::{Gate, GateLayer};
pub use self::lag_monitor::{LagMonitor, LagReport};
pub use self::lag_shed::{LagShed, LagShedLayer, LoadSignal};
pub use self::observe::{Reporter, Source};
pub use self::outcome::{Completion, Outcome};
pub use self::policy::Permit;
pub use self::protocol::{Http, Plain};
pub use self::reason::{CustomReason, Reason};
pub use self::rejection::Rejection;
pub use self::request::{PlainRequest, RequestKind};
pub use self::timeout::{Timeout, TimeoutLayer, TimeoutSettings};

#[cfg(feature = "http")]
pub use self::{
    body::{Body, BodyError},
    health::Health,
    http::{HttpRequest, RequestHead, RequestSummary, ResponseHead, ResponseHeadMut, WireProtocol},
    registry::Registry,
    request_limit::{RequestBody, RequestLimit, RequestLimitLayer, RequestLimitSettings},
    stack::{Stack, client, server},
};

#[cfg(any(feature = "tower-http", feature = "tower-http-07"))]
pub use self::http::tower_http::ResponseClassifier;

/// Names for what the types of services contain.
#[cfg(feature = "http")]
#[doc(hidden)]
pub mod internal {
    pub use crate::http::{CarriedBody, Endings, Memo, RequestBodies, Responder, ResponseBodies};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
