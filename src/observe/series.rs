//! The series of one handle behind the `metrics` facade.

mod kind;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge};

use self::kind::{Circuit, Kind, Monitor, OUTCOMES, Permits, Shed, reasons};
use super::table::{self, Metric};
use super::{Change, LagState, Mode, Outcome, Reached, Reason, Reporter, Setting};
use crate::sync::lock;

/// The series of one handle. They are registered at the first request of the handle; from then on,
/// each update is one atomic operation.
#[derive(Default)]
pub(super) struct Series {
    admitted: OnceLock<Counter>,
    exempt: OnceLock<Counter>,
    /// Exempt requests that the gate has not admitted yet. It leaves out as many when it counts
    /// admitted ones, whichever they are.
    uncounted: AtomicU64,
    own: OnceLock<Own>,
    /// The settings, and their gauges once these are registered.
    settings: Mutex<Vec<(Setting, f64, Option<Gauge>)>>,
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

// === impl Series: requests ===

impl Series {
    /// Registers all series of the handle, each with 0.
    #[inline]
    fn own(&self, reporter: &Reporter) -> &Own {
        self.own.get_or_init(|| self.make_own(reporter))
    }

    #[cold]
    fn make_own(&self, reporter: &Reporter) -> Own {
        for (setting, value, gauge) in &mut *lock(&self.settings) {
            let gauge = gauge.get_or_insert_with(|| setting.gauge(reporter));
            gauge.set(*value);
        }
        Own::new(reporter)
    }

    #[inline(always)]
    pub(super) fn admitted(&self, reporter: &Reporter, register: &dyn Fn()) {
        match self.admitted.get() {
            Some(admitted) if self.uncounted.load(Relaxed) == 0 => admitted.increment(1),
            _ => self.admitted_rarely(reporter, register),
        }
    }

    /// The first request, or an exempt one.
    #[cold]
    #[inline(never)]
    fn admitted_rarely(&self, reporter: &Reporter, register: &dyn Fn()) {
        let admitted = self.arrived(reporter, register);
        let less = |uncounted: u64| uncounted.checked_sub(1);
        if self.uncounted.fetch_update(Relaxed, Relaxed, less).is_err() {
            admitted.increment(1);
        }
    }

    /// Registers the series of a gate at its first request. The type of `register` is erased: gates
    /// have many types, and the compiler would make this code for each of them.
    #[inline(always)]
    pub(super) fn arrived(&self, reporter: &Reporter, register: &dyn Fn()) -> &Counter {
        match self.admitted.get() {
            Some(admitted) => admitted,
            None => self.arrived_first(reporter, register),
        }
    }

    #[cold]
    #[inline(never)]
    fn arrived_first(&self, reporter: &Reporter, register: &dyn Fn()) -> &Counter {
        // A request may hold its token already: a panic here would leak it.
        crate::unwind::without_panics(|| {
            register();
            self.register(reporter);
        });
        self.exempt
            .get_or_init(|| reporter.counter(table::EXEMPT, &[]));
        self.admitted
            .get_or_init(|| reporter.counter(table::ADMITTED, &[]))
    }

    pub(super) fn register(&self, reporter: &Reporter) {
        self.own(reporter);
    }

    /// The gate is about to admit the request, and must not count it again.
    pub(super) fn exempt(&self, reporter: &Reporter) {
        self.uncounted.fetch_add(1, Relaxed);
        self.exempt
            .get_or_init(|| reporter.counter(table::EXEMPT, &[]))
            .increment(1);
    }

    pub(super) fn rejected(&self, reporter: &Reporter, reason: Reason, dry_run: bool) {
        let own = self.own(reporter);
        let (counters, metric) = if dry_run {
            (&own.would_reject, table::WOULD_REJECT)
        } else {
            (&own.rejected, table::REJECTED)
        };
        let register = || reporter.counter(metric, &[("reason", reason.as_str())]);
        match reason.index() {
            Some(index) => counters[index].get_or_init(register).increment(1),
            None => register().increment(1),
        }
    }

    pub(super) fn timed_out(&self, reporter: &Reporter) {
        match &self.own(reporter).kind {
            Kind::Timeout(series) => series.timeouts.increment(1),
            _ => reporter.counter(table::TIMEOUTS, &[]).increment(1),
        }
    }

    pub(super) fn malformed_timeout(&self, reporter: &Reporter) {
        if let Kind::Timeout(series) = &self.own(reporter).kind {
            series.malformed.increment(1);
        }
    }

    pub(super) fn panicked(&self, reporter: &Reporter) {
        match &self.own(reporter).kind {
            Kind::Panics(panics) => panics.increment(1),
            _ => reporter.counter(table::PANICS, &[]).increment(1),
        }
    }

    /// Publishes a setting.
    pub(super) fn set(&self, setting: Setting, value: f64) {
        let mut settings = lock(&self.settings);
        match settings.iter_mut().find(|(each, ..)| *each == setting) {
            Some((_, old, gauge)) => {
                *old = value;
                if let Some(gauge) = gauge {
                    gauge.set(value);
                }
            }
            None => settings.push((setting, value, None)),
        }
    }

    pub(super) fn slow_poll(&self, reporter: &Reporter, took: Duration) {
        if let Kind::SlowPolls(polls) = &self.own(reporter).kind {
            polls.record(took.as_secs_f64());
        }
    }

    pub(super) fn draining(&self, reporter: &Reporter) {
        if let Kind::Drain(draining) = &self.own(reporter).kind {
            draining.set(1.0);
        }
    }

