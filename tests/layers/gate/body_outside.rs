//! Response bodies that are ended from outside, whether or not the connection polls them.

use std::cell::Cell;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use seawall::{
    BodyError, Completion, ConcurrencyLimit, GateLayer, Outcome, Reason, ResponseBodyTimeout,
    ResponseBodyTimeoutSettings, Timeout, TimeoutLayer,
};
use tokio::task::yield_now;
use tokio::time::advance;
use tower::{BoxError, Layer, Service};

use crate::handler::service_fn;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);
/// The longest time after its deadline for which a body lives.
const PERIOD: Duration = Duration::from_millis(250);

/// A value that must be released.
struct Held {
    recorder: Recorder,
    limit: ConcurrencyLimit,
    timeout: Timeout,
    body: Arc<()>,
}

impl Held {
    fn new() -> Self {
        Self {
            recorder: Recorder::new(),
            limit: ConcurrencyLimit::from(8),
            timeout: Timeout::from(SECOND).named("test"),
            body: Arc::new(()),
        }
    }

    /// The body of a response behind a deadline of a second that includes it.
    async fn with_deadline(
        &self,
        request: Request<Script>,
        response: Response<Script>,
    ) -> Pin<Box<impl Body<Data = Bytes, Error = BodyError> + use<>>> {
        let layer = TimeoutLayer::new(self.timeout.clone()).including_body();
        self.respond(layer.policy().clone(), request, response)
            .await
    }

    /// The body of a response that a client must read at least every two seconds.
    async fn with_progress(
        &self,
        response: Response<Script>,
    ) -> Pin<Box<impl Body<Data = Bytes, Error = BodyError> + use<>>> {
        let layer = TimeoutLayer::new(self.timeout.clone()).response_body_timeout(
            ResponseBodyTimeoutSettings::default().progress_timeout(2 * SECOND),
        );
        self.respond(layer.policy().clone(), get(), response).await
    }

