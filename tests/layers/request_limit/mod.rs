//! The request limit: sizes and times of request bodies.

mod nested;
mod rest;
mod size;
mod slow;
