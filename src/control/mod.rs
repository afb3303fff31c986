//! Decisions without requests, a runtime or a clock, so that the tests need none of these. There is
//! one folder for each layer.

pub(crate) mod circuit_breaker;
pub(crate) mod concurrency_limit;
pub(crate) mod drain;
#[cfg(feature = "tracing")]
pub(crate) mod event_limit;
#[allow(dead_code, reason = "only health checks use it, which are a feature")]
pub(crate) mod hysteresis;
pub(crate) mod lag;
pub(crate) mod panics;
pub(crate) mod published;
