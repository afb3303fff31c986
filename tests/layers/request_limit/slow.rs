//! Requests with heads that are too large, and bodies that arrive too slowly.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use seawall::{
    BodyError, ConcurrencyLimit, ConcurrencyLimitLayer, Reason, Rejection, RequestLimit,
    RequestLimitLayer, RequestLimitSettings,
};
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceBuilder};

use crate::handler::service_fn;
use crate::support::*;

const TENTH: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

type Upload = Pin<Box<dyn http_body::Body<Data = Bytes, Error = Infallible> + Send>>;

/// Chunks of this many bytes, each after this many tenths of a second.
fn upload(chunks: Vec<(u32, usize)>) -> Request<Upload> {
    let body = stream::unfold(chunks.into_iter(), async |mut chunks| {
        let (tenths, size) = chunks.next()?;
        if tenths > 0 {
            sleep(tenths * TENTH).await;
        }
        let chunk = Frame::data(Bytes::from(vec![0; size]));
        Some((Ok::<_, Infallible>(chunk), chunks))
    });
    Request::new(Box::pin(StreamBody::new(body)))
}

/// Reads the whole body, and answers an error with 400, as extractors do.
async fn reads<B>(request: Request<B>) -> Result<Response<Script>, Infallible>
where
    B: http_body::Body<Data = Bytes, Error = BodyError>,
{
    let mut response = ok(Script::default());
    if request.into_body().collect().await.is_err() {
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

/// The status, and the seconds until it.
async fn sent(layer: &RequestLimitLayer, chunks: Vec<(u32, usize)>) -> (u16, f64) {
    let mut service = layer.layer(service_fn(reads));
    let (response, took) = timed(service.call(upload(chunks))).await;
    (response.unwrap().status().as_u16(), took.as_secs_f64())
}

#[tokio::test(start_paused = true)]
async fn silence() {
    let layer = RequestLimitLayer::new(
        RequestLimit::new(RequestLimitSettings::new(1 << 20).body_idle_timeout(SECOND)).unwrap(),
    );
    assert_eq!(sent(&layer, vec![(9, 1); 100]).await, (200, 90.0));
    assert_eq!(sent(&layer, vec![(9, 1), (11, 1)]).await, (408, 1.9));
    assert_eq!(sent(&layer, vec![(11, 1)]).await, (408, 1.0));
    assert_eq!(
        sent(&layer, vec![(10, 1)]).await,
        (200, 1.0),
        "at the boundary"
    );
    assert_eq!(sent(&layer, vec![]).await, (200, 0.0));
}

#[tokio::test(start_paused = true)]
async fn a_time_for_all_of_it() {
    let layer = RequestLimitLayer::new(
        RequestLimit::new(RequestLimitSettings::new(1 << 20).body_timeout(SECOND)).unwrap(),
    );
    assert_eq!(sent(&layer, vec![(3, 1); 3]).await, (200, 0.9));
    assert_eq!(sent(&layer, vec![(3, 1); 100]).await, (408, 1.0));
    let both = RequestLimitLayer::new(
        RequestLimit::new(
            RequestLimitSettings::new(1 << 20)
                .body_timeout(SECOND)
                .body_idle_timeout(2 * TENTH),
        )
        .unwrap(),
    );
    assert_eq!(sent(&both, vec![(1, 1), (3, 1)]).await, (408, 0.3));
    assert_eq!(sent(&both, vec![(1, 1); 100]).await, (408, 1.0));
}

/// One byte per second at a rate of ten, with a second of grace: each received byte earns a tenth
/// of a second.
#[tokio::test(start_paused = true)]
async fn a_least_rate() {
    let layer = RequestLimitLayer::new(
        RequestLimit::new(RequestLimitSettings::new(1 << 20).min_body_rate(10, SECOND)).unwrap(),
    );
    assert_eq!(sent(&layer, vec![(10, 1); 100]).await, (408, 1.1));
    assert_eq!(sent(&layer, vec![(10, 10); 30]).await, (200, 30.0));
    assert_eq!(sent(&layer, vec![(10, 9); 100]).await.0, 408);
    assert_eq!(
        sent(&layer, vec![(5, 100), (104, 1)]).await,
        (200, 10.9),
        "an advance"
    );
    assert_eq!(sent(&layer, vec![(5, 100), (106, 1)]).await, (408, 11.0));
    assert_eq!(
        sent(&layer, vec![(0, 100), (109, 1)]).await,
        (200, 10.9),
        "an advance that was there at once"
    );
    assert_eq!(sent(&layer, vec![(0, 100), (111, 1)]).await, (408, 11.0));
}

#[tokio::test(start_paused = true)]
async fn the_answer_closes_and_says_why() {
    let settings = RequestLimitSettings::new(1 << 20).body_idle_timeout(SECOND);
    let limit = RequestLimit::new(settings).unwrap().named("api");
    let layer = RequestLimitLayer::new(limit.clone());
    let mut service = layer.layer(service_fn(reads));
    let response = service.call(upload(vec![(20, 1)])).await.unwrap();
    assert_eq!(response.status(), 408);
    assert_eq!(response.headers()["connection"], "close");
    let rejection: &Rejection = response.extensions().get().unwrap();
    assert_eq!(
        (rejection.reason(), rejection.name()),
        (Reason::BodyTooSlow, "api")
    );
    assert_eq!(limit.snapshot().rejected, 1);
    let mut request = upload(vec![(20, 1)]);
    *request.version_mut() = http::Version::HTTP_2;
    let response = service.call(request).await.unwrap();
    assert!(!response.headers().contains_key("connection"));
    let mut request = upload(vec![(20, 1)]);
    (*request.version_mut(), *request.method_mut()) = (http::Version::HTTP_2, http::Method::POST);
    let grpc = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert("content-type", grpc);
    let response = service.call(request).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "4");
}

/// After the head, no answer is possible: the body ends with an error for its reader.
#[tokio::test(start_paused = true)]
async fn after_the_head_only_the_body_ends() {
    let (told, read) = tokio::sync::oneshot::channel();
    let told = Mutex::new(Some(told));
    let mut service = RequestLimitLayer::new(
        RequestLimit::new(RequestLimitSettings::new(1 << 20).body_idle_timeout(SECOND)).unwrap(),
    )
    .layer(service_fn(move |request: Request<_>| {
        let told = told.lock().unwrap().take().unwrap();
        tokio::task::spawn_local(async move {
            let body: seawall::RequestBody<Upload> = request.into_body();
            let error = body.collect().await.map(drop).unwrap_err();
            told.send(error.rejection().map(Rejection::reason)).unwrap();
        });
        std::future::ready(Ok::<_, Infallible>(ok(Script::default())))
    }));
    let both = async {
        let response = service.call(upload(vec![(1, 1), (20, 1)])).await.unwrap();
        assert_eq!(response.status(), 200);
        timed(read).await
    };
    let (reason, took) = tokio::task::LocalSet::new().run_until(both).await;
    assert_eq!(reason.unwrap(), Some(Reason::BodyTooSlow));
    assert_eq!(took, Duration::from_millis(1100));
}

/// Time that the handler spends on other work does not count for the sender.
#[tokio::test(start_paused = true)]
async fn only_waiting_counts() {
    let layer = RequestLimitLayer::new(
        RequestLimit::new(
            RequestLimitSettings::new(1 << 20)
                .body_timeout(SECOND)
                .body_idle_timeout(SECOND),
        )
        .unwrap(),
    );
    let mut service = layer.layer(service_fn(async |request: Request<_>| {
        sleep(60 * SECOND).await;
        let mut body = request.into_body();
        // The same between two chunks: the handler waits for nine tenths of a second in total.
        for _ in 0..3 {
            if BodyExt::frame(&mut body).await.unwrap().is_err() {
                break;
            }
            sleep(60 * SECOND).await;
        }
        Ok::<_, Infallible>(ok(Script::default()))
    }));
    let response = service.call(upload(vec![(3, 1); 3])).await.unwrap();
    assert_eq!(response.status(), 200);
    let response = service.call(upload(vec![(4, 1); 3])).await.unwrap();
    assert_eq!(response.status(), 408, "1.2 seconds");
}

#[tokio::test(start_paused = true)]
async fn who_is_too_slow_holds_a_place_no_longer() {
    let limit = ConcurrencyLimit::from(1);
    let mut service = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(limit.clone()))
        .layer(RequestLimitLayer::new(
            RequestLimit::new(RequestLimitSettings::new(1 << 20).body_idle_timeout(SECOND))
                .unwrap(),
        ))
        .service(service_fn(reads));
    let mut call = tokio_test::task::spawn(service.call(upload(vec![(9000, 1)])));
    tokio_test::assert_pending!(call.poll());
    assert_eq!(limit.in_flight(), 1);
    advance(2 * SECOND).await;
    let response = tokio_test::assert_ready_ok!(call.poll());
    assert_eq!(response.status(), 408);
    let _ = response.into_body().collect().await;
    assert_eq!(limit.in_flight(), 0);
}

