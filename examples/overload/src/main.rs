//! To see what an overload does to a service, without and with a load shedder:
//!
//! ```text
//! cargo run --release -p overload                                     # 90 seconds at most
//! cargo run --release -p overload -- --law latch,toobusy,codel,seawall
//! cargo run --release -p overload -- --service-us 100 --loads 0.8,2,5
//! cargo run --release -p overload -- --await-ms 20 --loads 5 --limit 64
//! cargo run --release -p overload -- --http2 --workers 2
//! cargo run --release -p overload -- --full                           # 8 minutes at most
//! ```
//!
//! It starts a second process of itself, a small axum server whose handler computes, and measures
//! how many requests a second that server can answer. Then it sends a multiple of them: at Poisson
//! times, whatever the server does, with clients that give up after a second. Latency counts from
//! the time at which a request was meant to be sent. Each cell has a server of its own, starts when
//! the connections of the cell before are gone, and includes the onset of the overload.
//!
//! It prints a table and bars, and writes `overload.svg`, `overload.md` and `overload.json` into
//! the directory `--out`. With `--full` it prints one table of medians of five runs, with the idle
//! cost of the measurement, and writes `overload-full.md`.
//!
//! `bound` is the goodput that no law can exceed: at k times the capacity, with rejections that
//! cost a share p of a service, (1 − kp) / (1 − p) is left.
//!
//! The numbers need a machine that does nothing else. If it does, the example does not judge: it
//! says why in one sentence, writes nothing, and exits with code 3.

#![expect(clippy::disallowed_methods, reason = "it measures real time")]

mod full;
mod laws;
mod load;
mod machine;
mod measure;
mod plot;
mod report;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use crate::measure::{Bench, Busy};
use crate::report::Report;
use crate::server::Role;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Drives a small axum service into overload, without and with seawall.
#[derive(Parser)]
pub(crate) struct Args {
    /// The laws that decide what is rejected.
    #[arg(long, value_delimiter = ',', default_value = "none,seawall")]
    law: Vec<Law>,
    /// Offered loads, in multiples of the capacity.
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.8,1,2,5,10")]
    loads: Vec<f64>,
    /// How long each cell lasts.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[command(flatten)]
    setup: Setup,
    /// Medians of five runs of a fixed list of cells, and the idle cost; 8 minutes at most.
    #[arg(long, conflicts_with_all = ["law", "loads", "seconds", "service_us", "await_ms", "workers", "current_thread", "http2", "limit"])]
    full: bool,
    /// The directory for the files.
    #[arg(long, default_value = ".")]
    out: PathBuf,
    #[command(flatten)]
    role: Role,
}

/// The server, and how it is asked.
#[derive(clap::Args, Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Setup {
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
    /// HTTP/2 with prior knowledge instead of HTTP/1.1.
    #[arg(long)]
    http2: bool,
    /// A concurrency limit inside the law `seawall`.
    #[arg(long)]
    limit: Option<usize>,
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

/// What a run with the default flags may take: unreliable cells are repeated only if there is time
/// left.
const LONGEST: Duration = Duration::from_secs(88);

/// The exit code if the machine is busy with something else.
const NOT_JUDGED: u8 = 3;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Busy>() => {
            println!("\nnot judged: {error}");
            ExitCode::from(NOT_JUDGED)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    if let Some(served) = args.role.play(&args.setup) {
        return served;
    }
    if args
        .loads
        .iter()
        .any(|load| !(*load > 0.0 && *load <= 100.0))
    {
        return Err("--loads are multiples of the capacity, above 0 and up to 100".into());
    }
    if !(0.5..=600.0).contains(&args.seconds)
        || args.setup.workers == 0
        || args.setup.service_us == 0
    {
        return Err("--seconds is 0.5 to 600; --workers and --service-us are at least 1".into());
    }
    std::fs::create_dir_all(&args.out)?;
    machine::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if args.full {
        runtime.block_on(full::run(&args.out))
    } else {
        runtime.block_on(draw(args))
    }
}

/// Each law under each load.
async fn draw(args: &Args) -> Result<(), Error> {
    let start = Instant::now();
    let header = report::Header::new(args.setup, args.seconds);
    println!("{}", header.machine);
    let cells = args.law.len() * args.loads.len();
    let planned = measure::CALIBRATION + measure::length(args.seconds) * cells as u32;
    let deadline = start + LONGEST.max(planned + planned / 4);
    let mut bench = Bench::new(args.setup.is_pinned(), cells, deadline);
    let capacity = bench.capacity(args.setup, args.seconds).await?;
    println!("{}\n", capacity.describe());
    let mut cells = Vec::new();
    for &law in &args.law {
        for &load in &args.loads {
            let cell = bench
                .cell(args.setup, &capacity, law, load, args.seconds)
                .await?;
            println!("{}", cell.describe());
            cells.push(cell);
        }
    }
    println!("\n{}\n{}", report::table(&cells), report::bars(&cells));
    let report = Report {
        header,
        capacity,
        cells,
    };
    report.write(&args.law, &args.out)
}

// === impl Setup ===

impl Setup {
    /// One core for the server and one for the clients.
    fn is_pinned(&self) -> bool {
        self.workers == 1 && machine::cores() >= 2
    }

    fn describe(&self) -> String {
        let await_for = match self.await_ms {
            0 => String::new(),
            ms => format!("{ms} ms awaited + "),
        };
        let workers = match self.workers {
            _ if self.current_thread => "current_thread".to_owned(),
            1 => "one worker".to_owned(),
            workers => format!("{workers} workers"),
        };
        let limit = self.limit.map(|limit| format!(", a limit of {limit}"));
        format!(
            "{await_for}{} µs handlers, {workers}, {}{}",
            self.service_us,
            if self.http2 { "HTTP/2" } else { "HTTP/1.1" },
            limit.unwrap_or_default(),
        )
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
