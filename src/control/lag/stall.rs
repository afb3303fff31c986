//! Tells a queue from a stall.
//!
//! Both make a probe wait. But a queue moves: requests keep coming through while it grows. While a worker is held up nothing
//! comes through, and what has piled up behind it is often gone in a moment; to refuse that would punish requests for what
//! is over. That can only be told afterwards: a stall counts while it lasts, and is taken back with the first request, or
//! the first poll of the probe, that gets through after it. But only once until the probe is back: where one stall follows
//! the other, it is a queue of long handlers; unless nothing came for a second, as where a runtime is driven only now and
//! then.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::law::{LagLaw, Lagging, Reading, Verdict};

/// When requests came through. Whoever admits says so, about once between two readings.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Nanoseconds.
    last: AtomicU64,
}

/// The law on one runtime, by the waits of its probe: from being sent to the first poll, and from there to the second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Judge {
    now: Lagging,
    /// The same law for signals, of which nothing is taken back.
    signals: Lagging,
    signalled: Option<Verdict>,
    /// What it was when the wait began.
    before: Lagging,
    /// From when the wait that lasts counts: its beginning, or the end of a stall in it.
    since: Duration,
    /// Whether there is one.
    is_waiting: bool,
    /// Whether this probe ran into a stall that was taken back.
    has_forgiven: bool,
    /// The first wait of the probe that is on its way, as far as it counts.
    first: Duration,
    /// The longer wait of the one that was back last, as far as it counts.
    last: Duration,
    /// Until then a backlog is what a stall has left, and no surge.
    draining_until: Duration,
}

/// No queue stands still for so long.
const LONG: Duration = Duration::from_secs(1);

// === impl Calls ===

impl Calls {
    /// A request comes through; the time since the last one.
    pub(crate) fn called(&self, at: Duration) -> Duration {
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let last = self.last.fetch_max(at, Relaxed);
        Duration::from_nanos(at.saturating_sub(last))
    }

    /// The time since the last one.
    pub(crate) fn gap(&self, at: Duration) -> Duration {
        at.saturating_sub(Duration::from_nanos(self.last.load(Relaxed)))
    }
}

// === impl Judge ===

impl Judge {
    pub(crate) fn new(at: Duration) -> Self {
        Self {
            since: at,
            ..Self::default()
        }
    }

    pub(crate) fn lag(&self) -> Duration {
        self.now.lag().max(self.signals.lag())
    }

    /// A reading: of the probe, which is waiting or not, and of a `signal` that counts beside it. `gap` is the time since a
    /// request came through.
    pub(crate) fn look(
        &mut self,
        law: &LagLaw,
        at: Duration,
        is_waiting: bool,
        signal: Duration,
        gap: Duration,
    ) -> Verdict {
        self.is_waiting = is_waiting;
        let waiting = self.waited(at);
        let lag = self.last.max(self.first).max(waiting);
        let is_queue = gap <= law.stall() && at >= self.draining_until;
        self.signalled = Some(self.signals.sample(
            law,
            Reading {
                at,
                lag: signal,
                is_queue: false,
            },
        ));
        let verdict = self.now.sample(law, Reading { at, lag, is_queue });
        self.beside_signals(verdict)
    }

    fn beside_signals(&self, verdict: Verdict) -> Verdict {
        self.signalled
            .map_or(verdict, |signalled| verdict.max(signalled))
    }

    /// A probe is sent.
    pub(crate) fn sent(&mut self, at: Duration) {
        self.first = Duration::ZERO;
        self.has_forgiven = false;
        self.is_waiting = true;
        self.wait_from(at);
    }

    /// A request came through, `gap` after the one before it. A verdict if that ends a stall.
    pub(crate) fn called(&mut self, law: &LagLaw, at: Duration, gap: Duration) -> Option<Verdict> {
        let stalled = gap.min(self.waited(at));
        let again = self.has_forgiven && stalled < LONG;
        if !law.forgives() || again || stalled <= law.stall() {
            return None;
        }
        self.has_forgiven = true;
        self.since = at;
        self.draining_until = at + law.drain();
        self.now.forgive(&self.before);
        let reading = Reading {
            at,
            lag: self.last.max(self.first),
            is_queue: false,
        };
        let verdict = self.now.sample(law, reading);
        Some(self.beside_signals(verdict))
    }

    /// The probe is polled, `gap` after a request came through; `is_back` if it is the second time. A verdict if that ends a
    /// stall.
    pub(crate) fn polled(
        &mut self,
        law: &LagLaw,
        at: Duration,
        gap: Duration,
        is_back: bool,
    ) -> Option<Verdict> {
        let verdict = self.called(law, at, gap);
        let waited = self.waited(at);
        if is_back {
            self.last = self.first.max(waited);
            self.first = Duration::ZERO;
            self.is_waiting = false;
        } else {
            self.first = waited;
        }
        self.wait_from(at);
        verdict
    }

    fn wait_from(&mut self, at: Duration) {
        self.since = at;
        self.before = self.now;
    }

