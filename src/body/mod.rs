//! The response body of all layers: the frames of the inner service, or an answer of a layer, with
//! the guard of the request.

mod bounds;
mod cell;
mod error;
mod over;
mod reaper;
mod stamp;
mod watched;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

pub(crate) use self::bounds::AtHead;
use self::bounds::Bounds;
use self::cell::Remote;
pub use self::error::BodyError;
use self::error::PolledFrame;
pub use self::watched::Carried;
use self::watched::{LARGE, Watched};
use crate::http::head::HttpRequest;
use crate::outcome::Outcome;
use crate::policy::{Choice, Needs, NeedsOf, No, Policy, Yes};
use crate::rejection::{BoxError, Rejection};
use crate::upload;

pin_project! {
    /// The response body of a layer: the frames, `size_hint`, `is_end_stream` and trailers of `B`,
    /// or a short answer. By default it is empty and at its end. Its error is a [`BodyError`].
    /// Dropping it releases the permits of the request.
    ///
    /// `B::Data` must implement `From<Bytes>`, since the answers are [`Bytes`]; in hyper, axum and
    /// tonic it is `Bytes`. The body is `Unpin` if `B` is.
    pub struct Body<B, P: Policy<HttpRequest> = ()> {
        #[pin]
        source: Source<B, P>,
    }
}

/// `Yes` if a policy can end response bodies, else `No`.
pub(crate) type Ends<P> = <NeedsOf<P, HttpRequest> as Needs>::Ending;

/// Whether response bodies can be ended from outside, for which they must be `Send`.
pub trait Endings<B, P: Policy<HttpRequest>>: Choice {
    /// Moves the inner body into a cell, where it can be ended from outside, if it has bounds now.
    #[doc(hidden)]
    fn into_cell(watched: Watched<B, P>) -> Body<B, P>;

    /// Moves a body that has more frames into a cell, and returns whether it is in one.
    #[doc(hidden)]
    fn move_to_cell(body: Pin<&mut Body<B, P>>) -> bool;
}

pin_project! {
    #[project = SourceProj]
    enum Source<B, P: Policy<HttpRequest>> {
        Passing { #[pin] watched: Watched<B, P> },
        // `None` if no policy can end the body, so that other bodies have no room for it.
        Remote { remote: <Ends<P> as Choice>::Maybe<Remote<B>> },
        Answer { bytes: Bytes },
    }
}

// === impl Body ===

impl<B, P: Policy<HttpRequest>> Body<B, P> {
    /// The body of the inner service. A body that may be large gets a cell at once, if it has
    /// bounds. Any other body with bounds gets a cell after a poll that does not return its last
    /// frame.
    #[inline(always)]
    pub(crate) fn new(body: B, carried: Carried<P>) -> Self
    where
        B: http_body::Body,
        Ends<P>: Endings<B, P>,
    {
        let may_be_large = || body.size_hint().exact().is_none_or(|size| size > LARGE);
        if carried.may_be_ended() && may_be_large() {
            return Ends::<P>::into_cell(Watched::new(body, carried));
        }
        Self {
            source: Source::Passing {
                watched: Watched::new(body, carried),
            },
        }
    }

    pub(crate) fn answer(bytes: Bytes) -> Self {
        Self {
            source: Source::Answer { bytes },
        }
    }
}

/// An empty body that is at its end.
impl<B, P: Policy<HttpRequest>> Default for Body<B, P> {
    fn default() -> Self {
        Self::answer(Bytes::new())
    }
}

impl<B, P: Policy<HttpRequest>> From<Bytes> for Body<B, P> {
    fn from(bytes: Bytes) -> Self {
        Self::answer(bytes)
    }
}

impl<B, P: Policy<HttpRequest>> From<String> for Body<B, P> {
    fn from(text: String) -> Self {
        Self::answer(text.into())
    }
}

impl<B, P: Policy<HttpRequest>> From<&'static str> for Body<B, P> {
    fn from(text: &'static str) -> Self {
        Self::answer(Bytes::from_static(text.as_bytes()))
    }
}

