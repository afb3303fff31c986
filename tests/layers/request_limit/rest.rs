//! The rest of a request body whose request is answered.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use seawall::policy::{Mode, Switch, Switched};
use seawall::{
    CatchPanic, CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimit,
    ConcurrencyLimitSettings, GateLayer, Rejection, RequestLimit, RequestLimitLayer, Timeout,
    TimeoutLayer,
};
use tower::{Layer, Service, ServiceExt};

use super::size::{Once, Twice, handler};
use crate::handler::service_fn;
use crate::support::*;

const MINUTE: Duration = Duration::from_secs(60);

/// The rest of a body that an inner limit has rejected counts for no outer limit.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_rejected_body_is_not_counted_again() {
    let outer = RequestLimit::from(100).named("outer");
    let inner = RequestLimit::from(10).named("inner");
    let mut service = RequestLimitLayer::new(outer.clone())
        .layer(RequestLimitLayer::new(inner.clone()).layer(handler::<Twice>()));
    let large: &'static str = "x".repeat(200).leak();
    let body = Script::data(&["eleven bytes", large, large]);
    let response = service.call(post(body)).await.unwrap();
    assert_eq!(response.status(), 413);
    let rejection: &Rejection = response.extensions().get().unwrap();
    assert_eq!(rejection.name(), "inner");
    let rejected = (outer.snapshot().rejected, inner.snapshot().rejected);
    assert_eq!(rejected, (0, 1));
}

/// Another task has the body and does not read it: the connection cannot go on after the answer.
#[tokio::test(start_paused = true)]
async fn an_answer_closes_if_another_task_has_the_body() {
    let second = Duration::from_secs(1);
    for (is_read, closes) in [(false, true), (true, false)] {
        let policies = (Timeout::from(second), RequestLimit::from(100_000));
        let service = service_fn(move |request: Request<Once>| async move {
            let mut body = request.into_body();
            tokio::spawn(async move {
                while is_read && body.frame().await.is_some() {}
                std::future::pending::<()>().await;
                drop(body);
            });
            std::future::pending::<Result<Response<Script>, Infallible>>().await
        });
        let mut service = GateLayer::from_policy(policies).layer(service);
        let response = service.call(post(Script::data(&["ab"]))).await.unwrap();
        assert_eq!(response.status(), 504);
        assert_eq!(response.headers().contains_key("connection"), closes);
    }
}

/// A body that panics also panics when the gate reads its rest for the answer. The client gets the
/// answer.
#[tokio::test(start_paused = true)]
async fn a_body_that_panics_is_isolated_also_when_the_gate_reads_it() {
    let panics = || [Step::Panic, Step::Panic];
    let read_by_handler = Script::new(panics());
    let read_by_gate = Script::new([Step::Data("eleven bytes")].into_iter().chain(panics()));
    for (body, status) in [(read_by_handler, 500), (read_by_gate, 413)] {
        let policies = (CatchPanic::default(), RequestLimit::from(10));
        let mut service = GateLayer::from_policy(policies).layer(handler::<Once>());
        let response = service.call(post(body)).await.unwrap();
        assert_eq!(response.status(), status);
    }
}

/// The service has answered, and keeps a body that becomes too large after that: nothing reads the
/// rest, which holds the window of an HTTP/2 connection.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_is_dropped_after_the_answer() {
    let (token, kept) = (Arc::new(()), Arc::new(Mutex::new(None)));
    let keeps = kept.clone();
    let mut service = RequestLimitLayer::new(4).layer(service_fn(move |request: Request<Once>| {
        *keeps.lock().unwrap() = Some(request.into_body());
        std::future::ready(Ok::<_, Infallible>(ok(Script::default())))
    }));
    let body = Script::data(&["abc", "def", "ghi"]).holding(&token);
    let response = service.call(post(body)).await.unwrap();
    let mut body = kept.lock().unwrap().take().unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(Arc::strong_count(&token), 2);
    body.frame().await.unwrap().unwrap_err();
    assert_eq!(Arc::strong_count(&token), 1);
    drop(response);
}

