//! A limit for the requests in flight, with an optional queue for a short time.
//!
//! # Where it goes
//!
//! Inside the timeout, so that the time in the queue counts, and outside the service that it
//! protects; see [the order of layers](crate#the-layers).
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings};
//!
//! let settings = ConcurrencyLimitSettings::fixed(512).queue(128, Duration::from_millis(100));
//! let limit = ConcurrencyLimit::new(settings)?;
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .layer(ConcurrencyLimitLayer::new(limit.clone()));
//!
//! limit.set_limit(1024)?; // while it runs
//! assert_eq!((limit.limit(), limit.in_flight(), limit.queued()), (1024, 0, 0));
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! A handler that computes without an `.await` blocks its worker thread. The server then does not
//! read other requests, and does not reach the limit. Run such work with
//! `spawn_blocking`, or put a [`LagShed`](crate::LagShed) around it.
//!
//! The limit is a policy that may wait, even without a queue: it must be the last policy in a
//! tuple, and its inner service must be `Clone`. To use two limits, nest two layers.
//!
//! # How long a permit is held
//!
//! A request holds its permit until the response body has ended or is dropped, not until the
//! response head. A request that is upgraded (101) releases its permit at the head. To count the
//! connection that follows, take a permit with
//! [`try_acquire_owned`](ConcurrencyLimit::try_acquire_owned).
//!
//! A request that passes two layers with the same handle holds two permits, and may wait in the
//! queue of the second layer for itself. Put the handle around each route once.
//!
//! # Cost
//!
//! An admitted request costs two atomic writes to one word, and no allocation or clock read. A
//! queued request costs an allocation and a timer. See [`cost`](crate::docs::cost) for figures.
//!
//! # Cancellation
//!
//! A request that is dropped while it is queued leaves the queue at once. If it has just been
//! granted a permit, the permit goes to the next request in the queue.
//!
//! # Panics
//!
//! A panic of the inner service releases the permit when the call unwinds, or when its future is
//! dropped. A request that must wait in the queue panics outside a Tokio runtime with a time
//! driver.
//!
//! # Differences from tower 0.5
//!
//! `tower::limit::ConcurrencyLimit` takes the permit in `poll_ready`, so that an idle clone holds
//! one. It releases the permit at the response head, and queues without a bound. It makes its
//! semaphore in `Layer::layer`, so that under axum a limit of 2 is 2 per route or per connection.
//! Here the handle is the limit, however often you apply its layer.

mod queued;
mod settings;
mod shared;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::queued::Queued;
pub use self::settings::ConcurrencyLimitSettings;
use self::shared::{Shared, wake};
use crate::clock::{self, Lent};
use crate::config::{ConfigError, Configurable, Current, Settings};
use crate::control::concurrency_limit::limit::{Joined, Limiter};
use crate::control::published::Published;
use crate::deadline::Deadline;
use crate::gate::GateLayer;
use crate::observe::{Reporter, Write, table};
use crate::outcome::Completion;
use crate::policy::{Admission, Permit, Policy, Released, WaitFor};
use crate::protocol::Http;
use crate::reason::Reason;
use crate::rejection::Rejection;
use crate::request::{PlainRequest, RequestKind};

/// A layer that limits the requests in flight with a [`ConcurrencyLimit`]:
/// `ConcurrencyLimitLayer::new(512)`, or `::new(limit.clone())`. It answers 503 (gRPC
/// `RESOURCE_EXHAUSTED`) with a retry time of one second, which is a `Retry-After` of 1 or 2.
pub type ConcurrencyLimitLayer<X = Http> = GateLayer<ConcurrencyLimit, X>;

/// An upper bound for the requests in flight. A cheap `Clone`: every clone is the same limit.
///
/// By default, a request over the limit is rejected at once (503, `Retry-After`): under overload, a
/// queue only adds waiting time to each response. With [`ConcurrencyLimitSettings::queue`], some
/// requests wait for a short time, which smooths bursts.
#[derive(Clone)]
pub struct ConcurrencyLimit {
    shared: Arc<Shared>,
}

/// The state of a [`ConcurrencyLimit`] at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ConcurrencyLimitSnapshot {
    /// The upper bound for the requests in flight.
    pub limit: usize,
    /// The number of requests that hold a permit.
    pub in_flight: usize,
    /// The number of requests that are queued for a permit.
    pub queued: usize,
    /// The number of requests rejected so far.
    pub rejected: u64,
    /// The number of requests so far that a layer in dry run would have rejected.
    pub would_reject: u64,
}

// === impl ConcurrencyLimit ===

