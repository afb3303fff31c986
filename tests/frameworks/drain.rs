//! A drain in every framework, over real sockets and under virtual time. No client sees an error
//! before the grace period is over, and the server ends soon after it, whatever clients do.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::sse::{Event, Sse};
use axum::routing::get;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use seawall::drain::DrainSignal;
use seawall::{Drain, DrainReport, DrainState};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc as channel};
use tokio::task::JoinHandle;
use tokio::time::{advance, timeout};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tower::BoxError;

use crate::support::*;

const LAME_DUCK: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(5);
const MILLI: Duration = Duration::from_millis(1);

/// Paused time that only [`pass`] moves: Tokio does not move it while a blocking task runs. If a
/// test hangs, the task ends after some time, and the clock moves to the next timeout.
struct Frozen(#[expect(dead_code, reason = "the task ends when it is dropped")] mpsc::Sender<()>);

impl Frozen {
    fn new() -> Self {
        tokio::time::pause();
        let (sender, ended) = mpsc::channel();
        tokio::task::spawn_blocking(move || ended.recv_timeout(PATIENCE));
        Self(sender)
    }
}

/// Moves the clock step by step, and lets tasks and sockets run in between.
async fn pass(time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(Duration::from_millis(100));
        advance(step).await;
        settle().await;
        left -= step;
    }
}

/// Lets tasks and sockets run. Use it for events that must not happen; await events that must
/// happen.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Awaits an event that must happen.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(100 * PATIENCE, future)
        .await
        .expect("it does not happen")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framework {
    Axum,
    Hyper,
    Tonic,
}

const ALL: [Framework; 3] = [Framework::Axum, Framework::Hyper, Framework::Tonic];

/// A server, and the values for which its handlers wait.
struct Server {
    framework: Framework,
    drain: Drain,
    address: SocketAddr,
    served: JoinHandle<Result<DrainReport, BoxError>>,
    /// Releases one `/slow`.
    slow: Arc<Semaphore>,
    /// Sends the frames of one `/stream`.
    streams: channel::UnboundedReceiver<channel::UnboundedSender<Result<Bytes, Infallible>>>,
}

impl Server {
    async fn new(framework: Framework) -> Self {
        let stack = seawall::server()
            .drain(Drain::new(LAME_DUCK).unwrap())
            .build()
            .unwrap();
        let drain = stack.drain().clone();
        let slow = Arc::new(Semaphore::new(0));
        let (sender, streams) = channel::unbounded_channel();
        let (waits, permits) = (slow.clone(), drain.clone());
        let app = Router::new()
            .route("/", get(async || "hello"))
            .route(
                "/slow",
                get(async move || {
                    waits.acquire().await.unwrap().forget();
                    "slow"
                }),
            )
            .route(
                "/stream",
                get(async move || {
                    let (frames, receiver) = channel::unbounded_channel();
                    sender.send(frames).unwrap();
                    Body::from_stream(UnboundedReceiverStream::new(receiver))
                }),
            )
            .route("/endless", get(async || chunked(usize::MAX, 16 * 1024)))
            .route("/events", get(events))
            .route(
                "/ws",
                get(async move |upgrade: WebSocketUpgrade| {
                    upgrade.on_upgrade(move |socket| echo(socket, permits))
                }),
            )
            .layer(stack);
        let (listener, address) = listen().await;
        let serving = drain.clone();
        let served = tokio::spawn(async move {
            match framework {
                Framework::Axum => {
                    let serve = |signal| axum::serve(listener, app).with_graceful_shutdown(signal);
                    Ok(serving.serve(serve, GRACE).await?)
                }
                Framework::Hyper => {
                    let serve = async |signal| hyper(listener, app, signal).await;
                    Ok(serving.serve(serve, GRACE).await?)
                }
                Framework::Tonic => {
                    let server = tonic::transport::Server::builder()
                        .accept_http1(true)
                        .add_routes(app.into());
                    let incoming = TcpListenerStream::new(listener);
                    let serve = |signal| {
                        let incoming = until(incoming, signal);
                        server.serve_with_incoming_shutdown(incoming, std::future::pending())
                    };
                    Ok(serving.serve(serve, GRACE).await?)
                }
            }
        });
        Self {
            framework,
            drain,
            address,
            served,
            slow,
            streams,
        }
    }

