//! The only place that names metrics and events.
//!
//! With the `metrics` feature every layer writes through the [`metrics`](https://docs.rs/metrics) facade, in the style of
//! Prometheus: base units, `_total` for counters.
//!
//! | metric | kind | labels | counts |
//! |---|---|---|---|
//! | `seawall_requests_admitted_total` | counter | `layer`, `name` | requests that a policy let through and tracks |
//! | `seawall_requests_rejected_total` | counter | `layer`, `name`, `reason` | requests turned away at the door, or for their body |
//! | `seawall_requests_would_reject_total` | counter | `layer`, `name`, `reason` | requests that a layer in dry run would have turned away |
//! | `seawall_in_flight` | gauge | `layer`, `name` | requests that hold a place now |
//! | `seawall_waiting` | gauge | `layer`, `name` | requests that wait for a place now |
//! | `seawall_limit` | gauge | `layer`, `name` | places there are |
//! | `seawall_timeouts_total` | counter | `layer`, `name` | requests whose deadline passed |
//! | `seawall_malformed_timeouts_total` | counter | `layer`, `name` | requests whose `grpc-timeout` could not be read, and was ignored |
//! | `seawall_panics_total` | counter | `layer`, `name` | handlers and bodies that panicked |
//! | `seawall_circuit_state` | gauge | `layer`, `name`, `state` | how many circuit breakers of the name are in the state: of one alone, 1 for the state that it is in and 0 for the others |
//! | `seawall_circuit_transitions_total` | counter | `layer`, `name`, `state` | changes of a circuit breaker's state, by the state after it |
//! | `seawall_circuit_thresholds_reached_total` | counter | `layer`, `name`, `reason` | thresholds that were reached while it was closed, or only observed: `failure_rate`, `slow_call_rate` or `consecutive_failures` |
//! | `seawall_circuit_outcomes_total` | counter | `layer`, `name`, `reason` | what became of calls: `reason` is `success`, `failure`, `ignored`, `cancelled` or `panicked` |
//! | `seawall_lag_seconds` | gauge | `layer`, `name` | how far the runtime is behind now |
//! | `seawall_lag_probe_seconds` | histogram | `layer`, `name`, `reason` | how far behind each probe found it; `reason` is `host` while the host is short of CPU, else `service` |
//! | `seawall_lag_state` | gauge | `layer`, `name`, `state` | 1 for the state that a lag shedder is in, 0 for the others |
//! | `seawall_lag_shed_ratio` | gauge | `layer`, `name` | the share of requests that it refuses now |
//! | `seawall_lag_fail_open_total` | counter | `layer`, `name` | requests that it admitted because the last reading was too old |
//! | `seawall_lag_sampler_failures_total` | counter | `layer`, `name` | times that the thread which measures lag, or a hook on it, failed |
//!
//! `layer` is the kind (`circuit_breaker`, `concurrency_limit`, `lag_shed`, `lag_monitor`, `timeout`, `request_limit`, `catch_panic`,
//! `custom`), `name` what its user called the handle (empty by default), `reason` is [`Reason::as_str`] or
//! [`Cause::as_str`](crate::circuit_breaker::Cause::as_str), `state` is [`LagState::as_str`] or [`CircuitState::as_str`](crate::CircuitState::as_str).
//!
//! A series is registered at its first use, once per handle: a recorder that is installed after the first request misses
//! the series that exist by then. Install the recorder first.
//!
//! A circuit breaker changes its state when calls come, so that the gauge of one that nobody calls says what it was. To be told
//! of every outage, count: `increase(seawall_circuit_transitions_total{state="open"}[5m]) > 0`.
//!
//! A breaker of a family that is told apart has the label `key` besides.
//!
//! Handles of one kind share a series unless they have names of their own; a gauge then shows the last that was set.
//!
//! What is measured on the lag monitor's own thread goes to the global recorder, not to one that is local to a thread.
//!
//! With the `tracing` feature each rejection and each panic is an event with target `seawall` and the fields `layer`, `name`
//! and `reason`: a panic at `ERROR`, with its message as `panic`; a passed deadline at `WARN`; any other rejection at
//! `DEBUG`, with `retry_after_ms` and `dry_run`, since there are most of them when there is least time to write them down.
//! A lag shedder that begins to shed is a `WARN`, any other change of its `state` an `INFO`, with `lag_ms`; a lag monitor
//! that fails is an `ERROR`. A circuit breaker that opens is a `WARN`, any other change of its `state` an `INFO`, with the
//! cause as `reason`, and `key` where the breakers of a family are told apart.

#[cfg_attr(not(feature = "metrics"), path = "no_series.rs")]
mod series;

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use self::series::Series;
use crate::control::circuit::{Change, Exceeded, Mode};
use crate::control::lag::LagState;
use crate::policy::Outcome;
use crate::rejection::{Reason, Rejection};

