//! The series of one handle behind the `metrics` facade.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Label, Unit, counter, describe_counter, describe_gauge,
    describe_histogram, gauge, histogram,
};

use super::{Change, LagState, Mode, Outcome, Reached, Reason, Reporter};

const ADMITTED: &str = "seawall_requests_admitted_total";
const REJECTED: &str = "seawall_requests_rejected_total";
const WOULD_REJECT: &str = "seawall_requests_would_reject_total";
const IN_FLIGHT: &str = "seawall_requests_in_flight";
const QUEUED: &str = "seawall_requests_queued";
const LIMIT: &str = "seawall_concurrency_limit";
const TIMEOUTS: &str = "seawall_timeouts_total";
const MALFORMED: &str = "seawall_malformed_timeouts_total";
const PANICS: &str = "seawall_panics_total";
const LAG: &str = "seawall_lag_seconds";
const LAG_PROBE: &str = "seawall_lag_probe_seconds";
const LAG_STATE: &str = "seawall_lag_state";
const LAG_SHED: &str = "seawall_lag_shed_ratio";
const LAG_FAIL_OPEN: &str = "seawall_lag_fail_open_total";
const CIRCUIT_STATE: &str = "seawall_circuit_state";
const CIRCUIT_TRANSITIONS: &str = "seawall_circuit_transitions_total";
const CIRCUIT_REACHED: &str = "seawall_circuit_thresholds_reached_total";
const CIRCUIT_OUTCOMES: &str = "seawall_circuit_outcomes_total";
const SAMPLER_FAILURES: &str = "seawall_lag_sampler_failures_total";

/// The registered series of one handle: each is looked up once, then costs one atomic operation.
#[derive(Default)]
pub(super) struct Series {
    admitted: OnceLock<Counter>,
    rejected: [OnceLock<Counter>; Reason::ALL.len()],
    would_reject: [OnceLock<Counter>; Reason::ALL.len()],
    permits: OnceLock<Permits>,
    queued: OnceLock<Gauge>,
    timeouts: OnceLock<Counter>,
    malformed: OnceLock<Counter>,
    panics: OnceLock<Counter>,
    lag: OnceLock<Gauge>,
    /// By whether the host is short of CPU.
    probes: [OnceLock<Histogram>; 2],
    states: OnceLock<[(LagState, Gauge); 3]>,
    shed: OnceLock<Gauge>,
    failures: OnceLock<Counter>,
    modes: OnceLock<Modes>,
    outcomes: [OnceLock<Counter>; OUTCOMES.len()],
}

/// A handle moves from one to the other; handles that share them add up.
struct Modes {
    gauges: [Gauge; Mode::ALL.len()],
    entered: [Counter; Mode::ALL.len()],
    shown: Mutex<Option<Mode>>,
}

struct Permits {
    in_flight: Gauge,
    limit: Gauge,
}

impl Series {
    #[inline]
    pub(super) fn admitted(&self, reporter: &Reporter) {
        self.admitted
            .get_or_init(|| reporter.counter(ADMITTED, "Requests that a gate admitted."))
            .increment(1);
    }

    pub(super) fn rejected(&self, reporter: &Reporter, reason: Reason, dry_run: bool) {
        let (all, name, help) = if dry_run {
            let help = "Requests that a layer in dry run would have rejected.";
            (&self.would_reject, WOULD_REJECT, help)
        } else {
            let help = "Requests that were rejected.";
            (&self.rejected, REJECTED, help)
        };
        let register = || {
            describe_counter!(name, Unit::Count, help);
            counter!(name, reporter.labels(&[("reason", reason.as_str())]))
        };
        match reason.index() {
            Some(index) => all[index].get_or_init(register).increment(1),
            None => register().increment(1),
        }
    }

    pub(super) fn timed_out(&self, reporter: &Reporter) {
        self.timeouts
            .get_or_init(|| reporter.counter(TIMEOUTS, "Requests whose deadline passed."))
            .increment(1);
    }

