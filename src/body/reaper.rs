//! One task per runtime that ends bodies whose time is over.
//!
//! It scans all live cells every [`PERIOD`], so that a client that does not read costs no timer.
//! It is a task and not a thread, since a body may spawn tasks when it is dropped. It sleeps while
//! there is no cell.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::over::{Over, Reap};
use super::stamp::Stamp;
use crate::clock;
use crate::sync::lock;
use crate::unwind;

/// The time between two scans. A body ends at most two periods after its deadline, its idle timeout
/// or its progress timeout. After a pause of the process or a stall of the runtime, or if an idle
/// body has just woken the connection, it ends at most one period later. It is never ended early.
/// The progress does not count a pause, but for two periods of it.
pub(super) const PERIOD: Duration = Duration::from_millis(250);

/// A client that takes no frame for this long does not read. Any cell but a new one has been in its
/// state for a whole period.
const UNREAD: Duration = Duration::from_millis(PERIOD.as_millis() as u64 / 2);

/// The cells of one runtime.
#[derive(Default)]
pub(super) struct Reaper {
    cells: Mutex<Cells>,
    /// Notified when a cell is added and there was none.
    wake: Notify,
}

#[derive(Default)]
struct Cells {
    slots: Vec<Option<Seen>>,
    free: Vec<usize>,
    /// The number of cells so far.
    watched: u64,
}

/// A cell, and its state at the last scan.
struct Seen {
    /// The cell of an inner gate has a lower number, unless the inner body is small and a layer
    /// between the gates hides its size.
    number: u64,
    cell: Arc<dyn Reap>,
    stamp: Stamp,
    /// Whether the connection waits for the body. If not, a frame is ready, or the connection has
    /// not polled the body since its last wake.
    is_idle: bool,
    /// The time of the scan that first found this state. A frame or a pause moves it.
    since: Instant,
    /// The number of scans in which a frame waited for the connection, or the connection had not
    /// polled, minus the number in which the connection waited for the service.
    behind: i64,
    /// The end before which the connection was woken to poll an idle body.
    woken_for: Option<Instant>,
}

/// The number of slots that stay when no body is left.
const KEPT: usize = 1024;

/// The number of bodies that end in one poll. The connections can write the ends between two polls.
const ENDED: usize = 1024;

thread_local! {
    /// The reaper of the runtime that this thread used last.
    static HERE: RefCell<Option<(Id, Weak<Reaper>)>> = const { RefCell::new(None) };
}

static ALL: LazyLock<Mutex<HashMap<Id, Weak<Reaper>>>> = LazyLock::new(Mutex::default);

// === impl Reaper ===

impl Reaper {
    /// The reaper of this runtime; `None` outside of one.
    pub(super) fn here() -> Option<Arc<Self>> {
        let runtime = Handle::try_current().ok()?;
        let id = runtime.id();
        HERE.try_with(|here| {
            let mut here = here.borrow_mut();
            if let Some((known, reaper)) = &*here {
                if *known == id {
                    if let Some(reaper) = reaper.upgrade() {
                        return reaper;
                    }
                }
            }
            let reaper = Self::of(&runtime);
            *here = Some((id, Arc::downgrade(&reaper)));
            reaper
        })
        .ok()
    }

    #[cold]
    fn of(runtime: &Handle) -> Arc<Self> {
        let mut all = lock(&ALL);
        all.retain(|_, reaper| reaper.strong_count() > 0);
        if let Some(reaper) = all.get(&runtime.id()).and_then(Weak::upgrade) {
            return reaper;
        }
        let reaper = Arc::<Self>::default();
        all.insert(runtime.id(), Arc::downgrade(&reaper));
        runtime.spawn(reaper.clone().run());
        reaper
    }

