//! The handle that bounds the time of response bodies.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(doc)]
use super::TimeoutLayer;
use super::{ResponseBodyTimeoutSettings, Timeout};
use crate::config::{ConfigError, Configurable, Current, Settings};
use crate::observe::Reporter;
use crate::policy::{Admission, BodyBounds, Ended, Ending, NoWait, Parts, Policy};
use crate::request::RequestKind;

/// Bounds the time of response bodies, in a [`TimeoutLayer`]
/// ([`response_body_timeout`](crate::GateLayer::response_body_timeout)) or in a
/// [stack](crate::stack); see [response bodies](crate::timeout#response-bodies). The [`Timeout`] of
/// the same layer or stack counts the bodies that are ended, and its name is theirs in metrics and
/// events; in a gate of your own, the `Timeout` that applies to the request does. A cheap `Clone`
/// with shared settings.
#[derive(Clone)]
pub struct ResponseBodyTimeout {
    shared: Arc<Shared>,
    reporter: Reporter,
    /// The reporter is that of the timeout of the same layer or stack.
    is_beside: bool,
}

struct Shared {
    settings: Current<ResponseBodyTimeoutSettings>,
    bounds: Arc<BodyBounds>,
}

/// The bounds of a [`ResponseBodyTimeout`] at one moment; `None` is no limit.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ResponseBodyTimeoutSnapshot {
    /// See [`ResponseBodyTimeoutSettings::deadline`].
    pub deadline: bool,
    /// See [`ResponseBodyTimeoutSettings::idle_timeout`].
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::optional"))]
    pub idle_timeout: Option<Duration>,
    /// See [`ResponseBodyTimeoutSettings::progress_timeout`].
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::optional"))]
    pub progress_timeout: Option<Duration>,
}

// === impl ResponseBodyTimeout ===

impl ResponseBodyTimeout {
    /// Makes a handle with these settings.
    ///
    /// # Errors
    ///
    /// None at present, since every combination of settings is valid.
    pub fn new(settings: impl Into<ResponseBodyTimeoutSettings>) -> Result<Self, ConfigError> {
        let settings = settings.into();
        settings.check()?;
        Ok(Self::from(settings))
    }

    /// The policy of a layer or stack with this timeout.
    pub(crate) fn beside(self, timeout: &Timeout) -> Self {
        Self {
            reporter: timeout.shared.reporter.clone(),
            is_beside: true,
            ..self
        }
    }

    /// The current settings.
    pub fn settings(&self) -> ResponseBodyTimeoutSettings {
        self.shared.settings.get()
    }

    /// Replaces the settings for responses whose head comes later. A response whose head comes
    /// meanwhile may find some of the new values.
    ///
    /// A new idle timeout or progress timeout also applies to responses that are being sent, if
    /// this handle was on when their head came, even if a switch has turned it off since. To a
    /// response without a bound so far, it applies from the next poll of the body on.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn set(&self, settings: ResponseBodyTimeoutSettings) -> Result<(), ConfigError> {
        self.change(|_| settings)
    }

    /// The bounds. For all settings, see [`settings`](Self::settings).
    pub fn snapshot(&self) -> ResponseBodyTimeoutSnapshot {
        let bounds = &self.shared.bounds;
        ResponseBodyTimeoutSnapshot {
            deadline: bounds.has_deadline(),
            idle_timeout: bounds.idle(false),
            progress_timeout: bounds.progress(),
        }
    }
}

impl Configurable for ResponseBodyTimeout {
    type Settings = ResponseBodyTimeoutSettings;

    fn current(&self) -> &Current<ResponseBodyTimeoutSettings> {
        &self.shared.settings
    }

    fn publish(&self, settings: &ResponseBodyTimeoutSettings) {
        settings.publish(&self.shared.bounds);
    }
}

impl From<ResponseBodyTimeoutSettings> for ResponseBodyTimeout {
    fn from(settings: ResponseBodyTimeoutSettings) -> Self {
        let bounds = Arc::<BodyBounds>::default();
        settings.publish(&bounds);
        Self {
            shared: Arc::new(Shared {
                settings: Current::new(settings),
                bounds,
            }),
            reporter: Reporter::new("timeout"),
            is_beside: false,
        }
    }
}

impl<R: RequestKind> Policy<R> for ResponseBodyTimeout {
    type Token = ();
    type Wait = NoWait<(), Ended>;

    const IS_OURS: bool = true;

    #[inline(always)]
    fn admit(&self, _: &R::Head<'_>) -> Admission<(), Self::Wait> {
        Admission::Admit(())
    }

    fn register(&self) {
        self.reporter.register();
    }

    #[inline(always)]
    fn parts<'a>(&'a self, _: Option<&'a ()>) -> Parts<'a> {
        Parts {
            ending: Some(Ending {
                reporter: &self.reporter,
                bounds: &self.shared.bounds,
                is_beside: self.is_beside,
            }),
            ..Parts::default()
        }
    }
}

impl fmt::Debug for ResponseBodyTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBodyTimeout")
            .field("settings", &self.settings())
            .finish_non_exhaustive()
    }
}
