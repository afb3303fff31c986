//! The series of each kind of layer.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::super::register::{Counter, Gauge, Histogram};
use super::super::{LagState, Mode, Outcome, Reached, Reason, Reporter, table};

pub(super) enum Kind {
    Limit(Permits),
    Timeout(Timeouts),
    Panics(Counter),
    Circuit(Box<Circuit>),
    Monitor(Monitor),
    Shed(Shed),
    Drain(Gauge),
    SlowPolls(Histogram),
    Other,
}

pub(super) struct Permits {
    pub(super) in_flight: Gauge,
    pub(super) queued: Gauge,
    pub(super) queue_time: Histogram,
}

pub(super) struct Timeouts {
    pub(super) timeouts: Counter,
    pub(super) malformed: Counter,
}

pub(super) struct Circuit {
    /// A breaker moves from one gauge to another. Breakers that share the gauges add up.
    pub(super) states: [Gauge; Mode::ALL.len()],
    pub(super) transitions: [Counter; Mode::ALL.len()],
    pub(super) shown: Mutex<Option<Mode>>,
    /// A state is shown.
    pub(super) is_shown: AtomicBool,
    pub(super) reached: [Counter; Reached::CAUSES.len()],
    pub(super) outcomes: [Counter; OUTCOMES.len()],
    pub(super) calls: Histogram,
}

pub(super) struct Monitor {
    pub(super) lag: Gauge,
    /// Indexed by whether the host is short of CPU.
    pub(super) probes: [Histogram; 2],
    pub(super) failures: Counter,
}

pub(super) struct Shed {
    pub(super) states: [(LagState, Gauge); 3],
    pub(super) ratio: Gauge,
    pub(super) fail_open: Counter,
}

pub(super) const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Success, "success"),
    (Outcome::Failure, "failure"),
    (Outcome::Ignored, "ignored"),
    (Outcome::Cancelled, "cancelled"),
    (Outcome::Panicked, "panicked"),
];

/// The reasons for which a layer rejects.
pub(super) fn reasons(layer: &str) -> &'static [Reason] {
    match layer {
        "concurrency_limit" => &[Reason::ConcurrencyLimit, Reason::QueueTimeout],
        "lag_shed" => &[Reason::Overloaded],
        "circuit_breaker" => &[Reason::CircuitOpen],
        "request_limit" => &[
            Reason::BodyTooLarge,
            Reason::HeadersTooLarge,
            Reason::UriTooLong,
            Reason::BodyTooSlow,
        ],
        "drain" => &[Reason::Draining],
        _ => &[],
    }
}

// === impl Kind ===

impl Kind {
    pub(super) fn new(reporter: &Reporter) -> Self {
        match reporter.layer() {
            "concurrency_limit" => Kind::Limit(Permits {
                in_flight: reporter.gauge(table::IN_FLIGHT, &[]),
                queued: reporter.gauge(table::QUEUED, &[]),
                queue_time: reporter.histogram(table::QUEUE_TIME, &[]),
            }),
            "timeout" => Kind::Timeout(Timeouts {
                timeouts: reporter.counter(table::TIMEOUTS, &[]),
                malformed: reporter.counter(table::MALFORMED, &[]),
            }),
            "catch_panic" => Kind::Panics(reporter.counter(table::PANICS, &[])),
            "circuit_breaker" => Kind::Circuit(Box::new(Circuit {
                states: Mode::ALL
                    .map(|mode| reporter.gauge(table::CIRCUIT_STATE, &[("state", mode.as_str())])),
                transitions: Mode::ALL.map(|mode| {
                    reporter.counter(table::CIRCUIT_TRANSITIONS, &[("state", mode.as_str())])
                }),
                shown: Mutex::new(None),
                is_shown: AtomicBool::new(false),
                reached: Reached::CAUSES.map(|cause| {
                    reporter.counter(table::CIRCUIT_REACHED, &[("threshold", cause.as_str())])
                }),
                outcomes: OUTCOMES.map(|(_, outcome)| {
                    reporter.counter(table::CIRCUIT_OUTCOMES, &[("outcome", outcome)])
                }),
                calls: reporter.histogram(table::CIRCUIT_CALLS, &[]),
            })),
            "lag_monitor" => Kind::Monitor(Monitor {
                lag: reporter.gauge(table::LAG, &[]),
                probes: ["none", "host"].map(|contention| {
                    reporter.histogram(table::LAG_PROBE, &[("contention", contention)])
                }),
                failures: reporter.counter(table::SAMPLER_FAILURES, &[]),
            }),
            "lag_shed" => Kind::Shed(Shed {
                states: [LagState::Normal, LagState::Warn, LagState::Shedding].map(|state| {
                    let label = [("state", state.as_str())];
                    (state, reporter.gauge(table::LAG_STATE, &label))
                }),
                ratio: reporter.gauge(table::LAG_SHED, &[]),
                fail_open: reporter.counter(table::LAG_FAIL_OPEN, &[]),
            }),
            "drain" => Kind::Drain(reporter.gauge(table::DRAINING, &[])),
            "slow_poll" => Kind::SlowPolls(reporter.histogram(table::SLOW_POLLS, &[])),
            _ => Kind::Other,
        }
    }
}
