//! The table of all metrics: names, kinds, units, labels and help texts.

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
/// let recorder = PrometheusBuilder::new().set_buckets_for_metric(ours, &BUCKETS)?;
/// # let _ = recorder;
/// # Ok::<_, metrics_exporter_prometheus::BuildError>(())
/// ```
pub const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5.0, 10.0,
];

macro_rules! table {
    ($($id:ident: $kind:ident $name:literal $unit:ident [$($label:literal)*] $help:literal;)+) => {
        $(
            #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
            pub(super) const $id: Metric = Metric {
                name: $name,
                kind: MetricKind::$kind,
                unit: MetricUnit::$unit,
                labels: &[$($label),*],
                help: $help,
            };
        )+

        /// All metrics. Each has the labels `layer` and `name` beside those of the table.
        ///
        /// | metric | kind | labels | counts |
        /// |---|---|---|---|
        $(#[doc = concat!(
            "| `", $name, "` | ", stringify!($kind), " | ", $("`", $label, "` ",)* "| ", $help, " |"
        )])+
        pub const METRICS: &[Metric] = &[$($id),+];
    };
}

table! {
    ADMITTED: Counter "seawall_requests_admitted_total" Count []
        "Requests that a gate admitted; a stack counts each once.";
    EXEMPT: Counter "seawall_requests_exempt_total" Count []
        "Requests that a rule of the layer or stack exempted; they are not counted as admitted.";
    REJECTED: Counter "seawall_requests_rejected_total" Count ["reason"]
        "Requests that a policy rejected, or the request limit for their body.";
    WOULD_REJECT: Counter "seawall_requests_would_reject_total" Count ["reason"]
        "Requests that a layer in dry run would have rejected.";
    IN_FLIGHT: Gauge "seawall_requests_in_flight" Count []
        "Requests that hold a permit now.";
    QUEUED: Gauge "seawall_requests_queued" Count []
        "Requests that are queued for a permit now.";
    QUEUE_TIME: Histogram "seawall_queue_seconds" Seconds []
        "How long requests were queued, whether or not they got a permit.";
    LIMIT: Gauge "seawall_concurrency_limit" Count []
        "How many requests may hold a permit.";
    QUEUE_LIMIT: Gauge "seawall_queue_limit" Count []
        "How many requests may be queued.";
    TIMEOUT: Gauge "seawall_timeout_seconds" Seconds []
        "The time that a request has by default.";
    TIMEOUTS: Counter "seawall_timeouts_total" Count []
        "Requests whose deadline passed.";
    MALFORMED: Counter "seawall_malformed_timeouts_total" Count []
        "Requests whose grpc-timeout could not be read and was ignored.";
    BODY_LIMIT: Gauge "seawall_request_body_limit_bytes" Bytes []
        "The largest request body that passes by default.";
    PANICS: Counter "seawall_panics_total" Count []
        "Handlers and bodies that panicked.";
    DRAINING: Gauge "seawall_draining" Count []
        "1 from the beginning of a drain on.";
    SLOW_POLLS: Histogram "seawall_slow_poll_seconds" Seconds []
        "How long polls of the inner future took that are slow.";
    SLOW_POLL_THRESHOLD: Gauge "seawall_slow_poll_threshold_seconds" Seconds []
        "How long a poll takes at the least that is slow.";
    CIRCUIT_STATE: Gauge "seawall_circuit_state" Count ["state"]
        "How many circuit breakers are in the state.";
    CIRCUIT_TRANSITIONS: Counter "seawall_circuit_transitions_total" Count ["state"]
        "Changes of a circuit breaker's state, by the state after it.";
    CIRCUIT_REACHED: Counter "seawall_circuit_thresholds_reached_total" Count ["threshold"]
        "Thresholds that a circuit breaker reached while it was closed, or only observed.";
    CIRCUIT_THRESHOLD: Gauge "seawall_circuit_threshold" Ratio ["threshold"]
        "The thresholds of a circuit breaker: two rates, and a number of failures. 0 if not set.";
    CIRCUIT_OUTCOMES: Counter "seawall_circuit_outcomes_total" Count ["outcome"]
        "Outcomes of the calls of a circuit breaker.";
    CIRCUIT_CALLS: Histogram "seawall_circuit_call_seconds" Seconds []
        "How long calls took, of a circuit breaker with a threshold for slow calls.";
    LAG: Gauge "seawall_lag_seconds" Seconds []
        "How far the runtime is behind now.";
    LAG_PROBE: Histogram "seawall_lag_probe_seconds" Seconds ["contention"]
        "The lag that each probe found; contention is host while the host is short of CPU.";
    LAG_STATE: Gauge "seawall_lag_state" Count ["state"]
        "1 for the state that a lag shedder is in, 0 for the others; shedding while it is forced.";
    LAG_SHED: Gauge "seawall_lag_shed_ratio" Ratio []
        "The share of requests that a lag shedder sheds now.";
    LAG_FAIL_OPEN: Counter "seawall_lag_fail_open_total" Count []
        "Requests that a lag shedder admitted because the last reading was too old.";
    SAMPLER_FAILURES: Counter "seawall_lag_sampler_failures_total" Count []
        "Times that the thread which measures lag, or a hook on it, failed.";
}
