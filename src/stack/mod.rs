//! The recommended stack in one line, and why its parts are in this order.
//!
//! ```
//! use axum::{Router, routing::get};
//!
//! let stack = seawall::server().build()?;
//! let app: Router = Router::new().route("/", get(async || "hello")).layer(stack.clone());
//!
//! stack.concurrency_limit().set_limit(2048)?; // you can change each part while the server runs
//! println!("{:?}", stack.snapshot());
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! [`server`] is for services, [`client`] for what calls one dependency. Both are one gate over a
//! tuple of handles: one future, one response body, and about half the instructions of the same
//! layers nested. It works with `Router::layer`, in tonic's `Server::builder().layer`, and under
//! hyper. In front of a router under `axum::serve`, it needs `request_body(Body::new)` and
//! `response_body(Body::new)`; see [placement](crate::docs::placement#in-front-of-a-router).
//!
//! # The parts of a server
//!
//! ```text
//!            request                                      response
//!               │                                             ▲
//! ┌─────────────▼─────────────────────────────────────────────┴────────────────┐
//! │ panic isolation      nothing of the stack unwinds past it                  │
//! │ ┌───────────▼─────────────────────────────────────────────┴──────────────┐ │
//! │ │ lag shedding       rejects most under overload, so it rejects first    │ │
//! │ │ ┌─────────▼─────────────────────────────────────────────┴────────────┐ │ │
//! │ │ │ drain            rejects once its lame-duck time is over           │ │ │
//! │ │ │ ┌───────▼─────────────────────────────────────────────┴──────────┐ │ │ │
//! │ │ │ │ your policies  see a timeout as a failure                      │ │ │ │
//! │ │ │ │ ┌─────▼─────────────────────────────────────────────┴────────┐ │ │ │ │
//! │ │ │ │ │ timeout      includes the time in the queue                │ │ │ │ │
//! │ │ │ │ │ ┌───▼─────────────────────────────────────────────┴──────┐ │ │ │ │ │
//! │ │ │ │ │ │ concurrency  permits are held until the body has ended │ │ │ │ │ │
//! │ │ │ │ │ │ ┌─▼─────────────────────────────────────────────┴────┐ │ │ │ │ │ │
//! │ │ │ │ │ │ │ request    next to the code that reads the body    │ │ │ │ │ │ │
//! │ │ │ │ │ │ │ ┌▼────────────────────────────────────────────┴──┐ │ │ │ │ │ │ │
//! │ │ │ │ │ │ │ │             your handlers                      │ │ │ │ │ │ │ │
//! ```
//!
//! A part sees the responses of the parts inside it. It does not see requests that a part outside
//! it rejects. This determines the order:
//!
//! - **Panic isolation** is outermost, so that a panic of any other part is answered too.
//! - **Lag shedding** comes next. Under overload it rejects more requests than any other part, and
//!   an early rejection costs less.
//! - **The drain** counts the requests that the shedder admits, until their bodies have ended. It
//!   is outside your policies, so that they do not see the requests that it rejects.
//! - **Your policies** come after it, so that they decide only about requests that the runtime can
//!   serve, and before the timeout, so that a timeout is a failure for them.
//! - **The timeout** is outside the concurrency limit, so that the time in its queue counts. Next
//!   to it are the timeouts of response bodies.
//! - **The concurrency limit** is inside the timeout: a request whose time is over releases its
//!   permit.
//! - **The request limit** is innermost: it does not inspect requests that another part rejects.
//!
//! The lag shedder and the concurrency limit complement each other. The shedder detects handlers
//! that compute: they keep the runtime from reading the next request, so the limit is never
//! reached. The limit detects handlers that await: the runtime is then idle, and has no lag.
//!
//! The server stack has no circuit breaker. Around all routes, it would reject requests that do not
//! need the failing dependency. Put a breaker around the routes that share a dependency, or around
//! the client that calls it, as [`client`] does.
//!
//! # Defaults of a server
//!
//! | part | default | why |
//! |---|---|---|
//! | panic isolation | on | a panic costs one request and not a connection |
//! | lag shedding | [`LagShed::default`] | it rejects nothing while the runtime keeps up |
//! | drain | 5 s of lame-duck time | in this time, clients and load balancers notice that the service is not ready |
//! | timeout | 30 s to the response head | longer than most people wait; set it below the timeout of your callers |
//! | progress timeout of responses | 60 s | the default of nginx's `send_timeout`: a client that does not read releases its permit after a minute |
//! | concurrency limit | 1024, no queue | about 10 000 requests a second at 100 ms each; set it from a load test |
//! | request body | 2 MiB | the default of axum's extractors |
//!
//! Server-sent events and other streams of responses are not ended by these defaults: the timeout
//! applies until the response head, and the progress timeout applies only while a frame is ready. A
//! stream holds its permit as long as it lives.
//!
//! The request limit counts all bytes of a request, also those of a gRPC call with a stream of
//! requests: after 2 MiB the call ends with `RESOURCE_EXHAUSTED`. For such calls, raise the limit
//! ([`request_body_limit`](ServerBuilder::request_body_limit)), or let the service with the streams
//! raise it for itself:
//!
//! ```
//! use seawall::{RequestLimitLayer, RequestLimitSettings};
//!
//! let limit = RequestLimitSettings::new(2 << 20).raisable_to(u64::MAX);
//! let stack = seawall::server().request_limit(limit).build()?;
//! // Around the service with the streams; the stack is around all services.
//! let streams = RequestLimitLayer::new(u64::MAX);
//! # let _ = (stack, streams);
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! # What bounds what
//!
//! | resource | bound | who sets it |
//! |---|---|---|
//! | connections | none | you: a permit for each accepted connection, see [limits](crate::docs::limits#before-there-is-a-request) |
//! | time for the headers | none | hyper: `http1().timer(..).header_read_timeout(..)` |
//! | streams of an HTTP/2 connection | 200 | hyper: `http2().max_concurrent_streams(..)`; tonic has no bound by default |
//! | requests in flight | 1024 | the stack: the concurrency limit |
//! | time to the response head | 30 s | the stack: the timeout |
//! | time in which a client reads nothing | 60 s, for responses of unknown size, above 64 KiB, or in several frames | the stack: the progress timeout |
//! | memory for responses that are not read | the limit times the largest frame; for responses of one frame up to 64 KiB, connections times streams times 64 KiB | the stack and hyper |
//! | memory for requests that are not read | the number of permits and queued requests, times the window of a stream (1 MiB) | hyper: `http2().initial_stream_window_size(..)` |
//! | memory for request bodies that handlers read whole | the limit times 2 MiB | the stack: the request limit |
//! | buffer of an HTTP/1 connection | 400 kB | hyper: `http1().max_buf_size(..)` |
//!
//! [Limits](crate::docs::limits#before-there-is-a-request) shows the code for HTTP/2 windows and
//! for connections; `examples/testbed` shows the rest.
//!
//! # Clients that read slowly
//!
//! The progress timeout ends a response if the connection takes no frame for that long although one
//! is ready. It does not end a stream whose handler is silent. Over HTTP/1, and over HTTP/2 if the
//! client has a large window, the kernel takes frames into its send buffer (on Linux up to 4 MiB,
//! `tcp_wmem`) before the client reads them. It takes no more until the client has read much of the
//! buffer. A client that reads 60 kB/s is fast enough for the default of 60 s. With a timeout of a
//! few seconds, a client may need longer than that for the buffer: set `SO_SNDBUF` of the listening
//! socket to less, for example 256 KiB.
//!
//! # The parts of a client
//!
//! Circuit breaker, your policies, timeouts, concurrency limit, from the outside. The breaker is
//! outside the timeout, so that a call that takes too long is a failure of the dependency; the
//! limit is inside, so that the calls to one slow dependency cannot use all resources of the
//! client. The time to the response head includes the upload of the request body: give uploads a
//! stack with a longer timeout.
//!
//! | part | default | why |
//! |---|---|---|
//! | circuit breaker | [`CircuitBreaker::default`] | opens for 5 s when at least 20 calls were made in the last 10 s, and half of them failed; if healthy calls may take longer than 5 s, set its `half_open_timeout` |
//! | timeout | 10 s to the response head | set it below the timeout of your own callers |
//! | idle timeout of responses | 60 s for HTTP, none for gRPC | the default of nginx's `proxy_read_timeout`: a response that stops in the middle releases its permit after a minute |
//! | concurrency limit | 128 | one slow dependency does not tie up every task |
//!
//! The idle timeout applies while your code reads the body. It also ends a stream of events that is
//! silent for a minute: for such streams, make a stack of their own, without that timeout:
//!
//! ```
//! use seawall::ResponseBodyTimeoutSettings;
//!
//! let bodies = ResponseBodyTimeoutSettings::client().idle_timeout(None);
//! let streams = seawall::client().response_body_timeout(bodies).build()?;
//! # let _ = streams;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! The response bodies of the inner service must be `Send`, `Unpin` and `'static`, as those of
//! hyper, reqwest and tonic are. Put a body that is not `Unpin` into a `Pin<Box<_>>`.
//!
//! # Cost
//!
//! A stack moves each request and each response once, and has one reference count: about half the
//! cost of the same layers nested. An admitted request allocates nothing, except for a response of
//! unknown size, above 64 KiB, or in several frames, which the progress timeout and the drain can
//! end. See
//! [`cost`](crate::docs::cost) for figures.
//!
//! # Settings while it runs
//!
//! A stack is a handle: [`settings`](ServerHandle::settings) reads the [`Settings`] of all parts as
//! one value, and [`apply`](ServerHandle::apply) replaces them while requests run. It changes all
//! of them, or, if one field is not valid, nothing: the error has the field, the value and the
//! range. It returns the fields that have changed:
//!
//! ```
//! # #[cfg(feature = "serde")] {
//! use seawall::stack::Settings;
//!
//! let stack = seawall::server().build()?;
//! let file = r#"
//!     [concurrency_limit]
//!     limit = 512
//!
//!     [timeout]
//!     duration = "5s"
//! "#;
//! let changes = stack.apply(&toml::from_str::<Settings>(file)?)?;
//! assert_eq!(
//!     changes.to_string(),
//!     "timeout.duration: 30s -> 5s, concurrency_limit.limit: 1024 -> 512",
//! );
//!
//! let file = "timeout.duration = '1s'\nconcurrency_limit.limit = 0";
//! let error = stack.apply(&toml::from_str(file)?).unwrap_err();
//! assert_eq!(error.field(), "concurrency_limit.limit");
//! assert_eq!(stack.timeout().duration().as_secs(), 5); // nothing is changed
//! # }
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! The settings do not include what is fixed when the stack is built: names, exemptions, and your
//! policies. The window of a breaker is fixed too: leave it out, or repeat it. A table replaces all
//! settings of its part: a field that it leaves out has the default of its type, and not the value
//! that it had. If you remove a part from the file, it keeps its last settings. To give it those
//! of the code again, apply the file on top of them: see [the
//! recipe](crate::docs::recipes::settings).
//!
//! # Turning parts off
//!
//! A [`Switch`] turns a part on and off while the service runs, and so does the field `mode` of its
//! settings. The lag shedder, the breaker and the concurrency limit also have a dry run. The other
//! parts have none: [`apply`](ServerHandle::apply) returns an error for it, and a switch in that
//! mode turns the part off. A drain that is off neither counts requests nor rejects them, and
//! [`Drain::wait_idle`] does not wait for them.
//!
//! ```
//! use seawall::policy::Mode;
//!
//! let stack = seawall::server().build()?;
//! stack.switches().concurrency_limit.set(Mode::DryRun); // counts what it would reject
//! stack.switches().lag_shed.set(Mode::Off);
//! # Ok::<_, seawall::ConfigError>(())
//! ```

