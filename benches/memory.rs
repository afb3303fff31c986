//! How much memory a hundred thousand requests take, running and waiting: `cargo bench --bench memory`.
//!
//! Apart from the peers, as its counting allocator would add a hundred instructions to each of their allocations.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer};
use tokio::runtime::Builder;
use tower::{Layer, Service, service_fn};

type ReqBody = Full<Bytes>;

const REQUESTS: usize = 100_000;
const STORMS: usize = 5;

/// Polls so many requests once, looks at what there is then, and drops them.
fn storm<S>(mut service: S, look: impl FnOnce()) -> f64
where
    S: Service<Request<ReqBody>>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let counted = allocation_counter::measure(|| {
        let mut calls: Vec<Pin<Box<S::Future>>> = Vec::with_capacity(REQUESTS);
        for _ in 0..REQUESTS {
            let mut call = Box::pin(service.call(Request::new(Full::default())));
            assert!(call.as_mut().poll(&mut cx).is_pending());
            calls.push(call);
        }
        look();
    });
    let vector = REQUESTS * size_of::<usize>();
    (counted.bytes_max - vector as u64) as f64 / REQUESTS as f64
}

/// Resident memory in KiB, where the system tells it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn main() {
    let runtime = Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let never = service_fn(|_: Request<ReqBody>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let bare = storm(never, || {});
    let limit = ConcurrencyLimit::new(REQUESTS);
    let running = storm(
        ConcurrencyLimitLayer::new(limit.clone()).layer(never),
        || assert_eq!(limit.in_flight(), REQUESTS),
    );
    let room = ConcurrencyLimit::new(1).wait(REQUESTS, Duration::from_secs(3600));
    let permit = room.try_acquire();
    let waits = || {
        let layer = ConcurrencyLimitLayer::new(room.clone());
        storm(layer.layer(never), || assert_eq!(room.waiting(), REQUESTS))
    };
    let waiting = waits();
    // What the allocator keeps is settled after the second: as much after two as after sixty.
    waits();
    let before = resident();
    for _ in 0..STORMS {
        waits();
    }
    let after = resident();
    drop(permit);
    println!(
        "bytes more than the bare service's, each of {REQUESTS} requests: {:.0} that runs, {:.0} that waits \
         (its {:.0} that are parked included)",
        running - bare,
        waiting - bare,
        size_of::<Request<ReqBody>>() as f64,
    );
    if let (Some(before), Some(after)) = (before, after) {
        println!(
            "resident after two storms of waiters: {before} KiB, after {STORMS} more: {after} KiB"
        );
    }
}
