//! At most so many requests at once; the rest is turned away, or waits in a bounded room.
//!
//! # Where it goes
//!
//! Inside the time-out, so that waiting counts, and outside whatever it protects; see
//! [the order of layers](crate#the-order-of-layers).
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer};
//!
//! let limit = ConcurrencyLimit::new(512).wait(128, Duration::from_millis(100));
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .layer(ConcurrencyLimitLayer::new(limit.clone()));
//!
//! limit.set_limit(1024)?; // while it runs
//! assert_eq!((limit.limit(), limit.in_flight(), limit.waiting()), (1024, 0, 0));
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! It counts requests that await. A handler that computes keeps its worker, so that the next request is not even read and
//! the limit never fills: computing belongs in `spawn_blocking`, or behind a [`LagShed`](crate::LagShed), which sees it.
//!
//! It may wait, and so counts as a policy that waits even without a room: it is the last in a tuple, and its service is
//! `Clone`. For two limits use two gates.
//!
//! # How long a place is held
//!
//! Until the response body has ended or is dropped, not until the response head. A request that is upgraded (101) is over
//! at the head; whoever wants to count the connection that follows takes a place of its own with
//! [`try_acquire`](ConcurrencyLimit::try_acquire).
//!
//! # Cancellation
//!
//! A request that is dropped while it waits is gone from the room at once; one that was just served hands its place on.
//!
//! # Panics
//!
//! A panic of the inner service gives the place back while it unwinds. A request that has to wait panics outside a Tokio
//! runtime with a time driver.
//!
//! # Differences from tower
//!
//! `tower::limit::ConcurrencyLimit` takes the permit in `poll_ready`, so that an idle clone holds one; gives it back at the
//! response head; waits without bound; and makes its semaphore in `Layer::layer`, so that under axum a limit of 2 is 2 per
//! route or per connection. Here the handle is the limit, wherever and however often its layer is applied.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::clock;
use crate::config::ConfigError;
use crate::control::limit::{self, Joined, Limiter};
use crate::control::queue::Place;
use crate::deadline::Deadline;
use crate::gate::GateLayer;
use crate::observe::Meter;
use crate::policy::{Admission, Interest, Policy, Ticket, WaitFor};
use crate::protocol::{Http, View};
use crate::rejection::{Reason, Rejection};

/// Puts a [`ConcurrencyLimit`] in front of a service: `ConcurrencyLimitLayer::new(512)`, or `::new(limit.clone())`.
pub type ConcurrencyLimitLayer<X = Http> = GateLayer<ConcurrencyLimit, X>;

/// At most so many requests at once. A cheap `Clone`: every clone is the same limit.
///
/// By default a request that finds no place is turned away at once (503, `Retry-After`): under overload a queue only adds
/// its own length to every response time. [`wait`](Self::wait) lets a few wait for a short while, which evens out bursts.
#[derive(Clone)]
pub struct ConcurrencyLimit {
    shared: Arc<Shared>,
}

struct Shared {
    limiter: Limiter<Option<Waker>>,
    max_waiting: AtomicUsize,
    max_wait_nanos: AtomicU64,
    meter: Meter,
}

/// A place among those in flight; given back when it is dropped.
#[must_use = "the place is given back when the permit is dropped"]
pub struct Permit {
    shared: Arc<Shared>,
}

pin_project! {
    /// A request in the waiting room of a [`ConcurrencyLimit`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Waiting {
        shared: Arc<Shared>,
        place: Option<Place>,
        max_wait: Duration,
        deadline: Option<Deadline>,
        #[pin]
        timer: Option<Sleep>,
    }

    impl PinnedDrop for Waiting {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(place) = this.place.take() {
                if this.shared.forget(place) {
                    this.shared.leave();
                }
            }
        }
    }
}

/// What a [`ConcurrencyLimit`] is doing now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ConcurrencyLimitSnapshot {
    /// Places there are.
    pub limit: usize,
    /// Requests that hold one.
    pub in_flight: usize,
    /// Requests that wait for one.
    pub waiting: usize,
    /// Requests turned away so far.
    pub rejected: u64,
    /// Requests that a layer in dry run would have turned away so far.
    pub would_reject: u64,
}

// === impl ConcurrencyLimit ===

