//! Request bodies that are too large, in all ways.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use seawall::{
    BodyError, Reason, Rejection, RequestHead, RequestLimit, RequestLimitLayer,
    RequestLimitSettings, WireProtocol,
};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready_ok};
use tower::{BoxError, Layer, Service};

use crate::handler::service_fn;
use crate::support::*;

/// A request body behind one layer, and behind two.
pub(super) type Once = seawall::RequestBody<Script>;
pub(super) type Twice = seawall::RequestBody<Once>;

/// Reads the body to its end and returns its length; answers an error with 400, as extractors do.
async fn reads<B>(request: Request<B>, read: Arc<AtomicU64>) -> Result<Response<Script>, Infallible>
where
    B: http_body::Body<Data = Bytes, Error = BodyError> + Send + Unpin,
{
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                let size = frame.data_ref().map_or(0, Bytes::len);
                read.fetch_add(size as u64, Relaxed);
            }
            Err(error) => {
                assert_eq!(error.rejection().unwrap().reason(), Reason::BodyTooLarge);
                let mut response = ok(Script::data(&["bad"]));
                *response.status_mut() = http::StatusCode::BAD_REQUEST;
                return Ok(response);
            }
        }
    }
    Ok(ok(Script::data(&["fine"])))
}

pub(super) fn handler<B>()
-> impl Service<Request<B>, Response = Response<Script>, Error = Infallible> + Clone
where
    B: http_body::Body<Data = Bytes, Error = BodyError> + Send + Unpin + 'static,
{
    service_fn(|request| reads(request, Arc::default()))
}

/// Sends a body through a limit of 10 bytes. Returns the status, and the number of bytes that the
/// handler has read.
async fn through(request: Request<Script>) -> (u16, u64, RequestLimit) {
    let limit = RequestLimit::from(10);
    let read = Arc::new(AtomicU64::new(0));
    let seen = read.clone();
    let mut service = RequestLimitLayer::new(limit.clone())
        .layer(service_fn(move |request| reads(request, seen.clone())));
    let response = service.call(request).await.unwrap();
    (response.status().as_u16(), read.load(Relaxed), limit)
}

fn declaring(length: &'static str, body: Script) -> Request<Script> {
    let mut request = post(body);
    let length = http::HeaderValue::from_static(length);
    request.headers_mut().append("content-length", length);
    request
}

#[tokio::test]
async fn exactly_the_limit_passes_and_one_byte_more_does_not() {
    assert_eq!(
        (200, 10),
        take(through(post(Script::data(&["12345", "67890"]))).await)
    );
    assert_eq!(
        (413, 10),
        take(through(post(Script::data(&["12345", "67890", "x"]))).await)
    );
    assert_eq!(
        (413, 5),
        take(through(post(Script::data(&["12345", "67890x"]))).await)
    );
}

fn take((status, read, _): (u16, u64, RequestLimit)) -> (u16, u64) {
    (status, read)
}

#[tokio::test]
async fn what_is_known_to_be_too_large_never_reaches_the_handler() {
    let (status, read, limit) = through(declaring("11", Script::data(&["12345678901"]))).await;
    assert_eq!((status, read, limit.snapshot().rejected), (413, 0, 1));
    let (status, read, limit) = through(post(Script::data(&["12345678901"]).exact(11))).await;
    assert_eq!((status, read, limit.snapshot().rejected), (413, 0, 1));
    let (status, read, _) = through(declaring("10", Script::data(&["1234567890"]).exact(10))).await;
    assert_eq!((status, read), (200, 10));
}

#[tokio::test]
async fn a_length_that_lies_or_cannot_be_read_lets_no_byte_through() {
    let long = || Script::data(&["12345", "67890", "12345"]);
    for length in ["5", "-1", "1e1", "many", "", "99999999999999999999999"] {
        let (status, read, limit) = through(declaring(length, long())).await;
        assert_eq!((status, read), (413, 10), "{length:?}");
        assert_eq!(limit.snapshot().rejected, 1, "{length:?}");
    }
    // Contradictory lengths: the largest counts.
    let mut request = declaring("5", Script::data(&["12345"]));
    let other = http::HeaderValue::from_static("11");
    request.headers_mut().append("content-length", other);
    assert_eq!(take(through(request).await), (413, 0));
    // Even the body may declare a wrong length.
    assert_eq!(take(through(post(long().exact(5))).await), (413, 10));
}

