//! What a request costs, how it is measured, and what many cores share.
//!
//! `cargo bench -p seawall-benches --bench peers` prints what each layer costs beside its peers:
//! instructions and allocations under Callgrind, nanoseconds, the throughput of two threads that
//! share a handle, the sizes of futures and bodies, and the cost of a rejection on the wire.
//! `cargo bench -p seawall-benches --bench memory` prints the memory of a hundred thousand requests
//! that run or are queued.
//!
//! # Figures
//!
//! The first benchmark counts instructions and allocations under Callgrind and measures nanoseconds
//! with Criterion; the cost of the service behind the layer is subtracted. Without `valgrind` it
//! prints nanoseconds only. The table has instructions per request, from 2026-11-30, with rustc
//! 1.95, tokio 1.54, tower 0.5.3, tower-http 0.7 and tower-resilience 0.14:
//!
//! | | seawall | best peer | next peer |
//! |---|---|---|---|
//! | circuit breaker, closed: admit and record | 220 | recloser 131 | failsafe 389 |
//! | the same with the last 100 calls | 133 | | |
//! | closed, as a layer | 293 | tower-resilience 1686, 3 allocations | |
//! | circuit breaker, open: reject | 207 | failsafe 83 | recloser 110 |
//! | concurrency limit: admit and release | 128 | tower 262 | tower-resilience 1253, 3 allocations |
//! | concurrency limit, reached: reject | 170 | tower 237 | |
//! | lag shedder | 72 | tower-resilience's adaptive limit 869, 1 allocation | little-loadshedder 1291, 1 allocation |
//! | timeout, ready at once | 75 | tower 197 | |
//! | the same over HTTP | 266 | tower-http 729 | |
//! | timeout, pending once | 768 | tower 683 | |
//! | request limit, declared length among six headers | 807 | tower-http 353 | |
//! | request limit, no headers | 440 | tower-http 188 | |
//! | panic isolation over HTTP | 275 | tower-http 340, 1 allocation | |
//! | six policies in one gate around an axum router | 1342, 0 allocations | tower and tower-http 4884, 6 allocations | tower-resilience's three 6427, 11 |
//! | `seawall::server()` around an axum router | 1301, 0 allocations | | |
//! | the same six as nested layers | 2969, 0 allocations | | |
//! | one gate through `Router::layer` | 2797, 4 allocations | 6279, 10 allocations | 7794, 15 |
//!
//! - The six are panic isolation, lag shedder, circuit breaker, timeout, concurrency limit and
//!   request limit. The peers are tower-http's panic, body and timeout layers, tower's limit and
//!   load shedding, and tower-resilience's breaker.
//! - Of the 4 allocations through `Router::layer`, axum makes 2 for any layer; the others box the
//!   bodies of another type. `request_body(Body::new)` and `response_body(Body::new)` save one.
//! - Instruction counts repeat exactly. Callgrind counts a clock read as 29 instructions; on this
//!   machine it takes as long as about 108.
//! - Recloser counts the last calls and reads no clock, as seawall does with a window of calls.
//! - The request limit of tower-http 0.7 answers 413 only if the request declares its length.
//!
//! # Allocations, timers and clocks
//!
//! - **Allocations.** An admitted request allocates nothing, with these exceptions:
//!   - a response body with a timeout, or that a drain counts, if its size is unknown or above
//!     64 KiB, or if its first poll does not return its last frame;
//!   - a queued request;
//!   - a deadline that you expose;
//!   - a timeout, or a limit for a request body, that inner layers may raise;
//!   - a classifier that decides at the end of a response body;
//!   - a request body that the handler waits for, if its pace is limited;
//!   - in a gate with a timeout or panic isolation, a request body above 16 KiB that the handler
//!     drops before its end;
//!   - the state of a request body, if the pool of its thread is empty.
//! - **Allocations of axum.** In `Router::layer`, axum boxes request and response bodies of another
//!   type than its own. [`request_body(Body::new)`](crate::GateLayer::request_body) avoids that for
//!   requests. For a layer around a router, call `with_state(())` on the router: otherwise axum
//!   builds the routes anew for each request.
//! - **Timers and clocks.** A call that is ready at its first poll sets no timer. It reads a clock
//!   only for a breaker with a window of time. Each thread keeps a pool of timers for its runtime.
//! - **Rare cases.** The code for a half-open breaker, a full queue, the headers of a rejection and
//!   metrics is out of line, or not compiled.
//!
//! The remaining cost is mostly that of moves: a request of about 250 bytes moves into each layer,
//! and a response of about 150 bytes moves out. The stack of [`server()`](crate::server) is one
//! gate, which moves them once. Put your own policies into the stack, or into
//! [one gate](crate::policy#several-policies-one-gate), rather than into one layer each.
//!
//! # Rejections
//!
//! One core rejects about 85 000 requests a second with a lag shedder around the router, 70 000
//! inside `Router::layer`, and 50 000 in a handler. It serves nothing else then.
//!
//! # The lag probe
//!
//! A lag shedder or a lag monitor has a thread that measures the runtime. An idle server uses
//! 0.13 % of a core with a lag shedder, and 0.00 % without one (2026-11-29).
//!
//! # What cores share
//!
//! Two cores that write one cache line take turns: each transfer of the line takes 40 to 100 ns
//! within a socket and more between sockets, however few instructions the write takes. A line that
//! all cores read and none writes stays in every cache and costs nothing. An admitted request
//! without a body that succeeds touches these lines:
//!
//! | layer | line | reads | writes |
//! |---|---|---|---|
//! | [`CatchPanicLayer`](crate::CatchPanicLayer) | reference count of the gate | | 2: a clone for the future, and its end |
//! | [`LagShedLayer`](crate::LagShedLayer) | state of the shedder | 1 | none; the sampler writes it at most every 10 ms |
//! | [`CircuitBreakerLayer`](crate::CircuitBreakerLayer) | state, settings | 2 | none; a change of state writes it |
//! | | count of the current slice of the window | 1 | 1: every success |
//! | | reference count of the gate | | 2 |
//! | [`TimeoutLayer`](crate::TimeoutLayer) | duration | 1 | none; `set_duration` writes it |
//! | | reference count of the gate | | 2 |
//! | [`ConcurrencyLimitLayer`](crate::ConcurrencyLimitLayer) | limit and permits, one word | 1 | 2: acquire, release |
//! | | reference count of the gate | | 2 |
//! | [`DrainLayer`](crate::DrainLayer) | requests in flight and the stage, one word | 1 | 2: enter, leave |
//! | | reference count of the gate | | 2 |
//! | [`RequestLimitLayer`](crate::RequestLimitLayer) | limits | 1 | none; the setters write them |
//! | | with a request body: reference count of the limits | | 2 |
//!
//! A stack is one gate with one reference count: `server()` writes six times to three lines, the
//! reference count, the permits and the requests of the drain. A response that can be ended from
//! outside also takes a lock of its runtime twice.
//!
//! A failure in a breaker writes the count of its own slice and, once for each slice, the newest
//! slice that has one. Then it reads up to 64 lines to add up. A rejection writes the count of
//! rejections, and reference counts. With the feature `metrics`, the recorder's counters are shared
//! too.
//!
//! A request through all six layers writes eleven times to six lines that other cores write too.
//! The effect is that of a closed queueing network: each core works for 15 µs on a request of its
//! own (hyper, routing, a small handler), then waits for each of these lines, 100 ns for each
//! write. Mean value analysis (Reiser and Lavenberg, 1980) solves it exactly:
//!
//! ```
//! /// Requests per microsecond on this many cores: each works for `work` microseconds, then uses
//! /// each line for its time.
//! fn throughput(cores: u32, work: f64, lines: &[f64]) -> f64 {
//!     let mut queues = vec![0.0; lines.len()];
//!     let mut throughput = 0.0;
//!     for n in 1..=cores {
//!         let waits: Vec<f64> =
//!             lines.iter().zip(&queues).map(|(line, queue)| line * (1.0 + queue)).collect();
//!         throughput = f64::from(n) / (work + waits.iter().sum::<f64>());
//!         queues = waits.iter().map(|wait| throughput * wait).collect();
//!     }
//!     throughput
//! }
//!
//! let share = |lines: &[f64], cores: u32| {
//!     (100.0 * throughput(cores, 15.0, lines) * 15.0 / f64::from(cores)).round()
//! };
//! let six = [0.2, 0.1, 0.2, 0.2, 0.2, 0.2];
//! let server = [0.2, 0.2, 0.2];
//! let cores = [1, 16, 32, 64, 96, 128];
//! assert_eq!(cores.map(|n| share(&six, n)), [93.0, 92.0, 90.0, 82.0, 68.0, 55.0]);
//! assert_eq!(cores.map(|n| share(&server, n)), [96.0, 95.0, 94.0, 88.0, 72.0, 57.0]);
//! ```
//!
//! | cores that share the handles | 1 | 16 | 32 | 64 | 96 | 128 |
//! |---|---|---|---|---|---|---|
//! | six nested layers: share of the throughput without them | 93 % | 92 % | 90 % | 82 % | 68 % | 55 % |
//! | `server()`: the same | 96 % | 95 % | 94 % | 88 % | 72 % | 57 % |
//!
//! The model assumes that every write transfers its line. With one core it does not, so that the
//! first column is too low. One handle allows at most five million requests a second, whatever the
//! number of cores. The consequences are:
//!
//! - **Up to 32 cores**, share the handles. The worst case is two threads that do nothing but call
//!   one handle. The table compares their calls with those of one thread (2026-11-26). The result
//!   depends on where the host places the two virtual cores: if the line moves faster between them,
//!   it moves more often, and each core does less in between.
//!
//!   | one handle, two threads | calls, compared with one thread |
//!   |---|---|
//!   | circuit breaker | 1.0 to 1.3 in two runs of three, 0.4 in the third |
//!   | failsafe, recloser, tower-resilience | 0.65 to 0.8, 0.1, 0.2 |
//!   | concurrency limit | 0.3 to 0.4 |
//!   | tower's limit, a bare `fetch_add` | 0.2 to 0.4, 0.4 to 0.5 |
//!
//! - **From 64 cores on**, use a handle for each group of cores: one runtime or one process for
//!   each (`SO_REUSEPORT`), with its share of the limit. An exact limit across 128 cores is not
//!   worth its cost.
//!
//! The number of writes is counted in the code, and two threads are measured. No run used 64 cores.
