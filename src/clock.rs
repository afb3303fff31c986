//! The only code that reads a clock or sets a timer. Paused time therefore moves everything except
//! the lag probe, which compares the runtime with real time.

use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use tokio::runtime::{self, Handle};
use tokio::task::coop;
use tokio::time::Sleep;

/// The time that decisions use. Paused time moves it.
#[inline]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// A timer that is due `after` from now. Its first poll registers it with the runtime.
///
/// # Panics
///
/// Panics outside a Tokio runtime with a time driver.
pub(crate) fn sleep(after: Duration) -> Sleep {
    tokio::time::sleep(after)
}

/// The output of a future that is ready within this time from now; `None` if it takes longer.
///
/// # Panics
///
/// Panics outside a Tokio runtime with a time driver.
pub(crate) async fn within<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(time, future).await.ok()
}

/// Calls `then` on a thread of its own after this time of the system's clock, even if the runtime
/// hangs. If the thread cannot start, calls it at once.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn on_thread_after(time: Duration, then: fn()) {
    let waits = move || {
        std::thread::sleep(time);
        then();
    };
    let thread = std::thread::Builder::new().name("seawall-abort".to_owned());
    if thread.spawn(waits).is_err() {
        then();
    }
}

/// Longer than any useful deadline, and short enough to be added to any time.
pub(crate) const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The time this many nanoseconds from now.
pub(crate) fn due(nanos: u64) -> tokio::time::Instant {
    now() + Duration::from_nanos(nanos).min(FAR)
}

/// A duration in nanoseconds, for atomics. A duration above 584 years is the largest value.
#[inline]
pub(crate) fn nanos(time: Duration) -> u64 {
    let seconds = time.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(time.subsec_nanos().into())
}

/// A duration in milliseconds. One that does not fit is the largest value.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Polls a timer, even if the future beside it has used up the task's share of Tokio's cooperative
/// budget. A timer needs a share too, and would never be due beside a busy future.
#[inline]
fn poll(mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    if coop::has_budget_remaining() {
        return timer.as_mut().poll(cx);
    }
    pin!(coop::unconstrained(timer)).poll(cx)
}

/// The time that measures lag, from a fixed origin. A paused clock does not stop it.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn monotonic() -> Duration {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let origin = *ORIGIN;
    origin.elapsed()
}

/// The current second of the time that decisions use.
#[cfg(feature = "tracing")]
pub(crate) fn second() -> u32 {
    static ORIGIN: LazyLock<tokio::time::Instant> = LazyLock::new(now);
    now().saturating_duration_since(*ORIGIN).as_secs() as u32
}

/// A timer from the pool of the thread. Its drop returns it.
///
/// A timer that [`Sleep::reset`] moves keeps its entry in the timer wheel. A request that waits
/// then costs no allocation, and takes the lock of the wheel once.
#[derive(Default)]
pub(crate) struct Lent(Option<Pin<Box<Pooled>>>);

/// The time at which a timer is due.
pub(crate) struct Due {
    pub(crate) at: tokio::time::Instant,
    /// The later time, if the deadline may be raised.
    pub(crate) later: Option<Later>,
    /// The time from the call to `at`.
    pub(crate) time: Duration,
    /// The caller set it.
    pub(crate) is_callers: bool,
}

/// Returns the later time, and whether the caller set it.
type Later = Box<dyn Fn() -> (tokio::time::Instant, bool) + Send + Sync>;

pin_project! {
    struct Pooled {
        runtime: runtime::Id,
        // Whether the pool keeps the timer. It does not keep one under a clock that was paused.
        is_kept: bool,
        // Whether the timer may still wait for the grace time, which it does once.
        has_grace: bool,
        // Whether a future has polled the timer, which then is in the timer wheel of its runtime.
        is_registered: bool,
        later: Option<Later>,
        #[pin]
        timer: Sleep,
    }
}

/// The upper bound for the timers in the pool of a thread.
const POOL: usize = 64;

/// A timer that is overdue by more than this waits once more for this time. After a pause of the
/// process, the runtime may look at its timers before it reads what has arrived meanwhile.
const GRACE: Duration = Duration::from_millis(100);