    fn waited(&self, at: Duration) -> Duration {
        if self.is_waiting {
            at.saturating_sub(self.since)
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(all(test, not(seawall_loom)))]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const LAW: LagLaw = LagLaw::strict();

    /// Sent at 0, and waited for since; read every 10 ms, while no request comes.
    fn waiting(law: &LagLaw, until: u64) -> (Judge, Verdict) {
        let mut judge = Judge::new(ms(0));
        judge.look(law, ms(0), false, ms(0), ms(0));
        judge.sent(ms(0));
        let readings = (1..=until / 10).map(|n| ms(n * 10));
        let last = readings
            .map(|at| judge.look(law, at, true, ms(0), at))
            .last();
        (judge, last.unwrap())
    }

    #[test]
    fn a_stall_counts_while_it_lasts_and_is_taken_back_by_a_request() {
        let (mut judge, verdict) = waiting(&LAW, 600);
        assert_eq!(verdict.shed, 1.0);
        let verdict = judge.called(&LAW, ms(600), ms(600)).unwrap();
        assert_eq!((verdict.shed, judge.lag()), (0.0, ms(0)));
        // What it counts for begins anew.
        assert_eq!(judge.look(&LAW, ms(650), true, ms(0), ms(50)).shed, 0.0);
        assert_eq!(judge.lag(), ms(50));
    }

    #[test]
    fn or_by_the_probe_itself_which_then_found_nothing() {
        let (mut judge, _) = waiting(&LAW, 600);
        assert!(judge.polled(&LAW, ms(600), ms(600), false).is_some());
        assert!(judge.polled(&LAW, ms(601), ms(601), true).is_none());
        assert_eq!(judge.look(&LAW, ms(610), false, ms(0), ms(610)).shed, 0.0);
        assert_eq!(judge.lag(), ms(1));
    }

    #[test]
    fn one_stall_after_the_other_is_a_queue() {
        let (mut judge, _) = waiting(&LAW, 600);
        assert!(judge.called(&LAW, ms(600), ms(600)).is_some());
        for at in (610..=1100).step_by(10) {
            judge.look(&LAW, ms(at), true, ms(0), ms(at - 600));
        }
        assert!(judge.called(&LAW, ms(1100), ms(500)).is_none());
        assert_eq!(judge.look(&LAW, ms(1110), true, ms(0), ms(10)).shed, 1.0);
        // The next probe may run into one again.
        judge.polled(&LAW, ms(1120), ms(10), false);
        judge.polled(&LAW, ms(1120), ms(10), true);
        judge.sent(ms(1130));
        assert!(judge.called(&LAW, ms(1730), ms(600)).is_some());
    }

    #[test]
    fn a_runtime_that_is_driven_now_and_then_is_forgiven_each_time() {
        let (mut judge, _) = waiting(&LAW, 600);
        assert!(judge.called(&LAW, ms(600), ms(600)).is_some());
        for call in 2..5 {
            for at in (600 * call - 590..600 * call).step_by(10) {
                judge.look(&LAW, ms(at * 2), true, ms(0), ms(0));
            }
            let verdict = judge.called(&LAW, ms(1200 * call), ms(1200));
            assert_eq!(verdict.unwrap().shed, 0.0, "call {call}");
        }
    }

    #[test]
    fn a_stall_takes_nothing_back_that_a_signal_armed() {
        let mut judge = Judge::new(ms(0));
        judge.sent(ms(0));
        let readings = (0..60).map(|n| ms(n * 10));
        let last = readings
            .map(|at| judge.look(&LAW, at, true, ms(90), at))
            .last();
        assert_eq!(last.unwrap().shed, 1.0);
        let verdict = judge.called(&LAW, ms(600), ms(600)).unwrap();
        assert!((verdict.shed - 0.875).abs() < 0.01, "{verdict:?}");
    }

    #[test]
    fn a_wait_that_requests_come_through_is_a_queue() {
        let (mut judge, _) = waiting(&LAW, 600);
        assert!(judge.called(&LAW, ms(600), ms(100)).is_none());
        assert!(judge.polled(&LAW, ms(600), ms(0), false).is_none());
    }

    #[test]
    fn a_pause_without_requests_is_no_stall_while_the_probe_is_home() {
        let (mut judge, _) = waiting(&LAW, 10);
        judge.polled(&LAW, ms(10), ms(10), false);
        judge.polled(&LAW, ms(10), ms(10), true);
        assert_eq!(
            judge.called(&LAW, ms(160), ms(160)),
            None,
            "before the next reading"
        );
        // A signal sheds, and a request comes every now and then.
        for at in (20..400).step_by(10) {
            judge.look(&LAW, ms(at), false, ms(400), ms(at));
        }
        assert_eq!(judge.called(&LAW, ms(400), ms(390)), None);
        assert_eq!(judge.look(&LAW, ms(400), false, ms(400), ms(0)).shed, 1.0);
    }

    #[test]
    fn a_law_may_forgive_nothing() {
        let law = LAW.forgive_stalls(false);
        let (mut judge, _) = waiting(&law, 600);
        assert!(judge.called(&law, ms(600), ms(600)).is_none());
        assert!(judge.polled(&law, ms(600), ms(600), false).is_none());
    }

    #[test]
    fn the_time_since_the_last_request_is_that_of_the_latest() {
        let calls = Calls::default();
        assert_eq!(calls.called(ms(100)), ms(100));
        assert_eq!(calls.called(ms(150)), ms(50));
        assert_eq!(calls.called(ms(140)), ms(0), "another thread was earlier");
        assert_eq!((calls.gap(ms(170)), calls.gap(ms(120))), (ms(20), ms(0)));
    }
}
