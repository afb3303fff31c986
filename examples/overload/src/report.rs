//! The tables, the bars for the terminal, and the files.

use std::path::Path;
use std::time::SystemTime;

use comfy_table::{CellAlignment, Table, presets};

use crate::measure::{Capacity, Cell};
use crate::{Error, Law, Setup, machine, plot};

/// What was measured, where and when.
#[derive(serde::Serialize)]
pub(crate) struct Header {
    pub(crate) machine: String,
    seawall: &'static str,
    date: String,
    /// At the start.
    load_average: Option<String>,
    seconds: f64,
    #[serde(flatten)]
    setup: Setup,
}

/// Everything that `overload.json` has.
#[derive(serde::Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) header: Header,
    #[serde(flatten)]
    pub(crate) capacity: Capacity,
    pub(crate) cells: Vec<Cell>,
}

/// A table in Markdown, with all columns but the first to the right.
pub(crate) fn markdown(header: Vec<String>, rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_header(header)
        .add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// One row for each cell.
pub(crate) fn table(cells: &[Cell]) -> Table {
    let header = [
        "law",
        "load",
        "offered/s",
        "goodput",
        "bound",
        "p50 ms",
        "p99 ms",
        "served",
        "rejected",
        "gave up",
        "failed",
    ];
    let row = |cell: &Cell| {
        vec![
            cell.law.as_str().to_owned(),
            format!("{}x", cell.load),
            format!("{:.0}", cell.offered_per_s),
            format!("{:.3}", cell.goodput_ratio),
            format!("{:.3}", cell.bound),
            format!("{:.0}", cell.p50_ms),
            format!("{:.0}", cell.p99_ms),
            percent(cell.served),
            percent(cell.rejected),
            percent(cell.gave_up),
            percent(cell.failed),
        ]
    };
    markdown(
        header.map(str::to_owned).into(),
        cells.iter().map(row).collect(),
    )
}

/// One bar for each cell, by load, with the laws side by side.
pub(crate) fn bars(cells: &[Cell]) -> String {
    const WIDTH: f64 = 40.0;
    let mut lines = Vec::new();
    let mut draw = |title: &str, most: f64, value: fn(&Cell) -> (f64, String)| {
        lines.push(format!("\n{title}"));
        for load in loads(cells) {
            for cell in cells.iter().filter(|cell| cell.load == load) {
                let (value, label) = value(cell);
                let bar = "█".repeat((value / most * WIDTH).round() as usize);
                let load = format!("{load}x");
                lines.push(format!("{load:>6} {:<8} {bar} {label}", cell.law.as_str()));
            }
        }
    };
    draw("goodput, of capacity", 1.1, |cell| {
        (cell.goodput_ratio, format!("{:.2}", cell.goodput_ratio))
    });
    draw("p99 of the accepted, ms", 1000.0, |cell| {
        (cell.p99_ms, format!("{:.0}", cell.p99_ms))
    });
    lines.join("\n")
}

/// The loads of the cells, each once, in order.
pub(crate) fn loads(cells: &[Cell]) -> Vec<f64> {
    let mut loads: Vec<f64> = cells.iter().map(|cell| cell.load).collect();
    loads.sort_by(f64::total_cmp);
    loads.dedup();
    loads
}

fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    let digits = usize::from((0.05..9.95).contains(&percent));
    format!("{percent:.digits$} %")
}

/// The meaning of the columns.
const COLUMNS: &str = "\
    Each value is from one run, and includes the first seconds of the overload. Goodput counts the\n\
    answers within 1 s. Its bound is the goodput of an ideal server, which answers all that it can,\n\
    and needs time for each rejection. Above 1, the capacity was estimated too low.";

// === impl Header ===

impl Header {
    pub(crate) fn new(setup: Setup, seconds: f64) -> Self {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self {
            machine: machine::describe(),
            seawall: env!("CARGO_PKG_VERSION"),
            date: now.split('T').next().unwrap_or_default().to_owned(),
            load_average: machine::load_average(),
            seconds,
            setup,
        }
    }

    /// Where and when, with `stop` between the two.
    pub(crate) fn describe(&self, stop: &str) -> String {
        let load = self.load_average.as_deref().unwrap_or("not known");
        format!(
            "Measured on {}, {}{stop}Load average before the run: {load}; seawall {}",
            self.date, self.machine, self.seawall
        )
    }
}

// === impl Report ===

impl Report {
    pub(crate) fn write(&self, laws: &[Law], directory: &Path) -> Result<(), Error> {
        let caption = format!("{}. {}", self.describe(), self.header.describe(". "));
        let svg = plot::svg(&self.cells, laws, &caption)?;
        std::fs::write(directory.join("overload.svg"), svg)?;
        let json = serde_json::to_string_pretty(self)?;
        std::fs::write(directory.join("overload.json"), json)?;
        let text = format!(
            "{}.\n{}:\n{}.\n{}\n\n{}\n",
            self.header.describe(".\n"),
            self.describe(),
            self.capacity.describe(),
            COLUMNS,
            self.by_load(laws)
        );
        std::fs::write(directory.join("overload.md"), text)?;
        println!("\nwritten: overload.svg, overload.md, overload.json");
        Ok(())
    }

    fn describe(&self) -> String {
        format!(
            "{}, {} s a cell, clients give up after 1 s",
            self.header.setup.describe(),
            self.header.seconds
        )
    }

    /// One row for each load, with the laws side by side. The law `none` rejects nothing.
    fn by_load(&self, laws: &[Law]) -> Table {
        let mut header = vec!["load".to_owned()];
        for law in laws {
            header.push(format!("{}: p99", law.as_str()));
            if *law != Law::None {
                header.push("rejected".to_owned());
            }
            header.push("gave up".to_owned());
            header.push("goodput / bound".to_owned());
        }
        let row = |load: f64| {
            let mut row = vec![format!("{load}x")];
            for law in laws {
                let is_it = |cell: &&Cell| cell.law == *law && cell.load == load;
                let Some(cell) = self.cells.iter().find(is_it) else {
                    continue;
                };
                row.push(format!("{:.0} ms", cell.p99_ms));
                if *law != Law::None {
                    row.push(percent(cell.rejected));
                }
                row.push(percent(cell.gave_up));
                row.push(format!("{:.2}", cell.goodput_ratio / cell.bound));
            }
            row
        };
        markdown(header, loads(&self.cells).into_iter().map(row).collect())
    }
}
