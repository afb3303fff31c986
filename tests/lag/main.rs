//! The lag monitor and the load shedder on real runtimes: what Tokio's scheduler decides.
//!
//! `marks` has one test for each property of Tokio that the shedder depends on, `monitor` and
//! `shed` have the two layers, `signal` has load signals, and `reported` has metrics and events.
//!
//! Not here: the law itself is pure, and its tests and simulations are in `src/control/lag`.
//!
//! The tests have a process of their own, since they share the one thread that measures. They run
//! one after another (`support`), and they wait for a state, never for a time.
#![cfg(feature = "http")]

mod marks;
mod monitor;
mod shed;
mod signal;
mod support;

#[cfg(all(feature = "metrics", feature = "tracing"))]
mod reported;
