//! Runs a case under Callgrind, and reads its report.

use std::collections::HashMap;
use std::process::Command;

use crate::Error;
use crate::bench::{COLLECTED, Case};
use crate::figures::{Cost, run, target};

/// The functions of the C library that allocate, as Rust's own allocator calls them.
const ALLOCATE: [&str; 4] = ["malloc", "calloc", "realloc", "posix_memalign"];

/// Runs the case in a process of its own. Only what it does in [`collected`](crate::bench), on that
/// thread, is counted.
pub(crate) fn count(case: Case) -> Result<Cost, Error> {
    let directory = target().join("callgrind");
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    std::fs::create_dir_all(&directory)?;
    run(Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .args(["--dump-before=*::collected", "--dump-after=*::collected"])
        .arg(format!("--callgrind-out-file={}/out", directory.display()))
        .arg(std::env::current_exe()?)
        .args(["--collect", &case.name()]))?;
    // The second dump of the first thread: from the beginning of `collected` to its end.
    let dump = std::fs::read_to_string(directory.join("out.2-01"))?;
    let instructions = total(&dump).filter(|total| *total > 0.0);
    let instructions = instructions.ok_or_else(|| format!("nothing of {}", case.name()))?;
    Ok(Cost {
        instructions: Some(instructions / f64::from(COLLECTED)),
        ns: None,
        allocations: Some(calls(&dump, &ALLOCATE) / f64::from(COLLECTED)),
    })
}

fn total(dump: &str) -> Option<f64> {
    let mut lines = dump.lines();
    let total = lines.find_map(|line| line.strip_prefix("totals: "))?;
    total.trim().parse().ok()
}

/// How often one of these functions is called. A dump names a function by a number, and gives its
/// name where the number occurs first.
fn calls(dump: &str, functions: &[&str]) -> f64 {
    let mut names = HashMap::new();
    let mut callee = "";
    let mut calls = 0.0;
    for line in dump.lines() {
        let callees = line.strip_prefix("cfn=");
        if let Some(function) = callees.or(line.strip_prefix("fn=")) {
            let (number, name) = function.split_once(' ').unwrap_or((function, ""));
            let known = names.entry(number).or_insert(name);
            if callees.is_some() {
                callee = known;
            }
        } else if let Some(times) = line.strip_prefix("calls=") {
            if functions.contains(&callee) {
                let times = times.split(' ').next().and_then(|times| times.parse().ok());
                calls += times.unwrap_or(0.0);
            }
        }
    }
    calls
}
