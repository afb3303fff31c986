//! A database, or another client that is not HTTP.
//!
//! The layers work around any Tower service. Over [`Plain`](crate::Plain), a rejection is the error
//! of the service. With an error type of your own, nothing is boxed:
//!
//! ```
//! use std::time::Duration;
//! use seawall::{ConcurrencyLimitSettings, Outcome, Rejection};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! #[derive(Debug, thiserror::Error)]
//! enum Error {
//!     #[error("the query failed: {0}")]
//!     Query(String),
//!     #[error("the row is not there")]
//!     NotFound,
//!     #[error(transparent)]
//!     Rejected(#[from] Rejection),
//! }
//!
//! # async fn query(sql: &'static str) -> Result<u64, Error> { Ok(sql.len() as u64) }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // As many permits as the pool has connections, and a short queue.
//! let limit = ConcurrencyLimitSettings::fixed(16).queue(64, Duration::from_millis(200));
//! let stack = seawall::client()
//!     .named("database")
//!     .timeout(Duration::from_secs(2))
//!     .concurrency_limit(limit)
//!     .build()?;
//! let layer = stack.clone().plain().classify(|result: &Result<u64, Error>| match result {
//!     Err(Error::NotFound) => Some(Outcome::Success), // the database has answered
//!     _ => None,
//! });
//! let mut database = ServiceBuilder::new().layer(layer).service(service_fn(query));
//!
//! match database.ready().await?.call("select 1").await {
//!     Ok(rows) => println!("{rows} rows"),
//!     Err(Error::Rejected(rejection)) => println!("not now: {}", rejection.reason()),
//!     Err(error) => println!("{error}"),
//! }
//! println!("{:?}", stack.snapshot()); // the stack reads and changes the parts
//! # Ok(()) }
//! ```
//!
//! - **Without a service**, call [`run`](crate::CircuitBreaker::run) of a
//!   [`CircuitBreaker`](crate::CircuitBreaker) around each query.
//! - **Other parts**: `GateLayer::from_policy((breaker, timeout, limit)).plain()` is one layer with
//!   the handles that you choose. It costs less than nested layers, and the breaker ignores the
//!   rejections of the limit.
//! - **A boxed error** (`BoxError`) works too; find the rejection with
//!   [`Rejection::find`](crate::Rejection::find). In an axum handler, call
//!   [`opaque_errors`](crate::GateLayer::opaque_errors) instead of `classify`. Every error is then
//!   a failure.
//! - **The queue** of the limit needs a service that is `Clone`. A service over a pool of
//!   connections usually is.
