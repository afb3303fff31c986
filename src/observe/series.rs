//! The series of one handle behind the `metrics` facade. Without the feature `metrics`,
//! `no_series.rs` has the same functions, which do nothing.

use std::cell::Cell;
use std::sync::{Mutex, OnceLock};

use super::register::Series;
use super::table::{self, ROWS, SeriesId};
use super::{Reason, Reporter, Write};
use crate::sync::lock;
use crate::unwind;

/// The series of one handle. They are registered at the first request of the handle; from then on,
/// each update is one atomic operation, except for settings and custom reasons.
#[derive(Default)]
pub(super) struct SeriesSet {
    admitted: OnceLock<Series>,
    exempt: OnceLock<Series>,
    own: OnceLock<Own>,
    /// The settings that are shown as gauges.
    settings: Mutex<Vec<(SeriesId, f64)>>,
}

thread_local! {
    /// The gate that decides on this thread has counted its request as exempt.
    static IS_EXEMPT: Cell<bool> = const { Cell::new(false) };
}

/// The series that depend on the layer of the handle.
struct Own {
    rejected: ByReason,
    would_reject: ByReason,
    /// Those whose row has the layer. The series of one metric are in the order of its label.
    series: Box<[(usize, Series)]>,
}

/// The series of the reasons for which a layer rejects are registered with the handle. Others, such
/// as those of your own policies, are registered at their first use.
type ByReason = [OnceLock<Series>; Reason::ALL.len()];

/// The reasons for which a layer rejects.
fn reasons(layer: &str) -> &'static [Reason] {
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

/// The metric that counts the rejections for this reason, if it is not that of the others.
fn own_metric(reason: Reason) -> Option<SeriesId> {
    match reason {
        Reason::Panicked => Some(table::PANICS),
        Reason::Timeout => Some(table::TIMEOUTS),
        _ => None,
    }
}

/// Registers a series without a lock, since the recorder may call this reporter. If that call, or
/// another thread, was faster, its series is used.
fn registered(series: &OnceLock<Series>, register: impl FnOnce() -> Series) -> &Series {
    if series.get().is_none() {
        let _ = series.set(register());
    }
    series.get().expect("it is set")
}

// === impl Own ===

impl Own {
    fn new(reporter: &Reporter) -> Self {
        let by_reason = |metric: SeriesId| {
            let counters = ByReason::default();
            for reason in reasons(reporter.layer()) {
                reporter.by_reason(&counters, metric, *reason, |_| {});
            }
            counters
        };
        let of_layer = ROWS.iter().enumerate().take(table::FIRST_SETTING);
        let of_layer = of_layer.filter(|(_, row)| row.layer == reporter.layer());
        let series = of_layer.flat_map(|(metric, _)| {
            Series::all(reporter, metric).map(move |series| (metric, series))
        });
        Self {
            rejected: by_reason(table::REJECTED),
            would_reject: by_reason(table::WOULD_REJECT),
            series: series.collect(),
        }
    }
}

// === impl Reporter ===

impl Reporter {
    pub(super) fn is_registered(&self) -> bool {
        self.inner.series.own.get().is_some()
    }

    /// Registers the series of the layer, each with 0, if they are not registered yet.
    pub(crate) fn register(&self) {
        self.own();
    }

    /// Registers the series for rejections with these reasons, each with 0, so that an `increase`
    /// sees the first rejection. Call it in [`Policy::register`] of your own policy. Without the
    /// feature `metrics` it does nothing.
    ///
    /// [`Policy::register`]: crate::policy::Policy::register
    pub fn register_reasons(&self, reasons: &[Reason]) {
        let own = self.own();
        for reason in reasons {
            match own_metric(*reason) {
                Some(metric) => Series::all(self, metric.metric).for_each(drop),
                None => self.by_reason(&own.rejected, table::REJECTED, *reason, |_| {}),
            }
            self.by_reason(&own.would_reject, table::WOULD_REJECT, *reason, |_| {});
        }
    }

    #[inline]
    fn own(&self) -> &Own {
        match self.inner.series.own.get() {
            Some(own) => own,
            None => self.make_own(),
        }
    }

    #[cold]
    fn make_own(&self) -> &Own {
        let series = &self.inner.series;
        // Without a lock, as in `registered`.
        let is_first = series.own.set(Own::new(self)).is_ok();
        if is_first {
            let settings = lock(&series.settings).clone();
            for (setting, value) in settings {
                self.write_setting(setting, value);
            }
        }
        series.own.get().expect("it is set")
    }

