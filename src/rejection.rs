//! Why a request was turned away, and when to come back.
//!
//! [`Rejection`] is the one type for all layers: the error of a plain service, the extension of an HTTP answer, the cause
//! inside a [`BodyError`](crate::BodyError). An outer layer that finds one asks
//! [`is_dependency_failure`](Rejection::is_dependency_failure): a shed request says nothing about the dependency, a request
//! that timed out does.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::observe::Meter;
use crate::policy::Outcome;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Why a request was turned away.
///
/// Each reason has one answer over HTTP and one over gRPC; the table stands in the [crate docs](crate#answers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The runtime, or the resource that a policy watches, has more work than it can do.
    Overloaded,
    /// A concurrency limit has no place left.
    Full,
    /// The request waited for a place until its time was up.
    QueueTimeout,
    /// A circuit breaker is open.
    CircuitOpen,
    /// The service is shutting down.
    Draining,
    /// The deadline passed while the handler worked.
    Timeout,
    /// The request body came too slowly.
    BodyTooSlow,
    /// The request body is larger than allowed.
    BodyTooLarge,
    /// The request's headers are larger or more than allowed.
    HeadersTooLarge,
    /// The request's URI is longer than allowed.
    UriTooLong,
    /// The handler panicked.
    Panicked,
}

/// A request was turned away: the reason, when to come back, and which layer said so.
///
/// Made by a policy through [`Meter::reject`], which puts its own layer and name on it, or by [`Rejection::new`].
#[derive(Clone)]
pub struct Rejection {
    by: Option<Meter>,
    why: Why,
}

/// `| nanoseconds to stay away, and one: 58 | the caller's own time: 1 | reason, and one: 5 |`: in one word, as a rejection
/// passes through every layer of a stack. Whatever is above nine years is nine years.
#[derive(Clone, Copy)]
struct Why(NonZeroU64);

// === impl Reason ===

impl Reason {
    pub(crate) const ALL: [Reason; 11] = [
        Reason::Overloaded,
        Reason::Full,
        Reason::QueueTimeout,
        Reason::CircuitOpen,
        Reason::Draining,
        Reason::Timeout,
        Reason::BodyTooSlow,
        Reason::BodyTooLarge,
        Reason::HeadersTooLarge,
        Reason::UriTooLong,
        Reason::Panicked,
    ];

    /// How many reasons there are; [`Reason::index`] is below it.
    #[cfg(feature = "metrics")]
    pub(crate) const COUNT: usize = Reason::ALL.len();

    /// The reason as a label: lower case, stable, fit for metrics and logs.
    ///
    /// ```
    /// assert_eq!(seawall::Reason::QueueTimeout.as_str(), "queue_timeout");
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Overloaded => "overloaded",
            Reason::Full => "full",
            Reason::QueueTimeout => "queue_timeout",
            Reason::CircuitOpen => "circuit_open",
            Reason::Draining => "draining",
            Reason::Timeout => "timeout",
            Reason::BodyTooSlow => "body_too_slow",
            Reason::BodyTooLarge => "body_too_large",
            Reason::HeadersTooLarge => "headers_too_large",
            Reason::UriTooLong => "uri_too_long",
            Reason::Panicked => "panicked",
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Overloaded => "the service is overloaded",
            Reason::Full => "the concurrency limit is reached",
            Reason::QueueTimeout => "no place became free in time",
            Reason::CircuitOpen => "the circuit breaker is open",
            Reason::Draining => "the service is shutting down",
            Reason::Timeout => "the deadline passed",
            Reason::BodyTooSlow => "the request body came too slowly",
            Reason::BodyTooLarge => "the request body is too large",
            Reason::HeadersTooLarge => "the request headers are too large",
            Reason::UriTooLong => "the request URI is too long",
            Reason::Panicked => "the handler panicked",
        })
    }
}

// === impl Why ===

impl Why {
    const REASON: u64 = 0b1_1111;
    const OF_CALLER: u64 = 1 << 5;
    const AFTER_SHIFT: u32 = 6;
    /// Nanoseconds.
    const MOST: u64 = (u64::MAX >> Self::AFTER_SHIFT) - 1;

    const fn of(word: u64) -> Self {
        match NonZeroU64::new(word) {
            Some(word) => Self(word),
            None => unreachable!(),
        }
    }

    const fn new(reason: Reason) -> Self {
        Self::of(reason as u64 + 1)
    }

    const fn with_retry_after(self, after: Duration) -> Self {
        let nanos = after.as_secs().saturating_mul(1_000_000_000);
        let nanos = nanos.saturating_add(after.subsec_nanos() as u64);
        let nanos = if nanos < Self::MOST {
            nanos
        } else {
            Self::MOST
        };
        let rest = self.0.get() & (Self::REASON | Self::OF_CALLER);
        Self::of((nanos + 1) << Self::AFTER_SHIFT | rest)
    }

    const fn with_of_caller(self, of_caller: bool) -> Self {
        let rest = self.0.get() & !Self::OF_CALLER;
        Self::of(rest | if of_caller { Self::OF_CALLER } else { 0 })
    }

    const fn reason(self) -> Reason {
        Reason::ALL[(self.0.get() & Self::REASON) as usize - 1]
    }

    const fn of_caller(self) -> bool {
        self.0.get() & Self::OF_CALLER != 0
    }

    const fn retry_after(self) -> Option<Duration> {
        match self.0.get() >> Self::AFTER_SHIFT {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos - 1)),
        }
    }
}

