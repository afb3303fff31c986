//! Real runtimes, blocked on purpose; what is asserted is order and state, never how long something took.

use std::future::ready;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use seawall::{LagShed, LagShedLayer};
use tokio::runtime::{Builder, Handle, Runtime};
use tower::{BoxError, Layer, Service, service_fn};

/// One test after the other: they block the cores, and some the thread that measures for all of them.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    #[cfg(all(feature = "metrics", feature = "tracing"))]
    std::sync::LazyLock::force(&crate::told::INSTALLED);
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks until it is so; a bound for what hangs when it fails.
#[expect(clippy::disallowed_methods, reason = "only a bound")]
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        thread::yield_now();
    }
}

pub(crate) fn workers(workers: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Whether a request that comes now, in the runtime that this runs in, gets through.
pub(crate) fn admits(lag: &LagShed) -> bool {
    let mut service = LagShedLayer::new(lag.clone())
        .plain()
        .layer(service_fn(|()| ready(Ok::<_, BoxError>(()))));
    let mut call = std::pin::pin!(service.call(()));
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result.is_ok(),
        Poll::Pending => unreachable!("the service is ready at once"),
    }
}

/// The same from outside.
pub(crate) fn admits_in(runtime: &Handle, lag: &LagShed) -> bool {
    let _entered = runtime.enter();
    admits(lag)
}

/// A worker that is blocked until this is dropped.
pub(crate) struct Blocked {
    _until: Sender<()>,
}

/// Blocks one worker; it is blocked when this returns.
pub(crate) fn block(runtime: &Handle) -> Blocked {
    let (until, wait): (_, Receiver<()>) = channel();
    let (tell, blocked) = channel();
    runtime.spawn(async move {
        tell.send(()).unwrap();
        let _ = wait.recv();
    });
    blocked.recv().unwrap();
    Blocked { _until: until }
}