/// A handler that is dropped after its body became too large: the gate reads the rest, as it reads
/// that of any other body.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_too_large_body_is_read_after_a_panic_or_a_timeout() {
    let second = Duration::from_secs(1);
    for (panics, status) in [(true, 500), (false, 408)] {
        let token = Arc::new(());
        let policies = (
            CatchPanic::new(),
            Timeout::from(second),
            RequestLimit::from(4),
        );
        let handler = service_fn(move |request: Request<Once>| async move {
            request.into_body().collect().await.unwrap_err();
            if panics {
                unwind();
            }
            std::future::pending::<Result<Response<Script>, Infallible>>().await
        });
        let mut service = GateLayer::from_policy(policies).layer(handler);
        let body = Script::new([Step::Data("abc"), Step::Data("def"), Step::Silent]);
        let response = service.call(post(body.holding(&token))).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(Arc::strong_count(&token), 2, "the gate reads on");
        tokio::time::sleep(second + Duration::from_millis(1)).await;
        assert_eq!(Arc::strong_count(&token), 1);
    }
}

/// Another task has the body when the gate answers, or when the call is dropped.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_elsewhere_is_dropped_after_the_end_of_its_call() {
    let second = Duration::from_secs(1);
    for exact in [false, true] {
        for end in ["late", "dropped", "panics in call", "panics"] {
            let (token, kept) = (Arc::new(()), Arc::new(Mutex::new(None)));
            let keeps = kept.clone();
            let policies = (
                CatchPanic::new(),
                Timeout::from(second),
                RequestLimit::from(4),
            );
            let handler = service_fn(move |request: Request<Once>| {
                *keeps.lock().unwrap() = Some(request.into_body());
                if end == "panics in call" {
                    unwind();
                }
                async move {
                    if end == "panics" {
                        unwind();
                    }
                    std::future::pending::<Result<Response<Script>, Infallible>>().await
                }
            });
            let mut service = GateLayer::from_policy(policies).layer(handler);
            let mut body = Script::data(&["abc", "def", "ghi"]).holding(&token);
            if exact {
                body = body.exact(4); // and it has more
            }
            let mut call = tokio_test::task::spawn(service.call(post(body)));
            match end {
                "dropped" => assert!(call.poll().is_pending()),
                "late" => {
                    assert!(call.poll().is_pending());
                    tokio::time::advance(second).await;
                    assert!(call.poll().is_ready());
                }
                _ => {
                    let response = tokio_test::assert_ready_ok!(call.poll());
                    assert_eq!(response.headers()["connection"], "close", "{end}");
                }
            }
            drop(call);
            let mut body = kept.lock().unwrap().take().unwrap();
            body.frame().await.unwrap().unwrap();
            assert_eq!(Arc::strong_count(&token), 2, "{end}");
            body.frame().await.unwrap().unwrap_err();
            assert_eq!(Arc::strong_count(&token), 1, "{end}");
        }
    }
}

/// The same after a panic in a gate without a timeout. An outer gate or the same one isolates it.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_elsewhere_is_dropped_after_a_panic_in_the_call() {
    type Answer = std::future::Ready<Result<Response<Script>, Infallible>>;
    type Kept = Arc<Mutex<Option<Once>>>;

    async fn check<S, B>(mut service: S, kept: &Kept, exact: bool, closes: bool)
    where
        S: Service<Request<Script>, Response = Response<B>, Error = Infallible>,
    {
        let token = Arc::new(());
        let mut body = Script::data(&["abc", "def"]).holding(&token);
        if exact {
            body = body.exact(4); // and it has more
        }
        let response = service.call(post(body)).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers().contains_key("connection"), closes);
        let mut body = kept.lock().unwrap().take().unwrap();
        body.frame().await.unwrap().unwrap();
        body.frame().await.unwrap().unwrap_err();
        assert_eq!(Arc::strong_count(&token), 1);
    }

    for exact in [false, true] {
        let kept = Kept::default();
        let keeps = kept.clone();
        let handler = service_fn(move |request: Request<Once>| -> Answer {
            *keeps.lock().unwrap() = Some(request.into_body());
            unwind()
        });
        let limited = RequestLimitLayer::new(4).layer(handler.clone());
        let outer = CatchPanicLayer::new().layer(limited);
        check(outer, &kept, exact, false).await;
        let same = GateLayer::from_policy((CatchPanic::new(), RequestLimit::from(4)));
        check(same.layer(handler), &kept, exact, true).await;
    }
}