#[tokio::test]
async fn headers_and_uris() {
    let settings = RequestLimitSettings::new(10)
        .max_header_bytes(20)
        .max_headers(3)
        .max_uri(10);
    let limit = RequestLimit::new(settings).unwrap();
    let layer = RequestLimitLayer::new(limit.clone());
    let mut service = layer.layer(service_fn(reads));
    let mut status = async |uri: &str, headers: &[(&'static str, &'static str)]| {
        let mut request = get();
        *request.uri_mut() = uri.parse().unwrap();
        for (name, value) in headers {
            request
                .headers_mut()
                .append(*name, HeaderValue::from_static(value));
        }
        service.call(request).await.unwrap().status().as_u16()
    };
    assert_eq!(status("/", &[]).await, 200);
    assert_eq!(status("/a?b=45678", &[]).await, 200, "ten bytes");
    assert_eq!(status("/a?b=456789", &[]).await, 414);
    assert_eq!(
        status("http://somewhere.else/a", &[]).await,
        200,
        "the target alone"
    );
    assert_eq!(
        status("/", &[("a", "1"), ("b", "2"), ("c", "3")]).await,
        200
    );
    assert_eq!(
        status("/", &[("a", "1"), ("a", "2"), ("a", "3"), ("a", "4")]).await,
        431,
        "too many"
    );
    assert_eq!(
        status("/", &[("a", "1234567890123456789")]).await,
        200,
        "twenty bytes"
    );
    assert_eq!(
        status("/", &[("a", "12345678901234567890")]).await,
        431,
        "too large"
    );
    assert_eq!(
        status("/a?b=456789", &[("a", "12345678901234567890")]).await,
        414,
        "the first wins"
    );
    let settings = limit
        .settings()
        .max_uri(1000)
        .max_header_bytes(1000)
        .max_headers(1000);
    limit.set(settings).unwrap();
    assert_eq!(
        status("/a?b=456789", &[("a", "12345678901234567890")]).await,
        200
    );
    assert_eq!(limit.snapshot().rejected, 4);
}

