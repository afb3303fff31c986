//! The changes of state of lag shedders, circuit breakers and drains, the outcomes of breakers, and
//! the escalation of panics, in metrics and events.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::table::SeriesId;
use super::{LagState, Mode, Outcome, Reporter, Transition, Write, table};
use crate::clock::millis;
use crate::control::circuit_breaker::transition::CircuitState;

/// Writes an event of a handle, if the feature `tracing` is on.
macro_rules! event {
    ($reporter:expr, $level:ident, $($field:ident),+; $message:literal) => {
        #[cfg(feature = "tracing")]
        {
            let (layer, name, key) = ($reporter.layer(), $reporter.name(), $reporter.key());
            tracing::event!(
                target: "seawall", tracing::Level::$level, layer, name, key, $($field),+, $message
            );
        }
        let _ = ($message, &$reporter, $(&$field),+);
    };
}

/// As [`Inner::shown`](super::Inner) has it: 0 is no position.
fn position(state: usize) -> u8 {
    u8::try_from(state + 1).expect("there are few states")
}

// === impl Reporter ===

impl Reporter {
    /// Shows the state of a handle that is used for the first time: its position in the gauges.
    #[inline]
    pub(crate) fn state_seen(&self, gauges: SeriesId, state: impl FnOnce() -> usize) {
        if cfg!(feature = "metrics") && self.inner.shown.load(Relaxed) == 0 {
            self.register();
            let state = state();
            // If there is a state by now, a change was faster.
            let shown = &self.inner.shown;
            let seen = shown.compare_exchange(0, position(state), Relaxed, Relaxed);
            if seen.is_ok() {
                self.write(gauges.at(state), Write::Add(1.0));
            }
        }
    }

    /// Moves a handle from one gauge to another. Handles that share the gauges add up.
    fn state_changed(&self, gauges: SeriesId, to: usize) {
        let before = self.inner.shown.swap(position(to), Relaxed);
        self.hide_state(gauges, before);
        self.write(gauges.at(to), Write::Add(1.0));
    }

    /// Removes a dropped handle from the gauges.
    pub(crate) fn state_gone(&self, gauges: SeriesId) {
        self.hide_state(gauges, self.inner.shown.swap(0, Relaxed));
    }

    fn hide_state(&self, gauges: SeriesId, shown: u8) {
        if let Some(before) = shown.checked_sub(1) {
            self.write(gauges.at(before.into()), Write::Subtract(1.0));
        }
    }

    /// Records a change of state of a lag shedder.
    pub(crate) fn lag_state(&self, before: LagState, after: LagState, lag: Duration) {
        // Otherwise the first request shows the state.
        if self.is_registered() {
            self.state_changed(table::LAG_STATE, after as usize);
        }
        let (state, lag_ms) = (after.as_str(), millis(lag));
        if after == LagState::Shedding {
            event!(self, WARN, state, lag_ms; "shedding");
        } else if before == LagState::Shedding {
            event!(self, INFO, state, lag_ms; "shedding no longer");
        } else {
            event!(self, DEBUG, state, lag_ms; "lag changed");
        }
    }

    /// Writes that there were this many panics within a window.
    pub(crate) fn panics_escalated(&self, panics: u32, window: Duration) {
        let window_ms = millis(window);
        event!(self, ERROR, panics, window_ms; "panics escalated");
    }

    /// A drain has begun.
    pub(crate) fn drain_began(&self, lame_duck: Duration) {
        self.write(table::DRAINING, Write::Set(1.0));
        let lame_duck_ms = millis(lame_duck);
        event!(self, INFO, lame_duck_ms; "drain began");
    }

    /// A drain is over.
    pub(crate) fn drain_ended(&self, cut: u64, left: usize) {
        if cut == 0 && left == 0 {
            event!(self, INFO, cut, left; "drain ended");
        } else {
            event!(self, WARN, cut, left; "drain ended before all requests had");
        }
    }
}

// === impl Reporter: circuit breakers ===

impl Reporter {
    /// Records a change of state of a circuit breaker.
    pub(crate) fn circuit_changed(&self, change: &Transition, to: Mode) {
        self.state_changed(table::CIRCUIT_STATE, to as usize);
        self.write(table::CIRCUIT_TRANSITIONS.at(to as usize), Write::Count);
        #[cfg(feature = "tracing")]
        if self.inner.is_in_family {
            let is_open = matches!(change.to, CircuitState::Open { .. });
            if !super::events::is_change_written(is_open) {
                return;
            }
        }
        let (from, state) = (change.from.as_str(), change.to.as_str());
        let cause = change.cause.as_str();
        if let CircuitState::Open { retry_in } = change.to {
            let open_ms = millis(retry_in);
            event!(self, WARN, from, state, cause, open_ms; "circuit opened");
        } else {
            event!(self, INFO, from, state, cause; "circuit changed");
        }
    }

    /// Counts that a circuit breaker reached a threshold, given by its position in
    /// `Reached::CAUSES`.
    pub(crate) fn circuit_reached(&self, threshold: usize) {
        self.write(table::CIRCUIT_REACHED.at(threshold), Write::Count);
    }

    /// Records the outcome of a call of a circuit breaker, and its duration in nanoseconds if that
    /// is known.
    #[inline]
    pub(crate) fn circuit_outcome(&self, outcome: Outcome, took: Option<u64>) {
        self.write(table::CIRCUIT_OUTCOMES.at(outcome as usize), Write::Count);
        if let Some(took) = took {
            let took = Duration::from_nanos(took).as_secs_f64();
            self.write(table::CIRCUIT_CALLS, Write::Record(took));
        }
    }
}