/// A client that still sends an upload of known length after half a second reads the answer: the
/// gate reads on while it is sent.
#[tokio::test(start_paused = true)]
async fn the_gate_reads_on_after_the_answer() {
    let token = Arc::new(());
    let mut service = RequestLimitLayer::new(10).layer(handler::<Once>());
    let body = Script::new([Step::Silent]).exact(1000).holding(&token);
    let response = service.call(post(body)).await.unwrap();
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(Arc::strong_count(&token), 2);
    tokio::time::sleep(Duration::from_millis(501)).await;
    assert_eq!(Arc::strong_count(&token), 1);
}

/// An inner gate without a request limit rejects an upload over HTTP/2: a route's breaker, or the
/// client of a proxy. The client could lose the answer if nothing read its upload. Over HTTP/1, the
/// body is dropped, so that hyper adds `connection: close`.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_that_an_inner_gate_rejects_is_read() {
    let open = CircuitBreaker::default();
    open.force_open();
    let limit = || RequestLimit::from(1 << 20);
    let alone = RequestLimitLayer::new(limit());
    let with_deadline = GateLayer::from_policy((Timeout::from(MINUTE), limit()));
    let inner = || CircuitBreakerLayer::new(open.clone()).layer(handler::<Once>());
    for (version, length, is_read) in [
        (Version::HTTP_2, None, true),
        (Version::HTTP_2, Some(100_000), true),
        (Version::HTTP_2, Some(100), false),
        (Version::HTTP_11, None, false),
        (Version::HTTP_11, Some(100_000), false),
    ] {
        let token = Arc::new(());
        let request = || silent_upload(&token, version, length);
        let response = alone.layer(inner()).call(request()).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_rest(&token, is_read).await;
        let response = with_deadline.layer(inner()).call(request()).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_rest(&token, is_read).await;
    }
}

/// The same for a timeout without a request limit, inside the limit.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_is_read_after_an_inner_timeout() {
    for (version, is_read) in [(Version::HTTP_2, true), (Version::HTTP_11, false)] {
        let inner = TimeoutLayer::new(Duration::from_secs(5)).layer(handler::<Once>());
        let mut service = RequestLimitLayer::new(1 << 20).layer(inner);
        let token = Arc::new(());
        let request = silent_upload(&token, version, None);
        let response = service.call(request).await.unwrap();
        assert_eq!(response.status(), 408);
        assert_rest(&token, is_read).await;
        // With a request limit that is off.
        let limit = Switched::new(RequestLimit::from(1000), Switch::new(Mode::Off));
        let inner = GateLayer::from_policy((Timeout::from(Duration::from_secs(5)), limit));
        let mut service = RequestLimitLayer::new(1 << 20).layer(inner.layer(handler::<Twice>()));
        let request = silent_upload(&token, version, None);
        let response = service.call(request).await.unwrap();
        assert_eq!(response.status(), 408);
        assert_rest(&token, is_read).await;
    }
}

