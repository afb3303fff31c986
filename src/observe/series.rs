//! The series of one handle behind the `metrics` facade. Without the feature `metrics`,
//! `no_series.rs` has the same functions, which do nothing.

mod kind;

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use self::kind::{Circuit, Kind, OUTCOMES, reasons};
use super::register::{Counter, Gauge};
use super::table::{self, Metric};
use super::{Change, LagState, Mode, Outcome, Reached, Reason, Reporter, Setting};
use crate::sync::lock;
use crate::unwind;

/// The series of one handle. They are registered at the first request of the handle; from then on,
/// each update is one atomic operation.
#[derive(Default)]
pub(super) struct Series {
    admitted: OnceLock<Counter>,
    exempt: OnceLock<Counter>,
    own: OnceLock<Own>,
    /// The settings, and their gauges once these are registered.
    settings: Mutex<Vec<(Setting, f64, Option<Gauge>)>>,
}

thread_local! {
    /// The gate that decides on this thread has counted its request as exempt.
    static IS_EXEMPT: Cell<bool> = const { Cell::new(false) };
}

/// The series of the handle that depend on its kind.
struct Own {
    rejected: ByReason,
    would_reject: ByReason,
    kind: Kind,
}

/// The series of the reasons for which a layer rejects are registered with the handle. Others, such
/// as those of your own policies, are registered at their first use.
type ByReason = [OnceLock<Counter>; Reason::ALL.len()];

// === impl Own ===

impl Own {
    fn new(reporter: &Reporter) -> Self {
        let by_reason = |metric: Metric| {
            let counters = ByReason::default();
            let reasons = reasons(reporter.layer()).iter();
            for index in reasons.filter_map(|reason| reason.index()) {
                let reason = Reason::ALL[index].as_str();
                counters[index].get_or_init(|| reporter.counter(metric, &[("reason", reason)]));
            }
            counters
        };
        Self {
            rejected: by_reason(table::REJECTED),
            would_reject: by_reason(table::WOULD_REJECT),
            kind: Kind::new(reporter),
        }
    }
}

// === impl Reporter: requests ===

impl Reporter {
    /// Registers the series of the handle, each with 0, if they are not registered yet. Without the
    /// feature `metrics` it does nothing. Call it in [`Policy::register`] of your own policy.
    ///
    /// [`Policy::register`]: crate::policy::Policy::register
    pub fn register(&self) {
        self.own();
    }

    #[inline]
    fn own(&self) -> &Own {
        match self.inner.series.own.get() {
            Some(own) => own,
            None => self.make_own(),
        }
    }

    #[inline]
    fn kind(&self) -> &Kind {
        &self.own().kind
    }

    /// Registers the series without a lock, since the recorder may call this reporter. If that
    /// call, or another thread, was faster, its series are used.
    #[cold]
    fn make_own(&self) -> &Own {
        let series = &self.inner.series;
        let is_first = series.own.set(Own::new(self)).is_ok();
        if is_first {
            self.show_settings();
        }
        series.own.get().expect("it is set")
    }

    fn show_settings(&self) {
        let settings = lock(&self.inner.series.settings).clone();
        for (setting, value, _) in settings {
            let gauge = setting.gauge(self);
            for (each, _, known) in &mut *lock(&self.inner.series.settings) {
                if *each == setting {
                    *known = Some(gauge.clone());
                }
            }
            self.show_setting(setting, value, &gauge);
        }
    }

    /// Counts an admitted request, unless it is exempt. It calls `register` at the first request.
    #[inline(always)]
    pub(crate) fn admitted(&self, register: &dyn Fn()) {
        let series = &self.inner.series;
        match series.admitted.get() {
            Some(admitted) if !IS_EXEMPT.get() => admitted.increment(1),
            _ => self.admitted_rarely(register),
        }
    }

    /// The first request, or an exempt one.
    #[cold]
    #[inline(never)]
    fn admitted_rarely(&self, register: &dyn Fn()) {
        let is_exempt = IS_EXEMPT.get();
        self.arrived(register);
        if let Some(admitted) = self.inner.series.admitted.get().filter(|_| !is_exempt) {
            admitted.increment(1);
        }
    }

    /// Registers the series of a gate at its first request, as [`admitted`](Self::admitted) does,
    /// for a request that is not admitted now. The type of `register` is erased: gates have many
    /// types, and the compiler would make this code for each of them.
    #[inline(always)]
    pub(crate) fn arrived(&self, register: &dyn Fn()) {
        IS_EXEMPT.set(false);
        if self.inner.series.admitted.get().is_none() {
            self.arrived_first(register);
        }
    }

