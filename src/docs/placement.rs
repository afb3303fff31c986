//! Where to put each layer, on servers and on clients, and why.
//!
//! [The parts of a server](crate::stack#the-parts-of-a-server) gives the reasons for the order, and
//! [`limits`](crate::docs::limits) lists what each layer does not protect from.
//!
//! # The stack or single layers
//!
//! Start with [`seawall::server()`](crate::server) or [`seawall::client()`](crate::client): the
//! parts are in the right order, and the stack is one gate, which costs less than nested layers.
//!
//! Use single layers for a part that only some routes need, such as a circuit breaker, a second
//! concurrency limit or a shorter timeout. Use them also if you need another order. Single layers
//! work inside a stack and around it.
//!
//! # On a server
//!
//! | layer | scope | position | why |
//! |---|---|---|---|
//! | [`CatchPanicLayer`](crate::CatchPanicLayer) | the whole service, once | outside all other layers of this crate, inside request ids, traces and CORS | it catches the panics of all layers inside it; the layers outside add their headers to its 500 |
//! | [`LagShedLayer`](crate::LagShedLayer) | the process: one handle, on every listener | inside panic isolation; around the router is cheaper than `Router::layer` | all routes share the runtime; it rejects the most requests, so its rejections must be cheap |
//! | [`DrainLayer`](crate::DrainLayer) | the process: one handle, on every listener | inside the lag shedder, outside all other layers | it counts the requests that the shedder admits; the layers inside it do not see those that it rejects |
//! | [`CircuitBreakerLayer`](crate::CircuitBreakerLayer) | the routes that need the same dependency | inside the lag shedder, outside a timeout of its own | around all routes, it would also reject those that do not need the dependency; a breaker counts only the timeouts that are inside it |
//! | [`TimeoutLayer`](crate::TimeoutLayer) | the service; some requests get another time by [`per_request`](crate::TimeoutLayer::per_request), or from a layer on their route ([`raisable_to`](crate::TimeoutSettings::raisable_to())); a shorter one inside each breaker | outside the concurrency limit | the time in the queue counts |
//! | [`ConcurrencyLimitLayer`](crate::ConcurrencyLimitLayer) | the process: one handle; more for groups of routes | outside the request limit | a request holds its permit while its body is read; a body that is too slow releases it |
//! | [`RequestLimitLayer`](crate::RequestLimitLayer) | the router, or one route; some requests get another limit by [`per_request`](crate::RequestLimitLayer::per_request), or from a layer on their route ([`raisable_to`](crate::RequestLimitSettings::raisable_to())) | innermost | it replaces the response of a handler whose request body is too large |
//!
//! The handle is the state: a clone of it on a second listener is the same limit. Give a listener
//! for operators a concurrency limit of its own, so that it admits operators while the limit of the
//! public listener is reached. The [`LagShed`](crate::LagShed) can be the same, since all listeners
//! share the runtime.
//!
//! The stack around all routes, and a breaker around the routes of one database:
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use seawall::{CircuitBreaker, CircuitBreakerLayer, TimeoutLayer};
//! use tower::ServiceBuilder;
//!
//! let database = CircuitBreaker::default().named("database");
//! let reports: Router = Router::new()
//!     .route("/reports", get(async || "from the database"))
//!     .route_layer(
//!         ServiceBuilder::new()
//!             .layer(CircuitBreakerLayer::new(database.clone()))
//!             .layer(TimeoutLayer::new(Duration::from_secs(2))), // a failure for the breaker
//!     );
//!
//! let stack = seawall::server()
//!     .timeout(Duration::from_secs(5)) // for all routes
//!     .concurrency_limit(512)
//!     .exempt(|head| head.path() == "/health")
//!     .build()?;
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .route("/health", get(async || "ok"))
//!     .merge(reports)
//!     .layer(stack.clone());
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! Single layers in the same order, without the drain and the breaker:
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use seawall::{
//!     CatchPanicLayer, ConcurrencyLimitLayer, LagShed, LagShedLayer, RequestHead,
//!     RequestLimitLayer, TimeoutLayer,
//! };
//! use tower::ServiceBuilder;
//!
//! let is_health = |head: &RequestHead<'_>| head.path() == "/health";
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .route("/health", get(async || "ok"))
//!     .layer(
//!         ServiceBuilder::new()
//!             .layer(CatchPanicLayer::new())
//!             .layer(LagShedLayer::new(LagShed::default()).exempt(is_health))
//!             .layer(TimeoutLayer::new(Duration::from_secs(5)))
//!             .layer(ConcurrencyLimitLayer::new(512).exempt(is_health))
//!             .layer(RequestLimitLayer::new(2 << 20)),
//!     );
//! # let _ = app;
//! ```
//!
//! The breaker needs the timeout inside it. When an outer deadline passes, the outer layer drops
//! the call. The breaker records the call as cancelled. It ignores cancelled calls, unless they
//! took longer than [`slow_call`](crate::CircuitBreakerSettings::slow_call). The breaker does not
//! see requests that a layer outside it rejects, and ignores the rejections of a limit inside it.
//! It counts a panic as a failure.
//!
//! If all routes need the dependency, add the breaker to the stack with
//! [`policy`](crate::stack::ServerBuilder::policy): in a stack, the timeout is a failure for your
//! policies.
//!
//! # Axum
//!
//! - `Router::layer` runs after routing, around each route and fallback that you have added before.
//!   A 404 passes through the layer.
//! - `Router::route_layer` is around routes only: a 404 does not pass through the layer, a 405
//!   does. Use it for a circuit breaker, which counts a 404 as a success.
//! - `MethodRouter::layer` is around one path, `Handler::layer` around one handler: use them to
//!   limit an expensive one. Axum applies the layer of a handler anew for each request; the handle
//!   stays the same.
//! - Inside `Router::nest`, the path in `head.uri` has no prefix. `MatchedPath`, a good key for a
//!   breaker per route, is in the extensions inside the router only.
//! - [In front of the router](self#in-front-of-a-router), a layer runs before routing. There a
//!   rejection costs least, which matters most for the lag shedder.
//!
//! If one router has several dependencies, make one group of routes for each, with its own breaker
//! and timeout, and `merge` them. If a route needs two dependencies, its response does not say
//! which one failed: put the breakers around the clients that call them.
//!
//! # In front of a router
//!
//! For a layer in front of a router under `axum::serve`, keep the types of the bodies with
//! `request_body(Body::new)` and `response_body(Body::new)`. Also call `with_state(())` on the
//! router: without it, axum builds the routes anew for each request. `axum::serve` calls it only
//! for a router without a layer around it.
//!
//! ```no_run
//! use axum::{Router, body::Body};
//! use tower::{ServiceBuilder, make::Shared};
//!
//! # type Error = Box<dyn std::error::Error>;
//! # async fn serve(router: Router, listener: tokio::net::TcpListener) -> Result<(), Error> {
//! let stack = seawall::server().build()?.request_body(Body::new).response_body(Body::new);
//! let app = ServiceBuilder::new().layer(stack).service(router.with_state(()));
//! axum::serve(listener, Shared::new(app)).await?;
//! # Ok(()) }
//! ```
//!
//! # Share the permits
//!
//! There are no priorities, but you can nest limits. Outside a limit of 512 for all requests,
//! `ConcurrencyLimitLayer::new(128).exempt(|head| !head.path().starts_with("/batch/"))` leaves at
//! least 384 permits to requests that are not batch requests. Put the smaller limit outside, so
//! that it rejects a request before the request takes a permit of the larger one. Give a
//! [`queue`](crate::ConcurrencyLimitSettings::queue) to one of the two only: a request in the queue
//! of the inner limit holds a permit of the outer one.
//!
//! # Beside tower-http
//!
//! | layer | position | why |
//! |---|---|---|
//! | `SetRequestIdLayer`, `PropagateRequestIdLayer` | outside | rejections have an id too, and the panic hook gets it; if these layers are inside, the 500 of a panic has no id |
//! | `TraceLayer` | outside | it sees every response. By default it logs each 5xx at `ERROR`, rejections included: give `on_failure` a lower level. This crate counts rejections in metrics, and its events for them are at `DEBUG` |
//! | `CorsLayer` | outside | scripts of other origins can read a 503, and `retry-after` if you expose it; the layer answers preflights, which take no permit |
//! | `CompressionLayer` | inside the lag shedder and the concurrency limit | outside, it also compresses rejections, which costs more than the rejection itself. Idle timeouts work on both sides: the layer passes on its data when the body pauses |
//! | `RequestDecompressionLayer` | outside the request limit | the limit counts the bytes that the handler reads, not the compressed ones |
//! | `catch_panic`, `timeout`, `limit` | not needed | each module of this crate lists the "Differences" |
//!
//! # Health checks
//!
//! [`exempt`](crate::GateLayer::exempt) health checks from the layers that reject because of load.
//! Otherwise an orchestrator restarts a busy server, and the other servers get its load. Also
//! exempt them from a breaker around them: otherwise their successes count for its dependency. An
//! exempt request still waits in the runtime's queue: until the shedder is armed for up to
//! [`max_arm`](crate::LagThresholds::max_arm()) (400 ms), then for up to
//! [`max_bound`](crate::LagThresholds::max_bound()) (240 ms). Give the check a timeout well above
//! both. Do not report "not ready" while `lag.state()` is `Shedding`: the load balancer would send
//! the load to servers that are as busy. [`Health`](crate::Health) answers such checks, also [over
//! gRPC](crate::health#grpc-health-checks).
//!
//! # Tonic and hyper
//!
//! - Tonic's `Server::builder().layer(..)` is around all services and before tonic's routing.
//!   `named_layer` (of `tonic::service::LayerExt`) is around one service:
//!   `ConcurrencyLimitLayer::new(64).named_layer(GreeterServer::new(greeter))`. See
//!   `examples/testbed/src/bin/tonic.rs`.
//! - Do not use tonic's `timeout`, which answers `CANCELLED`, nor its
//!   `concurrency_limit_per_connection`, which is one limit for each connection with an unbounded
//!   queue.
//! - `RequestLimitLayer` counts all bytes of a request; tonic's `max_decoding_message_size` limits
//!   one message. `RequestLimitLayer` therefore ends long request streams: put it around services
//!   that have none. `including_body` ends long response streams: use an
//!   [`idle_timeout`](crate::ResponseBodyTimeoutSettings::idle_timeout()) for them.
//! - Under hyper, put the service with its layers into hyper-util's `TowerToHyperService`. Set two
//!   things that no layer replaces: on `http1()`, `.timer(TokioTimer::new())` and
//!   `.header_read_timeout(..)`, which does nothing without the timer; on `http2()`, `.timer(..)`
//!   and `.keep_alive_interval(..)`. `axum::serve` sets none of them. `examples/testbed` has such a
//!   server.
//! - REST and gRPC on one port are one router behind one stack: `rest.fallback_service(grpc)`,
//!   where `grpc` is from tonic's `Routes::into_axum_router`. It is the fallback since it answers
//!   unknown paths in gRPC. Each request gets its own kind of answer. See `mixed` in
//!   `examples/testbed`.
//!
//! # A timeout for each gRPC method
//!
//! Tonic has no layers for single methods. A [`TimeoutLayer`](crate::TimeoutLayer) with
//! [`per_request`](crate::TimeoutLayer::per_request) reads the path, which is
//! `/package.Service/Method`. The stack around it has one timeout for all methods;
//! `raisable_to(most)` lets an inner layer replace it by a longer one, of at most `most`:
//!
//! ```
//! use std::time::Duration;
//! use seawall::{TimeoutLayer, TimeoutSettings};
//! use tonic::transport::Server;
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let (usual, most) = (Duration::from_secs(5), Duration::from_secs(60));
//! let timeout = TimeoutSettings::new(usual).raisable_to(most);
//! let stack = seawall::server().timeout(timeout).build()?;
//! let of_stack = stack.timeout().clone();
//! let by_method = TimeoutLayer::new(of_stack).per_request(|head| match head.path() {
//!     "/orders.Orders/Report" => Some(Duration::from_secs(60)),
//!     path if path.starts_with("/search.Search/") => Some(Duration::from_secs(1)),
//!     _ => None, // the time of the stack
//! });
//!
//! # let (_, service) = tonic_health::server::health_reporter();
//! let server = Server::builder()
//!     .layer(stack) // outside
//!     .layer(by_method)
//!     .add_service(service);
//! # let _ = server;
//! # Ok(()) }
//! ```
//!
//! - **If no method has a longer time** than the stack, leave out `raisable_to`, which [costs
//!   allocations](crate::TimeoutSettings::raisable_to()).
//! - **The caller's own time** (`grpc-timeout`) applies if it is shorter.
//! - **Streams.** The time ends with the response head. Add `including_body()` to the layer for one
//!   deadline for the whole call. An
//!   [`idle_timeout`](crate::ResponseBodyTimeoutSettings::idle_timeout()) ends a silent stream.
//! - **Settings from a file** change the time of the stack, and so the time of all methods without
//!   a time of their own, because both layers have the same [`Timeout`](crate::Timeout). A layer
//!   with a timeout of its own would replace the time of the stack also after it was made shorter.
//! - **For one service**, put a layer around it with `named_layer` of `tonic::service::LayerExt`.
//! - **With axum**, give each route its own layer: `get(handler).layer(TimeoutLayer::new(..))`. A
//!   longer time needs `raisable_to` on the stack here too.
//!
//! # On a client
//!
//! From the outside:
//!
//! 1. **A timeout for all tries together.** Without it, three tries take up to three times as long.
//! 2. **The retry**, outside the breaker, so that the breaker counts each try. If the retry is
//!    inside, the breaker sees only the result of the last try: a dependency that fails two calls
//!    of three looks healthy, and gets three times the load.
//! 3. **The breaker.** A call that it rejects takes no permit and no time.
//! 4. **A timeout for one try**, which the breaker counts as a failure.
//! 5. **The concurrency limit.** A call that pauses between two tries holds no permit. The breaker
//!    ignores rejections of the limit.
//!
//! [`seawall::client()`](crate::client) is 3 to 5. Over HTTP, a rejection is a response (`Ok`) with
//! a [`Rejection`](crate::Rejection) in its extensions, so that the retry must look for it: see the
//! recipe for [a retry within a budget](crate::docs::recipes::retry#retry-within-a-budget).
//!
//! Hyper-util's client is always ready, and opens a connection for each call that finds no idle
//! one: the concurrency limit also bounds the connections. It does not count a connection that
//! hyper keeps after a timeout because the host does not read an upload. The client has no timeout
//! for a call, and drops idle connections in time only if it has a `pool_timer`.
//!
//! For a client that calls many hosts, use one breaker per host: `seawall::client().per_host()`, or
//! [`CircuitBreakers`](crate::circuit_breaker) (feature `keyed`). If one host answers with errors,
//! calls to the other hosts go on. All hosts share the concurrency limit, and a host that hangs can
//! hold all of its permits; see the [recipe for a proxy](crate::docs::recipes::proxy), and `client`
//! in `examples/testbed`. Under a load balancer, put a
//! [`CircuitBreakerReadyLayer`](crate::circuit_breaker::CircuitBreakerReadyLayer) around each
//! endpoint: while its breaker is open, the endpoint is not ready, and `tower::balance` calls
//! another one. Put `tower::load_shed` or a timeout around the balancer for the case that all are
//! open.
//!
//! A tonic channel behind layers works as the channel of a generated client:
//!
//! ```
//! use std::time::Duration;
//! use seawall::{
//!     CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimitLayer, Deadline, TimeoutLayer,
//! };
//! use tonic::transport::Endpoint;
//! use tower::ServiceBuilder;
//!
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! let breaker = CircuitBreaker::default().named("greeter");
//! let endpoint = Endpoint::from_static("http://localhost:50051")
//!     .connect_timeout(Duration::from_secs(1));
//! let channel = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::new(breaker.clone()))
//!     .layer(TimeoutLayer::new(Duration::from_secs(2)).expose_deadline())
//!     .layer(ConcurrencyLimitLayer::new(64))
//!     .map_request(|mut request: http::Request<tonic::body::Body>| {
//!         if let Some(deadline) = request.extensions().get::<Deadline>() {
//!             let timeout = deadline.to_grpc_timeout(); // the server stops in time too
//!             request.headers_mut().insert("grpc-timeout", timeout);
//!         }
//!         request
//!     })
//!     .service(endpoint.connect_lazy());
//! # fn fits_a_generated_client<T: tonic::client::GrpcService<tonic::body::Body>>(_: T) {}
//! # fits_a_generated_client(channel);
//! # Ok(()) }
//! ```
//!
//! - `connect_lazy` connects with the first call, as every channel does again after it has lost its
//!   connection. The connection is part of the call: the timeout covers it, and the breaker counts
//!   its failure. `connect` fails at the start instead.
//! - The channel's own `timeout` ends in `CANCELLED` and does not inform the server. Its
//!   `concurrency_limit` has an unbounded queue.
//! - `tonic::Request::set_timeout` sets `grpc-timeout`, which a `TimeoutLayer` takes for the
//!   caller's own timeout: where it is the shorter one, the breaker ignores the call. Give calls
//!   their timeout with the layer, and write the header inside it, as above.