    pub(super) fn malformed_timeout(&self, reporter: &Reporter) {
        let help = "Requests whose grpc-timeout could not be read, and was ignored.";
        self.malformed
            .get_or_init(|| reporter.counter(MALFORMED, help))
            .increment(1);
    }

    pub(super) fn panicked(&self, reporter: &Reporter) {
        self.panics
            .get_or_init(|| reporter.counter(PANICS, "Handlers and bodies that panicked."))
            .increment(1);
    }

    #[inline]
    pub(super) fn entered(&self, reporter: &Reporter, limit: impl FnOnce() -> usize) {
        let permits = self.permits.get_or_init(|| {
            let permits = Permits {
                in_flight: reporter.gauge(
                    IN_FLIGHT,
                    Unit::Count,
                    "Requests that hold a permit now.",
                ),
                limit: reporter.gauge(LIMIT, Unit::Count, "Permits there are."),
            };
            permits.limit.set(limit() as f64);
            permits
        });
        permits.in_flight.increment(1.0);
    }

    #[inline]
    pub(super) fn left(&self) {
        if let Some(permits) = self.permits.get() {
            permits.in_flight.decrement(1.0);
        }
    }

    /// Before the first request there is nothing to correct: registering sets the limit of that moment.
    pub(super) fn limit_changed(&self, limit: usize) {
        if let Some(permits) = self.permits.get() {
            permits.limit.set(limit as f64);
        }
    }

    pub(super) fn queued(&self, reporter: &Reporter, begins: bool) {
        let queued = self.queued.get_or_init(|| {
            reporter.gauge(
                QUEUED,
                Unit::Count,
                "Requests that are queued for a permit now.",
            )
        });
        queued.increment(if begins { 1.0 } else { -1.0 });
    }
}

impl Series {
    pub(super) fn lag(&self, reporter: &Reporter, lag: Duration) {
        self.lag
            .get_or_init(|| {
                reporter.gauge(LAG, Unit::Seconds, "How far the runtime is behind now.")
            })
            .set(lag.as_secs_f64());
    }

    pub(super) fn probe_returned(&self, reporter: &Reporter, lag: Duration, host_is_short: bool) {
        self.probes[usize::from(host_is_short)]
            .get_or_init(|| {
                let help = "How far behind each probe found the runtime.";
                describe_histogram!(LAG_PROBE, Unit::Seconds, help);
                let reason = if host_is_short { "host" } else { "service" };
                histogram!(LAG_PROBE, reporter.labels(&[("reason", reason)]))
            })
            .record(lag.as_secs_f64());
    }

    pub(super) fn lag_state(&self, reporter: &Reporter, now: LagState) {
        let states = self.states.get_or_init(|| {
            let help = "1 for the state that a lag shedder is in, 0 for the others.";
            describe_gauge!(LAG_STATE, Unit::Count, help);
            [LagState::Normal, LagState::Warn, LagState::Shedding].map(|state| {
                let gauge = gauge!(LAG_STATE, reporter.labels(&[("state", state.as_str())]));
                (state, gauge)
            })
        });
        for (state, gauge) in states {
            gauge.set(f64::from(u8::from(*state == now)));
        }
    }

    pub(super) fn shed(&self, reporter: &Reporter, share: f64) {
        let help = "The share of requests that a lag shedder sheds now.";
        self.shed
            .get_or_init(|| reporter.gauge(LAG_SHED, Unit::Count, help))
            .set(share);
    }

    pub(super) fn failed_open(&self, reporter: &Reporter) {
        let help = "Requests admitted because the last reading of the lag was too old.";
        self.failures
            .get_or_init(|| reporter.counter(LAG_FAIL_OPEN, help))
            .increment(1);
    }

    pub(super) fn sampler_failed(&self, reporter: &Reporter) {
        let help = "Times that the thread which measures lag, or a hook on it, failed.";
        self.failures
            .get_or_init(|| reporter.counter(SAMPLER_FAILURES, help))
            .increment(1);
    }
}

const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Success, "success"),
    (Outcome::Failure, "failure"),
    (Outcome::Ignored, "ignored"),
    (Outcome::Cancelled, "cancelled"),
    (Outcome::Panicked, "panicked"),
];

