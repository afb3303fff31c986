//! Server-sent events, long polls and WebSockets.
//!
//! # Server-sent events and long polls
//!
//! A request holds its permit until its response body has ended or is dropped: an event stream as
//! long as it lives, a long poll while it waits. With the default limit, 1024 idle streams leave no
//! permit for other requests. Exempt the streams from the stack's limit, and give them their own
//! limit. The exemption also applies to the lag shedder and the drain of the stack, so add a layer
//! for each to the routes of the streams, with the same handles.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use axum::extract::State;
//! use axum::http::StatusCode;
//! use axum::response::sse::{Event, KeepAlive, Sse};
//! use axum::{Router, routing::get};
//! use futures_util::stream::{Stream, unfold};
//! use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, Drain, DrainLayer};
//! use seawall::{LagShed, LagShedLayer, TimeoutLayer};
//! use tokio::sync::watch;
//! use tower::ServiceBuilder;
//!
//! type News = watch::Receiver<String>;
//!
//! async fn events(
//!     State(news): State<News>,
//! ) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
//!     let events = unfold(news, async |mut news: News| {
//!         news.changed().await.ok()?;
//!         let event = Event::default().data(news.borrow_and_update().as_str());
//!         Some((Ok(event), news))
//!     });
//!     Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
//! }
//!
//! /// A long poll: it answers 204 before the timeout of the stack, which is 30 s.
//! async fn next(State(mut news): State<News>) -> Result<String, StatusCode> {
//!     news.mark_unchanged(); // only what comes from now on
//!     let wait = tokio::time::timeout(Duration::from_secs(25), news.changed());
//!     match wait.await {
//!         Ok(Ok(())) => Ok(news.borrow_and_update().clone()),
//!         _ => Err(StatusCode::NO_CONTENT),
//!     }
//! }
//!
//! let (_sender, news) = watch::channel(String::new());
//! let (lag, drain) = (LagShed::default(), Drain::default());
//! let streams = ConcurrencyLimit::new(10_000)?.named("streams");
//! let live = Router::new()
//!     .route("/live/events", get(events))
//!     .route("/live/next", get(next))
//!     .route_layer(
//!         ServiceBuilder::new()
//!             .layer(LagShedLayer::new(lag.clone()))
//!             .layer(DrainLayer::new(drain.clone()))
//!             .layer(TimeoutLayer::new(Duration::from_secs(3600)).including_body())
//!             .layer(ConcurrencyLimitLayer::new(streams.clone())),
//!     );
//!
//! let stack = seawall::server()
//!     .lag_shed(lag)
//!     .drain(drain)
//!     .exempt(|head| head.path().starts_with("/live/"))
//!     .build()?;
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .merge(live)
//!     .layer(stack.clone())
//!     .with_state(news);
//!
//! println!("{} streams, {:?}", streams.in_flight(), stack.snapshot());
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! The timeouts and the request limit of the stack still apply to exempt requests:
//!
//! | bound | in `server()` | an event stream | a long poll |
//! |---|---|---|---|
//! | `timeout` | 30 s to the head | no effect: it sends its head at once | 504 if it does not answer in 30 s |
//! | `response_body_timeout.progress_timeout` | 60 s | is ended if its client reads no event that is ready | the same, if the response is of unknown size, above 64 KiB, or in several frames |
//! | `response_body_timeout.idle_timeout` | off | is ended if it is silent; a keep-alive is a frame, so use a shorter interval for it | its body follows at once |
//! | `response_body_timeout.deadline` | off | is ended at the timeout, however busy it is: a maximum age, in a layer of its own | the same deadline for head and body |
//! | request limit | 2 MiB | no effect: it has no body | no effect |
//!
//! - **The drain** counts the streams. When the process drains, it rejects new streams. At the end
//!   of the grace period it ends those that are left: their clients read an error, and reconnect to
//!   another server. To end them earlier, select on [`started`](crate::Drain::started) in the
//!   stream, as the WebSocket below does. Without `DrainLayer`, the drain neither rejects, counts
//!   nor ends streams: those that are left end with the process.
//! - **Longer polls.** A timeout on a route cannot be longer than that of the stack, unless that is
//!   [`raisable`](crate::TimeoutSettings::raisable_to()). Here `/live/next` has 120 s, and all
//!   other routes have 30 s. Each poll holds a permit while it waits; keep the exemption and the
//!   limit of the example above.
//!
//!   ```
//!   # use std::time::Duration;
//!   # use axum::{Router, routing::get};
//!   # use seawall::{TimeoutSettings, TimeoutLayer};
//!   # async fn next() {}
//!   let timeout = TimeoutSettings::new(Duration::from_secs(30));
//!   let timeout = timeout.raisable_to(Duration::from_secs(180));
//!   let stack = seawall::server().timeout(timeout).build()?;
//!   let app: Router = Router::new()
//!       .route("/live/next", get(next).layer(TimeoutLayer::new(Duration::from_secs(120))))
//!       .route("/", get(async || "hello"))
//!       .layer(stack);
//!   # let _ = app;
//!   # Ok::<_, seawall::ConfigError>(())
//!   ```
//!
//! - **A client that disconnects** releases its permit: hyper drops the body and the stream in it.
//!   If a client disappears without closing its connection, the kernel notices it only when data
//!   that it has sent stays unconfirmed, on Linux for about 15 minutes. So send keep-alives. Over
//!   HTTP/2, hyper's `keep_alive_interval` notices it earlier.
//! - **Browsers.** An `EventSource` reconnects by itself after its stream has ended. It does not
//!   reconnect after a 503, and it ignores `Retry-After`: in its `error` event, make a new one if
//!   its `readyState` is `CLOSED`.
//! - **Choose the limit** by the memory of a stream and its connection: an idle stream needs no
//!   CPU.
//! - **On a client**, a stream holds its permit of [`seawall::client()`](crate::client) as long as
//!   you read it, and the stack ends one that is silent for 60 s, but not over gRPC. Use a second
//!   stack for streams, with
//!   `response_body_timeout(ResponseBodyTimeoutSettings::client().idle_timeout(None))`.
//!
//! # WebSockets
//!
//! A request that is upgraded is over at its 101: the stack then releases its permits, and its
//! timeouts end. Take permits for the connection that follows, and move them into its task:
//!
//! ```
//! use std::time::Duration;
//! use axum::extract::State;
//! use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
//! use axum::http::StatusCode;
//! use axum::response::Response;
//! use axum::{Router, routing::any};
//! use seawall::{ConcurrencyLimit, Drain, Rejection};
//! use tokio::time::timeout;
//!
//! #[derive(Clone)]
//! struct Sockets {
//!     limit: ConcurrencyLimit,
//!     drain: Drain,
//! }
//!
//! async fn connect(
//!     State(sockets): State<Sockets>,
//!     upgrade: WebSocketUpgrade,
//! ) -> Result<Response, StatusCode> {
//!     let unavailable = |_: Rejection| StatusCode::SERVICE_UNAVAILABLE;
//!     let drain_permit = sockets.drain.try_acquire_owned().map_err(unavailable)?;
//!     let socket_permit = sockets.limit.try_acquire_owned().map_err(unavailable)?;
//!     Ok(upgrade.on_upgrade(async move |socket| {
//!         echo(socket, sockets.drain).await;
//!         drop((socket_permit, drain_permit));
//!     }))
//! }
//!
//! async fn echo(mut socket: WebSocket, drain: Drain) {
//!     const IDLE: Duration = Duration::from_secs(60);
//!     let mut started = drain.started();
//!     loop {
//!         tokio::select! {
//!             received = timeout(IDLE, socket.recv()) => {
//!                 let Ok(Some(Ok(message))) = received else { return };
//!                 let sent = timeout(IDLE, socket.send(message)).await;
//!                 let Ok(Ok(())) = sent else { return };
//!             }
//!             () = &mut started => break,
//!         }
//!     }
//!     let _ = timeout(IDLE, socket.send(Message::Close(None))).await;
//! }
//!
//! let stack = seawall::server().build()?;
//! let sockets = Sockets {
//!     limit: ConcurrencyLimit::new(10_000)?.named("sockets"),
//!     drain: stack.drain().clone(),
//! };
//! let app: Router = Router::new()
//!     .route("/socket", any(connect))
//!     .layer(stack)
//!     .with_state(sockets);
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! - **The permits** are released when the task ends, also if it panics or is aborted.
//! - **The drain** waits for the connection, since the connection holds a permit of it.
//!   [`started`](crate::Drain::started) completes when the drain begins: the task then sends a
//!   close frame, and the client connects to another server.
//! - **Timeouts.** The stack has none for an upgraded connection. Bound the silence of the client
//!   and the time to send a message, as above.
//! - **Panics.** Panic isolation ends with the 101. A panic of the task ends its connection only.
