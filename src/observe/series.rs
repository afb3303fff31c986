//! The series of one handle behind the `metrics` facade.

use std::sync::OnceLock;

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

use super::{Meter, Reason};

const ADMITTED: &str = "seawall_requests_admitted_total";
const REJECTED: &str = "seawall_requests_rejected_total";
const WOULD_REJECT: &str = "seawall_requests_would_reject_total";
const IN_FLIGHT: &str = "seawall_in_flight";
const WAITING: &str = "seawall_waiting";
const LIMIT: &str = "seawall_limit";
const TIMEOUTS: &str = "seawall_timeouts_total";
const PANICS: &str = "seawall_panics_total";

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
                in_flight: meter.gauge(IN_FLIGHT, "Requests that hold a place now."),
                limit: meter.gauge(LIMIT, "Places there are."),
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
        let waiting = self
            .waiting
            .get_or_init(|| meter.gauge(WAITING, "Requests that wait for a place now."));
        waiting.increment(if begins { 1.0 } else { -1.0 });
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

    fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        describe_gauge!(name, Unit::Count, help);
        gauge!(name, "layer" => self.layer(), "name" => self.label())
    }
}