/// The identity of one handle in rejections, metrics and events, and its counters. A cheap `Clone`.
///
/// Every handle of this crate has one. A policy of your own makes one to be seen under its own name:
///
/// ```
/// use seawall::{Meter, Reason};
///
/// let meter = Meter::new("free_memory").named("worker");
/// let rejection = meter.reject(Reason::Overloaded);
/// assert_eq!((rejection.layer(), rejection.name()), ("free_memory", "worker"));
/// ```
#[derive(Clone)]
pub struct Meter {
    inner: Arc<Inner>,
}

struct Inner {
    layer: &'static str,
    name: OnceLock<Cow<'static, str>>,
    /// Which of a family it is, where that is told.
    #[cfg_attr(
        not(any(feature = "metrics", feature = "tracing")),
        expect(dead_code, reason = "nobody is told")
    )]
    key: Option<String>,
    rejected: AtomicU64,
    would_reject: AtomicU64,
    series: Series,
}

static UNNAMED: LazyLock<Meter> = LazyLock::new(|| Meter::new(Meter::CUSTOM));

/// The thread that measures lag, which serves all monitors.
static SAMPLER: LazyLock<Meter> = LazyLock::new(|| Meter::new("lag_monitor"));

/// Counts a rejection for the handle that made it, and tells `tracing` about it.
#[inline]
pub(crate) fn rejected(rejection: &Rejection, dry_run: bool) {
    let meter = rejection.meter().unwrap_or(&UNNAMED);
    let total = if dry_run {
        &meter.inner.would_reject
    } else {
        &meter.inner.rejected
    };
    total.fetch_add(1, Relaxed);
    match rejection.reason() {
        Reason::Panicked if !dry_run => meter.inner.series.panicked(meter),
        Reason::Timeout if !dry_run => meter.inner.series.timed_out(meter),
        reason => meter.inner.series.rejected(meter, reason, dry_run),
    }
    #[cfg(feature = "tracing")]
    event(rejection, dry_run);
}

/// Counts a panic; only the `tracing` event carries the message, which stays on this side of the wall.
pub(crate) fn panicked(rejection: &Rejection, message: Option<&str>) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        target: "seawall",
        layer = rejection.layer(),
        name = rejection.name(),
        reason = rejection.reason().as_str(),
        panic = message.unwrap_or("(a payload that is not text)"),
        "panic caught"
    );
    let _ = message;
    rejected(rejection, false);
}

/// Lag is not measured, or a hook on it was not told.
pub(crate) fn sampler_failed(error: &str) {
    unpanicked(|| {
        #[cfg(feature = "tracing")]
        tracing::error!(target: "seawall", layer = SAMPLER.layer(), error, "lag is not measured");
        let _ = error;
        SAMPLER.inner.series.sampler_failed(&SAMPLER);
    });
}

/// Runs what may call a recorder or a subscriber of the user's where a panic of theirs would take others down: the thread
/// that measures, the task that is measured.
pub(crate) fn unpanicked(tell: impl FnOnce()) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(tell));
}

#[cfg(feature = "tracing")]
fn event(rejection: &Rejection, dry_run: bool) {
    let retry_after_ms = rejection
        .retry_after()
        .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    let (layer, name, reason) = (
        rejection.layer(),
        rejection.name(),
        rejection.reason().as_str(),
    );
    match rejection.reason() {
        Reason::Panicked => {} // told with its message, in `panicked`
        Reason::Timeout => {
            tracing::warn!(target: "seawall", layer, name, reason, "request timed out");
        }
        _ => {
            tracing::debug!(target: "seawall", layer, name, reason, retry_after_ms, dry_run, "request rejected");
        }
    }
}

// === impl Meter ===

impl Meter {
    pub(crate) const CUSTOM: &'static str = "custom";

    /// A meter for one handle of the kind `layer`: a short, constant, `snake_case` word.
    pub fn new(layer: &'static str) -> Self {
        Self::of_key(layer, None)
    }