    async fn connect(&self, version: Version) -> Client {
        Client::connect(self.address, version).await
    }

    /// The response of `/stream`, in the middle of its body, and the sender of the rest.
    async fn stream(
        &mut self,
        client: &mut Client,
    ) -> (
        Incoming,
        channel::UnboundedSender<Result<Bytes, Infallible>>,
    ) {
        let request = client.request("GET", "/stream", Body::empty());
        let response = client.send(request).await.unwrap();
        let frames = soon(self.streams.recv()).await.unwrap();
        let mut body = response.into_body();
        assert_eq!(next(&frames, &mut body, "first").await, "first");
        (body, frames)
    }

    async fn report(self) -> DrainReport {
        soon(self.served).await.unwrap().unwrap()
    }
}

/// The connections of a tonic user, as in the docs.
fn until(
    incoming: TcpListenerStream,
    signal: DrainSignal,
) -> impl futures_util::Stream<Item = std::io::Result<TcpStream>> {
    futures_util::stream::unfold((incoming, signal), async |(mut incoming, mut signal)| {
        tokio::select! {
            Some(connection) = incoming.next() => Some((connection, (incoming, signal))),
            () = &mut signal => None,
        }
    })
}

/// The accept loop of a hyper-util user.
async fn hyper(listener: TcpListener, app: Router, signal: DrainSignal) -> std::io::Result<()> {
    let connections = GracefulShutdown::new();
    let mut signal = std::pin::pin!(signal);
    loop {
        let (io, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = &mut signal => break,
        };
        let builder = Builder::new(TokioExecutor::new());
        let service = TowerToHyperService::new(app.clone());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        tokio::spawn(connections.watch(connection.into_owned()));
    }
    drop(listener);
    connections.shutdown().await;
    Ok(())
}

/// Sends one event, and then none.
async fn events() -> Sse<impl futures_util::Stream<Item = Result<Event, Infallible>>> {
    let one = futures_util::stream::iter([Ok(Event::default().data("one"))]);
    Sse::new(one.chain(futures_util::stream::pending()))
}

/// Closes when the drain begins, as the docs show. The message "ignore" prevents it.
async fn echo(mut socket: WebSocket, drain: Drain) {
    let Ok(_permit) = drain.try_acquire() else {
        return;
    };
    let mut started = drain.started();
    let mut ignores = false;
    loop {
        tokio::select! {
            received = socket.recv() => {
                let Some(Ok(message)) = received else { return };
                ignores |= message.to_text().is_ok_and(|text| text == "ignore");
                if socket.send(message).await.is_err() { return }
            }
            () = &mut started, if !ignores => break,
        }
    }
    let _ = socket.send(Message::Close(None)).await;
}

type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

/// `None` in tonic, which does not upgrade connections.
async fn websocket(server: &Server) -> Option<Socket> {
    if server.framework == Framework::Tonic {
        return None;
    }
    let address = server.address;
    let stream = TcpStream::connect(address).await.unwrap();
    let url = format!("ws://{address}/ws");
    let (socket, _) = soon(tokio_tungstenite::client_async(url, stream))
        .await
        .unwrap();
    Some(socket)
}

async fn echoes(socket: &mut Option<Socket>, text: &'static str) {
    let Some(socket) = socket else { return };
    let message = tokio_tungstenite::tungstenite::Message::text(text);
    socket.send(message).await.unwrap();
    let echoed = soon(socket.next()).await.unwrap().unwrap();
    assert_eq!(echoed.to_text().unwrap(), text);
}

async fn next(
    frames: &channel::UnboundedSender<Result<Bytes, Infallible>>,
    body: &mut Incoming,
    text: &'static str,
) -> Bytes {
    frames
        .send(Ok(Bytes::from_static(text.as_bytes())))
        .unwrap();
    frame(body).await
}

async fn frame(body: &mut Incoming) -> Bytes {
    let frame = soon(body.frame()).await.unwrap().unwrap();
    frame.into_data().unwrap()
}

