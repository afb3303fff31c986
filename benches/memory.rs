//! The memory of a hundred thousand requests, in flight and queued:
//! `cargo bench -p seawall-benches --bench memory`.
//!
//! It is not part of `peers`, where its counting allocator would add a hundred instructions to each
//! allocation.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings};
use tokio::runtime::Builder;
use tower::{Layer, Service, service_fn};

type ReqBody = Full<Bytes>;

const REQUESTS: usize = 100_000;
const STORMS: usize = 5;

/// Polls all requests once, calls `check`, and drops them. Returns the bytes per request.
fn storm<S>(mut service: S, check: impl FnOnce()) -> f64
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
        check();
    });
    let vector = REQUESTS * size_of::<usize>();
    (counted.bytes_max - vector as u64) as f64 / REQUESTS as f64
}

/// Resident memory in KiB, on Linux.
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
    let limit = ConcurrencyLimit::from(REQUESTS);
    let in_flight = storm(
        ConcurrencyLimitLayer::new(limit.clone()).layer(never),
        || assert_eq!(limit.in_flight(), REQUESTS),
    );
    let queue = ConcurrencyLimit::new(
        ConcurrencyLimitSettings::fixed(1).queue(REQUESTS, Duration::from_secs(3600)),
    )
    .unwrap();
    let permit = queue.try_acquire();
    let storm_of_queued = || {
        let layer = ConcurrencyLimitLayer::new(queue.clone());
        storm(layer.layer(never), || assert_eq!(queue.queued(), REQUESTS))
    };
    let queued = storm_of_queued();
    // From the second run on, the allocator keeps the same amount, also after sixty runs.
    storm_of_queued();
    let before = resident();
    for _ in 0..STORMS {
        storm_of_queued();
    }
    let after = resident();
    drop(permit);
    println!(
        "bytes added to the bare service's by each of {REQUESTS} requests: {:.0} in flight, \
         {:.0} queued (including the {:.0} of the request)",
        in_flight - bare,
        queued - bare,
        size_of::<Request<ReqBody>>() as f64,
    );
    if let (Some(before), Some(after)) = (before, after) {
        println!(
            "resident after two storms of queued requests: {before} KiB, after {STORMS} more: \
             {after} KiB"
        );
    }
}
