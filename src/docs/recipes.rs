//! Recipes for reqwest, AWS Lambda, and axum: addresses of clients, middleware functions, streams.
//!
//! [`placement`](crate::docs::placement) has the rules that the recipes follow.
//!
//! # A reqwest client
//!
//! [`reqwest::Client`](https://docs.rs/reqwest) is a Tower service, but not over `http::Request`.
//! Convert the request and the response, and the layers work as around any HTTP client: there is
//! one breaker per host, a status is an outcome, and a rejection is a response.
//! The example needs the feature `keyed`. It is for reqwest 0.12 and 0.13.
//!
//! ```no_run
//! use std::time::Duration;
//! use http::{Request, Response};
//! use reqwest::Body;
//! use seawall::Rejection;
//! use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! /// The client as a service over `http::Request` and `http::Response`.
//! fn over_http<B: Into<Body>>(
//!     client: reqwest::Client,
//! ) -> impl Service<
//!     Request<B>,
//!     Response = Response<Body>,
//!     Error = reqwest::Error,
//!     Future: Send,
//! > + Clone {
//!     service_fn(move |request: Request<B>| {
//!         let call = request.try_into().map(|request| client.execute(request));
//!         async move { Ok(Response::from(call?.await?)) }
//!     })
//! }
//!
//! # async fn f() -> Result<(), BoxError> {
//! let stack = seawall::client()
//!     .named("upstream")
//!     .timeout(Duration::from_secs(2))
//!     .concurrency_limit(64)
//!     .per_host()
//!     .build()?
//!     .response_body(Body::wrap);
//! let client = ServiceBuilder::new()
//!     .layer(stack.clone())
//!     .service(over_http(reqwest::Client::new()));
//!
//! let request = Request::get("http://localhost:3000/").body(Body::default())?;
//! let response = client.clone().oneshot(request).await?;
//! if let Some(rejection) = response.extensions().get::<Rejection>() {
//!     eprintln!("{}, retry after {:?}", rejection.reason(), rejection.retry_after());
//! }
//! let _text = reqwest::Response::from(response).error_for_status()?.text().await?;
//! println!("{:?}", stack.snapshot().circuit_breakers); // one for each host
//! # Ok(()) }
//! ```
//!
//! - **Statuses.** `error_for_status` is outside the stack, so that the breaker sees the status. An
//!   error of reqwest, for example of the connection, is a failure.
//! - **`Retry-After`** is a header of most rejections, and of some responses of the server. One
//!   retry outside the stack reads it for both, see
//!   [`placement`](crate::docs::placement#on-a-client).
//!   With `over_http::<Bytes>` the retry can clone requests. The breaker does not read the header:
//!   its open time is [`open_duration`](crate::CircuitBreakerSettings::open_duration).
//! - **The key** is the authority of the URI: the host, the port if the URI has one, and a user
//!   name with its password if it has these. Keys are in snapshots, so put credentials into a
//!   header.
//! - **Redirects** are part of the call, and count for the host of the first URI. Set
//!   `redirect::Policy::none()` if they lead to other hosts, and follow them outside the stack.
//! - **Timeouts.** The stack's timeout ends with the response head. For bodies set reqwest's
//!   `read_timeout`. Its `timeout` is one deadline for head and body.
//! - **Permits.** `text`, `json` and `bytes` read the body, which releases the permit. A response
//!   that you neither read nor drop holds its permit and its connection.
//! - **The body type.** Without `response_body`, it is [`seawall::Body`](crate::Body), which
//!   `http_body_util::BodyExt` reads.
//!
//! # AWS Lambda
//!
//! `lambda_http` runs any service over `http::Request`, so that the stack goes around the router:
//!
//! ```no_run
//! use std::time::{Duration, SystemTime};
//! use axum::{Router, routing::get};
//! use lambda_http::{Context, Error};
//! use seawall::{RequestHead, TimeoutLayer, policy::Mode};
//! use tower::ServiceBuilder;
//!
//! /// The time until Lambda ends the invocation, less half a second for the answer.
//! fn time_left(head: &RequestHead<'_>) -> Option<Duration> {
//!     let context = head.extensions.get::<Context>()?;
//!     let left = context.deadline().duration_since(SystemTime::now()).ok()?;
//!     Some(left.saturating_sub(Duration::from_millis(500)))
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     let stack = seawall::server().build()?;
//!     stack.switches().lag_shed.set(Mode::Off);
//!     stack.switches().concurrency_limit.set(Mode::Off);
//!     let router = Router::new().route("/", get(async || "hello"));
//!     let app = ServiceBuilder::new()
//!         .layer(stack)
//!         .layer(TimeoutLayer::new(Duration::from_secs(29)).per_request(time_left))
//!         .service(router.with_state(()));
//!     lambda_http::run(app).await
//! }
//! ```
//!
//! - **What remains useful**: the timeout, panic isolation and the request limit. An instance
//!   handles one event at a time, so that the lag shedder and the concurrency limit have nothing to
//!   reject. Limit the load with the function's reserved concurrency.
//! - **The timeout** must pass before the function's own. Otherwise Lambda ends the invocation, and
//!   the client reads an error of the gateway.
//! - **Panics.** Without the stack, a panic is an error of the invocation, and the client reads an
//!   error of the gateway. With it, the client reads the 500 of the layer.
//! - **Bodies.** Lambda delivers request bodies whole, so that their size is known and the timeouts
//!   for request bodies have no effect. `run` reads the response body before it answers. If a layer
//!   ends that body, the invocation fails.
//! - **Streams.** `run_with_streaming_response` takes the same service.
//! - **Spawned tasks** pause after the response: Lambda freezes the process between two events.
//! - **Several events at a time** (feature `concurrency-tokio` of `lambda_http`): leave all parts
//!   on. `run_concurrent` requires response bodies that are `Sync`, which those of axum are not.
//!   `run_with_streaming_response_concurrent` does not require it.
//!
//! # The address of the client
//!
//! `into_make_service_with_connect_info` puts axum's `ConnectInfo` into the extensions of each
//! request, outside all layers. Handlers see it, and so do the closures and policies of a layer,
//! inside the router and around it:
//!
//! ```no_run
//! use std::net::SocketAddr;
//! use axum::body::Body;
//! use axum::extract::{ConnectInfo, Request};
//! use axum::{Router, ServiceExt, routing::get};
//! use seawall::RequestHead;
//! use tokio::net::TcpListener;
//! use tower::Layer;
//!
//! async fn whoami(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
//!     peer.to_string()
//! }
//!
//! fn is_local(head: &RequestHead<'_>) -> bool {
//!     let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
//!     peer.is_some_and(|ConnectInfo(peer)| peer.ip().is_loopback())
//! }
//!
//! # type Error = Box<dyn std::error::Error>;
//! # async fn f(inside: TcpListener, around: TcpListener) -> Result<(), Error> {
//! let router = Router::new().route("/", get(whoami));
//! let stack = seawall::server().exempt(is_local).build()?;
//!
//! // With `Router::layer`.
//! let app = router.clone().layer(stack.clone());
//! axum::serve(inside, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
//!
//! // Around the router.
//! let stack = stack.request_body(Body::new).response_body(Body::new);
//! let app = stack.layer(router.with_state(()));
//! let app = ServiceExt::<Request>::into_make_service_with_connect_info::<SocketAddr>(app);
//! axum::serve(around, app).await?;
//! # Ok(()) }
//! ```
//!
//! - `ServiceExt` is axum's. `tower::make::Shared`, which the other guides use around a router,
//!   adds no `ConnectInfo`: the extractor then answers 500, and `is_local` returns `false`.
//! - In an accept loop of your own, put `axum::Extension(ConnectInfo(peer))`, which is a layer,
//!   around a clone of the service for each connection.
//! - Behind a proxy, the peer is the proxy. An exemption for its address exempts all requests.
//!
//! # `from_fn` inside the request limit
//!
//! A middleware function that reads the body belongs inside the request limit, which counts what it
//! reads. `axum::middleware::from_fn` requires requests with `axum::body::Body`. In one
//! `ServiceBuilder` with the stack, keep that type with
//! [`request_body(Body::new)`](crate::GateLayer::request_body):
//!
//! ```
//! use axum::body::{Body, Bytes, to_bytes};
//! use axum::extract::Request;
//! use axum::http::StatusCode;
//! use axum::middleware::{Next, from_fn};
//! use axum::response::Response;
//! use axum::{Router, routing::post};
//! use tower::ServiceBuilder;
//!
//! const MAX: usize = 64 << 10;
//!
//! async fn verify(request: Request, next: Next) -> Result<Response, StatusCode> {
//!     let (parts, body) = request.into_parts();
//!     let body = to_bytes(body, MAX).await.map_err(|_| StatusCode::BAD_REQUEST)?;
//!     if body.ends_with(b"unsigned") {
//!         return Err(StatusCode::FORBIDDEN);
//!     }
//!     Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
//! }
//!
//! let stack = seawall::server().request_body_limit(MAX as u64).build()?;
//! let app: Router = Router::new()
//!     .route("/", post(async |body: Bytes| body.len().to_string()))
//!     .layer(
//!         ServiceBuilder::new()
//!             .layer(stack.request_body(Body::new))
//!             .layer(from_fn(verify)),
//!     );
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! - **Two calls of `Router::layer`** work as well: `.layer(from_fn(verify)).layer(stack)`. The
//!   layer that you add last is the outermost. The router converts the body between the two, so
//!   that `request_body` only saves an allocation.
//! - **What the function sees.** A body that declares too many bytes does not reach it: the client
//!   reads 413. From a body of unknown length it reads an error when there are too many bytes, and
//!   [`Rejection::find`](crate::Rejection::find) finds the reason in that error. Whatever it then
//!   answers, the client reads 413, as long as the head of the response is not sent.
//! - **What the handler sees** is what the function passes on: here a body of known length. Axum's
//!   extractors apply their limit of 2 MiB to it, unless you disable `DefaultBodyLimit`.
//! - **The limit of `to_bytes`** applies if the request limit is switched off. Do not set it lower
//!   than the request limit: the client would read the function's answer, here 400, and not 413.
//! - **Outside the stack**, a function reads bodies that nothing counts and that hold no permit.
//!
//! # Server-sent events and long polls
//!
//! A request holds its permit until its response body has ended or is dropped: an event stream as
//! long as it lives, a long poll while it waits. With the default limit, 1024 idle streams leave no
//! permit for other requests. Exempt the streams from the stack's limit, and give them their own
//! limit. An exemption also turns off lag shedding for them, so add a layer for it to their routes,
//! with the same handle.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use axum::extract::State;
//! use axum::http::StatusCode;
//! use axum::response::sse::{Event, KeepAlive, Sse};
//! use axum::{Router, routing::get};
//! use futures_util::stream::{Stream, unfold};
//! use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, LagShed, LagShedLayer, TimeoutLayer};
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
//! let lag = LagShed::default();
//! let streams = ConcurrencyLimit::new(10_000)?.named("streams");
//! let live = Router::new()
//!     .route("/live/events", get(events))
//!     .route("/live/next", get(next))
//!     .route_layer(
//!         ServiceBuilder::new()
//!             .layer(LagShedLayer::new(lag.clone()))
//!             .layer(TimeoutLayer::new(Duration::from_secs(3600)).including_body())
//!             .layer(ConcurrencyLimitLayer::new(streams.clone())),
//!     );
//!
//! let stack = seawall::server()
//!     .lag_shed(lag)
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
//! | `progress_timeout` | 60 s | is ended if its client reads no event that is ready | the same, if the response is of unknown size or above 64 KiB |
//! | `body_idle_timeout` | off | is ended if it is silent; a keep-alive is a frame, so use a shorter interval for it | its body follows at once |
//! | `including_body` | off | is ended at the timeout, however busy it is: a maximum age, in a layer of its own | the same deadline for head and body |
//! | request limit | 2 MiB | no effect: it has no body | no effect |
//!
//! - **Longer polls.** A timeout on a route cannot be longer than that of the stack, unless that is
//!   [`raisable`](crate::TimeoutSettings::raisable_to()). Here `/live/next` has 120 s, and all
//!   other routes have 30 s. Each poll holds a permit while it waits; keep the exemption and the
//!   limit of the example above.
//!
//!   ```
//!   # use std::time::Duration;
//!   # use axum::{Router, routing::get};
//!   # use seawall::{Timeout, TimeoutSettings, TimeoutLayer};
//!   # async fn next() {}
//!   let timeout = TimeoutSettings::new(Duration::from_secs(30));
//!   let timeout = Timeout::new(timeout.raisable_to(Duration::from_secs(180)))?;
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
//!   you read it. Use a second stack for streams.