mod changes;
mod client;
mod handle;
mod part;
mod server;
mod settings;
mod steps;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use tower_layer::Layer;

pub use self::changes::{Change, Changes};
pub use self::client::{
    Client, ClientBreakerSnapshot, ClientBuilder, ClientSnapshot, ClientSwitches, client,
};
#[cfg(feature = "keyed")]
pub use self::client::{HostBreakers, PerHost};
pub use self::handle::{ClientBreaker, ClientHandle, ServerHandle};
pub use self::part::Part;
pub use self::server::{Server, ServerBuilder, ServerSnapshot, ServerSwitches, server};
pub use self::settings::{CatchPanicSettings, PartSettings, Settings};
#[cfg(doc)]
use crate::circuit_breaker::CircuitBreaker;
#[cfg(doc)]
use crate::drain::Drain;
use crate::gate::{Gate, GateLayer};
#[cfg(any(feature = "tower-http-06", feature = "tower-http-07"))]
use crate::http::tower_http::ResponseClassifier;
use crate::http::{ResponseHead, WireProtocol};
#[cfg(doc)]
use crate::lag_shed::LagShed;
use crate::observe::Reporter;
use crate::outcome::Outcome;
use crate::policy::{Admission, Mode, Policy, RequestKind, Switch, pass_on};
use crate::protocol::{ByError, Converted, Http, Rejections, Wrapped};
use crate::rejection::Rejection;