impl<B, P> http_body::Body for Body<B, P>
where
    B: http_body::Body,
    B::Data: From<Bytes>,
    B::Error: Into<BoxError>,
    P: Policy<HttpRequest>,
    Ends<P>: Endings<B, P>,
{
    type Data = B::Data;
    type Error = BodyError;

    #[inline(always)]
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame<B::Data> {
        let mut this = self.as_mut().project();
        if let SourceProj::Passing { mut watched } = this.source.as_mut().project() {
            if const { !Ends::<P>::IS } {
                return watched.poll_frame(cx, true);
            }
            let polled = watched.as_mut().poll_frame(cx, true);
            // The connection may never ask for the next frame.
            let is_moved = watched.goes_on(&polled) && Ends::<P>::move_to_cell(self.as_mut());
            if !(is_moved && polled.is_pending()) {
                return polled;
            }
            this = self.project();
        }
        match this.source.project() {
            SourceProj::Remote { remote } => match Ends::<P>::get(remote) {
                Some(remote) => remote.cell.poll_frame(&remote.waker, cx),
                None => Poll::Ready(None),
            },
            SourceProj::Answer { bytes } => Poll::Ready(data(std::mem::take(bytes))),
            SourceProj::Passing { .. } => Poll::Pending,
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Passing { watched } => watched.is_end_stream(),
            Source::Remote { remote } => {
                Ends::<P>::get_ref(remote).is_none_or(|remote| remote.cell.is_end_stream())
            }
            Source::Answer { bytes } => bytes.is_empty(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Passing { watched } => watched.size_hint(),
            Source::Remote { remote } => match Ends::<P>::get_ref(remote) {
                Some(remote) => remote.cell.size_hint(),
                None => SizeHint::with_exact(0),
            },
            Source::Answer { bytes } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

fn data<D: From<Bytes>>(bytes: Bytes) -> Option<Result<Frame<D>, BodyError>> {
    (!bytes.is_empty()).then(|| Ok(Frame::data(bytes.into())))
}

/// The end of a body that a layer ends: trailers with a status over gRPC, else an error.
pub(crate) fn last_frame<D>(rejection: Rejection, is_grpc: bool) -> Result<Frame<D>, BodyError> {
    if is_grpc {
        // Trailers have no extensions in which an outer gate could find the rejection.
        if rejection.outcome() == Outcome::Ignored {
            upload::blame_caller_of_stream();
        }
        Ok(Frame::trailers(rejection.to_trailers()))
    } else {
        Err(BodyError::ended(rejection))
    }
}

// === impl Endings ===

impl<B, P: Policy<HttpRequest>> Endings<B, P> for No {
    fn into_cell(watched: Watched<B, P>) -> Body<B, P> {
        Body {
            source: Source::Passing { watched },
        }
    }

    fn move_to_cell(_: Pin<&mut Body<B, P>>) -> bool {
        false
    }
}

impl<B, P> Endings<B, P> for Yes
where
    B: http_body::Body<Data: From<Bytes> + Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    P: Policy<HttpRequest> + 'static,
    Watched<B, P>: Send,
{
    #[inline(never)]
    fn into_cell(mut watched: Watched<B, P>) -> Body<B, P> {
        let source = match watched.bounds() {
            Some(bounds) => Source::remote(watched, bounds),
            None => Source::Passing { watched },
        };
        Body { source }
    }

    #[cold]
    #[inline(never)]
    fn move_to_cell(body: Pin<&mut Body<B, P>>) -> bool {
        let source = &mut body.get_mut().source;
        let Source::Passing { watched } = source else {
            return true;
        };
        let Some(bounds) = watched.bounds() else {
            return false;
        };
        *source = Source::remote(watched.take(), bounds);
        true
    }
}

// === impl Source ===

impl<B, P> Source<B, P>
where
    B: http_body::Body<Data: From<Bytes> + Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    P: Policy<HttpRequest> + 'static,
    Watched<B, P>: Send,
{
    fn remote(watched: Watched<B, P>, bounds: Bounds) -> Self {
        let remote = Ends::<P>::some(Remote::new(watched, bounds));
        Source::Remote { remote }
    }
}

impl<B, P: Policy<HttpRequest>> fmt::Debug for Body<B, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Passing { .. } => "Passing",
            Source::Remote { .. } => "Remote",
            Source::Answer { .. } => "Answer",
        };
        f.debug_struct("Body")
            .field("source", &source)
            .finish_non_exhaustive()
    }
}
