//! Deadlines for requests and for response bodies.
//!
//! # Where it goes
//!
//! Outside the concurrency limit, so that the time in its queue counts. Inside a circuit breaker,
//! so that the breaker counts a timeout as a failure. See [the order of layers](crate#the-layers).
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use seawall::TimeoutLayer;
//!
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .layer(
//!         TimeoutLayer::new(Duration::from_secs(5)).per_request(|head| {
//!             head.path().starts_with("/reports/").then_some(Duration::from_secs(60))
//!         }),
//!     );
//! # let _ = app;
//! ```
//!
//! The time starts when the call is first pending, and ends with the response head. It starts with
//! the call instead if a `grpc-timeout` applies, if the layer has `expose_deadline`, or if this
//! timeout or one around it is [`raisable`](TimeoutSettings::raisable_to()). If the response head
//! and the timer are ready at the same poll, the layer returns the head, also after the runtime was
//! blocked. A timer that is overdue by more than 100 ms waits once more for 100 ms. A call that is
//! ready at its first poll costs no timer and no clock read.
//!
//! # The caller's timeout
//!
//! Over gRPC, the caller's `grpc-timeout` applies if it is shorter than the layer's time: until the
//! response head, or with [`including_body`](crate::GateLayer::including_body) until the trailers.
//!
//! - An outer circuit breaker ignores such a timeout, also for a stream whose head was sent. If
//!   another task reads the response body, the breaker does not know the cause of the trailers, and
//!   counts a failure.
//! - The layer answers earlier than the caller asks: by 1/64 of the time, but by less than 1 ms.
//!   Tonic's server counts the same time, and would otherwise answer `CANCELLED` first.
//! - The layer ignores a value that it cannot read, and counts it ([`TimeoutSnapshot::malformed`]).
//!
//! # Response bodies
//!
//! By default, bodies have no timeout. Set one deadline for head and body
//! ([`including_body`](crate::GateLayer::including_body)), or bound the silence of the handler
//! ([`idle_timeout`](ResponseBodyTimeoutSettings::idle_timeout())) and of the client
//! ([`progress_timeout`](ResponseBodyTimeoutSettings::progress_timeout())):
//!
//! ```
//! use std::time::Duration;
//! use seawall::{ResponseBodyTimeout, ResponseBodyTimeoutSettings, TimeoutLayer};
//!
//! let minute = Duration::from_secs(60);
//! let settings = ResponseBodyTimeoutSettings::default()
//!     .idle_timeout(minute)
//!     .progress_timeout(minute);
//! let bodies = ResponseBodyTimeout::new(settings)?;
//! let layer = TimeoutLayer::new(Duration::from_secs(5)).response_body_timeout(bodies.clone());
//!
//! // While the server runs:
//! bodies.set(bodies.settings().progress_timeout(Duration::from_secs(10)))?;
//! # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
//! # fits_a_router(layer);
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! A body whose time is over ends with a [`BodyError`](crate::BodyError), so that the client sees
//! that the body is incomplete. Over gRPC it ends with trailers and `DEADLINE_EXCEEDED`.
//!
//! One task for each runtime watches the bodies, so that no body has a timer. It watches a body of
//! unknown size or above 64 KiB from the response head on. It watches a smaller body from its first
//! poll on, unless that poll returns the last frame, which releases the permit. The task drops a
//! body and releases its permit within half a second after its time is over, even if the connection
//! does not poll it, for example because the client does not read. Until the task drops the body,
//! the layer delivers frames that are ready, but at most 64 after the deadline. Each frame restarts
//! the idle timeout and the progress timeout.
//!
//! Each body that is watched costs one allocation, and the layer copies its frames above 64 KiB
//! into slices of 16 KiB. A layer with a [`ResponseBodyTimeout`] needs response bodies that are
//! `Send`, `Unpin` and `'static`, whatever its settings are.
//!
//! With [`expose_deadline`](crate::GateLayer::expose_deadline), handlers and inner layers find the
//! deadline in the extensions of the request, as a [`Deadline`](crate::Deadline). The queue of a
//! [`ConcurrencyLimit`](crate::ConcurrencyLimit) in an inner layer then rejects a request at that
//! time, with 503 (`queue_timeout`) instead of 504. A handler can pass the remaining time on to the
//! services that it calls.
//!
//! If you nest timeouts, the shorter one applies, and its layer answers. If both layers expose
//! their deadlines, the inner one answers at the earlier deadline. An inner layer can raise an
//! outer timeout that is [`raisable`](TimeoutSettings::raisable_to()).
//!
//! # Cost
//!
//! A call that is ready at its first poll costs one atomic load for the duration. A pending call
//! also costs a clock read and a timer from a pool of its thread: no allocation, unless the pool is
//! empty. An exposed deadline costs an allocation. For response bodies, see above. The figures are
//! in [`cost`](crate::docs::cost).
//!
//! # Cancellation
//!
//! Dropping the future drops the inner future and releases the timer. When the deadline passes, the
//! layer drops the inner future, which cancels what it awaits; tasks that it has spawned go on.
//!
//! # Panics
//!
//! Outside a Tokio runtime with a time driver, a pending call panics. If the time starts with the
//! call (see above), every such `call` panics, also with panic isolation. Without such a runtime,
//! no task ends response bodies.
//!
//! # Differences from tower 0.5 and tower-http 0.7
//!
//! `tower::timeout` returns a boxed error, so that axum needs a `HandleErrorLayer`. Here the answer
//! is a response, and the service stays infallible. `tower_http::timeout` registers its timer
//! before the first poll, answers the same status over gRPC, and has one duration for all requests.
//! Its timeout for bodies is a second layer with its own timer; it has no deadline for the whole
//! response, and runs only while the connection polls the body.

#[cfg(feature = "http")]
mod body;
mod layer;
mod settings;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[cfg(feature = "http")]
pub use self::body::{ResponseBodyTimeout, ResponseBodyTimeoutSnapshot};
#[cfg(feature = "http")]
pub use self::settings::ResponseBodyTimeoutSettings;
pub use self::settings::TimeoutSettings;
use crate::clock;
use crate::config::{ConfigError, Configurable, Current, Settings};
use crate::gate::GateLayer;
use crate::observe::{Reporter, table};
use crate::policy::{Admission, Budget, NoWait, Parts, PerRequest, Policy, Time, Timed};
use crate::protocol::Http;
use crate::request::{CallersTime, RequestKind};

/// A layer that answers 504 (gRPC `DEADLINE_EXCEEDED`) when a [`Timeout`] passes before the
/// response head; 408 if a gate with a request limit reports that the service waits for the request
/// body.
pub type TimeoutLayer<X = Http> = GateLayer<Timeout, X>;

/// The time that a request has until its response head. A cheap `Clone` with shared settings.
#[derive(Clone)]
pub struct Timeout {
    shared: Arc<Shared>,
    exposes: bool,
}

struct Shared {
    settings: Current<TimeoutSettings>,
    /// The duration of the settings, as a [`Time`].
    time: AtomicU64,
    /// The upper bound, in nanoseconds, up to which inner gates may raise the time.
    #[cfg(feature = "http")]
    most: AtomicU64,
    malformed: AtomicU64,
    reporter: Reporter,
}

/// The state of a [`Timeout`] at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TimeoutSnapshot {
    /// The default time of a request.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub duration: Duration,
    /// The number of requests so far whose deadline passed, or whose response body was ended by the
    /// `ResponseBodyTimeout` of the same layer or stack.
    pub timed_out: u64,
    /// The number of requests so far whose `grpc-timeout` was not readable.
    pub malformed: u64,
}

