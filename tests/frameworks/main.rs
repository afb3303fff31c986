//! The layers in hyper, axum and tonic, over real sockets where the network decides.
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
