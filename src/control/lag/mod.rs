//! When to shed for lag: reject the requests that have waited too long in the runtime's queue.
//!
//! - [`readings`](self::readings): what is measured of one runtime. Its monitors and shedders read
//!   the same.
//! - [`queue`](self::queue): how long the request at the head of a worker's queue has waited.
//! - [`service_time`](self::service_time): how long handlers take; the thresholds grow with it.
//! - [`law`](self::law): what one shedder makes of it.
//!
//! Events go in with the time as the distance from any fixed origin, in nanoseconds.

pub(crate) mod law;
pub(crate) mod queue;
pub(crate) mod readings;
pub(crate) mod service_time;
pub(crate) mod thresholds;

#[cfg(all(test, not(seawall_loom)))]
mod simulation;
#[cfg(all(test, not(seawall_loom)))]
mod tests;

/// A time in nanoseconds, or the distance from the origin.
pub(crate) type Nanos = u64;

pub(crate) const MS: Nanos = 1_000_000;
