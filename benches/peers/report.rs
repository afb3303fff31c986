//! Prints and compares the figures.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::Error;
use crate::bench::FEATURES;
use crate::callgrind::target;
use crate::figures::{Cost, Figures};

#[derive(Serialize)]
struct Line {
    row: &'static str,
    #[serde(rename = "crate")]
    subject: &'static str,
    instructions: Option<f64>,
    ns: Option<f64>,
    allocations: Option<f64>,
}

/// The instructions and allocations of each case of seawall.
type Committed = BTreeMap<String, (f64, f64)>;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/committed.json");

/// A cost above this factor is a regression.
const TOLERANCE: f64 = 1.05;

/// Prints the table, with the factor by which each peer costs more than seawall.
pub(crate) fn print(figures: &Figures) {
    let mut table = table(&["row", "crate", "instructions", "", "ns", "", "allocations"]);
    let mut row = "";
    for (case, cost) in &figures.0 {
        let ours = figures.ours_for(*case).unwrap_or_default();
        let is_peer = !case.subject.starts_with("seawall") && !case.subject.starts_with("an ");
        let times = |theirs: Option<f64>, ours: Option<f64>| match (theirs, ours) {
            (Some(theirs), Some(ours)) if is_peer && ours > 0.0 => format!("{:.1}x", theirs / ours),
            _ => String::new(),
        };
        let number =
            |number: Option<f64>| number.map_or("-".into(), |number| format!("{number:.0}"));
        table.add_row([
            if row == case.row {
                String::new()
            } else {
                case.row.into()
            },
            case.subject.into(),
            number(cost.instructions),
            times(cost.instructions, ours.instructions),
            cost.ns.map_or("-".into(), |ns| format!("{ns:.1}")),
            times(cost.ns, ours.ns),
            number(cost.allocations),
        ]);
        row = case.row;
    }
    println!("{table}");
    println!("net of the bare service; a clock read counts as 29 instructions and takes about 108");
}

/// A plain table, with numbers on the right.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// `target/peers.json`.
pub(crate) fn write(figures: &Figures) -> Result<(), Error> {
    let tenth = |number: f64| (number * 10.0).round() / 10.0;
    let line = |(case, cost): &(crate::bench::Case, Cost)| Line {
        row: case.row,
        subject: case.subject,
        instructions: cost.instructions.map(tenth),
        ns: cost.ns.map(tenth),
        allocations: cost.allocations.map(tenth),
    };
    let lines: Vec<_> = figures.0.iter().map(line).collect();
    let path = target().join("peers.json");
    std::fs::write(&path, serde_json::to_string_pretty(&lines)?)?;
    println!("written to {}", path.display());
    Ok(())
}

/// Returns whether a committed case is of a build with the features of this one.
fn is_of_this_build(name: &str) -> bool {
    name.find(" +").map_or("", |features| &name[features..]) == FEATURES
}

/// Compares the costs of seawall with the committed ones, or commits them.
pub(crate) fn gate(figures: &Figures, bless: bool) -> Result<(), Error> {
    let now: Committed = figures
        .0
        .iter()
        .map(|(case, cost)| {
            let counted = cost.instructions.zip(cost.allocations);
            let (instructions, allocations) = counted.ok_or("no valgrind, no gate")?;
            Ok((case.name(), (instructions.round(), allocations.round())))
        })
        .collect::<Result<_, Error>>()?;
    let text = std::fs::read_to_string(COMMITTED)?;
    let mut committed: Committed = serde_json::from_str(&text)?;
    if bless {
        committed.retain(|name, _| !is_of_this_build(name));
        committed.extend(now);
        std::fs::write(COMMITTED, serde_json::to_string_pretty(&committed)? + "\n")?;
        return Ok(());
    }
    let mut worse = 0;
    for (name, (instructions, allocations)) in &now {
        let Some((before, allocated)) = committed.get(name) else {
            worse += 1;
            println!("NOT COMMITTED  {name}");
            continue;
        };
        // Fewer allocations fail too, to detect a counter that has stopped working.
        let is_worse = *instructions > before * TOLERANCE + 0.5 || allocations != allocated;
        worse += usize::from(is_worse);
        let verdict = if is_worse { "WORSE" } else { "ok" };
        println!(
            "{verdict:5}  {name}: {instructions} instructions, {before} before; \
             {allocations} allocations, {allocated} before"
        );
    }
    for name in committed.keys().filter(|name| is_of_this_build(name)) {
        if !now.contains_key(name) {
            worse += 1;
            println!("NOT MEASURED  {name}");
        }
    }
    if worse > 0 {
        return Err(format!(
            "{worse} rows cost over 5 % more than is committed, or differ in allocations"
        )
        .into());
    }
    Ok(())
}
