//! The error of a body.

use std::error::Error;
use std::task::Poll;

use http_body::Frame;

use crate::rejection::{BoxError, Rejection};

/// The error of a [`Body`](crate::Body) or a [`RequestBody`](crate::RequestBody): the error of the
/// inner body, or the rejection with which a layer ended it.
///
/// There is one error, however many layers of this crate a body passes through.
/// [`source`](Error::source) is the error of the inner body, or the [`Rejection`].
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BodyError {
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("the body ended with an error")]
    Inner(#[source] BoxError),
    #[error("the body was ended: {0}")]
    Ended(#[source] Rejection),
}

/// The result of a poll of a body.
pub(crate) type PolledFrame<D> = Poll<Option<Result<Frame<D>, BodyError>>>;

// === impl BodyError ===

impl BodyError {
    /// Wraps an error of the inner body. The error of a body of this crate passes unchanged.
    pub(crate) fn inner(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<BodyError>() {
            Ok(error) => *error,
            Err(error) => Self {
                cause: Cause::Inner(error),
            },
        }
    }

    pub(crate) fn ended(rejection: Rejection) -> Self {
        Self {
            cause: Cause::Ended(rejection),
        }
    }

    /// The rejection with which a layer ended the body; `None` if no layer did. It also finds the
    /// rejection of an inner layer behind other body types.
    pub fn rejection(&self) -> Option<&Rejection> {
        match &self.cause {
            Cause::Ended(rejection) => Some(rejection),
            Cause::Inner(error) => Rejection::find(&**error),
        }
    }

    /// The error of the inner body, unchanged; `None` if a layer ended the body.
    pub fn into_inner(self) -> Option<Box<dyn Error + Send + Sync>> {
        match self.cause {
            Cause::Ended(_) => None,
            Cause::Inner(error) => Some(error),
        }
    }
}
