//! One task per runtime that ends bodies whose time is over.
//!
//! It scans all live cells every [`PERIOD`]. No body has a timer, and no frame reads the clock. It
//! is a task and not a thread, since a body may spawn tasks when it is dropped. It sleeps while
//! there is no cell.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock;
use crate::sync::lock;
use crate::unwind;

/// The time between two scans. A body ends at most one period after its deadline, and at most two
/// periods after its progress timeout. It is never ended early.
pub(super) const PERIOD: Duration = Duration::from_millis(250);

/// A client that takes no frame for this long does not read.
const UNREAD: Duration = Duration::from_millis(PERIOD.as_millis() as u64 / 2);

/// A cell whose time is over, with the arguments of [`Reap::end`].
type Over = (Arc<dyn Reap>, u64, bool);

/// The operations of the reaper on a cell.
pub(super) trait Reap: Send + Sync {
    /// Changes with each poll; odd while the body has no frame ready.
    fn stamp(&self) -> u64;

    fn deadline(&self) -> Option<Instant>;

    fn progress(&self) -> Option<Duration>;

    /// Returns whether the drain of the cell ends it now.
    fn is_cut_off(&self) -> bool;

    /// Ends the body, if its stamp is still this one. `is_unread` if a frame is ready, or may be,
    /// and the connection did not ask for it for [`UNREAD`].
    fn end(&self, stamp: u64, is_unread: bool);
}

/// The cells of one runtime.
pub(super) struct Reaper {
    cells: Mutex<Cells>,
    is_awake: AtomicBool,
    wake: Notify,
}

#[derive(Default)]
struct Cells {
    slots: Vec<Option<Seen>>,
    free: Vec<usize>,
    has_ended: bool,
}

/// A cell, and its state at the last scan.
struct Seen {
    cell: Arc<dyn Reap>,
    stamp: u64,
    since: Instant,
}

/// Ends with its runtime.
struct Task(Arc<Reaper>);

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
        let reaper = Arc::new(Self {
            cells: Mutex::default(),
            is_awake: AtomicBool::new(true),
            wake: Notify::new(),
        });
        all.insert(runtime.id(), Arc::downgrade(&reaper));
        runtime.spawn(Task(reaper.clone()).run());
        reaper
    }

    fn cells(&self) -> MutexGuard<'_, Cells> {
        lock(&self.cells)
    }

    /// Watches a cell until it is removed.
    pub(super) fn watch(&self, cell: Arc<dyn Reap>) -> usize {
        let seen = Seen {
            stamp: cell.stamp(),
            cell,
            since: clock::now(),
        };
        let mut cells = self.cells();
        if cells.has_ended {
            return usize::MAX;
        }
        let key = cells.free.pop().unwrap_or(cells.slots.len());
        if key == cells.slots.len() {
            cells.slots.push(Some(seen));
        } else {
            cells.slots[key] = Some(seen);
        }
        drop(cells);
        if !self.is_awake.load(SeqCst) {
            self.is_awake.store(true, SeqCst);
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
        drop(cells);
        drop(seen);
    }

    /// Collects the cells whose time is over. Returns whether there are any cells.
    fn scan(&self, over: &mut Vec<Over>) -> bool {
        let now = clock::now();
        let mut cells = self.cells();
        let mut any = false;
        for seen in cells.slots.iter_mut().flatten() {
            any = true;
            let stamp = seen.cell.stamp();
            let is_idle = stamp & 1 == 1;
            if stamp != seen.stamp || is_idle {
                seen.stamp = stamp;
                seen.since = now;
            }
            let unread = now.saturating_duration_since(seen.since);
            let is_late = seen.cell.deadline().is_some_and(|deadline| now >= deadline);
            let is_stuck = seen
                .cell
                .progress()
                .is_some_and(|progress| unread >= progress);
            if is_late || is_stuck || seen.cell.is_cut_off() {
                over.push((seen.cell.clone(), stamp, unread >= UNREAD));
            }
        }
        any
    }
}

// === impl Task ===

impl Task {
    async fn run(self) {
        let mut over = Vec::new();
        loop {
            clock::sleep(PERIOD).await;
            let mut any = self.0.scan(&mut over);
            if !any {
                // A cell that registers now finds the flag, or this scan finds the cell.
                self.0.is_awake.store(false, SeqCst);
                any = self.0.scan(&mut over);
                if any {
                    self.0.is_awake.store(true, SeqCst);
                }
            }
            for (cell, stamp, is_unread) in over.drain(..) {
                // A body that panics when it is dropped must not prevent the end of the others.
                unwind::without_panics(move || cell.end(stamp, is_unread));
            }
            if !any {
                self.0.wake.notified().await;
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let mut cells = self.0.cells();
        cells.has_ended = true;
        let slots = std::mem::take(&mut cells.slots);
        drop(cells);
        drop(slots);
    }
}