impl ConcurrencyLimit {
    /// Makes a limit from a number of requests in flight, or from [`ConcurrencyLimitSettings`].
    ///
    /// # Errors
    ///
    /// Returns an error if the limit is not in 1 to 2³¹ − 1, or if the queue has a timeout of zero.
    pub fn new(settings: impl Into<ConcurrencyLimitSettings>) -> Result<Self, ConfigError> {
        let settings = settings.into();
        settings.check()?;
        let this = Self {
            shared: Arc::new(Shared {
                limiter: Limiter::new(settings.permits()),
                queue: Published::new(settings.queue_words()),
                settings: Current::new(settings),
                reporter: Reporter::new("concurrency_limit"),
            }),
        };
        this.replaced();
        Ok(this)
    }

    /// Names the limit in rejections, metrics and events. A second call has no effect.
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
    pub fn settings(&self) -> ConcurrencyLimitSettings {
        self.shared.settings.get()
    }

    /// Replaces the settings while requests run. A higher limit admits queued requests. A lower
    /// limit ends no request: [`in_flight`](Self::in_flight) stays above the limit until enough
    /// requests have ended. Requests that are already queued keep their timeout.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new), and then changes nothing.
    pub fn set(&self, settings: ConcurrencyLimitSettings) -> Result<(), ConfigError> {
        self.change(|_| settings)
    }

    /// Changes the limit, as [`set`](Self::set) does.
    ///
    /// # Errors
    ///
    /// Returns an error if `limit` is not in 1 to 2³¹ − 1, and then changes nothing.
    pub fn set_limit(&self, limit: usize) -> Result<(), ConfigError> {
        self.change(|settings| ConcurrencyLimitSettings { limit, ..settings })
    }

    /// How many requests may be in flight.
    pub fn limit(&self) -> usize {
        self.shared.limiter.occupancy().limit() as usize
    }

    /// The number of requests that hold a permit.
    pub fn in_flight(&self) -> usize {
        self.shared.limiter.occupancy().in_flight() as usize
    }

    /// The number of requests that are queued for a permit.
    pub fn queued(&self) -> usize {
        self.shared.limiter.queued()
    }

    /// The limit, the requests in flight, the queued requests and the counters. For all settings,
    /// see [`settings`](Self::settings).
    pub fn snapshot(&self) -> ConcurrencyLimitSnapshot {
        let (occupancy, queued) = self.shared.limiter.now();
        ConcurrencyLimitSnapshot {
            limit: occupancy.limit() as usize,
            in_flight: occupancy.in_flight() as usize,
            queued,
            rejected: self.shared.reporter.rejected(),
            would_reject: self.shared.reporter.would_reject(),
        }
    }

    /// Takes a permit for work that is not a request of a Tower service, for example a WebSocket
    /// connection. The permit counts as an admitted request. This method does not wait.
    ///
    /// # Errors
    ///
    /// Returns a [`Rejection`] if the limit is reached, or if requests are queued. It counts as
    /// rejected.
    pub fn try_acquire(&self) -> Result<Permit<&Self>, Rejection> {
        self.take(self)
    }

    /// Takes a permit as [`try_acquire`](Self::try_acquire) does. You can send it to another task.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`try_acquire`](Self::try_acquire).
    pub fn try_acquire_owned(&self) -> Result<Permit<Self>, Rejection> {
        self.take(self.clone())
    }

    /// Takes a permit as [`try_acquire`](Self::try_acquire) does, and waits for it in the queue if
    /// the limit is reached and has a queue.
    ///
    /// ```
    /// use std::time::Duration;
    /// use seawall::{ConcurrencyLimit, ConcurrencyLimitSettings};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let settings = ConcurrencyLimitSettings::fixed(16).queue(64, Duration::from_millis(200));
    /// let limit = ConcurrencyLimit::new(settings)?;
    /// let permit = limit.acquire().await?;
    /// // the query
    /// drop(permit);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns a [`Rejection`] if the limit is reached and the queue is full, or if no permit was
    /// released within the queue timeout.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the queue. If it has just been granted a permit, the next in the
    /// queue gets it.
    ///
    /// # Panics
    ///
    /// Panics if it must wait outside a Tokio runtime with a time driver.
    pub async fn acquire(&self) -> Result<Permit<&Self>, Rejection> {
        self.wait(self).await
    }

    /// Takes a permit as [`acquire`](Self::acquire) does. You can send the future and the permit to
    /// another task.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// Panics as [`acquire`](Self::acquire) does.
    pub fn acquire_owned(
        &self,
    ) -> impl Future<Output = Result<Permit<Self>, Rejection>> + Send + use<> {
        let this = self.clone();
        async move { this.wait(this.clone()).await }
    }

