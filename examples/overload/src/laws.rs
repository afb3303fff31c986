//! The laws of other projects, for comparison. They are not part of the crate.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use seawall::policy::{Admission, NoWait, Policy, RequestKind};
use seawall::{LagMonitor, Reason, Reporter};

/// What node-toobusy does: a timer that should fire every 500 ms, its lateness smoothed with a
/// weight of one third, and a share of rejections that grows from 0 at 70 ms to 1 at 140 ms.
#[derive(Clone)]
pub(crate) struct TooBusy {
    lag_micros: Arc<AtomicU64>,
    reporter: Reporter,
}

/// The classic latch, on seawall's probe: a lag above 100 ms rejects everything until it has been
/// below that for 30 s.
#[derive(Clone)]
pub(crate) struct Latch {
    monitor: LagMonitor,
    over: Arc<Mutex<Option<Instant>>>,
    reporter: Reporter,
}

/// What folly's `Codel` does, on seawall's probe: it is overloaded if the least lag of the last 100
/// ms was above 20 ms, and then rejects while the lag is above twice that.
#[derive(Clone)]
pub(crate) struct Codel {
    monitor: LagMonitor,
    interval: Arc<Mutex<Interval>>,
    reporter: Reporter,
}

struct Interval {
    ends: Instant,
    least: Duration,
    is_overloaded: bool,
}

/// Rejects everything, to measure what a rejection costs.
#[derive(Clone)]
pub(crate) struct RejectAll {
    reporter: Reporter,
}

// === impl TooBusy ===

impl TooBusy {
    const INTERVAL: Duration = Duration::from_millis(500);
    const HIGH_WATER: f64 = 70.0;

    pub(crate) fn new() -> Self {
        let lag_micros = Arc::new(AtomicU64::new(0));
        let lag = lag_micros.clone();
        tokio::spawn(async move {
            let mut last = Instant::now();
            let mut smoothed = 0.0;
            loop {
                tokio::time::sleep(Self::INTERVAL).await;
                let now = Instant::now();
                let late = (now - last).saturating_sub(Self::INTERVAL);
                last = now;
                smoothed += (late.as_secs_f64() - smoothed) / 3.0;
                lag.store((smoothed * 1e6) as u64, Relaxed);
            }
        });
        Self {
            lag_micros,
            reporter: Reporter::new("toobusy"),
        }
    }
}

impl<R: RequestKind> Policy<R> for TooBusy {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
        let lag = self.lag_micros.load(Relaxed) as f64 / 1000.0;
        let share = (lag - Self::HIGH_WATER) / Self::HIGH_WATER;
        answer(fastrand::f64() < share, &self.reporter)
    }
}

// === impl Latch ===

impl Latch {
    const THRESHOLD: Duration = Duration::from_millis(100);
    const HOLD: Duration = Duration::from_secs(30);

    pub(crate) fn new() -> Self {
        let over: Arc<Mutex<Option<Instant>>> = Arc::default();
        let monitor = LagMonitor::current();
        let seen = over.clone();
        monitor.on_lag(Self::THRESHOLD, move |_| {
            *seen.lock().expect("nothing panics in here") = Some(Instant::now());
        });
        Self {
            monitor,
            over,
            reporter: Reporter::new("latch"),
        }
    }

    fn rejects(&self) -> bool {
        let over = *self.over.lock().expect("nothing panics in here");
        let holds = over.is_some_and(|over| over.elapsed() < Self::HOLD);
        holds || self.monitor.lag() > Self::THRESHOLD
    }
}

impl<R: RequestKind> Policy<R> for Latch {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
        answer(self.rejects(), &self.reporter)
    }
}

// === impl Codel ===

impl Codel {
    const TARGET: Duration = Duration::from_millis(20);
    const INTERVAL: Duration = Duration::from_millis(100);

    pub(crate) fn new() -> Self {
        Self {
            monitor: LagMonitor::current(),
            interval: Arc::new(Mutex::new(Interval {
                ends: Instant::now() + Self::INTERVAL,
                least: Duration::MAX,
                is_overloaded: false,
            })),
            reporter: Reporter::new("codel"),
        }
    }

    fn rejects(&self, now: Instant, lag: Duration) -> bool {
        let mut interval = self.interval.lock().expect("nothing panics in here");
        if now >= interval.ends {
            interval.is_overloaded =
                interval.least > Self::TARGET && interval.least < Duration::MAX;
            interval.ends = now + Self::INTERVAL;
            interval.least = lag;
        }
        interval.least = interval.least.min(lag);
        interval.is_overloaded && lag > 2 * Self::TARGET
    }
}

impl<R: RequestKind> Policy<R> for Codel {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
        answer(
            self.rejects(Instant::now(), self.monitor.lag()),
            &self.reporter,
        )
    }
}

// === impl RejectAll ===

impl RejectAll {
    pub(crate) fn new() -> Self {
        Self {
            reporter: Reporter::new("reject_all"),
        }
    }
}

impl<R: RequestKind> Policy<R> for RejectAll {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
        answer(true, &self.reporter)
    }
}

fn answer(reject: bool, reporter: &Reporter) -> Admission<(), NoWait> {
    if reject {
        let rejection = reporter.reject(Reason::Overloaded);
        Admission::Reject(rejection.with_retry_after(Duration::from_secs(1)))
    } else {
        Admission::Admit(())
    }
}