impl ConcurrencyLimit {
    /// What a rejected caller is asked to stay away for, before jitter: places become free within one service time, which
    /// is rarely above a second, and a second is the least that `Retry-After` can say.
    const RETRY_AFTER: Duration = Duration::from_secs(1);

    /// A limit of `limit` requests at once.
    ///
    /// # Panics
    ///
    /// If `limit` is 0 or above 2³¹ − 1; [`try_new`](Self::try_new) returns the error instead.
    #[track_caller]
    pub fn new(limit: usize) -> Self {
        match Self::try_new(limit) {
            Ok(this) => this,
            Err(error) => panic!("{error}"),
        }
    }

    /// A limit of `limit` requests at once.
    ///
    /// # Errors
    ///
    /// If `limit` is 0 or above 2³¹ − 1.
    pub fn try_new(limit: usize) -> Result<Self, ConfigError> {
        Ok(Self {
            shared: Arc::new(Shared {
                limiter: Limiter::new(Self::check(limit)?),
                max_waiting: AtomicUsize::new(0),
                max_wait_nanos: AtomicU64::new(0),
                meter: Meter::new("concurrency_limit"),
            }),
        })
    }

    /// Lets up to `max_waiting` requests wait for a place, in the order they came, each for at most `max_wait`.
    ///
    /// A request with a [`Deadline`] waits no longer than that.
    ///
    /// Waiting happens in the call's own future, which must be polled on a Tokio runtime with a time driver; a time-out
    /// around this layer includes it. A `max_waiting` of 0, the
    /// default, rejects at once. Every clone of the handle has the same room.
    #[must_use]
    pub fn wait(self, max_waiting: usize, max_wait: Duration) -> Self {
        self.set_wait(max_waiting, max_wait);
        self
    }

    /// Names the limit in rejections, metrics and events. The first name stays.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.shared.meter.set_name(name);
        self
    }

    /// Changes the limit while requests run. Raised, it lets in who waits; lowered, it turns nobody out: `in_flight` stays
    /// above the limit until enough have ended.
    ///
    /// # Errors
    ///
    /// If `limit` is 0 or above 2³¹ − 1; nothing is changed then.
    pub fn set_limit(&self, limit: usize) -> Result<(), ConfigError> {
        self.shared.limiter.set_limit(Self::check(limit)?);
        self.shared.meter.limit_changed(limit);
        while let Some(waker) = self.shared.limiter.serve() {
            wake(waker);
        }
        Ok(())
    }

    /// Changes the waiting room for the requests to come; see [`wait`](Self::wait).
    pub fn set_wait(&self, max_waiting: usize, max_wait: Duration) {
        let nanos = clock::nanos(max_wait);
        self.shared.max_wait_nanos.store(nanos, Relaxed);
        self.shared.max_waiting.store(max_waiting, Relaxed);
    }

    /// How many requests may be in flight.
    pub fn limit(&self) -> usize {
        self.shared.limiter.occupancy().limit() as usize
    }

    /// How many requests hold a place.
    pub fn in_flight(&self) -> usize {
        self.shared.limiter.occupancy().in_flight() as usize
    }

    /// How many requests wait for a place.
    pub fn waiting(&self) -> usize {
        self.shared.limiter.waiting()
    }

    /// All of it at once.
    pub fn snapshot(&self) -> ConcurrencyLimitSnapshot {
        let occupancy = self.shared.limiter.occupancy();
        ConcurrencyLimitSnapshot {
            limit: occupancy.limit() as usize,
            in_flight: occupancy.in_flight() as usize,
            waiting: self.waiting(),
            rejected: self.shared.meter.rejected(),
            would_reject: self.shared.meter.would_reject(),
        }
    }

    /// Takes a place for work that is no request of a Tower service, say a WebSocket connection. Never waits.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] if there is no place, or if others wait for one. It is not counted as a rejected request.
    pub fn try_acquire(&self) -> Result<Permit, Rejection> {
        if self.shared.limiter.try_enter() {
            Ok(Permit::new(self.shared.clone()))
        } else {
            Err(self.shared.rejection(Reason::Full))
        }
    }

    fn check(limit: usize) -> Result<u32, ConfigError> {
        let limit = ConfigError::check("limit", limit, 1..=limit::MAX as usize)?;
        Ok(u32::try_from(limit).unwrap_or(limit::MAX))
    }

    #[cold]
    fn admit_when_full(&self, deadline: Option<Deadline>) -> Admission<Permit, WaitFor<Waiting>> {
        let shared = &self.shared;
        let max_waiting = shared.max_waiting.load(Relaxed);
        if max_waiting == 0 {
            return Admission::Reject(shared.rejection(Reason::Full));
        }
        match shared.limiter.join(max_waiting, None) {
            Joined::Entered => Admission::Admit(Permit::admitted(shared.clone())),
            Joined::Full => Admission::Reject(shared.rejection(Reason::Full)),
            Joined::Waiting(place) => {
                let waiting = Waiting {
                    shared: shared.clone(),
                    place: Some(place),
                    max_wait: Duration::from_nanos(shared.max_wait_nanos.load(Relaxed)),
                    deadline,
                    timer: None,
                };
                shared.meter.waiting(true);
                Admission::Wait(WaitFor::new(waiting, shared.rejection(Reason::Full)))
            }
        }
    }
}

