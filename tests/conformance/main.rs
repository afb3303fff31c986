//! The behaviour of a circuit breaker on virtual time.
//!
//! `rows` has facts from the test suites of resilience4j (`R…`) and Polly (`P…`) as sequences of
//! words, and `play` runs them; `by_hand` has the facts that are not such sequences. If the two
//! libraries disagree, or if this crate has decided otherwise, the row says so. `model` compares
//! random scripts with `log`, a breaker that keeps a log of all calls.
//!
//! Not here: tests of the layer are in `tests/layers/circuit_breaker`; tables of the rules, and
//! every interleaving of the atomics, are in `src/control/circuit_breaker`.

mod by_hand;
mod log;
mod model;
mod play;
mod rows;

use seawall::Outcome;
