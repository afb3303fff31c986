//! Runs a case under Callgrind, and reads its report.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;
use crate::bench::{COLLECTED, Case};

/// The functions of the C library that allocate, as Rust's own allocator calls them.
const ALLOCATE: [&str; 4] = ["malloc", "calloc", "realloc", "posix_memalign"];

/// The instructions and allocations of a case, for one operation.
///
/// The case runs in a process of its own. Callgrind counts only [`collected`](crate::bench), on its
/// thread.
pub(crate) fn count(case: Case) -> Result<(f64, f64), Error> {
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
    let allocations = calls(&dump, &ALLOCATE);
    Ok((
        instructions / f64::from(COLLECTED),
        allocations / f64::from(COLLECTED),
    ))
}

fn total(dump: &str) -> Option<f64> {
    let mut lines = dump.lines();
    let total = lines.find_map(|line| line.strip_prefix("totals: "))?;
    total.trim().parse().ok()
}

/// The number of calls of these functions. A dump names a function by a number, and gives its name
/// at the first use of the number.
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

/// The target directory.
pub(crate) fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("it is in the target directory")
        .to_path_buf()
}

pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let output = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed: {text}").into());
    }
    Ok(())
}
