//! The escalation of panics: what happens after too many of them.

use std::process;
use std::sync::Mutex;
use std::time::Duration;

use crate::clock;
use crate::config::ConfigError;
use crate::control::panics::PanicWindow;
use crate::drain::Drain;
use crate::observe::Reporter;
use crate::sync::lock;

/// Ends a process that panics too often: it drains the process, aborts it after a time, or does
/// both. It is off by default.
///
/// ```
/// use std::time::Duration;
/// use seawall::{Drain, catch_panic::PanicEscalation};
///
/// let drain = Drain::default();
/// let escalation = PanicEscalation::new(10, Duration::from_secs(60))
///     .drain(&drain)
///     // If the drain does not end the process.
///     .abort_after(Duration::from_secs(60));
/// let stack = seawall::server().drain(drain).build()?;
/// stack.catch_panic().set_escalation(escalation)?;
/// # Ok::<_, seawall::ConfigError>(())
/// ```
///
/// With an escalation, a client that can cause panics can end the process. Use it where a
/// supervisor starts the process again, and where several instances run.
#[derive(Clone, Debug)]
#[must_use = "an escalation does nothing until a handle has it"]
pub struct PanicEscalation {
    panics: u32,
    window: Duration,
    drain: Option<Drain>,
    abort_after: Option<Duration>,
}

// === impl PanicEscalation ===

impl PanicEscalation {
    const MOST: u32 = 1000;
    const LEAST_WINDOW: Duration = Duration::from_millis(1);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// Escalates once, when `panics` panics (1 to 1000) have happened within `window` (1 ms to a
    /// day). Without [`drain`](Self::drain) and [`abort_after`](Self::abort_after), it only writes
    /// an event.
    pub const fn new(panics: u32, window: Duration) -> Self {
        Self {
            panics,
            window,
            drain: None,
            abort_after: None,
        }
    }

    /// Begins this drain at the escalation.
    pub fn drain(mut self, drain: &Drain) -> Self {
        self.drain = Some(drain.clone());
        self
    }

    /// Aborts the process if it has not ended this long after the escalation. The time is at most a
    /// day. A thread waits for it, so that a runtime that hangs does not prevent the abort. If the
    /// thread cannot start, the process aborts at once. With a time of 0, the process may end
    /// before the event is written. No destructor runs; see [`std::process::abort`].
    pub fn abort_after(mut self, time: Duration) -> Self {
        self.abort_after = Some(time);
        self
    }

    /// Returns the function to call for every panic.
    pub(super) fn start(
        self,
        reporter: Reporter,
    ) -> Result<Box<dyn Fn() + Send + Sync>, ConfigError> {
        ConfigError::check("panics", self.panics, 1..=Self::MOST)?;
        ConfigError::check("window", self.window, Self::LEAST_WINDOW..=Self::DAY)?;
        ConfigError::check("abort_after", self.abort_after, Duration::ZERO..=Self::DAY)?;
        let origin = clock::now();
        let window = PanicWindow::new(self.panics, clock::nanos(self.window));
        let window = Mutex::new(window);
        Ok(Box::new(move || {
            let now = clock::now().saturating_duration_since(origin);
            if lock(&window).record(clock::nanos(now)) {
                self.escalate(&reporter);
            }
        }))
    }

    #[cold]
    fn escalate(&self, reporter: &Reporter) {
        if let Some(time) = self.abort_after {
            clock::on_thread_after(time, || process::abort());
        }
        if let Some(drain) = &self.drain {
            drain.begin();
        }
        // The event is last, since it calls a subscriber of the user.
        reporter.panics_escalated(self.panics, self.window);
    }
}
