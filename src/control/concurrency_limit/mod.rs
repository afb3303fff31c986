//! Decisions of the concurrency limit.

pub(crate) mod limit;
pub(crate) mod queue;

#[cfg(seawall_loom)]
mod loom;
