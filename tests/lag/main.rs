//! The probe and the shedder on real runtimes, in a process of their own: all of it shares one thread that measures.
#![cfg(feature = "http")]

mod marks;
mod monitor;
mod shed;
mod signal;
mod support;

#[cfg(all(feature = "metrics", feature = "tracing"))]
mod told;
