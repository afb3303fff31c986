//! Rejects calls to a dependency that fails, and probes it until it has recovered.
//!
//! # Where it goes
//!
//! On a client, put the layer around the calls to one dependency, and outside the timeout, so that
//! a call that takes too long counts as a failure. For many dependencies, `CircuitBreakers`
//! (feature `keyed`) keeps one breaker per host. On a server, put the layer around the routes that
//! need the same dependency, for example a database, and inside the lag shedder. See [the reasons
//! for the order](crate::stack#the-parts-of-a-server).
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use seawall::{CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, CircuitState};
//!
//! let settings = CircuitBreakerSettings::default()
//!     .failure_rate(0.5)
//!     .slow_call(Duration::from_secs(2), 0.8)
//!     .open_duration(Duration::from_secs(5));
//! let breaker = CircuitBreaker::new(settings)?.named("reports");
//! breaker.on_transition(|transition| println!("{transition}"));
//!
//! let app: Router = Router::new()
//!     .route("/reports", get(async || "from a database"))
//!     .layer(CircuitBreakerLayer::new(breaker.clone()));
//!
//! assert_eq!(breaker.state(), CircuitState::Closed);
//! breaker.force_open(); // isolates the dependency
//! assert_eq!(breaker.state(), CircuitState::ForcedOpen);
//! breaker.reset();
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! For calls that are not requests of a Tower service, use [`run`](CircuitBreaker::run), or
//! [`try_acquire`](CircuitBreaker::try_acquire) and an outcome:
//!
//! ```
//! # use seawall::CircuitBreaker;
//! # fn query() -> Result<u32, ()> { Ok(7) }
//! # fn f(breaker: &CircuitBreaker) -> Result<(), seawall::Rejection> {
//! let permit = breaker.try_acquire()?;
//! match query() {
//!     Ok(_) => permit.success(),
//!     Err(()) => permit.failure(),
//! }
//! # Ok(()) }
//! # f(&CircuitBreaker::default()).unwrap();
//! ```
//!
//! # States
//!
//! ```text
//!              a threshold is reached
//!    ┌────────┐ ───────────────────────▶ ┌──────┐
//!    │ closed │                          │ open │ ◀────────────┐
//!    └────────┘                          └──────┘              │
//!        ▲                                  │ the open time    │ enough of them fail or are slow,
//!        │                                  ▼ is over          │ also when the half-open time ends
//!        │  enough probes succeed      ┌───────────┐           │
//!        └──────────────────────────── │ half-open │ ──────────┘
//!                                      └───────────┘
//! ```
//!
//! - **Closed**: the breaker admits and counts all calls. It opens when the window (by default, the
//!   calls of the last 10 s) has at least
//!   [`minimum_calls`](CircuitBreakerSettings::minimum_calls()) and the share of failures or of
//!   slow calls reaches its threshold, or after a number of consecutive failures. It compares every
//!   outcome with the thresholds, so that a success may open it too.
//! - **Open**: the breaker rejects all calls, with the rest of the open time as `Retry-After`.
//! - **Half-open**, from the first call after the open time: the breaker admits up to
//!   [`half_open_probes`](CircuitBreakerSettings::half_open_probes()) calls as probes, and rejects
//!   the others. It compares the shares of failed and of slow probes with the same rates as those
//!   of the window. It closes or opens again as soon as no further probe can change the result.
//!   Without a failure rate, it opens again when
//!   [`consecutive_failures`](CircuitBreakerSettings::consecutive_failures()) probes have failed,
//!   in any order, or all probes if they are fewer. If neither is set, one failed probe opens it.
//!   For the end of the half-open time, see
//!   [`half_open_timeout`](CircuitBreakerSettings::half_open_timeout()).
//!
//! You can force a state until [`reset`](CircuitBreaker::reset). **Forced open** rejects all calls.
//! **Forced closed** admits all calls, which switches the breaker off. **Observe only** admits and
//! counts all calls, and never opens.
//!
//! The state changes when a call begins or ends, and not by a timer: without calls, nothing runs.
//! [`state`](CircuitBreaker::state) returns the state that applies to the next call. The breaker
//! calls hooks, and writes metrics and events, when that call begins, or when you set its settings.
//!
//! # Try it in production
//!
//! | | [`dry_run`](crate::GateLayer::dry_run) on the layer | [`observe_only`](CircuitBreaker::observe_only) on the breaker |
//! |---|---|---|
//! | the breaker | opens and probes, with hooks and events | keeps its state |
//! | what it would have done | calls that it would have rejected: `would_reject` | thresholds that were reached: [`thresholds_reached`](CircuitBreakerSnapshot::thresholds_reached), and a metric |
//! | scope | this layer | every layer with the breaker |
//! | change it while the server runs | with [`switched_by`](crate::GateLayer::switched_by) | with `observe_only` and [`reset`](CircuitBreaker::reset) |
//!
//! # What counts
//!
//! | result | counts as |
//! |---|---|
//! | HTTP 5xx but 501 and 505; gRPC `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`; an error | a failure |
//! | a timeout of an inner layer | a failure |
//! | a panic | a failure |
//! | 429, 501, 505, `RESOURCE_EXHAUSTED`; a rejection of an inner layer: overloaded, limit, open, draining, too large | ignored; a probe releases its slot |
//! | what the caller caused, see below | ignored; a probe releases its slot |
//! | dropped before there is a result | a failure if it took longer than [`slow_call`](CircuitBreakerSettings::slow_call()), else ignored |
//! | anything else | a success |
//!
//! [`classify`](crate::GateLayer::classify) changes this for responses, and `classify_error` for
//! errors. If a [client stack](crate::client) in the handler rejects a call, and the handler
//! answers with a response of its own, for example 502, the breaker counts that response. To have
//! it count as the rejection, return the response of the client stack, or copy its
//! [`Rejection`](crate::Rejection) to the extensions of your response.
//!
//! Over HTTP, the breaker records the outcome at the response head; over gRPC, at the trailers. The
//! duration of a call begins when the breaker admits the call, and ends at the head in both cases:
//! it includes the time in the queue of a [`ConcurrencyLimit`](crate::ConcurrencyLimit) inside the
//! breaker. A long stream does not delay [the end of the half-open
//! state](CircuitBreakerSettings::half_open_timeout()).
//!
//! # What the caller caused
//!
//! The breaker ignores a failure that the caller caused. That is the case if one of these is true:
//!
//! - The request body failed first: the caller aborted it, or it was too large or too slow. The
//!   status or error with which the handler then answers does not count. A panic still counts.
//! - The call is dropped, or ends with a timeout, an error, 504, or `DEADLINE_EXCEEDED`, while it
//!   waits for the request body. The time of that wait does not make a call slow either.
//! - An inner layer with a [`RequestLimit`](crate::RequestLimit) has rejected the request, and
//!   still reads the rest of its body when the call ends with a timeout. This does not apply if the
//!   rejection is for a panic or a timeout of the service.
//! - The caller's own deadline (`grpc-timeout`) was the shorter one, also if a handler passes it on
//!   as a [`Deadline`](crate::Deadline). This includes an error at the deadline. It also includes a
//!   gRPC response head with `DEADLINE_EXCEEDED` shortly before the deadline, and a 504 at that
//!   time if the timeout is in the same gate as the breaker. A failure in the trailers counts,
//!   unless a layer with [`including_body`](crate::TimeoutLayer::including_body) has ended the
//!   stream. If the handler makes a call with a deadline of its own, only an error or a gRPC
//!   `DEADLINE_EXCEEDED` that it returns when this call ends is ignored.
//! - A layer has ended a gRPC response at its progress timeout. Or it has ended it at its deadline,
//!   and the client was not reading then, or frames had waited for the client for most of the time.
//! - A gRPC service answers `INTERNAL` because it could not decode the request. The specification
//!   has no code for that, so the breaker compares the message with those of tonic 0.14. It also
//!   ignores a handler that returns the same message.
//!
//! The first two conditions need a [`RequestLimit`](crate::RequestLimit): in the same gate, or in a
//! layer outside or inside the breaker, for example in a `seawall::server()` around the router. The
//! first three also apply to the layers of a client that the handler calls, for example of a proxy.
//! If the handler itself reads the body while it makes the call, as in an upload that it passes on
//! piece by piece, the call does not wait for the body. If another task reads the body, as hyper's
//! client does with the body of a request, all calls of the handler wait for it. This is also true
//! if the handler gives the body to that task during a call.
//!
//! The first three conditions do not apply to calls from a spawned task, nor to
//! [`try_acquire_owned`](CircuitBreaker::try_acquire_owned), since a spawned task may settle its
//! permit. For `try_acquire` in a handler, the time for which the handler waits for the body does
//! not count as time of a slow call. An error of `run` counts while the call waits for the body;
//! the breaker ignores it only if the body has failed.
//!
//! If the state has changed since the call began, its result counts in the totals only: it neither
//! closes nor opens the breaker.
//!
//! All other failures count: if one request makes a handler panic or answer 500, its callers can
//! open the breaker.
//!
//! # Routes without the dependency
//!
//! A 404 is a success. Some routes never call the dependency, such as a health check or the
//! fallback of a router. [`exempt`](crate::GateLayer::exempt) a health check, and use
//! `Router::route_layer` to leave out the fallback.
//!
//! # What a rejection looks like
//!
//! Over HTTP a rejection is a response, 503 or a gRPC `UNAVAILABLE`, on a client as well: the
//! client gets `Ok`, with the [`Rejection`](crate::Rejection) in the extensions of the response. A
//! retry outside the breaker should read it:
//!
//! ```
//! # use seawall::{Reason, Rejection};
//! # fn f<B>(response: &http::Response<B>) -> bool {
//! let rejection = response.extensions().get::<Rejection>();
//! rejection.is_some_and(|rejection| rejection.reason() == Reason::CircuitOpen)
//! # }
//! ```
//!
//! A generated tonic client drops the extensions. To distinguish a rejection from the server's own
//! status there, add a header with [`respond_with`](crate::GateLayer::respond_with). Over
//! [`Plain`](crate::Plain) and in [`run`](CircuitBreaker::run), the rejection is the error; in a
//! boxed error, find it with [`Rejection::find`](crate::Rejection::find). The recipes have [a
//! reqwest client](crate::docs::recipes::clients) and [a database](crate::docs::recipes::database).
//!
//! # Cost
//!
//! While the breaker is closed, admission costs one atomic load. An outcome costs these atomic
//! read-modify-writes:
//!
//! - A window of time: one for a success, three for a failure, and one clock read.
//! - A window of calls: one for a success that replaces a success, and two if calls are timed. All
//!   other cases need two to four. No clock is read.
//! - A slow-call threshold: two more for a window of time, and a clock read at the beginning and at
//!   the end of each call.
//! - Consecutive failures: one for each failure, and for the first success after it.
//!
//! No call allocates. These take a lock: a call while the breaker is half-open or forced open, a
//! change of state, a snapshot, and a change of the settings.
//!
//! # Cancellation
//!
//! A probe that is dropped releases its slot. The table [above](self#what-counts) says what a
//! dropped call counts as.
//!
//! # Panics
//!
//! A panic of the inner service unwinds through the layer, and counts as a failure. A panic of a
//! hook is caught.
//!
//! # Differences from resilience4j, Polly and tower-resilience 0.14
//!
//! A half-open probe has a token: if it hangs, is cancelled, or ends late, it neither blocks the
//! breaker nor closes it, and there are never more probes than you allow. The half-open state ends
//! as soon as the result is certain; resilience4j waits for all probes, and Polly for the first. A
//! success may open the breaker; in Polly only a failure does. The window of time also moves
//! without calls. Every call counts once, even if it panics or is dropped.
//!
//! | resilience4j | Polly | here |
//! |---|---|---|
//! | `failureRateThreshold` (percent) | `FailureRatio` | [`failure_rate`](CircuitBreakerSettings::failure_rate()) (`0.0..=1.0`) |
//! | `slowCallDurationThreshold`, `slowCallRateThreshold` | | [`slow_call`](CircuitBreakerSettings::slow_call()) |
//! | `slidingWindowType`, `slidingWindowSize` | `SamplingDuration` | [`window`](CircuitBreakerSettings::window()) |
//! | `minimumNumberOfCalls` | `MinimumThroughput` | [`minimum_calls`](CircuitBreakerSettings::minimum_calls()) |
//! | `waitDurationInOpenState` | `BreakDuration`, `BreakDurationGenerator` | [`open_duration`](CircuitBreakerSettings::open_duration()) |
//! | `permittedNumberOfCallsInHalfOpenState` | | [`half_open_probes`](CircuitBreakerSettings::half_open_probes()) |
//! | `maxWaitDurationInHalfOpenState` | | [`half_open_timeout`](CircuitBreakerSettings::half_open_timeout()) |
//! | `FORCED_OPEN` | isolated | [`force_open`](CircuitBreaker::force_open) |
//! | `DISABLED` | | [`force_closed`](CircuitBreaker::force_closed) |
//! | `METRICS_ONLY` | | [`observe_only`](CircuitBreaker::observe_only) |

mod handle;
#[cfg(feature = "keyed")]
pub mod keyed;
mod open_duration;
pub mod ready;
mod run;
mod settings;
mod shared;
mod snapshot;
mod window;

pub use self::handle::{CircuitBreaker, CircuitBreakerLayer};
#[cfg(feature = "keyed")]
pub use self::keyed::{
    CircuitBreakers, CircuitBreakersLayer, CircuitBreakersSettings, CircuitBreakersSnapshot, PerKey,
};
pub use self::open_duration::OpenDuration;
pub use self::ready::{CircuitBreakerReady, CircuitBreakerReadyLayer};
pub use self::settings::{CircuitBreakerSettings, SlowCall};
pub use self::shared::CircuitToken;
pub use self::snapshot::{CircuitBreakerSnapshot, CircuitTotals, ThresholdsReached};
pub use self::window::Window;
pub use crate::control::circuit_breaker::transition::{CircuitState, Transition, TransitionCause};
