//! Decisions of the concurrency limit.

pub(crate) mod limit;
pub(crate) mod queue;

#[cfg(all(test, seawall_loom))]
mod loom;
