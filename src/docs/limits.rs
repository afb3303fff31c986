//! What each layer does not protect from, and what helps instead.
//!
//! A layer sees requests, one process, and what Tokio tells it. This page lists what gets past each of them. Where each
//! belongs stands in [`placement`](crate::docs::placement).
//!
//! # Before there is a request
//!
//! No layer is called before the headers are complete:
//!
//! - **Connections, file descriptors, TLS handshakes.** Nothing here counts them. A place for each connection, taken where
//!   it is accepted, bounds the first two (below); a time-out around the handshake bounds the third. Then the limits of the
//!   system (`ulimit -n`, the listen backlog) and of a load balancer. An accept that fails for want of descriptors must be
//!   tried again a moment later, and not end the loop.
//! - **Slow headers.** Hyper's `header_read_timeout`, with its timer, closes the connection; over HTTP/1 it bounds idle
//!   connections as well. `axum::serve` sets no timer. Before the first bytes have said which HTTP it is, hyper-util's
//!   automatic builder keeps no time: `examples/common` does.
//! - **Silent HTTP/2 connections.** Hyper's `keep_alive_interval` finds peers that are gone. A peer that answers pings may
//!   stay: a proxy, or an age after which connections are shut down.
//! - **HTTP/1 pipelining.** Requests behind the first of a connection wait in its buffer, uncounted, and no time runs for
//!   them.
//! - **What hyper takes in.** By its defaults HTTP/1 buffers up to 400 kB (`max_buf_size`) for each connection. HTTP/2 lets
//!   a client open 200 streams (`max_concurrent_streams`) and buffers 1 MiB of received data for each connection, 16 KiB of
//!   headers for each request, and about 400 kB (`max_send_buf_size`) of an answer that cannot be sent. Multiply by
//!   connections. Streams that are opened and reset at once are bounded by `max_pending_accept_reset_streams` and
//!   `max_local_error_reset_streams`.
//!
//! ```no_run
//! use seawall::ConcurrencyLimit;
//! use tokio::net::{TcpListener, TcpStream};
//!
//! # async fn serve(_: TcpStream) {}
//! # async fn accept(listener: TcpListener) {
//! let connections = ConcurrencyLimit::new(10_000).named("connections");
//! loop {
//!     let Ok((connection, _)) = listener.accept().await else {
//!         tokio::time::sleep(std::time::Duration::from_millis(100)).await;
//!         continue;
//!     };
//!     let Ok(permit) = connections.try_acquire() else { continue }; // closes it
//!     tokio::spawn(async move {
//!         serve(connection).await;
//!         drop(permit);
//!     });
//! }
//! # }
//! ```
//!
//! # `CatchPanicLayer`
//!
//! - **What ends the process**: `panic = "abort"`, a panic while another unwinds, a stack overflow, `std::process::abort`,
//!   an allocation that fails, the kernel's out-of-memory killer. A process manager that starts it again, and more than one
//!   process behind a load balancer.
//! - **A panic in a destructor**: where a future or a body is dropped it is not caught. `Drop` should not panic.
//! - **Spawned tasks.** Tokio catches their panics and keeps them in the `JoinHandle`. Await it, and
//!   `std::panic::resume_unwind(error.into_panic())` if they concern the request.
//! - **A lock that was held.** A `std::sync::Mutex` is poisoned, and each `lock().unwrap()` from then on panics: one panic
//!   becomes a 500 for every request, from a server that looks alive. Locks without poisoning (`tokio::sync::Mutex`,
//!   `parking_lot`), or `PoisonError::into_inner` where what is inside is whole at every moment; else let the process end.
//! - **What was half done.** The request is over; what it has changed so far stays so. Transactions.
//! - **After the head** there can be no 500: the body is cut.
//!
//! # `LagShedLayer`
//!
//! - **Handlers that await** cause no lag, however many there are: [`ConcurrencyLimit`](crate::ConcurrencyLimit).
//! - **`spawn_blocking`** has a queue of its own, without bound, in front of 512 threads by default. It is no lag. A limit
//!   around the routes that use it, no larger than the threads; or a [`LoadSignal`](crate::LoadSignal) that counts what
//!   waits.
//! - **One blocked worker of several** is no lag by definition, as the others steal its work. What the same task awaits
//!   besides waits with it. Code that blocks belongs in `spawn_blocking`.
//! - **A `current_thread` runtime** has no other worker: a handler that blocks stops everything, the health check included.
//!   A lag during which no request came through is taken for a stall, and forgiven with the first that does; one right after
//!   another is not.
//! - **Several runtimes** are measured and refused each by itself, and outside of any runtime everything is admitted.
//!   Nothing moves load from one that is behind to one that is not: that is for whoever hands out the connections.
//! - **Short bursts** pass by design: a lag has to last 300 ms, or to reach 150 to 300 ms. For less,
//!   [`LagShed::strict`](crate::LagShed::strict), or a law of your own.
//! - **Exempt requests** are not refused, but wait as long as the others.
//! - **Memory** that grows within the 100 ms between two readings of [`memory_limit`](crate::LoadSignal::memory_limit), and
//!   any at all if that signal is not there: nothing looks at memory unless asked to.
//! - **A host that is short of CPU.** The lag is real and requests are refused, although the service is not to blame;
//!   [`LagReport::host_is_short`](crate::LagReport::host_is_short) tells which. If the thread that measures gets no reading
//!   in for half a second, everything is admitted, and counted as `fail_open`. After `fork` nothing is measured in the
//!   child.
//! - **Volume.** One core refuses some 85 000 requests a second, outermost, and does nothing else then. What is more has to
//!   be stopped in front of the process.
//!
//! # `CircuitBreakerLayer`
//!
//! - **200 with an error inside.** A [`classify`](crate::GateLayer::classify) over HTTP sees the head alone: let the service
//!   say it in the status, a header or an extension. Over [`Plain`](crate::Plain) and in
//!   [`run_with`](crate::CircuitBreaker::run_with) the closure sees the whole result.
//! - **Answers that break off.** Over HTTP the verdict falls at the head, and a body that fails later changes nothing. Read
//!   the body within what the breaker is around, with `run` for example, if that matters.
//! - **Slow successes**, without [`slow_call`](crate::circuit_breaker::CircuitBreakerBuilder::slow_call). And calls that
//!   hang until somebody outside gives up: cancelled calls count for nothing without it. It, or a time-out inside.
//! - **Callers with too little time**: what `grpc-timeout` ends speaks for nobody. A dependency that hangs and is only
//!   called with short ones may go unnoticed. On a client, give the time by the layer.
//! - **Low rates.** By default nothing is said of fewer than 20 calls in ten seconds: a service that is called once a second
//!   can fail for hours. [`consecutive_failures`](crate::circuit_breaker::CircuitBreakerBuilder::consecutive_failures), a
//!   smaller [`minimum_calls`](crate::circuit_breaker::CircuitBreakerBuilder::minimum_calls), or a longer window.
//! - **The time until it opens.** Until then calls hang and hold places: a time-out and a limit bound how many, for how
//!   long.
//! - **Load.** It counts failures and not calls: a dependency that answers well is called as often as anybody likes.
//! - **Several processes.** Each finds out by itself, sends its own probes, and begins closed after a restart.
//! - **Many keys.** Clients that choose the key of `CircuitBreakers` freely can push out the breakers of others.
//!
//! # `TimeoutLayer`
//!
//! - **Code that does not await.** A future can be dropped between two polls only: a handler that computes is not
//!   interrupted, its answer wins if it is ready when the poll ends, and the lag shedder is what bounds its like. A loop may
//!   `yield_now`.
//! - **Spawned work goes on**: the future is dropped, a `tokio::spawn` is not. Keep the handles in a `JoinSet`, which ends
//!   its tasks when it is dropped. `spawn_blocking` cannot be stopped once it runs: let the closure look at a flag or at its
//!   [`Deadline`](crate::Deadline).
//! - **Side effects.** What was sent or written before the drop stays, and a dependency that was asked works on.
//!   Transactions, keys that make a repetition harmless, and the deadline passed on. 504 says that nobody knows, not that
//!   nothing was done.
//! - **Slow readers.** Hyper asks for no frame that it cannot send, so that neither `including_body` nor `body_idle` runs
//!   while the client does not read, and the response keeps its place. A proxy that buffers, or a time for progress around
//!   the socket.
//! - **Upgraded connections.** At 101 the request is over. A WebSocket needs times of its own for silence and for its
//!   length.
//! - **The time before it is called**: in the runtime's queue, in the connection's buffer, in the kernel. Only the caller
//!   knows the whole: `grpc-timeout`, or a header of yours that says when it began.
//! - **Clocks.** Time is monotonic: setting the clock moves no deadline. Whether it runs on while the machine sleeps is up
//!   to the system; on Linux it does not, and a deadline is then late by the sleep.
//!
//! # `ConcurrencyLimitLayer`
//!
//! - **Handlers that compute** do not fill it: they keep their worker, and the next request is not even read.
//!   [`LagShed`](crate::LagShed) sees them.
//! - **Requests that never end** hold their place for ever: a time-out outside of it, `body_idle` for streams, times for the
//!   request's body. For slow readers see above.
//! - **Work that outlives the answer**: spawned tasks, upgraded connections, whose place is given back at 101. They take one
//!   of their own with [`try_acquire`](crate::ConcurrencyLimit::try_acquire), and move it along.
//! - **Unfairness.** Places go to who comes first: one tenant may take them all. A limit for each, by a
//!   [`Policy`](crate::policy::Policy) of yours, or one for the heavy routes.
//! - **Idle connections** hold no place and are not counted.
//! - **Unequal requests.** A place is a place, whatever it costs. Several limits, for routes that are alike.
//!
//! # `RequestLimitLayer`
//!
//! - **The memory of all requests.** It bounds one body. Times the limit of a [`ConcurrencyLimit`](crate::ConcurrencyLimit)
//!   outside of it, it bounds what all bodies take that are read whole: 512 places of 2 MiB are 1 GiB. What handlers make of
//!   a body comes on top, and so do answers, and what hyper buffers.
//! - **Compressed bodies**, if something further in unpacks them: the limit counts packed bytes. Unpack outside of it, or
//!   bound what is unpacked.
//! - **Slow bodies, large headers, long URIs**, unless asked to: `body_idle`, `body_deadline`, `body_rate`, `headers` and
//!   `uri` are off by default. Times run only while somebody waits for the body: one that nobody reads is not ended by them.
//! - **Large heads on their way in.** Hyper has read them when `headers` and `uri` are looked at: they are for limits below
//!   hyper's.
//! - **Content.** Deeply nested JSON, a regular expression that runs away, a query for everything: the limits of the parser
//!   and of the database. What computes for long is for the lag shedder.
//! - **Answers.** Their size is nobody's business here.
//!
//! # All of them
//!
//! - **One process.** Each handle counts in its own process: four of them with a limit of 512 are 2048 for what is behind.
//!   Divide, or have one gate in front.
//! - **Retries multiply.** A refusal is cheap but not free, and three layers of clients with three tries each make 27 calls
//!   of one. Retry in one place, within a budget, and mind `Retry-After`; it asks, and stops nobody.
//! - **Tenants.** The shedder refuses by lot, the limit by arrival, the breaker everybody. Whose requests they are is for
//!   [`exempt`](crate::GateLayer::exempt), a policy of yours, or limits of rate in front.
//! - **Denial of service.** A network that is full, a flood of handshakes, of connections or of cheap requests: the kernel,
//!   a load balancer, whoever owns the network.
//! - **A dependency without any of it.** What the service calls by other ways than through a layer, a database's pool say,
//!   needs its own times and bounds, or [`CircuitBreaker::run`](crate::CircuitBreaker::run) and `try_acquire`.