/// The recommended stack: a handle onto its parts, and the layer that puts them in front of a
/// service. A cheap `Clone`: every clone has the same parts.
///
/// Made by [`server`] and [`client`]; `P` is a [`Server`] or a [`Client`]. The methods that read
/// and change the parts are those of its [`ServerHandle`] or [`ClientHandle`]. A struct that keeps
/// the parts, for example the state of a router, keeps this handle, whose type does not depend on
/// your policies and closures.
#[derive(Debug)]
pub struct Stack<P, X = Http>(GateLayer<P, X>);

/// The policy of a stack: its parts, and their handle `H`. [`Server`] and [`Client`] name it.
pub struct StackParts<P, H> {
    policy: P,
    handle: Arc<H>,
}

/// A part of a stack: its mode and its snapshot.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PartSnapshot<T> {
    /// Whether the part decides, only counts, or is off.
    pub mode: Mode,
    /// The snapshot of its handle.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub state: T,
}

// === impl Stack ===

fn part<T>(switch: &Switch, state: T) -> PartSnapshot<T> {
    PartSnapshot {
        mode: switch.mode(),
        state,
    }
}

impl<P, H> Stack<StackParts<P, H>> {
    fn new(policy: P, handle: H, reporter: Reporter) -> Self {
        let handle = Arc::new(handle);
        let policy = StackParts { policy, handle };
        Self(GateLayer::with_reporter(policy, reporter))
    }
}

