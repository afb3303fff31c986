//! A database, or another client that is not HTTP.
//!
//! The layers work around any Tower service. Over [`Plain`](crate::Plain), a rejection is the error
//! of the service: its error type implements `From<Rejection>`. With an error type of your own,
//! nothing is boxed. [`seawall::client()`](crate::client) has a circuit breaker, a timeout and a
//! concurrency limit, [in this order](crate::stack#the-parts-of-a-client):
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
//! println!("{}, {:?}", stack.circuit_breaker().state(), stack.snapshot());
//! # Ok(()) }
//! ```
//!
//! - **The breaker** has its defaults here; set it with `circuit_breaker(settings)`.
//! - **The permit is released when the future ends.** If the future returns a stream of rows, a
//!   connection or a transaction, its later use does not count: do that work inside the call.
//! - **The pool has a queue too.** If the limit is above the number of connections, calls wait in
//!   the pool while they hold a permit. Give the pool a timeout for that.
//! - **The limit** needs a service that is `Clone`, also without a queue. A service over a pool is
//!   `Clone` if the pool is, as most pools are.
//! - **Without a service**, call [`breaker.run`](crate::CircuitBreaker::run) with a future that
//!   takes a permit (`limit.acquire().await?`) and then runs the query with a timeout. The timeout
//!   is inside `run`, since the breaker ignores a call that is dropped, unless it is slow. The time
//!   in the queue counts as time of the call. With an error such as `BoxError`, it also ignores the
//!   rejections of the limit. [`run_with`](crate::CircuitBreaker::run_with) classifies results.
//! - **Other parts**: `GateLayer::from_policy((breaker, timeout, limit)).plain()` is one layer with
//!   the handles that you choose; the limit must be the last one. It costs less than nested layers,
//!   and the breaker ignores the rejections of the limit.
//! - **A boxed error** (`BoxError`) works too; find the rejection with
//!   [`Rejection::find`](crate::Rejection::find). If the layer does not compile in an axum handler
//!   or a spawned task ("higher-ranked lifetime error"), call
//!   [`opaque_errors`](crate::GateLayer::opaque_errors) instead of `classify`: every error is then
//!   a failure, also that a row is not there.