    /// Waits for a permit of `policy`, which is this limit.
    async fn wait<P>(&self, policy: P) -> Result<Permit<P>, Rejection>
    where
        P: Policy<PlainRequest<()>, Token = ()>,
    {
        let taken = match Policy::<PlainRequest<()>>::admit(self, &()) {
            Admission::Admit(()) | Admission::Bypass => Ok(()),
            Admission::Reject(rejection) => Err(rejection),
            Admission::Wait(wait) => wait.await,
        };
        Permit::counted(policy, taken, &self.shared.reporter)
    }

    /// Takes a permit of `policy`, which is this limit.
    fn take<P>(&self, policy: P) -> Result<Permit<P>, Rejection>
    where
        P: Policy<PlainRequest<()>, Token = ()>,
    {
        let taken = if self.shared.limiter.try_enter() {
            self.shared.entered();
            Ok(())
        } else {
            Err(self.shared.rejection(Reason::ConcurrencyLimit))
        };
        Permit::counted(policy, taken, &self.shared.reporter)
    }

    #[cold]
    #[inline(never)]
    fn admit_over_limit(
        &self,
        deadline: Option<Deadline>,
    ) -> Admission<(), WaitFor<Queued, Released>> {
        if self.shared.queue.word(0) == 0 {
            return Admission::Reject(self.shared.rejection(Reason::ConcurrencyLimit));
        }
        self.join_queue(deadline)
    }

    #[inline(never)]
    fn join_queue(&self, deadline: Option<Deadline>) -> Admission<(), WaitFor<Queued, Released>> {
        let shared = &self.shared;
        let [max_queued, queue_nanos] = shared.queue.get();
        let rejection = || shared.rejection(Reason::ConcurrencyLimit);
        match shared.limiter.join(max_queued as usize, None) {
            Joined::Entered => {
                shared.entered();
                Admission::Admit(())
            }
            Joined::Full => Admission::Reject(rejection()),
            Joined::Queued(position) => {
                let queued = Queued {
                    shared: shared.clone(),
                    position: Some(position),
                    since: clock::now(),
                    timeout: Duration::from_nanos(queue_nanos),
                    deadline,
                    lent: Lent::default(),
                    is_counted: false,
                };
                if queued.is_late() {
                    return Admission::Reject(shared.rejection(Reason::QueueTimeout));
                }
                Admission::Wait(WaitFor::new(queued, rejection()))
            }
        }
    }
}

impl Configurable for ConcurrencyLimit {
    type Settings = ConcurrencyLimitSettings;

    fn current(&self) -> &Current<ConcurrencyLimitSettings> {
        &self.shared.settings
    }

    fn publish(&self, settings: &ConcurrencyLimitSettings) {
        self.shared.queue.set(settings.queue_words());
        self.shared.limiter.set_limit(settings.permits());
    }

    fn replaced(&self) {
        // This comes first, since a metrics recorder may panic.
        while let Some(waker) = self.shared.limiter.serve() {
            wake(waker);
        }
        let (settings, reporter) = (self.settings(), &self.shared.reporter);
        reporter.show_setting(table::LIMIT, settings.limit as f64);
        reporter.show_setting(table::QUEUE_LIMIT, settings.max_queued as f64);
    }
}

impl From<usize> for ConcurrencyLimit {
    /// # Panics
    ///
    /// Panics if the number is not in 1 to 2³¹ − 1. [`ConcurrencyLimit::new`] returns an error
    /// instead.
    #[track_caller]
    fn from(limit: usize) -> Self {
        match Self::new(limit) {
            Ok(this) => this,
            Err(error) => panic!("{error}"),
        }
    }
}

impl<R: RequestKind> Policy<R> for ConcurrencyLimit {
    type Token = ();
    type Wait = WaitFor<Queued, Released>;

    const IS_OURS: bool = true;

    #[inline]
    fn admit(&self, head: &R::Head<'_>) -> Admission<(), Self::Wait> {
        if self.shared.limiter.try_enter() {
            self.shared.entered();
            Admission::Admit(())
        } else {
            self.admit_over_limit(R::deadline(head))
        }
    }

    fn register(&self) {
        self.shared.reporter.register();
    }

    #[inline(always)]
    fn release(&self, (): &mut (), _: Completion) {
        self.shared.leave();
        let reporter = &self.shared.reporter;
        reporter.write(table::IN_FLIGHT, Write::Subtract(1.0));
    }
}

impl fmt::Debug for ConcurrencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

// === impl ConcurrencyLimitLayer ===

impl ConcurrencyLimitLayer {
    /// A layer that limits the requests in flight with a [`ConcurrencyLimit`]: a number, or a
    /// handle.
    ///
    /// # Panics
    ///
    /// Panics if the number is not in 1 to 2³¹ − 1.
    #[track_caller]
    pub fn new(limit: impl Into<ConcurrencyLimit>) -> Self {
        Self::from_handle(limit.into(), |limit| &limit.shared.reporter)
    }
}
