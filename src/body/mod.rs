//! The response body of all layers: the frames of the inner service, or an answer of a layer, with
//! the guard of the request.

mod cell;
mod clock;
mod error;
mod reaper;
mod watched;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

use self::cell::Remote;
pub(crate) use self::clock::BodyClock;
pub use self::error::BodyError;
use self::error::PolledFrame;
use self::reaper::Bounds;
pub(crate) use self::watched::{Carried, LARGE, Watched};
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
        clock: ClockOf<P>,
    }
}

/// `Yes` if a policy can end response bodies, else `No`.
pub(crate) type Ends<P> = <NeedsOf<P, HttpRequest> as Needs>::Ending;

/// Whether response bodies can be ended from outside, for which they must be `Send`.
pub trait Endings<B, P: Policy<HttpRequest>>: Choice {
    /// Moves the inner body into a cell, where it can be ended from outside, if it has bounds for
    /// that.
    #[doc(hidden)]
    fn into_cell(body: Body<B, P>, is_grpc: bool) -> Body<B, P>;

    /// Moves a body into a cell after its first frame. It is not gRPC: a gRPC body is in a cell
    /// already, or never gets a bound.
    #[doc(hidden)]
    fn move_to_cell(body: Pin<&mut Body<B, P>>);
}

/// The clock of a body, if a policy needs one.
pub(crate) type ClockOf<P> = <Ends<P> as Choice>::Maybe<BodyClock>;

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
    #[inline(always)]
    pub(crate) fn passing(body: B, carried: Carried<P>, clock: ClockOf<P>) -> Self {
        Self {
            source: Source::Passing {
                watched: Watched::new(body, carried),
            },
            clock,
        }
    }

    pub(crate) fn answer(bytes: Bytes) -> Self {
        Self {
            source: Source::Answer { bytes },
            clock: ClockOf::<P>::default(),
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
        if const { !NeedsOf::<P, HttpRequest>::ENDING } {
            if let SourceProj::Passing { watched } = this.source.as_mut().project() {
                return watched.poll_frame(cx, true);
            }
        }
        let mut has_more = false;
        let polled = match this.source.as_mut().project() {
            SourceProj::Passing { mut watched } => {
                let polled = watched.as_mut().poll_frame(cx, true);
                // A body of unknown size is in a cell already, if it has bounds.
                has_more = matches!(polled, Poll::Ready(Some(Ok(_))))
                    && !watched.is_end_stream()
                    && watched.size_hint().exact().is_some();
                polled
            }
            SourceProj::Remote { remote } => match Ends::<P>::get(remote) {
                Some(remote) => remote.cell.poll_frame(&remote.waker, cx),
                None => Poll::Ready(None),
            },
            SourceProj::Answer { bytes } => return Poll::Ready(data(std::mem::take(bytes))),
        };
        if const { NeedsOf::<P, HttpRequest>::ENDING } {
            if let Some(clock) = Ends::<P>::get(this.clock) {
                if is_over(&this.source, &polled, clock, cx) {
                    return this.source.end(clock, cx).map(Some);
                }
            }
            let is_remote = |clock: &mut BodyClock| clock.is_remote;
            if has_more && Ends::<P>::get(this.clock).is_none_or(is_remote) {
                // The connection may never ask for the next frame.
                Ends::<P>::move_to_cell(self);
            }
        }
        polled
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
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

/// Returns whether a body is late or idle.
fn is_over<B, P>(
    source: &Source<B, P>,
    polled: &PolledFrame<B::Data>,
    clock: &mut BodyClock,
    cx: &mut Context<'_>,
) -> bool
where
    B: http_body::Body,
    P: Policy<HttpRequest>,
{
    let Poll::Ready(polled) = polled else {
        return clock.poll_wait(cx).is_ready();
    };
    clock.ready();
    let goes_on = matches!(polled, Some(Ok(frame)) if frame.is_data()) && !source.is_end_stream();
    goes_on && clock.is_long_over()
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
    fn into_cell(body: Body<B, P>, _: bool) -> Body<B, P> {
        body
    }

    fn move_to_cell(_: Pin<&mut Body<B, P>>) {}
}

impl<B, P> Endings<B, P> for Yes
where
    B: http_body::Body<Data: From<Bytes> + Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    P: Policy<HttpRequest> + 'static,
    Watched<B, P>: Send,
{
    #[inline(never)]
    fn into_cell(mut body: Body<B, P>, is_grpc: bool) -> Body<B, P> {
        let Source::Passing { watched } = &mut body.source else {
            return body;
        };
        if watched.is_delivered() {
            return body;
        }
        let clock = Ends::<P>::get(&mut body.clock);
        if let Some(bounds) = Bounds::new(&watched.parts(), clock, is_grpc) {
            let remote = Ends::<P>::some(Remote::new(watched.take(), bounds));
            body.source = Source::Remote { remote };
        }
        body
    }

    #[cold]
    #[inline(never)]
    fn move_to_cell(body: Pin<&mut Body<B, P>>) {
        let body = body.get_mut();
        *body = Self::into_cell(std::mem::take(body), false);
    }
}

// === impl Source ===

impl<B, P: Policy<HttpRequest>> Source<B, P> {
    #[inline]
    fn is_end_stream(&self) -> bool
    where
        B: http_body::Body,
    {
        match self {
            Source::Passing { watched } => watched.is_end_stream(),
            Source::Remote { remote } => {
                Ends::<P>::get_ref(remote).is_none_or(|remote| remote.cell.is_end_stream())
            }
            Source::Answer { bytes } => bytes.is_empty(),
        }
    }

    /// Ends the body because its time is over, and drops its content at once.
    #[cold]
    fn end<D>(
        mut self: Pin<&mut Self>,
        clock: &mut BodyClock,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Frame<D>, BodyError>> {
        let mut rejection = clock.rejection();
        match self.as_mut().project() {
            SourceProj::Passing { watched } => watched.end(&mut rejection, true),
            SourceProj::Remote { remote } => {
                if let Some(remote) = Ends::<P>::get(remote) {
                    rejection = ready!(remote.cell.expire(rejection, cx));
                }
            }
            SourceProj::Answer { .. } => {}
        }
        let bytes = Bytes::new();
        self.set(Source::Answer { bytes });
        Poll::Ready(last_frame(rejection, clock.is_grpc()))
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
