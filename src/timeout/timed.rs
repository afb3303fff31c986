//! What a time-out does after the response head: nothing, or watch the body.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::Timeout;
#[cfg(feature = "http")]
use crate::body::{BodyError, Source, Watch};
use crate::clock;
use crate::observe::{self, Meter};
use crate::rejection::{Reason, Rejection};

/// When the time is up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// So many nanoseconds after somebody has to wait for the first time.
    After(u64),
    At(Instant),
    Never,
}

/// How far a time-out reaches. Sealed: [`HeadOnly`] or [`WithBody`].
pub trait Extent: Clone + sealed::Sealed {
    /// What watches the response body.
    #[doc(hidden)]
    type Watch;

    #[doc(hidden)]
    fn watch(&self, end: End<'_>) -> Self::Watch;
}

/// To the response head: it adds nothing to a body.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadOnly;

/// Beyond the response head: a deadline for all of it, a bound for its silence, or both.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, Default)]
pub struct WithBody {
    pub(super) including: bool,
    pub(super) idle: Option<Duration>,
}

/// What is known of a request when its response head is there.
#[cfg_attr(
    not(feature = "http"),
    expect(dead_code, reason = "nothing comes after the head")
)]
#[derive(Debug)]
pub struct End<'a> {
    pub(super) until: Until,
    pub(super) timeout: &'a Timeout,
    pub(super) is_grpc: bool,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::HeadOnly {}
    #[cfg(feature = "http")]
    impl Sealed for super::WithBody {}
}

// === impl Until ===

impl Until {
    /// `u64::MAX` nanoseconds are no limit.
    #[inline]
    pub(super) fn after(nanos: u64) -> Self {
        if nanos == u64::MAX {
            Until::Never
        } else {
            Until::After(nanos)
        }
    }

    /// The time, from now on the same for ever; `None` for never.
    #[inline]
    pub(super) fn resolve(&mut self) -> Option<Instant> {
        match *self {
            Until::At(at) => Some(at),
            Until::Never => None,
            Until::After(nanos) => {
                const FAR: u64 = clock::FAR.as_secs() * 1_000_000_000;
                let at = clock::now() + Duration::from_nanos(nanos.min(FAR));
                *self = Until::At(at);
                Some(at)
            }
        }
    }

    /// Ready when the time is up; the timer is made by the first to wait.
    #[inline(never)]
    pub(super) fn poll(
        &mut self,
        mut timer: Pin<&mut Option<Sleep>>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if timer.is_none() {
            let Some(at) = self.resolve() else {
                return Poll::Pending;
            };
            timer.set(Some(clock::sleep_until(at)));
        }
        clock::poll(timer.as_pin_mut().expect("it was just set"), cx)
    }
}

/// The time is up: counted, and told.
pub(super) fn time_is_up(meter: &Meter) -> Rejection {
    let rejection = meter.reject(Reason::Timeout);
    observe::rejected(&rejection, false);
    rejection
}

// === impl Extent ===

#[cfg(feature = "http")]
impl From<HeadOnly> for WithBody {
    fn from(_: HeadOnly) -> Self {
        Self::default()
    }
}

impl Extent for HeadOnly {
    type Watch = ();

    #[inline]
    fn watch(&self, _: End<'_>) {}
}

#[cfg(feature = "http")]
impl Extent for WithBody {
    type Watch = body::Timed;

    fn watch(&self, end: End<'_>) -> body::Timed {
        body::Timed::new(*self, end)
    }
}

#[cfg(feature = "http")]
pub(super) mod body {
    use std::fmt;
    use std::task::ready;

    use http_body::Frame;
    use pin_project_lite::pin_project;

    use super::*;
    use crate::rejection::BoxError;

    pin_project! {
        /// Ends a response body when its time is up.
        pub struct Timed {
            until: Until,
            idle: Option<Duration>,
            // Whether the timer is set for the silence that there is now.
            waits: bool,
            #[pin]
            timer: Option<Sleep>,
            // Frames that were ready after the time was up.
            late: u32,
            is_grpc: bool,
            timeout: Timeout,
        }
    }

    impl Timed {
        pub(super) fn new(extent: WithBody, end: End<'_>) -> Self {
            Self {
                until: if extent.including {
                    end.until
                } else {
                    Until::Never
                },
                idle: extent.idle,
                waits: false,
                timer: None,
                late: 0,
                is_grpc: end.is_grpc,
                timeout: end.timeout.clone(),
            }
        }

        /// Ready when the body has taken too long. A timer is set once for each silence, and made once for all of them.
        fn poll_wait(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            let mut this = self.project();
            if !*this.waits {
                *this.waits = true;
                let idle = this.idle.map(|idle| clock::now() + idle.min(clock::FAR));
                let due = match (this.until.resolve(), idle) {
                    (Some(until), Some(idle)) => until.min(idle),
                    (until, idle) => match until.or(idle) {
                        Some(due) => due,
                        None => return Poll::Pending,
                    },
                };
                match this.timer.as_mut().as_pin_mut() {
                    Some(timer) => timer.reset(due),
                    None => this.timer.set(Some(clock::sleep_until(due))),
                }
            }
            match this.timer.as_pin_mut() {
                Some(timer) => clock::poll(timer, cx),
                None => Poll::Pending,
            }
        }

        /// Whether a body that goes on has outlived its deadline for long, however busy it is. What was ready when a stall was
        /// over is not thrown away.
        fn is_long_over(self: Pin<&mut Self>) -> bool {
            const READY: u32 = 64;
            let this = self.project();
            let until = this.until.resolve();
            if until.is_some_and(|until| clock::now() > until) {
                *this.late += 1;
            }
            *this.late > READY
        }

        fn cut<D>(&self) -> Result<Frame<D>, BodyError> {
            let rejection = time_is_up(&self.timeout.shared.meter);
            if self.is_grpc {
                Ok(Frame::trailers(rejection.to_trailers()))
            } else {
                Err(BodyError::cut(rejection))
            }
        }
    }

    impl<B> Watch<B> for Timed {
        fn poll_frame(
            mut self: Pin<&mut Self>,
            mut source: Pin<&mut Source<B>>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<B::Data>, BodyError>>>
        where
            B: http_body::Body<Error: Into<BoxError>>,
        {
            let Poll::Ready(polled) = source.as_mut().poll_frame(cx) else {
                ready!(self.as_mut().poll_wait(cx));
                source.end();
                return Poll::Ready(Some(self.cut()));
            };
            *self.as_mut().project().waits = false;
            let goes_on =
                matches!(&polled, Some(Ok(frame)) if frame.is_data()) && !source.is_end_stream();
            if goes_on && self.as_mut().is_long_over() {
                source.end();
                return Poll::Ready(Some(self.cut()));
            }
            Poll::Ready(polled)
        }
    }

    impl fmt::Debug for Timed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Timed")
                .field("until", &self.until)
                .field("idle", &self.idle)
                .finish_non_exhaustive()
        }
    }
}
