//! Settings as values: they are checked as a whole, read back, and replaced while requests run.

mod current;
mod error;
mod fields;

pub(crate) use self::current::{Configurable, Current, Settings};
pub use self::error::ConfigError;
pub(crate) use self::fields::{Fields, fields};
