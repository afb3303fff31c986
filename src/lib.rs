//! Composable [Tower](https://docs.rs/tower) layers that keep a hyper, axum or tonic service
//! available when it is overloaded, when a dependency fails, when a request never ends, when a
//! handler panics, and while a new version is deployed.
//!
//! | layer | handle | stops | the client reads |
//! |---|---|---|---|
//! | [`LagShedLayer`] | [`LagShed`] | more work than the runtime can do | 503 |
//! | [`ConcurrencyLimitLayer`] | [`ConcurrencyLimit`] | more requests in flight than you allow, with an optional queue | 503 |
//! | [`CircuitBreakerLayer`] | [`CircuitBreaker`] | calls to a dependency that fails or is slow | 503 |
//! | [`TimeoutLayer`] | [`Timeout`] | responses that never begin, optionally bodies that never end | 504 |
//! | [`RequestLimitLayer`] | [`RequestLimit`] | bodies, headers and URIs that are too large, bodies that are too slow | 413, 431, 414, 408 |
//! | [`CatchPanicLayer`] | [`CatchPanic`] | panics of handlers | 500 |
//! | [`DrainLayer`] | [`Drain`] | requests that a deployment cuts off | 503 after the lame-duck time of the drain |
//! | [`SlowPollLayer`] | [`SlowPoll`] | nothing: it reports handlers that block the runtime | |
//! | [`GateLayer`] | your [`Policy`](policy::Policy) | what your policy rejects | what your policy says |
//!
//! # The stack in one line
//!
//! ```
//! use axum::{Router, routing::get};
//!
//! let stack = seawall::server().build()?;
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .layer(stack.clone());
//!
//! // The stack is also the handle: it reads and changes its parts while the server runs.
//! stack.concurrency_limit().set_limit(2048)?;
//! println!("{:#?}", stack.snapshot());
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! - [`server`] is the stack for a service. It answers when a handler panics, sheds load when the
//!   runtime falls behind, and drains the process. It limits the time to the response head, the
//!   requests in flight and the size of request bodies. It cuts off clients that stop reading.
//! - [`client`] is the stack for calls to one dependency: a circuit breaker, a timeout and a
//!   concurrency limit.
//!
//! The [`stack`] module describes the parts, their [order](stack#the-parts-of-a-server) and their
//! [defaults](stack#defaults-of-a-server).
//!
//! # The layers
//!
//! Each part of a stack also works alone. Make a handle, for example a [`ConcurrencyLimit`], and
//! make a layer from it. The handle has the state: its clones read and change the same state. A
//! framework may apply the layer to many routes and connections; they share the state too.
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, routing::{get, post}};
//! use seawall::{
//!     CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, ConcurrencyLimit,
//!     ConcurrencyLimitLayer, Outcome, TimeoutLayer,
//! };
//! use tower::ServiceBuilder;
//! # async fn order() {} async fn upload() {}
//!
//! let settings = CircuitBreakerSettings::default()
//!     .failure_rate(0.5)
//!     .open_duration(Duration::from_secs(5));
//! let database = CircuitBreaker::new(settings)?.named("database");
//! database.on_transition(|transition| eprintln!("database: {transition}"));
//!
//! let orders: Router = Router::new().route("/orders", post(order)).route_layer(
//!     ServiceBuilder::new()
//!         .layer(
//!             CircuitBreakerLayer::new(database.clone())
//!                 // These handlers answer 429 if the database is overloaded.
//!                 .classify(|head| (head.status == 429).then_some(Outcome::Failure)),
//!         )
//!         .layer(TimeoutLayer::new(Duration::from_secs(2))), // a failure for the breaker
//! );
//!
//! let uploads = ConcurrencyLimit::new(16)?.named("uploads");
//! let large: Router = Router::new()
//!     .route("/uploads", post(upload))
//!     // A dry run: it counts the requests that it would reject, and admits them.
//!     .route_layer(ConcurrencyLimitLayer::new(uploads.clone()).dry_run());
//!
//! let stack = seawall::server().exempt(|head| head.path() == "/health").build()?;
//! let app: Router = Router::new()
//!     .route("/health", get(async || "ok"))
//!     .merge(orders)
//!     .merge(large)
//!     .layer(stack);
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! In a `ServiceBuilder` the first layer is the outermost. Nest single layers in the
//! [order of the stack](stack#the-parts-of-a-server).
//!
//! All layers have this in common:
//!
//! - **A permit is held as long as the work lasts**: until the response body has ended or is
//!   dropped, not until the response head.
//! - **Nothing leaks.** However a request ends (a response, a drop, a panic), its permit and its
//!   timer are released exactly once.
//! - **The error type stays.** A layer over HTTP answers a rejected request with a response. An
//!   infallible service stays infallible, and needs no `HandleErrorLayer`.
//! - [`exempt`](GateLayer::exempt) skips the layer's policy for some requests.
//!   [`dry_run`](GateLayer::dry_run) admits all requests, and counts those that the layer would
//!   have rejected or queued. A drain, a timeout, a request limit and panic isolation have no dry
//!   run: `dry_run` turns them off. [`switched_by`](GateLayer::switched_by) turns a layer on and
//!   off while the server runs.
//! - [`plain`](GateLayer::plain) puts a layer around any `Service`, not only HTTP.
//!
//! # Answers
//!
//! What the client reads if a layer rejects its request:
//!
//! | reason | HTTP | gRPC | `Retry-After` |
//! |---|---|---|---|
//! | [`Overloaded`](Reason::Overloaded) | 503 | `UNAVAILABLE` 14 | yes |
//! | [`ConcurrencyLimit`](Reason::ConcurrencyLimit), [`QueueTimeout`](Reason::QueueTimeout) | 503 | `RESOURCE_EXHAUSTED` 8 | yes |
//! | [`RateLimited`](Reason::RateLimited) | 429 | `RESOURCE_EXHAUSTED` 8 | yes |
//! | [`CircuitOpen`](Reason::CircuitOpen) | 503 | `UNAVAILABLE` 14 | yes, unless the breaker is forced open |
//! | [`Draining`](Reason::Draining) | 503, on HTTP/1 `connection: close` | `UNAVAILABLE` 14 | no |
//! | [`Timeout`](Reason::Timeout) | 504; if the service waits for the request body, 408 and on HTTP/1 `connection: close` | `DEADLINE_EXCEEDED` 4 | no |
//! | [`BodyTooSlow`](Reason::BodyTooSlow) | 408, on HTTP/1 `connection: close` | `DEADLINE_EXCEEDED` 4 | no |
//! | [`BodyTooLarge`](Reason::BodyTooLarge) | 413 | `RESOURCE_EXHAUSTED` 8 | no |
//! | [`HeadersTooLarge`](Reason::HeadersTooLarge) | 431 | `RESOURCE_EXHAUSTED` 8 | no |
//! | [`UriTooLong`](Reason::UriTooLong) | 414 | `RESOURCE_EXHAUSTED` 8 | no |
//! | [`Panicked`](Reason::Panicked) | 500 | `INTERNAL` 13 | no |
//! | [`Custom`](Reason::Custom) | set by your [`CustomReason`] | set by your [`CustomReason`] | if your policy sets it |
//!
//! ```text
//! HTTP/1.1 503 Service Unavailable
//! content-type: application/problem+json
//! retry-after: 2
//! content-length: 151
//!
//! {"type":"about:blank",…,"status":503,…,"reason":"concurrency_limit"}
//! ```
//!
//! - HTTP bodies are `application/problem+json` (RFC 9457) with a member `reason`.
//! - `Retry-After` is in whole seconds, rounded up, at least 1, with jitter. It is sent if the
//!   policy sets a retry time; over gRPC as `grpc-retry-pushback-ms`.
//! - A layer recognises a gRPC request by its method, POST, and its content type. It answers with a
//!   trailers-only response.
//! - `RateLimited` is a reason for your own policies.
//! - [`respond_with`](GateLayer::respond_with) replaces the answer of a layer.
//! - Outer layers find the [`Rejection`] in the extensions of the response.
//!
//! # Guides
//!
//! - [Placement](docs::placement): where to put each layer, on servers and on clients.
//! - [Numbers](docs::numbers): how to choose limits and timeouts from one load test.
//! - [Recipes](docs::recipes): streams, reqwest, hyper, Kubernetes, Prometheus, retries, tests.
//! - [Limits](docs::limits): what each layer does not protect from.
//! - [Cost](docs::cost): what a request costs, and what many cores share.
//! - [Migration](docs::migration): from tower, tower-http and tower-resilience.
//!
//! To write a policy of your own, see [`policy`]: a [`Policy`](policy::Policy) admits or rejects a
//! request and learns how it ended. Every layer makes the same service, a [`Gate`], around one
//! or more policies. [`GateLayer::from_policy`] takes yours, or a tuple of them.
//!
//! To operate a server, see [`drain`], [`health`] (`/livez`, `/readyz` and `/statusz`),
//! [`registry`] (one snapshot of all stacks and handles of the process), [`slow_poll`] (which
//! handlers block the runtime) and [`observe`] (metrics and events).
//!
//! # Versions
//!
//! The layers work with every service of `tower-service` 0.3 and `http` 1, as in axum 0.7 and
//! later, tonic 0.12 and later, and hyper 1. CI tests axum 0.8, tonic 0.14, hyper 1 and tower 0.5.
//! Tokio is 1.49 or later, without `tokio_unstable`. The runtime must have a time driver
//! (`enable_time` or `enable_all`). The [`LoadSignal`]s of memory and the label
//! `contention` are measured on Linux only.
//!
//! # Features
//!
//! - `http` (default): the [`Http`] protocol, [`RequestLimitLayer`], the [`stack`], [`health`],
//!   [`registry`] and the guides. Without it, call `plain()` on each layer. The crate then depends
//!   on no HTTP crate.
//! - `keyed`: [`CircuitBreakers`](circuit_breaker), one breaker per host, route or tenant.
//! - `serde`: [`serde::Serialize`](https://docs.rs/serde) for every snapshot, and also
//!   `Deserialize` for settings.
//! - `tower-http-06`, `tower-http-07`: `GateLayer::classify_with` takes the classifiers of tower-http
//!   0.6 or 0.7. You may enable both.
//! - `metrics`: counters, gauges and histograms through the
//!   [`metrics`](https://docs.rs/metrics) facade; see [`observe`].
//! - `tracing`: events for rejections and panics, at most five a second for each reason, and for
//!   each change of state of a breaker or a lag shedder; see [`observe`].

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
pub mod slow_poll;
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
mod label;
mod outcome;
mod panic_report;
mod plain;
#[cfg(feature = "http")]
mod raise;
mod reason;
mod rejection;
mod request;
#[cfg(feature = "serde")]
mod seconds;
mod sync;
mod unwind;
#[cfg_attr(not(feature = "http"), path = "no_upload.rs")]
mod upload;

