//! For manual tests and load tests of every layer under bare hyper, HTTP/1 and HTTP/2 on one port.
//!
//! ```text
//! cargo run --release -p testbed --bin hyper -- --concurrency 16
//!
//! curl -i localhost:3000/                            # 200
//! curl -i --http2-prior-knowledge localhost:3000/    # 200, HTTP/2
//! curl -i localhost:3000/panic localhost:3000/       # 500, then 200 on the same connection
//! curl -i localhost:3000/sleep?6000                  # 504 after 5 s
//! head -c 2200000 /dev/zero |
//!     curl -i -X POST -T- localhost:3000/echo        # 413, chunked
//! hey -c 1440 -z 5s http://localhost:3000/sleep?100  # 200 and 503: too many at once
//! bash -c 'exec 3<>/dev/tcp/localhost/3000
//!     printf GE >&3; cat <&3'                        # ends after 5 s: slow headers
//! curl -i localhost:3000/health                      # 200, meanwhile
//! ```
//!
//! The flags are in `--help`. The layers log. At Ctrl-C or SIGTERM the
//! server drains: it serves for one more second, and then waits for the requests in flight.

use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tower::{BoxError, Layer, service_fn};

/// A hyper server behind the recommended stack of seawall.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: testbed::Common,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let Args { common } = Args::parse();
    let drain = common.drain()?;
    let stack = common
        .server(&drain, common.request_limit())
        .exempt(|head| head.path() == "/health")
        .keep_requests()
        .build()?;
    let service = stack.layer(service_fn(answer));
    let listener = common.listen().await?;
    common.serve(&drain, listener, service).await;
    Ok(())
}

/// The body that a handler gets: hyper's body with the request limit around it.
type Body = seawall::RequestBody<Incoming>;

async fn answer(request: Request<Body>) -> Result<Response<Full<Bytes>>, BoxError> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let mut response = Response::new(Full::from("hello\n"));
    match request.uri().path() {
        "/" => {}
        "/health" => *response.body_mut() = Full::from("ok\n"),
        "/panic" => panic!("as requested"),
        "/sleep" => {
            let ms = query.parse().unwrap_or(100);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        // A body that is too large is an error here. The stack answers 413, independent of the
        // handler's answer to the error.
        "/echo" => *response.body_mut() = request.into_body().collect().await?.to_bytes().into(),
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}
