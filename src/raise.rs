//! How an inner gate raises a limit or a timeout of an outer one.
//!
//! A gate whose limit or timeout is raisable puts a [`Raise`] into the request's extensions. A gate
//! further in that limits or times the same request asks for its own values there. The outer gate
//! looks when its own value is reached. A client cannot ask: extensions are not sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::Extensions;
use tokio::time::Instant;

use crate::clock::{self, Due};
use crate::deadline::Deadline;
use crate::gate::timer::{Timer, due};
use crate::policy::Budget;

/// In the extensions of a request: what its inner gates ask for.
#[derive(Clone)]
struct Raise {
    asked: Arc<Asked>,
    /// The deadline that inner gates may not raise, where one is exposed.
    fixed: Option<Deadline>,
}

/// The largest values that any inner gate asks for.
struct Asked {
    max_body: AtomicU64,
    since: Instant,
    /// Nanoseconds since then.
    time: AtomicU64,
}

/// A body size that inner gates may raise.
pub(crate) struct RaisableSize {
    asked: Arc<Asked>,
    max: u64,
    most: u64,
    granted: u64,
}

/// Whether any limit or timeout of this process is raisable. If none is, no gate looks.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// A limit or a timeout becomes raisable.
pub(crate) fn use_it() {
    IS_USED.store(true, Relaxed);
}

#[inline(always)]
pub(crate) fn is_used() -> bool {
    IS_USED.load(Relaxed)
}

/// Asks the outer gates for a body of up to `max` bytes.
pub(crate) fn ask_size(extensions: &Extensions, max: u64) {
    if let Some(raise) = extensions.get::<Raise>() {
        raise.asked.max_body.fetch_max(max, Relaxed);
    }
}

/// Asks the outer gates for the time of `budget`, exposes its deadline, and lets inner gates ask if
/// it is raisable. `None` if the time may begin later.
///
/// Generic callers see its body: the optimiser knows then that the request does not escape, and
/// does not copy it.
#[cold]
#[inline]
pub(crate) fn deadline(extensions: &mut Extensions, budget: Budget<'_>) -> Option<Due> {
    let nanos = budget.time.nanos();
    let is_raisable = budget.most > nanos && !budget.time.is_callers();
    let outer = extensions.get::<Raise>().cloned();
    if !(budget.time.is_callers() || budget.is_exposed || is_raisable || outer.is_some()) {
        return None;
    }
    let at = (nanos != Timer::NEVER).then(|| due(nanos));
    let known = extensions.get::<Deadline>().copied();
    let fixed = match &outer {
        Some(outer) => {
            outer.asked.ask_time(at);
            outer.fixed
        }
        None => known,
    };
    let exposed = fixed.into_iter().chain(at.map(Deadline::new)).min();
    if budget.is_exposed || outer.is_some() && known.is_some() {
        match exposed {
            Some(exposed) => extensions.insert(exposed),
            None => extensions.remove(),
        };
    }
    let mut later = None;
    if is_raisable || outer.is_some() {
        let asked = outer.map_or_else(Asked::new, |outer| outer.asked);
        if is_raisable {
            let (asked, most) = (asked.clone(), due(budget.most));
            later = Some(Box::new(move || asked.time().min(most)) as _);
        }
        let is_fixed = budget.is_exposed && !is_raisable;
        extensions.insert(Raise {
            asked,
            fixed: if is_fixed { exposed } else { fixed },
        });
    }
    let at = match exposed {
        Some(exposed) if budget.is_exposed => Some(exposed.at()),
        _ => at,
    };
    at.map(|at| Due { at, later })
}

// === impl Asked ===

impl Asked {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            max_body: AtomicU64::new(0),
            since: clock::now(),
            time: AtomicU64::new(0),
        })
    }

    /// `None` is for ever.
    fn ask_time(&self, at: Option<Instant>) {
        let time = at.map_or(Duration::MAX, |at| at.saturating_duration_since(self.since));
        self.time.fetch_max(clock::nanos(time), Relaxed);
    }

    fn time(&self) -> Instant {
        let time = Duration::from_nanos(self.time.load(Relaxed));
        self.since + time.min(clock::FAR)
    }
}

// === impl RaisableSize ===

impl RaisableSize {
    /// A size of `max`, which inner gates may raise to `most`. The body has `granted` for now.
    pub(crate) fn new(extensions: &mut Extensions, max: u64, most: u64, granted: u64) -> Self {
        let fixed = extensions.get::<Deadline>().copied();
        let raise = extensions.get_or_insert_with(|| Raise {
            asked: Asked::new(),
            fixed,
        });
        let asked = raise.asked.clone();
        Self {
            asked,
            max,
            most,
            granted,
        }
    }

    /// How many bytes more are granted now, because an inner gate limits the body to more.
    pub(crate) fn take_more(&mut self) -> u64 {
        if self.asked.max_body.load(Relaxed) <= self.max {
            return 0;
        }
        let before = std::mem::replace(&mut self.granted, self.most);
        self.most - before
    }
}