fn connection<B>(response: &Response<B>) -> Option<&str> {
    let value = response.headers().get("connection")?;
    Some(value.to_str().unwrap())
}

/// Clients that end their requests in time see no error, and the server ends with the last request.
#[tokio::test]
async fn nothing_is_cut_that_ends_in_time() {
    let _frozen = Frozen::new();
    for framework in ALL {
        let mut server = Server::new(framework).await;
        let mut http1 = server.connect(Version::Http1).await;
        let mut http2 = server.connect(Version::Http2).await;
        let (response, _) = http1.get("/").await;
        assert_eq!(
            (response.status().as_u16(), connection(&response)),
            (200, None)
        );
        let mut idle = server.connect(Version::Http1).await;
        idle.get("/").await;

        // Requests in flight: a stream over each version, a handler without a head, a WebSocket.
        let mut http1_streams = server.connect(Version::Http1).await;
        let (mut body1, frames1) = server.stream(&mut http1_streams).await;
        let (mut body2, frames2) = server.stream(&mut http2).await;
        let mut socket = websocket(&server).await;
        echoes(&mut socket, "hello").await;
        let mut slow = server.connect(Version::Http2).await;
        let slow_request = slow.request("GET", "/slow", Body::empty());
        let slow = tokio::spawn(async move {
            let response = slow.send(slow_request).await.unwrap();
            whole(response).await.1
        });
        while server.drain.in_flight() < 3 + usize::from(socket.is_some()) {
            settle().await;
        }

        server.drain.begin();
        // The server closes the WebSocket.
        if let Some(mut socket) = socket {
            let close = soon(socket.next()).await.unwrap().unwrap();
            assert!(close.is_close());
        }
        // The server still serves all other requests, and accepts connections.
        for _ in 0..2 {
            let (response, body) = http1.get("/").await;
            assert_eq!(
                (response.status().as_u16(), &body[..]),
                (200, &b"hello"[..])
            );
            assert_eq!(connection(&response), Some("close"), "{framework:?}");
            let again = http1.request("GET", "/", Body::empty());
            assert!(http1.send(again).await.is_err(), "the connection is closed");
            let (response, _) = http2.get("/").await;
            assert_eq!(
                (response.status().as_u16(), connection(&response)),
                (200, None)
            );
            pass((LAME_DUCK / 2).saturating_sub(2 * MILLI)).await;
            http1 = server.connect(Version::Http1).await;
        }
        assert_eq!(server.drain.state(), DrainState::LameDuck);
        // A timer may be a millisecond late.
        pass(5 * MILLI).await;
        assert_eq!(server.drain.state(), DrainState::Rejecting);

        // The server closes the idle connection, and accepts no new one.
        let again = idle.request("GET", "/", Body::empty());
        assert!(idle.send(again).await.is_err());
        assert!(TcpStream::connect(server.address).await.is_err());
        // Requests in flight go on.
        pass(GRACE / 2).await;
        assert_eq!(next(&frames1, &mut body1, "second").await, "second");
        assert_eq!(next(&frames2, &mut body2, "second").await, "second");
        assert!(!server.served.is_finished());
        server.slow.add_permits(1);
        assert_eq!(soon(slow).await.unwrap(), "slow");
        drop((frames1, frames2));
        for body in [body1, body2] {
            let rest = soon(body.collect()).await.unwrap();
            assert!(rest.to_bytes().is_empty(), "complete");
        }
        let report = server.report().await;
        assert!(report.is_clean(), "{framework:?}: {report}");
    }
}

