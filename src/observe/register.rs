//! The registration of series with a recorder.

use std::panic::{self, AssertUnwindSafe};

use metrics::{
    Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::table::{self, Metric, MetricKind, MetricUnit};
use super::{Reporter, Setting};
use crate::unwind;

/// A counter of the recorder.
pub(super) struct Counter(metrics::Counter);

/// A gauge of the recorder.
#[derive(Clone)]
pub(super) struct Gauge(metrics::Gauge);

/// A histogram of the recorder.
pub(super) struct Histogram(metrics::Histogram);

/// Calls the recorder. A panic of it must not reach a request, which may hold a permit.
#[inline(always)]
fn isolated(write: impl FnOnce()) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(write)) {
        unwind::discard(payload);
    }
}

// === impl Counter, Gauge, Histogram ===

impl Counter {
    #[inline]
    pub(super) fn increment(&self, by: u64) {
        isolated(|| self.0.increment(by));
    }
}

impl Gauge {
    #[inline]
    pub(super) fn increment(&self, by: f64) {
        isolated(|| self.0.increment(by));
    }

    #[inline]
    pub(super) fn decrement(&self, by: f64) {
        isolated(|| self.0.decrement(by));
    }

    pub(super) fn set(&self, value: f64) {
        isolated(|| self.0.set(value));
    }
}

impl Histogram {
    #[inline]
    pub(super) fn record(&self, value: f64) {
        isolated(|| self.0.record(value));
    }
}

// === impl Setting ===

impl Setting {
    pub(super) fn gauge(self, reporter: &Reporter) -> Gauge {
        match self {
            Setting::ConcurrencyLimit => reporter.gauge(table::LIMIT, &[]),
            Setting::QueueLimit => reporter.gauge(table::QUEUE_LIMIT, &[]),
            Setting::Timeout => reporter.gauge(table::TIMEOUT, &[]),
            Setting::SlowPoll => reporter.gauge(table::SLOW_POLL_THRESHOLD, &[]),
            Setting::BodyLimit => reporter.gauge(table::BODY_LIMIT, &[]),
            Setting::Threshold(threshold) => {
                reporter.gauge(table::CIRCUIT_THRESHOLD, &[("threshold", threshold)])
            }
        }
    }
}

// === impl Reporter ===

type Labels<'a> = &'a [(&'static str, &'static str)];

impl Reporter {
    fn labels(&self, metric: Metric, more: Labels<'_>) -> Vec<Label> {
        debug_assert!(more.iter().map(|(label, _)| label).eq(metric.labels));
        let mut labels = vec![
            Label::from_static_parts("layer", self.layer()),
            Label::new("name", self.name().to_owned()),
        ];
        if let Some(key) = self.key() {
            labels.push(Label::new("key", key.to_owned()));
        }
        let more = more.iter();
        labels.extend(more.map(|(label, value)| Label::from_static_parts(label, value)));
        labels
    }

    pub(super) fn counter(&self, metric: Metric, labels: Labels<'_>) -> Counter {
        Counter(registered(metrics::Counter::noop, || {
            metric.describe();
            let counter = counter!(metric.name, self.labels(metric, labels));
            counter.increment(0);
            counter
        }))
    }

    pub(super) fn gauge(&self, metric: Metric, labels: Labels<'_>) -> Gauge {
        Gauge(registered(metrics::Gauge::noop, || {
            metric.describe();
            let gauge = gauge!(metric.name, self.labels(metric, labels));
            gauge.increment(0.0);
            gauge
        }))
    }

    pub(super) fn histogram(&self, metric: Metric, labels: Labels<'_>) -> Histogram {
        Histogram(registered(metrics::Histogram::noop, || {
            metric.describe();
            histogram!(metric.name, self.labels(metric, labels))
        }))
    }
}

/// A recorder that panics has no series.
fn registered<T>(noop: fn() -> T, register: impl FnOnce() -> T) -> T {
    unwind::without_panics(register).unwrap_or_else(noop)
}

// === impl Metric ===

impl Metric {
    fn describe(self) {
        let unit = match self.unit {
            MetricUnit::Count | MetricUnit::Ratio => Unit::Count,
            MetricUnit::Seconds => Unit::Seconds,
            MetricUnit::Bytes => Unit::Bytes,
        };
        match self.kind {
            MetricKind::Counter => describe_counter!(self.name, unit, self.help),
            MetricKind::Gauge => describe_gauge!(self.name, unit, self.help),
            MetricKind::Histogram => describe_histogram!(self.name, unit, self.help),
        }
    }
}