    async fn respond(
        &self,
        timeout: (ResponseBodyTimeout, Timeout),
        request: Request<Script>,
        response: Response<Script>,
    ) -> Pin<Box<impl Body<Data = Bytes, Error = BodyError> + use<>>> {
        let policies = (self.recorder.clone(), timeout, self.limit.clone());
        let response = response.map(|body| body.holding(&self.body));
        let response = Arc::new(Mutex::new(Some(response)));
        let service = service_fn(move |_| {
            let response = response.lock().unwrap().take().unwrap();
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let response = GateLayer::from_policy(policies)
            .layer(service)
            .call(request);
        Box::pin(response.await.unwrap().into_body())
    }

    fn is_released(&self) -> bool {
        self.limit.in_flight() == 0 && Arc::strong_count(&self.body) == 1
    }

    fn ended(&self) -> Vec<Told> {
        let mut told = self.recorder.told();
        told.retain(|told| *told != Told::Head);
        told
    }
}

fn ends(outcome: Outcome, completion: Completion) -> [Told; 2] {
    [Told::Settled(outcome), Told::Released(completion)]
}

fn endless() -> Response<Script> {
    ok(Script::new(vec![Step::Data("abc"); 1000]))
}

/// Moves the clock, and lets the task that ends bodies run.
async fn pass(time: Duration) {
    // The clock moves in steps, because the task reads it when it is woken.
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(PERIOD / 2);
        advance(step).await;
        yield_now().await;
        left = left.saturating_sub(step);
    }
}

/// A frame of a body.
type Polled<B> = Poll<Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>>;

fn poll<B: Body>(body: &mut Pin<Box<B>>) -> Polled<B> {
    body.as_mut()
        .poll_frame(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_body_that_is_not_polled() {
    let held = Held::new();
    let mut body = held.with_deadline(get(), endless()).await;
    assert!(poll(&mut body).is_ready());
    pass(Duration::from_millis(999)).await;
    assert!(!held.is_released(), "not before the deadline");
    pass(PERIOD + Duration::from_millis(2)).await;
    assert!(held.is_released());
    assert_eq!(held.ended(), ends(Outcome::Success, Completion::Failed));
    assert_eq!(held.timeout.snapshot().timed_out, 1);
    assert!(!body.is_end_stream(), "the client has still to learn it");
    assert_eq!(
        body.size_hint().exact(),
        None,
        "hyper does not poll what is empty"
    );
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.rejection().unwrap().reason(), Reason::Timeout);
    assert!(body.frame().await.is_none());
    assert!(body.is_end_stream());
    drop(body);
    assert_eq!(held.timeout.snapshot().timed_out, 1);
}

/// A gRPC response with these steps.
fn over_grpc(steps: impl IntoIterator<Item = Step>) -> Response<Script> {
    let mut response = ok(Script::new(steps));
    let content_type = "application/grpc".parse().unwrap();
    response.headers_mut().insert("content-type", content_type);
    response
}

/// Reads the rest of a gRPC body that was ended at its deadline.
async fn reads_status_4(body: &mut Pin<Box<impl Body<Data = Bytes, Error = BodyError>>>) {
    let trailers = body.frame().await.unwrap().unwrap().into_trailers();
    assert_eq!(trailers.unwrap()["grpc-status"], "4");
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn over_grpc_it_ends_with_a_status() {
    let held = Held::new();
    let silent = over_grpc([Step::Data("abc"), Step::Silent]);
    let mut body = held.with_deadline(grpc(), silent).await;
    assert!(poll(&mut body).is_ready());
    assert!(poll(&mut body).is_pending());
    assert_eq!(held.ended(), []);
    pass(SECOND + PERIOD).await;
    assert!(held.is_released());
    assert_eq!(held.ended(), ends(Outcome::Failure, Completion::Failed));
    reads_status_4(&mut body).await;
}

/// Neither the caller's own deadline nor a client that does not read is a failure of the service.
#[tokio::test(start_paused = true)]
async fn over_grpc_the_time_of_the_caller_is_no_failure() {
    // The connection polls the body of a silent service at the caller's deadline, or it does not.
    for is_polled in [false, true] {
        let held = Held::new();
        let mut request = grpc();
        let half = "500m".parse().unwrap();
        request.headers_mut().insert("grpc-timeout", half);
        let silent = over_grpc([Step::Data("abc"), Step::Silent]);
        let mut body = held.with_deadline(request, silent).await;
        assert!(poll(&mut body).is_ready());
        assert!(poll(&mut body).is_pending());
        if is_polled {
            advance(SECOND / 2 + Duration::from_millis(2)).await;
        } else {
            pass(SECOND / 2 + PERIOD).await;
            assert!(held.is_released());
        }
        reads_status_4(&mut body).await;
        assert!(held.is_released());
        assert_eq!(held.ended(), ends(Outcome::Ignored, Completion::Failed));
    }
    // The client does not read until the deadline of the service, or takes a frame now and then.
    for frames in [1, 3, 10] {
        let held = Held::new();
        let endless = over_grpc(vec![Step::Data("abc"); 1000]);
        let mut body = held.with_deadline(grpc(), endless).await;
        for _ in 0..frames {
            assert!(poll(&mut body).is_ready());
            pass(SECOND / frames).await;
        }
        pass(PERIOD).await;
        assert!(held.is_released());
        assert_eq!(held.ended(), ends(Outcome::Ignored, Completion::Failed));
    }
    // The client reads too slowly, and takes many frames after the deadline, before the next scan.
    for (is_slow, outcome) in [(true, Outcome::Ignored), (false, Outcome::Failure)] {
        let held = Held::new();
        let steps = std::iter::repeat_n([Step::Quiet, Step::Data("abc")], 2).flatten();
        let always = std::iter::repeat_n(Step::Data("abc"), 1000);
        let steps: Vec<_> = if is_slow {
            always.collect()
        } else {
            steps.chain(always).collect()
        };
        let mut body = held.with_deadline(grpc(), over_grpc(steps)).await;
        let _ = poll(&mut body);
        pass(Duration::from_millis(999)).await;
        assert!(!held.is_released());
        let _ = tokio_test::task::spawn(advance(Duration::from_millis(2))).poll();
        for _ in 0..100 {
            let _ = poll(&mut body);
        }
        assert_eq!(held.ended(), ends(outcome, Completion::Failed));
    }
    // The service is silent for most of the time, and then the client does not read.
    let held = Held::new();
    let late = [
        Step::Data("abc"),
        Step::Quiet,
        Step::Data("abc"),
        Step::Data("abc"),
    ];
    let late = over_grpc(late);
    let mut body = held.with_deadline(grpc(), late).await;
    assert!(poll(&mut body).is_ready());
    assert!(poll(&mut body).is_pending());
    pass(Duration::from_millis(600)).await;
    assert!(poll(&mut body).is_ready());
    pass(SECOND).await;
    assert_eq!(held.ended(), ends(Outcome::Ignored, Completion::Failed));
    // Nor within the progress timeout.
    let held = Held::new();
    let layer = TimeoutLayer::new(held.timeout.clone())
        .response_body_timeout(ResponseBodyTimeoutSettings::default().progress_timeout(2 * SECOND));
    let endless = over_grpc(vec![Step::Data("abc"); 1000]);
    let body = held.respond(layer.policy().clone(), grpc(), endless).await;
    pass(2 * SECOND + 2 * PERIOD).await;
    assert!(held.is_released());
    assert_eq!(held.ended(), ends(Outcome::Ignored, Completion::Failed));
    drop(body);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_not_waited_for() {
    let held = Held::new();
    let body = held.with_progress(endless()).await;
    pass(2 * SECOND + 2 * PERIOD).await;
    assert!(held.is_released());
    assert_eq!(held.timeout.snapshot().timed_out, 1);
    drop(body);

    // A client that reads slowly is served.
    let held = Held::new();
    let mut body = held.with_progress(endless()).await;
    for _ in 0..20 {
        pass(SECOND).await;
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
    }
    assert!(!held.is_released());
    pass(2 * SECOND + 2 * PERIOD).await;
    assert!(held.is_released());

    // So is one that waits for a silent service.
    let held = Held::new();
    let silent = ok(Script::new([
        Step::Data("abc"),
        Step::Quiet,
        Step::Data("def"),
    ]));
    let mut body = held.with_progress(silent).await;
    assert!(poll(&mut body).is_ready());
    assert!(poll(&mut body).is_pending());
    pass(60 * SECOND).await;
    assert!(!held.is_released());
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
    pass(2 * SECOND + 2 * PERIOD).await;
    assert!(held.is_released(), "it had something to say");
}

/// A body that has ended by itself is not ended again, and not counted.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_over_is_not_ended_again() {
    let steps = [
        vec![Step::Data("abc")],
        vec![Step::Data("abc"), Step::Trailers("x", "y")],
        vec![Step::Error],
    ];
    for steps in steps {
        for ends_later in [false, true] {
            let held = Held::new();
            let count = steps.len();
            let last_is_end = matches!(steps[count - 1], Step::Data(_));
            let script = Script::new(steps.clone());
            let mut body = held.with_deadline(get(), ok(script)).await;
            if ends_later {
                pass(Duration::from_millis(999)).await;
            }
            for _ in 0..count + usize::from(last_is_end) {
                assert!(poll(&mut body).is_ready());
            }
            assert!(held.is_released());
            pass(2 * SECOND).await;
            assert_eq!(held.timeout.snapshot().timed_out, 0);
            assert!(matches!(poll(&mut body), Poll::Ready(None)));
            let ended = held.ended();
            assert_eq!(ended.len(), 2, "{ended:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_at_its_deadline_it_is_cancelled_or_ended_but_not_both() {
    let held = Held::new();
    let mut body = held.with_deadline(get(), endless()).await;
    assert!(poll(&mut body).is_ready());
    advance(SECOND + PERIOD).await;
    drop(body);
    yield_now().await;
    assert!(held.is_released());
    let ended = held.ended();
    assert_eq!(ended.len(), 2, "{ended:?}");
    pass(SECOND).await;
    assert_eq!(held.ended().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_is_released_once() {
    let held = Held::new();
    let steps = [Step::Data("abc"), Step::Panic, Step::Data("abc")];
    let mut body = held.with_deadline(get(), ok(Script::new(steps))).await;
    assert!(poll(&mut body).is_ready());
    let unwound = catch_unwind(AssertUnwindSafe(|| poll(&mut body)));
    assert!(unwound.is_err());
    drop(body);
    assert!(held.is_released());
    assert_eq!(held.ended(), ends(Outcome::Success, Completion::Panicked));
    pass(SECOND + PERIOD).await;
    assert_eq!(held.ended().len(), 2);
    assert_eq!(held.timeout.snapshot().timed_out, 0);
}

/// Panics when it is dropped.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        unwind();
    }
}

impl Body for PanicsInDrop {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_when_it_is_dropped_does_not_keep_the_others() {
    let layer = TimeoutLayer::new(SECOND).including_body();
    let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(PanicsInDrop)));
    let response = layer.layer(service).call(get()).await.unwrap();
    let held = Held::new();
    let body = held.with_deadline(get(), endless()).await;
    pass(SECOND + PERIOD).await;
    assert!(held.is_released());
    let second = Held::new();
    let next = second.with_deadline(get(), endless()).await;
    pass(SECOND + PERIOD).await;
    assert!(second.is_released(), "the task lives on");
    drop((response, body, next));
}

/// The task that ends bodies ends with its runtime; the bodies stay.
#[test]
fn a_body_outlives_its_runtime() {
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap()
    };
    let held = Held::new();
    let first = runtime();
    let mut body = first.block_on(held.with_deadline(get(), endless()));
    drop(first);
    assert!(!held.is_released());
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
    drop(body);
    assert!(held.is_released());
    assert_eq!(held.ended(), ends(Outcome::Success, Completion::Cancelled));

    // The runtime drops the body, in a task of its own.
    let held = Held::new();
    let second = runtime();
    let body = second.block_on(held.with_deadline(get(), endless()));
    second.spawn(async move {
        std::future::pending::<()>().await;
        drop(body);
    });
    drop(second);
    assert!(held.is_released());

    // The same thread in another runtime.
    let held = Held::new();
    runtime().block_on(async {
        let body = held.with_deadline(get(), endless()).await;
        pass(SECOND + PERIOD).await;
        assert!(held.is_released());
        drop(body);
    });
}

/// A timer that is pending when its runtime shuts down is dropped without a panic, on a thread
/// without a runtime and in another runtime.
#[test]
fn a_pending_timer_outlives_its_runtime() {
    seawall::pool_timers_when_paused();
    let pending = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        let layer = TimeoutLayer::new(SECOND);
        let never = service_fn(async |_: Request<Script>| {
            std::future::pending::<Result<Response<Script>, Infallible>>().await
        });
        let mut call = Box::pin(layer.layer(never).call(get()));
        runtime.block_on(std::future::poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        }));
        call
    };
    let (first, second) = (pending(), pending());

    thread_local! {
        static PANICS: Cell<bool> = const { Cell::new(false) };
    }
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.set(true);
        others(panic);
    }));
    drop(first);
    assert!(!PANICS.get(), "without a runtime");
    let other = tokio::runtime::Builder::new_current_thread().build();
    let _entered = other.as_ref().unwrap().enter();
    drop(second);
    assert!(!PANICS.get(), "in another runtime");
}