/// Clients that do not end their requests: nothing is cut before the grace period is over, and a
/// second later the server has ended.
#[tokio::test]
async fn it_ends_whatever_clients_do() {
    let _frozen = Frozen::new();
    for framework in ALL {
        let mut server = Server::new(framework).await;
        // Streams without an end, over both versions.
        let mut http1 = server.connect(Version::Http1).await;
        let (mut body1, frames1) = server.stream(&mut http1).await;
        let mut http2 = server.connect(Version::Http2).await;
        let (mut body2, frames2) = server.stream(&mut http2).await;
        // An event stream without further events.
        let mut events = server.connect(Version::Http2).await;
        let request = events.request("GET", "/events", Body::empty());
        let mut events_body = events.send(request).await.unwrap().into_body();
        assert_eq!(frame(&mut events_body).await, "data: one\n\n");
        // Clients that do not read.
        let mut deaf1 = TcpStream::connect(server.address).await.unwrap();
        deaf1
            .write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let mut deaf2 = server.connect(Version::Http2).await;
        let request = deaf2.request("GET", "/endless", Body::empty());
        let deaf2_response = deaf2.send(request).await.unwrap();
        // A client that reads all the time.
        let mut busy = server.connect(Version::Http1).await;
        let request = busy.request("GET", "/endless", Body::empty());
        let mut busy_body = busy.send(request).await.unwrap().into_body();
        let busy = tokio::spawn(async move {
            while let Some(Ok(_)) = busy_body.frame().await {
                tokio::task::yield_now().await;
            }
        });
        // A WebSocket that ignores the drain, and a handler that never answers.
        let mut socket = websocket(&server).await;
        echoes(&mut socket, "ignore").await;
        let mut slow = server.connect(Version::Http1).await;
        let request = slow.request("GET", "/slow", Body::empty());
        let slow = tokio::spawn(async move { slow.send(request).await.is_ok() });
        let left = 1 + usize::from(socket.is_some());
        while server.drain.in_flight() < 6 + left {
            settle().await;
        }

        server.drain.begin();
        pass((LAME_DUCK + GRACE).saturating_sub(MILLI)).await;
        assert_eq!(next(&frames1, &mut body1, "last").await, "last");
        assert_eq!(next(&frames2, &mut body2, "last").await, "last");
        echoes(&mut socket, "last").await;
        let now = server.drain.snapshot();
        assert_eq!((now.cut, now.in_flight), (0, 6 + left), "{framework:?}");
        assert!(!server.served.is_finished());
        assert!(!busy.is_finished());

        pass(Duration::from_secs(1)).await;
        let report = server.report().await;
        // The WebSocket and the handler are not cut. They end with the process.
        assert_eq!((report.cut, report.left), (6, left), "{framework:?}");
        // The clients see that the bodies are incomplete.
        assert!(soon(body1.frame()).await.unwrap().is_err());
        assert!(soon(body2.frame()).await.unwrap().is_err());
        assert!(soon(events_body.frame()).await.unwrap().is_err());
        soon(busy).await.unwrap();
        assert!(!slow.is_finished());
        slow.abort();
        drop((deaf1, deaf2_response, socket));
    }
}

/// A server that the drain does not shut down goes on, and rejects requests.
#[tokio::test]
async fn requests_are_rejected_after_the_lame_duck_time() {
    let _frozen = Frozen::new();
    let stack = seawall::server()
        .drain(Drain::new(LAME_DUCK).unwrap())
        .exempt(|head| head.path() == "/health")
        .build()
        .unwrap();
    let app = Router::new()
        .route("/", get(async || "hello"))
        .route("/health", get(async || "ok"))
        .layer(stack.clone());
    let address = serve(app).await;
    stack.drain().begin();
    pass(LAME_DUCK).await;
    for version in [Version::Http1, Version::Http2] {
        let mut client = Client::connect(address, version).await;
        assert_eq!(client.get("/health").await.0.status(), 200);
        let (response, body) = client.get("/").await;
        assert_eq!(response.status(), 503);
        assert!(!response.headers().contains_key("retry-after"));
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains(r#""reason":"draining""#), "{body}");
        let again = client.request("GET", "/health", Body::empty());
        let again = client.send(again).await;
        match version {
            Version::Http1 => {
                assert_eq!(connection(&response), Some("close"));
                assert!(again.is_err(), "the connection is closed");
            }
            Version::Http2 => {
                assert_eq!(connection(&response), None);
                assert_eq!(again.unwrap().status(), 200);
                let mut call = client.request("POST", "/", Body::empty());
                let grpc = "application/grpc".parse().unwrap();
                call.headers_mut().insert("content-type", grpc);
                let response = client.send(call).await.unwrap();
                assert_eq!(response.headers()["grpc-status"], "14");
            }
        }
    }
    assert!(stack.drain().wait_idle(GRACE).await.is_clean());
}
