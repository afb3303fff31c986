//! The handle of a drain, its policy and its layer.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::settings::DrainSettings;
use crate::clock;
use crate::config::{ConfigError, Configurable, Current, Settings};
use crate::control::drain::State;
use crate::cutoff::Cutoff;
use crate::gate::GateLayer;
use crate::label::labels;
use crate::observe::Reporter;
use crate::outcome::Completion;
use crate::policy::{Admission, Drained, NoWait, Parts, Permit, Policy};
use crate::protocol::Http;
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::request::{PlainRequest, RequestKind};
use crate::unwind;

/// A layer that puts a [`Drain`] in front of a service: `DrainLayer::new(drain.clone())`.
pub type DrainLayer<X = Http> = GateLayer<Drain, X>;

/// Ends a service without cutting requests off. A cheap `Clone`: all clones are the same drain.
///
/// The [module docs](super) describe its states. `Drain::default()` has the default
/// [`DrainSettings`].
#[derive(Clone)]
pub struct Drain {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) state: State,
    /// The origin of the times in `state`.
    origin: Instant,
    settings: Current<DrainSettings>,
    /// The drain has begun, or its last request is over.
    pub(super) changed: Notify,
    pub(super) cutoff: Cutoff,
    pub(super) reporter: Reporter,
}

/// The state of a [`Drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum DrainState {
    /// The drain has not begun.
    Serving,
    /// The drain has begun, and the service still serves requests.
    LameDuck,
    /// The lame-duck time is over, and the drain rejects requests. With
    /// [`serve`](Drain::serve), it still admits those of one more second.
    Rejecting,
}

/// The state of a [`Drain`] and its counters at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DrainSnapshot {
    /// The state.
    pub state: DrainState,
    /// The number of requests whose response body has not ended, and of permits.
    pub in_flight: usize,
    /// The number of response bodies that the drain ended because the grace period was over.
    pub cut: u64,
    /// The number of requests rejected so far.
    pub rejected: u64,
}

// === impl DrainState ===

labels!(DrainState {
    DrainState::Serving => "serving",
    DrainState::LameDuck => "lame_duck",
    DrainState::Rejecting => "rejecting",
});

// === impl Drain ===

impl Drain {
    /// Makes a drain that has not begun, from [`DrainSettings`] or from a `Duration` for the
    /// lame-duck time.
    ///
    /// # Errors
    ///
    /// Returns an error if the lame-duck time is not in 1 s to a day.
    pub fn new(settings: impl Into<DrainSettings>) -> Result<Self, ConfigError> {
        let settings = settings.into();
        settings.check()?;
        let reporter = Reporter::new("drain");
        Ok(Self {
            shared: Arc::new(Shared {
                state: State::new(),
                origin: clock::now(),
                settings: Current::new(settings),
                changed: Notify::new(),
                cutoff: Cutoff::new(reporter.clone()),
                reporter,
            }),
        })
    }

    /// Names the drain in rejections, metrics and events. A second call has no effect.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.shared.reporter.set_name(name);
        self
    }

    /// The name; empty if it has none.
    pub fn name(&self) -> &str {
        self.shared.reporter.name()
    }

    /// The current settings.
    pub fn settings(&self) -> DrainSettings {
        self.shared.settings.get()
    }

    /// Replaces the settings. A drain that has begun keeps its lame-duck time.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new), and then changes nothing.
    pub fn set(&self, settings: DrainSettings) -> Result<(), ConfigError> {
        self.change(|_| settings)
    }

    /// Begins the drain. Call it when the process must end, for example at SIGTERM, from any
    /// thread. A second call has no effect.
    pub fn begin(&self) {
        let shared = &self.shared;
        let lame_duck = self.settings().lame_duck;
        if shared.state.begin(shared.now(), clock::nanos(lame_duck)) {
            shared.cutoff.close_connections();
            shared.notify();
            shared.reporter.drain_began(lame_duck);
        }
    }

    /// Returns whether the drain has begun. The service is then not ready for new clients.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.shared.state.is_draining()
    }

    /// The state of the drain.
    pub fn state(&self) -> DrainState {
        let shared = &self.shared;
        if !shared.state.is_draining() {
            DrainState::Serving
        } else if shared.is_over() {
            DrainState::Rejecting
        } else {
            DrainState::LameDuck
        }
    }

    /// The number of requests in flight: those whose response body has not ended, and permits.
    pub fn in_flight(&self) -> usize {
        self.shared.state.in_flight()
    }

    /// The state and the counters.
    pub fn snapshot(&self) -> DrainSnapshot {
        DrainSnapshot {
            state: self.state(),
            in_flight: self.in_flight(),
            cut: self.shared.cutoff.ended(),
            rejected: self.shared.reporter.rejected(),
        }
    }

    /// Takes a permit for work that is not a request of a Tower service, for example a WebSocket
    /// connection or a background task. The permit counts as an admitted request.
    /// [`wait_idle`](Self::wait_idle) waits until it is dropped.
    ///
    /// # Errors
    ///
    /// Returns a [`Rejection`] when the drain rejects requests. It counts as rejected.
    pub fn try_acquire(&self) -> Result<Permit<&Self>, Rejection> {
        self.acquire(self)
    }

    /// Takes a permit as [`try_acquire`](Self::try_acquire) does. You can send it to another task.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`try_acquire`](Self::try_acquire).
    pub fn try_acquire_owned(&self) -> Result<Permit<Self>, Rejection> {
        self.acquire(self.clone())
    }

    /// Takes a permit of `policy`, which is this drain.
    fn acquire<P>(&self, policy: P) -> Result<Permit<P>, Rejection>
    where
        P: Policy<PlainRequest<()>, Token = ()>,
    {
        let enters = self.shared.enters();
        let taken = enters.then_some(()).ok_or_else(|| self.rejection());
        Permit::counted(policy, taken, &self.shared.reporter)
    }

    #[cold]
    #[inline(never)]
    fn rejection(&self) -> Rejection {
        self.shared.reporter.reject(Reason::Draining)
    }
}

