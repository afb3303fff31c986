//! Each layer alone, over mocks, polled step by step or under paused time.

mod plain;
mod purity;

#[cfg(feature = "http")]
mod allocations;
#[cfg(feature = "http")]
mod answers;
#[cfg(feature = "http")]
mod body_outside;
#[cfg(feature = "http")]
mod callers_faults;
#[cfg(feature = "http")]
mod catch_panic;
#[cfg(feature = "http")]
mod circuit_breaker;
#[cfg(feature = "http")]
mod circuit_faults;
#[cfg(all(feature = "http", feature = "keyed"))]
mod circuit_keyed;
#[cfg(feature = "http")]
mod circuit_ready;
mod circuit_settings;
mod circuit_snapshot;
#[cfg(feature = "http")]
mod circuit_verdicts;
#[cfg(feature = "http")]
mod concurrency_limit;
#[cfg(feature = "http")]
mod contract;
#[cfg(feature = "http")]
mod differential;
#[cfg(feature = "http")]
mod drain;
#[cfg(feature = "http")]
mod endings;
#[cfg(feature = "http")]
mod gate;
#[cfg(feature = "http")]
mod heads;
#[cfg(feature = "http")]
mod health;
#[cfg(all(feature = "http", feature = "metrics", feature = "tracing"))]
mod observe;
#[cfg(feature = "http")]
mod raise;
#[cfg(feature = "http")]
mod registry;
#[cfg(feature = "http")]
mod request_limit;
#[cfg(feature = "http")]
mod request_slow;
#[cfg(feature = "http")]
mod settings;
#[cfg(feature = "http")]
mod slow_poll;
#[cfg(feature = "http")]
mod stack_retune;
#[cfg(feature = "http")]
mod stack_settings;
#[cfg(feature = "http")]
mod support;
#[cfg(feature = "http")]
mod timeout;
#[cfg(feature = "http")]
mod timeout_body;
#[cfg(any(feature = "tower-http", feature = "tower-http-07"))]
mod trace;
#[cfg(feature = "http")]
mod tuples;
#[cfg(feature = "http")]
mod untracked;