// === impl Rejection ===

impl Rejection {
    /// A rejection that no layer has put its name on: it is counted as `layer="custom"`.
    ///
    /// Use [`Meter::reject`] where the policy has a name of its own.
    pub const fn new(reason: Reason) -> Self {
        Self {
            by: None,
            why: Why::new(reason),
        }
    }

    #[inline]
    pub(crate) fn by(reason: Reason, meter: Meter) -> Self {
        Self {
            by: Some(meter),
            why: Why::new(reason),
        }
    }

    /// Says when it is worth coming back.
    ///
    /// Over HTTP this becomes `Retry-After`, rounded up to whole seconds, at least 1, plus up to a quarter at random so
    /// that the clients do not all return at once; over gRPC `grpc-retry-pushback-ms`.
    #[must_use]
    pub const fn with_retry_after(mut self, after: Duration) -> Self {
        self.why = self.why.with_retry_after(after);
        self
    }

    /// The time that was up was the caller's own and shorter than ours: that does not speak against the service.
    pub(crate) const fn of_caller(mut self, of_caller: bool) -> Self {
        self.why = self.why.with_of_caller(of_caller);
        self
    }

    /// Why the request was turned away.
    pub const fn reason(&self) -> Reason {
        self.why.reason()
    }

    /// How long the caller is asked to stay away, exactly as the layer gave it: neither rounded nor jittered, but nine years
    /// at the most.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.why.retry_after()
    }

    /// The kind of layer that said no, for example `"concurrency_limit"`; `"custom"` where none is known.
    pub fn layer(&self) -> &'static str {
        self.by.as_ref().map_or(Meter::CUSTOM, Meter::layer)
    }

    /// The name its user gave to that layer's handle; empty where none was given.
    pub fn name(&self) -> &str {
        self.by.as_ref().map_or("", Meter::name)
    }

    /// Whether this speaks against what stands behind the layer: a panic does, and a timeout, unless the time was the
    /// caller's own (`grpc-timeout`); overloaded, full, open, draining and too large do not, since the dependency was never
    /// asked or not at fault.
    ///
    /// ```
    /// use seawall::{Reason, Rejection};
    ///
    /// assert!(Rejection::new(Reason::Timeout).is_dependency_failure());
    /// assert!(!Rejection::new(Reason::Full).is_dependency_failure());
    /// ```
    pub const fn is_dependency_failure(&self) -> bool {
        matches!(self.reason(), Reason::Timeout | Reason::Panicked) && !self.why.of_caller()
    }

    /// What an outer layer makes of a request that an inner one turned away.
    pub(crate) const fn outcome(&self) -> Outcome {
        match self.reason() {
            Reason::Timeout if self.why.of_caller() => Outcome::Ignored,
            Reason::Timeout => Outcome::Failure,
            Reason::Panicked => Outcome::Panicked,
            _ => Outcome::Ignored,
        }
    }

    pub(crate) fn meter(&self) -> Option<&Meter> {
        self.by.as_ref()
    }

    /// The rejection inside an error: the error itself, or what is behind its [`source`](Error::source) if it is boxed.
    ///
    /// Without specialisation an arbitrary `E` cannot be asked for its source, so the two types that stacks use are looked
    /// for; for any other, `classify` tells the gate what an error means.
    pub(crate) fn find<E: 'static>(error: &E) -> Option<&Rejection> {
        let any: &dyn Any = error;
        if let Some(rejection) = any.downcast_ref() {
            return Some(rejection);
        }
        Self::find_behind(&**any.downcast_ref::<BoxError>()?)
    }

    /// The rejection that an error is, or has as its source, however far behind.
    pub(crate) fn find_behind<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Rejection> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(rejection) = error.downcast_ref() {
                return Some(rejection);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("reason", &self.reason())
            .field("retry_after", &self.retry_after())
            .field("layer", &self.layer())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason().fmt(f)
    }
}

impl Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(Rejection);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn one_word_says_why_and_when_to_come_back() {
        assert_eq!(size_of::<Option<Rejection>>(), 16);
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            let bare = Rejection::new(reason).of_caller(true);
            assert_eq!((bare.reason(), bare.retry_after()), (reason, None));
            for after in [
                Duration::ZERO,
                Duration::from_nanos(1),
                Duration::from_secs(86_400),
            ] {
                let told = bare.clone().with_retry_after(after);
                assert_eq!((told.reason(), told.retry_after()), (reason, Some(after)));
                assert!(told.why.of_caller());
                assert!(!told.of_caller(false).why.of_caller());
            }
        }
        let never = Rejection::new(Reason::Full).with_retry_after(Duration::MAX);
        assert!(never.retry_after().unwrap() > Duration::from_secs(9 * 365 * 86_400));
        assert_eq!(never.reason(), Reason::Full);
    }

    #[test]
    fn a_rejection_is_found_bare_boxed_and_behind_a_source() {
        let reason = |r: Option<&Rejection>| r.map(Rejection::reason);
        let full = || Rejection::new(Reason::Full);
        assert_eq!(reason(Rejection::find(&full())), Some(Reason::Full));
        assert_eq!(
            reason(Rejection::find(&BoxError::from(full()))),
            Some(Reason::Full)
        );
        assert_eq!(
            reason(Rejection::find(&BoxError::from(Outer(full())))),
            Some(Reason::Full)
        );
        assert_eq!(reason(Rejection::find(&BoxError::from("else"))), None);
        assert_eq!(reason(Rejection::find(&())), None);
    }
}
