//! The request limit: sizes and times of request bodies.

mod rest;
mod size;
mod slow;