impl From<usize> for ConcurrencyLimit {
    /// [`ConcurrencyLimit::new`]; panics where it does.
    fn from(limit: usize) -> Self {
        Self::new(limit)
    }
}

impl<V: View> Policy<V> for ConcurrencyLimit {
    type Ticket = Permit;
    type Wait = WaitFor<Waiting>;

    #[inline]
    fn admit(&self, head: &V::Head<'_>) -> Admission<Permit, WaitFor<Waiting>> {
        if self.shared.limiter.try_enter() {
            Admission::Admit(Permit::admitted(self.shared.clone()))
        } else {
            self.admit_when_full(V::deadline(head))
        }
    }
}

impl fmt::Debug for ConcurrencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

// === impl Shared ===

impl Shared {
    fn rejection(&self, reason: Reason) -> Rejection {
        self.meter
            .reject(reason)
            .with_retry_after(ConcurrencyLimit::RETRY_AFTER)
    }

    fn forget(&self, place: Place) -> bool {
        let served = self.limiter.forget(place);
        self.meter.waiting(false);
        served
    }

    #[inline]
    fn leave(&self) {
        if let Some(waker) = self.limiter.leave() {
            wake(waker);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let occupancy = self.limiter.occupancy();
        f.debug_struct("ConcurrencyLimit")
            .field("limit", &occupancy.limit())
            .field("in_flight", &occupancy.in_flight())
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}

/// A waiter that has not been polled yet has nothing to wake: it finds itself served at its first poll.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

// === impl Permit ===

impl Permit {
    #[inline]
    fn new(shared: Arc<Shared>) -> Self {
        // The permit first: whatever a metrics recorder does, the place comes back.
        let this = Self { shared };
        let shared = &this.shared;
        shared
            .meter
            .entered(|| shared.limiter.occupancy().limit() as usize);
        this
    }

    /// A permit for a request, which is counted.
    #[inline]
    fn admitted(shared: Arc<Shared>) -> Self {
        let this = Self::new(shared);
        this.shared.meter.admitted();
        this
    }
}

impl Ticket for Permit {
    #[inline]
    fn interest(&self) -> Interest {
        Interest::End
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        self.shared.leave();
        self.shared.meter.left();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.shared).finish()
    }
}

// === impl Waiting ===

impl Future for Waiting {
    type Output = Result<Permit, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let place = this.place.as_ref().expect("polled after completion");
        let served = this.shared.limiter.is_served(place, |waker| match waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        });
        if !served {
            if this.timer.is_none() {
                let mut due = clock::now() + (*this.max_wait).min(clock::FAR);
                if let Some(deadline) = this.deadline {
                    // At the same time as a time-out around it, which asks here first: the room knows better why.
                    due = due.min(deadline.at());
                }
                this.timer.set(Some(clock::sleep_until(due)));
            }
            let timer = this.timer.as_pin_mut().expect("it was just set");
            ready!(clock::poll(timer, cx));
        }
        let place = this.place.take().expect("it was just there");
        // Asked once more under the lock: who was served at the last moment keeps the place.
        Poll::Ready(if this.shared.forget(place) {
            Ok(Permit::admitted(this.shared.clone()))
        } else {
            Err(this.shared.rejection(Reason::QueueTimeout))
        })
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("max_wait", &self.max_wait)
            .field("limit", &self.shared)
            .finish_non_exhaustive()
    }
}
