//! What a policy sees of a request.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::deadline::Deadline;

/// What a policy sees of a request: [`HttpRequest`](crate::HttpRequest) or [`PlainRequest`].
///
/// It is a kind, not the request: `R::Head<'_>` is what a policy gets by reference. Sealed.
pub trait RequestKind: sealed::Sealed {
    /// A [`RequestHead`](crate::RequestHead) over HTTP, the request itself over `Plain`.
    type Head<'a>;

    /// What is kept of a request for a hook that runs when the request is gone.
    #[doc(hidden)]
    type Summary;

    #[doc(hidden)]
    fn summary(head: &Self::Head<'_>) -> Self::Summary;

    /// The summary of an HTTP request; `None` over `Plain`.
    #[doc(hidden)]
    #[cfg(feature = "http")]
    fn http(summary: &Self::Summary) -> Option<&crate::panic_report::RequestSummary> {
        let _ = summary;
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

    /// The time that the caller gives the request.
    #[doc(hidden)]
    #[inline]
    fn callers_time(head: &Self::Head<'_>) -> CallersTime {
        let _ = head;
        CallersTime::None
    }
}

/// The request itself, which over [`Plain`](crate::Plain) may be anything.
pub struct PlainRequest<Req>(PhantomData<fn(&Req)>);

/// What events say of a request. Clients choose it.
#[doc(hidden)]
#[expect(unnameable_types, reason = "what is sealed is not called")]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "tracing"),
    expect(dead_code, reason = "the feature is off")
)]
pub struct Target<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
}

/// The time that a caller gives a request.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallersTime {
    /// The caller gives none.
    None,
    /// This long.
    For(Duration),
    /// A value that cannot be read.
    Malformed,
}

pub(crate) mod sealed {
    #[expect(unnameable_types, reason = "what is sealed has no other implementor")]
    pub trait Sealed {}
}

// === impl PlainRequest ===

impl<Req> sealed::Sealed for PlainRequest<Req> {}

impl<Req> RequestKind for PlainRequest<Req> {
    type Head<'a> = Req;
    type Summary = ();

    fn summary(_: &Req) {}
}

impl<Req> fmt::Debug for PlainRequest<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainRequest")
    }
}
