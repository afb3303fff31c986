//! The handle that bounds the time of response bodies.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::ResponseBodyTimeoutSettings;
#[cfg(doc)]
use super::{Timeout, TimeoutLayer};
use crate::config::{ConfigError, Configurable, Current, Settings};
use crate::observe::Reporter;
use crate::policy::{Admission, BodyBounds, Ended, Ending, NoWait, Parts, Policy};
use crate::request::RequestKind;

/// Bounds the time of response bodies, in a [`TimeoutLayer`]
/// ([`response_body_timeout`](crate::GateLayer::response_body_timeout)) or in a
/// [stack](crate::stack); see [response bodies](crate::timeout#response-bodies). A cheap `Clone`
/// with shared settings.
#[derive(Clone)]
pub struct ResponseBodyTimeout {
    shared: Arc<Shared>,
    reporter: Reporter,
}

struct Shared {
    settings: Current<ResponseBodyTimeoutSettings>,
    bounds: BodyBounds,
    /// It was made from settings for one layer, so that no caller has it.
    is_private: bool,
}

/// The state of a [`ResponseBodyTimeout`] at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ResponseBodyTimeoutSnapshot {
    /// The number of response bodies so far that were ended.
    pub timed_out: u64,
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
        Ok(Self::from_checked(settings, false))
    }

    fn from_checked(settings: ResponseBodyTimeoutSettings, is_private: bool) -> Self {
        let bounds = BodyBounds::default();
        settings.publish(&bounds);
        Self {
            shared: Arc::new(Shared {
                settings: Current::new(settings),
                bounds,
                is_private,
            }),
            // Late heads and late bodies are one metric.
            reporter: Reporter::new("timeout"),
        }
    }

    /// The policy of a layer with this timeout: it has the name of the timeout, unless it has one.
    /// The timeout counts for a policy that was made from settings.
    pub(super) fn beside(self, timeout: &Reporter) -> Self {
        if self.shared.is_private {
            let reporter = timeout.clone();
            return Self { reporter, ..self };
        }
        if !timeout.name().is_empty() {
            self.reporter.set_name(timeout.name().to_owned());
        }
        self
    }

    /// Names the handle in metrics and events. A second call has no effect. Without a name, it has
    /// that of the [`Timeout`] in its layer.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.reporter.set_name(name);
        self
    }

    /// The name; empty if it has none.
    pub fn name(&self) -> &str {
        self.reporter.name()
    }

    /// The current settings.
    pub fn settings(&self) -> ResponseBodyTimeoutSettings {
        self.shared.settings.get()
    }

    /// Replaces the settings for responses whose head comes later.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn set(&self, settings: ResponseBodyTimeoutSettings) -> Result<(), ConfigError> {
        self.change(|_| settings)
    }

    /// The counter. For the settings, see [`settings`](Self::settings).
    pub fn snapshot(&self) -> ResponseBodyTimeoutSnapshot {
        ResponseBodyTimeoutSnapshot {
            timed_out: self.reporter.rejected(),
        }
    }
}

impl Configurable for ResponseBodyTimeout {
    type Settings = ResponseBodyTimeoutSettings;

    fn current(&self) -> &Current<ResponseBodyTimeoutSettings> {
        &self.shared.settings
    }

    /// A response whose head comes meanwhile may find some of the new values.
    fn publish(&self, settings: &ResponseBodyTimeoutSettings) {
        settings.publish(&self.shared.bounds);
    }
}

impl From<ResponseBodyTimeoutSettings> for ResponseBodyTimeout {
    /// For one layer, whose [`Timeout`] counts the bodies that are ended.
    fn from(settings: ResponseBodyTimeoutSettings) -> Self {
        Self::from_checked(settings, true)
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
            }),
            ..Parts::default()
        }
    }
}

impl fmt::Debug for ResponseBodyTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBodyTimeout")
            .field("settings", &self.settings())
            .field("reporter", &self.reporter)
            .finish_non_exhaustive()
    }
}