#[tokio::test]
async fn the_answer_is_in_the_extensions_and_counted_once() {
    let limit = RequestLimit::from(1).named("uploads");
    let mut service = RequestLimitLayer::new(limit.clone()).layer(handler());
    let response = service.call(post(Script::data(&["ab"]))).await.unwrap();
    let rejection: &Rejection = response.extensions().get().unwrap();
    assert_eq!(
        (rejection.layer(), rejection.name()),
        ("request_limit", "uploads")
    );
    assert_eq!(limit.snapshot().rejected, 1);

    let mut grpc = grpc();
    *grpc.body_mut() = Script::data(&["ab"]);
    let response = service.call(grpc).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "8");
}

#[tokio::test]
async fn after_the_head_only_the_body_ends() {
    let mut service =
        RequestLimitLayer::new(3).layer(service_fn(async |request: Request<Once>| {
            Ok::<_, Infallible>(Response::new(request.into_body()))
        }));
    let response = service
        .call(post(Script::data(&["ab", "cd"])))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "ab"
    );
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.rejection().unwrap().reason(), Reason::BodyTooLarge);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn the_error_passes_several_layers_as_one() {
    let mut service = RequestLimitLayer::new(100).layer(RequestLimitLayer::new(3).layer(
        service_fn(async |request: Request<Twice>| {
            let error: BodyError = request.into_body().collect().await.unwrap_err();
            assert_eq!(error.rejection().unwrap().reason(), Reason::BodyTooLarge);
            Ok::<_, Infallible>(ok(Script::default()))
        }),
    ));
    // Nested limits: an inner layer can only lower the limit.
    assert_eq!(
        service
            .call(post(Script::data(&["abcd"])))
            .await
            .unwrap()
            .status(),
        413
    );
}

#[tokio::test]
async fn some_requests_have_another_limit() {
    let mut service = RequestLimitLayer::new(1)
        .per_request(|head: &RequestHead<'_>| {
            if head.uri.path() == "/upload" {
                5
            } else {
                1_u64
            }
        })
        .layer(handler());
    let mut upload = post(Script::data(&["abc"]));
    *upload.uri_mut() = "/upload".parse().unwrap();
    assert_eq!(service.call(upload).await.unwrap().status(), 200);
    assert_eq!(
        service
            .call(post(Script::data(&["abc"])))
            .await
            .unwrap()
            .status(),
        413
    );
}

#[tokio::test]
async fn the_handle_changes_the_limit_of_requests_to_come() {
    let limit = RequestLimit::from(1);
    let mut service = RequestLimitLayer::new(limit.clone())
        .respond_with(|no: &Rejection, protocol: WireProtocol| {
            let mut response = no.to_response(protocol);
            *response.status_mut() = http::StatusCode::IM_A_TEAPOT;
            response
        })
        .layer(handler());
    assert_eq!(
        service
            .call(post(Script::data(&["abc"])))
            .await
            .unwrap()
            .status(),
        418
    );
    limit.set_max_body(3).unwrap();
    assert_eq!(limit.max_body(), 3);
    assert_eq!(
        service
            .call(post(Script::data(&["abc"])))
            .await
            .unwrap()
            .status(),
        200
    );
}

/// Over HTTP/1, the answer follows after the rest is read, so that the connection stays open.
#[tokio::test(start_paused = true)]
async fn b10_over_http_1_the_rest_is_read_first() {
    let mut service = RequestLimitLayer::new(1).layer(handler());
    for known in [true, false] {
        let token = Arc::new(());
        let rest = Script::new([Step::Data("ab"), Step::Pending, Step::Data("cd")]);
        let rest = if known { rest.exact(4) } else { rest };
        let mut call = spawn(service.call(post(rest.holding(&token))));
        assert_pending!(call.poll());
        assert!(call.is_woken());
        let response = assert_ready_ok!(call.poll());
        assert_eq!(response.status(), 413);
        assert!(!response.headers().contains_key("connection"));
        assert_eq!(Arc::strong_count(&token), 1, "what is read is dropped");
        let body = response.into_body();
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(131));
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 131);
    }
}

