//! Deadlines between tonic's server and tonic's client.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use seawall::{
    CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings, ConcurrencyLimit,
    ConcurrencyLimitLayer, Deadline, TimeoutLayer,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};
use tower::{Service, ServiceBuilder, service_fn};

use crate::support::*;

/// Messages are bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A message in gRPC's frame.
fn message(content: &str) -> Frame<Bytes> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
    framed.extend(content.bytes());
    Frame::data(framed.into())
}

fn fine() -> Frame<Bytes> {
    Frame::trailers(HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]))
}

type Answer = Response<tonic::body::Body>;

/// `/test/left`: the remaining time; `/test/never`; `/test/stream`: messages without end;
/// `/test/half`: one and a half messages.
async fn answer(request: Request<tonic::body::Body>) -> Result<Answer, Infallible> {
    let body = match request.uri().path() {
        "/test/never" => std::future::pending().await,
        "/test/stream" => {
            let messages = stream::repeat(()).then(async |()| {
                tokio::task::yield_now().await;
                Ok::<_, Status>(message("again"))
            });
            tonic::body::Body::new(StreamBody::new(messages))
        }
        "/test/half" => {
            let half = message("again").into_data().unwrap().slice(..7);
            let frames = stream::iter([Ok::<_, Status>(message("again")), Ok(Frame::data(half))]);
            tonic::body::Body::new(StreamBody::new(frames.chain(stream::pending())))
        }
        _ => {
            let deadline: &Deadline = request.extensions().get().unwrap();
            let left = deadline.to_grpc_timeout();
            let frames = [Ok::<_, Status>(message(left.to_str().unwrap())), Ok(fine())];
            tonic::body::Body::new(StreamBody::new(stream::iter(frames)))
        }
    };
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    Ok(response)
}

#[derive(Clone)]
struct Test<S>(S);

impl<S> NamedService for Test<S> {
    const NAME: &'static str = "test";
}

impl<S: Service<R>, R> Service<R> for Test<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.0.call(request)
    }
}

async fn server(time: Duration) -> (Channel, ConcurrencyLimit) {
    let (address, limit) = serve_for(time).await;
    let channel = Endpoint::new(format!("http://{address}")).unwrap();
    (channel.connect().await.unwrap(), limit)
}

async fn serve_for(time: Duration) -> (SocketAddr, ConcurrencyLimit) {
    let limit = ConcurrencyLimit::from(10);
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(time).including_body().expose_deadline())
        .layer(ConcurrencyLimitLayer::new(limit.clone()))
        .into_inner();
    let (listener, address) = listen().await;
    let service = Test(service_fn(|request| {
        Box::pin(answer(request)) as futures_util::future::BoxFuture<'static, _>
    }));
    let server = Server::builder().layer(stack).add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, limit)
}

/// All messages of a call, and its status.
async fn call(channel: &Channel, path: &'static str, time: Option<Duration>) -> (Vec<Bytes>, Code) {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(Bytes::new());
    if let Some(time) = time {
        // Sets the header as `set_timeout` does, without the client's own timer, which would race
        // with the answer of the server.
        let value = format!("{}m", time.as_millis()).parse().unwrap();
        request.metadata_mut().insert("grpc-timeout", value);
    }
    let path = http::uri::PathAndQuery::from_static(path);
    let called = async {
        let mut messages = Vec::new();
        let mut stream = match client.server_streaming(request, path, Raw).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (messages, status.code()),
        };
        loop {
            match stream.message().await {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return (messages, Code::Ok),
                Err(status) => return (messages, status.code()),
            }
        }
    };
    tokio::time::timeout(PATIENCE, called)
        .await
        .expect("it ends")
}

/// Tonic's server has its own timer for the header around this crate, which would answer
/// `CANCELLED`. The client has one too, so the test uses a client without it.
#[tokio::test]
async fn tonic_s_own_timer_does_not_come_first() {
    let (address, _) = serve_for(Duration::from_secs(3600)).await;
    let mut client = Client::connect(address, Version::Http2).await;
    for _ in 0..20 {
        let mut request = client.request("POST", "/test/never", axum::body::Body::empty());
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-timeout", HeaderValue::from_static("3m"));
        let response = client.send(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "4");
    }
}

#[tokio::test]
async fn a_stream_ends_with_deadline_exceeded() {
    let (channel, limit) = server(Duration::from_millis(100)).await;
    let (messages, code) = call(&channel, "/test/stream", None).await;
    assert!(!messages.is_empty() && messages.iter().all(|message| message == "again"));
    assert_eq!(code, Code::DeadlineExceeded);
    let (_, code) = call(&channel, "/test/never", None).await;
    assert_eq!(code, Code::DeadlineExceeded);
    let (messages, code) = call(&channel, "/test/half", None).await;
    assert_eq!(
        (messages.len(), code),
        (1, Code::DeadlineExceeded),
        "in the middle of a message"
    );
    let (_, code) = call(&channel, "/test/left", None).await;
    assert_eq!(code, Code::Ok, "the connection goes on");
    while limit.in_flight() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_caller_s_deadline_is_kept_and_passed_on() {
    let (channel, _) = server(Duration::from_secs(3600)).await;
    let short = Some(Duration::from_millis(50));
    let (_, code) = call(&channel, "/test/stream", short).await;
    assert_eq!(code, Code::DeadlineExceeded);
    let (left, code) = call(&channel, "/test/left", Some(Duration::from_secs(60))).await;
    assert_eq!(code, Code::Ok);
    // 59 999 999 microseconds, or slightly less.
    let left = std::str::from_utf8(&left[0]).unwrap();
    let micros: u64 = left.strip_suffix('u').unwrap().parse().unwrap();
    assert!(micros <= 60_000_000, "{left}");
    let (left, _) = call(&channel, "/test/left", None).await;
    assert!(
        left[0].ends_with(b"m") || left[0].ends_with(b"u"),
        "{left:?}"
    );
}

/// A generated client accepts a channel behind a breaker and a timeout.
#[tokio::test]
async fn a_channel_behind_a_breaker() {
    let (channel, _) = server(Duration::from_secs(3600)).await;
    let settings = CircuitBreakerSettings::default().minimum_calls(4);
    let breaker = CircuitBreaker::new(settings).unwrap();
    let channel = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(TimeoutLayer::new(PATIENCE).per_request(|head| {
            (head.uri.path() == "/test/never").then_some(Duration::from_millis(20))
        }))
        .service(channel);
    let ask = async |path| {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        let called = client.unary::<Bytes, Bytes, _>(tonic::Request::new(Bytes::new()), path, Raw);
        called.await.map(drop).map_err(|status| status.code())
    };
    for _ in 0..4 {
        assert_eq!(ask("/test/never").await, Err(Code::DeadlineExceeded));
    }
    assert_eq!(ask("/test/left").await, Err(Code::Unavailable));
    assert_eq!(
        (breaker.snapshot().failures, breaker.snapshot().rejected),
        (4, 1)
    );
    breaker.reset();
    assert_eq!(ask("/test/left").await, Ok(()));
    // The outcome is in the trailers.
    assert_eq!(breaker.snapshot().calls, 1);
}
