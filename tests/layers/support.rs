//! Mocks: a body that follows a script, a policy that records its calls, a service that must be
//! polled ready.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version};
use http_body::{Frame, SizeHint};
use seawall::policy::{Admission, NoWait, Policy, RequestKind};
use seawall::{Completion, Outcome, Reason, Rejection, Reporter, ResponseHeadMut};
use tower::Service;

use crate::handler::{Handler, service_fn};

/// The length of a long test: a million steps in CI, which sets `SEAWALL_LONG_TESTS`, and a tenth
/// otherwise.
pub(crate) fn steps() -> u64 {
    match std::env::var_os("SEAWALL_LONG_TESTS") {
        Some(_) => 1_000_000,
        None => 100_000,
    }
}

/// The result of a poll of a body.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Data(&'static str),
    Trailers(&'static str, &'static str),
    /// Pending once. The body wakes the task at once.
    Pending,
    /// Pending once. Nothing wakes the task.
    Quiet,
    /// Pending for ever.
    Silent,
    Error,
    Panic,
}

/// A body that follows a script.
#[derive(Debug, Default)]
pub(crate) struct Script {
    steps: VecDeque<Step>,
    exact: Option<u64>,
    /// Whether it reports `is_end_stream` after its last step, which a stream of unknown length
    /// cannot.
    knows_its_end: bool,
    /// A token that shows when the body is dropped.
    token: Option<Arc<()>>,
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(crate) fn data(chunks: &[&'static str]) -> Self {
        Self::new(chunks.iter().map(|chunk| Step::Data(chunk)))
    }

    pub(crate) fn exact(mut self, exact: u64) -> Self {
        self.exact = Some(exact);
        self
    }

    pub(crate) fn knowing_its_end(mut self) -> Self {
        self.knows_its_end = true;
        self
    }

    pub(crate) fn holding(mut self, token: &Arc<()>) -> Self {
        self.token = Some(token.clone());
        self
    }
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(match self.steps.pop_front() {
            None => None,
            Some(Step::Data(data)) => Some(Ok(Frame::data(Bytes::from_static(data.as_bytes())))),
            Some(Step::Trailers(name, value)) => {
                Some(Ok(Frame::trailers(HeaderMap::from_iter([(
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )]))))
            }
            Some(Step::Error) => Some(Err(std::io::Error::other("scripted"))),
            Some(Step::Panic) => unwind(),
            Some(Step::Silent) => {
                self.steps.push_front(Step::Silent);
                return Poll::Pending;
            }
            Some(Step::Quiet) => return Poll::Pending,
            Some(Step::Pending) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.knows_its_end && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.exact
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Panics without a message on the terminal.
pub(crate) fn unwind() -> ! {
    std::panic::resume_unwind(Box::new("scripted"))
}

/// A waker that panics when it wakes its task.
pub(crate) fn waker_that_panics() -> Waker {
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            unwind();
        }
    }

    Arc::new(Panics).into()
}

/// An HTTP/1.1 `GET /` without a body.
pub(crate) fn get() -> Request<Script> {
    Request::new(Script::default().knowing_its_end())
}

pub(crate) fn head() -> Request<Script> {
    let mut request = get();
    *request.method_mut() = Method::HEAD;
    request
}

pub(crate) fn http2() -> Request<Script> {
    let mut request = get();
    *request.version_mut() = Version::HTTP_2;
    request
}

pub(crate) fn grpc() -> Request<Script> {
    let mut request = http2();
    *request.method_mut() = Method::POST;
    let grpc = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert("content-type", grpc);
    request
}

pub(crate) fn post(body: Script) -> Request<Script> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    request
}

/// The reason in a response's extensions.
pub(crate) fn reason<B>(response: &Response<B>) -> Option<Reason> {
    let rejection = response.extensions().get::<Rejection>();
    rejection.map(Rejection::reason)
}

/// Answers at once.
pub(crate) fn answers<B: 'static>(
    response: impl Fn() -> Response<Script> + Send + Sync + 'static,
) -> Handler<Request<B>, Response<Script>, Infallible> {
    service_fn(move |_: Request<B>| std::future::ready(Ok(response())))
}

pub(crate) fn ok(body: Script) -> Response<Script> {
    Response::new(body)
}

/// The calls of a [`Recorder`], in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Head,
    Settled(Outcome),
    Released(Completion),
}

/// A policy that admits requests and records its calls. It panics unless the calls are settle and
/// then release, each once.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    told: Arc<Mutex<Vec<Told>>>,
}

/// The calls that a request still needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Admitted,
    Settled,
    Released,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            told: Arc::default(),
        }
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    fn tell(&self, told: Told) {
        self.told.lock().unwrap().push(told);
    }
}

impl<R: RequestKind> Policy<R> for Recorder {
    type Token = Record;
    type Wait = NoWait<Record>;

    fn admit(&self, _: &R::Head<'_>) -> Admission<Record, NoWait<Record>> {
        Admission::Admit(Record::Admitted)
    }

    fn on_head(&self, token: &mut Record, head: &mut ResponseHeadMut<'_>) {
        assert_eq!(*token, Record::Admitted);
        self.tell(Told::Head);
        head.headers_mut()
            .insert("x-recorded", HeaderValue::from_static("yes"));
    }

    fn settle(&self, token: &mut Record, outcome: Outcome) {
        assert_eq!(std::mem::replace(token, Record::Settled), Record::Admitted);
        self.tell(Told::Settled(outcome));
    }

    fn release(&self, token: &mut Record, completion: Completion) {
        assert_eq!(std::mem::replace(token, Record::Released), Record::Settled);
        self.tell(Told::Released(completion));
    }
}

/// A policy that rejects with a reason.
#[derive(Clone, Debug)]
pub(crate) struct No {
    pub(crate) reporter: Reporter,
    pub(crate) reason: Reason,
}

impl No {
    pub(crate) fn new(reason: Reason) -> Self {
        Self {
            reporter: Reporter::new("no"),
            reason,
        }
    }
}

impl<R: RequestKind> Policy<R> for No {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
        let after = std::time::Duration::from_secs(7);
        Admission::Reject(self.reporter.reject(self.reason).with_retry_after(after))
    }
}

/// A service that panics if it is called without having been polled ready, to find missing
/// reservations. A clone is not ready.
#[derive(Debug)]
pub(crate) struct MustBeReady<S> {
    pub(crate) inner: S,
    ready: bool,
}

impl<S> MustBeReady<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            ready: false,
        }
    }
}

impl<S: Clone> Clone for MustBeReady<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone())
    }
}

impl<S: Service<Req>, Req> Service<Req> for MustBeReady<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let polled = self.inner.poll_ready(cx);
        self.ready = matches!(polled, Poll::Ready(Ok(())));
        polled
    }

    fn call(&mut self, request: Req) -> S::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without having been polled ready"
        );
        self.inner.call(request)
    }
}

/// The output of a future, and the virtual time that it took.
#[expect(clippy::disallowed_methods, reason = "the paused clock of a test")]
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, std::time::Duration) {
    let start = tokio::time::Instant::now();
    let value = future.await;
    (value, start.elapsed())
}
