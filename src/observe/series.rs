//! The series of one handle behind the `metrics` facade.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Label, Unit, counter, describe_counter, describe_gauge,
    describe_histogram, gauge, histogram,
};

use super::{Change, Exceeded, LagState, Meter, Mode, Outcome, Reason};

const ADMITTED: &str = "seawall_requests_admitted_total";
const REJECTED: &str = "seawall_requests_rejected_total";
const WOULD_REJECT: &str = "seawall_requests_would_reject_total";
const IN_FLIGHT: &str = "seawall_in_flight";
const WAITING: &str = "seawall_waiting";
const LIMIT: &str = "seawall_limit";
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
    rejected: [OnceLock<Counter>; Reason::COUNT],
    would_reject: [OnceLock<Counter>; Reason::COUNT],
    places: OnceLock<Places>,
    waiting: OnceLock<Gauge>,
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

struct Places {
    in_flight: Gauge,
    limit: Gauge,
}

impl Series {
    #[inline]
    pub(super) fn admitted(&self, meter: &Meter) {
        self.admitted
            .get_or_init(|| {
                meter.counter(ADMITTED, "Requests that a policy let through and tracks.")
            })
            .increment(1);
    }

    pub(super) fn rejected(&self, meter: &Meter, reason: Reason, dry_run: bool) {
        let (all, name, help) = if dry_run {
            let help = "Requests that a layer in dry run would have turned away.";
            (&self.would_reject, WOULD_REJECT, help)
        } else {
            let help = "Requests turned away at the door, or for their body.";
            (&self.rejected, REJECTED, help)
        };
        all[reason.index()]
            .get_or_init(|| {
                describe_counter!(name, Unit::Count, help);
                counter!(name, meter.labels(&[("reason", reason.as_str())]))
            })
            .increment(1);
    }

    pub(super) fn timed_out(&self, meter: &Meter) {
        self.timeouts
            .get_or_init(|| meter.counter(TIMEOUTS, "Requests whose deadline passed."))
            .increment(1);
    }

    pub(super) fn malformed_timeout(&self, meter: &Meter) {
        let help = "Requests whose grpc-timeout could not be read, and was ignored.";
        self.malformed
            .get_or_init(|| meter.counter(MALFORMED, help))
            .increment(1);
    }

    pub(super) fn panicked(&self, meter: &Meter) {
        self.panics
            .get_or_init(|| meter.counter(PANICS, "Handlers and bodies that panicked."))
            .increment(1);
    }

    #[inline]
    pub(super) fn entered(&self, meter: &Meter, limit: impl FnOnce() -> usize) {
        let places = self.places.get_or_init(|| {
            let places = Places {
                in_flight: meter.gauge(IN_FLIGHT, Unit::Count, "Requests that hold a place now."),
                limit: meter.gauge(LIMIT, Unit::Count, "Places there are."),
            };
            places.limit.set(limit() as f64);
            places
        });
        places.in_flight.increment(1.0);
    }

    #[inline]
    pub(super) fn left(&self) {
        if let Some(places) = self.places.get() {
            places.in_flight.decrement(1.0);
        }
    }

    /// Before the first request there is nothing to correct: registering sets the limit of that moment.
    pub(super) fn limit_changed(&self, limit: usize) {
        if let Some(places) = self.places.get() {
            places.limit.set(limit as f64);
        }
    }

    pub(super) fn waiting(&self, meter: &Meter, begins: bool) {
        let waiting = self.waiting.get_or_init(|| {
            meter.gauge(WAITING, Unit::Count, "Requests that wait for a place now.")
        });
        waiting.increment(if begins { 1.0 } else { -1.0 });
    }
}

impl Series {
    pub(super) fn lag(&self, meter: &Meter, lag: Duration) {
        self.lag
            .get_or_init(|| meter.gauge(LAG, Unit::Seconds, "How far the runtime is behind now."))
            .set(lag.as_secs_f64());
    }

