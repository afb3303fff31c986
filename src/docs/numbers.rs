//! How to choose limits and timeouts from one load test, and from what you observe afterwards.
//!
//! Keep the defaults of [`LagShed`](crate::LagShed) and [`CircuitBreaker`](crate::CircuitBreaker)
//! unless you have a reason to change them. Choose the concurrency limit, the timeout and the
//! largest body yourself, since they depend on your handlers.
//!
//! # Measure first
//!
//! Set a concurrency limit that no measurement reaches. Then measure two curves: responses per
//! second, and their p99, against the number of requests in flight. Start with one request in
//! flight, and raise the number until the responses per second stop growing, or until they are as
//! many as you want. Use a client that sends the next request when it has read the answer, such as
//! [hey](https://github.com/rakyll/hey):
//!
//! ```text
//! cargo run --release -p testbed --bin axum -- --concurrency 4096
//! for c in 1 2 4 8 16 64; do hey -c $c -z 5s 'http://localhost:3000/work?ms=2'; done
//! for c in 1 16 64; do hey -c $c -z 5s 'http://localhost:3000/sleep?ms=20'; done
//! ```
//!
//! The results on two cores, which the server shares with the client (2026-11-25):
//!
//! | in flight | `/work?ms=2`: responses/s | p50 | p99 | `/sleep?ms=20`: responses/s | p99 |
//! |---|---|---|---|---|---|
//! | 1 | 452 | 2.2 ms | | 46 | |
//! | 2 | 860 | 2.1 ms | 4.2 ms | | |
//! | 4 | 944 | 4.3 ms | 7.4 ms | | |
//! | 8 | 951 | 8.4 ms | 15 ms | | |
//! | 16 | 939 | 17 ms | 27 ms | 736 | |
//! | 64 | 384, and 66 rejected | | | 2922 | 25 ms |
//!
//! The two routes stand for two kinds of service:
//!
//! - **A service that computes** (left) is at its best with one request for each core. Each request
//!   beyond that only adds its own time to all others. A concurrency limit does not help: the
//!   requests wait in the runtime's queue before any layer sees them. The lag shedder measures that
//!   queue. Its thresholds are times, so that you need not choose a number of requests. In the last
//!   row the shedder rejects some requests. The client then sends the next ones at once, which uses
//!   one of the two cores.
//! - **A service that awaits** (right) answers more requests per second with more requests in
//!   flight, until a resource is exhausted, for example the connections of a pool, or memory. Here
//!   you choose the limit.
//!
//! Most services do both. Measure with the mix of your traffic, on the machines that you deploy to,
//! and with the real dependencies.
//!
//! # The concurrency limit
//!
//! Little's law: requests in flight = responses per second x the time that each takes. Take the
//! most responses per second that you want from one process, and the p99 at that rate. Double the
//! product, so that half of the permits are left for slower requests.
//!
//! ```
//! use std::time::Duration;
//! use seawall::{ConcurrencyLimit, ConcurrencyLimitSettings};
//!
//! let (rate, p99) = (2922.0, Duration::from_millis(25)); // the last row: as many as are wanted
//! let in_flight = rate * p99.as_secs_f64();
//! let permits = (2.0 * in_flight) as usize;
//!
//! let timeout = Duration::from_millis(100);
//! // Half of the requests that leave the queue within the queue timeout.
//! let max_queued = (0.5 * rate * timeout.as_secs_f64()) as usize;
//! let settings = ConcurrencyLimitSettings::fixed(permits).queue(max_queued, timeout);
//! let limit = ConcurrencyLimit::new(settings)?;
//! assert_eq!((limit.limit(), max_queued), (146, 146));
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! - **A dependency may have a lower limit.** With 50 connections to a database, the 51st request
//!   in flight waits for a connection, in a queue that nothing counts or bounds. Put a limit of 50
//!   around the routes that use the database.
//! - **Memory may have a lower limit**: permits x the memory of a request, including its body if
//!   the handler reads it whole (512 x 2 MiB is a gigabyte).
//! - **The queue** smooths bursts and adds no capacity. Make it no longer than the number of
//!   requests that leave it within the queue timeout: the others would wait and then be rejected.
//!   Set the queue timeout to at most a tenth of the timeout, or to a time that a user does not
//!   notice: 100 ms. Use no queue if a load balancer can try another process at once.
//! - **When a dependency is ten times slower**, each request holds its permit ten times as long.
//!   Responses per second fall to a tenth, and the other requests are rejected at once. If that is
//!   too few, put a breaker and a timeout around that dependency. A higher limit only moves the
//!   queue into the dependency.
//!
//! # Timeouts
//!
//! ```text
//! normal p99.9  <  the dependency's timeout  <  the route's  <  the caller's
//! ```
//!
//! - **Not below p99.9**: the work for each request that times out is lost, and the client often
//!   sends it again.
//! - **Not above the caller's timeout**: otherwise the server works on responses that no client
//!   reads. gRPC callers send their timeout, and [`TimeoutLayer`](crate::TimeoutLayer) uses the
//!   shorter one. Browsers wait for minutes, people for a few seconds, and a load balancer for its
//!   configured time (often 60 s, after which it answers itself).
//! - **With retries inside**, the outer timeout is the sum of all tries and pauses.
//! - **For response bodies**, use one deadline for head and body if they have similar lengths
//!   ([`including_body`](crate::GateLayer::including_body) in a layer,
//!   [`deadline`](crate::ResponseBodyTimeoutSettings::deadline()) in a stack), else an
//!   [`idle_timeout`](crate::ResponseBodyTimeoutSettings::idle_timeout()).
//!   Three seconds of silence allow for a phone that changes its cell.
//! - **For clients that read slowly**, use a
//!   [`progress_timeout`](crate::ResponseBodyTimeoutSettings::progress_timeout());
//!   [`server()`](crate::server) sets it to 60 s.
//!
//! # The lag shedder
//!
//! Under overload it keeps the wait in the runtime's queue at about 30 ms. For handlers that
//! compute for more than 3 ms, the wait is longer. Change the defaults in these cases:
//!
//! - A rejection is better than a slow response: use
//!   [`LagThresholds::strict`](crate::LagThresholds::strict).
//! - The load comes in short bursts, and a slow response is better than a rejection: use
//!   [`LagThresholds::burst_tolerant`](crate::LagThresholds::burst_tolerant). Use it also if a
//!   [dry run](crate::GateLayer::dry_run) shows rejections at a load that the service can handle.
//! - Handlers compute for longer than 20 ms: move that code to `tokio::task::spawn_blocking` or to
//!   a pool of threads. If you cannot, raise [`max_bound`](crate::LagThresholds::max_bound()) and
//!   [`max_arm`](crate::LagThresholds::max_arm()).
//!
//! A real server under overload, with the onset of the overload included:
//!
//! | service | load | goodput, as a share of the bound | p99 of the accepted requests |
//! |---|---|---|---|
//! | handlers that compute for 2 ms | 0.8x | 1.02 | 33 ms, nothing is shed |
//! | | 2x | 0.99 | 60 ms |
//! | | 5x | 1.00 | 73 ms (56 to 103 ms) |
//! | | 10x | 0.99 | 87 ms (52 to 88 ms) |
//! | | 20x | 1.00 | 55 ms |
//! | handlers that compute for 100 µs | 2x | 1.03 | 46 ms |
//! | handlers that await 10 ms and compute for 2 ms, behind a concurrency limit of 32 | 5x | 1.03 | 119 ms |
//! | 2 ms, on a `current_thread` runtime | 2x | 0.99 | 79 ms |
//! | 2 ms, over HTTP/2 | 10x | 1.09 | 118 ms |
//!
//! - `cargo run --release -p overload -- --full --out DIR` measures these figures, in six to eight
//!   minutes. They are from 2026-11-29, from a quiet machine with two cores, which the server
//!   shares with the client. Each is the median of five runs.
//! - The load is a multiple of what the server can answer. The bound is the goodput that is
//!   possible at this load: a rejection costs time too. The example measures the bound, with an
//!   error: values a little above 1.00 are that error.
//!
//! Two simpler algorithms do worse. The first one, a latch, rejects everything from a lag of 100 ms
//! until the lag has been lower for 30 s; in a simulation with handlers of 2 ms it serves 0.05 of
//! the bound. A timer inside the runtime is the usual way to measure lag. It measures one turn of
//! the driver and not the queue: with handlers of 100 µs at twice the capacity, it measured less
//! than 20 ms in a third of the samples while requests waited for more than 100 ms.
//!
//! To see the effect on your kind of service, run one command with the microseconds that a request
//! computes, the milliseconds that it awaits, and the number of workers. Compare three columns,
//! each with and without the shedder: the goodput with its bound, the p99, and the clients that
//! gave up.
//!
//! ```text
//! cargo run --release -p overload -- --service-us 1000 --await-ms 20 --workers 1
//! ```
//!
//! # The circuit breaker
//!
//! - **Failure rate**: far above the normal rate, so that chance does not open the breaker. With a
//!   threshold of 0.5, the odds that one full window of calls opens it by chance (binomial) are:
//!
//!   | normal failures | 20 calls | 100 calls |
//!   |---|---|---|
//!   | 5 % | 1 in 90 million | never |
//!   | 10 % | 1 in 140 000 | never |
//!   | 20 % | 1 in 390 | 1 in 50 billion |
//!   | 30 % | 1 in 21 | 1 in 45 000 |
//!
//!   A window slides, so that these odds apply again and again. If one in ten calls normally fails,
//!   set [`minimum_calls`](crate::CircuitBreakerSettings::minimum_calls) to 100.
//! - **Window**: two to ten times what the minimum number of calls takes to arrive. At ten calls a
//!   second, 20 calls take two seconds, and the default of ten seconds is right. At one call a
//!   second, a window of ten seconds never has 20 calls: use
//!   [`Window::count_based`](crate::circuit_breaker::Window::count_based) or
//!   [`consecutive_failures`](crate::CircuitBreakerSettings::consecutive_failures).
//! - **Slow calls**: set the duration to the normal p99.9 or above, and below the timeout; set the
//!   rate to 0.5.
//! - **Open time**: the time that a restart or a failover of the dependency takes, if that is
//!   seconds. If it is minutes, let the open time grow:
//!   [`OpenDuration::exponential`](crate::circuit_breaker::OpenDuration::exponential).
//! - **Probes**: as many as the dependency can serve just after it has recovered. For most, the
//!   default of ten is few enough.
//!
//! # Requests
//!
//! - **Bytes**: the largest body that your clients send on purpose, rounded up; more for upload
//!   routes ([`per_request`](crate::RequestLimitLayer::per_request)).
//! - **Rate**: `bytes / rate` is the longest time for which one sender holds a permit. 500 bytes a
//!   second is slower than any network that people use. With a limit of 2 MiB it allows an upload
//!   70 minutes, so set
//!   [`body_timeout`](crate::RequestLimitSettings::body_timeout()) too.
//! - **Headers**: 8 KiB, as most proxies; cookies and tokens must fit.
//!
//! # Afterwards
//!
//! 1. **Run dry first**: use [`dry_run`](crate::GateLayer::dry_run) on limits, breakers and lag
//!    shedders, or the [`switches`](crate::stack::ServerHandle::switches) of a stack, and watch
//!    `seawall_requests_would_reject_total` (feature `metrics`) or `would_reject` in a snapshot. It
//!    should be 0 on a normal day.
//! 2. **Repeat the load test** with twice the load that the process can handle. Responses per
//!    second should be as in the first test, p99 below a second, and the memory of the process
//!    constant.
//! 3. **Watch** the reasons of rejections, and change what they point to, while the server runs:
//!
//! | what you see | what it means | what to change |
//! |---|---|---|
//! | `concurrency_limit`, processors idle | there are too few permits, or a dependency is slow | compare latency with the load test: if it is the same, raise the limit; if it is higher, find the slow dependency |
//! | `queue_timeout` all the time | a standing queue, which delays every request | a shorter queue, or more processes |
//! | `overloaded`, never `concurrency_limit` | handlers compute | more cores or processes; the shedder works as intended |
//! | `timeout`, no rejections | a dependency hangs | give it its own timeout and breaker |
//! | `circuit_open`, again and again | the dependency recovers and fails under its load | a longer open time, or a lower limit around it |
//! | high p99, no rejections | the limit is too high | a lower limit |
