//! What an overload does to a service, without and with a load shedder:
//!
//! ```text
//! cargo run --release --example overload                                     # 90 seconds at most
//! cargo run --release --example overload -- --law latch,toobusy,codel,seawall
//! cargo run --release --example overload -- --service-us 100 --loads 0.8,2,5
//! cargo run --release --example overload -- --await-ms 20 --loads 5
//! cargo run --release --example overload -- --http2 --workers 2
//! ```
//!
//! It starts a second process of itself, a small axum server whose handler computes, and measures
//! how many requests a second that server can answer. Then it sends a multiple of them: at Poisson
//! times, whatever the server does, with clients that give up after a second. Latency counts from
//! the time at which a request was meant to be sent. Each cell has a server of its own, and
//! includes the onset of the overload.
//!
//! It prints a table and bars, and writes `overload.svg` and `overload.json` into the current
//! directory.
//!
//! `bound` is the goodput that no law can exceed: at k times the capacity, with rejections that
//! cost a share p of a service, (1 − kp) / (1 − p) is left.

#![expect(clippy::disallowed_methods, reason = "it measures real time")]

mod laws;
mod load;
mod machine;
mod plot;
mod server;

use std::time::{Duration, Instant, SystemTime};

use clap::{Parser, ValueEnum};

use crate::load::{Clients, Tally};
use crate::server::{Role, Server};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Drives a small axum service into overload, without and with seawall.
#[derive(Parser)]
pub(crate) struct Args {
    /// The laws that decide what is rejected.
    #[arg(long, value_delimiter = ',', default_value = "none,seawall")]
    law: Vec<Law>,
    /// What a request costs on average, in microseconds of computing.
    #[arg(long, default_value_t = 2000)]
    service_us: u64,
    /// How long a request awaits before it computes, in milliseconds.
    #[arg(long, default_value_t = 0)]
    await_ms: u64,
    /// Worker threads of the server.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// A `current_thread` runtime instead.
    #[arg(long)]
    current_thread: bool,
    /// Offered loads, in multiples of the capacity.
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.8,1,2,5,10")]
    loads: Vec<f64>,
    /// How long each cell lasts.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// HTTP/2 with prior knowledge instead of HTTP/1.1.
    #[arg(long)]
    http2: bool,
    #[command(flatten)]
    role: Role,
}

/// What decides which requests are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Law {
    /// Nothing is rejected.
    None,
    /// The latch: it rejects everything for 30 s once the lag was above 100 ms.
    Latch,
    /// What node-toobusy does.
    Toobusy,
    /// What folly's Codel does, on seawall's probe.
    Codel,
    /// `LagShed::default()`.
    Seawall,
    /// Rejects everything, to measure what a rejection costs.
    #[value(hide = true)]
    Reject,
}

/// One law under one load. Ratios are of 1.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Cell {
    law: Law,
    load: f64,
    offered_per_s: f64,
    goodput_ratio: f64,
    bound: f64,
    p50_ms: f64,
    p99_ms: f64,
    rejected: f64,
    failed: f64,
    /// Why the numbers are not reliable.
    #[serde(skip_serializing_if = "Option::is_none")]
    noise: Option<String>,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    machine: String,
    seawall: &'static str,
    unix_time_s: u64,
    workers: usize,
    current_thread: bool,
    http2: bool,
    service_us: u64,
    await_ms: u64,
    seconds: f64,
    capacity_per_s: f64,
    service_cost_us: f64,
    refusal_cost_us: f64,
    cells: &'a [Cell],
}

/// What the server can do.
struct Capacity {
    per_s: f64,
    service: Duration,
    rejection: Duration,
}

/// What a run with the default flags may take: noisy cells are repeated only if there is time left.
const PATIENCE: Duration = Duration::from_secs(88);

fn main() -> Result<(), Error> {
    let args = Args::parse();
    if let Some(served) = args.role.play(&args) {
        return served;
    }
    if args
        .loads
        .iter()
        .any(|load| !(*load > 0.0 && *load <= 100.0))
    {
        return Err("--loads are multiples of the capacity, above 0 and up to 100".into());
    }
    if !(0.5..=600.0).contains(&args.seconds) || args.workers == 0 || args.service_us == 0 {
        return Err("--seconds is 0.5 to 600; --workers and --service-us are at least 1".into());
    }
    machine::raise_file_limit();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure(&args))
}

async fn measure(args: &Args) -> Result<(), Error> {
    let start = Instant::now();
    println!("{}", machine::describe());
    if args.is_pinned() {
        machine::pin(0);
    }
    let rounds_per_us = server::calibrate();
    if args.is_pinned() && machine::pin(1) {
        println!("the server has core 0 to itself, the clients have core 1");
    } else {
        println!("server and clients share the cores: latencies are not reliable");
    }
    let capacity = capacity(args, rounds_per_us).await?;
    println!(
        "capacity {:.0}/s, a service costs {:.0} µs, a rejection {:.1} µs: p = {:.4}\n",
        capacity.per_s,
        micros(capacity.service),
        micros(capacity.rejection),
        capacity.p(),
    );
    let mut cells = Vec::new();
    for &law in &args.law {
        for &load in &args.loads {
            let mut cell = cell(args, law, load, &capacity, rounds_per_us).await?;
            let length = Duration::from_secs_f64(args.seconds + 1.5);
            let left = PATIENCE.saturating_sub(length * remaining(args, cells.len()));
            if let (Some(noise), true) = (&cell.noise, start.elapsed() + length < left) {
                println!("{}: {noise}; once more", describe(&cell));
                cell = self::cell(args, law, load, &capacity, rounds_per_us).await?;
            }
            println!("{}", describe(&cell));
            cells.push(cell);
        }
    }
    println!("\n{}\n{}", plot::table(&cells), plot::bars(&cells));
    write(args, &capacity, &cells)
}

