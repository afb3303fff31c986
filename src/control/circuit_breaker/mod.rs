//! Decisions of the circuit breaker.

pub(crate) mod breaker;
mod buckets;
mod by_hand;
pub(crate) mod circuit;
pub(crate) mod counts;
pub(crate) mod look;
mod probes;
mod ring;
pub(crate) mod window;

#[cfg(all(test, seawall_loom))]
mod loom;
