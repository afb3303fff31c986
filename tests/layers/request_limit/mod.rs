//! The request limit: sizes and times of request bodies.

mod beside;
mod moved_on;
mod nested;
mod rest;
mod size;
mod slow;
