//! The behaviour of a circuit breaker on virtual time, in rows that are facts from the test suites
//! of resilience4j (`R…`) and Polly (`P…`). If the two disagree, or if this crate has decided
//! otherwise, the row says so.

mod by_hand;
mod log;
mod model;
mod play;
mod rows;

use seawall::Outcome;
