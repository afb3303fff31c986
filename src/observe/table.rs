//! The table of all metrics: names, kinds, units, labels and help texts, and the layers
//! that register them.

#[cfg(feature = "metrics")]
use super::{LagState, Mode, Outcome};
#[cfg(feature = "metrics")]
use crate::control::circuit_breaker::{rules::Reached, transition::CircuitState};

/// A metric of this crate; [`METRICS`] lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name, in the style of Prometheus.
    pub name: &'static str,
    /// Whether it is a counter, a gauge or a histogram.
    pub kind: MetricKind,
    /// The unit.
    pub unit: MetricUnit,
    /// The labels besides `layer`, `name` and, if a keyed family opts in, `key`.
    pub labels: &'static [&'static str],
    /// The meaning, as in the `HELP` line of a scrape.
    pub help: &'static str,
}

/// The kind of a [`Metric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Values in buckets.
    Histogram,
}

/// The unit of a [`Metric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricUnit {
    /// A number of things.
    Count,
    /// A share or a threshold, from 0 to 1; or a number without a unit.
    Ratio,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// The recommended upper bounds of the buckets of this crate's histograms, in seconds.
///
/// ```
/// use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
/// use seawall::observe::BUCKETS;
///
/// let ours = Matcher::Prefix("seawall_".to_owned());
/// let recorder = PrometheusBuilder::new().set_buckets_for_metric(ours, BUCKETS)?;
/// # let _ = recorder;
/// # Ok::<_, metrics_exporter_prometheus::BuildError>(())
/// ```
pub const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5.0, 10.0,
];

/// A series of a handle: a metric, and a value of its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeriesId {
    /// The position in [`METRICS`].
    pub(super) metric: usize,
    /// The position in the values of the label; 0 for a metric without one.
    pub(super) label: usize,
}

/// The registration of a metric.
#[cfg(feature = "metrics")]
pub(super) struct Row {
    /// The layer whose handles register the metric at their first request. No layer has the name
    /// `every gate` or `every layer`: `series.rs` registers these metrics itself.
    pub(super) layer: &'static str,
    /// The values of its label, if it has one, by their positions.
    pub(super) values: &'static [LabelValue],
}

#[cfg(feature = "metrics")]
pub(super) type LabelValue = fn(usize) -> Option<&'static str>;

impl SeriesId {
    /// The series of the label's value at this position.
    pub(crate) const fn at(self, label: usize) -> Self {
        Self { label, ..self }
    }
}

/// Makes the table of docs, [`METRICS`], a [`SeriesId`] for each metric, and [`ROWS`].
macro_rules! table {
    ($(
        $id:ident: $kind:ident $name:literal $unit:ident $layer:literal
            [$($label:literal: $value:expr)?] $help:literal;
    )+) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "names of constants")]
        #[allow(dead_code, reason = "a feature uses it")]
        enum Position {
            $($id),+
        }

        $(
            #[allow(dead_code, reason = "a feature uses it")]
            pub(crate) const $id: SeriesId = SeriesId {
                metric: Position::$id as usize,
                label: 0,
            };
        )+

        /// All metrics. Each has the labels `layer` and `name` beside those of the table.
        ///
        /// | metric | kind | layer | labels | meaning |
        /// |---|---|---|---|---|
        $(#[doc = concat!(
            "| `", $name, "` | ", stringify!($kind), " | ", $layer, " | ", $("`", $label, "` ",)?
            "| ", $help, " |"
        )])+
        pub const METRICS: &[Metric] = &[$(
            Metric {
                name: $name,
                kind: MetricKind::$kind,
                unit: MetricUnit::$unit,
                labels: &[$($label)?],
                help: $help,
            }
        ),+];

        /// The registration of each of [`METRICS`].
        #[cfg(feature = "metrics")]
        pub(super) const ROWS: &[Row] = &[$(
            Row {
                layer: $layer,
                values: &[$($value)?],
            }
        ),+];
    };
}

