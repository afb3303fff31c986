//! What judges an HTTP response: a closure on its head, or a classifier of tower-http.

use std::sync::Arc;

use http::HeaderMap;

use super::head::{ResponseHead, ResponseHeadMut};
use crate::outcome::Outcome;

/// Judges a response head.
pub(crate) type Classifier = Arc<dyn Fn(&mut ResponseHeadMut<'_>) -> Verdict + Send + Sync>;

/// Judges a response at the end of its body, by its trailers if it has any. Boxed twice, so that it
/// is one word in a body that nearly never has it.
pub(crate) type AtEnd = Box<Box<dyn FnOnce(Option<&HeaderMap>) -> Outcome + Send + Sync>>;

/// What a head says.
pub(crate) enum Verdict {
    /// What a layer further in made of it.
    Rejected(Outcome),
    Now(Outcome),
    #[cfg_attr(
        not(any(feature = "tower-http", feature = "tower-http-07")),
        expect(dead_code, reason = "the feature is off")
    )]
    AtEnd(AtEnd),
    /// What the protocol makes of it.
    Default,
}

pub(crate) fn by_head<O: Into<Option<Outcome>>>(
    classify: impl Fn(&ResponseHead<'_>) -> O + Send + Sync + 'static,
) -> Classifier {
    Arc::new(move |head| {
        let head = ResponseHead {
            status: head.status(),
            headers: head.headers(),
            extensions: head.extensions(),
        };
        classify(&head)
            .into()
            .map_or(Verdict::Default, Verdict::Now)
    })
}
