//! Unit tests of timeouts, limits and breakers without waiting.
//!
//! Layers read Tokio's clock, so that a test with `start_paused` needs no real time: when all tasks
//! wait, the clock moves to the next timer. The tests need Tokio's feature `test-util` and tower's
//! feature `util`, as dev-dependencies:
//!
//! ```
//! use std::time::Duration;
//! use axum::body::Body;
//! use axum::http::{Request, StatusCode};
//! use axum::{Router, routing::get};
//! use seawall::{CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, CircuitState};
//! use tokio::time::{Instant, sleep};
//! use tower::ServiceExt;
//!
//! fn get_root() -> Request<Body> {
//!     Request::get("/").body(Body::empty()).unwrap()
//! }
//!
//! # const _: &str = stringify! {
//! #[tokio::test(start_paused = true)]
//! # };
//! async fn a_handler_that_hangs_is_a_504_after_five_seconds() {
//!     let stack = seawall::server().timeout(Duration::from_secs(5)).build().unwrap();
//!     let app: Router = Router::new()
//!         .route("/", get(async || sleep(Duration::from_secs(3600)).await))
//!         .layer(stack);
//!
//!     let start = Instant::now();
//!     let response = app.oneshot(get_root()).await.unwrap();
//!     assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
//!     assert_eq!(start.elapsed().as_secs(), 5);
//! }
//!
//! # const _: &str = stringify! {
//! #[tokio::test(start_paused = true)]
//! # };
//! async fn a_response_that_is_not_read_holds_its_permit() {
//!     let stack = seawall::server().concurrency_limit(1).build().unwrap();
//!     let app: Router = Router::new().route("/", get(async || "hello")).layer(stack);
//!
//!     let first = app.clone().oneshot(get_root()).await.unwrap();
//!     let second = app.clone().oneshot(get_root()).await.unwrap();
//!     assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
//!     drop(first);
//!     let third = app.oneshot(get_root()).await.unwrap();
//!     assert_eq!(third.status(), StatusCode::OK);
//! }
//!
//! # const _: &str = stringify! {
//! #[tokio::test(start_paused = true)]
//! # };
//! async fn the_circuit_opens_after_three_failures_and_probes_after_five_seconds() {
//!     let settings = CircuitBreakerSettings::default()
//!         .consecutive_failures(3)
//!         .open_duration(Duration::from_secs(5));
//!     let breaker = CircuitBreaker::new(settings).unwrap();
//!     let app: Router = Router::new()
//!         .route("/", get(async || StatusCode::INTERNAL_SERVER_ERROR))
//!         .layer(CircuitBreakerLayer::new(breaker.clone()));
//!
//!     for _ in 0..3 {
//!         let response = app.clone().oneshot(get_root()).await.unwrap();
//!         assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
//!     }
//!     assert!(matches!(breaker.state(), CircuitState::Open { .. }));
//!     let response = app.clone().oneshot(get_root()).await.unwrap();
//!     assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
//!
//!     tokio::time::advance(Duration::from_secs(5)).await;
//!     let probe = app.oneshot(get_root()).await.unwrap();
//!     assert_eq!(probe.status(), StatusCode::INTERNAL_SERVER_ERROR);
//! }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! # a_handler_that_hangs_is_a_504_after_five_seconds().await;
//! # a_response_that_is_not_read_holds_its_permit().await;
//! # the_circuit_opens_after_three_failures_and_probes_after_five_seconds().await;
//! # }
//! ```
//!
//! - **Force a state** instead of causing it: [`force_shedding`](crate::LagShed::force_shedding),
//!   [`force_open`](crate::CircuitBreaker::force_open) and
//!   [`set_limit`](crate::ConcurrencyLimit::set_limit)`(1)` work in tests as in a drill.
//! - **The lag monitor reads the system's clock**, which a paused clock does not stop. A lag
//!   shedder in a test sheds only if the test really blocks its runtime.
//! - **Sockets and `spawn_blocking` need real time.** Under a paused clock, a timer fires while
//!   data is on its way. Test over sockets with the clock running.
//! - **The idle timeout of keyed breakers** reads a clock of its own.