// The metrics of a layer that change most often come first: a handle searches in this order.
table! {
    ADMITTED: Counter "seawall_requests_admitted_total" Count "every gate" []
        "Requests that a gate admitted, and permits; a stack counts each of its requests once.";
    EXEMPT: Counter "seawall_requests_exempt_total" Count "every gate" []
        "Requests that a rule of the layer or stack exempted; they are not counted as admitted.";
    REJECTED: Counter "seawall_requests_rejected_total" Count "every layer" ["reason": |_| None]
        "Requests and permits that were rejected, but not timeouts and panics.";
    WOULD_REJECT: Counter "seawall_requests_would_reject_total" Count "every layer"
        ["reason": |_| None]
        "Requests that a layer in dry run would have rejected.";
    IN_FLIGHT: Gauge "seawall_requests_in_flight" Count "concurrency_limit" []
        "Requests, and other work, that hold a permit now.";
    QUEUED: Gauge "seawall_requests_queued" Count "concurrency_limit" []
        "Requests that are queued for a permit now.";
    QUEUE_TIME: Histogram "seawall_queue_seconds" Seconds "concurrency_limit" []
        "How long requests were queued, whether or not they got a permit.";
    TIMEOUTS: Counter "seawall_timeouts_total" Count "timeout"
        ["cause": |at| ["service", "caller"].get(at).copied()]
        "Requests whose deadline passed, and response bodies that were idle or not read.";
    MALFORMED: Counter "seawall_malformed_timeouts_total" Count "timeout" []
        "Requests whose grpc-timeout could not be read and was ignored.";
    PANICS: Counter "seawall_panics_total" Count "catch_panic" []
        "Panics that were caught: of handlers, response bodies, policies and closures.";
    DRAINING: Gauge "seawall_draining" Count "drain" []
        "1 once a drain has begun, 0 before.";
    SLOW_POLLS: Histogram "seawall_slow_poll_seconds" Seconds "slow_poll" []
        "Durations of the slow polls of the inner future.";
    CIRCUIT_OUTCOMES: Counter "seawall_circuit_outcomes_total" Count "circuit_breaker"
        ["outcome": |at| Some(Outcome::ALL.get(at)?.as_str())]
        "Outcomes of the calls of a circuit breaker.";
    CIRCUIT_CALLS: Histogram "seawall_circuit_call_seconds" Seconds "circuit_breaker" []
        "Durations of the calls of a circuit breaker that has a threshold for slow calls.";
    CIRCUIT_STATE: Gauge "seawall_circuit_state" Count "circuit_breaker" ["state": mode]
        "How many circuit breakers are in the state.";
    CIRCUIT_TRANSITIONS: Counter "seawall_circuit_transitions_total" Count "circuit_breaker"
        ["state": mode]
        "Changes of a circuit breaker's state, by the state after it.";
    CIRCUIT_REACHED: Counter "seawall_circuit_thresholds_reached_total" Count "circuit_breaker"
        ["threshold": threshold]
        "Thresholds that a circuit breaker reached in the state closed or observe_only.";
    LAG: Gauge "seawall_lag_seconds" Seconds "lag_monitor" []
        "How far the runtime is behind now.";
    LAG_PROBE: Histogram "seawall_lag_probe_seconds" Seconds "lag_monitor"
        ["contention": |at| ["none", "host"].get(at).copied()]
        "The lag that each probe found; contention is host while the host is short of CPU.";
    SAMPLER_FAILURES: Counter "seawall_lag_sampler_failures_total" Count "lag_monitor" []
        "Failures of the thread that measures lag, and panics of hooks and load signals.";
    LAG_STATE: Gauge "seawall_lag_state" Count "lag_shed"
        ["state": |at| Some(LagState::ALL.get(at)?.as_str())]
        "How many lag shedders are in the state; shedding while they are forced.";
    LAG_SHED: Gauge "seawall_lag_shed_ratio" Ratio "lag_shed" []
        "The share of requests that a lag shedder sheds now.";
    LAG_FAIL_OPEN: Counter "seawall_lag_fail_open_total" Count "lag_shed" []
        "Requests that a lag shedder admitted because the last reading was too old.";
    // The settings.
    LIMIT: Gauge "seawall_concurrency_limit" Count "concurrency_limit" []
        "How many requests may hold a permit.";
    QUEUE_LIMIT: Gauge "seawall_queue_limit" Count "concurrency_limit" []
        "How many requests may be queued.";
    TIMEOUT: Gauge "seawall_timeout_seconds" Seconds "timeout" []
        "The time that a request has by default.";
    BODY_LIMIT: Gauge "seawall_request_body_limit_bytes" Bytes "request_limit" []
        "The largest request body that passes by default.";
    SLOW_POLL_THRESHOLD: Gauge "seawall_slow_poll_threshold_seconds" Seconds "slow_poll" []
        "A poll that takes at least this long is slow.";
    CIRCUIT_THRESHOLD: Gauge "seawall_circuit_threshold" Ratio "circuit_breaker"
        ["threshold": threshold]
        "The thresholds of a circuit breaker: two rates, and a number of failures. 0 if not set.";
}

/// The first of the settings, which are the last metrics. A handle registers a setting when it has
/// a value.
#[cfg(feature = "metrics")]
pub(super) const FIRST_SETTING: usize = LIMIT.metric;

#[cfg(feature = "metrics")]
fn mode(at: usize) -> Option<&'static str> {
    Some(CircuitState::new(*Mode::ALL.get(at)?, 0).as_str())
}

#[cfg(feature = "metrics")]
fn threshold(at: usize) -> Option<&'static str> {
    Some(Reached::CAUSES.get(at)?.as_str())
}
