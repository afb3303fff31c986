//! The settings of a request limit.

use std::time::Duration;

use crate::config::{ConfigError, Settings, fields};

/// The settings of a [`RequestLimit`](super::RequestLimit). By default, only the size of the body
/// is bounded.
///
/// With the feature `serde`, you can read and write the settings, with durations such as `"5s"`.
/// The field `max_body` is required; it and `raisable_to` may be `"unlimited"`, which is
/// [`u64::MAX`]. Any other missing field is no limit, and `raisable_to` is not set. An unknown
/// field is an error:
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use seawall::RequestLimitSettings;
///
/// let settings: RequestLimitSettings = toml::from_str(
///     r#"
///     max_body = 2_097_152
///     max_headers = 50
///     body_idle_timeout = "10s"
///     min_body_rate = { bytes_per_second = 500, grace = "20s" }
///     "#,
/// )?;
/// assert_eq!(settings.max_body, 2 << 20);
/// # }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[must_use = "settings do nothing until they are applied"]
#[non_exhaustive]
pub struct RequestLimitSettings {
    /// The largest body that passes, in bytes. With 0, only empty bodies pass.
    #[cfg_attr(feature = "serde", serde(with = "size"))]
    pub max_body: u64,
    /// See [`raisable_to`](Self::raisable_to()).
    #[cfg_attr(feature = "serde", serde(default, serialize_with = "size::write"))]
    #[cfg_attr(feature = "serde", serde(deserialize_with = "size::read"))]
    pub raisable_to: Option<u64>,
    /// See [`max_header_bytes`](Self::max_header_bytes()).
    pub max_header_bytes: Option<u64>,
    /// See [`max_headers`](Self::max_headers()).
    pub max_headers: Option<u64>,
    /// See [`max_uri`](Self::max_uri()).
    pub max_uri: Option<u64>,
    /// See [`body_idle_timeout`](Self::body_idle_timeout()).
    #[cfg_attr(feature = "serde", serde(default, with = "humantime_serde"))]
    pub body_idle_timeout: Option<Duration>,
    /// See [`body_timeout`](Self::body_timeout()).
    #[cfg_attr(feature = "serde", serde(default, with = "humantime_serde"))]
    pub body_timeout: Option<Duration>,
    /// See [`min_body_rate`](Self::min_body_rate()).
    pub min_body_rate: Option<MinBodyRate>,
}

/// A size that may be `"unlimited"`: the integers of TOML end at 2⁶³ − 1. A source of strings, such
/// as environment variables, has a number as a string.
#[cfg(feature = "serde")]
mod size {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    const UNLIMITED: &str = "unlimited";

    #[derive(Serialize, Deserialize)]
    #[serde(untagged, expecting = "expected a number of bytes or \"unlimited\"")]
    enum Size {
        Bytes(u64),
        Text(String),
    }

    impl Size {
        fn new(bytes: u64) -> Self {
            match bytes {
                u64::MAX => Self::Text(UNLIMITED.to_owned()),
                bytes => Self::Bytes(bytes),
            }
        }

        fn bytes<E: Error>(self) -> Result<u64, E> {
            match self {
                Self::Bytes(bytes) => Ok(bytes),
                Self::Text(text) if text == UNLIMITED => Ok(u64::MAX),
                Self::Text(text) => text
                    .parse()
                    .map_err(|_| E::custom("expected a number of bytes or \"unlimited\"")),
            }
        }
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(super) fn serialize<S: Serializer>(bytes: &u64, to: S) -> Result<S::Ok, S::Error> {
        Size::new(*bytes).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        Size::deserialize(from)?.bytes()
    }

    #[expect(clippy::ref_option, reason = "serde passes a reference")]
    pub(super) fn write<S: Serializer>(bytes: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        bytes.map(Size::new).serialize(to)
    }

    pub(super) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        let size = Option::<Size>::deserialize(from)?;
        size.map(Size::bytes).transpose()
    }
}

/// The least average rate of a request body.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct MinBodyRate {
    /// The rate, in bytes per second.
    pub bytes_per_second: u64,
    /// The time for which a body may be slower than the rate at its beginning.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub grace: Duration,
}

// === impl RequestLimitSettings ===

impl RequestLimitSettings {
    /// Lets bodies of up to `max_body` bytes pass.
    pub const fn new(max_body: u64) -> Self {
        Self {
            max_body,
            raisable_to: None,
            max_header_bytes: None,
            max_headers: None,
            max_uri: None,
            body_idle_timeout: None,
            body_timeout: None,
            min_body_rate: None,
        }
    }

