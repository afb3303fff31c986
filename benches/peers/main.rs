//! What each layer costs per request beside its peers: `cargo bench --bench peers`.
//!
//! One loop drives all of them, in one process, over the same service; all figures are net of that service. Instructions
//! and allocations are counted by Callgrind (`valgrind`) in a process of their own for each case, nanoseconds are Criterion's
//! medians. Callgrind sees less of a look at the clock than the processor does: it counts 29 instructions for about 108. There
//! is no counting allocator: it would add a hundred instructions to each allocation.
//!
//! ```text
//! cargo bench --bench peers                            # the table, and target/peers.json; contention, sizes, the wire
//! cargo bench --bench peers -- --rows breaker,stack    # rows that begin so
//! cargo bench --bench peers -- --gate                  # ours alone: fails if a row costs over 5 % more than is committed
//! cargo bench --bench peers -- --bless                 # commits what ours cost now
//! ```

mod bench;
mod callgrind;
mod cases;
mod contention;
mod drive;
mod figures;
mod report;
mod sizes;
mod stacks;
mod wire;

use clap::Parser;

use crate::bench::{Bench, Mode};
use crate::figures::Figures;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What each layer costs per request beside its peers.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "flags")]
struct Args {
    /// Only rows that begin with one of these.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Leaves out the rows: contention, sizes and the wire alone.
    #[arg(long)]
    rest: bool,
    /// Compares what ours cost with what is committed, and fails where it is over 5 % more, or allocations differ.
    #[arg(long)]
    gate: bool,
    /// Commits what ours cost now.
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
    /// What cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Error> {
    let args = Args::parse();
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