    pub(super) fn probe_back(&self, meter: &Meter, lag: Duration, host_is_short: bool) {
        self.probes[usize::from(host_is_short)]
            .get_or_init(|| {
                let help = "How far behind each probe found the runtime.";
                describe_histogram!(LAG_PROBE, Unit::Seconds, help);
                let reason = if host_is_short { "host" } else { "service" };
                histogram!(LAG_PROBE, meter.labels(&[("reason", reason)]))
            })
            .record(lag.as_secs_f64());
    }

    pub(super) fn lag_state(&self, meter: &Meter, now: LagState) {
        let states = self.states.get_or_init(|| {
            let help = "1 for the state that a lag shedder is in, 0 for the others.";
            describe_gauge!(LAG_STATE, Unit::Count, help);
            [LagState::Normal, LagState::Warn, LagState::Shedding].map(|state| {
                let gauge = gauge!(LAG_STATE, meter.labels(&[("state", state.as_str())]));
                (state, gauge)
            })
        });
        for (state, gauge) in states {
            gauge.set(f64::from(u8::from(*state == now)));
        }
    }

    pub(super) fn shed(&self, meter: &Meter, share: f64) {
        let help = "The share of requests that a lag shedder refuses now.";
        self.shed
            .get_or_init(|| meter.gauge(LAG_SHED, Unit::Count, help))
            .set(share);
    }

    pub(super) fn failed_open(&self, meter: &Meter) {
        let help = "Requests admitted because the last reading of the lag was too old.";
        self.failures
            .get_or_init(|| meter.counter(LAG_FAIL_OPEN, help))
            .increment(1);
    }

    pub(super) fn sampler_failed(&self, meter: &Meter) {
        let help = "Times that the thread which measures lag, or a hook on it, failed.";
        self.failures
            .get_or_init(|| meter.counter(SAMPLER_FAILURES, help))
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
    pub(super) fn circuit_seen(&self, meter: &Meter, mode: impl FnOnce() -> Mode) {
        if self.modes.get().is_none() {
            self.show_mode(meter, mode(), true);
        }
    }

    /// Moves the handle from the state that it was shown in to the one that it is in.
    fn show_mode(&self, meter: &Meter, mode: Mode, is_first: bool) {
        let modes = self.modes.get_or_init(|| {
            let help = "How many circuit breakers are in a state.";
            describe_gauge!(CIRCUIT_STATE, Unit::Count, help);
            let gauges = Mode::ALL
                .map(|mode| gauge!(CIRCUIT_STATE, meter.labels(&[("state", mode.as_str())])));
            // Each of them from zero, so that the first change is an increase.
            let help = "Changes of a circuit breaker's state.";
            describe_counter!(CIRCUIT_TRANSITIONS, Unit::Count, help);
            let entered = Mode::ALL.map(|mode| {
                let labels = meter.labels(&[("state", mode.as_str())]);
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

    pub(super) fn circuit_changed(&self, meter: &Meter, change: &Change) {
        self.show_mode(meter, change.to, false);
        if let Some(modes) = self.modes.get() {
            modes.entered[change.to as usize].increment(1);
        }
    }

    pub(super) fn circuit_reached(meter: &Meter, reached: Exceeded) {
        let help = "Thresholds that a circuit breaker reached.";
        describe_counter!(CIRCUIT_REACHED, Unit::Count, help);
        for (index, cause) in Exceeded::CAUSES.iter().enumerate() {
            if reached.has(index) {
                let labels = meter.labels(&[("reason", cause.as_str())]);
                counter!(CIRCUIT_REACHED, labels).increment(1);
            }
        }
    }

    #[inline]
    pub(super) fn circuit_outcome(&self, meter: &Meter, outcome: Outcome) {
        let Some(index) = OUTCOMES.iter().position(|(each, _)| *each == outcome) else {
            return;
        };
        self.outcomes[index]
            .get_or_init(|| {
                let help = "What became of the calls that a circuit breaker admitted.";
                describe_counter!(CIRCUIT_OUTCOMES, Unit::Count, help);
                counter!(
                    CIRCUIT_OUTCOMES,
                    meter.labels(&[("reason", OUTCOMES[index].1)])
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

impl Meter {
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