impl Configurable for Drain {
    type Settings = DrainSettings;

    fn current(&self) -> &Current<DrainSettings> {
        &self.shared.settings
    }
}

impl Default for Drain {
    /// Makes a drain with the default [`DrainSettings`].
    fn default() -> Self {
        Self::new(DrainSettings::default()).expect("the defaults are valid")
    }
}

impl<R: RequestKind> Policy<R> for Drain {
    type Token = ();
    type Wait = NoWait<(), Drained>;

    const IS_OURS: bool = true;

    #[inline(always)]
    fn admit(&self, _: &R::Head<'_>) -> Admission<(), Self::Wait> {
        if self.shared.enters() {
            Admission::Admit(())
        } else {
            Admission::Reject(self.rejection())
        }
    }

    fn register(&self) {
        self.shared.reporter.register();
    }

    #[inline(always)]
    fn release(&self, (): &mut (), _: Completion) {
        self.shared.leave();
    }

    #[inline(always)]
    fn parts<'a>(&'a self, _: Option<&'a ()>) -> Parts<'a> {
        Parts {
            #[cfg(feature = "http")]
            cutoff: Some(&self.shared.cutoff),
            ..Parts::default()
        }
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("state", &self.state())
            .field("in_flight", &self.in_flight())
            .field("reporter", &self.shared.reporter)
            .finish_non_exhaustive()
    }
}

// === impl DrainLayer ===

impl DrainLayer {
    /// A layer that drains a service with this handle.
    pub fn new(drain: impl Into<Drain>) -> Self {
        Self::from_handle(drain.into(), |drain| &drain.shared.reporter)
    }
}

// === impl Shared ===

impl Shared {
    fn now(&self) -> u64 {
        let since = clock::now().saturating_duration_since(self.origin);
        clock::nanos(since)
    }

    /// Returns whether the drain rejects requests now.
    pub(super) fn rejects(&self) -> bool {
        // Before the drain begins, no clock is read.
        self.state.over_at().is_some() && self.state.rejects(self.now())
    }

    /// Whether the lame-duck time is over.
    pub(super) fn is_over(&self) -> bool {
        self.state.is_over(self.now())
    }

    /// The rest of the lame-duck time, if the drain has begun.
    pub(super) fn lame_duck_left(&self) -> Option<Duration> {
        let left = self.state.over_at()?.saturating_sub(self.now());
        Some(Duration::from_nanos(left))
    }

    /// The time until the drain rejects requests, after it has begun.
    pub(super) fn admits_for(&self) -> Duration {
        Duration::from_nanos(self.state.admits_for(self.now()))
    }

    /// Counts a request, unless the drain rejects it.
    #[inline(always)]
    fn enters(&self) -> bool {
        if self.state.is_draining() {
            return self.enters_late(false);
        }
        !self.state.enter() || self.enters_late(true)
    }

    /// The path after the drain has begun. It does not count a request that it rejects, so that
    /// many of them do not keep the drain from being idle.
    #[cold]
    #[inline(never)]
    fn enters_late(&self, is_counted: bool) -> bool {
        if !is_counted {
            if self.rejects() {
                return false;
            }
            self.state.enter();
        }
        // Checks again after the request is counted. Every admitted request is therefore counted
        // before the lame-duck time is over, and tasks that wait for the last request see it.
        if self.rejects() {
            self.leave();
            return false;
        }
        true
    }

    #[inline(always)]
    fn leave(&self) {
        if self.state.leave() {
            self.notify();
        }
    }

    /// Wakes the futures that wait. A waker that panics does not end the request of this thread;
    /// Tokio may then not wake the others.
    #[cold]
    #[inline(never)]
    fn notify(&self) {
        unwind::without_panics(|| self.changed.notify_waiters());
    }
}
