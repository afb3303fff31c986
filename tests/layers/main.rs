//! Each layer alone, over mocks, polled step by step or under paused time.
//!
//! A module has the name of the module of `src` that it tests, and a file of it answers one
//! question. Tests that are about all layers have files of their own here.
//!
//! Not here: limits and timeouts that inner gates may raise, and settings with them, are in
//! `tests/raise`, since one such value changes the path of each request of its process; what a real
//! runtime decides is in `tests/lag`, what the network or a framework decides in
//! `tests/frameworks`, the semantics of other circuit breakers in `tests/conformance`, tables
//! and models of decisions beside the decision in `src/control`, what other crates do in `benches`.
//!
//! A test uses the public API, never sleeps, and reads no clock. Mocks are in `support`. A test of
//! a bug comes with its fix, and fails without it. All modules are one program, since linking is
//! the most expensive part of a test run.

mod circuit_breaker;
mod handler;
mod plain;
mod purity;

#[cfg(feature = "http")]
mod catch_panic;
#[cfg(feature = "http")]
mod concurrency_limit;
#[cfg(feature = "http")]
mod drain;
#[cfg(feature = "http")]
mod gate;
#[cfg(feature = "http")]
mod health;
#[cfg(feature = "http")]
mod http;
#[cfg(all(feature = "http", feature = "metrics", feature = "tracing"))]
mod observe;
#[cfg(feature = "http")]
mod policy;
#[cfg(all(feature = "http", feature = "metrics"))]
mod recorder;
#[cfg(feature = "http")]
mod registry;
#[cfg(feature = "http")]
mod request_limit;
#[cfg(feature = "http")]
mod slow_poll;
#[cfg(feature = "http")]
mod support;
#[cfg(feature = "http")]
mod timeout;
