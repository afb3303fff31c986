//! Metrics and events: names, labels and meaning.
//!
//! # Metrics
//!
//! With the feature `metrics`, every layer writes through the [`metrics`](https://docs.rs/metrics)
//! facade, in the style of Prometheus: base units, `_total` for counters. [`METRICS`] is the table
//! of all metrics, and [`BUCKETS`] has the recommended buckets of their histograms.
//!
//! The labels are:
//! - `layer`: the kind of layer: `circuit_breaker`, `concurrency_limit`, `lag_shed`, `lag_monitor`,
//!   `timeout`, `request_limit`, `catch_panic`, `drain`, `slow_poll`, `stack`, `gate`, `custom`.
//! - `name`: the name of the handle, empty by default.
//! - `reason`: [`Reason::as_str`].
//! - `threshold`: [`TransitionCause::as_str`](crate::circuit_breaker::TransitionCause::as_str) of a
//!   threshold.
//! - `outcome`: [`Outcome::as_str`](crate::Outcome::as_str).
//! - `state`: [`LagState::as_str`] or [`CircuitState::as_str`](crate::CircuitState::as_str).
//! - `cause`: who caused a timeout, `service` or `caller`.
//! - `contention`: `host` while the host is short of CPU, else `none`.
//! - `key`: the key of a breaker of a keyed family, if you opt in.
//!
//! A handle of this crate registers its series at its first request, whether or not the request is
//! rejected: counters and gauges with 0, settings with their value. An `increase` therefore sees
//! the first rejection. A policy of your own registers its series with
//! [`Reporter::register_reasons`]; otherwise they are registered at the first rejection. A recorder
//! that you install after the first request misses the series that exist by then: install it first.
//! An exporter must not remove idle series (`idle_timeout` of `metrics-exporter-prometheus`), since
//! handles register them once.
//!
//! A gate counts a request once, when it decides: as exempt, as admitted, or as rejected. There are
//! three exceptions. A request that the request limit rejects may also count as exempt. A request
//! that leaves a queue because an outer timeout passed counts as a timeout only; one that its
//! caller drops there does not count. A panic before the inner service is called counts as a panic
//! only.
//!
//! Later, an exempt or admitted request may count again: as a timeout, as a panic, or as rejected
//! if its body is too large or too slow.
//!
//! A circuit breaker changes its state when it is called, so that the gauge of a breaker without
//! calls shows an old state. To alert on every outage, use the counter:
//! `increase(seawall_circuit_transitions_total{state="open"}[5m]) > 0`.
//!
//! Handles of one kind share their series unless their names differ. The gauges of requests in
//! flight, of queued requests and of the states of breakers and lag shedders then add up. Any other
//! gauge shows the last value that was set. Give each handle a name. The thread that measures lag
//! writes to the global recorder, and not to a recorder that is local to another thread.
//!
//! # Events
//!
//! With the feature `tracing`, each rejection and each panic is an event with the target `seawall`
//! and the fields `layer`, `name` and `reason`. The fields `method` and `path` are present at a
//! rejection before the call. With [`keep_requests`](crate::GateLayer::keep_requests) or
//! [`on_panic`](crate::GateLayer::on_panic) in the same gate, they are also present at a
//! timeout, also that of a response body, and at a panic, except one of `respond_with`. Paths and
//! panic messages are escaped.
//! - A panic is an `ERROR`, with its message as `panic`.
//! - A timeout is a `WARN`, unless the caller caused it: the caller's deadline was shorter
//!   (`grpc-timeout`), the service waited for the request body, or the caller did not read the
//!   response, or read it too slowly.
//! - Any other rejection, and a timeout that the caller caused, is a `DEBUG`, with `retry_after_ms`
//!   and `dry_run`.
//! - A `grpc-timeout` that is not readable is a `DEBUG`.
//!
//! Clients can cause these events. The process writes at most five of each reason in a second;
//! timeouts that the caller caused have a limit of their own, and all custom reasons share one
//! limit. A second later, the event "events left out", a `WARN`, has the number of the others as
//! `left_out`. The metrics count all of them.
//!
//! Other events are:
//! - A lag shedder starts to shed: `WARN`; it stops: `INFO`; any other change of its `state`:
//!   `DEBUG`, each with `lag_ms`. The thread that measures lag ends: `ERROR`. It cannot start, or a
//!   hook or a load signal panics on it: `ERROR`, limited like a rejection.
//! - A circuit breaker opens: `WARN`; any other change of its `state`: `INFO`, each with the
//!   `cause`, and with `key` for a keyed family that opts in. All keyed families share
//!   two limits like those of rejections: one for openings, one for other changes.
//! - Panics escalate: `ERROR`.
//! - A drain starts: `INFO`, with `lame_duck_ms`. A drain ends: `INFO`, or `WARN` if it `cut`
//!   responses or requests are `left`.
//! - A poll is slow: `WARN`, limited like a rejection.

