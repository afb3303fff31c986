//! Rejections: the reason, the layer that rejected the request, and when to retry.
//!
//! All layers use one type, [`Rejection`]. It is the error of a plain service, an extension of an
//! HTTP response, and the source of a [`BodyError`](crate::BodyError). An outer layer reads
//! [`is_dependency_failure`](Rejection::is_dependency_failure): a shed request is not a failure of
//! the dependency, a timeout is.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::observe::{self, Reporter, Source};
use crate::outcome::Outcome;
use crate::reason::Reason;
use crate::request::Target;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The rejection of a request: the reason, the layer that rejected it, and when to retry.
///
/// A policy makes it with [`Reporter::reject`], which adds the layer and the name, or with
/// [`Rejection::new`].
#[derive(Clone, thiserror::Error)]
#[error("{reason}")]
pub struct Rejection {
    reporter: Option<Reporter>,
    reason: Reason,
    retry_after: Option<Duration>,
    flags: u8,
}

/// The caller's own deadline was shorter than that of the service.
const CALLERS_TIME: u8 = 1;
/// The service waited for the request body, or the body had failed.
const CALLERS_BODY: u8 = 1 << 1;
/// The answer closes an HTTP/1 connection, also if the reason alone does not.
#[cfg(feature = "http")]
const CLOSES: u8 = 1 << 2;
/// A handle has counted it for a permit, so that a gate does not count it again.
const COUNTED: u8 = 1 << 3;

// === impl Reporter ===

impl Reporter {
    /// Makes a rejection with the [`Source`] of this reporter. The gate counts it when it rejects a
    /// request with it, unless the handle has counted it as the rejection of a permit.
    #[inline]
    pub fn reject(&self, reason: Reason) -> Rejection {
        Rejection {
            reporter: Some(self.clone()),
            ..Rejection::new(reason)
        }
    }
}

// === impl Rejection ===

impl Rejection {
    /// Makes a rejection without a source. It is counted as `layer="custom"`.
    ///
    /// Use [`Reporter::reject`] if the policy has a name.
    pub const fn new(reason: Reason) -> Self {
        Self {
            reporter: None,
            reason,
            retry_after: None,
            flags: 0,
        }
    }

    /// Sets the time after which the client may retry.
    ///
    /// Over HTTP the header is `Retry-After`: whole seconds, rounded up, at least 1, plus a random
    /// time of up to a quarter, or of up to one second if that is more, so that the clients do not
    /// all retry at once. Over gRPC it is `grpc-retry-pushback-ms`: milliseconds, rounded up to a
    /// multiple of 100, at least 100, plus up to a quarter or 100 ms.
    #[must_use]
    pub const fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Marks that the deadline which passed was the caller's own, and shorter than that of the
    /// service.
    pub(crate) const fn with_callers_time(self, is_callers_time: bool) -> Self {
        self.with_flag(CALLERS_TIME, is_callers_time)
    }

    /// Marks that the request body had failed, or that the service waited for it, when the deadline
    /// passed.
    #[cfg(feature = "http")]
    pub(crate) const fn with_callers_body(self, is_callers_body: bool) -> Self {
        self.with_flag(CALLERS_BODY, is_callers_body)
    }

    /// Marks that another task has the request body: hyper closes an HTTP/1 connection when that
    /// task drops it.
    #[cfg(feature = "http")]
    pub(crate) const fn with_body_elsewhere(self, is_elsewhere: bool) -> Self {
        self.with_flag(CLOSES, is_elsewhere)
    }

    const fn with_flag(mut self, flag: u8, is_set: bool) -> Self {
        if is_set {
            self.flags |= flag;
        }
        self
    }

    const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Returns whether the answer closes an HTTP/1 connection.
    #[cfg(feature = "http")]
    pub(crate) const fn closes(&self) -> bool {
        self.has(CLOSES | CALLERS_BODY)
            || matches!(self.reason, Reason::BodyTooSlow | Reason::Draining)
    }

    /// Returns whether the request body had failed, or the service waited for it, when the deadline
    /// passed.
    #[cfg(feature = "http")]
    pub(crate) const fn is_callers_body(&self) -> bool {
        self.has(CALLERS_BODY)
    }

    /// The reason of the rejection.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The time after which the client may retry, as the policy set it: neither rounded nor with
    /// jitter.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The handle that rejected the request.
    pub fn reported_by(&self) -> &Source {
        self.reporter().source()
    }

