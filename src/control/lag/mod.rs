//! Decisions of the lag shedder.

pub(crate) mod law;
pub(crate) mod stall;

#[cfg(all(test, not(seawall_loom)))]
mod simulation;
