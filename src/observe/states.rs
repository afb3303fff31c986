//! The changes of state of lag shedders, circuit breakers, drains and processes, in metrics and
//! events.

use std::time::Duration;

use super::{Change, LagState, Reporter};

#[cfg_attr(
    not(feature = "tracing"),
    expect(clippy::unused_self, reason = "the feature is off")
)]
impl Reporter {
    /// Records a change of state of a lag shedder.
    pub(crate) fn lag_state(&self, before: LagState, after: LagState, lag: Duration) {
        self.show_lag_state(after);
        #[cfg(feature = "tracing")]
        {
            let (layer, name, state) = (self.layer(), self.name(), after.as_str());
            let lag_ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
            if after == LagState::Shedding {
                tracing::warn!(target: "seawall", layer, name, state, lag_ms, "shedding");
            } else if before == LagState::Shedding {
                tracing::info!(target: "seawall", layer, name, state, lag_ms, "shedding no longer");
            } else {
                tracing::debug!(target: "seawall", layer, name, state, lag_ms, "lag changed");
            }
        }
        let _ = (before, lag);
    }

    /// Records a change of state of a circuit breaker.
    pub(crate) fn circuit_changed(&self, change: &Change) {
        self.show_circuit_change(change);
        #[cfg(feature = "tracing")]
        {
            let (layer, name, key) = (self.layer(), self.name(), self.key());
            let (from, state, cause) = (
                change.from.as_str(),
                change.to.as_str(),
                change.cause.as_str(),
            );
            let open_ms = change.lasts.map(|nanos| nanos / 1_000_000);
            if change.to == super::Mode::Open {
                tracing::warn!(target: "seawall", layer, name, key, from, state, cause, open_ms, "circuit opened");
            } else {
                tracing::info!(target: "seawall", layer, name, key, from, state, cause, "circuit changed");
            }
        }
    }

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
        self.show_draining();
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
