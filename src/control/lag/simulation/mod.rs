//! The law in a closed loop, with several loads and handlers.
//!
//! `cargo test --lib simulation -- --nocapture` prints the table of the docs.

mod laws;
mod setup;
mod worker;
mod world;

use self::laws::{Codel, Latch, Law, Nothing, Seawall};
use self::setup::{Fate, Handlers, MS, Phase, Setup, Us};
use self::world::World;
use super::thresholds::LagThresholds;

type Make = fn(&Setup) -> Box<dyn Law>;

/// The result of a law under one load.
#[derive(Default)]
struct Outcome {
    /// Relative to the bound, which no law can exceed.
    goodput: f64,
    /// In milliseconds.
    p50: f64,
    p99: f64,
    rejected: f64,
    gave_up: f64,
    /// The median time after the overload, in milliseconds, in which less than four fifths of the
    /// requests were served.
    recovery: Us,
}

/// The phases before, during and after the overload.
#[derive(Clone, Copy)]
struct Load {
    before: Phase,
    during: Phase,
    after: Phase,
    seeds: u64,
}

// === impl Load ===

impl Load {
    fn steady(length: u64, load: f64) -> Self {
        Self {
            before: (0, 1.0),
            during: (length, load),
            after: (0, 1.0),
            seeds: 3,
        }
    }