/// The settings can be read, and `None` turns a bound off.
#[tokio::test(start_paused = true)]
async fn what_holds_can_be_seen_and_lifted() {
    let limit = RequestLimit::from(1 << 20);
    let now = limit.settings();
    assert_eq!(
        (now.max_header_bytes, now.max_headers, now.max_uri),
        (None, None, None)
    );
    assert_eq!(
        (now.body_idle_timeout, now.body_timeout, now.min_body_rate),
        (None, None, None)
    );
    let layer = RequestLimitLayer::new(limit.clone());
    let settings = limit
        .settings()
        .max_header_bytes(1)
        .max_headers(2)
        .max_uri(3)
        .body_idle_timeout(SECOND)
        .body_timeout(2 * SECOND)
        .min_body_rate(4, 3 * SECOND);
    limit.set(settings).unwrap();
    let now = limit.settings();
    assert_eq!(
        (now.max_header_bytes, now.max_headers, now.max_uri),
        (Some(1), Some(2), Some(3))
    );
    assert_eq!(
        (now.body_idle_timeout, now.body_timeout),
        (Some(SECOND), Some(2 * SECOND))
    );
    let rate = now.min_body_rate.unwrap();
    assert_eq!((rate.bytes_per_second, rate.grace), (4, 3 * SECOND));
    let mut settings = limit.settings().body_idle_timeout(None).body_timeout(None);
    settings.min_body_rate = None;
    limit.set(settings).unwrap();
    assert_eq!(sent(&layer, vec![(9000, 1)]).await, (200, 900.0));
}

