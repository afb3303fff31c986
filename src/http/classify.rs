//! Classification of HTTP responses: a closure on the head, or a classifier of tower-http.

use std::sync::Arc;

use http::HeaderMap;

use super::head::{ResponseHead, ResponseHeadMut};
use crate::outcome::Outcome;

/// Classifies a response by its head.
pub(crate) type Classifier = Arc<dyn Fn(&mut ResponseHeadMut<'_>) -> Verdict + Send + Sync>;

/// Classifies a response at the end of its body. It is boxed, so that it is one word in a body,
/// which rarely has one.
pub(crate) struct AtEnd {
    pub(crate) classify: ByTrailers,
    /// The bytes that are left of the length that an HTTP/1 response declares; `u64::MAX` if it
    /// declares none.
    pub(crate) left: u64,
}

/// The outcome, from the trailers if the body has any.
pub(crate) type ByTrailers = Box<dyn FnOnce(Option<&HeaderMap>) -> Outcome + Send + Sync>;

/// The classification of a head.
pub(crate) enum Verdict {
    /// The outcome of the rejection of an inner layer.
    Rejected(Outcome),
    Now(Outcome),
    #[cfg_attr(
        not(any(feature = "tower-http-06", feature = "tower-http-07")),
        expect(dead_code, reason = "the feature is off")
    )]
    AtEnd(ByTrailers),
    /// The default of the protocol.
    Default,
}

pub(crate) fn by_head<O: Into<Option<Outcome>>>(
    classify: impl Fn(&ResponseHead<'_>) -> O + Send + Sync + 'static,
) -> Classifier {
    Arc::new(move |head| {
        classify(&head.get())
            .into()
            .map_or(Verdict::Default, Verdict::Now)
    })
}