/// The timers that a thread keeps, all of one runtime.
struct Pool {
    /// The runtime on which the thread last took a timer.
    runtime: Option<runtime::Id>,
    timers: Vec<Pin<Box<Pooled>>>,
}

thread_local! {
    static TIMERS: RefCell<Pool> = const { RefCell::new(Pool::new()) };
}

static POOL_WHEN_PAUSED: AtomicBool = AtomicBool::new(false);

/// Keeps timers in the pool under paused time too, so that the tests of this crate run the code
/// that runs in production. A pooled timer stays registered, and a paused clock that moves by
/// itself stops at it.
#[doc(hidden)]
pub fn pool_timers_when_paused() {
    POOL_WHEN_PAUSED.store(true, Relaxed);
}

/// Returns whether Tokio's clock is that of the system. A clock that was ever paused differs from
/// it.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn is_real() -> bool {
    let before = Instant::now();
    let tokio = now().into_std();
    before <= tokio && tokio <= Instant::now()
}

// === impl Lent ===

impl Lent {
    /// Ready at `due`, which is evaluated when the timer is set for the first time.
    ///
    /// # Panics
    ///
    /// Panics outside a Tokio runtime with a time driver.
    #[inline(never)]
    pub(crate) fn poll(
        &mut self,
        due: impl FnOnce() -> tokio::time::Instant,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let pooled = self.0.get_or_insert_with(|| Pooled::take(due()));
        let this = pooled.as_mut().project();
        *this.is_registered = true;
        ready!(poll(this.timer, cx));
        if pooled.later.is_some() {
            ready!(pooled.as_mut().poll_later(cx));
        }
        if pooled.has_grace {
            return pooled.as_mut().poll_overdue(cx);
        }
        Poll::Ready(())
    }

    /// Sets the timer to `due`. The next poll registers it.
    pub(crate) fn set(&mut self, due: tokio::time::Instant) {
        match &mut self.0 {
            Some(pooled) => pooled.as_mut().reset(due),
            none => *none = Some(Pooled::take(due)),
        }
    }

    /// Sets the timer, as [`set`](Self::set), to a time that may become later.
    pub(crate) fn set_due(&mut self, due: Due) {
        self.set(due.at);
        if let Some(pooled) = &mut self.0 {
            *pooled.as_mut().project().later = due.later;
        }
    }

    /// Returns whether the timer has used its grace time, or is ready.
    #[cfg(feature = "http")]
    pub(crate) fn is_overdue(&self) -> bool {
        self.0.as_ref().is_some_and(|pooled| !pooled.has_grace)
    }

    /// The time at which the timer is due, if it is set.
    pub(crate) fn due(&self) -> Option<tokio::time::Instant> {
        let pooled = self.0.as_ref()?;
        let due = pooled.timer.deadline();
        let later = pooled.later.as_ref().map(|later| later().0);
        Some(later.map_or(due, |later| later.max(due)))
    }

    /// Returns whether the time was raised up to one that the caller set.
    pub(crate) fn is_callers(&self) -> bool {
        let pooled = self.0.as_ref();
        let later = pooled.and_then(|pooled| pooled.later.as_ref());
        later.is_some_and(|later| later().1)
    }
}

impl Drop for Lent {
    #[inline]
    fn drop(&mut self) {
        if let Some(pooled) = self.0.take() {
            put_back(pooled);
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lent").field(&self.due()).finish()
    }
}

impl Pooled {
    fn take(due: tokio::time::Instant) -> Pin<Box<Self>> {
        let runtime = Handle::current().id();
        let pooled = TIMERS.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.runtime == Some(runtime) {
                Ok(pool.timers.pop())
            } else {
                Err(pool.change_runtime(runtime))
            }
        });
        match pooled.ok().and_then(Result::ok).flatten() {
            Some(mut pooled) => {
                let this = pooled.as_mut().project();
                this.timer.reset(due);
                *this.has_grace = true;
                pooled
            }
            None => Box::pin(Self {
                runtime,
                is_kept: POOL_WHEN_PAUSED.load(Relaxed) || is_real(),
                has_grace: true,
                is_registered: false,
                later: None,
                timer: tokio::time::sleep_until(due),
            }),
        }
    }

    fn reset(self: Pin<&mut Self>, due: tokio::time::Instant) {
        let this = self.project();
        if due > this.timer.deadline() {
            *this.has_grace = true;
        } else if !*this.has_grace {
            // The time is over, or nearly: it keeps its grace, and gets no second one.
            return;
        }
        this.timer.reset(due);
    }

    /// The timer is due. If it is overdue, it waits once more, except under a clock that a test
    /// moves.
    #[cold]
    fn poll_overdue(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        *this.has_grace = false;
        let now = now();
        let is_overdue = now.saturating_duration_since(this.timer.deadline()) > GRACE;
        if !is_overdue || !is_real() {
            return Poll::Ready(());
        }
        this.timer.as_mut().reset(now + GRACE);
        poll(this.timer, cx)
    }

    /// The timer is due, unless its time has become later.
    #[cold]
    fn poll_later(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if let Some(later) = this.later {
            let (later, _) = later();
            if later > this.timer.deadline() {
                this.timer.as_mut().reset(later);
                return poll(this.timer, cx);
            }
        }
        Poll::Ready(())
    }
}