impl<P, H, X> Stack<StackParts<P, H>, X> {
    /// The parts of this stack, as a value whose type does not depend on your policies and
    /// closures. The stack also has the methods of its handle.
    pub fn handle(&self) -> H
    where
        H: Clone,
    {
        H::clone(self)
    }
}

/// The methods of a [`ServerHandle`] or a [`ClientHandle`].
impl<P, H, X> Deref for Stack<StackParts<P, H>, X> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.0.policy().handle
    }
}

/// How the layer answers and what it makes of bodies; see [`GateLayer`].
impl<P: Clone, In, Out, E> Stack<P, Http<In, Out, E>> {
    /// Makes the answers; see [`GateLayer::respond_with`].
    #[must_use]
    pub fn respond_with<G>(self, respond: G) -> Self
    where
        G: Fn(&Rejection, WireProtocol) -> ::http::Response<bytes::Bytes> + Send + Sync + 'static,
    {
        Self(self.0.respond_with(respond))
    }

    /// Classifies responses; see [`GateLayer::classify`].
    #[must_use]
    pub fn classify<G, O>(self, classify: G) -> Self
    where
        G: Fn(&ResponseHead<'_>) -> O + Send + Sync + 'static,
        O: Into<Option<Outcome>>,
    {
        Self(self.0.classify(classify))
    }

    /// Lets a classifier of tower-http classify responses; see [`GateLayer::classify_with`].
    #[cfg(any(feature = "tower-http-06", feature = "tower-http-07"))]
    #[must_use]
    pub fn classify_with<const MINOR: u8>(
        self,
        classifier: impl ResponseClassifier<MINOR>,
    ) -> Self {
        Self(self.0.classify_with(classifier))
    }
}

/// How the layer classifies errors. Call one of these, at most once.
impl<P, In, Out> Stack<P, Http<In, Out>> {
    /// Classifies errors of the inner service; see [`GateLayer::classify_error`].
    #[must_use]
    pub fn classify_error<G, Err, O>(self, classify: G) -> Stack<P, Http<In, Out, ByError<Err>>>
    where
        G: Fn(&Err) -> O + Send + Sync + 'static,
        O: Into<Option<Outcome>>,
    {
        Stack(self.0.classify_error(classify))
    }

    /// Finds a [`Rejection`] of an inner layer in boxed errors; see [`GateLayer::find_rejections`].
    #[must_use]
    pub fn find_rejections(self) -> Stack<P, Http<In, Out, Rejections>> {
        Stack(self.0.find_rejections())
    }
}

impl<P, Out, E> Stack<P, Http<Wrapped, Out, E>> {
    /// Keeps the type of request bodies; see [`GateLayer::request_body`].
    #[must_use]
    pub fn request_body<G>(self, convert: G) -> Stack<P, Http<Converted<G>, Out, E>> {
        Stack(self.0.request_body(convert))
    }
}

impl<P, In, E> Stack<P, Http<In, Wrapped, E>> {
    /// Keeps the type of response bodies; see [`GateLayer::response_body`].
    #[must_use]
    pub fn response_body<G>(self, convert: G) -> Stack<P, Http<In, Converted<G>, E>> {
        Stack(self.0.response_body(convert))
    }
}

impl<S, P, X: Clone> Layer<S> for Stack<P, X> {
    type Service = Gate<S, P, X>;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(inner)
    }
}

impl<P, X: Clone> Clone for Stack<P, X> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

// === impl StackParts ===

impl<R: RequestKind, P: Policy<R>, H> Policy<R> for StackParts<P, H> {
    type Token = P::Token;
    type Wait = P::Wait;

    const IS_OURS: bool = P::IS_OURS;

    #[inline(always)]
    fn admit(&self, request: &R::Head<'_>) -> Admission<Self::Token, Self::Wait> {
        self.policy.admit(request)
    }

    pass_on!(self => self.policy; parts);
}

impl<P: Clone, H> Clone for StackParts<P, H> {
    fn clone(&self) -> Self {
        Self {
            policy: self.policy.clone(),
            handle: self.handle.clone(),
        }
    }
}

impl<P: fmt::Debug, H> fmt::Debug for StackParts<P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StackParts").field(&self.policy).finish()
    }
}
