//! The changes of state of lag shedders, circuit breakers and drains, the outcomes of breakers, and
//! the escalation of panics, in metrics and events.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{LagState, Mode, Outcome, Reached, Reporter, Transition, Write, table};
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// === impl Reporter ===

impl Reporter {
    /// Records a change of state of a lag shedder.
    pub(crate) fn lag_state(&self, before: LagState, after: LagState, lag: Duration) {
        self.show_lag_state(after);
        let (state, lag_ms) = (after.as_str(), millis(lag));
        if after == LagState::Shedding {
            event!(self, WARN, state, lag_ms; "shedding");
        } else if before == LagState::Shedding {
            event!(self, INFO, state, lag_ms; "shedding no longer");
        } else {
            event!(self, DEBUG, state, lag_ms; "lag changed");
        }
    }

    pub(crate) fn show_lag_state(&self, now: LagState) {
        for (label, state) in LagState::ALL.into_iter().enumerate() {
            let value = f64::from(u8::from(state == now));
            self.show_setting(table::LAG_STATE.at(label), value);
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
    pub(crate) fn drain_ended(&self, cut: u64, left: u64) {
        if cut == 0 && left == 0 {
            event!(self, INFO, cut, left; "drain ended");
        } else {
            event!(self, WARN, cut, left; "drain ended before all requests had");
        }
    }
}

// === impl Reporter: circuit breakers ===

impl Reporter {
    /// Registers a circuit breaker that is called. Its state is read when the gauge is registered.
    #[inline]
    pub(crate) fn circuit_seen(&self, mode: impl FnOnce() -> Mode) {
        if cfg!(feature = "metrics") && self.inner.shown.load(Relaxed) == 0 {
            self.register();
            let shown = &self.inner.shown;
            let mode = mode();
            // If there is a state by now, a change was faster.
            if shown
                .compare_exchange(0, mode as u8 + 1, Relaxed, Relaxed)
                .is_ok()
            {
                self.write(table::CIRCUIT_STATE.at(mode as usize), Write::Add(1.0));
            }
        }
    }

    /// Records a change of state of a circuit breaker: moves it from one gauge to another. Breakers
    /// that share the gauges add up.
    pub(crate) fn circuit_changed(&self, change: &Transition, to: Mode) {
        let before = self.inner.shown.swap(to as u8 + 1, Relaxed);
        self.hide_circuit(before);
        self.write(table::CIRCUIT_STATE.at(to as usize), Write::Add(1.0));
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

    /// Counts the thresholds that a circuit breaker reached.
    #[cold]
    pub(crate) fn circuit_reached(&self, reached: Reached) {
        for label in (0..Reached::CAUSES.len()).filter(|label| reached.has(*label)) {
            self.write(table::CIRCUIT_REACHED.at(label), Write::Count);
        }
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

    /// Removes a dropped circuit breaker from the gauges.
    pub(crate) fn circuit_gone(&self) {
        self.hide_circuit(self.inner.shown.swap(0, Relaxed));
    }

    fn hide_circuit(&self, shown: u8) {
        if let Some(before) = shown.checked_sub(1) {
            let before = table::CIRCUIT_STATE.at(before.into());
            self.write(before, Write::Subtract(1.0));
        }
    }
}