/// Polled, dropped and ended at once, on two threads: each body is released once.
#[test]
fn threads_race_with_the_deadline() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let timeout = Timeout::from(Duration::from_millis(1));
        let limit = ConcurrencyLimit::from(1000);
        let layer = TimeoutLayer::new(timeout.clone()).including_body();
        let policies = (layer.policy().clone(), limit.clone());
        let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(Endless)));
        let service = GateLayer::from_policy(policies).layer(service);
        let ended = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..256)
            .map(|n: u32| {
                let (mut service, ended) = (service.clone(), ended.clone());
                tokio::spawn(async move {
                    let mut body = service.call(get()).await.unwrap().into_body();
                    // Every fourth body is dropped before its end.
                    let most = if n % 4 == 0 { 1000 } else { usize::MAX };
                    for _ in 0..most {
                        match body.frame().await {
                            Some(Ok(_)) => yield_now().await,
                            Some(Err(_)) => {
                                ended.fetch_add(1, SeqCst);
                            }
                            None => break,
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(limit.in_flight(), 0);
        let timed_out = usize::try_from(timeout.snapshot().timed_out).unwrap();
        assert!(ended.load(SeqCst) <= timed_out && timed_out <= 256);
        assert!(ended.load(SeqCst) >= 192, "those that are read to the end");
    });
}

/// Always ready.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"abc")))))
    }
}

/// One frame, of known length.
struct Large(Option<Bytes>);

impl Body for Large {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

/// A frame that is larger than 64 KiB is delivered in copies of 16 KiB, so that a slice which the
/// connection keeps does not keep the frame.
#[tokio::test(start_paused = true)]
async fn a_large_frame_is_delivered_in_copied_slices() {
    let size = 200_000;
    let frame: Bytes = (0..size).map(|n| n as u8).collect();
    let copy = frame.clone();
    let service = service_fn(move |_| {
        let body = Large(Some(copy.clone()));
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    });
    let layer = TimeoutLayer::new(SECOND).including_body();
    let response = layer.layer(service).call(get()).await.unwrap();
    let mut body = response.into_body();
    let mut read = Vec::new();
    let mut slices = Vec::new();
    while let Some(data) = body.frame().await {
        let data = data.unwrap().into_data().unwrap();
        assert!(data.len() <= 16 * 1024);
        read.extend_from_slice(&data);
        slices.push(data);
        let left = (size - read.len()) as u64;
        assert_eq!(body.size_hint().exact(), Some(left));
    }
    assert_eq!(read, frame);
    assert!(slices.iter().all(Bytes::is_unique), "each is a copy");

    // A slice that the connection keeps does not keep the frame after the end of the body.
    let response = {
        let frame = Bytes::from(vec![7; size]);
        let service = service_fn(move |_| {
            let body = Large(Some(frame.clone()));
            std::future::ready(Ok::<_, Infallible>(Response::new(body)))
        });
        layer.layer(service).call(get()).await.unwrap()
    };
    let mut body = response.into_body();
    let slice = body.frame().await.unwrap().unwrap().into_data().unwrap();
    pass(SECOND + PERIOD).await;
    assert!(slice.is_unique());
    assert!(body.frame().await.unwrap().is_err());
}

/// A compressor around the body polls it again after a frame. It then has data for the connection,
/// which does not poll it, although the body is ready.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_ready_and_not_polled_is_ended() {
    let held = Held::new();
    let steps = [Step::Data("abc"), Step::Pending, Step::Data("def")];
    let mut body = held.with_progress(ok(Script::new(steps))).await;
    assert!(poll(&mut body).is_ready());
    assert!(poll(&mut body).is_pending());
    pass(SECOND + 3 * PERIOD).await;
    assert!(!held.is_released());
    pass(3 * PERIOD).await;
    assert!(held.is_released());
}

/// Every connection polls a small body of known length. If its first frame is not the last, a
/// connection whose client reads nothing does not poll it again.
#[tokio::test(start_paused = true)]
async fn a_small_body_with_several_frames_is_ended() {
    let frames = || ok(Script::data(&["abc", "def"]).exact(6).knowing_its_end());
    let held = Held::new();
    let mut body = held.with_progress(frames()).await;
    assert!(poll(&mut body).is_ready());
    pass(2 * SECOND + 2 * PERIOD).await;
    assert!(held.is_released());
    assert!(body.frame().await.unwrap().is_err());

    let held = Held::new();
    let mut body = held.with_deadline(get(), frames()).await;
    assert!(poll(&mut body).is_ready());
    pass(SECOND + 2 * PERIOD).await;
    assert!(held.is_released());

    // A client that reads gets all of it.
    let held = Held::new();
    let body = held.with_progress(frames()).await;
    assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
    assert_eq!(held.ended(), ends(Outcome::Success, Completion::Complete));
}

/// Over HTTP/2, hyper takes the only frame of a small body and keeps the body until the client
/// reads: the frame releases the permit. A larger body holds its permit until its last slice is
/// taken (A2 of the faults from production).
#[tokio::test(start_paused = true)]
async fn a2_a_small_body_is_released_with_its_last_frame() {
    let held = Held::new();
    for small in [
        ok(Script::data(&["abc"]).exact(3).knowing_its_end()),
        ok(Script::data(&["abc", "def"]).exact(6).knowing_its_end()),
    ] {
        let frames = small.body().size_hint().exact().unwrap() / 3;
        let mut body = held.with_progress(small).await;
        for _ in 0..frames {
            assert_eq!(held.limit.in_flight(), 1);
            body.frame().await.unwrap().unwrap();
        }
        assert_eq!(held.limit.in_flight(), 0);
        drop(body);
    }
    let large: &'static str = "x".repeat(100_000).leak();
    let body = Script::data(&[large]).exact(100_000).knowing_its_end();
    let mut body = held.with_progress(ok(body)).await;
    let mut read = 0;
    while read < 100_000 {
        assert_eq!(held.limit.in_flight(), 1);
        let frame = body.frame().await.unwrap().unwrap();
        read += frame.into_data().unwrap().len();
    }
    assert_eq!(held.limit.in_flight(), 0);
}

/// Over HTTP/1, hyper drops a body that has delivered its declared length, without polling its end.
#[tokio::test(start_paused = true)]
async fn a_large_body_that_has_delivered_what_it_promised_is_complete() {
    let held = Held::new();
    let large: &'static str = "x".repeat(100_000).leak();
    let mut body = held
        .with_progress(ok(Script::data(&[large]).exact(100_000)))
        .await;
    let mut read = 0;
    while read < 100_000 {
        assert_eq!(held.limit.in_flight(), 1);
        let frame = body.frame().await.unwrap().unwrap();
        read += frame.into_data().unwrap().len();
    }
    drop(body);
    let released = Told::Released(Completion::Complete);
    assert_eq!(held.recorder.told().last(), Some(&released));
}

/// A limit alone has no cell: the permit of a large frame is held until the body is dropped.
#[tokio::test]
async fn a1_a_large_frame_holds_its_permit_until_the_body_is_dropped() {
    let limit = ConcurrencyLimit::from(1);
    let large: &'static str = "x".repeat(100_000).leak();
    let inner = answers(move || ok(Script::data(&[large]).exact(100_000).knowing_its_end()));
    let layer = seawall::ConcurrencyLimitLayer::new(limit.clone());
    let response = layer.layer(inner).call(get()).await.unwrap();
    let mut body = Box::pin(response.into_body());
    body.frame().await.unwrap().unwrap();
    assert_eq!(limit.in_flight(), 1);
    drop(body);
    assert_eq!(limit.in_flight(), 0);
}

/// A policy of the user beside the limit changes nothing of that, and the request is complete.
#[tokio::test(start_paused = true)]
async fn a1_also_beside_a_policy_that_needs_the_completion() {
    let (limit, recorder) = (ConcurrencyLimit::from(1), Recorder::new());
    let large: &'static str = "x".repeat(100_000).leak();
    for is_polled_again in [false, true] {
        let inner = answers(move || ok(Script::data(&[large]).exact(100_000).knowing_its_end()));
        let layer = GateLayer::from_policy((recorder.clone(), limit.clone()));
        let response = layer.layer(inner).call(get()).await.unwrap();
        let mut body = Box::pin(response.into_body());
        body.frame().await.unwrap().unwrap();
        if is_polled_again {
            assert!(body.frame().await.is_none());
        }
        assert_eq!(limit.in_flight(), 1);
        drop(body);
        assert_eq!(limit.in_flight(), 0);
        let last = recorder.told().pop();
        assert_eq!(last, Some(Told::Released(Completion::Complete)));
    }
}

/// A chunked response has trailers after its last byte, although its length is known.
#[tokio::test(start_paused = true)]
async fn a_chunked_body_of_known_length_keeps_its_trailers() {
    let held = Held::new();
    let large: &'static str = "x".repeat(100_000).leak();
    let script = Script::new([Step::Data(large), Step::Trailers("x", "y")]);
    let mut response = ok(script.exact(100_000));
    let chunked = "chunked".parse().unwrap();
    response.headers_mut().insert("transfer-encoding", chunked);
    let body = held.with_deadline(get(), response).await;
    let whole = body.collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["x"], "y");
    assert!(held.is_released());
}

