//! How to choose the numbers: from one load test, and what to look at afterwards.
//!
//! The defaults of [`LagShed`](crate::LagShed) and [`CircuitBreaker`](crate::CircuitBreaker) are meant to be left alone. A
//! limit, a time-out and the largest body are yours: nobody else knows what your handlers do.
//!
//! # Measure first
//!
//! Two curves say nearly everything: answers a second and their p99, against the number of requests at once, without any
//! limit. Double the number until the answers grow no more. Any closed-loop client will do:
//!
//! ```text
//! cargo run --release --example axum -- --concurrency 4096
//! for c in 1 2 4 8 16 32 64; do hey -c $c -z 5s 'http://localhost:3000/work?ms=2'; done
//! for c in 1 4 16 64 256; do hey -c $c -z 5s 'http://localhost:3000/sleep?ms=20'; done
//! ```
//!
//! On two cores, which the client shares, that gave (2026-11-25):
//!
//! | at once | `/work?ms=2`: answers/s | p50 | p99 | `/sleep?ms=20`: answers/s | p99 |
//! |---|---|---|---|---|---|
//! | 1 | 452 | 2.2 ms | | 46 | |
//! | 2 | 860 | 2.1 ms | 4.2 ms | | |
//! | 4 | 944 | 4.3 ms | 7.4 ms | | |
//! | 8 | 951 | 8.4 ms | 15 ms | | |
//! | 16 | 939 | 17 ms | 27 ms | 736 | |
//! | 64 | 384, and 66 refused | | | 2922 | 25 ms |
//!
//! They are two kinds of service.
//!
//! - **One that computes** (left) is at its best with a request for each core; from there on every one more only adds its own
//!   time to all others. No limit finds that: the requests wait in the runtime's queue before any layer sees them. That is what
//!   the lag shedder is for, and its numbers are times, not requests: nothing to choose. (In the last row it refuses; a client that comes
//!   back at once with each 503 takes a core for that.)
//! - **One that awaits** (right) does ever more at once, until what it waits for is exhausted: connections of a pool, memory,
//!   somebody else's patience. There the limit is the number to choose.
//!
//! Most services are both. Measure with the mix of your traffic, on what you deploy on, with what it depends on.
//!
//! # The concurrency limit
//!
//! Little's law: requests at once = answers a second x the time that each takes. Take the most answers a second that you want
//! from one process and the p99 at that rate, and double it: half of the places are for what is slower than usual.
//!
//! ```
//! use std::time::Duration;
//! use seawall::ConcurrencyLimit;
//!
//! let (rate, p99) = (2922.0, Duration::from_millis(25)); // the last row
//! let at_once = rate * p99.as_secs_f64();
//! let places = (2.0 * at_once) as usize;
//!
//! let max_wait = Duration::from_millis(100);
//! let burst = 0.5 * rate * max_wait.as_secs_f64();       // of what drains meanwhile, half
//! let limit = ConcurrencyLimit::new(places).wait(burst as usize, max_wait);
//! assert_eq!((limit.limit(), burst as usize), (146, 146));
//! ```
//!
//! - **It cannot exceed what is behind it.** With 50 connections to a database, places from the 51st on wait for one of these, unseen and
//!   unbounded. A limit of 50 around the routes that use it keeps the queue where it is counted and ends.
//! - **Nor what memory allows**: places x what a request holds, its body included if the handler reads it whole
//!   (2 MiB x 512 is a gigabyte).
//! - **The room** evens out bursts; it does not add capacity. More than the places can take within `max_wait`
//!   only waits for a refusal. `max_wait` is at most a tenth of the time-out, or what a user does not notice: 100 ms.
//!   No room is right where a load balancer can try another process at once.
//! - **With a dependency ten times slower**, the places are taken ten times as long: answers a second fall to a
//!   tenth, and the rest is refused at once. If that is too few, a breaker with a time-out around that dependency ends it
//!   earlier; a higher limit only moves the queue.
//!
//! # Times
//!
//! ```text
//! p99.9 when all is well  <  dependency's time-out  <  the route's  <  the callers' patience
//! ```
//!
//! - **Not below p99.9**: each request that is cut was work for nothing, and often comes again.
//! - **Not above the callers' patience**: nobody is there to read the answer. Callers that speak gRPC say theirs, and
//!   [`TimeoutLayer`](crate::TimeoutLayer) takes the smaller; browsers wait for long, people for a few seconds, a load
//!   balancer for what it is told (often 60 s, and then it answers in your place).
//! - **With retries inside**, the outer time is the sum of the tries and their pauses.
//! - **[`body_idle`](crate::TimeoutLayer::body_idle) and [`including_body`](crate::TimeoutLayer::including_body)** are for bodies: silence is the better
//!   measure where their length differs. Three seconds bear a phone that changes its cell.
//!
//! # The lag shedder
//!
//! It holds a queue of 20 to 100 ms, whatever a request costs. Leave it, unless
//!
//! - being slow is worse than being refused: [`LagLaw::strict`](crate::LagLaw::strict);
//! - load comes in bursts of up to half a second that are worth waiting for: [`LagLaw::burst_tolerant`](crate::LagLaw::burst_tolerant);
//! - single handlers compute for longer than 20 ms: to the runtime they are a queue. Move them to
//!   `tokio::task::spawn_blocking` or to a pool of threads; a higher [`target`](crate::LagLaw::target) is the second best;
//! - [`dry_run`](crate::GateLayer::dry_run) has shown that it would refuse at a load that you know to be good.
//!
//! What it makes of your kind of service is one command, with the microseconds that a request computes, the milliseconds
//! that it awaits, and the workers that you have:
//!
//! ```text
//! cargo run --release --example overload -- --service-us 1000 --await-ms 20 --workers 1
//! ```
//!
//! Without a shedder, the p99 of the accepted there was 999 ms at twice the capacity, and half of the clients gave up; with it 328 ms,
//! with every second one refused within that time (2026-11-25, two cores, one run). Look at three columns: goodput against
//! the bound beside it, p99, and who gave up.
//!
//! # The breaker
//!
//! - **Failure rate**: far above what is normal, so that chance does not open it. With a threshold of one half, the odds that
//!   one full window of calls opens it by chance (binomial):
//!
//!   | normal failures | 20 calls | 100 calls |
//!   |---|---|---|
//!   | 5 % | 1 in 90 million | never |
//!   | 10 % | 1 in 140 000 | never |
//!   | 20 % | 1 in 390 | 1 in 50 billion |
//!   | 30 % | 1 in 21 | 1 in 45 000 |
//!
//!   A window slides, so that these odds are drawn again all the time. If one in ten calls fails on a good day, ask for
//!   [`minimum_calls`](crate::circuit_breaker::CircuitBreakerBuilder::minimum_calls) of 100.
//! - **Window**: two to ten times what the minimum takes to arrive. At ten calls a second, 20 of them take two seconds: the
//!   default of ten is right. At one call in a second it would never be full:
//!   [`Window::calls`](crate::circuit_breaker::Window::calls) or
//!   [`consecutive_failures`](crate::circuit_breaker::CircuitBreakerBuilder::consecutive_failures).
//! - **Slow calls**: the threshold at the p99.9 of good days or above, and below the time-out; rate one half.
//! - **Open time**: what a restart or a failover of the dependency takes, if that is seconds; if it is minutes, growing:
//!   [`OpenFor::growing`](crate::circuit_breaker::OpenFor::growing).
//! - **Probes**: as many as the dependency can bear just after it has come back. Ten are nothing to most.
//!
//! # Requests
//!
//! - **Bytes**: the largest that a client of yours sends on purpose, rounded up; more for the routes that take uploads
//!   ([`per_request`](crate::RequestLimitLayer::per_request)).
//! - **Rate**: `bytes / rate` is the longest that one sender holds a place. 500 bytes a second is slower than any network
//!   that people use; with a limit of 2 MiB it bounds an upload to 70 minutes, so set
//!   [`body_deadline`](crate::RequestLimitLayer::body_deadline) too.
//! - **Headers**: 8 KiB, as most proxies; cookies and tokens have to fit.
//!
//! # Afterwards
//!
//! 1. **Dry first**: [`dry_run`](crate::GateLayer::dry_run) on every gate, and `seawall_requests_would_reject_total` (feature `metrics`) or the
//!    `would_reject` of a snapshot. On a normal day it should stand at 0.
//! 2. **Load again**, with twice what the process can do. The answers a second should be those of the first test, p99 below
//!    a second, and the process's memory flat.
//! 3. **Watch** the reasons of refusals, and change what they point at, while it runs:
//!
//! | what you see | what it means | what to change |
//! |---|---|---|
//! | `full`, the processors idle | the places are too few, or a dependency is slow | compare latency with the load test: as it was, more places; higher, look behind |
//! | `queue_timeout` all the time | a standing queue: each request pays for it | a smaller room, or more processes |
//! | `overloaded`, `full` never | handlers compute | more cores or processes; it does what it should |
//! | `timeout`, nothing refused | a dependency hangs | its own time-out and breaker, further in |
//! | `circuit_open` and back, again and again | it recovers and falls under its load | a longer open time, or fewer places around it |
//! | p99 is high, nothing refused | the limit is above what is good for it | fewer places |