    /// The kind of layer that rejected the request, for example `"concurrency_limit"`; `"custom"`
    /// if it is unknown.
    pub fn layer(&self) -> &'static str {
        self.reported_by().layer()
    }

    /// The name of the handle that rejected the request; empty if it has none.
    pub fn name(&self) -> &str {
        self.reported_by().name()
    }

    /// The outcome of the rejection for a layer further out.
    ///
    /// A panic and a timeout count as failures of the service behind the layer. A timeout does not
    /// count if the deadline was the caller's own (`grpc-timeout`), or if the request body failed
    /// or the service waited for it. Any other rejection is ignored: the dependency was not called,
    /// or the caller caused the rejection. A [`CustomReason`](crate::CustomReason) sets its own
    /// outcome.
    pub const fn outcome(&self) -> Outcome {
        match self.reason {
            Reason::Panicked => Outcome::Panicked,
            Reason::Timeout if !self.is_callers() => Outcome::Failure,
            Reason::Custom(custom) if custom.is_dependency_failure() => Outcome::Failure,
            _ => Outcome::Ignored,
        }
    }

    /// Returns whether the rejection counts as a failure of the service behind the layer.
    ///
    /// ```
    /// use seawall::{Reason, Rejection};
    ///
    /// assert!(Rejection::new(Reason::Timeout).is_dependency_failure());
    /// assert!(!Rejection::new(Reason::ConcurrencyLimit).is_dependency_failure());
    /// ```
    pub const fn is_dependency_failure(&self) -> bool {
        !matches!(self.outcome(), Outcome::Ignored)
    }

    /// Finds a rejection in an error: the error itself, or one of its [sources](Error::source).
    ///
    /// ```
    /// use seawall::{Reason, Rejection};
    ///
    /// let error = std::io::Error::other(Rejection::new(Reason::CircuitOpen));
    /// let found = Rejection::find(&error).map(Rejection::reason);
    /// assert_eq!(found, Some(Reason::CircuitOpen));
    /// ```
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Rejection> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(rejection) = error.downcast_ref() {
                return Some(rejection);
            }
            // The error inside an `std::io::Error` is not its source.
            let io = error.downcast_ref::<std::io::Error>();
            next = match io.and_then(std::io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    /// Finds a rejection inside a value that may be an error: the value itself, or an error inside
    /// a boxed one. Without specialization, no other type can be inspected.
    pub(crate) fn find_in_any<E: 'static>(error: &E) -> Option<&Rejection> {
        let any: &dyn Any = error;
        if let Some(rejection) = any.downcast_ref() {
            return Some(rejection);
        }
        Self::find(&**any.downcast_ref::<BoxError>()?)
    }

    /// Counts the rejection for the handle that made it, and writes an event.
    #[inline]
    pub(crate) fn count(&self, request: Option<Target<'_>>) {
        if !self.has(COUNTED) {
            let reporter = self.reporter();
            reporter.count_rejected(
                self.reason,
                self.is_callers(),
                self.retry_after,
                false,
                request,
            );
        }
    }

    /// Counts the rejection of a permit. A gate to which a policy returns it does not count it
    /// again.
    #[inline(always)]
    pub(crate) fn counted(mut self) -> Self {
        self.count(None);
        self.flags |= COUNTED;
        self
    }

    /// Counts a request that a layer in dry run would have rejected.
    pub(crate) fn count_dry_run(&self, request: Option<Target<'_>>) {
        let reporter = self.reporter();
        reporter.count_rejected(
            self.reason,
            self.is_callers(),
            self.retry_after,
            true,
            request,
        );
    }

    /// Counts a panic. Only the event has the message; the client does not get it.
    pub(crate) fn count_panic(&self, message: Option<&str>, request: Option<Target<'_>>) {
        self.reporter().count_panic(message, request);
    }

    /// Returns whether the caller caused a timeout.
    const fn is_callers(&self) -> bool {
        self.has(CALLERS_TIME | CALLERS_BODY)
    }

    #[inline]
    fn reporter(&self) -> &Reporter {
        match &self.reporter {
            Some(reporter) => reporter,
            None => observe::unnamed(),
        }
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("reason", &self.reason)
            .field("retry_after", &self.retry_after)
            .field("layer", &self.layer())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Rejection);

    #[test]
    fn a_rejection_keeps_what_it_is_given() {
        for reason in Reason::ALL {
            let bare = Rejection::new(reason);
            assert_eq!((bare.reason(), bare.retry_after()), (reason, None));
            for after in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
                let rejection = bare.clone().with_retry_after(after);
                assert_eq!(rejection.reason(), reason);
                assert_eq!(rejection.retry_after(), Some(after));
            }
        }
        let timeout = Rejection::new(Reason::Timeout);
        assert!(timeout.is_dependency_failure());
        assert!(!timeout.with_callers_time(true).is_dependency_failure());
    }

    #[test]
    fn a_rejection_is_found_bare_boxed_and_behind_a_source() {
        let reason = |r: Option<&Rejection>| r.map(Rejection::reason);
        let limit = || Rejection::new(Reason::ConcurrencyLimit);
        let expected = Some(Reason::ConcurrencyLimit);
        assert_eq!(reason(Rejection::find_in_any(&limit())), expected);
        let boxed = BoxError::from(limit());
        assert_eq!(reason(Rejection::find_in_any(&boxed)), expected);
        let behind = BoxError::from(Outer(limit()));
        assert_eq!(reason(Rejection::find_in_any(&behind)), expected);
        let io = BoxError::from(std::io::Error::other(limit()));
        assert_eq!(reason(Rejection::find_in_any(&io)), expected);
        let nested = BoxError::from(std::io::Error::other(io));
        assert_eq!(reason(Rejection::find_in_any(&nested)), expected);
        let source = BoxError::from(std::io::Error::other(Outer(limit())));
        assert_eq!(reason(Rejection::find_in_any(&source)), expected);
        let other = BoxError::from("else");
        assert_eq!(reason(Rejection::find_in_any(&other)), None);
        assert_eq!(reason(Rejection::find_in_any(&())), None);
    }
}
