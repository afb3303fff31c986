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
//! Apply the file after you have built the stack, and again when the file has changed. This
//! function takes the settings of the code, replaces the fields that the file names, and applies
//! the result:
//!
//! ```
//! use seawall::Health;
//! use seawall::stack::{Changes, ServerHandle, Settings};
//! use toml::{Table, Value};
//!
//! /// `code` is what the stack was built with: read it once, before the first `load`.
//! fn load(
//!     stack: &ServerHandle,
//!     code: &Settings,
//!     file: &str,
//! ) -> Result<Changes, Box<dyn std::error::Error>> {
//!     let mut all = Table::try_from(code)?;
//!     for (part, fields) in file.parse::<Table>()? {
//!         match (all.get_mut(&part), fields) {
//!             (Some(Value::Table(all)), Value::Table(fields)) => all.extend(fields),
//!             (_, fields) => drop(all.insert(part, fields)),
//!         }
//!     }
//!     Ok(stack.apply(&all.try_into()?)?)
//! }
//!
//! let stack = seawall::server().exempt(|head| Health::has_path(head.path())).build()?;
//! let (handle, code) = (stack.handle(), stack.settings());
//! let changes = load(&handle, &code, "[timeout]\nduration = '5s'")?;
//! assert_eq!(changes.to_string(), "timeout.duration: 30s -> 5s");
//! let changes = load(&handle, &code, "[timeout]\nmode = 'off'")?;
//! assert_eq!(changes.to_string(), "timeout.mode: enforce -> off, timeout.duration: 5s -> 30s");
//!
//! for (file, mistake) in [
//!     ("[timeout]\nduraton = '1s'", "unknown field `duraton`"),
//!     ("[concurrency_limit]\nlimit = 0", "`concurrency_limit.limit` must be within 1..="),
//! ] {
//!     let error = load(&handle, &code, file).unwrap_err().to_string();
//!     assert!(error.contains(mistake), "{error}");
//! }
//! assert_eq!(stack.timeout().duration().as_secs(), 30); // nothing is changed
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! - **A part or field that the file does not name** has the value of the code. If you remove it
//!   from the file, it has the value of the code again. A field that is a table itself, such as
//!   `min_body_rate`, is replaced as a whole.
//! - **A change through a handle or a switch** lasts until the next `load`.
//! - **TOML has no null**: the file cannot remove an optional bound that the code sets. The
//!   exceptions are `failure_rate = "off"`, and `"0s"` for the `idle_timeout` and the
//!   `progress_timeout` of `response_body_timeout`.
//! - **TOML has no integer above 2⁶³ − 1**: write `"unlimited"` for `u64::MAX` in `max_body` and
//!   `raisable_to`. Leave the other sizes unset in the code if they have no bound.
//! - **`toml::from_str::<Settings>`** reads the file alone, and all its errors have a line number.
//!   A table without a field other than `mode` keeps the settings of its part. In any other table,
//!   a field that the file leaves out has the default of its type, and not that of the stack: a
//!   `[response_body_timeout]` with an `idle_timeout` alone removes the progress timeout of 60 s.
//!   Three fields have no default:
//!   `concurrency_limit.limit`, `request_limit.max_body` and `timeout.duration`. The tables
//!   `slow_call`, `min_body_rate` and `open_duration` must be complete; only `jitter` may be left
//!   out. With [`Settings::or`](crate::stack::Settings::or), a part, a mode, or all settings of a
//!   part that the file leaves out are those of the code.
//! - **For a client stack**, the function takes a [`ClientHandle`](crate::stack::ClientHandle). An
//!   open duration that is a function ([`from_fn`](crate::circuit_breaker::OpenDuration::from_fn))
//!   cannot be written to a table: set the field `circuit_breaker` of `code` to `None` first.
//! - **At the start**, end the process if the file is wrong. Later, report the error and keep the
//!   previous settings.
//! - **Read the file again** at SIGHUP, or when it changes. `examples/reload.rs` does both. Write a
//!   new file and rename it over the old one, so that the process never reads half a file.
//! - **Handles that are not in a stack** have settings of their own types:
//!   `breaker.set(toml::from_str(&file)?)?`. A field that such a file leaves out has its default,
//!   and not the value of the code.
//! - **Several stacks in one file**: [`check`](crate::stack::ServerHandle::check) the settings of
//!   each stack first, and then apply them. Then no stack is changed if one of them is wrong. A
//!   part that several stacks share, such as a drain, belongs in the table of one stack. In the
//!   `code` of the other stacks, set its field to `None`. Otherwise they overwrite the value of the
//!   file with that of the code.
//! - **The window of a breaker** cannot be changed: a file that a running breaker reads has the
//!   same window or none. To have it in the file, build the breaker from the file:
//!   `CircuitBreaker::new(settings)`.
