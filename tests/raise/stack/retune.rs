//! Settings are applied in a loop while up to a million requests pass through the stack.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use seawall::policy::Mode;
use seawall::stack::{PartSettings, Settings};
use seawall::{
    ConcurrencyLimitSettings, Deadline, DrainSettings, LagThresholds, Reason, RequestBody,
    RequestLimitSettings, TimeoutSettings,
};
use tokio_test::task::spawn;
use tower::{Layer, Service};

use crate::handler::service_fn;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

/// What a request found of the timeout, or why it was rejected.
type Found = Result<Duration, Reason>;

/// All that may happen: with the old settings or with the new ones.
const OUTCOMES: [Found; 4] = [
    Ok(SECOND),
    Ok(Duration::from_secs(2)),
    Err(Reason::ConcurrencyLimit),
    Err(Reason::BodyTooLarge),
];

/// Fits always, fits the wide limit, fits never.
const LENGTHS: [u64; 3] = [10, 20, 21];

/// Each request finds the old or the new value of each setting: the timeout, the largest body, and
/// the limit, of which the test holds one permit. No request is counted twice or not at all.
#[tokio::test(start_paused = true)]
async fn requests_while_settings_change() {
    let requests = steps();
    let stack = seawall::server().expose_deadline().build().unwrap();
    // The thread below keeps this one from the runtime: the lag is real.
    let settings = |many: usize| {
        let seconds = SECOND * many as u32;
        let lag_shed = LagThresholds::default().disarm_after(seconds);
        let limit = ConcurrencyLimitSettings::fixed(many);
        Settings::default()
            .lag_shed(PartSettings::from(lag_shed).mode(Mode::Off))
            .drain(DrainSettings::default().lame_duck(seconds))
            .timeout(TimeoutSettings::new(seconds).raisable_to(10 * seconds))
            .concurrency_limit(limit)
            .request_limit(RequestLimitSettings::new(10 * many as u64).max_uri(100 * many as u64))
    };
    let (narrow, wide) = (settings(1), settings(2));
    stack.apply(&wide).unwrap();

    let answer = async |request: Request<RequestBody<Script>>| {
        let deadline = request.extensions().get::<Deadline>();
        let mut response = ok(Script::data(&["a"]));
        response.extensions_mut().insert(deadline.copied().unwrap());
        Ok::<_, Infallible>(response)
    };
    let mut service = stack.layer(service_fn(answer));
    let mut call = |length: u64| -> (Found, Response<_>) {
        let mut future = spawn(service.call(post(Script::default().exact(length))));
        let Poll::Ready(Ok(response)) = future.poll() else {
            panic!("it answers at once")
        };
        let deadline = response.extensions().get::<Deadline>();
        match reason(&response) {
            None => (Ok(deadline.unwrap().remaining()), response),
            Some(reason) => (Err(reason), response),
        }
    };

    let (_, held) = call(0);
    let mut found = [[0; OUTCOMES.len()]; LENGTHS.len()];
    let (is_over, applied) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            while !is_over.load(SeqCst) {
                for settings in [&narrow, &wide] {
                    // All fields of the five parts that differ, each time.
                    assert_eq!(stack.apply(settings).unwrap().len(), 7);
                    applied.fetch_add(1, SeqCst);
                }
            }
        });
        for number in 0..requests {
            let which = number as usize % LENGTHS.len();
            let (outcome, response) = call(LENGTHS[which]);
            let is_it = |expected: &Found| *expected == outcome;
            let outcome = OUTCOMES.iter().position(is_it);
            found[which][outcome.expect("it is one of them")] += 1;
            drop(response);
            // The other thread makes progress, also on one core.
            while number % 1000 == 0 && applied.load(SeqCst) < number / 1000 {
                assert!(!thread.is_finished(), "the other thread has panicked");
                std::thread::yield_now();
            }
        }
        is_over.store(true, SeqCst);
    });

    let sums = [0, 1, 2, 3].map(|outcome| found.iter().map(|of_length| of_length[outcome]).sum());
    let [first, second, full, large]: [u64; 4] = sums;
    assert_eq!(first + second + full + large, requests, "{found:?}");
    let [fits, _, never] = found;
    assert_eq!((fits[3], never[0] + never[1]), (0, 0), "{found:?}");
    let now = stack.snapshot();
    assert_eq!(now.concurrency_limit.state.rejected, full);
    assert_eq!(now.request_limit.state.rejected, large);
    assert_eq!(
        (now.timeout.state.timed_out, now.drain.state.rejected),
        (0, 0)
    );
    assert_eq!(
        (
            now.concurrency_limit.state.in_flight,
            now.drain.state.in_flight
        ),
        (1, 1)
    );
    assert_eq!(
        now.lag_shed.state.rejected + now.catch_panic.state.panics,
        0
    );
    assert!(applied.into_inner() >= requests / 1000 - 1);

    // The last ones that were applied.
    let all = stack.settings();
    assert_eq!(all, wide.or(&all));
    assert_eq!(call(20).0, Ok(2 * SECOND));
    stack.apply(&narrow).unwrap();
    assert_eq!(call(10).0, Err(Reason::ConcurrencyLimit));
    drop(held);
    assert_eq!(call(10).0, Ok(SECOND));
    assert_eq!(call(20).0, Err(Reason::BodyTooLarge));
    let now = stack.snapshot();
    assert_eq!(
        (
            now.concurrency_limit.state.in_flight,
            now.drain.state.in_flight
        ),
        (0, 0)
    );
}
