//! What goes where: each layer's place in a server and in a client, its neighbours, and why.
//!
//! The reasons for the order stand in [the order of layers](crate#the-order-of-layers); what passes by each layer all the
//! same, in [`limits`](crate::docs::limits).
//!
//! # On a server
//!
//! | layer | scope | neighbours | why |
//! |---|---|---|---|
//! | [`CatchPanicLayer`](crate::CatchPanicLayer) | the whole service, once | outside of all of ours, inside request ids, traces and CORS | nothing of ours unwinds past it, and its 500 has what those add |
//! | [`LagShedLayer`](crate::LagShedLayer) | process: one handle, on every listener, before routing | next inside | all routes share the runtime; it refuses most, so it must refuse cheapest |
//! | [`CircuitBreakerLayer`](crate::CircuitBreakerLayer) | the routes that share one dependency | inside the shedder, outside a time-out | one around all routes refuses all of them; a time-out is a failure only to what is outside of it |
//! | [`TimeoutLayer`](crate::TimeoutLayer) | service, [`per_request`](crate::TimeoutLayer::per_request) for exceptions; a shorter one in each breaker | outside the limit | waiting for a place counts |
//! | [`ConcurrencyLimitLayer`](crate::ConcurrencyLimitLayer) | process: one handle; more for groups of routes | outside the request limit | a place is held while the body is read; a body that is too slow gives it back |
//! | [`RequestLimitLayer`](crate::RequestLimitLayer) | router, [`per_request`](crate::RequestLimitLayer::per_request) for exceptions; or one route | innermost | it replaces what the handler makes of a body that is too large |
//!
//! State is in the handle, so that a clone of it on a second listener is the same limit. A listener for operators takes
//! limits of its own: a public one that is full must not lock them out. The [`LagShed`](crate::LagShed) is the same, as the
//! runtime is.
//!
//! All six, with a breaker around the routes of one database:
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use seawall::{
//!     CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimitLayer, LagShed, LagShedLayer, RequestHead,
//!     RequestLimitLayer, TimeoutLayer,
//! };
//! use tower::ServiceBuilder;
//!
//! let database = CircuitBreaker::builder().name("database").build()?;
//! let reports: Router = Router::new()
//!     .route("/reports", get(async || "from the database"))
//!     .route_layer(
//!         ServiceBuilder::new()
//!             .layer(CircuitBreakerLayer::new(database.clone()))
//!             .layer(TimeoutLayer::new(Duration::from_secs(2))), // what the breaker sees
//!     );
//!
//! let is_health = |head: &RequestHead<'_>| head.uri.path() == "/health";
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .route("/health", get(async || "ok"))
//!     .merge(reports)
//!     .layer(
//!         ServiceBuilder::new()
//!             .layer(CatchPanicLayer::new())
//!             .layer(LagShedLayer::new(LagShed::default()).exempt(is_health))
//!             .layer(TimeoutLayer::new(Duration::from_secs(5))) // for all that is inside
//!             .layer(ConcurrencyLimitLayer::new(512).exempt(is_health))
//!             .layer(RequestLimitLayer::new(2 * 1024 * 1024)),
//!     );
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! The breaker needs the inner time-out. When the outer one is up it drops what is inside, which to the breaker is a
//! cancelled call, and counts for nothing unless it has taken longer than
//! [`slow_call`](crate::circuit_breaker::CircuitBreakerBuilder::slow_call). A refusal of the shedder or of the limit never
//! gets as far as the breaker; a panic counts as it passes.
//!
//! # Axum
//!
//! - `Router::layer` runs after routing, around each route and fallback that is there by then. A 404 passes through it.
//! - `Router::route_layer` is around routes alone: a 404 does not pass through it, a 405 does. A breaker belongs here, since
//!   to it a 404 is a success.
//! - `MethodRouter::layer` is around one path, `Handler::layer` around one handler: the limit of one that is expensive. Axum
//!   applies the latter anew with each request; the handle stays the same.
//! - Inside `Router::nest` the path in `head.uri` has lost its prefix. `MatchedPath`, a good key for a breaker per route, is
//!   in the extensions inside the router only.
//! - Around the router, layers run before routing: cheapest, which matters most to `LagShedLayer`. `CatchPanicLayer` goes
//!   with it, as it stays outside of it; the others may stay in the router. [The crate docs](crate#the-order-of-layers) have
//!   the line that the body's type needs there.
//!
//! One router with several dependencies is one group of routes for each, with its own breaker and time-out, and `merge`. Of
//! a route that needs two of them an answer does not say which has failed: put the breakers around its clients.
//!
//! # Who gets the places
//!
//! There are no priorities, but limits can share. Outside of one of 512 places for all, a
//! `ConcurrencyLimitLayer::new(128).exempt(|head| !head.uri.path().starts_with("/batch/"))` leaves at least 384 of them to
//! what is no batch. The smaller one is outside, so that it refuses without taking a place of all. Let only one of the two
//! [`wait`](crate::ConcurrencyLimit::wait): who waits in the inner one holds a place of the outer one.
//!
//! # Beside tower-http
//!
//! | theirs | where | why |
//! |---|---|---|
//! | `SetRequestIdLayer`, `PropagateRequestIdLayer` | outside of ours | refusals have an id too, and the panic hook is told it; inside, the id of a 500 is lost with what unwinds |
//! | `TraceLayer` | outside of ours | it sees every answer. By default it logs each 5xx at `ERROR`, refusals among them: give `on_failure` a lower level. Those of ours are counted, and events at `DEBUG` |
//! | `CorsLayer` | outside of ours | scripts of other origins can read a 503, and `retry-after` if it is exposed; preflights end there and take no place |
//! | `CompressionLayer` | inside the shedder and the limit | outside, it compresses refusals as well, which are above its least size, and that costs more than to refuse. Idle times work on either side: it hands on what it has when the body pauses |
//! | `RequestDecompressionLayer` | outside the request limit | it counts what the handler reads then, and not how small that was on its way |
//! | `catch_panic`, `timeout`, `limit` | nowhere | what ours do instead stands in each module under "Differences" |
//!
//! # Health checks
//!
//! [`exempt`](crate::GateLayer::exempt) them from what refuses for load: a server that is restarted because it is busy
//! leaves its load to the others. Exempt them from a breaker that is around them, or their successes count for its
//! dependency. What is exempt still waits in the runtime's queue: give the check a time-out well above the 100 ms of lag at
//! which the shedder refuses everything else. To report "not ready" while `lag.state()` is `Shedding` sends the load to
//! servers that are as busy.
//!
//! # Tonic, hyper, both
//!
//! - Tonic's `Server::builder().layer(..)` is around all services and before tonic's routing; `named_layer` (of
//!   `tonic::service::LayerExt`) is around one: `ConcurrencyLimitLayer::new(64).named_layer(GreeterServer::new(greeter))`.
//!   See `examples/tonic.rs`.
//! - Leave out tonic's `timeout`, which answers `CANCELLED`, and its `concurrency_limit_per_connection`, which is one limit
//!   for each connection and waits without bound.
//! - `RequestLimitLayer` counts a request to its end, tonic's `max_decoding_message_size` one message: the former would end
//!   long streams of requests, so put it around services without them. `including_body` would end long streams of answers:
//!   [`body_idle`](crate::TimeoutLayer::body_idle) bounds their silence instead.
//! - Under hyper the stack goes into hyper-util's `TowerToHyperService`. What no layer can replace: `http1()` needs
//!   `.timer(TokioTimer::new()).header_read_timeout(..)`, without the timer there is no time at all, and `http2()`
//!   `.timer(..).keep_alive_interval(..)`. `axum::serve` sets neither. `examples/common` has such a server.
//! - REST and gRPC on one port are one router behind one stack: `rest.fallback_service(grpc)`, with `grpc` from tonic's
//!   `Routes::into_axum_router`, which comes second as it answers in gRPC what it does not know. Each request gets its own
//!   kind of answer. See `examples/mixed.rs`.
//!
//! # On a client
//!
//! 1. Outermost, **a time-out for all tries together**, or three tries take three times as long as anybody waits.
//! 2. **The retry**, outside the breaker, so that the breaker counts each try and is asked before each. Inside it, a
//!    dependency that fails two calls of three would look healthy, at three times its load.
//! 3. **The breaker.** What it refuses takes no place and costs no time.
//! 4. **A time-out for one try**: a failure that the breaker sees.
//! 5. **The limit**: a call that pauses between two tries holds no place. When it is full, the breaker ignores that.
//!
//! A refusal is a response (`Ok`) with a [`Rejection`](crate::Rejection) in its extensions, so that a retry has to look:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use bytes::Bytes;
//! use http::{Request, Response, header::RETRY_AFTER};
//! use http_body_util::Full;
//! use hyper_util::{client::legacy::Client, rt::{TokioExecutor, TokioTimer}};
//! use seawall::{CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimitLayer, Deadline, Rejection, TimeoutLayer};
//! use tower::retry::{Policy, RetryLayer, budget::{Budget, TpsBudget}};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! type Call = Request<Full<Bytes>>;
//!
//! /// Tries again what may be tried again, as long as the budget that all calls share allows it.
//! #[derive(Clone)]
//! struct Again {
//!     budget: Arc<TpsBudget>,
//!     left: u32,
//! }
//!
//! impl<B, E> Policy<Call, Response<B>, E> for Again {
//!     type Future = tokio::time::Sleep;
//!
//!     fn retry(&mut self, call: &mut Call, result: &mut Result<Response<B>, E>) -> Option<Self::Future> {
//!         let mut pause = Duration::from_millis(50); // better one that grows, with jitter
//!         if let Ok(response) = result {
//!             if !response.status().is_server_error() {
//!                 self.budget.deposit();
//!                 return None;
//!             }
//!             // An open breaker or a full limit would say the same again; after a time-out of ours there is hope.
//!             let rejection = response.extensions().get::<Rejection>();
//!             if rejection.is_some_and(|rejection| !rejection.is_dependency_failure()) {
//!                 return None;
//!             }
//!             // What the server asks for, in seconds; a date it may be as well, which is not waited for here.
//!             if let Some(after) = response.headers().get(RETRY_AFTER) {
//!                 pause = Duration::from_secs(after.to_str().ok()?.parse::<u64>().ok()?);
//!             }
//!         }
//!         let remaining = call.extensions().get::<Deadline>().map(Deadline::remaining);
//!         if self.left == 0 || remaining.is_some_and(|left| left <= pause) || !self.budget.withdraw() {
//!             return None;
//!         }
//!         self.left -= 1;
//!         Some(tokio::time::sleep(pause))
//!     }
//!
//!     fn clone_request(&mut self, call: &Call) -> Option<Call> {
//!         call.method().is_idempotent().then(|| call.clone())
//!     }
//! }
//!
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! let breaker = CircuitBreaker::builder().name("upstream").build()?;
//! let pool = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build_http::<Full<Bytes>>();
//! let client = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(Duration::from_secs(3)).expose_deadline())
//!     .layer(RetryLayer::new(Again { budget: Arc::default(), left: 2 }))
//!     .layer(CircuitBreakerLayer::new(breaker.clone()))
//!     .layer(TimeoutLayer::new(Duration::from_secs(1)))
//!     .layer(ConcurrencyLimitLayer::new(64))
//!     .service(pool);
//! let _response = client.oneshot(Request::get("http://localhost:3000/").body(Full::<Bytes>::default())?).await?;
//! # Ok(()) }
//! ```
//!
//! Hyper-util's client is always ready and connects for each call that finds no idle connection: the limit is what bounds
//! it. It has no time for a call, and drops idle connections in time only if it has a `pool_timer`.
//!
//! One client for many hosts takes [`CircuitBreakers`](crate::circuit_breaker) (feature `keyed`) with the host as the key,
//! so that one that fails stops no calls to others: `examples/client`. Under a balancer a
//! [`CircuitBreakerReadyLayer`](crate::circuit_breaker::CircuitBreakerReadyLayer) is around each endpoint: open, it is not
//! ready, and `tower::balance` calls another. For when all are open, `tower::load_shed` or a time-out goes around the
//! balancer.
//!
//! A tonic channel behind layers is a channel to a generated client:
//!
//! ```
//! use std::time::Duration;
//! use seawall::{CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimitLayer, Deadline, TimeoutLayer};
//! use tonic::transport::Endpoint;
//! use tower::ServiceBuilder;
//!
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! let breaker = CircuitBreaker::builder().name("greeter").build()?;
//! let endpoint = Endpoint::from_static("http://localhost:50051").connect_timeout(Duration::from_secs(1));
//! let channel = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::new(breaker.clone()))
//!     .layer(TimeoutLayer::new(Duration::from_secs(2)).expose_deadline())
//!     .layer(ConcurrencyLimitLayer::new(64))
//!     .map_request(|mut request: http::Request<tonic::body::Body>| {
//!         if let Some(deadline) = request.extensions().get::<Deadline>() {
//!             let left = deadline.to_grpc_timeout(); // the server gives up as well
//!             request.headers_mut().insert("grpc-timeout", left);
//!         }
//!         request
//!     })
//!     .service(endpoint.connect_lazy());
//! # fn fits_a_generated_client<T: tonic::client::GrpcService<tonic::body::Body>>(_: T) {}
//! # fits_a_generated_client(channel);
//! # Ok(()) }
//! ```
//!
//! - `connect_lazy` connects with the first call, as every channel does again after a loss: it is part of the call, so that
//!   the time-out covers it and the breaker counts its failure. `connect` fails at the start instead.
//! - The channel's own `timeout` ends in `CANCELLED` and tells the server nothing; its `concurrency_limit` waits without
//!   bound.
//! - `tonic::Request::set_timeout` sets `grpc-timeout`, which a `TimeoutLayer` takes for its caller's time: where that is
//!   the shorter one, the breaker ignores what it ends. Give calls their time by the layer, and write the header inside it,
//!   as above.
//!
//! # Passing a deadline on
//!
//! [`expose_deadline`](crate::TimeoutLayer::expose_deadline) puts a [`Deadline`](crate::Deadline) into the extensions of a
//! request. A handler puts it into those of the requests that it makes: a client's `TimeoutLayer` that exposes deadlines
//! keeps the earlier, and [`to_grpc_timeout`](crate::Deadline::to_grpc_timeout) rounds what is left down, so that the callee
//! gives up first. Over plain HTTP agree on a header, and read it with `per_request`. Look at
//! [`remaining`](crate::Deadline::remaining) before a call that cannot be done in it: a deadline that was nearly over when
//! the call began makes a time-out that counts against the dependency.
