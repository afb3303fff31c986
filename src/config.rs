//! Errors of settings.

use std::fmt;
use std::ops::RangeInclusive;

/// The error of a setting outside its range: the field, the value and the allowed range.
///
/// ```
/// let error = seawall::ConcurrencyLimit::new(0).unwrap_err();
/// assert_eq!(error.to_string(), "`limit` must be within 1..=2147483647, not 0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` must be within {allowed}, not {value}")]
#[non_exhaustive]
pub struct ConfigError {
    field: &'static str,
    value: String,
    allowed: String,
}

// === impl ConfigError ===

impl ConfigError {
    /// Returns `value` if it is in the range `allowed`.
    pub(crate) fn check<T>(
        field: &'static str,
        value: T,
        allowed: RangeInclusive<T>,
    ) -> Result<T, ConfigError>
    where
        T: PartialOrd + fmt::Debug,
    {
        if allowed.contains(&value) {
            return Ok(value);
        }
        Err(Self {
            field,
            value: format!("{value:?}"),
            allowed: format!("{allowed:?}"),
        })
    }

    /// The error of settings that depend on each other.
    pub(crate) fn new(field: &'static str, value: &str, allowed: &str) -> Self {
        Self {
            field,
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        }
    }

    /// The name of the setting, as in the docs of its type.
    pub fn field(&self) -> &'static str {
        self.field
    }
}
