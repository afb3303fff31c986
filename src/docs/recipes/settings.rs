//! Settings from a TOML file.
//!
//! With feature `serde`, the settings of all parts of a stack are one value,
//! [`stack::Settings`](crate::stack::Settings), for any format of serde. A file has a table for
//! each part that it names:
//!
//! ```toml
//! [timeout]
//! duration = "5s"
//!
//! [concurrency_limit]
//! limit = 512
//! max_queued = 128
//! queue_timeout = "100ms"
//!
//! [lag_shed]
//! mode = "dry_run" # counts what it would reject
//! ```
//!
//! Apply the file after you have built the stack, and again when the file has changed:
//!
//! ```
//! use seawall::stack::{Changes, Server, Settings, Stack};
//!
//! /// `code` is what the stack was built with.
//! fn load(
//!     stack: &Stack<Server>,
//!     code: &Settings,
//!     file: &str,
//! ) -> Result<Changes, Box<dyn std::error::Error>> {
//!     let settings: Settings = toml::from_str(file)?;
//!     Ok(stack.apply(&settings.or(code))?)
//! }
//!
//! let stack = seawall::server().build()?;
//! let code = stack.settings();
//! let changes = load(&stack, &code, "[timeout]\nduration = '5s'")?;
//! assert_eq!(changes.to_string(), "timeout.duration: 30s -> 5s");
//!
//! for (file, mistake) in [
//!     ("[timeout]\nduraton = '1s'", "unknown field `duraton`"),
//!     ("[concurrency_limit]\nlimit = 0", "`concurrency_limit.limit` must be within 1..="),
//! ] {
//!     let error = load(&stack, &code, file).unwrap_err().to_string();
//!     assert!(error.contains(mistake), "{error}");
//! }
//! assert_eq!(stack.timeout().duration().as_secs(), 5); // nothing is changed
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! - **A part that the file does not name** has the settings of the code, because of
//!   [`or`](crate::stack::Settings::or). Without it, the part keeps what it has: if you remove a
//!   part from the file, its last settings apply until the process starts again.
//! - **A field that the file does not name** has its default, as in the docs of its type, and not
//!   the value of the code. `limit`, `max_body` and `duration` of the timeout have no default.
//! - **At the start**, end the process if the file is wrong. Later, report the error and keep the
//!   previous settings.
//! - **Read the file again** at SIGHUP, or when it changes. `examples/reload.rs` does both. Replace
//!   the file by renaming another one: a reader never finds half of it.
//! - **Handles that are not in a stack** have settings of their own types:
//!   `breaker.set(toml::from_str(&file)?)?`.
//! - **The window of a breaker** cannot be changed: a file that a running breaker reads has the
//!   same window or none. To have it in the file, build the breaker from the file:
//!   `CircuitBreaker::new(settings)`.
