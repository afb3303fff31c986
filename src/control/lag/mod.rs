//! The decisions of the lag shedder.
//!
//! - [`readings`](self::readings): the measurements of one runtime, which its monitors and shedders
//!   share.
//! - [`queue`](self::queue): the wait of the request at the head of a worker's queue.
//! - [`law`](self::law): the decisions of one shedder, by its [`thresholds`](self::thresholds).
//!
//! The time of an event is the distance from any fixed origin, in nanoseconds.

pub(crate) mod law;
pub(crate) mod queue;
pub(crate) mod readings;
pub(crate) mod thresholds;

#[cfg(all(test, not(seawall_loom)))]
mod simulation;
#[cfg(all(test, not(seawall_loom)))]
mod tests;

/// A time in nanoseconds, or the distance from the origin.
pub(crate) type Nanos = u64;

pub(crate) const MS: Nanos = 1_000_000;