    fn cells(&self) -> MutexGuard<'_, Cells> {
        lock(&self.cells)
    }

    /// Watches a cell until it is removed.
    pub(super) fn watch(&self, cell: Arc<dyn Reap>) -> usize {
        let (stamp, since) = (cell.stamp(), clock::now());
        let mut cells = self.cells();
        cells.watched += 1;
        let seen = Seen {
            number: cells.watched,
            cell,
            stamp,
            is_idle: false,
            since,
            behind: 0,
            woken_for: None,
        };
        let is_first = cells.slots.len() == cells.free.len();
        let key = cells.free.pop().unwrap_or(cells.slots.len());
        if key == cells.slots.len() {
            cells.slots.push(Some(seen));
        } else {
            cells.slots[key] = Some(seen);
        }
        drop(cells);
        if is_first {
            self.wake.notify_one();
        }
        key
    }

    pub(super) fn forget(&self, key: usize) {
        let mut cells = self.cells();
        let Some(seen) = cells.slots.get_mut(key).and_then(Option::take) else {
            return;
        };
        cells.free.push(key);
        if cells.free.len() == cells.slots.len() && cells.slots.len() > KEPT {
            (cells.slots, cells.free) = Default::default();
        }
        drop(cells);
        drop(seen);
    }

    /// Collects the cells whose time is over at `now`. The process has been paused for `paused`
    /// since the last scan, in which no connection could take a frame. Returns whether there are
    /// any cells.
    fn scan(&self, now: Instant, paused: Duration, over: &mut Vec<Over>) -> bool {
        let mut cells = self.cells();
        let mut any = false;
        for seen in cells.slots.iter_mut().flatten() {
            any = true;
            let stamp = seen.cell.stamp();
            let before = std::mem::replace(&mut seen.stamp, stamp);
            let is_new = stamp.frames() != before.frames();
            // A body that was polled, and has woken the connection again, had no frame either.
            let is_idle = stamp.waits() || !is_new && stamp.polls() != before.polls();
            seen.behind += if is_idle { -1 } else { 1 };
            if is_new || is_idle != seen.is_idle {
                seen.is_idle = is_idle;
                seen.since = now;
            }
            seen.since = now.min(seen.since + paused);
            let bounds = seen.cell.bounds();
            let is_slow = seen.behind > 1;
            if bounds.deadline.is_some() {
                seen.cell.set_slow(is_slow);
            }
            // After a pause, the connections first read what has arrived.
            let deadline = bounds.deadline.filter(|_| paused.is_zero());
            let silent = bounds.silence(is_idle);
            let silent = silent.and_then(|most| seen.since.checked_add(most));
            let cutoff = bounds.due_cutoff().map(|_| seen.since);
            let end = [cutoff, deadline, silent].into_iter().flatten().min();
            let Some(end) = end.filter(|end| now + PERIOD >= *end) else {
                continue;
            };
            // An idle body is polled once more before its end. At its last poll, it may have waited
            // for the caller, and stopped to wait.
            let wakes = is_idle && cutoff.is_none() && seen.woken_for != Some(end);
            let is_late = deadline.is_some_and(|deadline| now >= deadline);
            // It has woken the connection since the last scan, maybe with a frame.
            let has_woken = is_idle && before.waits() && !stamp.waits();
            if wakes {
                seen.woken_for = Some(end);
            } else if now < end || has_woken && !is_late && cutoff.is_none() {
                continue;
            }
            // A timeout is not a failure of the service if the client does not read, or reads too
            // slowly, or if the deadline is the caller's own.
            let is_unread = !is_idle && now.saturating_duration_since(seen.since) >= UNREAD;
            let is_callers = if is_late {
                is_unread || is_slow || bounds.is_callers
            } else {
                !is_idle
            };
            over.push(Over {
                order: (end, seen.number),
                cell: seen.cell.clone(),
                wakes,
                stamp,
                is_idle,
                is_callers,
            });
        }
        // Of two bodies with the same end, the inner one ends first. If the outer one waits, it
        // then reads that end.
        over.sort_unstable_by_key(|over| over.order);
        any
    }

    /// Ends with its runtime.
    async fn run(self: Arc<Self>) {
        let (mut over, mut was_late) = (Vec::new(), false);
        loop {
            let began = clock::now();
            clock::sleep(PERIOD).await;
            let now = clock::now();
            let mut paused = pause(now - began, &mut was_late);
            // A clock that a test moves says nothing.
            if !paused.is_zero() && !clock::is_real() {
                paused = Duration::ZERO;
            }
            let any = self.scan(now, paused, &mut over);
            for (at, over) in over.drain(..).enumerate() {
                if at % ENDED == ENDED - 1 {
                    tokio::task::yield_now().await;
                }
                // A body that panics when it is dropped must not prevent the end of the others.
                unwind::without_panics(move || over.end());
            }
            if !any {
                self.wake.notified().await;
            }
        }
    }
}