    #[inline]
    fn permits(&self, reporter: &Reporter) -> Option<&Permits> {
        match &self.own(reporter).kind {
            Kind::Limit(permits) => Some(permits),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn entered(&self, reporter: &Reporter) {
        if let Some(permits) = self.permits(reporter) {
            permits.in_flight.increment(1.0);
        }
    }

    #[inline]
    pub(super) fn left(&self, reporter: &Reporter) {
        if let Some(permits) = self.permits(reporter) {
            permits.in_flight.decrement(1.0);
        }
    }

    pub(super) fn queued(&self, reporter: &Reporter) {
        if let Some(permits) = self.permits(reporter) {
            permits.queued.increment(1.0);
        }
    }

    pub(super) fn left_queue(&self, reporter: &Reporter, waited: Duration) {
        if let Some(permits) = self.permits(reporter) {
            permits.queued.decrement(1.0);
            permits.queue_time.record(waited.as_secs_f64());
        }
    }
}

// === impl Series: lag ===

impl Series {
    fn monitor(&self, reporter: &Reporter) -> Option<&Monitor> {
        match &self.own(reporter).kind {
            Kind::Monitor(monitor) => Some(monitor),
            _ => None,
        }
    }

    fn shedder(&self, reporter: &Reporter) -> Option<&Shed> {
        match &self.own(reporter).kind {
            Kind::Shed(shed) => Some(shed),
            _ => None,
        }
    }

    pub(super) fn lag(&self, reporter: &Reporter, lag: Duration) {
        if let Some(monitor) = self.monitor(reporter) {
            monitor.lag.set(lag.as_secs_f64());
        }
    }

    pub(super) fn probe_returned(&self, reporter: &Reporter, lag: Duration, host_is_short: bool) {
        if let Some(monitor) = self.monitor(reporter) {
            monitor.probes[usize::from(host_is_short)].record(lag.as_secs_f64());
        }
    }

    pub(super) fn sampler_failed(&self, reporter: &Reporter) {
        if let Some(monitor) = self.monitor(reporter) {
            monitor.failures.increment(1);
        }
    }

    pub(super) fn lag_state(&self, reporter: &Reporter, now: LagState) {
        if let Some(shed) = self.shedder(reporter) {
            for (state, gauge) in &shed.states {
                gauge.set(f64::from(u8::from(*state == now)));
            }
        }
    }

    pub(super) fn shed(&self, reporter: &Reporter, share: f64) {
        if let Some(shed) = self.shedder(reporter) {
            shed.ratio.set(share);
        }
    }

    pub(super) fn failed_open(&self, reporter: &Reporter) {
        if let Some(shed) = self.shedder(reporter) {
            shed.fail_open.increment(1);
        }
    }
}

// === impl Series: circuit breakers ===

impl Series {
    #[inline]
    fn circuit(&self, reporter: &Reporter) -> Option<&Circuit> {
        match &self.own(reporter).kind {
            Kind::Circuit(circuit) => Some(circuit),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn circuit_seen(&self, reporter: &Reporter, mode: impl FnOnce() -> Mode) {
        let is_shown = self.own.get().is_some_and(|own| match &own.kind {
            Kind::Circuit(circuit) => circuit.is_shown.load(Relaxed),
            _ => true,
        });
        if !is_shown {
            self.show_mode(reporter, mode(), true);
        }
    }

    /// Moves the handle from the state that the gauges show to its current state.
    fn show_mode(&self, reporter: &Reporter, mode: Mode, is_first: bool) {
        let Some(circuit) = self.circuit(reporter) else {
            return;
        };
        let mut shown = lock(&circuit.shown);
        if is_first && shown.is_some() {
            return; // a change was faster
        }
        if let Some(before) = shown.replace(mode) {
            circuit.states[before as usize].decrement(1.0);
        }
        circuit.states[mode as usize].increment(1.0);
        circuit.is_shown.store(true, Relaxed);
    }

    pub(super) fn circuit_changed(&self, reporter: &Reporter, change: &Change) {
        self.show_mode(reporter, change.to, false);
        if let Some(circuit) = self.circuit(reporter) {
            circuit.transitions[change.to as usize].increment(1);
        }
    }

    pub(super) fn circuit_reached(&self, reporter: &Reporter, reached: Reached) {
        let Some(circuit) = self.circuit(reporter) else {
            return;
        };
        for (index, counter) in circuit.reached.iter().enumerate() {
            if reached.has(index) {
                counter.increment(1);
            }
        }
    }

    /// `took` is the duration in nanoseconds, if it was measured.
    #[inline]
    pub(super) fn circuit_outcome(&self, reporter: &Reporter, outcome: Outcome, took: Option<u64>) {
        let index = OUTCOMES.iter().position(|(each, _)| *each == outcome);
        if let (Some(circuit), Some(index)) = (self.circuit(reporter), index) {
            circuit.outcomes[index].increment(1);
            if let Some(took) = took {
                circuit
                    .calls
                    .record(Duration::from_nanos(took).as_secs_f64());
            }
        }
    }

    /// The handle leaves its state.
    pub(super) fn circuit_gone(&self) {
        if let Some(Own {
            kind: Kind::Circuit(circuit),
            ..
        }) = self.own.get()
        {
            if let Some(before) = lock(&circuit.shown).take() {
                circuit.states[before as usize].decrement(1.0);
            }
        }
    }
}
