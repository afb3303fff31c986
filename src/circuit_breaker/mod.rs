//! Stops asking a dependency that fails, and asks it again when there is reason to.
//!
//! # Where it goes
//!
//! On a client, around what it calls, one breaker per dependency (`CircuitBreakers` is one per host, with the feature
//! `keyed`), outside the
//! time-out, so that a call that takes too long counts as a failure. On a server, around what depends on one thing, say the
//! routes of a database; inside the lag shedder. See [the order of layers](crate#the-order-of-layers).
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use seawall::{CircuitBreaker, CircuitBreakerLayer, CircuitState};
//!
//! let breaker = CircuitBreaker::builder()
//!     .failure_rate(0.5)
//!     .slow_call(Duration::from_secs(2), 0.8)
//!     .open_for(Duration::from_secs(5))
//!     .name("reports")
//!     .build()?;
//! breaker.on_transition(|transition| println!("{transition}"));
//!
//! let app: Router = Router::new()
//!     .route("/reports", get(async || "from a database"))
//!     .layer(CircuitBreakerLayer::new(breaker.clone()));
//!
//! assert_eq!(breaker.state(), CircuitState::Closed);
//! breaker.force_open(); // isolate by hand
//! assert_eq!(breaker.state(), CircuitState::ForcedOpen);
//! breaker.reset();
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! Calls that are no Tower service go through [`run`](CircuitBreaker::run), or through
//! [`try_acquire`](CircuitBreaker::try_acquire) and an outcome:
//!
//! ```
//! # use seawall::CircuitBreaker;
//! # fn query() -> Result<u32, ()> { Ok(7) }
//! # fn f(breaker: &CircuitBreaker) -> Result<(), seawall::Rejection> {
//! let ticket = breaker.try_acquire()?;
//! match query() {
//!     Ok(_) => ticket.success(),
//!     Err(()) => ticket.failure(),
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
//!        │                                  ▼ is over          │ or the half-open time is over
//!        │  enough probes succeed      ┌───────────┐           │
//!        └──────────────────────────── │ half-open │ ──────────┘
//!                                      └───────────┘
//! ```
//!
//! - **Closed**: everything passes and is counted. It opens when, with at least
//!   [`minimum_calls`](CircuitBreakerBuilder::minimum_calls) in the window, the share of failures or of slow calls is at or
//!   above its threshold, or after so many failures in a row. Any outcome may complete the picture, also a success.
//! - **Open**: everything is refused, with what is left of the open time as `Retry-After`.
//! - **Half-open**, from the first call after the open time on: up to [`half_open`](CircuitBreakerBuilder::half_open) calls
//!   are let through as probes, the rest is refused. By the same rates as the window it closes, or opens again, as soon as the
//!   probes that are missing could no longer change it. When the half-open time is over, what has come back by then
//!   decides, with probes that hang taken for failed; without any result it opens again.
//!
//! By hand, until [`reset`](CircuitBreaker::reset): **forced open**, nothing passes; **forced closed**, everything passes,
//! and the breaker is switched off; **observe only**, everything passes and is counted, and nothing follows from it.
//!
//! States change when calls come and go and not by a timer of their own: nothing runs while nobody calls. What looks at a
//! breaker sees the state that the next call would find; hooks, metrics and events follow when it comes.
//!
//! # Trying it in production
//!
//! | | [`dry_run`](crate::GateLayer::dry_run) on the layer | [`observe_only`](CircuitBreaker::observe_only) on the breaker |
//! |---|---|---|
//! | the breaker | opens and probes, with hooks and events as if it were real | stays as it is |
//! | what would have happened | calls it would have refused: `would_reject` | thresholds that were reached: [`reached`](CircuitBreakerSnapshot::reached), a metric |
//! | where it works | in that layer | everywhere |
//! | while it runs | no | switched on and off |
//!
//! # What counts
//!
//! | outcome | counts as |
//! |---|---|
//! | HTTP 5xx; gRPC `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`; an error | a failure |
//! | a time-out of an inner layer | a failure |
//! | a panic | a failure |
//! | 429, `RESOURCE_EXHAUSTED`; an inner layer's refusal: overloaded, full, open, draining, too large | nothing; a probe gives its place back |
//! | dropped before there was a result | a failure once it has taken longer than [`slow_call`](CircuitBreakerBuilder::slow_call), else nothing |
//! | anything else | a success |
//!
//! [`classify`](crate::GateLayer::classify) changes it for responses and `classify_error` for errors. Over HTTP the verdict
//! falls at the response head, over gRPC at the trailers; how long a call took is counted to the head. So a stream of hours
//! holds up nothing: one that has begun in time counts as a success if the half-open time ends before it.
//!
//! A 404 is an answer, and a success: of routes that never get to the dependency, such as a health check or the fallback of a
//! router, [`exempt`](crate::GateLayer::exempt) the former and use `Router::route_layer` for the latter.
//!
//! A result belongs to the state in which its call began: what comes back after the state has changed is counted in the
//! totals and nowhere else. It can neither close nor open a breaker that has moved on.
//!
//! # What a refusal looks like
//!
//! Over HTTP it is a response, 503 or a gRPC `UNAVAILABLE`, on a client as well: `Ok`, with the [`Rejection`](crate::Rejection) in its
//! extensions, and `client.call()` does not fail. A retry outside should look for it:
//!
//! ```
//! # use seawall::{Reason, Rejection};
//! # fn f<B>(response: &http::Response<B>) -> bool {
//! let rejection = response.extensions().get::<Rejection>();
//! rejection.is_some_and(|rejection| rejection.reason() == Reason::CircuitOpen)
//! # }
//! ```
//!
//! A generated tonic client keeps no extensions: there a refusal is told from the server's own by
//! [`respond_with`](crate::GateLayer::respond_with) and a header. Over [`Plain`](crate::Plain) and in [`run`](CircuitBreaker::run) it is the error:
//! `error.downcast_ref::<Rejection>()` where that is boxed. `reqwest::Client` is such a service, whose `Ok` may be a 500: `.plain()`
//! with a [`classify`](crate::GateLayer::classify) that looks at the status, over `.map_err(BoxError::from)`.
//!
//! # Cost
//!
//! While it is closed, one atomic load decides. The outcome costs one atomic read-modify-write in a window of time, which also
//! reads the clock; two in a window of calls, a third where the rates change, a fourth where a failure is pushed out. A slow-call
//! threshold adds one in a window of time, and the clock at the call's beginning and end; counting failures in a row adds one
//! to each failure. There is no allocation and, but for a change of state, no lock. A ticket that is not borrowed from its
//! handle, as that of a layer, is a reference count.
//!
//! # Cancellation
//!
//! A call that is dropped gives its probe's place back, and counts as said above.
//!
//! # Panics
//!
//! A panic of the inner service unwinds through, and counts as a failure. A panic of a hook ends with the hook.
//!
//! # Differences from resilience4j, Polly and tower-resilience
//!
//! Half-open probes are tickets: one that hangs, is cancelled, or comes back late can neither wedge the breaker nor close
//! it, and it never lets more through than it was told. Half-open is decided as soon as it is certain, where resilience4j
//! waits for all probes and Polly takes the first. A success may open it, where in Polly only failures are looked at. The
//! window of time moves whether or not somebody calls. A call counts once, also if it panics or is dropped.
//!
//! | resilience4j | Polly | here |
//! |---|---|---|
//! | `failureRateThreshold` (percent) | `FailureRatio` | [`failure_rate`](CircuitBreakerBuilder::failure_rate) (`0.0..=1.0`) |
//! | `slowCallDurationThreshold`, `slowCallRateThreshold` | | [`slow_call`](CircuitBreakerBuilder::slow_call) |
//! | `slidingWindowType`, `slidingWindowSize` | `SamplingDuration` | [`window`](CircuitBreakerBuilder::window) |
//! | `minimumNumberOfCalls` | `MinimumThroughput` | [`minimum_calls`](CircuitBreakerBuilder::minimum_calls) |
//! | `waitDurationInOpenState` | `BreakDuration`, `BreakDurationGenerator` | [`open_for`](CircuitBreakerBuilder::open_for) |
//! | `permittedNumberOfCallsInHalfOpenState` | | [`half_open`](CircuitBreakerBuilder::half_open) |
//! | `maxWaitDurationInHalfOpenState` | | [`half_open_for`](CircuitBreakerBuilder::half_open_for) |
//! | `FORCED_OPEN` | isolated | [`force_open`](CircuitBreaker::force_open) |
//! | `DISABLED` | | [`force_closed`](CircuitBreaker::force_closed) |
//! | `METRICS_ONLY` | | [`observe_only`](CircuitBreaker::observe_only) |

mod builder;
mod handle;
#[cfg(feature = "keyed")]
pub mod keyed;
mod open_for;
pub mod ready;
mod settings;
mod shared;
mod state;
mod ticket;

pub use self::builder::CircuitBreakerBuilder;
pub use self::handle::{CircuitBreaker, CircuitBreakerLayer};
#[cfg(feature = "keyed")]
pub use self::keyed::{CircuitBreakers, CircuitBreakersBuilder, CircuitBreakersLayer, PerKey};
pub use self::open_for::OpenFor;
pub use self::ready::{CircuitBreakerReady, CircuitBreakerReadyLayer};
pub use self::settings::Window;
pub use self::shared::Pass;
pub use self::state::{
    CircuitBreakerSnapshot, CircuitState, CircuitTotals, ThresholdsReached, Transition,
};
pub use self::ticket::CircuitTicket;
pub use crate::control::circuit::Cause;
