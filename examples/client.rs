//! A client behind a breaker per host, a time-out and a concurrency limit, against two servers that this example starts
//! itself. One of them is flaky: it works, fails, hangs and works again, and the breaker's changes are printed as it does. It
//! runs to the end by itself, in about ten seconds:
//!
//! ```text
//! cargo run --release --example client --features keyed
//! cargo run --release --example client --features keyed -- --phase-ms 5000 --open-ms 500
//! ```
//!
//! What to look at: while the flaky host fails or hangs, calls to it are refused at once; those to the steady host go on;
//! when it works again, a few probes find out. With `--no-breaker` the calls that hang take most of the places that there are,
//! so that calls to the steady host are refused as well.

#![expect(clippy::disallowed_methods, reason = "it shows when things happen")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use clap::Parser;
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use seawall::circuit_breaker::{CircuitBreakers, CircuitBreakersLayer, Window};
use seawall::{
    CircuitBreaker, ConcurrencyLimit, ConcurrencyLimitLayer, Reason, Rejection, TimeoutLayer,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

/// A client behind a breaker per host.
#[derive(Clone, Parser)]
struct Args {
    /// How long the flaky server stays in each of its moods, in milliseconds.
    #[arg(long, default_value_t = 2500)]
    phase_ms: u64,
    /// How long a breaker stays open, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    open_ms: u64,
    /// How long ago a call may be to count, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    window_ms: u64,
    /// How long a call has until its response head, in milliseconds.
    #[arg(long, default_value_t = 200)]
    timeout_ms: u64,
    /// Calls a second to each host.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Calls under way at once, to all hosts together.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// Lets every call through, to see what the breakers are for.
    #[arg(long)]
    no_breaker: bool,
}

/// What the flaky server does.
const MOODS: [&str; 4] = ["works", "fails", "hangs", "works"];

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    let mood = Arc::new(AtomicU8::new(0));
    let steady = serve(Arc::default()).await?;
    let flaky = serve(mood.clone()).await?;
    println!("steady: http://{steady}, flaky: http://{flaky}");

    let breakers: CircuitBreakers<Authority> = CircuitBreaker::builder()
        .window(Window::time(Duration::from_millis(args.window_ms)))
        .open_for(Duration::from_millis(args.open_ms))
        .name("upstream")
        .keyed()
        .build()?;
    if args.no_breaker {
        breakers.observe_only();
    }
    let begin = Instant::now();
    breakers.on_transition(move |host, transition| {
        println!(
            "{:6.2} s  {host}  {transition}",
            begin.elapsed().as_secs_f64()
        );
    });

    let client = ServiceBuilder::new()
        .layer(CircuitBreakersLayer::new(
            breakers.by_head(|head| head.uri.authority().cloned()),
        ))
        .layer(TimeoutLayer::new(Duration::from_millis(args.timeout_ms)))
        .layer(ConcurrencyLimitLayer::new(ConcurrencyLimit::try_new(
            args.concurrency,
        )?))
        // One kind of error for whatever is outside.
        .map_err(BoxError::from)
        .service(Client::builder(TokioExecutor::new()).build_http::<Body>());

    for (phase, what) in (0..).zip(MOODS) {
        mood.store(phase, Relaxed);
        println!(
            "{:6.2} s  the flaky server {what}",
            begin.elapsed().as_secs_f64()
        );
        let hosts = [("steady", steady), ("flaky", flaky)];
        let calls = call_for(&args, &client, &hosts).await?;
        for (host, results) in calls {
            let results: Vec<_> = results
                .iter()
                .map(|(what, n)| format!("{n} {what}"))
                .collect();
            println!("          {host}: {}", results.join(", "));
        }
    }
    for (host, breaker) in breakers.snapshot() {
        let (state, changes) = (breaker.state, breaker.transitions);
        println!(
            "{host}: {state}, {changes} changes, {} refused",
            breaker.rejected
        );
    }
    Ok(())
}

/// What came of the calls to each host.
type Results = BTreeMap<&'static str, BTreeMap<String, u32>>;

/// Calls each host at a steady rate for one phase, whatever becomes of the calls before.
async fn call_for<S, B>(
    args: &Args,
    client: &S,
    hosts: &[(&'static str, SocketAddr)],
) -> Result<Results, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let mut ticks = interval(Duration::from_secs(1) / args.rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = Instant::now() + Duration::from_millis(args.phase_ms);
    let mut calls = JoinSet::new();
    while Instant::now() < end {
        ticks.tick().await;
        for (name, address) in hosts.iter().copied() {
            let client = client.clone();
            calls.spawn(async move { (name, call(client, address).await) });
        }
    }
    let mut results = Results::new();
    while let Some(done) = calls.join_next().await {
        let (name, result) = done?;
        *results.entry(name).or_default().entry(result).or_default() += 1;
    }
    Ok(results)
}

/// One call, and what became of it in a word.
async fn call<S, B>(client: S, address: SocketAddr) -> String
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Error: Into<BoxError>>,
{
    let request = Request::get(format!("http://{address}/")).body(Body::empty());
    let request = request.expect("an address makes a URI");
    let response = match client.oneshot(request).await {
        Ok(response) => response,
        Err(error) => return error.to_string(),
    };
    // A refusal and a time-out are answers here: the rejection is in their extensions.
    let rejection = response
        .extensions()
        .get::<Rejection>()
        .map(Rejection::reason);
    let status = response.status();
    let _ = response.into_body().collect().await;
    match rejection {
        Some(Reason::CircuitOpen) => "refused: the circuit is open".to_owned(),
        Some(reason) => reason.to_string(),
        None => status.to_string(),
    }
}

/// A server on a port of its own that does what its mood says.
async fn serve(mood: Arc<AtomicU8>) -> Result<SocketAddr, BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let mood = mood.clone();
            let service = hyper::service::service_fn(move |_| {
                let mood = MOODS[usize::from(mood.load(Relaxed))];
                answer(mood)
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(connection), service);
            tokio::spawn(connection);
        }
    });
    Ok(address)
}

async fn answer(mood: &str) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from("hello"));
    match mood {
        "fails" => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
        "hangs" => sleep(Duration::from_secs(3600)).await,
        _ => {}
    }
    Ok(response)
}
