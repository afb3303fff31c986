//! The kinds of requests that policies read.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::panic_report::RequestSummary;

/// The kind of request that a policy reads: [`HttpRequest`](crate::HttpRequest) or
/// [`PlainRequest`].
///
/// It is a marker type and not the request: a policy gets a reference to `R::Head<'_>`. Sealed.
pub trait RequestKind: sealed::Sealed {
    /// A [`RequestHead`](crate::RequestHead) over HTTP, the request itself over `Plain`.
    type Head<'a>;

    /// The part of a request that the gate keeps for the reports of panics and slow polls, since
    /// the inner service takes the request; `None` over `Plain`.
    #[doc(hidden)]
    fn summary(head: &Self::Head<'_>) -> Option<RequestSummary> {
        let _ = head;
        None
    }

    /// The method and path, for events; `None` over `Plain`.
    #[doc(hidden)]
    fn target<'a>(head: &'a Self::Head<'_>) -> Option<Target<'a>> {
        let _ = head;
        None
    }

    /// The [`Deadline`] that an outer layer exposes.
    #[doc(hidden)]
    fn deadline(head: &Self::Head<'_>) -> Option<Deadline> {
        let _ = head;
        None
    }

    /// The timeout that the caller asks for.
    #[doc(hidden)]
    #[inline]
    fn callers_time(head: &Self::Head<'_>) -> CallersTime {
        let _ = head;
        CallersTime::None
    }
}

/// The kind of a request over [`Plain`](crate::Plain): a policy reads the request itself.
pub struct PlainRequest<Req>(PhantomData<fn(&Req)>);

/// The properties of a request in events. Clients choose them.
#[doc(hidden)]
#[expect(unnameable_types, reason = "what is sealed is not called")]
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
}

/// The timeout that a caller asks for.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallersTime {
    /// The caller asks for none.
    None,
    /// The caller asks for this timeout.
    For(Duration),
    /// The value is not readable.
    Malformed,
}

pub(crate) mod sealed {
    #[expect(unnameable_types, reason = "what is sealed has no other implementor")]
    pub trait Sealed {}
}

// === impl RequestSummary ===

impl RequestSummary {
    /// The properties of the request in events.
    #[cfg(feature = "http")]
    pub(crate) fn target(&self) -> Target<'_> {
        Target {
            method: self.method.as_str(),
            path: self.uri.path(),
        }
    }

    #[cfg(not(feature = "http"))]
    pub(crate) fn target(&self) -> Target<'_> {
        match *self {}
    }
}

// === impl PlainRequest ===

impl<Req> sealed::Sealed for PlainRequest<Req> {}

impl<Req> RequestKind for PlainRequest<Req> {
    type Head<'a> = Req;
}

impl<Req> fmt::Debug for PlainRequest<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainRequest")
    }
}
