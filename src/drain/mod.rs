//! Stops a server without cutting requests off, as far as they end within a grace period.
//!
//! A drain has three states, [`DrainState`]:
//!
//! 1. **Serving.** The drain counts the requests in flight, and nothing else.
//! 2. **Lame duck.** It starts with [`Drain::begin`] and lasts 5 s by default. The service still
//!    serves all requests, so that no client notices. It reports that it is not ready
//!    ([`is_draining`](Drain::is_draining)), so that load balancers send new requests to other
//!    servers. All HTTP/1 responses of the stack, also those to rejected requests but not those to
//!    [exempt](#exempt-requests) ones, have `connection: close`, so that clients open their next
//!    connection to another server too. For a single [`DrainLayer`], these are the responses that
//!    pass through it. At the end of this time, [`Drain::serve`] signals the shutdown, and HTTP/2
//!    connections send `GOAWAY`.
//! 3. **Rejecting.** With [`Drain::serve`], the drain first admits requests for one more second,
//!    since HTTP/2 clients may send some before they read the `GOAWAY`. Then it rejects new
//!    requests with [`Reason::Draining`]: 503, over HTTP/1 with `connection: close`, over gRPC
//!    `UNAVAILABLE`. The requests in flight go on until they have ended, or until the grace period
//!    is over.
//!
//! You cannot cancel a drain: it ends with the process.
//!
//! # Where it goes
//!
//! The stack of [`server`](crate::server) has a drain, inside the lag shedder; see [the reasons for
//! the order](crate::stack#the-parts-of-a-server). With axum, one call serves and drains:
//!
//! ```no_run
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//!
//! # async fn terminated() {}
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stack = seawall::server().build()?;
//! let app: Router = Router::new().route("/", get(async || "hello")).layer(stack.clone());
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
//!
//! let drain = stack.drain().clone();
//! tokio::spawn(async move {
//!     terminated().await; // SIGTERM
//!     drain.begin();
//! });
//! let serve = |shutdown| axum::serve(listener, app).with_graceful_shutdown(shutdown);
//! let report = stack.drain().serve(serve, Duration::from_secs(20)).await?;
//! println!("{} responses were cut", report.cut);
//! # Ok(()) }
//! ```
//!
//! With tonic, pass the signal to the stream of connections. If tonic gets the signal, it keeps the
//! listening socket open until its last connection ends: clients still connect, and get no answer.
//! Set TCP options such as `TCP_NODELAY` on the stream, since tonic does not apply those of
//! `Server` to it. Keep the signal that is never ready: only with one does tonic wait for its
//! connections when the stream ends:
//!
//! ```no_run
//! use std::time::Duration;
//! use futures_util::{StreamExt, stream};
//! use tonic::transport::{Server, server::TcpIncoming};
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! # let (_, service) = tonic_health::server::health_reporter();
//! let stack = seawall::server().build()?;
//! let incoming = TcpIncoming::bind("0.0.0.0:3000".parse()?)?.with_nodelay(Some(true));
//! let server = Server::builder().layer(stack.clone()).add_service(service);
//! let serve = |shutdown| {
//!     // At the signal, the stream ends and closes the socket. Tonic then shuts down.
//!     let incoming = stream::unfold((incoming, shutdown), async |(mut incoming, mut shutdown)| {
//!         tokio::select! {
//!             Some(connection) = incoming.next() => Some((connection, (incoming, shutdown))),
//!             () = &mut shutdown => None,
//!         }
//!     });
//!     server.serve_with_incoming_shutdown(incoming, std::future::pending())
//! };
//! let report = stack.drain().serve(serve, Duration::from_secs(20)).await?;
//! # let _ = report;
//! # Ok(()) }
//! ```
//!
//! With hyper-util, whose `GracefulShutdown` also sends GOAWAY over HTTP/2:
//!
//! ```no_run
//! use std::time::Duration;
//! use hyper_util::rt::{TokioExecutor, TokioIo};
//! use hyper_util::server::{conn::auto::Builder, graceful::GracefulShutdown};
//! use hyper_util::service::TowerToHyperService;
//! use tokio::net::TcpListener;
//! use tower::Layer;
//! # use axum::{Router, body::Body, extract::Request, routing::get};
//!
//! # async fn serve(listener: TcpListener) -> Result<(), Box<dyn std::error::Error>> {
//! # let service = Router::new().route("/", get(async || "hello")).with_state::<()>(());
//! let stack = seawall::server().build()?;
//! let service = TowerToHyperService::new(stack.layer(service));
//! let serve = async |shutdown: seawall::drain::DrainSignal| {
//!     let connections = GracefulShutdown::new();
//!     let mut shutdown = std::pin::pin!(shutdown);
//!     loop {
//!         let (io, _) = tokio::select! {
//!             accepted = listener.accept() => match accepted {
//!                 Ok(accepted) => accepted,
//!                 // For example, no file descriptor is left: this must not end the server.
//!                 Err(_) => {
//!                     tokio::time::sleep(Duration::from_millis(100)).await;
//!                     continue;
//!                 }
//!             },
//!             () = &mut shutdown => break,
//!         };
//!         let server = Builder::new(TokioExecutor::new());
//!         let io = TokioIo::new(io);
//!         let connection = server.serve_connection_with_upgrades(io, service.clone());
//!         tokio::spawn(connections.watch(connection.into_owned()));
//!     }
//!     drop(listener); // new clients try another server
//!     connections.shutdown().await;
//!     Ok::<_, std::io::Error>(())
//! };
//! let report = stack.drain().serve(serve, Duration::from_secs(20)).await?;
//! # let _ = report;
//! # Ok(()) }
//! ```
//!
//! # When a request ends
//!
//! A request ends when its response body has ended or is dropped, and not at the response head. The
//! server has taken the last frame by then, but may not have written it to the socket:
//! [`serve`](Drain::serve) also waits for the server, [`wait_idle`](Drain::wait_idle) does not. A
//! request that the stack itself answers, for example at a timeout or after a panic, ends before
//! its answer is sent. Over HTTP/1, this can be half a second before, while the stack [reads the
//! rest of the request body](crate::request_limit#a-client-that-is-still-sending).
//!
//! A request that is upgraded ends at the response head. For a WebSocket, hold a permit
//! ([`try_acquire_owned`](Drain::try_acquire_owned)), which you take before the upgrade, and end
//! the connection when the drain has [`started`](Drain::started):
//!
//! ```
//! use axum::extract::ws::{Message, WebSocket};
//! use seawall::{Drain, Permit};
//!
//! async fn echo(mut socket: WebSocket, drain: Drain, _permit: Permit<Drain>) {
//!     let mut started = drain.started();
//!     loop {
//!         tokio::select! {
//!             received = socket.recv() => {
//!                 let Some(Ok(message)) = received else { return };
//!                 if socket.send(message).await.is_err() { return }
//!             }
//!             () = &mut started => break,
//!         }
//!     }
//!     let _ = socket.send(Message::Close(None)).await;
//! }
//! ```
//!
//! # At the end of the grace period
//!
//! Within a second, the drain ends the response bodies, whether or not the client reads. A body of
//! known size up to 64 KiB that the connection has not polled does not end. The other bodies end
//! with an error, so that the client sees that the response is incomplete, or over gRPC with the
//! status `UNAVAILABLE`.
//!
//! Then [`serve`](Drain::serve) drops the server's future and returns. Work that still runs, for
//! example a handler without a response head, ends with the process: return from `main`. The
//! runtime of `#[tokio::main]` waits without a bound for `spawn_blocking` tasks. If you have long
//! ones, use `Runtime::shutdown_timeout`.
//!
//! In Kubernetes, `terminationGracePeriodSeconds` must be more than the lame-duck time, the grace
//! period and a second together; see [the
//! recipe](crate::docs::recipes::operation#drain-on-kubernetes).
//!
//! # Exempt requests
//!
//! The drain neither counts nor rejects a request that is exempt from the stack, for example a
//! health check. If the handler answers it, the drain adds no `connection: close`.
//!
//! # Cost
//!
//! Each request costs two atomic additions on one word. Before the drain begins, there is no lock,
//! no allocation and no clock read. A response body costs an allocation if its size is unknown or
//! above 64 KiB, or if its first poll does not return its last frame. Response bodies must be
//! `Send`, `Unpin` and `'static`.
//!
//! # Cancellation
//!
//! A request that is dropped is no longer in flight. Dropping the future of [`Drain::wait_idle`]
//! ends nothing. Dropping the future of [`Drain::serve`] drops the server.
//!
//! # Panics
//!
//! The layer does not panic. The futures of [`Drain::wait_idle`] and [`Drain::serve`] panic outside
//! a Tokio runtime with a time driver.
//!
//! # Differences from tower 0.5, tower-http 0.7, axum 0.8 and hyper 1
//!
//! tower and tower-http have no drain. The graceful shutdown of hyper, axum and tonic stops
//! accepting connections at once, while load balancers still open some. It has no bound, so that
//! one client that does not read keeps the process alive. It neither counts requests nor rejects
//! them.

mod handle;
mod serve;
mod settings;

pub use self::handle::{Drain, DrainLayer, DrainSnapshot, DrainState};
pub use self::serve::{DrainReport, DrainSignal};
pub use self::settings::DrainSettings;
#[cfg(doc)]
use crate::reason::Reason;
