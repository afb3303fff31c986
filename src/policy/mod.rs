//! What decides about a request before the inner service sees it.
//!
//! A [`Policy`] answers with an [`Admission`]: a [`Ticket`] that the request carries to its end, a place to wait, or a
//! [`Rejection`]. The policies of this crate go through the same trait as yours:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! use std::time::Duration;
//!
//! use seawall::policy::{Admission, NoWait, Policy, View};
//! use seawall::{GateLayer, Meter, Reason};
//!
//! /// Lets nothing in while less than 64 MiB are free; something else keeps `free` up to date.
//! #[derive(Clone)]
//! struct FreeMemory {
//!     free: Arc<AtomicU64>,
//!     meter: Meter,
//! }
//!
//! impl<V: View> Policy<V> for FreeMemory {
//!     type Ticket = ();
//!     type Wait = NoWait;
//!
//!     fn admit(&self, _request: &V::Head<'_>) -> Admission<(), NoWait> {
//!         if self.free.load(Relaxed) < 64 << 20 {
//!             let no = self.meter.reject(Reason::Overloaded);
//!             return Admission::Reject(no.with_retry_after(Duration::from_secs(2)));
//!         }
//!         self.meter.admitted();
//!         Admission::Admit(())
//!     }
//! }
//!
//! let policy = FreeMemory { free: Arc::default(), meter: Meter::new("free_memory") };
//! let layer = GateLayer::from_policy(policy);
//! # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
//! # fits_a_router(layer);
//! ```
//!
//! A policy that looks at the request is written for one kind of it: `impl Policy<HttpView> for PerTenant` reads
//! [`RequestHead`](crate::RequestHead)s, `impl Policy<PlainView<MyRequest>> for PerTenant` reads `MyRequest`s.
//!
//! # Several policies, one gate
//!
//! A tuple of policies is a policy: they are asked in order, the first refusal wins, and the tickets given so far are
//! dropped. That is one gate and one body wrapper instead of several. Only the last of a tuple may wait, so that nobody
//! holds a place in one room while waiting in another; put what is cheapest to refuse first.
//!
//! ```
//! # use seawall::{ConcurrencyLimit, GateLayer, policy::{Admission, NoWait, Policy, View}};
//! # #[derive(Clone)] struct Weekdays;
//! # impl<V: View> Policy<V> for Weekdays {
//! #     type Ticket = ();
//! #     type Wait = NoWait;
//! #     fn admit(&self, _: &V::Head<'_>) -> Admission<(), NoWait> { Admission::Admit(()) }
//! # }
//! let layer = GateLayer::from_policy((Weekdays, ConcurrencyLimit::new(512)));
//! # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
//! # fits_a_router(layer);
//! ```

mod dry_run;
mod exempt;
mod held;
mod tuple;
mod wait;

use crate::rejection::Rejection;

pub use self::dry_run::DryRun;
pub use self::exempt::Exempt;
pub use self::held::Held;
pub use self::wait::{NoWait, Wait, WaitFor};
pub(crate) use self::wait::{Park, Parked};
#[cfg(feature = "http")]
pub use crate::protocol::HttpView;
pub use crate::protocol::{PlainView, View};

/// Decides about one request before the inner service sees it.
///
/// A policy is a cheap `Clone` handle onto shared state, made once in its constructor: axum applies a layer per route, per
/// connection and per request, and all of them must meet the same state.
pub trait Policy<V: View>: Clone {
    /// What an admitted request carries to its end; `()` if that is nothing, an `Option` if it sometimes is.
    type Ticket: Ticket;

    /// How a request waits: [`NoWait`], or [`WaitFor`] a future. A policy that waits asks for `S: Clone` of the service.
    type Wait: Wait<Self::Ticket>;

    /// Decides, at once and without blocking.
    fn admit(&self, request: &V::Head<'_>) -> Admission<Self::Ticket, Self::Wait>;
}

/// What a policy decided.
#[derive(Debug)]
pub enum Admission<T, W> {
    /// Go on, carrying this.
    Admit(T),
    /// Wait until this resolves; it gives up its place when it is dropped.
    Wait(W),
    /// Turn back.
    Reject(Rejection),
}

/// What an admitted request carries, and gives back when it is dropped, whenever and wherever that happens.
///
/// The gate drops it when the response body has ended or is dropped (over [`Plain`](crate::Plain): when the future ends), or earlier
/// if it waits for nothing any more.
pub trait Ticket {
    /// What it still waits for, so that a gate carries it no further and tells it no more than it must.
    #[doc(hidden)]
    #[inline]
    fn interest(&self) -> Interest {
        Interest::Head
    }

    /// The verdict, told exactly once for every request that reached the inner service: at the response head, for gRPC at
    /// the trailers, or when the call is dropped or unwinds. A ticket that is dropped without a verdict never got there:
    /// a later policy of the same tuple said no.
    fn settle(&mut self, outcome: Outcome) {
        let _ = outcome;
    }

    /// The response head is here, before anyone else has seen it. It is told before the verdict; not over
    /// [`Plain`](crate::Plain), nor if the inner service returns an error.
    #[cfg(feature = "http")]
    fn on_head(&mut self, head: &mut crate::protocol::ResponseHeadMut<'_>) {
        let _ = head;
    }

    /// How the request ended, told once, after the verdict and right before the ticket is dropped.
    fn on_end(&mut self, end: End) {
        let _ = end;
    }
}

/// What a [`Ticket`] still waits for; each includes those before it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interest {
    /// Nothing is told to it, and nothing given back by it.
    Nothing,
    /// To be dropped when the work is over.
    End,
    /// To be told the verdict and how it ended.
    Outcome,
    /// To be shown the response head.
    Head,
}

/// What a request's result says about the service behind the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It did what it should.
    Success,
    /// It failed.
    Failure,
    /// The result says nothing about it: 429, or an inner layer turned the request away.
    Ignored,
    /// The call was dropped before there was a result.
    Cancelled,
    /// It panicked.
    Panicked,
}

/// How the work for a request ended, its response body included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// The response was delivered to its end, or the future returned.
    Complete,
    /// The response body ended with an error.
    Failed,
    /// The call, or the response body, was dropped before its end.
    Cancelled,
    /// The call, or the response body, unwound.
    Panicked,
}

// === impl Ticket ===

impl Ticket for () {
    #[inline]
    fn interest(&self) -> Interest {
        Interest::Nothing
    }
}

impl<T: Ticket> Ticket for Option<T> {
    #[inline]
    fn interest(&self) -> Interest {
        self.as_ref().map_or(Interest::Nothing, T::interest)
    }

    #[inline]
    fn settle(&mut self, outcome: Outcome) {
        if let Some(ticket) = self {
            ticket.settle(outcome);
        }
    }

    #[cfg(feature = "http")]
    fn on_head(&mut self, head: &mut crate::protocol::ResponseHeadMut<'_>) {
        if let Some(ticket) = self {
            ticket.on_head(head);
        }
    }

    fn on_end(&mut self, end: End) {
        if let Some(ticket) = self {
            ticket.on_end(end);
        }
    }
}
