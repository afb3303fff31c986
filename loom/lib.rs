//! The decisions of seawall under loom, which plays all interleavings of a few threads:
//! `cargo test -p seawall-loom`.
//!
//! The modules are those of the crate. In this package, their atomics and locks are those of loom.

#![cfg(test)]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "the crate uses and exports the rest"
)]
#![allow(
    unexpected_cfgs,
    reason = "the features are those of the crate, and off"
)]

mod control;
#[path = "../src/label.rs"]
mod label;
#[path = "../src/sync.rs"]
mod sync;