    #[cold]
    #[inline(never)]
    fn arrived_first(&self, register: &dyn Fn()) {
        // A request may hold its token already: a panic here would leak it.
        unwind::without_panics(|| {
            register();
            self.register();
        });
        self.exempt_series();
        let admitted = || self.counter(table::ADMITTED, &[]);
        self.inner.series.admitted.get_or_init(admitted);
    }

    fn exempt_series(&self) -> &Counter {
        let exempt = || self.counter(table::EXEMPT, &[]);
        self.inner.series.exempt.get_or_init(exempt)
    }

    /// Counts an exempt request, which the gate is about to admit and must not count again.
    pub(super) fn exempted(&self) {
        self.exempt_series().increment(1);
        // This comes last: the recorder may call another gate.
        IS_EXEMPT.set(true);
    }

    pub(super) fn rejected_for(&self, reason: Reason) {
        match (reason, self.kind()) {
            (Reason::Panicked, Kind::Panics(panics)) => panics.increment(1),
            (Reason::Panicked, _) => self.counter(table::PANICS, &[]).increment(1),
            (Reason::Timeout, Kind::Timeout(series)) => series.timeouts.increment(1),
            (Reason::Timeout, _) => self.counter(table::TIMEOUTS, &[]).increment(1),
            _ => self.count_reason(&self.own().rejected, table::REJECTED, reason),
        }
    }

    pub(super) fn would_reject_for(&self, reason: Reason) {
        self.count_reason(&self.own().would_reject, table::WOULD_REJECT, reason);
    }

    fn count_reason(&self, counters: &ByReason, metric: Metric, reason: Reason) {
        let register = || self.counter(metric, &[("reason", reason.as_str())]);
        match reason.index() {
            Some(index) => counters[index].get_or_init(register).increment(1),
            None => register().increment(1),
        }
    }

    pub(super) fn count_malformed_timeout(&self) {
        if let Kind::Timeout(series) = self.kind() {
            series.malformed.increment(1);
        }
    }

    /// Publishes a setting of the handle.
    pub(crate) fn set(&self, setting: Setting, value: f64) {
        let mut settings = lock(&self.inner.series.settings);
        let known = settings.iter_mut().find(|(each, ..)| *each == setting);
        let gauge = if let Some((_, old, gauge)) = known {
            *old = value;
            gauge.clone()
        } else {
            settings.push((setting, value, None));
            None
        };
        drop(settings);
        if let Some(gauge) = gauge {
            self.show_setting(setting, value, &gauge);
        }
    }

    /// Shows a setting, outside the lock: the recorder may change the setting, as may other
    /// threads. The last value is shown last.
    fn show_setting(&self, setting: Setting, mut value: f64, gauge: &Gauge) {
        loop {
            gauge.set(value);
            let settings = lock(&self.inner.series.settings);
            let mut known = settings.iter().filter(|(each, ..)| *each == setting);
            match known.next() {
                Some((_, now, _)) if now.to_bits() != value.to_bits() => value = *now,
                _ => return,
            }
        }
    }

    pub(super) fn record_slow_poll(&self, took: Duration) {
        if let Kind::SlowPolls(polls) = self.kind() {
            polls.record(took.as_secs_f64());
        }
    }

    pub(super) fn show_draining(&self) {
        if let Kind::Drain(draining) = self.kind() {
            draining.set(1.0);
        }
    }

    /// A request acquired a permit.
    #[inline]
    pub(crate) fn entered(&self) {
        if let Kind::Limit(permits) = self.kind() {
            permits.in_flight.increment(1.0);
        }
    }

    /// A request released its permit.
    #[inline]
    pub(crate) fn left(&self) {
        if let Kind::Limit(permits) = self.kind() {
            permits.in_flight.decrement(1.0);
        }
    }

    /// A request was queued.
    pub(crate) fn queued(&self) {
        if let Kind::Limit(permits) = self.kind() {
            permits.queued.increment(1.0);
        }
    }

    /// A request left the queue after this time.
    pub(crate) fn left_queue(&self, waited: Duration) {
        if let Kind::Limit(permits) = self.kind() {
            permits.queued.decrement(1.0);
            permits.queue_time.record(waited.as_secs_f64());
        }
    }
}

