//! Guides: pages to read, without code of their own.
//!
//! - [`placement`]: what goes where, on servers and on clients.
//! - [`limits`]: what each layer does not protect from.

pub mod limits;
pub mod placement;