    /// Writes to a series of the handle. It asks the recorder for a setting, and for a series of
    /// another layer, at each write.
    #[inline(always)]
    pub(crate) fn write(&self, id: SeriesId, write: Write) {
        let series = &self.own().series;
        match series.iter().position(|(metric, _)| *metric == id.metric) {
            Some(first) => series[first + id.label].1.write(write),
            None => self.write_rarely(id, write),
        }
    }

    #[cold]
    fn write_rarely(&self, id: SeriesId, write: Write) {
        Series::new(self, id).write(write);
    }

    /// Shows a setting of the handle, now if its series are registered.
    pub(crate) fn show_setting(&self, setting: SeriesId, value: f64) {
        let mut settings = lock(&self.inner.series.settings);
        match settings.iter_mut().find(|(each, _)| *each == setting) {
            Some((_, known)) => *known = value,
            None => settings.push((setting, value)),
        }
        drop(settings);
        if self.is_registered() {
            self.write_setting(setting, value);
        }
    }

    /// Writes a setting outside the lock: the recorder may change the setting, as may other
    /// threads. The last value is written last.
    fn write_setting(&self, setting: SeriesId, mut value: f64) {
        loop {
            self.write(setting, Write::Set(value));
            let settings = lock(&self.inner.series.settings);
            let mut known = settings.iter().filter(|(each, _)| *each == setting);
            match known.next() {
                Some((_, now)) if now.to_bits() != value.to_bits() => value = *now,
                _ => return,
            }
        }
    }

    /// Counts an admitted request, unless it is exempt. It calls `register` at the first request.
    #[inline(always)]
    pub(crate) fn admitted(&self, register: &dyn Fn()) {
        let series = &self.inner.series;
        match series.admitted.get() {
            Some(admitted) if !IS_EXEMPT.get() => admitted.write(Write::Count),
            _ => self.admitted_rarely(register),
        }
    }

    /// The first request, or an exempt one.
    #[cold]
    #[inline(never)]
    fn admitted_rarely(&self, register: &dyn Fn()) {
        let is_exempt = IS_EXEMPT.get();
        self.arrived(register);
        if let Some(admitted) = self.inner.series.admitted.get().filter(|_| !is_exempt) {
            admitted.write(Write::Count);
        }
    }

    /// Registers the series of a gate at its first request, as [`admitted`](Self::admitted) does,
    /// for a request that is not admitted now. The type of `register` is erased: gates have many
    /// types, and the compiler would make this code for each of them.
    #[inline(always)]
    pub(crate) fn arrived(&self, register: &dyn Fn()) {
        IS_EXEMPT.set(false);
        if self.inner.series.admitted.get().is_none() {
            self.arrived_first(register);
        }
    }

    #[cold]
    #[inline(never)]
    fn arrived_first(&self, register: &dyn Fn()) {
        // A request may hold its token already: a panic here would leak it.
        unwind::without_panics(|| {
            register();
            self.register();
        });
        self.exempt_series();
        let admitted = || Series::new(self, table::ADMITTED);
        registered(&self.inner.series.admitted, admitted);
    }

    fn exempt_series(&self) -> &Series {
        let exempt = || Series::new(self, table::EXEMPT);
        registered(&self.inner.series.exempt, exempt)
    }

    /// Counts an exempt request, which the gate is about to admit and must not count again.
    pub(super) fn exempted(&self) {
        self.exempt_series().write(Write::Count);
        // This comes last: the recorder may call another gate.
        IS_EXEMPT.set(true);
    }

    pub(super) fn count_reason(&self, reason: Reason, is_callers: bool, dry_run: bool) {
        let count = |series: &Series| series.write(Write::Count);
        let own = self.own();
        match own_metric(reason) {
            _ if dry_run => self.by_reason(&own.would_reject, table::WOULD_REJECT, reason, count),
            Some(metric) => self.write(metric.at(usize::from(is_callers)), Write::Count),
            None => self.by_reason(&own.rejected, table::REJECTED, reason, count),
        }
    }

    /// The series of a reason, which is registered if it is not.
    fn by_reason(
        &self,
        counters: &ByReason,
        metric: SeriesId,
        reason: Reason,
        change: impl FnOnce(&Series),
    ) {
        let register = || Series::with_label(self, metric, Some(reason.as_str()));
        match reason.index() {
            Some(index) => change(registered(&counters[index], register)),
            None => change(&register()),
        }
    }
}
