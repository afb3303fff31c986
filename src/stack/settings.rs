//! The settings of a stack as one value.

use crate::circuit_breaker::CircuitBreakerSettings;
use crate::concurrency_limit::ConcurrencyLimitSettings;
use crate::control::lag::thresholds::LagThresholds;
use crate::drain::DrainSettings;
use crate::policy::Mode;
use crate::request_limit::RequestLimitSettings;
use crate::timeout::{ResponseBodyTimeoutSettings, TimeoutSettings};

/// The settings of the parts of a [`Stack`](super::Stack): a value that you can read, compare,
/// change, and apply while the stack runs; see [`ServerHandle::apply`](super::ServerHandle::apply).
///
/// A part that is `None` keeps the settings that it has. `Settings::default()` names no part.
///
/// With the feature `serde`, settings implement `Serialize` and `Deserialize`. Each part is a table
/// with the fields of its settings, and with `mode`: `"enforce"`, `"dry_run"`, or `"off"`. Without
/// `mode`, the part keeps the mode that it has. With `mode` alone, it keeps its settings. Durations
/// are strings such as `"5s"`. An unknown part or field is an error:
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use std::time::Duration;
/// use seawall::policy::Mode;
/// use seawall::stack::{PartSettings, Settings};
/// use seawall::{ConcurrencyLimitSettings, TimeoutSettings};
///
/// let settings: Settings = toml::from_str(
///     r#"
///     [timeout]
///     duration = "5s"
///
///     [lag_shed]
///     mode = "dry_run"
///
///     [concurrency_limit]
///     limit = 512
///     max_queued = 128
///     queue_timeout = "100ms"
///     "#,
/// )?;
/// let limit = ConcurrencyLimitSettings::fixed(512).queue(128, Duration::from_millis(100));
/// let expected = Settings::default()
///     .timeout(TimeoutSettings::new(Duration::from_secs(5)))
///     .lag_shed(PartSettings::default().mode(Mode::DryRun))
///     .concurrency_limit(limit);
/// assert_eq!(settings, expected);
/// # }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use = "settings do nothing until they are applied"]
#[non_exhaustive]
pub struct Settings {
    /// Panic isolation, of a [`server`](super::server).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub catch_panic: Option<CatchPanicSettings>,
    /// Lag shedding, of a [`server`](super::server).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub lag_shed: Option<PartSettings<LagThresholds>>,
    /// The drain, of a [`server`](super::server).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub drain: Option<PartSettings<DrainSettings>>,
    /// The circuit breaker of a [`client`](super::client); with one per host, all of them.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub circuit_breaker: Option<PartSettings<CircuitBreakerSettings>>,
    /// The timeout.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub timeout: Option<PartSettings<TimeoutSettings>>,
    /// The timeouts of response bodies.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub response_body_timeout: Option<PartSettings<ResponseBodyTimeoutSettings>>,
    /// The concurrency limit.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub concurrency_limit: Option<PartSettings<ConcurrencyLimitSettings>>,
    /// The request limit, of a [`server`](super::server).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub request_limit: Option<PartSettings<RequestLimitSettings>>,
}

/// A part of a stack: its mode, and the settings of its handle. What is `None` stays as it is.
/// `PartSettings::default()` has neither.
///
/// ```
/// use seawall::policy::Mode;
/// use seawall::stack::PartSettings;
/// use seawall::LagThresholds;
///
/// let strict = PartSettings::from(LagThresholds::strict());
/// let strict_in_dry_run = strict.clone().mode(Mode::DryRun);
/// let off = PartSettings::<LagThresholds>::default().mode(Mode::Off);
/// # let _ = (strict_in_dry_run, off);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[must_use = "settings do nothing until they are applied"]
#[non_exhaustive]
pub struct PartSettings<S> {
    /// See [`mode`](Self::mode()).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub mode: Option<Mode>,
    /// The settings of the handle.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub settings: Option<S>,
}

/// The settings of panic isolation in a stack: its mode.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use = "settings do nothing until they are applied"]
#[non_exhaustive]
pub struct CatchPanicSettings {
    /// Whether the part decides; `None` keeps the mode. Panic isolation has no dry run: [`apply`]
    /// returns an error.
    ///
    /// [`apply`]: super::ServerHandle::apply
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub mode: Option<Mode>,
}

// === impl Settings ===

impl Settings {
    /// Sets the part [`catch_panic`](Self::catch_panic).
    pub fn catch_panic(mut self, settings: impl Into<CatchPanicSettings>) -> Self {
        self.catch_panic = Some(settings.into());
        self
    }

    /// Sets the part [`lag_shed`](Self::lag_shed).
    pub fn lag_shed(mut self, part: impl Into<PartSettings<LagThresholds>>) -> Self {
        self.lag_shed = Some(part.into());
        self
    }

    /// Sets the part [`drain`](Self::drain).
    pub fn drain(mut self, part: impl Into<PartSettings<DrainSettings>>) -> Self {
        self.drain = Some(part.into());
        self
    }

    /// Sets the part [`circuit_breaker`](Self::circuit_breaker).
    pub fn circuit_breaker(
        mut self,
        part: impl Into<PartSettings<CircuitBreakerSettings>>,
    ) -> Self {
        self.circuit_breaker = Some(part.into());
        self
    }

    /// Sets the part [`timeout`](Self::timeout).
    pub fn timeout(mut self, part: impl Into<PartSettings<TimeoutSettings>>) -> Self {
        self.timeout = Some(part.into());
        self
    }

