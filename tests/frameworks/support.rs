//! A server on port 0, and clients that own their connection.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

/// A bound for tests that hang; no test measures it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(crate) async fn serve(app: axum::Router) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// One connection.
pub(crate) enum Client {
    Http1(hyper::client::conn::http1::SendRequest<Body>),
    Http2(hyper::client::conn::http2::SendRequest<Body>),
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, version: Version) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        match version {
            Version::Http1 => {
                let (client, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                Self::Http1(client)
            }
            Version::Http2 => {
                let executor = TokioExecutor::new();
                let handshake = hyper::client::conn::http2::handshake(executor, io);
                let (client, connection) = handshake.await.unwrap();
                tokio::spawn(connection);
                Self::Http2(client)
            }
        }
    }

    /// Sends on this connection. Fails if it is closed.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> hyper::Result<Response<Incoming>> {
        let sent = async {
            match self {
                Self::Http1(client) => {
                    client.ready().await?;
                    client.send_request(request).await
                }
                Self::Http2(client) => {
                    client.ready().await?;
                    client.send_request(request).await
                }
            }
        };
        tokio::time::timeout(PATIENCE, sent)
            .await
            .expect("no answer")
    }

    /// A GET and its whole body.
    pub(crate) async fn get(&mut self, path: &str) -> (Response<()>, Bytes) {
        let request = self.request("GET", path, Body::empty());
        whole(self.send(request).await.unwrap()).await
    }

    /// HTTP/1 needs a host and a path, HTTP/2 the whole URI.
    pub(crate) fn request(&self, method: &str, path: &str, body: Body) -> Request<Body> {
        let request = Request::builder().method(method);
        match self {
            Self::Http1(_) => request.uri(path).header("host", "localhost"),
            Self::Http2(_) => request
                .version(http::Version::HTTP_2)
                .uri(format!("http://localhost{path}")),
        }
        .body(body)
        .unwrap()
    }
}

pub(crate) async fn whole(response: Response<Incoming>) -> (Response<()>, Bytes) {
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect());
    let body = body.await.expect("the body has no end").unwrap().to_bytes();
    (Response::from_parts(parts, ()), body)
}

/// A body of unknown length.
pub(crate) fn chunked(chunks: usize, size: usize) -> Body {
    let chunk = Bytes::from(vec![0; size]);
    Body::from_stream(futures_util::stream::iter(
        (0..chunks).map(move |_| Ok::<_, std::convert::Infallible>(chunk.clone())),
    ))
}
