//! Errors of settings.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The error of a setting outside its range: the field, the value and the allowed range.
///
/// ```
/// let error = seawall::ConcurrencyLimit::new(0).unwrap_err();
/// assert_eq!(error.to_string(), "`limit` must be within 1..=2147483647, not 0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` must be {allowed}{}", self.not())]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ConfigError {
    field: Cow<'static, str>,
    value: String,
    allowed: String,
}

/// The text of a value, for messages. A time of zero is `0s`, as in a file, and not `0ns`.
pub(super) fn text(value: &impl fmt::Debug) -> String {
    match format!("{value:?}") {
        zero if zero == "0ns" => "0s".to_owned(),
        text => text,
    }
}

// === impl ConfigError ===

impl ConfigError {
    /// Returns an error if there is a value, and it is not in the range `allowed`.
    pub(crate) fn check<T>(
        field: &'static str,
        value: impl Into<Option<T>>,
        allowed: RangeInclusive<T>,
    ) -> Result<(), ConfigError>
    where
        T: PartialOrd + fmt::Debug,
    {
        let Some(value) = value.into().filter(|value| !allowed.contains(value)) else {
            return Ok(());
        };
        let allowed = format!("within {}..={}", text(allowed.start()), text(allowed.end()));
        Err(Self::new(field, text(&value), allowed))
    }

    /// Returns an error if the value is above `allowed`, the value of the field `most`; `None` if
    /// that field is not set.
    pub(crate) fn check_most<T>(
        field: &'static str,
        value: T,
        most: &str,
        allowed: Option<T>,
    ) -> Result<(), ConfigError>
    where
        T: PartialOrd + fmt::Debug,
    {
        match allowed.filter(|allowed| value > *allowed) {
            None => Ok(()),
            Some(allowed) => {
                let allowed = format!("at most `{most}`, {}", text(&allowed));
                Err(Self::new(field, text(&value), allowed))
            }
        }
    }

    /// Returns an error if the time is zero.
    pub(crate) fn check_not_zero(
        field: &'static str,
        time: impl Into<Option<Duration>>,
    ) -> Result<(), ConfigError> {
        match time.into() {
            Some(zero @ Duration::ZERO) => Err(Self::new(field, text(&zero), "above 0s")),
            _ => Ok(()),
        }
    }

    /// For what is no range: the field must be `allowed`, and is `value`.
    pub(crate) fn new(
        field: &'static str,
        value: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            value: value.into(),
            allowed: allowed.into(),
        }
    }

    /// The error of a field of this part.
    #[cfg(any(feature = "http", feature = "keyed"))]
    pub(crate) fn of_part(mut self, part: &str) -> Self {
        self.field = format!("{part}.{}", self.field).into();
        self
    }

    /// The setting's name, as in the docs of its type. For a part of a stack it begins with the
    /// name of the part: `concurrency_limit.limit`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The end of the message.
    fn not(&self) -> String {
        match &*self.value {
            "" => String::new(),
            value => format!(", not {value}"),
        }
    }

    /// The value that is not allowed; empty for a part that the stack does not have.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What is allowed, mostly a range: `within 1..=1000`.
    pub fn allowed(&self) -> &str {
        &self.allowed
    }
}
