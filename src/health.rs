//! Health checks: a small service that answers `/livez`, `/readyz` and `/statusz`.
//!
//! | path | 200 | else |
//! |---|---|---|
//! | `/livez` | always: the process can answer | |
//! | `/readyz` | the service takes new clients | 503 while it drains, or for a reason that you add |
//! | `/statusz` | the text that you give, as JSON | 404 if you give none, 500 if that failed |
//!
//! Any other path is answered with 404, any method other than GET and HEAD with 405.
//!
//! # Where it goes
//!
//! On a listener of its own, so that it answers probes under overload too, and so that the status
//! is not public:
//!
//! ```
//! use axum::Router;
//! use seawall::{Health, Registry};
//!
//! let stack = seawall::server().build()?;
//! let registry = Registry::new();
//! registry.add("server", &stack)?;
//!
//! let health = Health::new(stack.drain().clone())
//!     .status(move || serde_json::to_string(&registry.snapshot()));
//! let admin: Router = Router::new().fallback_service(health);
//! # let _ = admin;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! On the listener of the service, exempt it from the stack:
//!
//! ```
//! use axum::{Router, routing::get};
//! use seawall::Health;
//!
//! let stack = seawall::server().exempt(|head| Health::has_path(head.path())).build()?;
//! let health = Health::new(stack.drain().clone());
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .route_service("/livez", health.clone())
//!     .route_service("/readyz", health)
//!     .layer(stack);
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! All clients can then read the answers. `/readyz` names the reason, for example the name of an
//! essential breaker. Do not set a [`status`](Health::status) for this service.
//!
//! Under hyper, use `TowerToHyperService::new(health)`. For a path that is not in the table, call
//! [`is_ready`](Health::is_ready) in a handler of your own.
//!
//! # gRPC health checks
//!
//! Exempt tonic-health from the stack, and set its status when the drain starts.
//! [`has_path`](Health::has_path) includes the paths of gRPC health checks:
//!
//! ```
//! use seawall::Health;
//! use tonic::transport::Server;
//! use tonic_health::ServingStatus;
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let stack = seawall::server().exempt(|head| Health::has_path(head.path())).build()?;
//! let (mut reporter, service) = tonic_health::server::health_reporter();
//! reporter.set_service_status("", ServingStatus::Serving).await;
//! let drain = stack.drain().clone();
//! tokio::spawn(async move {
//!     drain.started().await;
//!     reporter.set_service_status("", ServingStatus::NotServing).await;
//!     tokio::time::sleep(drain.settings().lame_duck).await;
//!     reporter.clear_service_status("").await; // ends the calls of `Watch`
//! });
//! let server = Server::builder().layer(stack).add_service(service); // and your services
//! # let _ = server;
//! # Ok(()) }
//! ```
//!
//! - **The names.** Set and clear the status of each name that you serve, not only `""`. A `Check`
//!   of a name that is cleared answers `NOT_FOUND`.
//! - **Other conditions.** This status follows the drain only. For the conditions below, set it
//!   from [`is_ready`](Health::is_ready), for example each second, and stop when the drain starts:
//!   a status that is set after it was cleared brings the name back.
//! - **`Watch`.** The server does not end a call of `Watch` by itself. A stack with a `deadline` or
//!   an `idle_timeout` for response bodies does, also if the call is exempt. A call that is not
//!   exempt holds a permit. If it is exempt, no layer bounds the number of these calls: serve
//!   health checks on a listener of their own if other clients reach the port. A graceful shutdown
//!   waits for them, with [`Drain::serve`] until the grace period ends. The example therefore
//!   clears the status.
//!
//! # When the service is not ready
//!
//! By default, the service is not ready while it drains, and for no other reason. If load made a
//! server not ready, its load would go to the other servers, which would soon not be ready either.
//! [`not_ready_while_shedding`](Health::not_ready_while_shedding) and
//! [`essential`](Health::essential) are for services where this cannot happen, for example because
//! a load balancer ignores the checks if most of them fail (Envoy's panic threshold).
//!
//! A condition of [`not_ready_while`](Health::not_ready_while) must hold for a time before the
//! service is not ready, and must be absent for a time before it is ready again. An essential
//! breaker applies at once. The service evaluates conditions when a client asks for readiness. If
//! two consecutive probes find the condition, it counts as true in between.
//!
//! # Cost
//!
//! A probe takes a short lock, and then calls the closures that you pass, outside the lock.
//!
//! # Panics
//!
//! The service panics if a closure that you pass panics. A panic isolation around it catches that.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::time::Instant;
use tower_service::Service;