// === impl Reporter: lag ===

impl Reporter {
    /// Publishes the lag of the runtime.
    pub(crate) fn lag(&self, lag: Duration) {
        if let Kind::Monitor(monitor) = self.kind() {
            monitor.lag.set(lag.as_secs_f64());
        }
    }

    /// Records the lag that a probe found.
    pub(crate) fn probe_returned(&self, lag: Duration, host_is_short: bool) {
        if let Kind::Monitor(monitor) = self.kind() {
            monitor.probes[usize::from(host_is_short)].record(lag.as_secs_f64());
        }
    }

    pub(super) fn count_sampler_failure(&self) {
        if let Kind::Monitor(monitor) = self.kind() {
            monitor.failures.increment(1);
        }
    }

    pub(crate) fn show_lag_state(&self, now: LagState) {
        if let Kind::Shed(shed) = self.kind() {
            for (state, gauge) in &shed.states {
                gauge.set(f64::from(u8::from(*state == now)));
            }
        }
    }

    /// Publishes the share of requests that is shed.
    pub(crate) fn shed(&self, share: f64) {
        if let Kind::Shed(shed) = self.kind() {
            shed.ratio.set(share);
        }
    }

    /// Counts a request that was admitted because there was no recent reading.
    pub(crate) fn failed_open(&self) {
        if let Kind::Shed(shed) = self.kind() {
            shed.fail_open.increment(1);
        }
    }
}

// === impl Reporter: circuit breakers ===

impl Reporter {
    /// The series of a circuit breaker, if they are registered.
    #[inline]
    fn known_circuit(&self) -> Option<&Circuit> {
        match &self.inner.series.own.get()?.kind {
            Kind::Circuit(circuit) => Some(circuit),
            _ => None,
        }
    }

    /// Registers a circuit breaker that is called. Its state is read when the gauge is registered.
    #[inline]
    pub(crate) fn circuit_seen(&self, mode: impl FnOnce() -> Mode) {
        let circuit = self.known_circuit();
        if circuit.is_none_or(|circuit| !circuit.is_shown.load(Relaxed)) {
            self.show_mode(mode(), true);
        }
    }

    /// Moves the handle from the state that the gauges show to its current state.
    fn show_mode(&self, mode: Mode, is_first: bool) {
        let Kind::Circuit(circuit) = self.kind() else {
            return;
        };
        let mut shown = lock(&circuit.shown);
        if is_first && shown.is_some() {
            return; // a change was faster
        }
        circuit.is_shown.store(true, Relaxed);
        let before = shown.replace(mode);
        // The recorder may call the breaker. Changes of a gauge may come in any order.
        drop(shown);
        if let Some(before) = before {
            circuit.states[before as usize].decrement(1.0);
        }
        circuit.states[mode as usize].increment(1.0);
    }

    pub(super) fn show_circuit_change(&self, change: &Change) {
        self.show_mode(change.to, false);
        if let Kind::Circuit(circuit) = self.kind() {
            circuit.transitions[change.to as usize].increment(1);
        }
    }

    /// Counts the thresholds that a circuit breaker reached.
    #[cold]
    pub(crate) fn circuit_reached(&self, reached: Reached) {
        if let Kind::Circuit(circuit) = self.kind() {
            let counters = circuit.reached.iter().enumerate();
            for (_, counter) in counters.filter(|(index, _)| reached.has(*index)) {
                counter.increment(1);
            }
        }
    }

    /// Records the outcome of a call of a circuit breaker, and its duration in nanoseconds if that
    /// is known.
    #[inline]
    pub(crate) fn circuit_outcome(&self, outcome: Outcome, took: Option<u64>) {
        let index = OUTCOMES.iter().position(|(each, _)| *each == outcome);
        if let (Kind::Circuit(circuit), Some(index)) = (self.kind(), index) {
            circuit.outcomes[index].increment(1);
            if let Some(took) = took {
                let took = Duration::from_nanos(took);
                circuit.calls.record(took.as_secs_f64());
            }
        }
    }

    /// Removes a dropped circuit breaker from the gauges.
    pub(crate) fn circuit_gone(&self) {
        let shown = self
            .known_circuit()
            .map(|circuit| (circuit, lock(&circuit.shown).take()));
        if let Some((circuit, Some(before))) = shown {
            circuit.states[before as usize].decrement(1.0);
        }
    }
}
