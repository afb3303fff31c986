//! The series of one handle behind the `metrics` facade.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use super::{LagState, Meter, Reason};

const ADMITTED: &str = "seawall_requests_admitted_total";
const REJECTED: &str = "seawall_requests_rejected_total";
const WOULD_REJECT: &str = "seawall_requests_would_reject_total";
const IN_FLIGHT: &str = "seawall_in_flight";
const WAITING: &str = "seawall_waiting";
const LIMIT: &str = "seawall_limit";
const TIMEOUTS: &str = "seawall_timeouts_total";
const PANICS: &str = "seawall_panics_total";
const LAG: &str = "seawall_lag_seconds";
const LAG_PROBE: &str = "seawall_lag_probe_seconds";
const LAG_STATE: &str = "seawall_lag_state";
const LAG_SHED: &str = "seawall_lag_shed_ratio";
const LAG_FAIL_OPEN: &str = "seawall_lag_fail_open_total";
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
    panics: OnceLock<Counter>,
    lag: OnceLock<Gauge>,
    /// By whether the host is short of CPU.
    probes: [OnceLock<Histogram>; 2],
    states: OnceLock<[(LagState, Gauge); 3]>,
    shed: OnceLock<Gauge>,
    failures: OnceLock<Counter>,
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
                counter!(name, "layer" => meter.layer(), "name" => meter.label(), "reason" => reason.as_str())
            })
            .increment(1);
    }

    pub(super) fn timed_out(&self, meter: &Meter) {
        self.timeouts
            .get_or_init(|| meter.counter(TIMEOUTS, "Requests whose deadline passed."))
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
                histogram!(LAG_PROBE, "layer" => meter.layer(), "name" => meter.label(), "reason" => reason)
            })
            .record(lag.as_secs_f64());
    }

    pub(super) fn lag_state(&self, meter: &Meter, now: LagState) {
        let states = self.states.get_or_init(|| {
            let help = "1 for the state that a lag shedder is in, 0 for the others.";
            describe_gauge!(LAG_STATE, Unit::Count, help);
            [LagState::Normal, LagState::Warn, LagState::Shedding].map(|state| {
                let gauge = gauge!(LAG_STATE, "layer" => meter.layer(), "name" => meter.label(), "state" => state.as_str());
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

impl Meter {
    fn label(&self) -> String {
        self.name().to_owned()
    }

    fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        describe_counter!(name, Unit::Count, help);
        counter!(name, "layer" => self.layer(), "name" => self.label())
    }

    fn gauge(&self, name: &'static str, unit: Unit, help: &'static str) -> Gauge {
        describe_gauge!(name, unit, help);
        gauge!(name, "layer" => self.layer(), "name" => self.label())
    }
}
