//! The modules with tests of interleavings, and what they use.

#[path = "../src/control/circuit_breaker/mod.rs"]
pub(crate) mod circuit_breaker;
#[path = "../src/control/concurrency_limit/mod.rs"]
pub(crate) mod concurrency_limit;
#[path = "../src/control/drain.rs"]
pub(crate) mod drain;
#[path = "../src/control/published.rs"]
pub(crate) mod published;
