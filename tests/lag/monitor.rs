//! The readings of a monitor, and the lifetime of its thread.

use std::sync::mpsc::channel;
use std::time::Duration;

use seawall::{LagMonitor, LagShed};

use crate::support::*;

#[test]
fn a_hook_is_told_when_the_lag_rises_and_when_it_is_over() {
    let _alone = alone();
    let runtime = current_thread();
    let (tell, told) = channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    // No handle is kept: the hook stays as long as the runtime.
    LagMonitor::start(runtime.handle()).on_lag(Duration::from_millis(200), move |report| {
        tell.send(report.clone()).unwrap();
    });
    let handle = runtime.handle().clone();
    let driver = std::thread::spawn(move || runtime.block_on(stopped));

    let blocked = block(&handle);
    let rose = told.recv().unwrap();
    assert!(!rose.is_over);
    assert!(
        rose.lag > Duration::from_millis(200) && rose.peak == rose.lag,
        "{rose:?}"
    );
    assert_eq!(rose.lasted, Duration::ZERO);
    let monitor = LagMonitor::start(&handle);
    until("it grows during the block", || {
        let now = monitor.snapshot();
        assert!(now.peak >= now.lag, "{now:?}");
        now.lag > 2 * rose.lag
    });
    drop(blocked);
    let over = told.recv().unwrap();
    assert!(over.is_over);
    assert!(
        over.lag <= Duration::from_millis(200) && over.peak > rose.lag,
        "{over:?}"
    );
    assert!(over.lasted > Duration::ZERO);
    let snapshot = monitor.snapshot();
    assert!(
        snapshot.peak >= over.peak && !snapshot.is_closed,
        "{snapshot:?}"
    );
    drop(stop);
    assert!(driver.join().unwrap().is_err());
    until("it is closed", || monitor.snapshot().is_closed);
    assert!(told.try_recv().is_err(), "once up and once down");
}

/// A shedder ignores a stall from its first call after it, before the probe has returned. The lag
/// of the monitor does not end there, to begin again when the probe returns.
#[test]
fn a_stall_beside_a_shedder_is_one_report() {
    let _alone = alone();
    let runtime = workers(1);
    let (monitor, lag) = (LagMonitor::start(runtime.handle()), LagShed::default());
    let (tell, told) = channel();
    monitor.on_lag(Duration::from_millis(150), move |report| {
        tell.send(report.is_over).unwrap();
    });
    for _ in 0..3 {
        let (end, wait) = channel();
        let lag = lag.clone();
        runtime.spawn(async move {
            admits(&lag);
            wait.recv().unwrap();
            admits(&lag);
            let ignored = || lag.snapshot().lag < Duration::from_millis(100);
            until("the shedder ignores the stall", ignored);
        });
        assert!(!told.recv().unwrap());
        end.send(()).unwrap();
        assert!(told.recv().unwrap());
        let probes = monitor.snapshot().probes;
        until("it is probed", || monitor.snapshot().probes > probes + 2);
        assert!(told.try_recv().is_err());
    }
}

#[test]
fn a_hook_that_panics_harms_nobody() {
    let _alone = alone();
    let runtime = workers(1);
    let monitor = LagMonitor::start(runtime.handle());
    let (tell, told) = channel();
    monitor.on_lag(Duration::from_millis(50), |_| panic!("in a hook"));
    monitor.on_lag(Duration::from_millis(50), move |report| {
        let _ = tell.send(report.is_over);
    });
    for _ in 0..2 {
        let blocked = block(runtime.handle());
        assert!(!told.recv().unwrap());
        drop(blocked);
        assert!(told.recv().unwrap());
    }
}

#[test]
fn monitors_of_one_runtime_are_the_same() {
    let _alone = alone();
    let runtime = current_thread();
    let one = LagMonitor::start(runtime.handle());
    runtime.block_on(async {
        let other = LagMonitor::current();
        while other.snapshot().probes < 3 {
            tokio::task::yield_now().await;
        }
        assert!(one.snapshot().probes >= 3);
    });
}

#[test]
fn an_ended_runtime_is_let_go() {
    let _alone = alone();
    let runtime = workers(2);
    let monitor = LagMonitor::start(runtime.handle());
    until("it is measured", || monitor.snapshot().probes > 2);
    drop(runtime);
    let snapshot = monitor.snapshot();
    assert!(snapshot.is_closed);
    assert_eq!(
        (snapshot.lag, monitor.lag()),
        (Duration::ZERO, Duration::ZERO)
    );
    until_parked();

    let next = workers(1);
    let monitor = LagMonitor::start(next.handle());
    until("the next one is measured", || monitor.snapshot().probes > 2);
    drop(monitor);
    // No monitor is left, although the runtime still exists.
    until_parked();
    until("the resident task has ended", || {
        next.metrics().num_alive_tasks() == 0
    });
}

/// The thread waits on a futex without a time limit, while no monitor is left.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn until_parked() {
    use std::fs::{read_dir, read_to_string};

    until("the thread is parked", || {
        let threads = read_dir("/proc/self/task").unwrap();
        let ours = threads.filter_map(|thread| {
            let path = thread.ok()?.path();
            let name = read_to_string(path.join("comm")).ok()?;
            (name.trim() == "seawall-lag").then(|| read_to_string(path.join("syscall")).unwrap())
        });
        let calls: Vec<_> = ours.collect();
        assert_eq!(calls.len(), 1, "one thread for all runtimes");
        let words: Vec<_> = calls[0].split_whitespace().collect();
        words[0] == "202" && words[4] == "0x0"
    });
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn until_parked() {}

#[test]
fn a_paused_clock_is_left_alone() {
    let _alone = alone();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let monitor = LagMonitor::current();
        for _ in 0..100 {
            let hour = Duration::from_secs(3600);
            let (slept, took) = timed(tokio::time::sleep(hour)).await;
            assert_eq!((slept, took), ((), hour));
        }
        while monitor.snapshot().probes < 3 {
            tokio::task::yield_now().await;
        }
        let ((), took) = timed(tokio::task::yield_now()).await;
        assert_eq!(took, Duration::ZERO);
    });
}

#[expect(clippy::disallowed_methods, reason = "the paused clock of a test")]
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = tokio::time::Instant::now();
    let value = future.await;
    (value, start.elapsed())
}
