//! A reverse proxy.
//!
//! The stack of the server is around the handler. The stack of the client, with a circuit breaker
//! for each host, is around hyper's client:
//!
//! ```
//! use std::time::Duration;
//! use axum::Router;
//! use axum::body::Body;
//! use axum::extract::{Request, State};
//! use axum::http::header::{CONNECTION, HOST, HeaderMap, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
//! use axum::http::uri::{Authority, Scheme};
//! use axum::http::{StatusCode, Uri, Version};
//! use axum::response::{IntoResponse, Response};
//! use hyper_util::client::legacy::{Client, Error, connect::HttpConnector};
//! use hyper_util::rt::{TokioExecutor, TokioTimer};
//! use tower::util::BoxCloneSyncService;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! type Upstream = BoxCloneSyncService<Request, Response, Error>;
//!
//! #[derive(Clone)]
//! struct Proxy {
//!     host: Authority,
//!     upstream: Upstream,
//! }
//!
//! /// Removes the hop-by-hop headers, and those that `connection` names (RFC 9110, section 7.6.1).
//! fn remove_hop_by_hop(headers: &mut HeaderMap) {
//!     if let Some(named) = headers.remove(CONNECTION) {
//!         for name in named.to_str().unwrap_or_default().split(',') {
//!             headers.remove(name.trim());
//!         }
//!     }
//!     for name in [TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
//!         headers.remove(name);
//!     }
//!     headers.remove("keep-alive");
//!     headers.remove("proxy-connection");
//! }
//!
//! async fn forward(State(proxy): State<Proxy>, mut request: Request) -> Response {
//!     // Outside the client's stack: the authority is the key of the breaker.
//!     let mut uri = std::mem::take(request.uri_mut()).into_parts();
//!     (uri.scheme, uri.authority) = (Some(Scheme::HTTP), Some(proxy.host));
//!     *request.uri_mut() = Uri::from_parts(uri).expect("it has a path");
//!     request.headers_mut().remove(HOST);
//!     match proxy.upstream.oneshot(request).await {
//!         Ok(response) => response,
//!         Err(_) => StatusCode::BAD_GATEWAY.into_response(),
//!     }
//! }
//!
//! # fn proxy(host: Authority) -> Result<Router, seawall::ConfigError> {
//! let stack = seawall::client()
//!     .named("upstream")
//!     .timeout(Duration::from_secs(10))
//!     .per_host()
//!     .build()?
//!     .response_body(Body::new);
//! let mut connector = HttpConnector::new();
//! #[cfg(target_os = "linux")]
//! connector.set_tcp_user_timeout(Some(Duration::from_secs(30)));
//! let pool = Client::builder(TokioExecutor::new())
//!     .pool_timer(TokioTimer::new())
//!     .build::<_, Body>(connector);
//! let upstream = ServiceBuilder::new()
//!     .layer(stack)
//!     // Inside the stack, which needs the version of the caller to answer what it rejects, and
//!     // may close the connection of the caller.
//!     .map_request(|mut request: Request| {
//!         *request.version_mut() = Version::HTTP_11;
//!         remove_hop_by_hop(request.headers_mut());
//!         request
//!     })
//!     .map_response(|mut response: axum::http::Response<_>| {
//!         remove_hop_by_hop(response.headers_mut());
//!         response.map(Body::new)
//!     })
//!     .service(pool);
//! let proxy = Proxy { host, upstream: BoxCloneSyncService::new(upstream) };
//! let app = Router::new().fallback(forward).with_state(proxy).layer(seawall::server().build()?);
//! # Ok(app)
//! # }
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let host = listener.local_addr()?.to_string().parse::<Authority>()?;
//! # let echo = Router::new().fallback(async |request: Request| request.into_body());
//! # tokio::spawn(async { axum::serve(listener, echo).await });
//! # let call = Request::post("/any?q=1").version(Version::HTTP_2).body(Body::from("hello"))?;
//! # let response = proxy(host)?.oneshot(call).await?;
//! # assert_eq!(response.status(), 200);
//! # let body = axum::body::to_bytes(response.into_body(), 100).await?;
//! # assert_eq!(body, "hello");
//! # Ok(()) }
//! ```
//!
//! - **The breaker of a host** opens if the host answers with errors, or does not answer in time.
//!   Calls to the other hosts go on.
//! - **The limit and the timeout** are common to all hosts. A host that hangs can hold all permits.
//!   If it hangs before the response head, each call holds its permit until the timeout, and the
//!   breaker then opens. If it hangs in a response body, each call holds its permit until the idle
//!   timeout, and the breaker does not open. To prevent this, give each host its own limit: write a
//!   policy like [`PerTenant`](super::policies), with `head.uri.authority()` as the key and
//!   `Reason::ConcurrencyLimit`.
//! - **Uploads to a host that does not read.** After a timeout, hyper keeps the connection to the
//!   host until the data is sent. It also keeps the connection of the caller. Neither connection
//!   holds a permit. On Linux, `set_tcp_user_timeout` closes both.
//! - **Extensions.** The request keeps the extensions that the server has set. A
//!   [`Deadline`](crate::Deadline) among them also bounds the call to the host. If the timeout of
//!   the server is [`raisable`](crate::TimeoutSettings::raisable_to()), the timeout of the client's
//!   stack raises it. To prevent both, clear the extensions: `request.extensions_mut().clear()`.
//! - **Errors of hyper's client**, such as a connection that cannot be opened, are failures for the
//!   breaker. A rejection of the client's stack, such as `circuit_open`, is a response, and the
//!   proxy returns it to the caller.
//! - **Retries.** A streamed body cannot be cloned. In the policy of a
//!   [retry](super::retry#retry-within-a-budget), clone a request only if its method is idempotent
//!   and its body `is_end_stream()`. Copy the extensions to the clone.
