//! The cost of each layer per request, beside its peers.
//!
//! One loop runs all cases, in one process, over the same service. The cost of that service is
//! subtracted from all figures. Callgrind (`valgrind`) counts instructions and allocations in a
//! process of its own for each case; nanoseconds are Criterion's medians. Each operation is in a
//! function of its own. Callgrind counts 29 instructions for a clock read that takes as long as
//! about 108. There is no counting allocator: it would add a hundred instructions to each
//! allocation.
//!
//! ```text
//! cargo bench -p seawall-benches --bench peers -- FLAGS
//!
//!                        the table, target/peers.json, contention, sizes, the wire
//! --rows breaker,stack   rows that begin so
//! --gate                 ours alone; fails if a row costs over 5 % more than is committed
//! --bless                commits what ours cost now
//! ```
//!
//! With `--features metrics,tracing` it measures the stack with these features of the crate, and a
//! recorder with one atomic for each series.

mod bench;
mod callgrind;
mod cases;
mod contention;
mod drive;
mod figures;
#[cfg(feature = "metrics")]
mod recorder;
mod report;
mod sizes;
mod stacks;
mod wire;

use clap::Parser;

use crate::bench::{Bench, Mode};
use crate::figures::Figures;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The cost of each layer per request, beside its peers.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "flags")]
struct Args {
    /// Only rows that begin with one of these.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Leaves out the rows: measures only contention, sizes and the wire.
    #[arg(long)]
    rest: bool,
    /// Compares the costs of seawall with the committed ones. Fails if a row costs over 5 % more or
    /// differs in allocations.
    #[arg(long)]
    gate: bool,
    /// Commits the current costs of seawall.
    #[arg(long)]
    bless: bool,
    /// Runs every case once.
    #[arg(long)]
    test: bool,
    /// Runs one case for Callgrind.
    #[arg(long, hide = true)]
    collect: Option<String>,
    /// Runs the cases for Criterion.
    #[arg(long, hide = true)]
    time: bool,
    /// An argument that cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Error> {
    let args = Args::parse();
    #[cfg(feature = "metrics")]
    recorder::install();
    if let Some(case) = args.collect {
        cases::all(&mut Bench::new(Mode::Collect, vec![case]));
        return Ok(());
    }
    if args.time {
        cases::all(&mut Bench::new(Mode::time(), args.rows));
        return Ok(());
    }
    if args.test {
        cases::all(&mut Bench::new(Mode::Once, args.rows));
        return Ok(());
    }
    if args.gate || args.bless {
        let figures = Figures::ours()?;
        return report::gate(&figures, args.bless);
    }
    if !args.rest {
        let figures = Figures::of(&args.rows)?;
        report::print(&figures);
        report::write(&figures)?;
    }
    if args.rows.is_empty() {
        contention::print();
        sizes::print();
        wire::print();
    }
    Ok(())
}