    /// Includes the onset and the time after the overload.
    fn overload(setup: &Setup, load: f64) -> Self {
        Self {
            before: (500, 0.6),
            during: (5000, load),
            after: (600, 0.6),
            seeds: if setup.service > 10_000.0 { 10 } else { 3 },
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn of(make: Make, setup: &Setup, load: Load) -> Self {
        let mut outcome = Self::default();
        let (start, end) = (load.before.0 * MS, (load.before.0 + load.during.0) * MS);
        let (mut latencies, mut recoveries) = (Vec::new(), Vec::new());
        let (mut all, mut busy) = (0.0, 0.0);
        for seed in 0..load.seeds {
            let mut law = make(setup);
            let phases = [load.before, load.during, load.after];
            let mut slices = vec![(0_u32, 0_u32); load.after.0 as usize / 50 + 1];
            for done in World::new(*setup, law.as_mut(), &phases, seed * 7 + 1).run() {
                if done.arrived >= end {
                    let slice = &mut slices[((done.arrived - end) / (50 * MS)) as usize];
                    slice.0 += 1;
                    slice.1 += u32::from(done.fate == Fate::Served);
                } else if done.arrived >= start {
                    all += 1.0;
                    match done.fate {
                        Fate::Served if done.end <= end => busy += done.cost,
                        Fate::Served => {}
                        Fate::Rejected => outcome.rejected += 1.0,
                        Fate::GaveUp => outcome.gave_up += 1.0,
                    }
                    if done.fate == Fate::Served {
                        latencies.push(done.end - done.arrived);
                    }
                }
            }
            let is_poor = |(all, good): &(u32, u32)| f64::from(*good) < 0.8 * f64::from(*all);
            let last = slices.iter().rposition(is_poor).map_or(0, |last| last + 1);
            recoveries.push(last as Us * 50);
        }
        let time = (load.during.0 * MS * load.seeds) as f64 * setup.workers as f64;
        outcome.goodput = busy / time / setup.bound(load.during.1);
        outcome.rejected /= all;
        outcome.gave_up /= all;
        latencies.sort_unstable();
        let quantile = |share: f64| {
            let at = (latencies.len() as f64 * share) as usize;
            latencies.get(at).map_or(f64::NAN, |us| *us as f64 / 1000.0)
        };
        (outcome.p50, outcome.p99) = (quantile(0.5), quantile(0.99));
        recoveries.sort_unstable();
        outcome.recovery = recoveries[recoveries.len() / 2];
        outcome
    }

    fn print(&self, law: &str, setup: &Setup, load: f64) {
        let Setup {
            workers,
            service,
            handlers,
            connections,
            awaits,
            ..
        } = setup;
        let kind = match (*awaits, *connections) {
            (0, 0) => String::new(),
            (0, connections) => format!(" over {connections}"),
            _ => " +10 ms".into(),
        };
        let name = format!("{service} µs {handlers:?}{kind}");
        println!(
            "| {name:<24} | {workers} | {law:<7} | {load:>3}x | {:.3} | {:>4.0} | {:>4.0} | {:.4} | {:.4} | {:>4} |",
            self.goodput, self.p50, self.p99, self.rejected, self.gave_up, self.recovery,
        );
    }
}

fn seawall(setup: &Setup) -> Box<dyn Law> {
    Box::new(Seawall::new(LagThresholds::default(), setup.workers))
}

fn strict(setup: &Setup) -> Box<dyn Law> {
    Box::new(Seawall::new(LagThresholds::strict(), setup.workers))
}

fn burst_tolerant(setup: &Setup) -> Box<dyn Law> {
    Box::new(Seawall::new(LagThresholds::burst_tolerant(), setup.workers))
}

fn nothing(_: &Setup) -> Box<dyn Law> {
    Box::new(Nothing::default())
}

fn latch(_: &Setup) -> Box<dyn Law> {
    Box::new(Latch::new(100 * MS, 30_000 * MS))
}

fn codel(_: &Setup) -> Box<dyn Law> {
    Box::new(Codel::new())
}

/// The goals for a kind of handlers.
struct Goals {
    setup: Setup,
    /// The least goodput, relative to the bound.
    goodput: f64,
    /// The largest p99, with the onset, in milliseconds.
    p99: f64,
    recovery: Us,
    /// The largest share of rejected requests at 0.8 times the capacity.
    rejected: f64,
}

fn goals() -> [Goals; 9] {
    let of = |service, handlers, workers, p99| Goals {
        setup: Setup::new(service, handlers, workers),
        goodput: 0.98,
        p99,
        recovery: 50,
        rejected: 0.0,
    };
    [
        of(50.0, Handlers::Mixed, 1, 100.0),
        of(100.0, Handlers::Mixed, 1, 100.0),
        of(500.0, Handlers::Mixed, 1, 100.0),
        of(2000.0, Handlers::Mixed, 1, 100.0),
        Goals {
            rejected: 0.002,
            ..of(2000.0, Handlers::Exponential, 1, 100.0)
        },
        of(2000.0, Handlers::Bimodal, 1, 420.0),
        Goals {
            goodput: 0.97,
            recovery: 250,
            rejected: 0.002,
            ..of(20_000.0, Handlers::Mixed, 1, 700.0)
        },
        of(2000.0, Handlers::Mixed, 2, 100.0),
        of(2000.0, Handlers::Mixed, 8, 100.0),
    ]
}

/// Prints the table.
#[test]
fn an_overload_moves_neither_the_goodput_nor_p99() {
    println!(
        "| handlers | workers | law | load | goodput / bound | p50 ms | p99 ms | rejected | \
         gave up | recovery ms |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for goals in goals() {
        let setup = &goals.setup;
        for load in [2.0, 5.0, 10.0, 20.0] {
            // If rejections alone take half of the capacity, the bound is meaningless.
            if setup.bound(load) < 0.5 {
                continue;
            }
            let outcome = Outcome::of(seawall, setup, Load::overload(setup, load));
            outcome.print("seawall", setup, load);
            let Outcome {
                goodput, recovery, ..
            } = outcome;
            assert!(goodput >= goals.goodput, "{setup:?} at {load}x: {goodput}");
            let p99 = outcome.p99;
            assert!(p99 <= goals.p99, "{setup:?} at {load}x: {p99} ms");
            let most = goals.recovery;
            assert!(recovery <= most, "{setup:?} at {load}x: {recovery} ms");
        }
    }
}

#[test]
fn nothing_is_rejected_that_the_server_can_do() {
    for goals in goals() {
        let setup = goals.setup;
        let rejected = |setup, load| Outcome::of(seawall, &setup, load).rejected;
        let length = if setup.service < 1000.0 { 4000 } else { 20_000 };
        let steady = rejected(setup, Load::steady(length, 0.8));
        assert!(steady <= goals.rejected, "{setup:?} at 0.8x: {steady}");
        for (length, load) in [(150, 0.3), (500, 0.1), (500, 0.3)] {
            let stall = Some((1000 * MS, length * MS));
            let after = rejected(Setup { stall, ..setup }, Load::steady(3000, load));
            assert_eq!(after, 0.0, "{setup:?}: {length} ms at {load}x");
        }
        let burst = Some((1000 * MS, 5 * setup.workers));
        let after = rejected(Setup { burst, ..setup }, Load::steady(3000, 0.7));
        assert_eq!(after, 0.0, "{setup:?}: a burst");
    }
}

/// The requests wait after the call, in the tasks that a connection spawns.
#[test]
fn requests_of_few_connections_are_shed_as_well() {
    let kinds = [
        (500.0, 1, 50.0),
        (2000.0, 1, 50.0),
        (2000.0, 2, 50.0),
        (20_000.0, 2, 300.0),
    ];
    for connections in [1, 4, 50] {
        for (service, workers, p50) in kinds {
            let mut setup = Setup::new(service, Handlers::Mixed, workers);
            setup.connections = connections;
            for load in [2.0, 10.0] {
                let outcome = Outcome::of(seawall, &setup, Load::overload(&setup, load));
                outcome.print("seawall", &setup, load);
                let goodput = outcome.goodput;
                assert!(goodput >= 0.96, "{setup:?} at {load}x: {goodput}");
                assert!(
                    outcome.p50 <= p50,
                    "{setup:?} at {load}x: {} ms",
                    outcome.p50
                );
                assert!(outcome.gave_up <= 0.001, "{setup:?} at {load}x");
            }
            let rejected = Outcome::of(seawall, &setup, Load::steady(4000, 0.8)).rejected;
            assert!(rejected <= 0.01, "{setup:?} at 0.8x: {rejected}");
        }
    }
}

/// A request that awaits leaves the queue. A concurrency limit bounds its onset.
#[test]
fn the_quota_bounds_requests_that_await() {
    let mut setup = Setup::new(2000.0, Handlers::Mixed, 1);
    setup.awaits = 10 * MS;
    for load in [2.0, 5.0, 10.0] {
        let outcome = Outcome::of(seawall, &setup, Load::overload(&setup, load));
        outcome.print("seawall", &setup, load);
        assert!(outcome.goodput >= 0.94, "{load}x: {}", outcome.goodput);
        assert!(outcome.p50 <= 60.0, "{load}x: {} ms", outcome.p50);
        assert!(outcome.gave_up <= 0.005, "{load}x: {}", outcome.gave_up);
    }
}

/// Each handler is long enough for a stall, and one after the other makes a queue.
#[test]
fn long_handlers_are_rejected_like_short_ones() {
    for (service, goodput) in [(50_000.0, 0.95), (200_000.0, 0.85), (400_000.0, 0.4)] {
        let setup = Setup::new(service, Handlers::Mixed, 1);
        let load = Load {
            seeds: 5,
            ..Load::steady(20_000, 4.0)
        };
        let without = Outcome::of(nothing, &setup, load).goodput;
        let with = Outcome::of(seawall, &setup, load).goodput;
        // One handler in ten takes 400 ms, which is longer than its client waits.
        assert!(
            with >= goodput && with > 4.0 * without,
            "{service}: {with}, {without}"
        );
    }
}

#[test]
fn presets_trade_the_onset_for_bursts() {
    let setup = Setup::new(500.0, Handlers::Mixed, 1);
    let presets: [Make; 3] = [strict, seawall, burst_tolerant];
    let overload = |make: Make| Outcome::of(make, &setup, Load::overload(&setup, 2.0)).p99;
    let [least, default, most] = presets.map(overload);
    assert!(
        least < default && default < most,
        "{least} {default} {most}"
    );
    let burst = Load {
        during: (100, 3.0),
        ..Load::overload(&setup, 3.0)
    };
    let [more, some, none] = presets.map(|make| Outcome::of(make, &setup, burst).rejected);
    assert!(more > some && none == 0.0, "{more} {some} {none}");
}

/// Laws of other projects in the same loop.
#[test]
fn the_law_does_better_than_a_latch_and_codel() {
    let setup = Setup::new(2000.0, Handlers::Mixed, 1);
    for load in [2.0, 10.0] {
        let of = |name, make: Make| {
            let outcome = Outcome::of(make, &setup, Load::overload(&setup, load));
            outcome.print(name, &setup, load);
            outcome
        };
        let (nothing, latch) = (of("nothing", nothing), of("latch", latch));
        let (codel, seawall) = (of("codel", codel), of("seawall", seawall));
        assert!(nothing.gave_up > 0.5, "{load}x: {}", nothing.gave_up);
        assert!(latch.goodput < 0.1, "{load}x: {}", latch.goodput);
        assert!(seawall.goodput >= codel.goodput, "{load}x");
        assert!(1.5 * seawall.p99 < codel.p99, "{load}x");
    }
}
