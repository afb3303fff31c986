//! What needs the private parts of a cell.

use std::convert::Infallible;
use std::sync::Weak;

use super::*;
use crate::body::watched::Carried;
use crate::clock;
use crate::cutoff::Cutoff;
use crate::observe::Reporter;
use crate::reason::Reason;

/// A body that is busy while the reaper wants to end it.
struct Busy {
    cell: Weak<Cell<Busy, ()>>,
    frames: Vec<Option<Bytes>>,
    /// A drain ends bodies meanwhile.
    drains: bool,
}

impl http_body::Body for Busy {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let cell = self.cell.upgrade().expect("it is polled in its cell");
        let scanned = Reap::stamp(&*cell);
        if self.drains {
            cell.bounds.cutoff.as_ref().unwrap().end_bodies();
        }
        Reap::end(&*cell, &|now| now.frames() == scanned.frames(), false);
        match self.frames.pop().flatten() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => Poll::Pending,
        }
    }
}

fn cell(
    frames: Vec<Option<Bytes>>,
    deadline: Option<tokio::time::Instant>,
    drains: bool,
) -> Arc<Cell<Busy, ()>> {
    Arc::new_cyclic(|cell| Cell {
        stamp: AtomicU64::new(0),
        missed: AtomicU64::new(0),
        is_slow: AtomicBool::new(false),
        bounds: Bounds {
            reporter: Reporter::new("timeout"),
            deadline,
            current: None,
            cutoff: drains.then(|| Cutoff::new(Reporter::new("drain"))),
            is_callers: false,
            is_grpc: false,
        },
        state: Mutex::new(State {
            live: Some(Live {
                watched: Watched::new(
                    Busy {
                        cell: cell.clone(),
                        frames,
                        drains,
                    },
                    Carried::default(),
                ),
                rest: None,
            }),
            outside: Outside::No,
            late_frames: 0,
        }),
        waker: Mutex::default(),
    })
}

/// The scan comes during each poll: the body ends after a poll without a frame, and after its
/// deadline also with one.
#[test]
fn a_body_that_is_always_being_polled_ends_after_the_poll() {
    let mut cx = Context::from_waker(Waker::noop());
    let frame = || Some(Bytes::from_static(b"abc"));
    let passed = clock::now().checked_sub(std::time::Duration::from_secs(1));
    for (frames, deadline, before) in [
        (vec![], None, 0),
        (vec![None, frame(), frame()], None, 2),
        (vec![frame(), frame()], passed, 0),
    ] {
        let cell = cell(frames, deadline, false);
        let mut poll = || RemoteBody::poll_frame(&*cell, Waker::noop(), &mut cx);
        for _ in 0..before {
            assert!(matches!(poll(), Poll::Ready(Some(Ok(_)))));
        }
        let Poll::Ready(Some(Err(error))) = poll() else {
            panic!("it goes on");
        };
        let rejection = error.rejection().expect("the reaper ends it");
        assert!(rejection.is_dependency_failure());
        assert!(matches!(poll(), Poll::Ready(None)));
    }
}

#[test]
fn a_body_that_is_being_polled_when_a_drain_ends_it_has_that_reason() {
    let cell = cell(vec![], None, true);
    let mut cx = Context::from_waker(Waker::noop());
    let polled = RemoteBody::poll_frame(&*cell, Waker::noop(), &mut cx);
    let Poll::Ready(Some(Err(error))) = polled else {
        panic!("it goes on");
    };
    let reason = error.rejection().map(Rejection::reason);
    assert_eq!(reason, Some(Reason::Draining));
    assert_eq!(cell.bounds.cutoff.as_ref().unwrap().ended(), 1);
}
