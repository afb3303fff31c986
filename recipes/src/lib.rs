//! The recipes of seawall's docs, with the crates that they are for.

pub use seawall::*;

#[path = "../../src/docs/recipes.rs"]
pub mod recipes;
