//! Answers, heads, and tower-http's classifiers.

mod answers;
mod heads;
#[cfg(any(feature = "tower-http-06", feature = "tower-http-07"))]
mod trace;