/// The number of cells after this one.
fn remaining(args: &Args, number: usize) -> u32 {
    let all = args.law.len() * args.loads.len();
    u32::try_from(all - number - 1).unwrap_or(u32::MAX)
}

/// Measures with as many clients as keep the server busy, each sending as soon as it has an answer.
async fn capacity(args: &Args, rounds_per_us: f64) -> Result<Capacity, Error> {
    let run = async |law, seconds| {
        let server = Server::start(law, args, rounds_per_us)?;
        let clients = Clients::new(server.address, args.http2);
        let awaiting = args.await_ms as f64 * 1000.0 / args.service_us as f64;
        let connections = (16.0 + 2.0 * awaiting) as usize * args.workers;
        clients
            .closed_loop(connections, Duration::from_millis(300))
            .await?;
        let before = server.schedule();
        let (answers, took) = clients
            .closed_loop(connections, Duration::from_secs_f64(seconds))
            .await?;
        let after = server.schedule();
        let ran = before
            .zip(after)
            .map(|(before, after)| after.since(before).ran);
        let answers = answers.max(1);
        // Where the system does not report how long the server ran, it counts as running all the
        // time.
        let each = ran.unwrap_or(took).as_secs_f64() / answers as f64;
        Ok::<_, Error>((
            answers as f64 / took.as_secs_f64(),
            Duration::from_secs_f64(each),
        ))
    };
    let (per_s, service) = run(Law::None, 2.5).await?;
    let (_, rejection) = run(Law::Reject, 1.0).await?;
    Ok(Capacity {
        per_s,
        service,
        rejection,
    })
}

async fn cell(
    args: &Args,
    law: Law,
    load: f64,
    capacity: &Capacity,
    rounds_per_us: f64,
) -> Result<Cell, Error> {
    let server = Server::start(law, args, rounds_per_us)?;
    let clients = Clients::new(server.address, args.http2);
    let rate = load * capacity.per_s;
    let before = server.schedule();
    let tally = clients
        .open_loop(rate, Duration::from_secs_f64(args.seconds))
        .await;
    let after = server.schedule();
    let share = before
        .zip(after)
        .map(|(before, after)| after.since(before).share());
    let sent = tally.sent().max(1) as f64;
    let ms = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Cell {
        law,
        load,
        offered_per_s: sent / args.seconds,
        goodput_ratio: tally.good as f64 / args.seconds / capacity.per_s,
        bound: capacity.bound(load),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        rejected: tally.rejected as f64 / sent,
        failed: tally.failed as f64 / sent,
        noise: noise(&tally, share, args),
    })
}

/// Whether the machine was busy with something else.
fn noise(tally: &Tally, share: Option<f64>, args: &Args) -> Option<String> {
    let late = tally.late.value_at_quantile(0.99) as f64 / 1000.0;
    if late > 20.0 {
        return Some(format!("clients {late:.0} ms late"));
    }
    let share = share.filter(|share| *share < 0.85 && args.is_pinned())?;
    Some(format!("server had {:.0} % of its core", share * 100.0))
}

fn write(args: &Args, capacity: &Capacity, cells: &[Cell]) -> Result<(), Error> {
    let flavour = if args.current_thread {
        "current_thread".to_owned()
    } else {
        format!("{} worker(s)", args.workers)
    };
    let caption = format!(
        "{} µs handlers, {flavour}, {}, {} s a cell, clients give up after 1 s; seawall {}, {}",
        args.service_us,
        if args.http2 { "HTTP/2" } else { "HTTP/1.1" },
        args.seconds,
        env!("CARGO_PKG_VERSION"),
        machine::describe(),
    );
    std::fs::write("overload.svg", plot::svg(cells, &args.law, &caption)?)?;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let report = Report {
        machine: machine::describe(),
        seawall: env!("CARGO_PKG_VERSION"),
        unix_time_s: since.as_secs(),
        workers: args.workers,
        current_thread: args.current_thread,
        http2: args.http2,
        service_us: args.service_us,
        await_ms: args.await_ms,
        seconds: args.seconds,
        capacity_per_s: capacity.per_s,
        service_cost_us: micros(capacity.service),
        refusal_cost_us: micros(capacity.rejection),
        cells,
    };
    std::fs::write("overload.json", serde_json::to_string_pretty(&report)?)?;
    println!("\nwritten: overload.svg, overload.json");
    Ok(())
}

fn describe(cell: &Cell) -> String {
    format!(
        "{:<8} {:>4}x: goodput {:.2} of {:.2}, p99 {:.0} ms, rejected {:.1} %, failed {:.1} %",
        cell.law.as_str(),
        cell.load,
        cell.goodput_ratio,
        cell.bound,
        cell.p99_ms,
        cell.rejected * 100.0,
        cell.failed * 100.0,
    )
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

// === impl Args ===

impl Args {
    /// One core for the server and one for the clients.
    fn is_pinned(&self) -> bool {
        self.workers == 1 && machine::cores() >= 2
    }
}

// === impl Law ===

impl Law {
    fn as_str(self) -> &'static str {
        match self {
            Law::None => "none",
            Law::Latch => "latch",
            Law::Toobusy => "toobusy",
            Law::Codel => "codel",
            Law::Seawall => "seawall",
            Law::Reject => "reject",
        }
    }
}

// === impl Capacity ===

impl Capacity {
    fn p(&self) -> f64 {
        self.rejection.as_secs_f64() / self.service.as_secs_f64()
    }

    fn bound(&self, load: f64) -> f64 {
        let p = self.p();
        ((1.0 - load * p) / (1.0 - p)).clamp(0.0, load)
    }
}
