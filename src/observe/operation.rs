//! The events at the end of a process.

use std::time::Duration;

use super::Reporter;

#[cfg_attr(
    not(feature = "tracing"),
    expect(clippy::unused_self, reason = "the feature is off")
)]
impl Reporter {
    /// Writes that there were this many panics within a window.
    pub(crate) fn panics_escalated(&self, panics: u32, window: Duration) {
        #[cfg(feature = "tracing")]
        {
            let (layer, name) = (self.layer(), self.name());
            let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
            tracing::error!(target: "seawall", layer, name, panics, window_ms, "panics escalated");
        }
        let _ = (panics, window);
    }

    /// A drain has begun.
    pub(crate) fn drain_began(&self, lame_duck: Duration) {
        self.inner.series.draining(self);
        #[cfg(feature = "tracing")]
        {
            let (layer, name) = (self.layer(), self.name());
            let lame_duck_ms = u64::try_from(lame_duck.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(target: "seawall", layer, name, lame_duck_ms, "drain began");
        }
        let _ = lame_duck;
    }

    /// A drain is over.
    pub(crate) fn drain_ended(&self, cut: u64, left: u64) {
        #[cfg(feature = "tracing")]
        {
            let (layer, name) = (self.layer(), self.name());
            if cut == 0 && left == 0 {
                tracing::info!(target: "seawall", layer, name, cut, left, "drain ended");
            } else {
                tracing::warn!(target: "seawall", layer, name, cut, left, "drain ended before all requests had");
            }
        }
        let _ = (cut, left);
    }
}