// === impl Timeout ===

impl Timeout {
    /// Makes a timeout from a `Duration` or from [`TimeoutSettings`].
    ///
    /// # Errors
    ///
    /// Returns an error if the duration is above [`raisable_to`](TimeoutSettings::raisable_to()).
    pub fn new(settings: impl Into<TimeoutSettings>) -> Result<Self, ConfigError> {
        let settings = settings.into();
        settings.check()?;
        Ok(Self::from_checked(settings))
    }

    fn from_checked(settings: TimeoutSettings) -> Self {
        let this = Self {
            shared: Arc::new(Shared {
                time: AtomicU64::new(0),
                #[cfg(feature = "http")]
                most: AtomicU64::new(0),
                malformed: AtomicU64::new(0),
                reporter: Reporter::new("timeout"),
                settings: Current::new(settings.clone()),
            }),
            exposes: false,
        };
        this.publish(&settings);
        this.replaced();
        this
    }

    /// Names the timeout in rejections, metrics and events. A second call has no effect.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.shared.reporter.set_name(name);
        self
    }

    /// The name; empty if it has none.
    pub fn name(&self) -> &str {
        self.shared.reporter.name()
    }

    /// The default time of a request. A time above 146 years reads as [`Duration::MAX`].
    #[inline]
    pub fn duration(&self) -> Duration {
        match self.usual().nanos() {
            u64::MAX => Duration::MAX,
            nanos => Duration::from_nanos(nanos),
        }
    }

    /// The current settings.
    pub fn settings(&self) -> TimeoutSettings {
        self.shared.settings.get()
    }

    /// Replaces the settings for later requests.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new), and then changes nothing.
    pub fn set(&self, settings: TimeoutSettings) -> Result<(), ConfigError> {
        self.change(|_| settings)
    }

    /// Changes the time for later requests.
    ///
    /// # Errors
    ///
    /// Returns an error if `duration` is above [`raisable_to`](TimeoutSettings::raisable_to()), and
    /// then changes nothing.
    pub fn set_duration(&self, duration: Duration) -> Result<(), ConfigError> {
        self.change(|settings| TimeoutSettings {
            duration,
            ..settings
        })
    }

    /// The time and the counters. For all settings, see [`settings`](Self::settings).
    pub fn snapshot(&self) -> TimeoutSnapshot {
        TimeoutSnapshot {
            duration: self.duration(),
            timed_out: self.shared.reporter.rejected(),
            malformed: self.shared.malformed.load(Relaxed),
        }
    }

    #[cfg(feature = "http")]
    pub(crate) fn exposed(mut self) -> Self {
        self.exposes = true;
        self
    }

    /// The default time of a request.
    #[inline(always)]
    fn usual(&self) -> Time {
        Time(self.shared.time.load(Relaxed))
    }

    /// The time of a request: `ours`, by default the usual one, or less if the caller asks for
    /// less.
    #[inline(always)]
    fn token<R: RequestKind>(&self, ours: Option<Duration>, head: &R::Head<'_>) -> Time {
        let ours = ours.map_or_else(|| self.usual(), Time::ours);
        let time = match R::callers_time(head) {
            CallersTime::None => ours,
            callers => self.callers_time(ours, callers),
        };
        if self.exposes {
            return time.unusual();
        }
        time
    }

    #[cold]
    fn callers_time(&self, ours: Time, callers: CallersTime) -> Time {
        match callers {
            CallersTime::For(time) if clock::nanos(time) < ours.nanos() => Time::callers(time),
            CallersTime::None | CallersTime::For(_) => ours,
            CallersTime::Malformed => {
                self.shared.malformed.fetch_add(1, Relaxed);
                self.shared.reporter.malformed_timeout();
                ours
            }
        }
    }
}