/// The time for which the process was paused, if the next scan comes this long after the last one.
/// One scan that is late is a pause. Several in turn are a runtime that is behind.
fn pause(slept: Duration, was_late: &mut bool) -> Duration {
    let late = slept.saturating_sub(2 * PERIOD);
    if std::mem::replace(was_late, !late.is_zero()) {
        Duration::ZERO
    } else {
        late
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;
    use crate::body::bounds::Bounds;
    use crate::observe::Reporter;
    use crate::policy::BodyBounds;

    struct Cell(Bounds, AtomicU64);

    impl Reap for Cell {
        fn stamp(&self) -> Stamp {
            Stamp(self.1.load(Relaxed))
        }

        fn bounds(&self) -> &Bounds {
            &self.0
        }

        fn set_slow(&self, _: bool) {}

        fn wake(&self) {}

        fn end(&self, _: &dyn Fn(Stamp) -> bool, _: bool) {}
    }

    fn cell(
        idle: Option<Duration>,
        progress: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Arc<Cell> {
        let current = Arc::<BodyBounds>::default();
        current.set(false, idle, None, progress);
        let bounds = Bounds {
            reporter: Reporter::new("timeout"),
            deadline,
            current: Some(current),
            cutoff: None,
            is_callers: false,
            is_grpc: false,
        };
        Arc::new(Cell(bounds, AtomicU64::default()))
    }

    /// Each time, the body is polled, and wakes the connection, before the scan.
    #[test]
    fn a_body_that_wakes_without_a_frame_is_silent() {
        let second = Duration::from_secs(1);
        for (idle, progress, deadline) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let time = |seconds: u32| (seconds > 0).then_some(seconds * second);
            let reaper = Reaper::default();
            let now = clock::now();
            let cell = cell(
                time(idle),
                time(progress),
                time(deadline).map(|time| now + time),
            );
            reaper.watch(cell.clone());
            let (mut over, mut ends) = (Vec::new(), Vec::new());
            for at in 1..=8 {
                let polled = cell.stamp().polled();
                cell.1.store(polled.0 & !Stamp::WAITS, Relaxed);
                reaper.scan(now + at * PERIOD, Duration::ZERO, &mut over);
                ends.extend(over.drain(..).map(|over| (at, over.wakes, over.is_callers)));
            }
            match (idle, progress) {
                (1, _) => assert!(matches!(ends[..], [(4, true, _), (5, false, false), ..])),
                (_, 1) => assert_eq!(ends, []),
                _ => assert!(matches!(ends[..], [(3, true, _), (4, false, false), ..])),
            }
        }
    }

    /// One scan that finds a frame taken and no poll since does not show that the client is slow.
    #[test]
    fn a_client_is_slow_from_the_second_scan_on() {
        let (reaper, now) = (Reaper::default(), clock::now());
        let cell = cell(None, None, Some(now));
        reaper.watch(cell.clone());
        let mut over = Vec::new();
        for (at, is_callers) in [(1, false), (2, true)] {
            over.clear();
            cell.1.store(cell.stamp().polled().with_frame().0, Relaxed);
            reaper.scan(now + at * PERIOD, Duration::ZERO, &mut over);
            assert_eq!(over[0].is_callers, is_callers, "{at}");
        }
    }

    /// A frame may be ready that the connection has not polled yet.
    #[test]
    fn an_idle_body_that_has_woken_since_the_last_scan_does_not_end() {
        for (has_woken, expected) in [(false, 1), (true, 0)] {
            let (reaper, now) = (Reaper::default(), clock::now());
            let cell = cell(Some(2 * PERIOD), None, None);
            reaper.watch(cell.clone());
            let mut over = Vec::new();
            for at in 1..=3 {
                over.clear();
                let woken = if has_woken && at == 3 {
                    Stamp::WAITS
                } else {
                    0
                };
                cell.1.store(cell.stamp().polled().0 & !woken, Relaxed);
                reaper.scan(now + at * PERIOD, Duration::ZERO, &mut over);
            }
            let ends = over.iter().filter(|over| !over.wakes).count();
            assert_eq!(ends, expected, "{has_woken}");
        }
    }

    /// It is polled once before each end, also if its time is shorter than a period.
    #[test]
    fn an_idle_body_is_polled_before_its_end() {
        let reaper = Reaper::default();
        let now = clock::now();
        let cell = cell(Some(PERIOD / 2), None, None);
        reaper.watch(cell.clone());
        let (mut over, mut ends) = (Vec::new(), Vec::new());
        for at in 1..=6 {
            if at == 1 || at == 4 {
                cell.1.store(cell.stamp().with_frame().polled().0, Relaxed);
            }
            reaper.scan(now + at * PERIOD, Duration::ZERO, &mut over);
            ends.extend(over.drain(..).map(|over| over.wakes));
        }
        assert_eq!(ends, [true, false, false, true, false, false]);
    }

    /// A connection that could take no frame, because the process was paused, is not stuck.
    #[test]
    fn a_pause_of_the_process_does_not_count_for_the_progress() {
        let (second, reaper) = (Duration::from_secs(1), Reaper::default());
        reaper.watch(cell(None, Some(3 * second), None));
        let since = reaper.cells().slots[0].as_ref().unwrap().since;
        let mut over = Vec::new();
        for (at, paused, expected) in [(2, 0, 0), (9, 7, 0), (9, 0, 0), (10, 0, 1)] {
            over.clear();
            reaper.scan(since + at * second, paused * second, &mut over);
            assert_eq!(over.len(), expected, "{at}");
        }
    }

    /// After a pause, the connections first read what has arrived.
    #[test]
    fn a_deadline_is_looked_at_after_the_scan_that_follows_a_pause() {
        let (second, reaper) = (Duration::from_secs(1), Reaper::default());
        let now = clock::now();
        reaper.watch(cell(None, None, Some(now)));
        let mut over = Vec::new();
        reaper.scan(now + 9 * second, 7 * second, &mut over);
        assert!(over.is_empty());
        reaper.scan(now + 9 * second, Duration::ZERO, &mut over);
        assert_eq!(over.len(), 1);
    }

    #[test]
    fn one_late_scan_is_a_pause_and_several_are_not() {
        let mut was_late = false;
        for (slept, expected) in [(1, 0), (2, 0), (9, 7), (9, 0), (3, 0), (1, 0), (4, 2)] {
            assert_eq!(pause(slept * PERIOD, &mut was_late), expected * PERIOD);
        }
    }

    /// A peak leaves no slots, and a key is used once at a time.
    #[test]
    fn slots_are_used_again_and_those_of_a_peak_are_freed() {
        let cell = cell(None, None, None);
        let reaper = Reaper::default();
        for peak in [KEPT, KEPT + 1] {
            let keys: Vec<_> = (0..peak).map(|_| reaper.watch(cell.clone())).collect();
            assert!(keys.iter().copied().eq(0..peak));
            reaper.forget(7);
            assert_eq!(reaper.watch(cell.clone()), 7);
            for key in keys.into_iter().rev() {
                reaper.forget(key);
            }
            let slots = reaper.cells().slots.len();
            assert_eq!(slots, if peak > KEPT { 0 } else { KEPT });
        }
    }
}
