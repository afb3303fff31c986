//! `--full`: the cells that decide whether the shedder keeps what it promises, as medians of five
//! runs, and what the measurement costs a server that is idle.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::load::Clients;
use crate::measure::{Bench, Capacity, Cell};
use crate::report::{self, Header};
use crate::{Error, Law, Setup};

const RUNS: usize = 5;
const SECONDS: f64 = 5.0;

/// All runs take seven minutes; repetitions of unreliable cells, one more.
const LONGEST: Duration = Duration::from_secs(470);

/// How long the idle servers are measured.
const IDLE: Duration = Duration::from_secs(10);

const SETUP: Setup = Setup {
    service_us: 2000,
    await_ms: 0,
    workers: 1,
    current_thread: false,
    http2: false,
    limit: None,
};

/// Each setup has a measurement of its capacity for each run.
const CELLS: [(Setup, &[f64]); 5] = [
    (SETUP, &[0.8, 2.0, 5.0, 10.0, 20.0]),
    (
        Setup {
            service_us: 100,
            ..SETUP
        },
        &[2.0],
    ),
    // As many requests as the worker computes in 70 ms.
    (
        Setup {
            await_ms: 10,
            limit: Some(32),
            ..SETUP
        },
        &[5.0],
    ),
    (
        Setup {
            current_thread: true,
            ..SETUP
        },
        &[2.0],
    ),
    (
        Setup {
            http2: true,
            ..SETUP
        },
        &[10.0],
    ),
];

/// All runs of one cell.
struct Row {
    setup: Setup,
    load: f64,
    runs: Vec<Cell>,
}

pub(crate) async fn run(directory: &Path) -> Result<(), Error> {
    let header = Header::new(SETUP, SECONDS);
    println!("{}", header.describe("\n"));
    let cell = |setup: Setup| {
        move |load: &f64| Row {
            setup,
            load: *load,
            runs: Vec::new(),
        }
    };
    let mut rows: Vec<Row> = CELLS
        .iter()
        .flat_map(|(setup, loads)| loads.iter().map(cell(*setup)))
        .collect();
    let deadline = Instant::now() + LONGEST;
    let mut bench = Bench::new(SETUP.is_pinned(), RUNS * rows.len(), deadline);
    for run in 1..=RUNS {
        println!("\nrun {run} of {RUNS}");
        let mut last: Option<(Setup, Capacity)> = None;
        for row in &mut rows {
            let capacity = match last {
                Some((setup, capacity)) if setup == row.setup => capacity,
                _ => {
                    let capacity = bench.capacity(row.setup, SECONDS).await?;
                    println!("{}: {}", row.setup.describe(), capacity.describe());
                    capacity
                }
            };
            last = Some((row.setup, capacity));
            let cell = bench
                .cell(row.setup, &capacity, Law::Seawall, row.load, SECONDS)
                .await?;
            println!("  {}", cell.describe());
            row.runs.push(cell);
        }
    }
    let idle = idle(&bench).await?;
    let text = format!(
        "{}.\nMedians of {RUNS} runs of {SECONDS} s, with the least and the most; clients give up \
         after 1 s.\n\n{}\n\n{idle}\n",
        header.describe(".\n"),
        table(&rows),
    );
    println!("\n{text}");
    std::fs::write(directory.join("overload-full.md"), text)?;
    println!("written: overload-full.md");
    Ok(())
}

fn table(rows: &[Row]) -> comfy_table::Table {
    let header = [
        "",
        "load",
        "goodput / bound",
        "p50 ms",
        "p99 ms",
        "rejected %",
        "gave up %",
    ];
    let cells = |row: &Row| {
        let of = |value: fn(&Cell) -> f64, digits| spread(&row.runs, value, digits);
        vec![
            row.setup.describe(),
            format!("{}x", row.load),
            of(|cell| cell.goodput_ratio / cell.bound, 2),
            of(|cell| cell.p50_ms, 0),
            of(|cell| cell.p99_ms, 0),
            of(|cell| cell.rejected * 100.0, 1),
            of(|cell| cell.gave_up * 100.0, 1),
        ]
    };
    report::markdown(
        header.map(str::to_owned).into(),
        rows.iter().map(cells).collect(),
    )
}

/// The median, the least and the most.
fn spread(runs: &[Cell], value: fn(&Cell) -> f64, digits: usize) -> String {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    let (median, least, most) = (
        values[values.len() / 2],
        values[0],
        values[values.len() - 1],
    );
    format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
}

/// The CPU time of a server with the shedder, and of one without, that have no requests.
async fn idle(bench: &Bench) -> Result<String, Error> {
    let servers = [
        bench.start(Law::Seawall, SETUP)?,
        bench.start(Law::None, SETUP)?,
    ];
    for server in &servers {
        // The measurement starts with the first request.
        let clients = Clients::new(server.address, false);
        clients.closed_loop(1, Duration::from_millis(50)).await?;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = servers.each_ref().map(crate::server::Server::schedule);
    tokio::time::sleep(IDLE).await;
    let after = servers.each_ref().map(crate::server::Server::schedule);
    let share = |index: usize| {
        let ran = after[index]?.since(before[index]?).ran;
        Some(ran.as_secs_f64() / IDLE.as_secs_f64() * 100.0)
    };
    Ok(match (share(0), share(1)) {
        (Some(with), Some(without)) => format!(
            "An idle server uses {with:.2} % of a core with the shedder, and {without:.2} % \
             without, over {} s.",
            IDLE.as_secs()
        ),
        _ => "The system does not report what an idle server uses.".to_owned(),
    })
}