#[doc(inline)]
pub use self::catch_panic::{CatchPanic, CatchPanicLayer, PanicReport};
#[doc(inline)]
pub use self::circuit_breaker::{
    CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, CircuitState, Transition,
};
#[cfg(feature = "keyed")]
#[doc(inline)]
pub use self::circuit_breaker::{CircuitBreakers, CircuitBreakersLayer, CircuitBreakersSettings};
#[doc(hidden)]
pub use self::clock::pool_timers_when_paused;
#[doc(inline)]
pub use self::concurrency_limit::{
    ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings,
};
#[doc(inline)]
pub use self::config::ConfigError;
#[doc(inline)]
pub use self::deadline::Deadline;
#[doc(inline)]
pub use self::drain::{Drain, DrainLayer, DrainReport, DrainSettings, DrainState};
#[doc(inline)]
pub use self::gate::{Gate, GateLayer};
#[doc(inline)]
pub use self::lag_monitor::{LagMonitor, LagReport};
#[doc(inline)]
pub use self::lag_shed::{LagShed, LagShedLayer, LagState, LagThresholds, LoadSignal};
#[doc(inline)]
pub use self::observe::{Reporter, Source};
#[doc(inline)]
pub use self::outcome::{Completion, Outcome};
#[doc(inline)]
pub use self::policy::Permit;
#[doc(inline)]
pub use self::protocol::{Http, Plain};
#[doc(inline)]
pub use self::reason::{CustomReason, Reason};
#[doc(inline)]
pub use self::rejection::Rejection;
#[doc(inline)]
pub use self::request::{PlainRequest, RequestKind};
#[doc(inline)]
pub use self::slow_poll::{SlowPoll, SlowPollLayer, SlowPollSettings};
#[doc(inline)]
pub use self::timeout::{Timeout, TimeoutLayer, TimeoutSettings};

#[cfg(feature = "http")]
#[doc(inline)]
pub use self::{
    body::{Body, BodyError},
    health::Health,
    http::{HttpRequest, RequestHead, RequestSummary, ResponseHead, ResponseHeadMut, WireProtocol},
    registry::Registry,
    request_limit::{RequestBody, RequestLimit, RequestLimitLayer, RequestLimitSettings},
    stack::{Stack, client, server},
    timeout::{ResponseBodyTimeout, ResponseBodyTimeoutSettings},
};

#[cfg(any(feature = "tower-http-06", feature = "tower-http-07"))]
#[doc(inline)]
pub use self::http::tower_http::{IgnoreRejections, ResponseClassifier};

/// Names for what the types of services contain.
#[cfg(feature = "http")]
#[doc(hidden)]
pub mod internal {
    pub use crate::body::{Carried, Endings};
    pub use crate::http::{Memo, RequestBodies, Responder, ResponseBodies};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
