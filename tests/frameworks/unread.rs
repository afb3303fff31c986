//! Responses that a client does not read, over real sockets: it has opened no window for them. The
//! times are short and real, and no test asserts a duration.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, ResponseBodyTimeoutSettings, TimeoutLayer};
use tokio::net::TcpStream;
use tower::ServiceBuilder;
use tower_http::compression::CompressionLayer;

use crate::support::*;

const SHORT: Duration = Duration::from_millis(50);

/// A small body of known length, whose first frame is not its end.
async fn small() -> Body {
    let trailers = async { None::<Result<http::HeaderMap, Infallible>> };
    Body::new(Full::new(Bytes::from_static(b"abc")).with_trailers(trailers))
}

/// Pauses after its first chunk, and is always ready after that.
async fn pauses() -> Body {
    let first = stream::iter(["chunk"]);
    let later = stream::once(tokio::time::sleep(SHORT)).flat_map(|()| stream::repeat("chunk"));
    Body::from_stream(first.chain(later).map(Ok::<_, Infallible>))
}

#[tokio::test]
async fn a_client_without_a_window_holds_no_permit() {
    let limit = ConcurrencyLimit::from(10);
    let bodies = ResponseBodyTimeoutSettings::default().progress_timeout(4 * SHORT);
    let app = Router::new()
        .route("/small", get(small))
        .route("/pauses", get(pauses))
        .layer(
            ServiceBuilder::new()
                .layer(CompressionLayer::new())
                .layer(TimeoutLayer::new(PATIENCE).response_body_timeout(bodies))
                .layer(ConcurrencyLimitLayer::new(limit.clone())),
        );
    let address = serve(app).await;
    for (path, encoding) in [
        ("/small", "identity"),
        ("/pauses", "identity"),
        ("/pauses", "gzip"),
    ] {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(0);
        let (mut client, connection) = builder.handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(format!("http://localhost{path}"))
            .header("accept-encoding", encoding)
            .body(Body::empty());
        let response = client.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        let is_compressed = response.headers().contains_key("content-encoding");
        assert_eq!(is_compressed, encoding == "gzip");
        let released = async {
            while limit.in_flight() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let released = tokio::time::timeout(PATIENCE, released).await;
        assert!(released.is_ok(), "{path}, {encoding}: it holds its permit");
        drop(response);
    }
}
