//! Policies: they decide about a request before the inner service sees it.
//!
//! A [`Policy`] answers with an [`Admission`]: a token that the gate keeps for the request, a
//! future to wait for, or a [`Rejection`]. The policies of this crate implement the same trait as
//! yours:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! use std::time::Duration;
//!
//! use seawall::policy::{Admission, NoWait, Policy, RequestKind};
//! use seawall::{GateLayer, Reason, Reporter};
//!
//! /// Rejects while less than 64 MiB are free; another task updates `free`.
//! #[derive(Clone)]
//! struct FreeMemory {
//!     free: Arc<AtomicU64>,
//!     reporter: Reporter,
//! }
//!
//! impl<R: RequestKind> Policy<R> for FreeMemory {
//!     type Token = ();
//!     type Wait = NoWait;
//!
//!     fn admit(&self, _request: &R::Head<'_>) -> Admission<(), NoWait> {
//!         if self.free.load(Relaxed) < 64 << 20 {
//!             let rejection = self.reporter.reject(Reason::Overloaded);
//!             return Admission::Reject(rejection.with_retry_after(Duration::from_secs(2)));
//!         }
//!         Admission::Admit(())
//!     }
//! }
//!
//! let policy = FreeMemory {
//!     free: Arc::new(AtomicU64::new(u64::MAX)),
//!     reporter: Reporter::new("free_memory"),
//! };
//! let layer = GateLayer::from_policy(policy);
//! # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
//! # fits_a_router(layer);
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! A policy that reads the request implements the trait for one kind of request: `impl
//! Policy<HttpRequest> for PerTenant` reads [`RequestHead`](crate::RequestHead)s, `impl
//! Policy<PlainRequest<MyRequest>> for PerTenant` reads `MyRequest`s.
//!
//! # Tokens
//!
//! A token is plain data. For every request that the policy admits, the gate calls
//! [`settle`](Policy::settle) once and then [`release`](Policy::release) once. It does so for every
//! end of the request: a response, an error, a timeout, a panic, or a drop by the caller. A policy
//! needs no `Drop` for its token:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
//!
//! use seawall::policy::{Admission, NoWait, Policy, RequestKind};
//! use seawall::{Completion, GateLayer, Outcome};
//!
//! /// Counts the requests in flight, and the failures.
//! #[derive(Clone, Default)]
//! struct Gauges {
//!     in_flight: Arc<AtomicUsize>,
//!     failures: Arc<AtomicUsize>,
//! }
//!
//! impl<R: RequestKind> Policy<R> for Gauges {
//!     type Token = ();
//!     type Wait = NoWait;
//!
//!     fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
//!         self.in_flight.fetch_add(1, Relaxed);
//!         Admission::Admit(())
//!     }
//!
//!     fn settle(&self, _: &mut (), outcome: Outcome) {
//!         if matches!(outcome, Outcome::Failure | Outcome::Panicked) {
//!             self.failures.fetch_add(1, Relaxed);
//!         }
//!     }
//!
//!     fn release(&self, _: &mut (), _: Completion) {
//!         self.in_flight.fetch_sub(1, Relaxed);
//!     }
//! }
//!
//! let gauges = Gauges::default();
//! let layer = GateLayer::from_policy(gauges.clone());
//! # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
//! # fits_a_router(layer);
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! # Several policies, one gate
//!
//! A tuple of two to eight policies is a policy. Its members decide in order, and the first
//! rejection is the answer. A tuple needs one gate, one future and one body. Only the last policy
//! may wait, so that no request in a queue holds a permit that another queued request needs. Put
//! the policy with the cheapest rejection first.
//!
//! ```
//! # use seawall::{ConcurrencyLimit, GateLayer, policy::{Admission, NoWait, Policy, RequestKind}};
//! # #[derive(Clone)] struct Weekdays;
//! # impl<R: RequestKind> Policy<R> for Weekdays {
//! #     type Token = ();
//! #     type Wait = NoWait;
//! #     fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> { Admission::Admit(()) }
//! # }
//! let layer = GateLayer::from_policy((Weekdays, ConcurrencyLimit::new(512)?));
//! # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
//! # fits_a_router(layer);
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! The outcome with which each policy of a gate is settled:
//!
//! | event | before a [`Timeout`](crate::Timeout) in the tuple | after it |
//! |---|---|---|
//! | response or error | what the classifier says | the same |
//! | timeout | `Failure`; `Ignored` if the caller caused it, see below | `Cancelled` |
//! | panic | `Panicked` | `Panicked` |
//! | the caller drops the request | `Cancelled` | `Cancelled` |
//! | a later policy, or the request limit, rejects | `Ignored` | `Ignored` |
//!
//! The caller caused a timeout if its own time was shorter, if the service waits for the request
//! body, if that body failed, or if the caller did not read the response, or read it too slowly. Of
//! several timeouts, the table means the one whose time has passed.
//!
//! The gate settles tokens in the order of the tuple, and releases them in reverse order. If a
//! later policy rejects the request at once, each earlier token is settled and then released, in
//! the order of the tuple.
//!
//! An `Option` of a policy is a policy, and `None` admits everything. Use it if a setting decides
//! at start whether the policy applies. [`Switched`] is a policy that you turn on and off while the
//! service runs.
//!
//! # A policy around another
//!
//! Your policy may wrap another one. Use [`NoWait`] or [`WaitFor`] as its [`Wait`](Policy::Wait),
//! and not the `Wait` of the other policy: that type says which methods the gate calls, so that the
//! gate might not call your `settle` or `release`. The gate ignores a timeout, a request limit or
//! panic isolation that your policy wraps. Name the token of a policy of this crate as
//! `P::Token`: its type may change in any release.

