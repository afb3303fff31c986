//! The request limit: sizes and times of request bodies.

mod size;
mod slow;
