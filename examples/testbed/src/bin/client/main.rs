//! To see what a circuit breaker for each host does while one of two hosts fails and recovers.
//!
//! The example starts both servers itself, calls them through `seawall::client()`, and prints each
//! change of state of the breakers. It ends after about ten seconds:
//!
//! ```text
//! cargo run --release -p testbed --bin client
//! cargo run --release -p testbed --bin client -- --grpc
//! cargo run --release -p testbed --bin client -- --phase-ms 5000 --open-ms 500
//! ```
//!
//! `http.rs` is a hyper client, whose stack finds the breaker of each host by the URI; `grpc.rs`
//! has a tonic channel, with a stack of its own, for each host.
//!
//! What to look at: while the flaky host fails or hangs, calls to it are rejected at once, and
//! calls to the steady host go on. When it works again, a few probes detect it. With
//! `--no-breaker`, the calls that hang hold most of the permits, so that calls to the steady host
//! are rejected as well.

#![expect(clippy::disallowed_methods, reason = "it shows when things happen")]

mod grpc;
mod http;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use ::http::uri::Authority;
use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use clap::Parser;
use seawall::circuit_breaker::{CircuitBreakers, Window};
use seawall::{CircuitBreakerSettings, ConcurrencyLimit};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tower::BoxError;

/// A client behind the recommended stack of seawall, with a breaker for each host.
#[derive(Clone, Parser)]
struct Args {
    /// gRPC instead of HTTP.
    #[arg(long)]
    grpc: bool,
    /// The length of each phase of the flaky server, in milliseconds.
    #[arg(long, default_value_t = 2500)]
    phase_ms: u64,
    /// The open time of a breaker, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    open_ms: u64,
    /// The length of the window in which calls count, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    window_ms: u64,
    /// The time that a call has until its response head, in milliseconds.
    #[arg(long, default_value_t = 200)]
    timeout_ms: u64,
    /// Calls a second to each host.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// The upper bound for the calls in flight, to all hosts together.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// The breakers only observe, to show their effect.
    #[arg(long)]
    no_breaker: bool,
}

/// The phases of the flaky server.
const MOODS: [&str; 4] = ["works", "fails", "hangs", "works"];

/// The phase of a server, an index into `MOODS`.
#[derive(Clone, Default)]
struct Mood(Arc<AtomicU8>);

/// The parts of the clients, over HTTP and over gRPC.
struct Parts {
    breakers: CircuitBreakers<Authority>,
    timeout: Duration,
    limit: ConcurrencyLimit,
}

type Hosts = [(&'static str, SocketAddr); 2];

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    let routes = if args.grpc {
        grpc::routes
    } else {
        http::routes
    };
    let mood = Mood::default();
    let steady = serve(routes(Mood::default())).await?;
    let flaky = serve(routes(mood.clone())).await?;
    println!("steady: http://{steady}, flaky: http://{flaky}");
    let hosts = [("steady", steady), ("flaky", flaky)];

    let settings = CircuitBreakerSettings::default()
        .window(Window::time_based(Duration::from_millis(args.window_ms)))
        .open_duration(Duration::from_millis(args.open_ms));
    let breakers: CircuitBreakers<Authority> = CircuitBreakers::new(settings)?.named("upstream");
    if args.no_breaker {
        breakers.observe_only();
    }
    let begin = Instant::now();
    breakers.on_transition(move |host, transition| {
        let now = begin.elapsed().as_secs_f64();
        println!("{now:6.2} s  {host}  {transition}");
    });
    let parts = Parts {
        breakers: breakers.clone(),
        timeout: Duration::from_millis(args.timeout_ms),
        limit: ConcurrencyLimit::new(args.concurrency)?,
    };
    if args.grpc {
        run(&args, &mood, hosts, begin, grpc::client(&parts, hosts)?).await?;
    } else {
        run(&args, &mood, hosts, begin, http::client(&parts)?).await?;
    }
    for (host, breaker) in breakers.snapshot().keys {
        let (state, changes) = (breaker.state, breaker.transitions);
        println!(
            "{host}: {state}, {changes} changes, {} rejected",
            breaker.rejected
        );
    }
    Ok(())
}

/// Calls both servers while the flaky one goes through its phases.
async fn run<F>(
    args: &Args,
    mood: &Mood,
    hosts: Hosts,
    begin: Instant,
    call: impl Fn(SocketAddr) -> F,
) -> Result<(), BoxError>
where
    F: Future<Output = String> + Send + 'static,
{
    for (phase, what) in (0..).zip(MOODS) {
        mood.0.store(phase, Relaxed);
        let now = begin.elapsed().as_secs_f64();
        println!("{now:6.2} s  the flaky server {what}");
        for (host, results) in call_for(args, hosts, &call).await? {
            let results: Vec<_> = results
                .iter()
                .map(|(what, n)| format!("{n} {what}"))
                .collect();
            println!("          {host}: {}", results.join(", "));
        }
    }
    Ok(())
}

/// The number of calls to each host, by result.
type Results = BTreeMap<&'static str, BTreeMap<String, u32>>;

/// Calls each host at a steady rate for one phase, without waiting for earlier calls.
async fn call_for<F>(
    args: &Args,
    hosts: Hosts,
    call: impl Fn(SocketAddr) -> F,
) -> Result<Results, BoxError>
where
    F: Future<Output = String> + Send + 'static,
{
    let mut ticks = interval(Duration::from_secs(1) / args.rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = Instant::now() + Duration::from_millis(args.phase_ms);
    let mut calls = JoinSet::new();
    while Instant::now() < end {
        ticks.tick().await;
        for (name, address) in hosts {
            let call = call(address);
            calls.spawn(async move { (name, call.await) });
        }
    }
    let mut results = Results::new();
    while let Some(done) = calls.join_next().await {
        let (name, result) = done?;
        *results.entry(name).or_default().entry(result).or_default() += 1;
    }
    Ok(results)
}

/// A server on a port of its own.
async fn serve(routes: Router) -> Result<SocketAddr, BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, routes).into_future());
    Ok(address)
}

// === impl Mood ===

impl Mood {
    /// Serves, fails or hangs.
    async fn answer(self, request: Request, next: Next, failed: fn() -> Response) -> Response {
        match MOODS[usize::from(self.0.load(Relaxed))] {
            "fails" => failed(),
            "hangs" => std::future::pending().await,
            _ => next.run(request).await,
        }
    }
}
