//! Guides, in the order in which you need them.
//!
//! - [`placement`]: where to put each layer, on servers and on clients.
//! - [`numbers`]: how to choose limits and timeouts from one load test.
//! - [`recipes`]: short answers with code: operation, settings, streams, axum, clients, databases,
//!   retries, policies, tests, AWS Lambda.
//! - [`limits`]: what each layer does not protect from.
//! - [`cost`]: what a request costs, and what many cores share.
//! - [`migration`]: how to migrate from tower, tower-http and tower-resilience.

pub mod cost;
pub mod limits;
pub mod migration;
pub mod numbers;
pub mod placement;
// Its code needs crates that this one does not have: `recipes/` compiles it.
#[cfg(not(doctest))]
pub mod recipes;
