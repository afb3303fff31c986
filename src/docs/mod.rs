//! Guides: pages to read, without code of their own.
//!
//! - [`placement`]: what goes where, on servers and on clients.
//! - [`numbers`]: how to choose them, from one load test.
//! - [`limits`]: what each layer does not protect from.
//! - [`cost`]: what a request costs, and what many cores share.
//! - [`migration`]: moving over from tower, tower-http and tower-resilience, layer by layer.

pub mod cost;
pub mod limits;
pub mod migration;
pub mod numbers;
pub mod placement;
