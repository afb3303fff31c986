//! The recipes of seawall's docs, with the crates that they are for.

pub use seawall::*;

#[path = "../../src/docs/recipes/mod.rs"]
pub mod recipes;