#[cfg_attr(not(feature = "metrics"), path = "no_series.rs")]
mod series;

#[cfg(feature = "tracing")]
mod events;
#[cfg(feature = "metrics")]
mod register;
mod states;
pub(crate) mod table;

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

#[cfg(feature = "metrics")]
use self::series::SeriesSet;
pub use self::table::{BUCKETS, METRICS, Metric, MetricKind, MetricUnit};
use crate::control::circuit_breaker::{transition::Transition, word::Mode};
use crate::control::lag::law::LagState;
use crate::outcome::Outcome;
use crate::reason::Reason;
use crate::request::Target;
use crate::slow_poll::report::SlowPollReport;
use crate::unwind;

/// The identity of a handle in rejections, metrics and events, and its counters. A cheap `Clone`:
/// all clones share the counters.
///
/// Every handle of this crate has one. A policy of your own makes one to appear under its own name:
///
/// ```
/// use seawall::{Reason, Reporter};
///
/// let reporter = Reporter::new("free_memory").named("worker");
/// let rejection = reporter.reject(Reason::Overloaded);
/// assert_eq!((rejection.layer(), rejection.name()), ("free_memory", "worker"));
/// ```
#[derive(Clone)]
pub struct Reporter {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    rejected: AtomicU64,
    would_reject: AtomicU64,
    exempt: AtomicU64,
    /// The state that the gauges of a breaker or lag shedder show: a position plus 1; 0 for none.
    shown: AtomicU8,
    /// It is one of many, whose number a client may choose.
    #[cfg_attr(
        not(feature = "tracing"),
        expect(dead_code, reason = "the feature is off")
    )]
    is_in_family: bool,
    #[cfg(feature = "metrics")]
    series: SeriesSet,
}

/// A change of a series.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "metrics"),
    expect(dead_code, reason = "the feature is off")
)]
pub(crate) enum Write {
    /// Increments a counter by 1.
    Count,
    /// Increments a gauge.
    Add(f64),
    /// Decrements a gauge.
    Subtract(f64),
    /// Sets a gauge.
    Set(f64),
    /// Records a value in a histogram.
    Record(f64),
}

/// The handle that rejected a request: the kind of its layer, its name, and the key of a keyed
/// family.
pub struct Source {
    layer: &'static str,
    name: OnceLock<Cow<'static, str>>,
    key: Option<String>,
}

static UNNAMED: LazyLock<Reporter> = LazyLock::new(|| Reporter::new(Reporter::CUSTOM));

/// The thread that measures lag for all monitors.
static SAMPLER: LazyLock<Reporter> = LazyLock::new(|| Reporter::new("lag_monitor"));

/// The source of a rejection that no handle made.
pub(crate) fn unnamed() -> &'static Reporter {
    &UNNAMED
}

/// Reports that the thread that measures lag has ended (`ended`) or cannot start, or that a
/// reading, a hook or a load signal has panicked. All but the end may repeat.
pub(crate) fn sampler_failed(error: &str, ended: bool) {
    unwind::without_panics(|| {
        #[cfg(feature = "tracing")]
        events::sampler_failed(&SAMPLER, error, ended);
        let _ = (error, ended);
        SAMPLER.write(table::SAMPLER_FAILURES, Write::Count);
    });
}

// === impl Reporter ===

impl Reporter {
    pub(crate) const CUSTOM: &'static str = "custom";

    /// Makes a reporter for one handle of the kind `layer`: a short, constant, `snake_case` word.
    pub fn new(layer: &'static str) -> Self {
        Self::make(layer, None, false)
    }

    /// Makes a reporter for a breaker of the keyed family that has this one, with the same name,
    /// and with the label `key` if the family opts in.
    #[cfg(feature = "keyed")]
    pub(crate) fn in_family(&self, key: Option<String>) -> Self {
        let reporter = Self::make(self.layer(), key, true);
        if let Some(name) = self.source().name.get() {
            reporter.set_name(name.clone());
        }
        reporter
    }

