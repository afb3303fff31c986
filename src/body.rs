//! The one body type: what the inner service sent, or an answer of ours, with something that watches how it ends.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::rejection::{BoxError, Rejection};

pin_project! {
    /// A body that passed through a layer: the frames, `size_hint`, `is_end_stream` and trailers of `B`, or a short answer.
    ///
    /// `B::Data` must be made of [`Bytes`], which the answers are; it is `Bytes` in hyper, axum and tonic.
    pub struct Body<B, W = ()> {
        #[pin]
        source: Source<B>,
        #[pin]
        watch: W,
    }
}

pin_project! {
    /// Where the frames come from.
    #[project = SourceProj]
    pub enum Source<B> {
        #[doc(hidden)]
        Passing { #[pin] body: B },
        #[doc(hidden)]
        Answer { bytes: Bytes },
        #[doc(hidden)]
        Over,
    }
}

/// The error of a [`Body`]: the inner body's own, or the end that a layer put to it.
///
/// However many of our layers a body passed through one after the other, this is one error and not a chain of them;
/// [`source`](Error::source) is the inner body's error, or the [`Rejection`].
pub struct BodyError {
    cause: Cause,
}

enum Cause {
    Inner(BoxError),
    Cut(Rejection),
}

/// Watches a body on its way. The default passes everything on.
pub trait Watch<B> {
    /// Polls the body it watches, and [ends](Source::end) it where it knows that no frame comes after this one. After an end or an
    /// error of its own it is ended in any case.
    #[inline(always)]
    fn poll_frame(
        self: Pin<&mut Self>,
        source: Pin<&mut Source<B>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BodyError>>>
    where
        B: http_body::Body<Error: Into<BoxError>>,
    {
        source.poll_frame(cx)
    }

    /// Whether the rest of an answer is held back until [`poll_before_answer`](Self::poll_before_answer) is ready.
    fn holds_back(&self) -> bool {
        false
    }

    /// Holds back the content of an answer; its head is out.
    #[inline]
    fn poll_before_answer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
}

// === impl Body ===

impl<B, W> Body<B, W> {
    #[inline]
    pub(crate) fn passing(body: B, watch: W) -> Self {
        Self {
            source: Source::Passing { body },
            watch,
        }
    }

    pub(crate) fn answer(bytes: Bytes, watch: W) -> Self {
        Self {
            source: Source::Answer { bytes },
            watch,
        }
    }
}

impl<B, W> http_body::Body for Body<B, W>
where
    B: http_body::Body,
    B::Data: From<Bytes>,
    B::Error: Into<BoxError>,
    W: Watch<B>,
{
    type Data = B::Data;
    type Error = BodyError;

    #[inline(always)]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BodyError>>> {
        let mut this = self.project();
        match this.source.as_mut().project() {
            SourceProj::Passing { .. } => this.watch.poll_frame(this.source, cx),
            SourceProj::Answer { bytes } => {
                ready!(this.watch.poll_before_answer(cx));
                let bytes = std::mem::take(bytes);
                this.source.set(Source::Over);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes.into()))))
            }
            SourceProj::Over => Poll::Ready(None),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Answer { bytes } => bytes.is_empty() && !self.watch.holds_back(),
            source => source.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Passing { body } => body.size_hint(),
            // Hyper asks for no end of what has a length of 0, and that end is held back.
            Source::Answer { bytes } if bytes.is_empty() && self.watch.holds_back() => {
                SizeHint::default()
            }
            Source::Answer { bytes } => SizeHint::with_exact(bytes.len() as u64),
            Source::Over => SizeHint::with_exact(0),
        }
    }
}

impl<B, W> fmt::Debug for Body<B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl<B> Watch<B> for () {}

// === impl Source ===

impl<B> Source<B> {
    /// The next frame of the inner body, which is not asked again after its end or an error.
    #[inline(always)]
    pub(crate) fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BodyError>>>
    where
        B: http_body::Body<Error: Into<BoxError>>,
    {
        let SourceProj::Passing { body } = self.as_mut().project() else {
            return Poll::Ready(None);
        };
        match body.poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => {
                self.end();
                Poll::Ready(Some(Err(BodyError::inner(error))))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
        }
    }

    #[inline]
    pub(crate) fn is_end_stream(&self) -> bool
    where
        B: http_body::Body,
    {
        match self {
            Source::Passing { body } => body.is_end_stream(),
            Source::Answer { .. } => false,
            Source::Over => true,
        }
    }

    /// Nothing comes any more; what the body still holds is free at once.
    #[inline]
    pub(crate) fn end(mut self: Pin<&mut Self>) {
        self.set(Source::Over);
    }

    /// Takes the inner body out.
    pub(crate) fn take(&mut self) -> Option<B> {
        match std::mem::replace(self, Source::Over) {
            Source::Passing { body } => Some(body),
            Source::Answer { .. } | Source::Over => None,
        }
    }
}

impl<B> fmt::Debug for Source<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Passing { .. } => "Passing",
            Source::Answer { .. } => "Answer",
            Source::Over => "Over",
        })
    }
}

// === impl BodyError ===

impl BodyError {
    /// An error of the body within; if that is a layer's body, its error passes as it is.
    pub(crate) fn inner(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<BodyError>() {
            Ok(error) => *error,
            Err(error) => Self {
                cause: Cause::Inner(error),
            },
        }
    }

    pub(crate) fn cut(rejection: Rejection) -> Self {
        Self {
            cause: Cause::Cut(rejection),
        }
    }

    /// Why a layer ended the body, this one or one behind other bodies; `None` if no layer did.
    pub fn rejection(&self) -> Option<&Rejection> {
        match &self.cause {
            Cause::Cut(rejection) => Some(rejection),
            Cause::Inner(error) => Rejection::find_behind(&**error),
        }
    }

    /// The inner body's own error, to be had back as it was.
    pub fn into_inner(self) -> Option<Box<dyn Error + Send + Sync>> {
        match self.cause {
            Cause::Cut(_) => None,
            Cause::Inner(error) => Some(error),
        }
    }
}

impl fmt::Debug for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("BodyError");
        match &self.cause {
            Cause::Inner(error) => debug.field(error),
            Cause::Cut(rejection) => debug.field(rejection),
        };
        debug.finish()
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Inner(_) => f.write_str("the body ended with an error"),
            Cause::Cut(rejection) => write!(f, "the body was ended: {rejection}"),
        }
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match &self.cause {
            Cause::Inner(error) => &**error,
            Cause::Cut(rejection) => rejection,
        })
    }
}
