//! Decisions only: nothing in here knows a request, a runtime or the time, so all of it is tested without any.

pub(crate) mod breaker;
mod buckets;
mod by_hand;
pub(crate) mod circuit;
pub(crate) mod lag;
pub(crate) mod limit;
pub(crate) mod look;
mod probes;
pub(crate) mod queue;
mod ring;
pub(crate) mod stall;
pub(crate) mod window;

#[cfg(all(test, seawall_loom))]
mod breaker_loom;
#[cfg(all(test, not(seawall_loom)))]
mod lag_sim;
#[cfg(all(test, seawall_loom))]
mod loom;