/// A silent client: the gate waits for at most a second, and then closes the connection.
#[tokio::test(start_paused = true)]
async fn b10_over_http_1_the_rest_is_not_waited_for_for_ever() {
    let silent = || Silent.boxed();
    let declaring = |length: &'static str| {
        let mut request = Request::new(silent());
        *request.method_mut() = http::Method::POST;
        let length = http::HeaderValue::from_static(length);
        request.headers_mut().insert("content-length", length);
        request
    };
    let mut service = RequestLimitLayer::new(1).layer(handler());
    let (response, took) = timed(service.call(declaring("10"))).await;
    let response = response.unwrap();
    assert_eq!((response.status().as_u16(), took.as_millis()), (413, 500));
    assert_eq!(response.headers()["connection"], "close");

    // In the middle.
    let frames = futures_util::stream::once(async {
        Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(b"ab")))
    });
    let silent = StreamBody::new(frames.chain(futures_util::stream::pending()).boxed());
    let mut service = RequestLimitLayer::new(1).layer(handler());
    let mut request = Request::new(silent);
    *request.method_mut() = http::Method::POST;
    let (response, took) = timed(service.call(request)).await;
    let response = response.unwrap();
    assert_eq!((response.status().as_u16(), took.as_millis()), (413, 500));
    assert_eq!(response.headers()["connection"], "close");
}

/// Over HTTP/2, the complete answer is sent at once, while a task reads the rest.
#[tokio::test(start_paused = true)]
async fn b10_over_http_2_the_rest_is_read_while_the_answer_is_sent() {
    let mut service = RequestLimitLayer::new(1).layer(handler());
    for mut request in [http2(), grpc()] {
        let token = Arc::new(());
        let rest = Script::new([Step::Data("ab"), Step::Pending, Step::Data("cd")]);
        *request.body_mut() = rest.exact(4).holding(&token);
        *request.method_mut() = http::Method::POST;
        let response = assert_ready_ok!(spawn(service.call(request)).poll());
        assert_eq!(reason(&response), Some(Reason::BodyTooLarge));
        drop(response);
        assert_eq!(Arc::strong_count(&token), 2, "it is not read yet");
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&token), 1, "what is read is dropped");
    }
    // A silent client: the task waits for at most a second.
    let token = Arc::new(());
    let mut request = http2();
    *request.body_mut() = Script::new([Step::Data("ab"), Step::Silent]).holding(&token);
    drop(service.call(request).await.unwrap());
    tokio::time::sleep(Duration::from_millis(999)).await;
    assert_eq!(Arc::strong_count(&token), 2);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(Arc::strong_count(&token), 1);
}

#[tokio::test]
async fn the_reason_is_found_behind_other_bodies() {
    let mut service =
        RequestLimitLayer::new(3).layer(service_fn(async |request: Request<Once>| {
            let boxed = axum::body::Body::new(request.into_body());
            Ok::<_, Infallible>(Response::new(boxed))
        }));
    let mut service = seawall::GateLayer::from_policy(Recorder::new()).layer(&mut service);
    let response = service
        .call(post(Script::data(&["ab", "cd"])))
        .await
        .unwrap();
    let error: BodyError = response.into_body().collect().await.unwrap_err();
    assert_eq!(error.rejection().unwrap().reason(), Reason::BodyTooLarge);
}

/// A handler that takes the body, and panics or does not answer.
async fn takes<B>(request: Request<B>) -> Result<Response<Script>, Infallible> {
    let panics = request.uri().path() == "/panic";
    let drops = request.uri().path() == "/drop";
    let body = request.into_body();
    if panics {
        unwind();
    }
    let _body = (!drops).then_some(body);
    std::future::pending::<()>().await;
    Ok(ok(Script::default()))
}

/// The gate also reads a body that a handler has taken, if the body is dropped together with the
/// handler. A layer on the route may limit the body too.
#[tokio::test(start_paused = true)]
async fn b10_the_body_of_a_handler_that_panics_or_is_late_is_read() {
    rest_of_a_taken_body(service_fn(takes::<Once>)).await;
    let on_route = RequestLimitLayer::new(50_000);
    rest_of_a_taken_body(on_route.layer(service_fn(takes::<Twice>))).await;
}

