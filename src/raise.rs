//! How an inner gate raises a limit or a timeout of an outer one.
//!
//! A gate whose limit or timeout is raisable leaves a value in the request's extensions. A gate
//! further in that limits or times the same request asks there for its own, and what it asks for
//! reaches all raisable gates around it. An outer gate looks when its own value is reached. A
//! client cannot ask: extensions are not sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::Extensions;
use tokio::time::Instant;

use crate::clock::{self, Due, due};
use crate::deadline::Deadline;

/// The times of a request, in its extensions.
#[derive(Clone)]
struct Times {
    /// Of the innermost gate so far whose timeout is raisable.
    asked: Arc<Asked>,
    /// The latest time that the gates so far allow.
    bound: Option<Deadline>,
    /// The deadline that they have exposed.
    exposed: Option<Deadline>,
}

/// The sizes of a request, in its extensions: of the innermost gate so far whose limit is raisable.
#[derive(Clone)]
struct Sizes(Arc<Asked>);

/// The largest value that any gate inside a raisable one asks for.
struct Asked {
    /// Bytes, or nanoseconds since `since`.
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

/// The time of a gate for one request.
#[derive(Clone, Copy)]
pub(crate) struct Time {
    /// `u64::MAX` for no limit.
    pub(crate) nanos: u64,
    /// The most to which inner gates may raise it; less than that if they may not.
    pub(crate) most: u64,
    pub(crate) is_callers: bool,
    pub(crate) is_exposed: bool,
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
    if let Some(Sizes(asked)) = extensions.get() {
        asked.ask_size(max);
    }
}

/// Asks the outer gates for the time of a gate, exposes its deadline, and lets inner gates ask if
/// it is raisable. `None` if the time may begin later.
///
/// Generic callers see its body: the optimiser knows then that the request does not escape, and
/// does not copy it.
#[cold]
#[inline]
pub(crate) fn deadline(extensions: &mut Extensions, time: Time) -> Option<Due> {
    let is_raisable = time.most > time.nanos && !time.is_callers;
    let outer = extensions.get::<Times>().cloned();
    if !(time.is_callers || time.is_exposed || is_raisable || outer.is_some()) {
        return None;
    }
    let own = (time.nanos != u64::MAX).then(|| due(time.nanos));
    let (mut asked, mut bound, mut exposed) = (None, None, None);
    if let Some(outer) = outer {
        outer.asked.ask_time(own);
        (asked, bound, exposed) = (Some(outer.asked), outer.bound, outer.exposed);
    }
    let known = extensions.get::<Deadline>().copied();
    if known != exposed {
        // That of another layer.
        bound = earlier(bound, known);
    }
    let shown = earlier(bound, own.map(Deadline::new));
    if time.is_exposed || exposed.is_some() {
        match shown {
            Some(shown) => extensions.insert(shown),
            None => extensions.remove(),
        };
        exposed = shown;
    }
    let mut later = None;
    if is_raisable {
        let by = Asked::inside(asked);
        let most = due(time.most);
        let most = bound.map_or(most, |bound| bound.at().min(most));
        asked = Some(by.clone());
        bound = Some(Deadline::new(most));
        later = Some(Box::new(move || by.time().min(most)) as _);
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
    let at = match shown {
        Some(shown) if time.is_exposed => shown.at(),
        _ => own,
    };
    Some(Due { at, later })
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

    /// `None` is for ever.
    fn ask_time(&self, at: Option<Instant>) {
        let time = at.map_or(Duration::MAX, |at| at.saturating_duration_since(self.since));
        self.value.fetch_max(clock::nanos(time), Relaxed);
        if let Some(outer) = &self.outer {
            outer.ask_time(at);
        }
    }

    fn time(&self) -> Instant {
        let time = Duration::from_nanos(self.value.load(Relaxed));
        self.since + time.min(clock::FAR)
    }
}

// === impl RaisableSize ===

impl RaisableSize {
    /// A size of `max`, which inner gates may raise to `most`. The body has `granted` for now.
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

    /// How many bytes more are granted now, because an inner gate limits the body to more.
    pub(crate) fn take_more(&mut self) -> u64 {
        if self.asked.value.load(Relaxed) <= self.max {
            return 0;
        }
        let before = std::mem::replace(&mut self.granted, self.most);
        self.most - before
    }
}
