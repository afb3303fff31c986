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
//! - **Forced open, forced closed, observe only**, by hand: nothing passes; everything passes and nothing is counted;
//!   everything passes and is counted, and what would have opened it shows in the
//!   [`snapshot`](CircuitBreaker::snapshot) alone.
//!
//! States change when calls come and go and not by a timer of their own: nothing runs while nobody calls. What looks at a
//! breaker sees the state that the next call would find; hooks, metrics and events follow when it comes.
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
//! [`classify`](GateLayer::classify) changes it. Over HTTP the verdict falls at the response head, over gRPC at the trailers;
//! how long a call took is counted to the head. So a stream of hours holds up nothing.
//!
//! A result belongs to the state in which its call began: what comes back after the state has changed is counted in the
//! totals and nowhere else. It can neither close nor open a breaker that has moved on.
//!
//! # Cost
//!
//! While it is closed, one atomic load decides. The outcome costs one atomic read-modify-write in a window of time, three in a
//! window of calls (four when it pushes another out); with a slow-call threshold a window of time costs one more and the call's
//! beginning and end read the clock; a failure costs one more where failures in a row count. There is no allocation and, but for a change of state, no lock. The handle that a ticket
//! carries is a reference count.
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
//! it, and it never lets more through than it was told. A rate equal to its threshold opens, as everywhere; the wait is over
//! at its end and not after it; half-open is decided as soon as it is certain (resilience4j waits for all probes). The time
//! window moves, whether or not somebody calls.

mod builder;
mod handle;
#[cfg(feature = "keyed")]
pub mod keyed;
pub mod ready;
mod settings;
mod shared;
mod state;
mod ticket;

pub use self::builder::CircuitBreakerBuilder;
pub use self::handle::{CircuitBreaker, CircuitBreakerLayer};
#[cfg(feature = "keyed")]
pub use self::keyed::{CircuitBreakers, CircuitBreakersBuilder, CircuitBreakersLayer, PerKey};
pub use self::ready::{CircuitBreakerReady, CircuitBreakerReadyLayer};
pub use self::settings::{OpenFor, Window};
pub use self::shared::Pass;
pub use self::state::{
    CircuitBreakerSnapshot, CircuitState, CircuitTotals, ThresholdsReached, Transition,
};
pub use self::ticket::CircuitTicket;
pub use crate::control::circuit::Cause;
