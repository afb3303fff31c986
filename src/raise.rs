//! An inner gate raises a limit or a timeout of an outer gate.
//!
//! A gate whose limit or timeout is raisable puts a value into the request's extensions. An inner
//! gate that limits or times the same request writes its own limit there, and all raisable gates
//! around it see it. An outer gate reads the value when its own limit is reached. A client cannot
//! write it, since extensions are not sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::Extensions;
use tokio::time::Instant;

use crate::clock::{self, Due, due};
use crate::deadline::Deadline;
use crate::policy::Budget;

/// The times of a request, in its extensions.
#[derive(Clone)]
struct Times {
    /// The request of the innermost gate so far whose timeout is raisable.
    asked: Arc<Asked>,
    /// The latest time that the gates so far allow.
    bound: Option<Deadline>,
    /// The deadline that the gates so far have exposed.
    exposed: Option<Deadline>,
}

/// The sizes of a request, in its extensions: those of the innermost gate so far whose limit is
/// raisable.
#[derive(Clone)]
struct Sizes(Arc<Asked>);

/// The largest value that any gate inside a raisable one has asked for.
struct Asked {
    /// In bytes, or `| nanoseconds after since: 63 | the caller set the time: 1 |`.
    value: AtomicU64,
    since: Instant,
    outer: Option<Arc<Asked>>,
}

/// A body size that inner gates may raise.
pub(crate) struct RaisableSize {
    asked: Arc<Asked>,
    max: u64,
    most: u64,
    granted: u64,
}

/// Whether any limit or timeout of this process is raisable. If none is, no gate reads the
/// extensions.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// Marks that a limit or a timeout is raisable.
pub(crate) fn use_it() {
    IS_USED.store(true, Relaxed);
}

#[inline(always)]
pub(crate) fn is_used() -> bool {
    IS_USED.load(Relaxed)
}

/// Asks the outer gates for a body of up to `max` bytes.
pub(crate) fn ask_size(extensions: &Extensions, max: u64) {
    if let Some(Sizes(asked)) = extensions.get() {
        asked.ask_size(max);
    }
}

/// Asks the outer gates for the time of this gate, exposes its deadline, and lets inner gates ask
/// if its time is raisable. Returns `None` if the time may start later.
///
/// It is generic, so that callers see its body: the optimiser then knows that the request does not
/// escape, and does not copy it.
#[cold]
#[inline]
pub(crate) fn deadline(extensions: &mut Extensions, budget: Budget<'_>) -> Option<Due> {
    let (nanos, is_callers) = (budget.time.nanos(), budget.time.is_callers());
    let is_raisable = budget.most > nanos && !is_callers;
    let outer = extensions.get::<Times>().cloned();
    if !(is_callers || budget.is_exposed || is_raisable || outer.is_some()) {
        return None;
    }
    let own = (nanos != u64::MAX).then(|| Deadline::new(due(nanos), is_callers));
    let (mut asked, mut bound, mut exposed) = (None, None, None);
    if let Some(outer) = outer {
        outer.asked.ask_time(own);
        (asked, bound, exposed) = (Some(outer.asked), outer.bound, outer.exposed);
    }
    let known = extensions.get::<Deadline>().copied();
    if known != exposed {
        // The deadline of another layer.
        bound = earlier(bound, known);
    }
    let shown = earlier(bound, own);
    if budget.is_exposed || exposed.is_some() {
        match shown {
            Some(shown) => extensions.insert(shown),
            None => extensions.remove(),
        };
        exposed = shown;
    }
    let mut raised = None;
    if is_raisable {
        let by = Asked::inside(asked);
        let most = Deadline::new(due(budget.most), false);
        let most = bound.map_or(most, |bound| bound.min(most));
        asked = Some(by.clone());
        bound = Some(most);
        raised = Some((by, most));
    } else {
        bound = shown;
    }
    if let Some(asked) = asked {
        extensions.insert(Times {
            asked,
            bound,
            exposed,
        });
    }
    let own = own?;
    let applies = shown.filter(|_| budget.is_exposed).unwrap_or(own);
    let at = applies.at();
    let earlier = own.at().saturating_duration_since(at);
    let raised = raised.filter(|&(_, most)| own < most);
    Some(Due {
        at,
        later: raised.map(|(by, most)| {
            let later = move || {
                let (later, is_callers) = by.time(most);
                (later, is_callers && later > at)
            };
            Box::new(later) as _
        }),
        time: Duration::from_nanos(nanos)
            .min(clock::FAR)
            .saturating_sub(earlier),
        is_callers: applies.is_callers(),
    })
}

fn earlier(one: Option<Deadline>, other: Option<Deadline>) -> Option<Deadline> {
    one.into_iter().chain(other).min()
}

// === impl Asked ===

impl Asked {
    fn inside(outer: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self {
            value: AtomicU64::new(0),
            since: clock::now(),
            outer,
        })
    }

    fn ask_size(&self, max: u64) {
        self.value.fetch_max(max, Relaxed);
        if let Some(outer) = &self.outer {
            outer.ask_size(max);
        }
    }

    /// `None` means no limit.
    fn ask_time(&self, own: Option<Deadline>) {
        let since = |own: Deadline| own.at().saturating_duration_since(self.since);
        let time = own.map_or(clock::FAR, since).min(clock::FAR);
        let is_callers = own.is_some_and(Deadline::is_callers);
        let value = clock::nanos(time) << 1 | u64::from(is_callers);
        self.value.fetch_max(value, Relaxed);
        if let Some(outer) = &self.outer {
            outer.ask_time(own);
        }
    }

    /// The latest time that inner gates asked for, bounded by `most`, and whether the caller set
    /// it.
    fn time(&self, most: Deadline) -> (Instant, bool) {
        let value = self.value.load(Relaxed);
        let time = Duration::from_nanos(value >> 1);
        let asked = Deadline::new(self.since + time, value & 1 != 0);
        let due = most.min(asked);
        (due.at(), due.is_callers())
    }
}

// === impl RaisableSize ===

impl RaisableSize {
    /// A size of `max` bytes, which inner gates may raise to `most`. The body may have `granted`
    /// bytes for now.
    pub(crate) fn new(extensions: &mut Extensions, max: u64, most: u64, granted: u64) -> Self {
        let outer = extensions.get().map(|Sizes(outer)| outer.clone());
        let asked = Asked::inside(outer);
        extensions.insert(Sizes(asked.clone()));
        Self {
            asked,
            max,
            most,
            granted,
        }
    }

    /// The additional bytes that the body may have now, because an inner gate allows more.
    pub(crate) fn take_more(&mut self) -> u64 {
        if self.asked.value.load(Relaxed) <= self.max {
            return 0;
        }
        let before = std::mem::replace(&mut self.granted, self.most);
        self.most - before
    }
}