/// A request whose time ends in a queue, with a limit of its own inside another one: one of them
/// reads the rest.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_queued_body_is_read_once() {
    let queue = ConcurrencyLimitSettings::fixed(1).queue(5, MINUTE);
    let queue = ConcurrencyLimit::new(queue).unwrap();
    let _permit = queue.try_acquire().unwrap();
    let time = Timeout::from(Duration::from_secs(1));
    let switch = Switch::new(Mode::Enforce);
    let limit = Switched::new(RequestLimit::from(1 << 30), switch.clone());
    let inner = GateLayer::from_policy((time, limit, queue.clone()));
    for (is_nested, mode) in [
        (false, Mode::Enforce),
        (true, Mode::Enforce),
        (false, Mode::Off),
        (true, Mode::Off),
    ] {
        switch.set(mode);
        let (read, request) = endless_upload(Version::HTTP_2);
        let inner = inner.clone();
        let status = if is_nested {
            let handler = service_fn(|_| async { Ok::<_, Infallible>(ok(Script::default())) });
            let service = RequestLimitLayer::new(1 << 30).layer(inner.layer(handler));
            service.oneshot(request).await.unwrap().status()
        } else {
            let handler = service_fn(|_| async { Ok::<_, Infallible>(ok(Script::default())) });
            inner
                .layer(handler)
                .oneshot(request)
                .await
                .unwrap()
                .status()
        };
        assert_eq!(status, 504);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(read.load(Relaxed), 256 * 1024, "{is_nested} {mode}");
    }
}

/// A limit outside and inside a timeout that drops a handler with the body: one of them reads the
/// rest.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_between_two_limits_is_read_once() {
    let handler = service_fn(|request: Request<_>| async move {
        let _body = request.into_body();
        std::future::pending::<Result<Response<Script>, Infallible>>().await
    });
    let mut service = tower::ServiceBuilder::new()
        .layer(RequestLimitLayer::new(1 << 30))
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .layer(RequestLimitLayer::new(1 << 30))
        .service(handler);
    let (read, request) = endless_upload(Version::HTTP_2);
    let response = service.call(request).await.unwrap();
    assert_eq!(response.status(), 504);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(read.load(Relaxed), 256 * 1024);
}

/// Over HTTP/1, the gate keeps the connection open after the last byte that it reads. If it closed
/// it, the kernel would reset it, and a client that reads while it sends would lose the answer.
#[tokio::test(start_paused = true)]
async fn the_connection_stays_open_for_a_while_after_the_answer() {
    for (version, is_kept) in [(Version::HTTP_11, true), (Version::HTTP_2, false)] {
        let mut service = RequestLimitLayer::new(1000).layer(handler());
        let (read, mut request) = endless_upload(version);
        let length = HeaderValue::from_static("1000000");
        request.headers_mut().insert("content-length", length);
        let response = service.call(request).await.unwrap();
        assert_eq!(response.status(), 413);
        for (millis, is_kept) in [(499, is_kept), (2, false)] {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            assert_eq!(read.load(Relaxed), 256 * 1024);
            let has_body = Arc::strong_count(&read) == 2;
            assert_eq!(has_body, is_kept, "{version:?} {millis}");
        }
    }
}

/// A request body that panics when it is dropped.
struct PanicsOnDrop(Script);

impl http_body::Body for PanicsOnDrop {
    type Data = Bytes;
    type Error = <Script as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        unwind();
    }
}

/// The gate has read the rest to its end, with or without a hint that this is the end.
#[tokio::test(start_paused = true)]
async fn a_rest_that_panics_when_it_is_dropped_does_not_prevent_the_answer() {
    for knows_its_end in [false, true] {
        let policies = (CatchPanic::new(), RequestLimit::from(4));
        let mut service = GateLayer::from_policy(policies).layer(handler());
        let body = Script::data(&["abc", "def", "ghi"]);
        let body = if knows_its_end {
            body.knowing_its_end()
        } else {
            body
        };
        let response = service.call(post(body).map(PanicsOnDrop)).await;
        assert_eq!(response.unwrap().status(), 413);
    }
}

/// An upload without an end, and the number of bytes that were read.
fn endless_upload(
    version: Version,
) -> (
    Arc<AtomicUsize>,
    Request<impl http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static>,
) {
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let endless = stream::repeat_with(move || {
        counted.fetch_add(1024, Relaxed);
        Ok(Frame::data(Bytes::from_static(&[0; 1024])))
    });
    let mut request = Request::new(StreamBody::new(endless));
    *request.version_mut() = version;
    (read, request)
}