use crate::circuit_breaker::{CircuitBreaker, CircuitState};
use crate::clock::{self, nanos};
use crate::control::hysteresis::Hysteresis;
use crate::control::lag::law::LagState;
use crate::drain::Drain;
use crate::lag_shed::LagShed;
use crate::rejection::BoxError;
use crate::sync::lock;

/// A Tower service over HTTP that answers health checks; see the [module docs](self). A cheap
/// `Clone`: all clones give the same answers.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

struct Shared {
    drain: Drain,
    checks: Mutex<Vec<Arc<Check>>>,
    status: Mutex<Option<Status>>,
    origin: Instant,
}

type Status = Arc<dyn Fn() -> Result<String, BoxError> + Send + Sync>;

/// A reason for which the service is not ready.
struct Check {
    name: Cow<'static, str>,
    holds: Box<dyn Fn() -> bool + Send + Sync>,
    hysteresis: Mutex<Hysteresis>,
}

/// Finds out whether a layer enforces the rejections of its handle: in a dry run, `would_reject`
/// grows instead of `rejected`.
struct Enforced(Mutex<Counters>);

struct Counters {
    rejected: u64,
    would_reject: u64,
    is_enforced: bool,
}

const LIVE: &str = "/livez";
const READY: &str = "/readyz";
const STATUS: &str = "/statusz";
/// The service of gRPC's health checks.
const GRPC: &str = "/grpc.health.v1.Health/";

// === impl Enforced ===

impl Enforced {
    /// `is_enforced` applies until one of the counters grows.
    const fn new(rejected: u64, would_reject: u64, is_enforced: bool) -> Self {
        Self(Mutex::new(Counters {
            rejected,
            would_reject,
            is_enforced,
        }))
    }

    /// Returns whether they were enforced when one of the counters last grew.
    fn update(&self, rejected: u64, would_reject: u64) -> bool {
        let mut last = lock(&self.0);
        if rejected != last.rejected {
            last.is_enforced = true;
        } else if would_reject != last.would_reject {
            last.is_enforced = false;
        }
        (last.rejected, last.would_reject) = (rejected, would_reject);
        last.is_enforced
    }

    /// The next rejection shows whether they are enforced.
    fn forget(&self) {
        lock(&self.0).is_enforced = false;
    }
}

/// The future of [`Health`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct HealthFuture(Ready<Result<Response<String>, Infallible>>);

// === impl Health ===

impl Health {
    /// Makes a service that is ready until this drain begins.
    pub fn new(drain: impl Into<Drain>) -> Self {
        Self {
            shared: Arc::new(Shared {
                drain: drain.into(),
                checks: Mutex::default(),
                status: Mutex::default(),
                origin: clock::now(),
            }),
        }
    }

    /// Makes the service not ready when `condition` has held for the time `after`, until it has
    /// been absent for as long. The answer of `/readyz` contains the name. It applies to all
    /// clones.
    ///
    /// The service calls the closure for each probe. It must not block.
    #[must_use]
    pub fn not_ready_while(
        self,
        name: impl Into<Cow<'static, str>>,
        after: Duration,
        condition: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let hysteresis = Hysteresis::new(nanos(after), nanos(after));
        self.with_check(name.into(), hysteresis, condition)
    }

    /// Makes the service not ready when this shedder has rejected requests for the time `after`,
    /// until it sheds no longer for as long. The service stays ready until the shedder rejects a
    /// request, for example if its layer is in a dry run or off. The check cannot see that the
    /// layer is turned off while the shedder sheds.
    #[must_use]
    pub fn not_ready_while_shedding(self, lag_shed: &LagShed, after: Duration) -> Self {
        let lag_shed = lag_shed.clone();
        let now = lag_shed.snapshot();
        let enforced = Enforced::new(now.rejected, now.would_reject, false);
        self.not_ready_while("shedding", after, move || {
            let now = lag_shed.snapshot();
            let is_enforced = enforced.update(now.rejected, now.would_reject);
            if now.state != LagState::Shedding {
                enforced.forget();
            }
            is_enforced && now.state == LagState::Shedding
        })
    }

    /// Makes the service not ready while this breaker is open, and for the time `hold` after that.
    /// Use it for a dependency without which the service can serve no request.
    ///
    /// A breaker closes only if it is called. The time `hold` therefore begins when a health check
    /// first finds a breaker that would admit a probe, even if no probe arrives. The check ignores
    /// a layer in a dry run after the first request that it would have rejected. It cannot see that
    /// a layer is off: reset a breaker that you have forced open before you turn its layer off.
    #[must_use]
    pub fn essential(self, breaker: &CircuitBreaker, hold: Duration) -> Self {
        let name = match breaker.name() {
            "" => Cow::Borrowed("circuit open"),
            name => Cow::Owned(format!("circuit open: {name}")),
        };
        let breaker = breaker.clone();
        let now = breaker.snapshot();
        let enforced = Enforced::new(now.rejected, now.would_reject, true);
        self.with_check(name, Hysteresis::new(0, nanos(hold)), move || {
            let now = breaker.snapshot();
            let is_open = matches!(
                now.state,
                CircuitState::Open { .. } | CircuitState::ForcedOpen
            );
            enforced.update(now.rejected, now.would_reject) && is_open
        })
    }