/// The calls after `admit`, for a policy that passes them to its inner policy. With `parts`, the
/// macro also passes on `parts`.
macro_rules! pass_on {
    ($self:ident => $inner:expr; parts) => {
        #[inline(always)]
        fn parts<'a>(&'a $self, token: Option<&'a Self::Token>) -> $crate::policy::Parts<'a> {
            $inner.parts(token)
        }

        pass_on!($self => $inner);
    };
    ($self:ident => $inner:expr) => {
        #[cfg(feature = "http")]
        #[inline(always)]
        fn on_head(
            &$self,
            token: &mut Self::Token,
            head: &mut $crate::http::head::ResponseHeadMut<'_>,
        ) {
            $inner.on_head(token, head);
        }

        fn register(&$self) {
            $inner.register();
        }

        #[inline(always)]
        fn settle(&$self, token: &mut Self::Token, outcome: $crate::Outcome) {
            $inner.settle(token, outcome);
        }

        #[inline(always)]
        fn release(&$self, token: &mut Self::Token, completion: $crate::Completion) {
            $inner.release(token, completion);
        }

        #[inline(always)]
        fn expire(&$self, token: &mut Self::Token, expiry: &mut $crate::policy::Expiry) {
            $inner.expire(token, expiry);
        }

        fn for_dry_run(&$self, token: Self::Token) -> Option<Self::Token> {
            $inner.for_dry_run(token)
        }
    };
}

#[cfg(feature = "http")]
pub(crate) use pass_on;

mod exempt;
pub(crate) mod needs;
mod option;
mod panics;
mod parts;
mod per_request;
mod permit;
mod switch;
mod time;
mod tuple;
mod wait;

#[cfg(feature = "http")]
use crate::http::head::ResponseHeadMut;
use crate::outcome::{Completion, Outcome};
use crate::rejection::Rejection;

#[doc(hidden)]
pub use self::exempt::Exemption;
pub use self::exempt::{Either, Exempt, Never};
#[doc(hidden)]
pub use self::needs::{
    Choice, Drained, Ended, Everything, Isolated, Limited, Needs, No, Nothing, Polled, Released,
    Settled, SlowPolled, Timed, Yes,
};
pub(crate) use self::panics::Panics;
pub(crate) use self::parts::Isolation;
#[cfg(feature = "http")]
pub(crate) use self::parts::{BodyBounds, Ending};
#[doc(hidden)]
pub use self::parts::{Budget, Parts};
pub use self::per_request::PerRequest;
pub use self::permit::Permit;
pub use self::switch::{Mode, Switch, Switched};
#[doc(hidden)]
pub use self::time::Time;
#[doc(hidden)]
pub use self::tuple::Beside;
pub use self::wait::{NeverWaits, NoWait, Wait, WaitFor, WaitWith};
#[cfg(feature = "http")]
pub use crate::http::head::HttpRequest;
#[doc(hidden)]
pub use crate::request::CallersTime;
pub use crate::request::{PlainRequest, RequestKind};

/// The parts of the gate that a policy `P` needs.
pub(crate) type NeedsOf<P, R> = <<P as Policy<R>>::Wait as Wait>::Needs;

/// Decides about one request before the inner service sees it. Implement it for rules of your own,
/// and put it in front of a service with [`GateLayer::from_policy`](crate::GateLayer::from_policy)
/// or [`policy`](crate::stack::ServerBuilder::policy) of a stack.
///
/// A policy is a cheap `Clone` handle onto shared state. Make the state once, in the constructor of
/// the policy: axum applies a layer per route, per connection and per request, and all of them must
/// share the state.
pub trait Policy<R: RequestKind>: Clone {
    /// The token that the gate keeps for an admitted request: plain data, `()` if there is nothing
    /// to keep.
    type Token;

    /// The type that waits for a token: [`NoWait`], or [`WaitFor`] a future. A policy that may wait
    /// needs an inner service that is `Clone`.
    ///
    /// A policy that [wraps another one](self#a-policy-around-another) must not use the `Wait` of
    /// that policy.
    type Wait: Wait<Token = Self::Token>;

