//! HTTP clients: reqwest, and hyper with a circuit breaker for each host.
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
//! use tower::util::BoxCloneSyncService;
//! use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! /// A type with a name, for a field of a struct such as the state of a router.
//! type Client = BoxCloneSyncService<Request<Body>, Response<Body>, reqwest::Error>;
//!
//! /// The client as a service over `http::Request` and `http::Response`.
//! fn over_http<B: Into<Body>>(
//!     client: reqwest::Client,
//! ) -> impl Service<
//!     Request<B>,
//!     Response = Response<Body>,
//!     Error = reqwest::Error,
//!     Future: Send,
//! > + Clone + Send + Sync {
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
//! let client = Client::new(client);
//!
//! let request = Request::get("http://localhost:3000/").body(Body::default())?;
//! let response = client.clone().oneshot(request).await?;
//! if let Some(rejection) = response.extensions().get::<Rejection>() {
//!     eprintln!("{}, retry after {:?}", rejection.reason(), rejection.retry_after());
//! }
//! let _text = reqwest::Response::from(response).error_for_status()?.text().await?;
//! println!("{:?}", stack.snapshot().circuit_breaker); // one for each host
//! # Ok(()) }
//! ```
//!
//! - **Statuses.** `error_for_status` is outside the stack, so that the breaker sees the status. An
//!   error of reqwest, for example of the connection, is a failure.
//! - **`Retry-After`** is a header of most rejections, and of some responses of the server. One
//!   [retry](super::retry#retry-within-a-budget) outside the stack reads it for both.
//!   With `over_http::<Bytes>` the retry can clone requests. The breaker does not read the header:
//!   its open time is [`open_duration`](crate::CircuitBreakerSettings::open_duration).
//! - **The key** is the authority of the URI: the host, the port if the URI has one, and a user
//!   name with its password if it has these. Keys are in snapshots, so put credentials into a
//!   header.
//! - **Redirects** are part of the call, and count for the host of the first URI. Set
//!   `redirect::Policy::none()` if they lead to other hosts, and follow them outside the stack.
//! - **Timeouts.** The stack's timeout ends with the response head. The stack also ends a body that
//!   is silent for 60 s; reqwest's `read_timeout` can be shorter. Reqwest's `timeout` is one
//!   deadline for head and body.
//! - **Permits.** `text`, `json` and `bytes` read the body, which releases the permit. A response
//!   that you neither read nor drop holds its permit and its connection.
//! - **The body type.** Without `response_body`, it is [`seawall::Body`](crate::Body), which
//!   `http_body_util::BodyExt` reads.
//!
//! # A hyper client with a breaker for each host
//!
//! [`per_host`](crate::stack::ClientBuilder::per_host) (feature `keyed`) gives each host a circuit
//! breaker of its own: if one host answers with errors, calls to the other hosts go on. All hosts
//! share the concurrency limit. A host that hangs can hold all of its permits; see the [recipe for
//! a proxy](super::proxy).
//!
//! ```no_run
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::{BodyExt, Full};
//! use hyper_util::client::legacy::Client;
//! use hyper_util::rt::{TokioExecutor, TokioTimer};
//! use seawall::circuit_breaker::CircuitBreakersSettings;
//! use seawall::stack::HostBreakers;
//! use seawall::{CircuitBreakerSettings, Rejection};
//! use tower::{BoxError, ServiceBuilder, ServiceExt};
//!
//! # async fn f() -> Result<(), BoxError> {
//! let each = CircuitBreakerSettings::default().consecutive_failures(5);
//! let settings = CircuitBreakersSettings::from(each).max_keys(1000);
//! let breakers = HostBreakers::new(settings)?.named("upstream");
//! let stack = seawall::client()
//!     .named("upstream")
//!     .timeout(Duration::from_secs(2))
//!     .concurrency_limit(64)
//!     .per_host()
//!     .circuit_breakers(&breakers)
//!     .build()?;
//! let pool = Client::builder(TokioExecutor::new())
//!     .pool_timer(TokioTimer::new())
//!     .build_http::<Full<Bytes>>();
//! let client = ServiceBuilder::new().layer(stack.clone()).service(pool);
//!
//! let request = Request::get("http://localhost:3000/").body(Full::default())?;
//! let response = client.clone().oneshot(request).await?;
//! if let Some(rejection) = response.extensions().get::<Rejection>() {
//!     eprintln!("{}, retry after {:?}", rejection.reason(), rejection.retry_after());
//! }
//! let _bytes = response.into_body().collect().await?.to_bytes();
//! for (host, breaker) in breakers.snapshot().keys {
//!     println!("{host}: {}", breaker.state);
//! }
//! # Ok(()) }
//! ```
//!
//! - **The key** is the authority of the URI. A request whose URI has none has no breaker. For a
//!   label `key` in metrics and events, call
//!   [`put_keys_in_metrics`](crate::circuit_breaker::CircuitBreakers::put_keys_in_metrics).
//! - **A proxy** has a [recipe of its own](super::proxy). Over an HTTP/1 connection, hyper-util's
//!   client returns an error for a request whose version is HTTP/2, which is a failure for the
//!   breaker.
//! - **Connections.** The client opens a connection for each call that finds no idle one, so the
//!   concurrency limit also bounds the connections. It does not count a connection that hyper keeps
//!   after a timeout because the host does not read an upload. Without `pool_timer`, the client
//!   does not drop idle connections in time.
//! - **The timeout** is common to all hosts.
//! - **The type of the client**, for the state of a router, is
//!   `BoxCloneSyncService<Request<B>, Response<B>, Error>` of `tower::util`, with the error of
//!   `hyper_util::client::legacy`; see the recipe for a proxy.
//! - **The number of keys** is bounded by
//!   [`max_keys`](crate::circuit_breaker::CircuitBreakersSettings::max_keys()).
