//! The events that clients can cause, limited to a few of each kind in a second.

use std::time::Duration;

use tokio::runtime::Handle;
use tracing::field::debug;
use tracing::instrument::WithSubscriber;
use tracing::{Level, enabled};

use super::Reporter;
use crate::clock::{self, millis};
use crate::control::event_limit::{Decision, EventLimit};
use crate::reason::Reason;
use crate::request::Target;
use crate::slow_poll::report::SlowPollReport;

/// One limit for each reason, one for [`Reason::Custom`], one for a `grpc-timeout` that is not
/// readable, one for timeouts that the caller caused, one for slow polls, two for the breakers of
/// keyed families, and one for panics in the thread that measures lag.
static LIMITS: [EventLimit; KINDS] = [const { EventLimit::new() }; KINDS];
const KINDS: usize = Reason::ALL.len() + 7;
const CUSTOM: usize = Reason::ALL.len();
const MALFORMED: usize = CUSTOM + 1;
const SLOW_POLL: usize = CUSTOM + 2;
const CIRCUIT_OPENED: usize = CUSTOM + 3;
const CIRCUIT_CHANGED: usize = CUSTOM + 4;
const CALLERS_TIMEOUT: usize = CUSTOM + 5;
const SAMPLER_FAILED: usize = CUSTOM + 6;

/// Returns whether an event of this kind is written now. A later event or a task writes within a
/// second how many were left out.
fn is_written(kind: usize, reason: &'static str) -> bool {
    let second = clock::second();
    match LIMITS[kind].decide(second) {
        Decision::Write { left_out } => {
            summarize(left_out, reason);
            true
        }
        Decision::LeaveOut { first_of } => {
            if let Some(second) = first_of {
                summarize_later(kind, reason, second);
            }
            false
        }
    }
}

fn summarize(left_out: u32, reason: &'static str) {
    if left_out > 0 {
        tracing::warn!(target: "seawall", reason, left_out, "events left out");
    }
}

/// Outside a runtime, the next event reports how many were left out.
#[cold]
fn summarize_later(kind: usize, reason: &'static str, second: u32) {
    if let Ok(runtime) = Handle::try_current() {
        let summary = async move {
            clock::sleep(Duration::from_secs(1)).await;
            summarize(LIMITS[kind].summarize(second), reason);
        };
        drop(runtime.spawn(summary.with_current_subscriber()));
    }
}

/// The beginning of a text that a client may choose: at most this many bytes.
fn beginning(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The beginning of a path. A client may send one of 64 KiB.
fn shortened(path: &str) -> &str {
    beginning(path, 256)
}

/// Writes the event of a rejection. `is_callers` if it is a timeout that the caller caused.
pub(super) fn rejected(
    reporter: &Reporter,
    reason: Reason,
    is_callers: bool,
    retry_after: Option<Duration>,
    dry_run: bool,
    request: Option<Target<'_>>,
) {
    let is_warning = reason == Reason::Timeout && !is_callers && !dry_run;
    let is_enabled = match reason {
        Reason::Panicked if !dry_run => false, // `panicked` reports it with its message
        _ if is_warning => enabled!(target: "seawall", Level::WARN),
        _ => enabled!(target: "seawall", Level::DEBUG),
    };
    let (kind, label) = match reason.index() {
        Some(_) if is_callers => (CALLERS_TIMEOUT, reason.as_str()),
        Some(index) => (index, reason.as_str()),
        None => (CUSTOM, "custom"), // they share one limit
    };
    if !is_enabled || !is_written(kind, label) {
        return;
    }
    let (layer, name, reason_label) = (reporter.layer(), reporter.name(), reason.as_str());
    let method = request.map(|request| request.method);
    let path = request.map(|request| debug(shortened(request.path)));
    if is_warning {
        tracing::warn!(target: "seawall", layer, name, reason = reason_label, method, path, "request timed out");
    } else {
        let retry_after_ms = retry_after.map(millis);
        tracing::debug!(target: "seawall", layer, name, reason = reason_label, retry_after_ms, dry_run, method, path, "request rejected");
    }
}

/// Writes the event of a panic.
pub(super) fn panicked(reporter: &Reporter, panic: Option<&str>, request: Option<Target<'_>>) {
    let reason = Reason::Panicked;
    let kind = reason.index().unwrap_or(CUSTOM);
    if !enabled!(target: "seawall", Level::ERROR) || !is_written(kind, reason.as_str()) {
        return;
    }
    let (layer, name) = (reporter.layer(), reporter.name());
    let method = request.map(|request| request.method);
    let path = request.map(|request| debug(shortened(request.path)));
    let panic = panic.unwrap_or("(a payload that is not text)");
    let panic = debug(beginning(panic, 1024));
    tracing::error!(target: "seawall", layer, name, reason = reason.as_str(), method, path, panic, "panic caught");
}

/// Writes the event of a slow poll.
pub(super) fn slow_poll(reporter: &Reporter, report: &SlowPollReport) {
    if enabled!(target: "seawall", Level::WARN) && is_written(SLOW_POLL, "slow_poll") {
        let (layer, name) = (reporter.layer(), reporter.name());
        let took_ms = millis(report.took);
        let (method, route) = (report.method.as_deref(), report.route.as_deref());
        let path = report.path.as_deref().map(shortened).map(debug);
        tracing::warn!(target: "seawall", layer, name, took_ms, method, path, route, "slow poll");
    }
}

/// Returns whether the change of a breaker of a keyed family is written. A client may choose the
/// keys.
pub(super) fn is_change_written(is_open: bool) -> bool {
    if is_open {
        enabled!(target: "seawall", Level::WARN) && is_written(CIRCUIT_OPENED, "circuit_opened")
    } else {
        enabled!(target: "seawall", Level::INFO) && is_written(CIRCUIT_CHANGED, "circuit_changed")
    }
}

/// Writes the event of a failure in the thread that measures lag. Its end is always written.
pub(super) fn sampler_failed(reporter: &Reporter, error: &str, ended: bool) {
    let is_enabled = enabled!(target: "seawall", Level::ERROR);
    if is_enabled && (ended || is_written(SAMPLER_FAILED, "sampler_failed")) {
        tracing::error!(target: "seawall", layer = reporter.layer(), error, "lag monitor failed");
    }
}

/// Writes the event of a `grpc-timeout` that is not readable.
pub(super) fn malformed_timeout(reporter: &Reporter) {
    let is_enabled = enabled!(target: "seawall", Level::DEBUG);
    if is_enabled && is_written(MALFORMED, "malformed_timeout") {
        let (layer, name) = (reporter.layer(), reporter.name());
        tracing::debug!(target: "seawall", layer, name, "malformed grpc-timeout ignored");
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    struct Lines(Arc<AtomicUsize>);

    impl io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.fetch_add(1, Relaxed);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A load signal that always panics does so up to a hundred times in a second.
    #[tokio::test(start_paused = true)]
    async fn few_failures_of_the_sampler_are_written_in_a_second() {
        let lines = Arc::<AtomicUsize>::default();
        let counted = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || Lines(counted.clone()))
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        for _ in 0..100 {
            crate::observe::sampler_failed("it panicked", false);
        }
        assert_eq!(lines.load(Relaxed), 5);
        crate::observe::sampler_failed("the thread ended", true);
        assert_eq!(lines.load(Relaxed), 6);
    }
}