    /// One of a family, told apart by the label `key` if there is one.
    pub(crate) fn of_key(layer: &'static str, key: Option<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                layer,
                name: OnceLock::new(),
                key,
                rejected: AtomicU64::new(0),
                would_reject: AtomicU64::new(0),
                series: Series::default(),
            }),
        }
    }

    /// Gives the handle a name, the `name` label. The first name stays: series may exist under it already.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.set_name(name);
        self
    }

    pub(crate) fn set_name(&self, name: impl Into<Cow<'static, str>>) {
        let _ = self.inner.name.set(name.into());
    }

    /// The kind of layer.
    pub fn layer(&self) -> &'static str {
        self.inner.layer
    }

    /// The handle's name; empty if it has none.
    pub fn name(&self) -> &str {
        self.inner.name.get().map_or("", |name| name)
    }

    #[cfg(any(feature = "metrics", feature = "tracing"))]
    fn key(&self) -> Option<&str> {
        self.inner.key.as_deref()
    }

    /// A rejection that carries this meter's layer and name. It is counted when a gate turns a request away with it.
    pub fn reject(&self, reason: Reason) -> Rejection {
        Rejection::by(reason, self.clone())
    }

    /// Counts one admitted request. A policy calls it where it makes a ticket; without the `metrics` feature it does nothing.
    #[inline]
    pub fn admitted(&self) {
        self.inner.series.admitted(self);
    }

    /// How many requests were turned away with a rejection of this meter, or panicked or timed out under it.
    pub fn rejected(&self) -> u64 {
        self.inner.rejected.load(Relaxed)
    }

    /// How many requests a layer in dry run would have turned away.
    pub fn would_reject(&self) -> u64 {
        self.inner.would_reject.load(Relaxed)
    }

    /// A request took one of `limit` places; the limit is asked for when the gauges are registered.
    #[inline]
    pub(crate) fn entered(&self, limit: impl FnOnce() -> usize) {
        self.inner.series.entered(self, limit);
    }

    /// A request gave its place back.
    #[inline]
    pub(crate) fn left(&self) {
        self.inner.series.left();
    }

    /// The number of places changed.
    pub(crate) fn limit_changed(&self, limit: usize) {
        self.inner.series.limit_changed(limit);
    }

    /// How far the runtime is behind.
    pub(crate) fn lag(&self, lag: Duration) {
        self.inner.series.lag(self, lag);
    }

    /// A probe came back, having found this lag.
    pub(crate) fn probe_back(&self, lag: Duration, host_is_short: bool) {
        self.inner.series.probe_back(self, lag, host_is_short);
    }

    /// The share of requests that is refused.
    pub(crate) fn shed(&self, share: f64) {
        self.inner.series.shed(self, share);
    }

    /// A request was admitted for want of a reading.
    pub(crate) fn failed_open(&self) {
        self.inner.series.failed_open(self);
    }

    /// The state of a lag shedder changed.
    pub(crate) fn lag_state(&self, before: LagState, after: LagState, lag: Duration) {
        self.inner.series.lag_state(self, after);
        #[cfg(feature = "tracing")]
        {
            let (layer, name, state) = (self.layer(), self.name(), after.as_str());
            let lag_ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
            if after == LagState::Shedding {
                tracing::warn!(target: "seawall", layer, name, state, lag_ms, "shedding");
            } else if before == LagState::Shedding {
                tracing::info!(target: "seawall", layer, name, state, lag_ms, "shedding no longer");
            } else {
                tracing::info!(target: "seawall", layer, name, state, lag_ms, "lag changed");
            }
        }
        let _ = (before, lag);
    }

    /// The `grpc-timeout` of a request cannot be read.
    pub(crate) fn malformed_timeout(&self) {
        self.inner.series.malformed_timeout(self);
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "seawall", layer = self.layer(), name = self.name(), "malformed grpc-timeout ignored");
    }

    /// A circuit breaker was asked; its state is asked for when the gauge is registered.
    #[inline]
    pub(crate) fn circuit_seen(&self, mode: impl FnOnce() -> Mode) {
        self.inner.series.circuit_seen(self, mode);
    }

    /// A call came back to a circuit breaker.
    #[inline]
    pub(crate) fn circuit_outcome(&self, outcome: Outcome) {
        self.inner.series.circuit_outcome(self, outcome);
    }

    /// A circuit breaker reached thresholds.
    #[cold]
    pub(crate) fn circuit_reached(&self, reached: Exceeded) {
        Series::circuit_reached(self, reached);
    }

    /// A circuit breaker changed its state.
    pub(crate) fn circuit_changed(&self, change: &Change) {
        self.inner.series.circuit_changed(self, change);
        #[cfg(feature = "tracing")]
        {
            let (layer, name, key) = (self.layer(), self.name(), self.key());
            let (from, state, reason) = (
                change.from.as_str(),
                change.to.as_str(),
                change.cause.as_str(),
            );
            let open_ms = change.lasts.map(|nanos| nanos / 1_000_000);
            if change.to == Mode::Open {
                tracing::warn!(target: "seawall", layer, name, key, from, state, reason, open_ms, "circuit opened");
            } else {
                tracing::info!(target: "seawall", layer, name, key, from, state, reason, "circuit changed");
            }
        }
    }

    /// A circuit breaker is no more.
    pub(crate) fn circuit_gone(&self) {
        self.inner.series.circuit_gone();
    }

    /// A request began to wait (`true`), or stopped waiting.
    #[inline]
    pub(crate) fn waiting(&self, begins: bool) {
        self.inner.series.waiting(self, begins);
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("layer", &self.layer())
            .field("name", &self.name())
            .field("rejected", &self.rejected())
            .field("would_reject", &self.would_reject())
            .finish()
    }
}
