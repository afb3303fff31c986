//! Decisions only: nothing in here knows a request, a runtime or the time, so all of it is tested without any.

pub(crate) mod limit;
pub(crate) mod queue;

#[cfg(all(test, seawall_loom))]
mod loom;
