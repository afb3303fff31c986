//! What each layer does not protect from, and what to use instead.
//!
//! A layer sees the requests of one process, and what Tokio reports. This page lists what each
//! layer cannot see or stop. [`placement`](crate::docs::placement) explains where to put the
//! layers.
//!
//! # Before there is a request
//!
//! No layer is called before the headers of a request are complete:
//!
//! - **Connections, file descriptors, TLS handshakes.** No layer counts them. Take a permit for
//!   each accepted connection to bound the first two (see below), and put a timeout around the
//!   handshake. Beyond that, set the limits of the system (`ulimit -n`, the listen backlog) and of
//!   the load balancer. When `accept` fails because there are no file descriptors, wait a moment
//!   and accept again; do not end the loop.
//! - **Slow headers.** Hyper's `header_read_timeout` closes the connection if hyper has a timer.
//!   Over HTTP/1 it bounds idle connections too. `axum::serve` sets no timer. Hyper-util's
//!   automatic builder has no timeout for the first bytes, which distinguish HTTP/1 from HTTP/2;
//!   `examples/testbed` adds one.
//! - **Silent HTTP/2 connections.** Hyper's `keep_alive_interval` closes connections whose peer
//!   does not answer pings. A peer that answers pings may stay: use a proxy, or shut connections
//!   down at a maximum age.
//! - **HTTP/1 pipelining.** Requests behind the first one of a connection wait in its buffer.
//!   Nothing counts them, and no timeout applies to them.
//! - **What hyper buffers.** By default, HTTP/1 buffers up to 400 kB (`max_buf_size`) for each
//!   connection. HTTP/2 lets a client open 200 streams (`max_concurrent_streams`; tonic sets no
//!   limit unless you do). It buffers 1 MiB of received data for each connection, 16 KiB of headers
//!   for each request, and about 400 kB (`max_send_buf_size`) of a response that cannot be sent.
//!   Multiply by the number of connections. `max_pending_accept_reset_streams` and
//!   `max_local_error_reset_streams` limit streams that a client opens and resets immediately.
//! - **Uploads that wait for each other.** All streams of an HTTP/2 connection share its window. By
//!   default, the connection and each stream have a window of 1 MiB. The unread bodies of queued
//!   requests can fill the connection's window, and requests with a permit then get no data. Set
//!   the connection's window to at least `max_concurrent_streams` times the window of a stream (see
//!   below). A connection then buffers more: 12.5 MiB for 200 streams of 64 KiB. A stream window of
//!   64 KiB limits one upload to 64 KiB for each round trip. Do not use less than 64 KiB: h2 0.4
//!   can lose a window update, and the upload then never ends. All unread uploads together take at
//!   most the number of permits and queued requests, times the window of a stream. `axum::serve`
//!   has no settings for windows.
//!
//! ```no_run
//! # use hyper_util::{rt::TokioExecutor, server::conn::auto::Builder};
//! const STREAMS: u32 = 200;
//! const STREAM_WINDOW: u32 = 64 * 1024;
//!
//! # fn windows(server: &mut Builder<TokioExecutor>) {
//! server
//!     .http2()
//!     .max_concurrent_streams(STREAMS)
//!     .initial_stream_window_size(STREAM_WINDOW)
//!     .initial_connection_window_size(STREAMS * STREAM_WINDOW);
//! # }
//! ```
//!
//! Tonic's `Server::builder()` has the same three methods. To bound the number of connections:
//!
//! ```no_run
//! use seawall::ConcurrencyLimit;
//! use tokio::net::{TcpListener, TcpStream};
//!
//! # async fn serve(_: TcpStream) {}
//! # async fn accept(listener: TcpListener) -> Result<(), seawall::ConfigError> {
//! let connections = ConcurrencyLimit::new(10_000)?.named("connections");
//! loop {
//!     let Ok((connection, _)) = listener.accept().await else {
//!         tokio::time::sleep(std::time::Duration::from_millis(100)).await;
//!         continue;
//!     };
//!     let Ok(permit) = connections.try_acquire_owned() else { continue }; // closes the connection
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
//! - **The end of the process**: `panic = "abort"`, a panic during another panic, a stack overflow,
//!   `std::process::abort`, a failed allocation, the kernel's out-of-memory killer. Use a process
//!   manager that restarts the process, and more than one process behind a load balancer.
//! - **A panic in a destructor.** The layer does not catch a panic while a future or a body is
//!   dropped. `Drop` should not panic.
//! - **Spawned tasks.** Tokio catches their panics and keeps them in the `JoinHandle`. Await it,
//!   and call `std::panic::resume_unwind(error.into_panic())` if the panic concerns the request.
//! - **A lock that the handler held.** A `std::sync::Mutex` is poisoned, and each later
//!   `lock().unwrap()` panics: every request gets a 500 from a server that looks healthy. Use locks
//!   without poisoning (`tokio::sync::Mutex`, `parking_lot`), or `PoisonError::into_inner` where
//!   the value is valid at every moment. Otherwise let the process end.
//! - **Half-finished changes.** The request has ended, and its changes so far stay. Use
//!   transactions.
//! - **After the response head**, a 500 is no longer possible: the body ends with an error.
//!
//! # `LagShedLayer`
//!
//! - **Handlers that await** cause no lag, however many there are. Use a
//!   [`ConcurrencyLimit`](crate::ConcurrencyLimit).
//! - **`spawn_blocking`** has an unbounded queue in front of 512 threads by default, which is no
//!   lag. Put a concurrency limit around the routes that use it, not larger than the number of
//!   threads, or use a [`LoadSignal`](crate::LoadSignal) that reads the length of that queue.
//! - **One blocked worker of several** causes no lag, since the other workers steal its tasks.
//!   Other futures of the task that blocks must wait. Move code that blocks to `spawn_blocking`.
//! - **A `current_thread` runtime** has no other worker: a handler that blocks stops everything,
//!   health checks included. If no request arrives during a lag, the shedder treats the lag as a
//!   stall, and ignores it at the first request. It does not ignore a second stall right after the
//!   first.
//! - **Several runtimes** are measured separately, and each sheds for itself. Outside a runtime
//!   everything is admitted. No layer moves load from a busy runtime to an idle one: balance the
//!   connections.
//! - **Tasks in a `LocalSet`** share one task of the runtime: neither the probe nor a mark sees
//!   their queue. Spawn connections on the runtime itself, or use a concurrency limit.
//! - **Short bursts** are admitted by design: a lag arms the shedder when it reaches 80 ms, or more
//!   with long handlers. For less, use [`LagThresholds::strict`](crate::LagThresholds::strict).
//! - **Exempt requests** are not rejected, but they wait in the runtime's queue like all others.
//! - **Memory.** Nothing reads the memory unless you add
//!   [`memory_limit`](crate::LoadSignal::memory_limit), and that reads it every 100 ms.
//! - **A host that is short of CPU.** The lag is real, and requests are rejected, although the
//!   service is not the cause. [`LagReport::host_is_short`](crate::LagReport::host_is_short) shows
//!   it. If the thread that measures has no reading for half a second, everything is admitted. What
//!   the last reading would reject is counted as `fail_open`. After `fork`, nothing is measured in
//!   the child.
//! - **Volume.** A core that only rejects has a [maximum rate](crate::docs::cost#rejections), and
//!   serves nothing else then. Stop more than that in front of the process.
//!
//! # `CircuitBreakerLayer`
//!
//! - **200 with an error in the body.** [`classify`](crate::GateLayer::classify) over HTTP sees the
//!   head only: let the service report errors in the status, a header or an extension. Over
//!   [`Plain`](crate::Plain) and in [`run_with`](crate::CircuitBreaker::run_with), the closure sees
//!   the whole result.
//! - **Bodies that end early.** Over HTTP the outcome is recorded at the response head, and a body
//!   that fails later changes nothing. If it matters, read the body inside the breaker, for example
//!   with `run`.
//! - **Slow successes and calls that hang.** A slow success is a success, and a cancelled call is
//!   ignored. Set [`slow_call`](crate::CircuitBreakerSettings::slow_call), or put a timeout inside
//!   the breaker.
//! - **Callers with short timeouts.** A call that ends because of `grpc-timeout` is ignored, also
//!   if a handler passes the [`Deadline`](crate::Deadline) on: the breaker does not notice a
//!   dependency that hangs if all its callers have short timeouts. On a client, set a shorter
//!   timeout with the layer.
//! - **Low rates.** By default the rates need 20 calls in ten seconds: a service that is called
//!   once a second can fail for hours. Set
//!   [`consecutive_failures`](crate::CircuitBreakerSettings::consecutive_failures), a smaller
//!   [`minimum_calls`](crate::CircuitBreakerSettings::minimum_calls), or a longer window.
//! - **The time until it opens.** Calls hang and hold permits until then. A timeout and a
//!   concurrency limit bound for how long, and how many.
//! - **Load.** It does not limit how often callers call a healthy dependency.
//! - **Several processes.** Each has its own breaker, which sends its own probes and is closed
//!   after a restart.
//! - **Many keys.** Clients that choose the key of `CircuitBreakers` freely can evict the breakers
//!   of other keys.
//!
//! # `TimeoutLayer`
//!
//! - **Code that does not await.** A future can only be dropped between two polls. A handler that
//!   computes is not interrupted, and its response wins if it is ready when the poll returns. The
//!   lag shedder bounds such requests. A long loop can call `yield_now`.
//! - **Spawned work goes on.** The handler's future is dropped, its `tokio::spawn`ed tasks are not.
//!   Keep their handles in a `JoinSet`, which aborts its tasks when it is dropped. A closure in
//!   `spawn_blocking` cannot be stopped: let it check a flag or its [`Deadline`](crate::Deadline).
//! - **Side effects.** Data that the handler has sent or written before it is dropped stays, and a
//!   dependency goes on working on its call. Use transactions and idempotency keys, and pass the
//!   deadline on. A 504 means that the result is unknown, and not that nothing was done.
//! - **Small responses to slow readers.** A body of known size up to 64 KiB releases its permit
//!   with its last frame, although hyper may still keep the body. This early release needs a hyper
//!   that polls a body before it waits for the client's window, as 1.12 does. The timeouts for
//!   response bodies apply to such a body from its first poll on.
//! - **Large frames without a progress timeout.** Over HTTP/2, a client with a window of one byte
//!   makes hyper take a whole frame and drop the body, which releases the permit. Around responses
//!   with frames above 64 KiB, use a
//!   [`progress_timeout`](crate::ResponseBodyTimeoutSettings::progress_timeout()): the gate then
//!   passes such a frame on in slices. The stack of a server has one.
//! - **Slow readers and the idle timeout.** The
//!   [`idle_timeout`](crate::ResponseBodyTimeoutSettings::idle_timeout()) is for silent handlers:
//!   it applies only while the connection waits for a frame.
//! - **Upgraded connections.** A request ends with its 101. Give a WebSocket its own timeouts for
//!   silence and for its length.
//! - **The time before the call**: in the runtime's queue, in the connection's buffer, in the
//!   kernel. Only the caller knows the whole time: use `grpc-timeout`, or a header of your own with
//!   the time at which the call began.
//! - **A paused process**, for example by `SIGSTOP` or `docker pause`. Deadlines go on. If a
//!   timeout is more than 100 ms overdue when the runtime polls it, after a pause or because the
//!   runtime is behind, it waits for another 100 ms, once. In that time the runtime reads what has
//!   arrived meanwhile. The progress timeout counts at most half a second of the pause.
//! - **Suspended machines.** Deadlines use the monotonic clock, so that a change of the system time
//!   does not move them. On Linux this clock stops while the machine is suspended, so that a
//!   deadline is late by that time.
//!
//! # `ConcurrencyLimitLayer`
//!
//! - **Handlers that compute** do not reach the limit. They keep their worker, and the server does
//!   not read the next request. Use [`LagShed`](crate::LagShed).
//! - **Requests that never end** hold their permits. Put a timeout outside the limit, and set
//!   timeouts for bodies. For responses, use [`including_body`](crate::GateLayer::including_body),
//!   or the [`idle_timeout`](crate::ResponseBodyTimeoutSettings::idle_timeout()) together with the
//!   [`progress_timeout`](crate::ResponseBodyTimeoutSettings::progress_timeout()). For requests,
//!   use the timeouts of [`RequestLimitSettings`](crate::RequestLimitSettings).
//! - **Work that outlives the response**: spawned tasks, and upgraded connections, which release
//!   the permit at the 101. Take a permit for them with
//!   [`try_acquire_owned`](crate::ConcurrencyLimit::try_acquire_owned), and move it into the task.
//! - **Unfairness.** The first request takes the permit: one tenant may hold all of them. Use a
//!   limit for each tenant, with your own [`Policy`](crate::policy::Policy), or one for the
//!   expensive routes.
//! - **Idle connections** hold no permit and are not counted.
//! - **Unequal requests.** Each request takes one permit, whatever it costs. Use several limits,
//!   each for routes with similar costs.
//!
//! # `RequestLimitLayer`
//!
//! - **The delay of a rejected upload over HTTP/1.** The gate [first reads a small rest of the
//!   upload](crate::request_limit#a-client-that-is-still-sending), for at most half a second, and
//!   then answers. It holds no permit while it reads; the layers outside it hold theirs until the
//!   answer is sent.
//! - **The memory of all requests.** It bounds one body. Multiply it by the limit of a
//!   [`ConcurrencyLimit`](crate::ConcurrencyLimit) outside it to get the bound for all bodies that
//!   handlers read whole: 512 bodies of 2 MiB are 1 GiB. The values that handlers decode from a
//!   body, the responses, and hyper's buffers need more memory.
//! - **Compressed bodies**, if an inner layer decompresses them: the limit counts compressed bytes.
//!   Decompress outside the limit, or limit the decompressed bytes.
//! - **Slow bodies, large headers, long URIs** by default: `body_idle_timeout`, `body_timeout`,
//!   `min_body_rate`, `max_header_bytes`, `max_headers` and `max_uri` of
//!   [`RequestLimitSettings`](crate::RequestLimitSettings) are off. The timeouts apply only while
//!   the handler waits for the body: they do not end a body that the handler does not read.
//! - **Large heads while they arrive.** Hyper has read the head before the layer checks
//!   `max_header_bytes`, `max_headers` and `max_uri`: use them for limits below hyper's.
//! - **Content**: deeply nested JSON, a regular expression with exponential run time, a query that
//!   returns everything. Use the limits of the parser and of the database, and the lag shedder for
//!   handlers that compute.
//! - **Responses.** Nothing limits their size.
//!
//! # `DrainLayer`
//!
//! - **The process itself.** The drain does not read SIGTERM and does not end the process: call
//!   [`begin`](crate::Drain::begin), and return from `main` after [`serve`](crate::Drain::serve).
//! - **Work without a request**: spawned tasks, timers, and connections after an upgrade. Take a
//!   permit for them with [`try_acquire_owned`](crate::Drain::try_acquire_owned).
//! - **Handlers without a response head** at the end of the grace period end with the process.
//! - **A process that is killed**, or a grace period that is longer than that of the orchestrator.
//! - **Connections that arrive while the listener closes**, at the end of the lame-duck time: the
//!   kernel resets those that the server has not accepted yet. By then, clients and load balancers
//!   should have found that the service is not ready.
//!
//! # All of them
//!
//! - **The runtime.** It needs a time driver: a layer panics when it sets a timer without one.
//!   Timeouts, queues, drains, bounds of bodies and events set timers. A task on the runtime that
//!   ran the service ends response bodies that are over their bounds. After that runtime has ended,
//!   such a body ends only with its connection. A thread may outlive its runtime. It then keeps up
//!   to 64 timers and the file descriptors of that runtime, until it sets a timer in another
//!   runtime.
//! - **One process.** Each handle counts in its own process: four processes with a limit of 512
//!   allow 2048 requests to their dependency. Divide the limit, or put one limit in front.
//! - **Retries multiply.** Each rejection has a small cost, and three layers of clients with three
//!   tries each turn one call into 27. Retry at one level, [within a
//!   budget](crate::docs::recipes::retry#retry-within-a-budget), and honour `Retry-After`. Clients
//!   may ignore that header.
//! - **Tenants.** The shedder rejects the requests that have waited longest, the concurrency limit
//!   rejects those that arrive last, and an open breaker rejects all. To distinguish tenants, use
//!   [`exempt`](crate::GateLayer::exempt), your own policy, or a rate limit in front.
//! - **Denial of service**: a full network, a flood of handshakes, connections or cheap requests.
//!   Use the kernel, a load balancer, or the network provider.
//! - **Dependencies without a layer.** A handler may call a dependency in another way, for example
//!   through a pool of database connections. Give such a dependency its own timeouts and limits, or
//!   use [`CircuitBreaker::run`](crate::CircuitBreaker::run) and `try_acquire`; see the recipe for
//!   [a database](crate::docs::recipes::database).