impl Configurable for Timeout {
    type Settings = TimeoutSettings;

    fn current(&self) -> &Current<TimeoutSettings> {
        &self.shared.settings
    }

    /// A request that comes meanwhile may find the new time and the old bound of a raised one; it
    /// then has one of the two times.
    fn publish(&self, settings: &TimeoutSettings) {
        #[cfg(feature = "http")]
        {
            if settings.raisable_to.is_some() {
                crate::raise::use_it();
            }
            self.shared.most.store(settings.most(), Relaxed);
        }
        let time = Time::ours(settings.duration);
        self.shared.time.store(time.0, Relaxed);
    }

    fn replaced(&self) {
        let seconds = self.settings().duration.as_secs_f64();
        self.shared.reporter.show_setting(table::TIMEOUT, seconds);
    }
}

impl From<Duration> for Timeout {
    fn from(duration: Duration) -> Self {
        Self::from_checked(TimeoutSettings::new(duration))
    }
}

impl<R: RequestKind> Policy<R> for Timeout {
    type Token = Time;
    type Wait = NoWait<Time, Timed>;

    const IS_OURS: bool = true;

    #[inline(always)]
    fn admit(&self, head: &R::Head<'_>) -> Admission<Time, Self::Wait> {
        Admission::Admit(self.token::<R>(None, head))
    }

    fn register(&self) {
        self.shared.reporter.register();
    }

    #[inline(always)]
    fn parts<'a>(&'a self, time: Option<&'a Time>) -> Parts<'a> {
        let time = time.copied().unwrap_or(Time(0));
        Parts {
            deadline: Some(Budget {
                reporter: &self.shared.reporter,
                time,
                #[cfg(feature = "http")]
                most: self.shared.most.load(Relaxed),
                #[cfg(feature = "http")]
                is_exposed: self.exposes,
            }),
            ..Parts::default()
        }
    }
}

impl<R, F, O> Policy<R> for PerRequest<Timeout, F>
where
    R: RequestKind,
    F: Fn(&R::Head<'_>) -> O + Clone,
    O: Into<Option<Duration>>,
{
    type Token = Time;
    type Wait = NoWait<Time, Timed>;

    #[inline(always)]
    fn admit(&self, head: &R::Head<'_>) -> Admission<Time, Self::Wait> {
        let time = (self.rule)(head).into();
        Admission::Admit(self.policy.token::<R>(time, head))
    }

    fn register(&self) {
        self.policy.shared.reporter.register();
    }

    #[inline(always)]
    fn parts<'a>(&'a self, time: Option<&'a Time>) -> Parts<'a> {
        Policy::<R>::parts(&self.policy, time)
    }
}

impl AsMut<Timeout> for Timeout {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

impl<F> AsMut<Timeout> for PerRequest<Timeout, F> {
    fn as_mut(&mut self) -> &mut Timeout {
        &mut self.policy
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("duration", &self.duration())
            .field("reporter", &self.shared.reporter)
            .finish_non_exhaustive()
    }
}