    /// Whether a panic in `admit` needs no isolation, because it would be a bug of this crate.
    #[doc(hidden)]
    const IS_OURS: bool = false;

    /// Decides about a request, at once and without blocking. If it panics, the request gets the
    /// answer of a panic isolation around it, if there is one.
    fn admit(&self, request: &R::Head<'_>) -> Admission<Self::Token, Self::Wait>;

    /// Registers the metrics of the policy. With the feature `metrics`, the gate calls it at its
    /// first request, whether or not it admits the request. A policy with a
    /// [`Reporter`](crate::Reporter) calls
    /// [`register_reasons`](crate::Reporter::register_reasons) here. By default it does nothing.
    fn register(&self) {}

    /// Reads or changes the response head. The gate calls it before any outer layer sees the head,
    /// and before `settle`. It does not call it for an answer of the gate itself, for an error of
    /// the inner service, nor over [`Plain`](crate::Plain). By default it does nothing.
    #[cfg(feature = "http")]
    fn on_head(&self, token: &mut Self::Token, head: &mut ResponseHeadMut<'_>) {
        let _ = (token, head);
    }

    /// Records the outcome of an admitted request. The gate calls it exactly once for each: at the
    /// response head, for gRPC at the trailers, or when the call is dropped, panics, or is rejected
    /// by a later policy. By default it does nothing.
    fn settle(&self, token: &mut Self::Token, outcome: Outcome) {
        let _ = (token, outcome);
    }

    /// Releases the token of an admitted request. The gate calls it exactly once for each, after
    /// `settle`: when the response body has ended or is dropped; over [`Plain`](crate::Plain) when
    /// the future ends. By default it does nothing.
    fn release(&self, token: &mut Self::Token, completion: Completion) {
        let _ = (token, completion);
    }

    /// Settles a request whose deadline has passed. The policies after the timeout whose deadline
    /// it was get `Cancelled`.
    #[doc(hidden)]
    #[inline]
    fn expire(&self, token: &mut Self::Token, expiry: &mut Expiry) {
        self.settle(token, expiry.outcome);
        let budget = self.parts(Some(token)).deadline;
        if budget.is_some_and(|budget| budget.time.nanos() <= expiry.nanos) {
            expiry.outcome = Outcome::Cancelled;
        }
    }

    /// The token for a dry run. A policy that acts through parts of the gate has no dry run: its
    /// token is settled and released, since with it the gate would enforce them.
    #[doc(hidden)]
    fn for_dry_run(&self, token: Self::Token) -> Option<Self::Token> {
        let times = const { NeedsOf::<Self, R>::DEADLINE || NeedsOf::<Self, R>::ENDING };
        if times || const { NeedsOf::<Self, R>::LIMIT || NeedsOf::<Self, R>::ISOLATION } {
            Permit::<&Self, R>::earlier(self, token).ignore();
            return None;
        }
        Some(token)
    }

    /// The parts of the gate that the policy needs: for an admitted request, or (`None`) before
    /// there is one.
    #[doc(hidden)]
    #[inline(always)]
    fn parts<'a>(&'a self, token: Option<&'a Self::Token>) -> Parts<'a> {
        let _ = token;
        Parts::default()
    }
}

/// The end of a request whose deadline has passed.
#[doc(hidden)]
#[derive(Debug)]
pub struct Expiry {
    /// The outcome for the policies that are still to come.
    pub(crate) outcome: Outcome,
    /// The time that has passed, in nanoseconds.
    pub(crate) nanos: u64,
}

/// The decision of a policy.
#[derive(Debug)]
#[non_exhaustive]
pub enum Admission<T, W> {
    /// Admits the request. The gate keeps this token for it.
    Admit(T),
    /// Admits the request without a token. The gate does not call this policy for it again; the
    /// other policies of the gate still decide.
    Bypass,
    /// Lets the request wait until this future resolves. Dropping the future stops the wait.
    Wait(W),
    /// Rejects the request. A rejection from `try_acquire` or `acquire` is already counted: return
    /// it for the request that caused it, and do not keep it.
    Reject(Rejection),
}

/// A reference to a policy is a policy, for a [`Permit`] that borrows its handle.
impl<R: RequestKind, P: Policy<R>> Policy<R> for &P {
    type Token = P::Token;
    type Wait = P::Wait;

    const IS_OURS: bool = P::IS_OURS;

    #[inline(always)]
    fn admit(&self, request: &R::Head<'_>) -> Admission<Self::Token, Self::Wait> {
        (**self).admit(request)
    }

    pass_on!(self => (**self); parts);
}

/// A policy that admits everything.
impl<R: RequestKind> Policy<R> for () {
    type Token = ();
    type Wait = NoWait<(), Nothing>;

    const IS_OURS: bool = true;

    #[inline(always)]
    fn admit(&self, _: &R::Head<'_>) -> Admission<(), Self::Wait> {
        Admission::Admit(())
    }
}
