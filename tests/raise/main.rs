//! Limits and timeouts that inner gates may raise, and the settings of handles and stacks, which
//! contain such values.
//!
//! One raisable value in a process changes the path of each request: every gate that limits or
//! times requests then reads their extensions. These tests are therefore a program of their own,
//! and those in `tests/layers`, whose mocks they use, run the path of a process without one.
#![cfg(feature = "http")]

#[path = "../layers/handler.rs"]
mod handler;
mod raise;
mod settings;
mod stack;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../layers/support.rs"]
mod support;
