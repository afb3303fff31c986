//! What judges an HTTP response: a closure on its head, or a classifier of tower-http.

use std::sync::Arc;

use http::HeaderMap;

use super::head::{ResponseHead, ResponseHeadMut};
use crate::outcome::Outcome;

/// Judges a response head.
pub(crate) type Classifier = Arc<dyn Fn(&mut ResponseHeadMut<'_>) -> Verdict + Send + Sync>;

/// Judges a response at the end of its body, by its trailers if it has any. Boxed twice, so that it
/// is one word in a body that nearly never has it.
pub(crate) type AtEnd = Box<Box<dyn FnOnce(Option<&HeaderMap>) -> Outcome + Send>>;

/// What a head says.
pub(crate) enum Verdict {
    Now(Outcome),
    #[cfg_attr(
        not(feature = "tower-http"),
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

/// A classifier of `tower_http::classify`.
#[cfg(feature = "tower-http")]
pub(crate) fn by_classifier<C>(classifier: C) -> Classifier
where
    C: tower_http::classify::ClassifyResponse + Clone + Send + Sync + 'static,
    C::ClassifyEos: Send + 'static,
{
    use tower_http::classify::{ClassifiedResponse, ClassifyEos};

    fn outcome<E>(result: Result<(), E>) -> Outcome {
        match result {
            Ok(()) => Outcome::Success,
            Err(_) => Outcome::Failure,
        }
    }

    Arc::new(move |head| {
        let classifier = classifier.clone();
        // It wants a response: the head is lent to one without a body.
        match head.with_response(|response| classifier.classify_response(response)) {
            ClassifiedResponse::Ready(result) => Verdict::Now(outcome(result)),
            ClassifiedResponse::RequiresEos(eos) => {
                Verdict::AtEnd(Box::new(Box::new(move |trailers| {
                    outcome(eos.classify_eos(trailers))
                })))
            }
        }
    })
}