    /// Lets a `RequestLimit` on an inner layer replace the body size of this one by a larger size
    /// of at most `most` bytes. `most` must not be below [`max_body`](Self::max_body).
    ///
    /// Default: `None`. The smaller of two nested limits then applies.
    ///
    /// An inner layer raises only the size of the body. This layer's limits of headers and URI, its
    /// body timeouts and its least rate still apply.
    ///
    /// Use it for a layer around a router if some routes have a limit of their own:
    ///
    /// ```
    /// use axum::{Router, body::Bytes, extract::DefaultBodyLimit, routing::post};
    /// use seawall::{RequestLimit, RequestLimitLayer, RequestLimitSettings};
    ///
    /// let uploads = Router::new()
    ///     .route("/upload", post(async |body: Bytes| body.len().to_string()))
    ///     .layer(DefaultBodyLimit::disable()) // axum's own
    ///     .layer(RequestLimitLayer::new(16 << 20));
    /// let around = RequestLimitSettings::new(64 << 10).raisable_to(64 << 20);
    /// let app: Router = Router::new()
    ///     .route("/", post(async |name: String| format!("hello, {name}")))
    ///     .merge(uploads)
    ///     .layer(RequestLimitLayer::new(RequestLimit::new(around)?));
    /// # let _ = app;
    /// # Ok::<_, seawall::ConfigError>(())
    /// ```
    ///
    /// If the declared size of a body is above this limit, but not above `most`, the gate calls the
    /// inner service, because an inner layer may raise the limit. If no inner layer does, the
    /// service reads a [`BodyError`](crate::BodyError) instead of the first frame, and the gate
    /// answers 413. A service that does not read the body answers as usual.
    ///
    /// The inner layer finds this limit in the extensions of the request, as an inner timeout does;
    /// see [`TimeoutSettings::raisable_to`](crate::TimeoutSettings::raisable_to()). It costs two
    /// allocations and a clock read for each request with a body.
    pub fn raisable_to(mut self, most: impl Into<Option<u64>>) -> Self {
        self.raisable_to = most.into();
        self
    }

    /// Rejects requests whose headers have more bytes than this, names and values together, with
    /// 431.
    ///
    /// Default: `None`. Use it for a limit below that of the server. The server itself rejects with
    /// 431 what it cannot read: hyper's HTTP/1 has a buffer of about 400 kB (`max_buf_size`), its
    /// HTTP/2 reads header lists of up to 16 KiB (`max_header_list_size`).
    pub fn max_header_bytes(mut self, most: impl Into<Option<u64>>) -> Self {
        self.max_header_bytes = most.into();
        self
    }

    /// Rejects requests that have more headers than this, with 431.
    ///
    /// Default: `None`. Hyper's HTTP/1 itself reads up to 100 headers (`max_headers`).
    pub fn max_headers(mut self, most: impl Into<Option<u64>>) -> Self {
        self.max_headers = most.into();
        self
    }

    /// Rejects requests whose path and query together have more bytes than this, with 414.
    ///
    /// Default: `None`. Hyper itself rejects a URI above 65 534 bytes with 414.
    pub fn max_uri(mut self, most: impl Into<Option<u64>>) -> Self {
        self.max_uri = most.into();
        self
    }

    /// Ends a body that is silent for this long while the handler waits for it. The answer is 408
    /// as long as the response head is not sent. Must not be zero. If the handler stops polling
    /// the body and polls it again later, the time starts again, at most once before bytes arrive.
    ///
    /// Default: `None`.
    pub fn body_idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.body_idle_timeout = timeout.into();
        self
    }

    /// Ends a body for which the handler has waited this long in total. The answer is 408 as long
    /// as the response head is not sent. Must not be zero. If the handler polls the body only when
    /// it is woken (`FuturesUnordered`), a wait ends at its next poll that does not poll the body.
    ///
    /// Default: `None`. Do not use it for streams that may live long, such as gRPC streams in both
    /// directions.
    pub fn body_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.body_timeout = timeout.into();
        self
    }

    /// Ends a body whose average rate is below this once the grace time is over. The answer is 408
    /// as long as the response head is not sent. `bytes_per_second` must be at least 1.
    ///
    /// As in Apache's `mod_reqtimeout`, each received byte extends the time: as many bytes as the
    /// rate extend it by one second.
    ///
    /// Default: `None`. To remove the rate, set the field to `None`.
    pub fn min_body_rate(mut self, bytes_per_second: u64, grace: Duration) -> Self {
        self.min_body_rate = Some(MinBodyRate {
            bytes_per_second,
            grace,
        });
        self
    }

    pub(super) fn is_only_size(&self) -> bool {
        *self == Self::new(self.max_body).raisable_to(self.raisable_to)
    }
}

fields!(RequestLimitSettings {
    max_body,
    raisable_to,
    max_header_bytes,
    max_headers,
    max_uri,
    body_idle_timeout,
    body_timeout,
    min_body_rate,
});

impl MinBodyRate {
    /// At least this rate, once the grace time is over.
    pub const fn new(bytes_per_second: u64, grace: Duration) -> Self {
        Self {
            bytes_per_second,
            grace,
        }
    }
}

fields!(MinBodyRate {
    bytes_per_second,
    grace,
});

impl Settings for RequestLimitSettings {
    fn check(&self) -> Result<(), ConfigError> {
        let rate = self.min_body_rate.map(|rate| rate.bytes_per_second);
        ConfigError::check_most("max_body", self.max_body, "raisable_to", self.raisable_to)?;
        ConfigError::check_not_zero("body_idle_timeout", self.body_idle_timeout)?;
        ConfigError::check_not_zero("body_timeout", self.body_timeout)?;
        ConfigError::check("min_body_rate.bytes_per_second", rate, 1..=u64::MAX)
    }
}

impl From<u64> for RequestLimitSettings {
    fn from(max_body: u64) -> Self {
        Self::new(max_body)
    }
}