    /// Sets the text of `/statusz`, as JSON: for example `move ||
    /// serde_json::to_string(&registry.snapshot())`. It replaces the previous one, in all clones.
    ///
    /// The service calls the closure for each request. It must not block.
    #[must_use]
    pub fn status<F, E>(self, status: F) -> Self
    where
        F: Fn() -> Result<String, E> + Send + Sync + 'static,
        E: Into<BoxError>,
    {
        let status: Status = Arc::new(move || status().map_err(Into::into));
        *lock(&self.shared.status) = Some(status);
        self
    }

    fn with_check(
        self,
        name: Cow<'static, str>,
        hysteresis: Hysteresis,
        holds: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let check = Check {
            name,
            holds: Box::new(holds),
            hysteresis: Mutex::new(hysteresis),
        };
        lock(&self.shared.checks).push(Arc::new(check));
        self
    }

    /// Returns whether the service takes new clients.
    pub fn is_ready(&self) -> bool {
        self.not_ready_reasons().is_empty()
    }

    /// The reasons for which the service is not ready: `"draining"`, `"shedding"`,
    /// `"circuit open: NAME"` for an essential breaker, or the names of conditions. Empty if it is
    /// ready.
    pub fn not_ready_reasons(&self) -> Vec<Cow<'static, str>> {
        let shared = &self.shared;
        let mut reasons = Vec::new();
        if shared.drain.is_draining() {
            reasons.push(Cow::Borrowed("draining"));
        }
        // Calls the closures without the lock.
        let checks = lock(&shared.checks).clone();
        for check in checks {
            let holds = (check.holds)();
            let now = clock::now().saturating_duration_since(shared.origin);
            if lock(&check.hysteresis).look(nanos(now), holds) {
                reasons.push(check.name.clone());
            }
        }
        reasons
    }

    /// Returns whether a path is one of this service, or a method of gRPC's health checks
    /// (`/grpc.health.v1.Health/Check`, `Watch` and `List`). Use it for the exemptions of a stack.
    pub fn has_path(path: &str) -> bool {
        let method = path.strip_prefix(GRPC);
        is_own(path) || matches!(method, Some("Check" | "Watch" | "List"))
    }

    fn answer(&self, method: &Method, path: &str) -> Response<String> {
        if !is_own(path) {
            return text(StatusCode::NOT_FOUND, "no such path\n");
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, allowed);
            return response;
        }
        match path {
            LIVE => text(StatusCode::OK, "live\n"),
            READY => self.ready(),
            _ => self.status_page(),
        }
    }

    fn ready(&self) -> Response<String> {
        let reasons = self.not_ready_reasons();
        if reasons.is_empty() {
            return text(StatusCode::OK, "ready\n");
        }
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {}\n", reasons.join(", ")),
        )
    }

    fn status_page(&self) -> Response<String> {
        let Some(status) = lock(&self.shared.status).clone() else {
            return text(StatusCode::NOT_FOUND, "no status\n");
        };
        match status() {
            Ok(json) => response(StatusCode::OK, "application/json", json),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

fn is_own(path: &str) -> bool {
    matches!(path, LIVE | READY | STATUS)
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<String> {
    response(status, "text/plain; charset=utf-8", text.into())
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static(content_type);
    headers.insert(header::CONTENT_TYPE, content_type);
    // A cached answer would report an old state.
    let no_store = HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, no_store);
    response
}

impl Future for HealthFuture {
    type Output = Result<Response<String>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<B> Service<Request<B>> for Health {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = HealthFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut response = self.answer(request.method(), request.uri().path());
        if request.method() == Method::HEAD {
            // Hyper's HTTP/2 server would send the body of an answer to HEAD.
            let length = HeaderValue::from(response.body().len());
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, length);
            response.body_mut().clear();
        }
        HealthFuture(ready(Ok(response)))
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks: Vec<_> = lock(&self.shared.checks)
            .iter()
            .map(|check| check.name.clone())
            .collect();
        f.debug_struct("Health")
            .field("drain", &self.shared.drain)
            .field("checks", &checks)
            .finish_non_exhaustive()
    }
}
