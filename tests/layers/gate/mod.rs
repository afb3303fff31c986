//! What every gate guarantees, whatever its policy is.

mod allocations;
mod body_outside;
mod calls;
mod contract;
mod differential;
mod endings;
mod panics_of_policies;
mod queued;
mod untracked;

pub(crate) use self::calls::told;
