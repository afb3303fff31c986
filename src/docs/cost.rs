//! What a request costs here: how it is measured, and what many cores share.
//!
//! `cargo bench --bench peers` prints what each layer costs beside its peers: instructions and allocations under Callgrind,
//! nanoseconds; what two threads do with one instance; the sizes of futures and bodies; and what a refusal costs on the
//! wire. `cargo bench --bench memory` prints how much memory a hundred thousand requests take, running and waiting. The short table is
//! in the README.
//!
//! # What no request pays for
//!
//! - No layer allocates for an admitted request, but for one cell where the length of a request body is unknown, and what
//!   was asked for. (Around an axum `Router` from the outside: nothing. Through `Router::layer` axum boxes what has
//!   another type, the request body and the response body, and the layers as well, for each request, if the router was not
//!   given its state with `with_state`, which `axum::serve` does for it.)
//! - A timer exists only once somebody has to wait. A call that is ready at once costs no look at the clock.
//! - Whatever is cold is out of line: a half-open breaker, a full room, a refusal's headers, metrics that are not compiled in.
//!
//! What is left is mostly moving: a request of some 250 bytes goes into each layer and a response of some 150 comes back
//! out of it. Where that matters, put what decides at the door into [one gate](crate::policy#several-policies-one-gate): one
//! body to wrap instead of one for each. (The time-out is outside of that gate then, and what times out is no failure to the breaker in it, unless it took longer than
//! [`slow_call`](crate::circuit_breaker::CircuitBreakerBuilder::slow_call).)
//!
//! # What cores share
//!
//! Two cores that write one cache line take turns: 40 to 100 ns for each time that it changes hands within a socket, more
//! between sockets, however few instructions it takes. A line that all read and nobody writes stays in every cache, and
//! costs nothing. These are the lines that a request touches, per request that is admitted and succeeds:
//!
//! | layer | line | read | written, by whom |
//! |---|---|---|---|
//! | [`CatchPanicLayer`](crate::CatchPanicLayer) | reference count | | 2x: a clone for the future, its end |
//! | [`LagShedLayer`](crate::LagShedLayer) | word of the law | 1x | never; by the sampler, at most every 10 ms |
//! | [`CircuitBreakerLayer`](crate::CircuitBreakerLayer) | state word, settings | 2x | never; when the state changes |
//! | | count of the present slice | 1x | 1x: every success |
//! | | reference count | | 2x |
//! | [`TimeoutLayer`](crate::TimeoutLayer) | duration | 1x | never; when it is set |
//! | | reference count | | 2x |
//! | [`ConcurrencyLimitLayer`](crate::ConcurrencyLimitLayer) | limit and places, one word | 1x | 2x: enter, leave |
//! | | reference count | | 2x |
//! | [`RequestLimitLayer`](crate::RequestLimitLayer) | limits | 1x | never; when they are set |
//!
//! And on the failing side: a failure in a breaker writes its own slice's count and, once for each slice, the newest slice
//! that has one; then it reads up to 64 lines to add up. A refusal writes the count of refusals, and a reference count twice.
//!
//! A request through all six writes eleven times to six lines that other cores write too. What that comes to is a closed
//! network of queues: each core works for 15 µs on a request of its own (hyper, routing, a small handler), then waits for each of
//! these lines, 100 ns for each write. Mean value analysis (Reiser and Lavenberg, 1980) solves it exactly:
//!
//! ```
//! /// Requests per microsecond of so many cores: `work` microseconds to themselves, then each line for its time.
//! fn throughput(cores: u32, work: f64, lines: &[f64]) -> f64 {
//!     let mut queues = vec![0.0; lines.len()];
//!     let mut throughput = 0.0;
//!     for n in 1..=cores {
//!         let waits: Vec<f64> = lines.iter().zip(&queues).map(|(line, queue)| line * (1.0 + queue)).collect();
//!         throughput = f64::from(n) / (work + waits.iter().sum::<f64>());
//!         queues = waits.iter().map(|wait| throughput * wait).collect();
//!     }
//!     throughput
//! }
//!
//! let six = [0.2, 0.1, 0.2, 0.2, 0.2, 0.2];
//! let share = |cores: u32| (100.0 * throughput(cores, 15.0, &six) * 15.0 / f64::from(cores)).round();
//! assert_eq!([1, 16, 32, 64, 96, 128].map(share), [93.0, 92.0, 90.0, 82.0, 68.0, 55.0]);
//! ```
//!
//! | cores that share one of each | 1 | 16 | 32 | 64 | 96 | 128 |
//! |---|---|---|---|---|---|---|
//! | of what they would do without, if every write had to fetch its line | 93 % | 92 % | 90 % | 82 % | 68 % | 55 % |
//!
//! (The first column is the price if the line were always elsewhere, which with one core it is not.) The ceiling is five
//! million requests a second through one handle, whatever the number of cores. So:
//!
//! - **Up to 32 cores** a shared handle is nothing to think about. Two threads here that do nothing but ask one breaker do
//!   1.0 to 1.3 times what one does alone in two runs of three, and 0.4 times in the third (failsafe 0.8 and 0.65, recloser 0.1,
//!   tower-resilience 0.2); of a limit they do 0.3 to 0.4 (tower 0.2 to 0.4, a bare `fetch_add` 0.4 to 0.5). Which it is the host
//!   decides, which places the two virtual cores: the sooner a line changes hands, the more often it does, and the less is done
//!   between.
//! - **With 64 cores and more**, a handle for each group of cores is better: a runtime or a process each (`SO_REUSEPORT`),
//!   and a limit that is its share. That is what a load balancer in front does anyway, and no exact count across 128 cores is
//!   worth what it costs.
//!
//! The writes are counted from the code and the two threads measured; nothing of this has been run on 64 cores.
