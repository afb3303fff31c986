//! The cost of a rejection over a socket, beside the cheapest response of hyper.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use seawall::{ConcurrencyLimit, ConcurrencyLimitLayer, WireProtocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service, service_fn};

const CONNECTIONS: usize = 16;
const SECONDS: u64 = 2;
const ROUNDS: usize = 5;

fn on_core(core: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(core) = cores.get(core) {
        core_affinity::set_for_current(*core);
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

/// Serves on a core of its own until the process ends.
fn serve<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes, Error: Into<tower::BoxError>> + Send + 'static,
{
    let (sender, address) = mpsc::channel();
    thread::spawn(move || {
        on_core(0);
        block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            sender.send(address).expect("a receiver");
            while let Ok((connection, _)) = listener.accept().await {
                let service = TowerToHyperService::new(service.clone());
                let connection = TokioIo::new(connection);
                tokio::spawn(http1::Builder::new().serve_connection(connection, service));
            }
        });
    });
    address.recv().expect("an address")
}

/// The responses per second of one core. Each connection sends its next request after it has read
/// the previous response.
#[expect(clippy::disallowed_methods, reason = "it measures wall-clock time")]
fn rate(address: SocketAddr, status: &'static [u8]) -> f64 {
    on_core(1);
    let end = Instant::now() + Duration::from_secs(SECONDS);
    block_on(async {
        let clients = (0..CONNECTIONS).map(|_| async move {
            let mut connection = TcpStream::connect(address).await.expect("it listens");
            let mut answer = [0; 1024];
            let mut answers = 0_u64;
            while Instant::now() < end {
                let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
                connection.write_all(request).await.expect("it reads");
                // Both responses are short and arrive in one read.
                let read = connection.read(&mut answer).await.expect("it answers");
                assert!(answer[..read].starts_with(status));
                answers += 1;
            }
            answers
        });
        let answers = futures_util::future::join_all(clients).await;
        answers.iter().sum::<u64>() as f64 / SECONDS as f64
    })
}

pub(crate) fn print() {
    let empty = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let limit = ConcurrencyLimit::from(1);
    let permit = limit.try_acquire_owned();
    // The bytes of a rejection, from a service without a layer.
    let rejection = limit.try_acquire().expect_err("it is full");
    let rejected = rejection
        .to_response(WireProtocol::new(http::Version::HTTP_11, false))
        .map(Full::new);
    let same = service_fn(move |_: Request<Incoming>| ready(Ok::<_, Infallible>(rejected.clone())));
    let bare = serve(empty);
    let same = serve(same);
    let full = serve(ConcurrencyLimitLayer::new(limit).layer(empty));
    let rounds = [(); ROUNDS].map(|()| {
        let served = rate(bare, b"HTTP/1.1 200");
        let shares = [same, full].map(|server| rate(server, b"HTTP/1.1 503") / served);
        [served, shares[0], shares[1]]
    });
    drop(permit);
    let [served, same, ours] = [0, 1, 2].map(|column| median(rounds.map(|round| round[column])));
    println!(
        "\none core of bare hyper sends {served:.0} empty 200 a second over {CONNECTIONS} \
         connections; {ours:.2} as many rejections of ours, {same:.2} as many of the same 503 \
         without a layer"
    );
}

fn median(mut numbers: [f64; ROUNDS]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[ROUNDS / 2]
}