/// A handler that has worked in between waits for as long as one that has not.
#[tokio::test(start_paused = true)]
async fn a_wait_after_work_has_the_whole_idle_time() {
    let settings = RequestLimitSettings::new(1 << 20).body_idle_timeout(SECOND);
    let layer = RequestLimitLayer::new(RequestLimit::new(settings).unwrap());
    let mut service = layer.layer(service_fn(works));
    let (response, _) = timed(service.call(upload(vec![(605, 1)]))).await;
    assert_eq!(response.unwrap().status(), 200);
    let (response, took) = timed(service.call(upload(vec![(900, 1)]))).await;
    assert_eq!(response.unwrap().status(), 408);
    assert_eq!(took, 61 * SECOND);
}

/// Polls the body only when it is woken.
async fn beside_work(
    request: Request<seawall::RequestBody<Upload>>,
) -> Result<Response<Script>, Infallible> {
    let work = async {
        loop {
            sleep(TENTH).await;
        }
    };
    let mut both = stream::FuturesUnordered::new();
    both.push(reads(request).boxed());
    both.push(work.boxed());
    both.next().await.unwrap()
}

/// To the gate, such a handler seems to begin a new wait each time.
#[tokio::test(start_paused = true)]
async fn a_silent_body_beside_other_work_ends() {
    let settings = RequestLimitSettings::new(1 << 20).body_idle_timeout(SECOND);
    let layer = RequestLimitLayer::new(RequestLimit::new(settings).unwrap());
    let mut service = layer.layer(service_fn(beside_work));
    let (response, took) = timed(service.call(upload(vec![(900, 1)]))).await;
    assert_eq!(response.unwrap().status(), 408);
    assert_eq!(took, 2 * SECOND);
}

/// Nested limits: an inner layer can only lower the limit.
#[tokio::test(start_paused = true)]
async fn nested_limits() {
    for (outer, inner) in [(2, 1), (1, 2)] {
        let of = |seconds: u32| {
            RequestLimitLayer::new(
                RequestLimit::new(
                    RequestLimitSettings::new(1 << 20).body_idle_timeout(seconds * SECOND),
                )
                .unwrap(),
            )
        };
        let mut service = ServiceBuilder::new()
            .layer(of(outer))
            .layer(of(inner))
            .service(service_fn(reads));
        let (response, took) = timed(service.call(upload(vec![(30, 1)]))).await;
        assert_eq!((response.unwrap().status().as_u16(), took), (408, SECOND));
    }
}

/// Polls the body once, which is pending, and then does something else for a minute.
async fn works<B>(request: Request<B>) -> Result<Response<Script>, Infallible>
where
    B: http_body::Body<Data = Bytes, Error = BodyError> + Send,
{
    let (parts, body) = request.into_parts();
    let mut body = Box::pin(body);
    let is_pending = std::future::poll_fn(|cx| {
        let polled = http_body::Body::poll_frame(body.as_mut(), cx);
        std::task::Poll::Ready(polled.is_pending())
    });
    assert!(is_pending.await);
    sleep(60 * SECOND).await;
    reads(Request::from_parts(parts, body)).await
}

/// A handler that has begun to wait for the body, and then works, does not wait.
#[tokio::test(start_paused = true)]
async fn work_after_a_poll_of_the_body_does_not_count() {
    for settings in [
        RequestLimitSettings::new(1 << 20).body_timeout(SECOND),
        RequestLimitSettings::new(1 << 20).min_body_rate(10, SECOND),
    ] {
        let layer = RequestLimitLayer::new(RequestLimit::new(settings).unwrap());
        let mut service = layer.layer(service_fn(works));
        let response = service.call(upload(vec![(3, 1); 2])).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    // The wait after the work counts, and the time until the service is polled without the body:
    // three tenths, after which the first chunk arrives.
    let settings = RequestLimitSettings::new(1 << 20).body_timeout(SECOND);
    let mut service =
        RequestLimitLayer::new(RequestLimit::new(settings).unwrap()).layer(service_fn(works));
    let (response, took) = timed(service.call(upload(vec![(3, 1), (20, 1)]))).await;
    assert_eq!(response.unwrap().status(), 408);
    assert_eq!(took, 60 * SECOND + 7 * TENTH);
    // The service caused a timeout that passes while it works.
    let policies = (seawall::Timeout::from(SECOND), RequestLimit::from(1 << 20));
    let mut service = seawall::GateLayer::from_policy(policies).layer(service_fn(works));
    let response = service.call(upload(vec![(3, 1); 2])).await.unwrap();
    assert_eq!(response.status(), 504);
}
