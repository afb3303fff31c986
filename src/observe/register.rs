//! The registration of series with a recorder, and the calls of it.

use std::panic::{self, AssertUnwindSafe};

use metrics::{
    Counter, Gauge, Histogram, Label, Unit, counter, describe_counter, describe_gauge,
    describe_histogram, gauge, histogram,
};

use super::table::{METRICS, Metric, MetricKind, MetricUnit, ROWS, SeriesId};
use super::{Reporter, Write};
use crate::unwind;

/// A series of the recorder.
pub(super) enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

// === impl Series ===

impl Series {
    pub(super) fn new(reporter: &Reporter, id: SeriesId) -> Self {
        let values = ROWS[id.metric].values.first();
        let value = values.and_then(|value| value(id.label));
        Self::with_label(reporter, id, value)
    }

    /// The series of a metric, one for each value of its label, in order.
    pub(super) fn all(reporter: &Reporter, metric: usize) -> impl Iterator<Item = Self> + '_ {
        let labels = match ROWS[metric].values {
            [] => 1,
            [value, ..] => (0..).map_while(value).count(),
        };
        (0..labels).map(move |label| Self::new(reporter, SeriesId { metric, label }))
    }

    /// A series with a value that need not be in the table.
    pub(super) fn with_label(
        reporter: &Reporter,
        id: SeriesId,
        value: Option<&'static str>,
    ) -> Self {
        let metric = METRICS[id.metric];
        let register = || {
            let labels = labels(reporter, metric, value);
            let unit = match metric.unit {
                MetricUnit::Count | MetricUnit::Ratio => Unit::Count,
                MetricUnit::Seconds => Unit::Seconds,
                MetricUnit::Bytes => Unit::Bytes,
            };
            match metric.kind {
                MetricKind::Counter => {
                    describe_counter!(metric.name, unit, metric.help);
                    let counter = counter!(metric.name, labels);
                    counter.increment(0);
                    Series::Counter(counter)
                }
                MetricKind::Gauge => {
                    describe_gauge!(metric.name, unit, metric.help);
                    let gauge = gauge!(metric.name, labels);
                    gauge.increment(0.0);
                    Series::Gauge(gauge)
                }
                MetricKind::Histogram => {
                    describe_histogram!(metric.name, unit, metric.help);
                    Series::Histogram(histogram!(metric.name, labels))
                }
            }
        };
        // A recorder that panics has no series.
        unwind::without_panics(register).unwrap_or_else(|| Series::Counter(Counter::noop()))
    }

    /// Changes the series. A change that is not of its kind does nothing.
    #[inline(always)]
    pub(super) fn write(&self, write: Write) {
        match (self, write) {
            (Series::Counter(counter), Write::Count) => isolated(|| counter.increment(1)),
            (Series::Gauge(gauge), Write::Add(by)) => isolated(|| gauge.increment(by)),
            (Series::Gauge(gauge), Write::Subtract(by)) => isolated(|| gauge.decrement(by)),
            (Series::Gauge(gauge), Write::Set(value)) => isolated(|| gauge.set(value)),
            (Series::Histogram(times), Write::Record(time)) => isolated(|| times.record(time)),
            _ => {}
        }
    }
}

/// Calls the recorder. A panic of it must not reach a request, which may hold a permit.
#[inline(always)]
fn isolated(write: impl FnOnce()) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(write)) {
        unwind::discard(payload);
    }
}

fn labels(reporter: &Reporter, metric: Metric, value: Option<&'static str>) -> Vec<Label> {
    let mut labels = vec![
        Label::from_static_parts("layer", reporter.layer()),
        Label::new("name", reporter.name().to_owned()),
    ];
    if let Some(key) = reporter.key() {
        labels.push(Label::new("key", key.to_owned()));
    }
    let more = metric.labels.iter().zip(value);
    labels.extend(more.map(|(label, value)| Label::from_static_parts(label, value)));
    labels
}
