//! The probe and the shedder on real runtimes. The tests have a process of their own, since they
//! share the one thread that measures.
#![cfg(feature = "http")]

mod marks;
mod monitor;
mod shed;
mod signal;
mod support;

#[cfg(all(feature = "metrics", feature = "tracing"))]
mod told;
