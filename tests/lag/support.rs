//! Real runtimes that the tests block. The tests assert order and state, and no duration.

use std::future::ready;
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use seawall::{LagShed, LagShedLayer};
use tokio::runtime::{Builder, Handle, Runtime};
use tower::{BoxError, Layer, Service, service_fn};

/// Runs one test at a time: the tests block the cores, and some block the thread that measures.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    #[cfg(all(feature = "metrics", feature = "tracing"))]
    std::sync::LazyLock::force(&crate::reported::INSTALLED);
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the condition holds. The bound is for tests that hang.
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

/// Whether a call succeeds at its first poll; `None` if it is pending.
pub(crate) fn polled<T, E>(call: impl Future<Output = Result<T, E>>) -> Option<bool> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result.is_ok()),
        Poll::Pending => None,
    }
}

/// Returns whether a request that arrives now in this runtime is admitted.
pub(crate) fn admits(lag: &LagShed) -> bool {
    let mut service = LagShedLayer::new(lag.clone())
        .plain()
        .layer(service_fn(|()| ready(Ok::<_, BoxError>(()))));
    polled(service.call(())).expect("the service is ready at once")
}

/// The same, from outside the runtime.
pub(crate) fn admits_in(runtime: &Handle, lag: &LagShed) -> bool {
    let _entered = runtime.enter();
    admits(lag)
}

/// A worker that is blocked until this is dropped.
pub(crate) struct Blocked {
    _until: Sender<()>,
}

/// Blocks one worker, and returns when it is blocked.
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
