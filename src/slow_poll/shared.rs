//! The polls of one request, and the state that all clones of a handle share.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::report::SlowPollReport;
use super::settings::SlowPollSettings;
use crate::clock::nanos;
use crate::config::{Configurable, Current};
use crate::observe::{Reporter, table};
use crate::panic_report::RequestSummary;
use crate::sync::lock;
use crate::unwind;

/// The state of a [`SlowPoll`](super::SlowPoll) at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SlowPollSnapshot {
    /// The number of slow polls so far.
    pub slow_polls: u64,
    /// The ten longest polls, the longest one first.
    pub worst: Vec<SlowPollReport>,
}

/// The polls of one request, as a policy uses them in the gate.
#[derive(Clone, Copy)]
pub(crate) struct SlowPolls<'a> {
    pub(super) shared: &'a Shared,
    pub(super) request: Option<&'a RequestSummary>,
    pub(super) route: Option<&'a Arc<str>>,
}

/// The state that all clones of a handle share.
#[derive(Debug)]
pub(super) struct Shared {
    settings: Current<SlowPollSettings>,
    /// The threshold of the settings in nanoseconds, as polls read it.
    threshold: AtomicU64,
    polls: AtomicU64,
    worst: Mutex<Vec<SlowPollReport>>,
    pub(super) reporter: Reporter,
}

/// The number of the longest polls that a snapshot has.
const WORST: usize = 10;

// === impl SlowPolls ===

impl SlowPolls<'_> {
    /// Ends a poll that took this time.
    #[inline]
    pub(crate) fn on_poll(self, took: Duration) {
        if nanos(took) >= self.shared.threshold.load(Relaxed) {
            self.report(took);
        }
    }

    #[cold]
    #[inline(never)]
    fn report(self, took: Duration) {
        let request = self.request.map(RequestSummary::target);
        let report = SlowPollReport {
            took,
            method: request.map(|request| request.method.to_owned()),
            path: request.map(|request| request.path.to_owned()),
            route: self.route.map(|route| route.as_ref().to_owned()),
        };
        self.shared.polls.fetch_add(1, Relaxed);
        // A recorder or a subscriber that panics must not end the request.
        unwind::without_panics(|| self.shared.reporter.slow_poll(&report));
        self.shared.add(report);
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(settings: SlowPollSettings) -> Self {
        let shared = Self {
            threshold: AtomicU64::new(nanos(settings.threshold)),
            settings: Current::new(settings),
            polls: AtomicU64::default(),
            worst: Mutex::default(),
            reporter: Reporter::new("slow_poll"),
        };
        shared.replaced();
        shared
    }

    pub(super) fn snapshot(&self) -> SlowPollSnapshot {
        SlowPollSnapshot {
            slow_polls: self.polls.load(Relaxed),
            worst: lock(&self.worst).clone(),
        }
    }

    pub(super) fn forget_worst(&self) {
        lock(&self.worst).clear();
    }

    fn add(&self, report: SlowPollReport) {
        let mut worst = lock(&self.worst);
        let at = worst.partition_point(|longer| longer.took >= report.took);
        if at < WORST {
            worst.insert(at, report);
            worst.truncate(WORST);
        }
    }
}

impl Configurable for Shared {
    type Settings = SlowPollSettings;

    fn current(&self) -> &Current<SlowPollSettings> {
        &self.settings
    }

    fn publish(&self, settings: &SlowPollSettings) {
        self.threshold.store(nanos(settings.threshold), Relaxed);
    }

    fn replaced(&self) {
        let seconds = self.settings.get().threshold.as_secs_f64();
        self.reporter
            .show_setting(table::SLOW_POLL_THRESHOLD, seconds);
    }
}