async fn rest_of_a_taken_body<S, B>(handler: S)
where
    S: Service<Request<Once>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let second = Duration::from_secs(1);
    let policies = (
        seawall::CatchPanic::new(),
        seawall::Timeout::from(second),
        RequestLimit::from(100_000),
    );
    let mut service = seawall::GateLayer::from_policy(policies).layer(handler);
    for (path, reads) in [("/panic", true), ("/late", true), ("/drop", false)] {
        for version in [http::Version::HTTP_11, http::Version::HTTP_2] {
            let token = Arc::new(());
            let rest = Script::new([Step::Data("ab"), Step::Pending, Step::Data("cd")]);
            let mut request = post(rest.exact(20_000).holding(&token));
            *request.uri_mut() = path.parse().unwrap();
            *request.version_mut() = version;
            let mut call = spawn(service.call(request));
            let first = call.poll();
            if path != "/panic" {
                assert!(first.is_pending());
                assert_eq!(Arc::strong_count(&token), 1 + usize::from(reads), "{path}");
                tokio::time::advance(second).await;
                let _ = call.poll();
            }
            assert_eq!(Arc::strong_count(&token), 1 + usize::from(reads), "{path}");
            for _ in 0..3 {
                let _ = (call.is_woken(), tokio::task::yield_now().await);
            }
            if version == http::Version::HTTP_11 {
                let response = assert_ready_ok!(call.poll());
                assert!(response.status().is_server_error());
                assert!(!response.headers().contains_key("connection"));
            }
            assert_eq!(Arc::strong_count(&token), 1, "{path} {version:?}");
        }
    }
}

/// Over HTTP/1, the gate reads half of the limit before an answer, unless more is declared, and the
/// other half after it.
#[tokio::test(start_paused = true)]
async fn an_endless_body_is_read_no_further_than_256_kib() {
    for (version, declared) in [
        (http::Version::HTTP_11, false),
        (http::Version::HTTP_11, true),
        (http::Version::HTTP_2, false),
        (http::Version::HTTP_2, true),
    ] {
        let (read, chunk) = (Arc::new(AtomicU64::new(0)), Bytes::from(vec![0; 1000]));
        let count = read.clone();
        let endless = futures_util::stream::repeat_with(move || {
            count.fetch_add(1000, Relaxed);
            Ok::<_, Infallible>(http_body::Frame::data(chunk.clone()))
        });
        let mut request = Request::new(StreamBody::new(endless));
        *request.version_mut() = version;
        if declared {
            request
                .headers_mut()
                .insert("content-length", "9999999".parse().unwrap());
        }
        let mut service = RequestLimitLayer::new(5000).layer(handler());
        let response = service.call(request).await.unwrap();
        assert_eq!(response.status(), 413);
        let closes = response.headers().contains_key("connection");
        assert_eq!(closes, version == http::Version::HTTP_11);
        let kept = if declared { 0 } else { 5000 + 1000 };
        let before = read.load(Relaxed) - kept;
        let first = if closes { 128 * 1024 } else { 0 };
        assert!((first..first + 1000).contains(&before), "{before}");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let all = read.load(Relaxed) - kept;
        assert!((256 * 1024..256 * 1024 + 1000).contains(&all), "{all}");
    }
}

/// Without a reader for the rest, an HTTP/1 connection is closed.
#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_not_read_from() {
    let mut request = declaring("11", Script::new([Step::Panic]));
    let expect = http::HeaderValue::from_static("100-Continue");
    request.headers_mut().insert("expect", expect);
    let mut service = RequestLimitLayer::new(10).layer(handler());
    let response = service.call(request).await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(response.headers()["connection"], "close");
    response.into_body().collect().await.unwrap();
}

/// Each bound for the head applies without the others.
#[tokio::test]
async fn each_bound_of_the_head_holds_without_the_others() {
    let request = || {
        let mut request = get();
        *request.uri_mut() = "/a/long/path".parse().unwrap();
        for name in ["x-a", "x-b", "x-c"] {
            request.headers_mut().insert(name, "12345".parse().unwrap());
        }
        request
    };
    let none = || RequestLimitSettings::new(10);
    for (settings, status) in [
        (none(), 200),
        (none().max_headers(3), 200),
        (none().max_headers(2), 431),
        (none().max_header_bytes(24), 200),
        (none().max_header_bytes(23), 431),
        (none().max_uri(12), 200),
        (none().max_uri(11), 414),
    ] {
        let layer = RequestLimitLayer::new(RequestLimit::new(settings).unwrap());
        let mut service = layer.layer(answers(|| ok(Script::default())));
        assert_eq!(service.call(request()).await.unwrap().status(), status);
    }
}

struct Silent;

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Pending
    }
}