/// A proxy returns the response of an upstream over HTTP/2 to a client over HTTP/1. Hyper drops the
/// body after the declared bytes, without polling its end.
#[tokio::test(start_paused = true)]
async fn a_response_of_an_upstream_over_http2_is_complete() {
    let held = Held::new();
    let mut response = ok(Script::data(&["abc", "def"]).exact(6));
    *response.version_mut() = http::Version::HTTP_2;
    let mut body = held.with_progress(response).await;
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(held.ended(), ends(Outcome::Success, Completion::Complete));
}

/// A gRPC body of known size in several frames ends with a status too.
#[tokio::test(start_paused = true)]
async fn a_small_body_over_grpc_ends_with_a_status() {
    let held = Held::new();
    let mut response = over_grpc([Step::Data("abc"), Step::Quiet, Step::Data("def")]);
    *response.body_mut() = std::mem::take(response.body_mut()).exact(6);
    let mut body = held.with_deadline(grpc(), response).await;
    assert!(poll(&mut body).is_ready());
    pass(SECOND + 2 * PERIOD).await;
    assert!(held.is_released());
    reads_status_4(&mut body).await;
}

/// A gRPC response of known length to a request that says HTTP/1.1, as a client makes it before it
/// knows the version: its status follows the last byte.
#[tokio::test(start_paused = true)]
async fn a_body_of_known_length_over_grpc_keeps_its_status() {
    let held = Held::new();
    let mut response = over_grpc([Step::Data("abc"), Step::Trailers("grpc-status", "0")]);
    *response.body_mut() = std::mem::take(response.body_mut()).exact(3);
    let body = held.with_deadline(post(Script::default()), response).await;
    let trailers = body.collect().await.unwrap().trailers().cloned();
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    assert_eq!(held.ended(), ends(Outcome::Success, Completion::Complete));
}

/// The connection has what the response declares, and does not poll the body again.
#[tokio::test(start_paused = true)]
async fn a_body_that_has_delivered_what_it_promised_is_not_ended() {
    let held = Held::new();
    let response = ok(Script::new([Step::Data("abc"), Step::Silent]).exact(3));
    let mut body = held.with_deadline(get(), response).await;
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
    assert_eq!(held.limit.in_flight(), 0);
    assert_eq!(held.ended(), ends(Outcome::Success, Completion::Complete));
    pass(SECOND + 2 * PERIOD).await;
    assert_eq!(held.timeout.snapshot().timed_out, 0);
}