impl Series {
    #[inline]
    pub(super) fn circuit_seen(&self, reporter: &Reporter, mode: impl FnOnce() -> Mode) {
        if self.modes.get().is_none() {
            self.show_mode(reporter, mode(), true);
        }
    }

    /// Moves the handle from the state that it was shown in to the one that it is in.
    fn show_mode(&self, reporter: &Reporter, mode: Mode, is_first: bool) {
        let modes = self.modes.get_or_init(|| {
            let help = "How many circuit breakers are in a state.";
            describe_gauge!(CIRCUIT_STATE, Unit::Count, help);
            let gauges = Mode::ALL
                .map(|mode| gauge!(CIRCUIT_STATE, reporter.labels(&[("state", mode.as_str())])));
            // Each of them from zero, so that the first change is an increase.
            let help = "Changes of a circuit breaker's state.";
            describe_counter!(CIRCUIT_TRANSITIONS, Unit::Count, help);
            let entered = Mode::ALL.map(|mode| {
                let labels = reporter.labels(&[("state", mode.as_str())]);
                let counter = counter!(CIRCUIT_TRANSITIONS, labels);
                counter.increment(0);
                counter
            });
            Modes {
                gauges,
                entered,
                shown: Mutex::new(None),
            }
        });
        let mut shown = modes.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if is_first && shown.is_some() {
            return; // a change was faster
        }
        match shown.replace(mode) {
            Some(before) => modes.gauges[before as usize].decrement(1.0),
            // So that all states are there from the beginning.
            None => modes.gauges.iter().for_each(|gauge| gauge.increment(0.0)),
        }
        modes.gauges[mode as usize].increment(1.0);
    }

    pub(super) fn circuit_changed(&self, reporter: &Reporter, change: &Change) {
        self.show_mode(reporter, change.to, false);
        if let Some(modes) = self.modes.get() {
            modes.entered[change.to as usize].increment(1);
        }
    }

    pub(super) fn circuit_reached(reporter: &Reporter, reached: Reached) {
        let help = "Thresholds that a circuit breaker reached.";
        describe_counter!(CIRCUIT_REACHED, Unit::Count, help);
        for (index, cause) in Reached::CAUSES.iter().enumerate() {
            if reached.has(index) {
                let labels = reporter.labels(&[("reason", cause.as_str())]);
                counter!(CIRCUIT_REACHED, labels).increment(1);
            }
        }
    }

    #[inline]
    pub(super) fn circuit_outcome(&self, reporter: &Reporter, outcome: Outcome) {
        let Some(index) = OUTCOMES.iter().position(|(each, _)| *each == outcome) else {
            return;
        };
        self.outcomes[index]
            .get_or_init(|| {
                let help = "Outcomes of the calls that a circuit breaker admitted.";
                describe_counter!(CIRCUIT_OUTCOMES, Unit::Count, help);
                counter!(
                    CIRCUIT_OUTCOMES,
                    reporter.labels(&[("reason", OUTCOMES[index].1)])
                )
            })
            .increment(1);
    }

    /// The handle is in no state any more.
    pub(super) fn circuit_gone(&self) {
        let Some(modes) = self.modes.get() else {
            return;
        };
        let mut shown = modes.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = shown.take() {
            modes.gauges[before as usize].decrement(1.0);
        }
    }
}

impl Reporter {
    fn labels(&self, more: &[(&'static str, &'static str)]) -> Vec<Label> {
        let mut labels = vec![
            Label::from_static_parts("layer", self.layer()),
            Label::new("name", self.name().to_owned()),
        ];
        if let Some(key) = self.key() {
            labels.push(Label::new("key", key.to_owned()));
        }
        let more = more.iter();
        labels.extend(more.map(|(key, value)| Label::from_static_parts(key, value)));
        labels
    }

    fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        describe_counter!(name, Unit::Count, help);
        counter!(name, self.labels(&[]))
    }

    fn gauge(&self, name: &'static str, unit: Unit, help: &'static str) -> Gauge {
        describe_gauge!(name, unit, help);
        gauge!(name, self.labels(&[]))
    }
}
