//! Collects the figures of the cases: instructions, nanoseconds, allocations.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::bench::{BARE, Bench, Case, Mode};
use crate::callgrind::{run, target};
use crate::{Error, callgrind, cases};

/// The cost of a case per operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// `None` without Callgrind.
    pub(crate) instructions: Option<f64>,
    /// `None` if it is not measured.
    pub(crate) ns: Option<f64>,
    /// `None` without Callgrind.
    pub(crate) allocations: Option<f64>,
}

/// All cases, in their order, after the cost of the bare service is subtracted.
pub(crate) struct Figures(pub(crate) Vec<(Case, Cost)>);

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

impl Figures {
    /// All figures of these rows.
    pub(crate) fn of(rows: &[String]) -> Result<Self, Error> {
        let home = target().join("criterion");
        run(Command::new(std::env::current_exe()?)
            .arg("--time")
            .args(rows.iter().flat_map(|row| ["--rows", row]))
            .env("CRITERION_HOME", &home))?;
        Self::collect(rows, |_| true, |case| time(&home, case).map(Some))
    }

    /// The figures of this crate that are the same in each run.
    pub(crate) fn ours() -> Result<Self, Error> {
        let is_ours = |case: Case| case.row == BARE || case.subject.starts_with("seawall");
        Self::collect(&[], is_ours, |_| Ok(None))
    }

    fn collect(
        rows: &[String],
        is_wanted: impl Fn(Case) -> bool,
        ns: impl Fn(Case) -> Result<Option<f64>, Error>,
    ) -> Result<Self, Error> {
        let mut bench = Bench::new(Mode::List, rows.to_vec());
        cases::all(&mut bench);
        let has_callgrind = Command::new("valgrind").arg("--version").output().is_ok();
        if !has_callgrind {
            eprintln!("no valgrind: neither instructions nor allocations are counted");
        }
        let mut gross = Vec::new();
        for case in bench.seen() {
            if !is_wanted(case) {
                continue;
            }
            let counted = has_callgrind.then(|| callgrind::count(case)).transpose()?;
            gross.push((
                case,
                Cost {
                    instructions: counted.map(|(instructions, _)| instructions),
                    ns: ns(case)?,
                    allocations: counted.map(|(_, allocations)| allocations),
                },
            ));
        }
        let net = gross
            .iter()
            .filter(|(case, _)| case.row != BARE)
            .map(|(case, cost)| {
                let bare = gross
                    .iter()
                    .find(|(bare, _)| bare.row == BARE && Some(bare.subject) == case.bare);
                (*case, bare.map_or(*cost, |(_, bare)| cost.less(*bare)))
            });
        Ok(Self(net.collect()))
    }
}

impl Figures {
    /// The cost with which a peer is compared: that of the first case of seawall in the row around
    /// the same service, or else of the first case of seawall.
    pub(crate) fn ours_for(&self, peer: Case) -> Option<Cost> {
        let is_ours = |case: &Case| case.row == peer.row && case.subject.starts_with("seawall");
        let ours = || self.0.iter().filter(|(case, _)| is_ours(case));
        let same = ours().find(|(case, _)| case.bare == peer.bare);
        same.or_else(|| ours().next()).map(|(_, cost)| *cost)
    }
}

impl Cost {
    fn less(self, bare: Cost) -> Self {
        let less = |one: Option<f64>, other: Option<f64>| Some(one? - other?);
        Self {
            instructions: less(self.instructions, bare.instructions),
            ns: less(self.ns, bare.ns),
            allocations: less(self.allocations, bare.allocations),
        }
    }
}

/// Criterion's median.
fn time(home: &Path, case: Case) -> Result<f64, Error> {
    let path = home.join(case.row).join(case.directory());
    let text = std::fs::read_to_string(path.join("new/estimates.json"))?;
    let estimates: Estimates = serde_json::from_str(&text)?;
    Ok(estimates.median.point_estimate)
}
