//! The properties of Tokio's scheduler on which the marks depend, and the marks on a real runtime.
//!
//! If a release of Tokio changes one of these orders, the tests here fail first.

use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use seawall::{LagShed, LagState};
use tokio::runtime::{Handle, Runtime};

use crate::support::*;

/// The events, in order.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

/// Polls `yield_now` once with a waker of its own, as a mark does.
struct Yields {
    events: Events,
    stamp: Option<Arc<Stamp>>,
}

struct Stamp {
    events: Events,
    task: Waker,
}

/// A future that wakes itself while it runs.
struct WakesItself {
    events: Events,
    has_woken: bool,
}

impl Events {
    fn push(&self, event: impl Into<String>) {
        self.0.lock().unwrap().push(event.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Spawns this many tasks, which are queued in this order.
    fn spawn(&self, number: usize) {
        for task in 0..number {
            let events = self.clone();
            tokio::spawn(async move { events.push(task.to_string()) });
        }
    }
}

impl Future for Yields {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.stamp.is_some() {
            self.events.push("polled");
            return Poll::Ready(());
        }
        let stamp = Arc::new(Stamp {
            events: self.events.clone(),
            task: cx.waker().clone(),
        });
        let waker = Waker::from(stamp.clone());
        self.stamp = Some(stamp);
        let turn = pin!(tokio::task::yield_now());
        turn.poll(&mut Context::from_waker(&waker)).map(|()| ())
    }
}

impl Wake for Stamp {
    fn wake(self: Arc<Self>) {
        self.events.push("turn");
        self.task.wake_by_ref();
    }
}

impl Future for WakesItself {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_woken {
            self.events.push("polled");
            return Poll::Ready(());
        }
        self.has_woken = true;
        self.events.spawn(3);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Runs the closure in a task of the runtime, and returns the events.
fn run<F>(runtime: &Runtime, task: impl FnOnce(Events) -> F) -> Vec<String>
where
    F: Future<Output = ()> + Send + 'static,
{
    let events = Events::default();
    let future = task(events.clone());
    runtime.block_on(async { runtime.spawn(future).await.unwrap() });
    events.take()
}

/// More tasks than are polled between two turns of the driver, and fewer than a local queue holds.
const MANY: usize = 200;

async fn yields(events: Events) {
    events.spawn(MANY);
    let stamp = None;
    Yields { events, stamp }.await;
}

#[test]
fn a_yield_is_woken_after_the_next_turn_of_the_driver() {
    let _alone = alone();
    for runtime in [workers(1), current_thread()] {
        let events = run(&runtime, yields);
        let turn = events.iter().position(|event| event == "turn").unwrap();
        // Neither at once nor after all queued tasks.
        assert!((1..=61).contains(&turn), "{turn}: {events:?}");
    }
}

#[test]
fn what_the_driver_wakes_last_is_polled_next() {
    let _alone = alone();
    let events = run(&workers(1), yields);
    let turn = events.iter().position(|event| event == "turn").unwrap();
    assert_eq!(events[turn + 1], "polled", "{events:?}");
}

#[test]
fn on_a_current_thread_runtime_it_goes_to_the_back_of_the_queue() {
    let _alone = alone();
    let events = run(&current_thread(), yields);
    assert_eq!(events.len(), MANY + 2);
    assert_eq!(events[MANY + 1], "polled", "{events:?}");
}

#[test]
fn a_task_that_wakes_itself_goes_to_the_back_of_the_queue() {
    let _alone = alone();
    for runtime in [workers(1), current_thread()] {
        let events = run(&runtime, |events| WakesItself {
            events,
            has_woken: false,
        });
        let polled = events.iter().position(|event| event == "polled");
        let mut before = events[..polled.unwrap()].to_vec();
        before.sort();
        // The task that was spawned last is in its own slot, and all others are before it.
        assert_eq!(before, ["0", "1", "2"], "{events:?}");
    }
}

#[test]
fn a_local_queue_has_256_slots() {
    let _alone = alone();
    let events = run(&workers(1), async |events: Events| {
        let metrics = Handle::current().metrics();
        let mut spawned = 0;
        while metrics.global_queue_depth() == 0 {
            events.spawn(1);
            spawned += 1;
        }
        events.take();
        events.push(format!("{spawned} {}", metrics.global_queue_depth()));
    });
    // One task is in the slot for the last, and 256 are in the queue. Then half of the queue
    // leaves, and one more.
    assert_eq!(events[0], "258 129");
}

/// Sends more work than the runtime can do, until `is_over`. Each request is a task.
fn overload(runtime: &Handle, lag: &LagShed, is_over: impl Fn() -> bool) {
    let queued = Arc::new(AtomicUsize::new(0));
    until("it is over", || {
        // A thread that has spawned one request may not run again for a while.
        for _ in queued.load(SeqCst)..200 {
            queued.fetch_add(1, SeqCst);
            let (lag, queued) = (lag.clone(), queued.clone());
            runtime.spawn(async move {
                if admits(&lag) {
                    (0..100_000_u64).for_each(|round| _ = black_box(round));
                }
                queued.fetch_sub(1, SeqCst);
            });
        }
        is_over()
    });
}

#[test]
fn an_overload_is_shed_and_no_mark_is_left_after_it() {
    let _alone = alone();
    for runtime in [workers(1), workers(2), current_thread()] {
        let handle = runtime.handle().clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let driver = std::thread::spawn(move || {
            runtime.block_on(async {
                while !stops.load(SeqCst) {
                    tokio::task::yield_now().await;
                }
            });
            runtime
        });
        let lag = LagShed::default();
        lag.start(&handle);
        overload(&handle, &lag, || lag.snapshot().rejected > 1000);
        assert_eq!(lag.state(), LagState::Shedding);
        until("it is disarmed", || lag.state() == LagState::Normal);
        // The resident task of the probe.
        until("the marks have ended", || {
            handle.metrics().num_alive_tasks() == 1
        });
        let served = handle.spawn({
            let lag = lag.clone();
            async move { admits(&lag) }
        });
        assert!(handle.block_on(served).unwrap());
        stop.store(true, SeqCst);
        driver.join().unwrap();
    }
}
