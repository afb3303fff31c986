//! Every layer by itself: polled by hand or under paused time, over mocks.
#![cfg(feature = "http")]

mod allocations;
mod catch_panic;
mod concurrency_limit;
mod contract;
mod gate;
mod observe;
mod purity;
mod request_limit;
mod support;
mod timeout;
