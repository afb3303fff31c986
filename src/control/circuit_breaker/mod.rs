//! Decisions of the circuit breaker.

pub(crate) mod breaker;
mod probes;
pub(crate) mod rules;
pub(crate) mod state;
pub(crate) mod transition;
pub(crate) mod window;
pub(crate) mod word;

#[cfg(seawall_loom)]
mod loom;
#[cfg(all(test, not(seawall_loom)))]
mod model;
