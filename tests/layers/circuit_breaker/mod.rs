//! The circuit breaker.

#[cfg(feature = "http")]
mod between;
#[cfg(feature = "http")]
mod callers;
#[cfg(feature = "http")]
mod faults;
#[cfg(all(feature = "http", feature = "keyed"))]
mod keyed;
#[cfg(feature = "http")]
mod layer;
#[cfg(feature = "http")]
mod ready;
mod settings;
mod snapshot;
#[cfg(feature = "http")]
mod verdicts;
