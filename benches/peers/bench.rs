//! Runs the operations of the cases, in one of several ways.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;

/// What is done with each case.
pub(crate) enum Mode {
    /// It runs once, to see that it does.
    Once,
    /// It runs in [`collected`], which Callgrind looks at alone.
    Collect,
    /// Its allocations are counted.
    Allocations,
    /// Criterion measures it.
    Time(Box<Criterion>),
}

pub(crate) struct Bench {
    mode: Mode,
    wanted: Vec<String>,
    seen: Vec<(Case, f64)>,
}

/// One line of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) row: &'static str,
    pub(crate) subject: &'static str,
    /// What it is net of: the subject of the row [`BARE`].
    pub(crate) bare: Option<&'static str>,
}

/// The row of what the others are net of.
pub(crate) const BARE: &str = "bare";

/// Operations in [`collected`].
pub(crate) const COLLECTED: u32 = 2000;

const WARM: u32 = 200;

impl Mode {
    pub(crate) fn time() -> Self {
        let criterion = Criterion::default()
            .without_plots()
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(400))
            .sample_size(50);
        Mode::Time(Box::new(criterion))
    }
}

impl Bench {
    /// Rows, or whole names, that begin with one of `wanted`; all if there is none.
    pub(crate) fn new(mode: Mode, wanted: Vec<String>) -> Self {
        Self {
            mode,
            wanted,
            seen: Vec::new(),
        }
    }

    /// What was seen of each case: allocations, if these were counted.
    pub(crate) fn seen(self) -> Vec<(Case, f64)> {
        self.seen
    }

    fn wants(&self, case: Case) -> bool {
        if matches!(self.mode, Mode::Collect) {
            return self.wanted[0] == case.name();
        }
        let begins = |wanted: &String| case.row.starts_with(wanted.as_str());
        case.row == BARE || self.wanted.is_empty() || self.wanted.iter().any(begins)
    }

    /// One case: `make` makes what is repeated.
    pub(crate) fn case<F: FnMut()>(
        &mut self,
        row: &'static str,
        subject: &'static str,
        bare: impl Into<Option<&'static str>>,
        make: impl FnOnce() -> F,
    ) {
        let bare = bare.into();
        let case = Case { row, subject, bare };
        if !self.wants(case) {
            return;
        }
        let mut operation = make();
        if let Mode::Once = self.mode {
            operation();
            return;
        }
        for _ in 0..WARM {
            operation();
        }
        let mut allocations = 0.0;
        match &mut self.mode {
            Mode::Once => {}
            Mode::Collect => collected(&mut operation),
            Mode::Allocations => {
                let counted = allocation_counter::measure(|| {
                    for _ in 0..COLLECTED {
                        operation();
                    }
                });
                allocations = counted.count_total as f64 / f64::from(COLLECTED);
            }
            Mode::Time(criterion) => {
                let mut group = criterion.benchmark_group(row);
                group.bench_function(case.directory(), |bencher| bencher.iter(&mut operation));
                group.finish();
            }
        }
        self.seen.push((case, allocations));
    }
}

impl Case {
    pub(crate) fn name(self) -> String {
        format!("{}/{}", self.row, self.subject)
    }

    /// The subject as Criterion may name a directory.
    pub(crate) fn directory(self) -> String {
        self.subject.replace([' ', ',', '+', '\''], "_")
    }
}

/// What Callgrind counts: on this thread alone, so that nobody else's work is in it.
#[inline(never)]
fn collected(operation: &mut impl FnMut()) {
    for _ in 0..black_box(COLLECTED) {
        operation();
    }
}
