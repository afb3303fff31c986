//! The states of lag shedders and circuit breakers, in metrics and events.

use std::time::Duration;

use super::{Change, LagState, Mode, Outcome, Reached, Reporter};

// === impl Reporter: lag ===

impl Reporter {
    /// Publishes the lag of the runtime.
    pub(crate) fn lag(&self, lag: Duration) {
        self.inner.series.lag(self, lag);
    }

    /// Records the lag that a probe found.
    pub(crate) fn probe_returned(&self, lag: Duration, host_is_short: bool) {
        self.inner.series.probe_returned(self, lag, host_is_short);
    }

    /// Publishes the share of requests that is shed.
    pub(crate) fn shed(&self, share: f64) {
        self.inner.series.shed(self, share);
    }

    /// Counts a request that was admitted because there was no recent reading.
    pub(crate) fn failed_open(&self) {
        self.inner.series.failed_open(self);
    }

    /// Records a change of state of a lag shedder.
    pub(crate) fn lag_state(&self, before: LagState, after: LagState, lag: Duration) {
        self.inner.series.lag_state(self, after);
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
}

// === impl Reporter: circuit breakers ===

impl Reporter {
    /// Registers a circuit breaker that is called. Its state is read when the gauge is registered.
    #[inline]
    pub(crate) fn circuit_seen(&self, mode: impl FnOnce() -> Mode) {
        self.inner.series.circuit_seen(self, mode);
    }

    /// Records the outcome of a call of a circuit breaker, and its duration in nanoseconds if that
    /// is known.
    #[inline]
    pub(crate) fn circuit_outcome(&self, outcome: Outcome, took: Option<u64>) {
        self.inner.series.circuit_outcome(self, outcome, took);
    }

    /// Counts the thresholds that a circuit breaker reached.
    #[cold]
    pub(crate) fn circuit_reached(&self, reached: Reached) {
        self.inner.series.circuit_reached(self, reached);
    }

    /// Records a change of state of a circuit breaker.
    pub(crate) fn circuit_changed(&self, change: &Change) {
        self.inner.series.circuit_changed(self, change);
        #[cfg(feature = "tracing")]
        {
            let (layer, name, key) = (self.layer(), self.name(), self.key());
            let (from, state, cause) = (
                change.from.as_str(),
                change.to.as_str(),
                change.cause.as_str(),
            );
            let open_ms = change.lasts.map(|nanos| nanos / 1_000_000);
            if change.to == Mode::Open {
                tracing::warn!(target: "seawall", layer, name, key, from, state, cause, open_ms, "circuit opened");
            } else {
                tracing::info!(target: "seawall", layer, name, key, from, state, cause, "circuit changed");
            }
        }
    }

    /// Removes a dropped circuit breaker from the gauges.
    pub(crate) fn circuit_gone(&self) {
        self.inner.series.circuit_gone();
    }
}
