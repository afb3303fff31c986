//! The report of a panic, for a hook.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A closure that is called for every panic.
pub(crate) type Hook = Arc<dyn Fn(&PanicReport<'_>) + Send + Sync>;

/// The part of a request that the gate keeps for the reports of panics and slow polls.
#[cfg(feature = "http")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestSummary {
    /// The request's method.
    pub method: ::http::Method,
    /// The request's URI.
    pub uri: ::http::Uri,
    /// The request's `x-request-id`, if it had one.
    pub request_id: Option<::http::HeaderValue>,
}

/// Without the feature `http`, no request is kept.
#[cfg(not(feature = "http"))]
#[doc(hidden)]
#[expect(unnameable_types, reason = "it has no values")]
#[derive(Clone, Debug)]
pub enum RequestSummary {}

/// The report of a caught panic.
pub struct PanicReport<'a> {
    payload: &'a (dyn Any + Send),
    request: Option<&'a RequestSummary>,
}

// === impl PanicReport ===

impl<'a> PanicReport<'a> {
    pub(crate) fn new(payload: &'a (dyn Any + Send), request: Option<&'a RequestSummary>) -> Self {
        Self { payload, request }
    }

    /// The payload of the panic.
    pub fn payload(&self) -> &(dyn Any + Send) {
        self.payload
    }

    /// The message, if the payload is text, as it is for `panic!`.
    pub fn message(&self) -> Option<&str> {
        message(self.payload)
    }

    /// The request during which the panic occurred; `None` over [`Plain`](crate::Plain), and for a
    /// panic in `respond_with`.
    #[cfg(feature = "http")]
    pub fn request(&self) -> Option<&RequestSummary> {
        self.request
    }
}

impl fmt::Debug for PanicReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PanicReport")
            .field("message", &self.message())
            .field("request", &self.request)
            .finish()
    }
}

/// `panic!` makes a `&str` or a `String`.
pub(crate) fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}
