//! The layers in hyper, axum and tonic, over real sockets: what the network or a framework decides.
//!
//! A file answers one question: `builder` and `composed` (does it compile and work beside other
//! layers), `attached` (where a layer can be attached), `sockets`, `slow` and `unread` (what
//! clients see, and what slow clients can hold), `callers` (what the caller causes), `drain`,
//! `health`, `stack`, `tonic`, `grpc_deadline`, `breaker`.
//!
//! Sockets are on loopback and have port 0. A test has a bound for its time, and waits for a state,
//! never for a time. Servers and clients are in `support`.
//!
//! Not here: what a layer decides without a network is in `tests/layers`.
#![cfg(feature = "http")]

mod attached;
mod breaker;
mod builder;
mod callers;
mod composed;
mod drain;
mod grpc_deadline;
mod health;
mod slow;
mod sockets;
mod stack;
mod support;
mod tonic;
mod unread;