    fn make(layer: &'static str, key: Option<String>, is_in_family: bool) -> Self {
        Self {
            inner: Arc::new(Inner {
                source: Source {
                    layer,
                    name: OnceLock::new(),
                    key,
                },
                rejected: AtomicU64::new(0),
                would_reject: AtomicU64::new(0),
                exempt: AtomicU64::new(0),
                shown: AtomicU8::new(0),
                is_in_family,
                #[cfg(feature = "metrics")]
                series: SeriesSet::default(),
            }),
        }
    }

    /// Sets the name of the handle, which is the label `name`. A second call has no effect, since
    /// series may already exist under it.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.set_name(name);
        self
    }

    pub(crate) fn set_name(&self, name: impl Into<Cow<'static, str>>) {
        let _ = self.inner.source.name.set(name.into());
    }

    /// The layer, name and key.
    pub fn source(&self) -> &Source {
        &self.inner.source
    }

    /// The kind of layer.
    pub fn layer(&self) -> &'static str {
        self.source().layer()
    }

    /// The handle's name; empty if it has none.
    pub fn name(&self) -> &str {
        self.source().name()
    }

    #[cfg(any(feature = "metrics", feature = "tracing"))]
    fn key(&self) -> Option<&str> {
        self.source().key()
    }

    /// The number of requests that were rejected with a rejection of this reporter, or that
    /// panicked or timed out under it.
    pub fn rejected(&self) -> u64 {
        self.inner.rejected.load(Relaxed)
    }

    /// The number of requests that a layer in dry run would have rejected.
    pub fn would_reject(&self) -> u64 {
        self.inner.would_reject.load(Relaxed)
    }

    /// The number of requests that a rule of the layer or stack exempted.
    #[cfg(feature = "http")]
    pub(crate) fn exempt(&self) -> u64 {
        self.inner.exempt.load(Relaxed)
    }

    /// Counts an exempt request.
    #[cold]
    pub(crate) fn count_exempt(&self) {
        self.inner.exempt.fetch_add(1, Relaxed);
        self.exempted();
    }

    /// Counts a rejection, or in a dry run a request that would have been rejected, and writes an
    /// event. `is_callers` if it is a timeout that the caller caused.
    pub(crate) fn count_rejected(
        &self,
        reason: Reason,
        is_callers: bool,
        retry_after: Option<Duration>,
        dry_run: bool,
        request: Option<Target<'_>>,
    ) {
        let (rejected, would_reject) = (&self.inner.rejected, &self.inner.would_reject);
        let total = if dry_run { would_reject } else { rejected };
        total.fetch_add(1, Relaxed);
        self.count_reason(reason, is_callers, dry_run);
        #[cfg(feature = "tracing")]
        events::rejected(self, reason, is_callers, retry_after, dry_run, request);
        let _ = (retry_after, request);
    }

    /// Counts a panic, and writes an event with its message.
    pub(crate) fn count_panic(&self, message: Option<&str>, request: Option<Target<'_>>) {
        self.count_rejected(Reason::Panicked, false, None, false, request);
        #[cfg(feature = "tracing")]
        events::panicked(self, message, request);
        let _ = message;
    }

    /// A poll of the inner future was slow.
    pub(crate) fn slow_poll(&self, report: &SlowPollReport) {
        let took = report.took.as_secs_f64();
        self.write(table::SLOW_POLLS, Write::Record(took));
        #[cfg(feature = "tracing")]
        events::slow_poll(self, report);
    }

    /// Counts a `grpc-timeout` that is not readable.
    pub(crate) fn malformed_timeout(&self) {
        self.write(table::MALFORMED, Write::Count);
        #[cfg(feature = "tracing")]
        events::malformed_timeout(self);
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter")
            .field("source", self.source())
            .field("rejected", &self.rejected())
            .field("would_reject", &self.would_reject())
            .finish()
    }
}

// === impl Source ===

impl Source {
    /// The kind of layer, for example `"concurrency_limit"`.
    pub fn layer(&self) -> &'static str {
        self.layer
    }

    /// The handle's name; empty if it has none.
    pub fn name(&self) -> &str {
        self.name.get().map_or("", |name| name)
    }

    /// The key of a breaker whose family puts keys into the metrics.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("layer", &self.layer())
            .field("name", &self.name())
            .field("key", &self.key())
            .finish()
    }
}