#[inline(never)]
fn put_back(mut pooled: Pin<Box<Pooled>>) {
    let runtime = pooled.runtime;
    // A registered timer of a runtime that has shut down is elapsed.
    let is_usable = if pooled.is_registered {
        !pooled.timer.is_elapsed()
    } else {
        Handle::try_current().is_ok_and(|here| here.id() == runtime)
    };
    if !pooled.is_kept || !is_usable || std::thread::panicking() {
        return;
    }
    let takes = TIMERS.try_with(|pool| pool.borrow().takes(runtime));
    if !takes.unwrap_or(false) {
        return;
    }
    let timer = pooled.as_mut().project();
    *timer.later = None;
    // The timer keeps the waker of its last poll, and with it the memory of a task that may have
    // ended. A timer whose runtime shuts down now panics when it is polled.
    let mut cx = Context::from_waker(Waker::noop());
    let result = panic::catch_unwind(AssertUnwindSafe(|| poll(timer.timer, &mut cx)));
    if !matches!(result, Ok(Poll::Pending)) {
        return;
    }
    // The drop of the previous waker was foreign code, which may have changed the pool. A timer
    // that does not fit is dropped when the pool is not borrowed.
    let _rejected = TIMERS.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if !pool.takes(runtime) {
            return Some(pooled);
        }
        pool.timers.push(pooled);
        None
    });
}

// === impl Pool ===

impl Pool {
    const fn new() -> Self {
        Self {
            runtime: None,
            timers: Vec::new(),
        }
    }

    /// Returns whether there is room for a timer of this runtime.
    fn takes(&self, runtime: runtime::Id) -> bool {
        self.runtime == Some(runtime) && self.timers.len() < POOL
    }

    /// Makes the pool one of this runtime. Returns the timers of another one, which are dropped
    /// when the pool is not borrowed.
    #[cold]
    fn change_runtime(&mut self, runtime: runtime::Id) -> Vec<Pin<Box<Pooled>>> {
        self.runtime = Some(runtime);
        std::mem::take(&mut self.timers)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// After a pause of the process, or while the runtime is behind.
    #[tokio::test]
    async fn a_timer_that_is_overdue_waits_once_more() {
        let mut timer = Lent::default();
        let overdue = now().checked_sub(2 * GRACE).unwrap();
        let mut polled = |cx: &mut Context<'_>| timer.poll(|| overdue, cx);
        let first = poll_fn(|cx| Poll::Ready(polled(cx))).await;
        assert!(first.is_pending());
        let due = timer.due().unwrap();
        assert!(due >= overdue + 3 * GRACE, "it waits for the grace time");

        // A request body that is late sets its timer again after each frame.
        timer.set(overdue);
        assert_eq!(timer.due(), Some(due), "it does so once");
        let later = due + GRACE;
        timer.set(later);
        assert_eq!(timer.due(), Some(later));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_waits_no_longer_under_a_paused_clock() {
        let mut timer = Lent::default();
        let overdue = now();
        tokio::time::advance(2 * GRACE).await;
        let first = poll_fn(|cx| Poll::Ready(timer.poll(|| overdue, cx))).await;
        assert!(first.is_ready());
    }
}