    /// Sets the part [`response_body_timeout`](Self::response_body_timeout).
    pub fn response_body_timeout(
        mut self,
        part: impl Into<PartSettings<ResponseBodyTimeoutSettings>>,
    ) -> Self {
        self.response_body_timeout = Some(part.into());
        self
    }

    /// Sets the part [`concurrency_limit`](Self::concurrency_limit).
    pub fn concurrency_limit(
        mut self,
        part: impl Into<PartSettings<ConcurrencyLimitSettings>>,
    ) -> Self {
        self.concurrency_limit = Some(part.into());
        self
    }

    /// Sets the part [`request_limit`](Self::request_limit).
    pub fn request_limit(mut self, part: impl Into<PartSettings<RequestLimitSettings>>) -> Self {
        self.request_limit = Some(part.into());
        self
    }

    /// A part, a mode, or the settings of a part that are `None` here become those of `other`.
    ///
    /// A file that names only some parts, on top of the settings that the stack was built with: a
    /// part or a mode that is removed from the file is again what it was first. A part that was
    /// switched off at run time is switched on; without `or`, it stays off.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use seawall::{TimeoutSettings, stack::Settings};
    /// let stack = seawall::server().build()?;
    /// let first = stack.settings();
    ///
    /// let file = Settings::default().timeout(TimeoutSettings::new(Duration::from_secs(5)));
    /// assert_eq!(stack.apply(&file.or(&first))?.len(), 1);
    /// let file = Settings::default();
    /// let changes = stack.apply(&file.or(&first))?;
    /// assert_eq!(changes.to_string(), "timeout.duration: 5s -> 30s");
    /// # Ok::<_, seawall::ConfigError>(())
    /// ```
    pub fn or(self, other: &Self) -> Self {
        macro_rules! parts {
            ($($part:ident)+) => {
                Self {
                    $($part: match (self.$part, &other.$part) {
                        (Some(this), Some(that)) => Some(this.or(that)),
                        (this, that) => this.or_else(|| that.clone()),
                    },)+
                }
            };
        }
        parts! {
            catch_panic lag_shed drain circuit_breaker timeout response_body_timeout
            concurrency_limit request_limit
        }
    }
}

// === impl PartSettings ===

impl<S> PartSettings<S> {
    /// Whether the part decides, only counts, or is off. Default: `None`, which keeps the mode that
    /// the part has.
    ///
    /// A drain, the timeouts and a request limit have no dry run:
    /// [`apply`](super::ServerHandle::apply) returns an error.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Fills in what is `None`.
    pub(super) fn or(self, other: &Self) -> Self
    where
        S: Clone,
    {
        Self {
            mode: self.mode.or(other.mode),
            settings: self.settings.or_else(|| other.settings.clone()),
        }
    }
}

impl<S> From<S> for PartSettings<S> {
    fn from(settings: S) -> Self {
        Self {
            mode: None,
            settings: Some(settings),
        }
    }
}

impl<S> Default for PartSettings<S> {
    fn default() -> Self {
        Self {
            mode: None,
            settings: None,
        }
    }
}

// === impl CatchPanicSettings ===

impl From<Mode> for CatchPanicSettings {
    fn from(mode: Mode) -> Self {
        Self { mode: Some(mode) }
    }
}

impl CatchPanicSettings {
    /// Fills in what is `None`.
    pub(super) fn or(self, other: &Self) -> Self {
        Self {
            mode: self.mode.or(other.mode),
        }
    }
}

/// `serde(flatten)` would accept unknown fields.
#[cfg(feature = "serde")]
mod read {
    use std::fmt;
    use std::marker::PhantomData;

    use serde::de::value::MapAccessDeserializer;
    use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
    use serde::{Deserialize, Deserializer};

    use super::{Mode, PartSettings};

    struct PartVisitor<S>(PhantomData<S>);

    /// A part without its mode.
    struct Rest<A> {
        map: A,
        mode: Option<Mode>,
        /// The map has a mode, which may be null.
        has_mode: bool,
        /// The first key that is not the mode, once it is read.
        first: Option<String>,
    }

    impl<'de, S: Deserialize<'de>> Deserialize<'de> for PartSettings<S> {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_map(PartVisitor(PhantomData))
        }
    }

    impl<'de, S: Deserialize<'de>> Visitor<'de> for PartVisitor<S> {
        type Value = PartSettings<S>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the mode and the settings of a part")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PartSettings<S>, A::Error> {
            let mut rest = Rest {
                map,
                mode: None,
                has_mode: false,
                first: None,
            };
            rest.first = rest.next_key()?;
            let mut settings = None;
            if rest.first.is_some() {
                settings = Some(S::deserialize(MapAccessDeserializer::new(&mut rest))?);
            }
            Ok(PartSettings {
                mode: rest.mode,
                settings,
            })
        }
    }

    impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<A> {
        type Error = A::Error;

        fn next_key_seed<K: DeserializeSeed<'de>>(
            &mut self,
            seed: K,
        ) -> Result<Option<K::Value>, A::Error> {
            if let Some(first) = self.first.take() {
                return seed.deserialize(first.into_deserializer()).map(Some);
            }
            while let Some(key) = self.map.next_key::<String>()? {
                if key != "mode" {
                    return seed.deserialize(key.into_deserializer()).map(Some);
                }
                if std::mem::replace(&mut self.has_mode, true) {
                    return Err(Error::duplicate_field("mode"));
                }
                self.mode = self.map.next_value()?;
            }
            Ok(None)
        }

        fn next_value_seed<V: DeserializeSeed<'de>>(
            &mut self,
            seed: V,
        ) -> Result<V::Value, A::Error> {
            self.map.next_value_seed(seed)
        }
    }
}
