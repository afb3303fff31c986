//! What a circuit breaker does, in rows taken as facts from the test suites of resilience4j (`R…`) and Polly (`P…`), on
//! virtual time. Where the two disagree, or where this crate has decided otherwise, the row says so.

mod by_hand;
mod log;
mod model;
mod play;
mod rows;

use seawall::Outcome;
