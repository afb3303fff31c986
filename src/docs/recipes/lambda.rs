//! The stack on AWS Lambda.
//!
//! # AWS Lambda
//!
//! `lambda_http` runs any service over `http::Request`, so that the stack goes around the router:
//!
//! ```no_run
//! use std::time::{Duration, SystemTime};
//! use axum::{Router, routing::get};
//! use lambda_http::{Context, Error};
//! use seawall::{RequestHead, TimeoutLayer, policy::Mode};
//! use tower::ServiceBuilder;
//!
//! /// The time until Lambda ends the invocation, less half a second for the answer.
//! fn time_left(head: &RequestHead<'_>) -> Option<Duration> {
//!     let context = head.extensions.get::<Context>()?;
//!     let left = context.deadline().duration_since(SystemTime::now()).ok()?;
//!     Some(left.saturating_sub(Duration::from_millis(500)))
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     let stack = seawall::server().build()?;
//!     stack.switches().lag_shed.set(Mode::Off);
//!     stack.switches().concurrency_limit.set(Mode::Off);
//!     let router = Router::new().route("/", get(async || "hello"));
//!     let app = ServiceBuilder::new()
//!         .layer(stack)
//!         .layer(TimeoutLayer::new(Duration::from_secs(29)).per_request(time_left))
//!         .service(router.with_state(()));
//!     lambda_http::run(app).await
//! }
//! ```
//!
//! - **What remains useful**: the timeout, panic isolation and the request limit. An instance
//!   handles one event at a time, so that the lag shedder and the concurrency limit have nothing to
//!   reject. Limit the load with the function's reserved concurrency.
//! - **The timeout** must pass before the function's own. Otherwise Lambda ends the invocation, and
//!   the client reads an error of the gateway.
//! - **Panics.** Without the stack, a panic is an error of the invocation, and the client reads an
//!   error of the gateway. With it, the client reads the 500 of the layer.
//! - **Bodies.** Lambda delivers request bodies whole, so that their size is known and the timeouts
//!   for request bodies have no effect. `run` reads the response body before it answers. If a layer
//!   ends that body, the invocation fails.
//! - **Streams.** `run_with_streaming_response` takes the same service.
//! - **Spawned tasks** pause after the response: Lambda freezes the process between two events.
//! - **Several events at a time** (feature `concurrency-tokio` of `lambda_http`): leave all parts
//!   on. `run_concurrent` requires response bodies that are `Sync`, which those of axum are not.
//!   `run_with_streaming_response_concurrent` does not require it.