/// Hyper's client has the body in a task of its own, which drops it some time after the timeout of
/// the gate, or of a gate inside it. Over HTTP/1, the connection closes then, and the answer says
/// so.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_in_a_task_is_read_after_a_timeout() {
    let client = service_fn(|request: Request<Once>| async move {
        let body = request.into_body();
        let (mut ends, _call) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            ends.closed().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(body);
        });
        std::future::pending::<Result<Response<Script>, Infallible>>().await
    });
    let (limit, time) = (RequestLimit::from(1 << 20), Duration::from_secs(5));
    for (version, is_read) in [(Version::HTTP_2, true), (Version::HTTP_11, false)] {
        for is_inner in [false, true] {
            let token = Arc::new(());
            let request = silent_upload(&token, version, None);
            let head = if is_inner {
                let inner = TimeoutLayer::new(time).layer(client.clone());
                let mut service = RequestLimitLayer::new(limit.clone()).layer(inner);
                service.call(request).await.unwrap().into_parts().0
            } else {
                let layer = GateLayer::from_policy((Timeout::from(time), limit.clone()));
                let response = layer.layer(client.clone()).call(request).await;
                response.unwrap().into_parts().0
            };
            assert_eq!(head.status, 504);
            assert_eq!(
                head.headers.contains_key("connection"),
                !is_read,
                "{version:?} {is_inner}"
            );
            tokio::time::sleep(Duration::from_millis(51)).await;
            assert_rest(&token, is_read).await;
        }
    }
}

/// The default answer replaces that of the responder. The rest is read as usual.
#[tokio::test(start_paused = true)]
async fn the_rest_is_read_after_a_responder_panics() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let policies = (CatchPanic::new(), RequestLimit::from(4));
        let layer = GateLayer::from_policy(policies).respond_with(|_, _| unwind());
        let token = Arc::new(());
        let request = silent_upload(&token, version, Some(5));
        let response = layer.layer(handler()).call(request).await.unwrap();
        assert_eq!(response.status(), 413);
        let time = Duration::from_millis(if version == Version::HTTP_2 { 999 } else { 499 });
        tokio::time::sleep(time).await;
        assert_eq!(Arc::strong_count(&token), 2, "{version:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(Arc::strong_count(&token), 1, "{version:?}");
    }
}

/// A client that waits for a 100 may have started to send after a while. The gate reads nothing,
/// and keeps the connection open, so that the client gets to read the answer. Over HTTP/2, the
/// gate reads the rest of any body.
#[tokio::test(start_paused = true)]
async fn the_connection_of_a_client_that_expects_a_100_stays_open_for_a_while() {
    for (version, is_read) in [(Version::HTTP_11, false), (Version::HTTP_2, true)] {
        let mut service = RequestLimitLayer::new(1000).layer(handler());
        let (read, mut request) = endless_upload(version);
        let headers = request.headers_mut();
        headers.insert("content-length", HeaderValue::from_static("1000000"));
        headers.insert("expect", HeaderValue::from_static("100-continue"));
        let response = service.call(request).await.unwrap();
        assert_eq!(response.status(), 413);
        for (millis, is_kept) in [(999, !is_read), (2, false)] {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            assert_eq!(read.load(Relaxed) != 0, is_read, "{version:?}");
            let has_body = Arc::strong_count(&read) == 2;
            assert_eq!(has_body, is_kept, "{version:?} {millis}");
        }
    }
}

fn silent_upload(token: &Arc<()>, version: Version, length: Option<u64>) -> Request<Script> {
    let mut body = Script::new([Step::Silent]).holding(token);
    if let Some(length) = length {
        body = body.exact(length);
    }
    let mut request = post(body);
    *request.version_mut() = version;
    request
}

/// The gate reads on for a second, or not at all.
async fn assert_rest(token: &Arc<()>, is_read: bool) {
    assert_eq!(Arc::strong_count(token), 1 + usize::from(is_read));
    tokio::time::sleep(Duration::from_millis(1001)).await;
    assert_eq!(Arc::strong_count(token), 1);
}
