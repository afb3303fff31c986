//! Two threads that share one handle: their throughput compared with that of one thread.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use failsafe::{CircuitBreaker as _, Config};
use recloser::Recloser;
use seawall::{CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimitLayer, Rejection};
use tower::{BoxError, Layer, ServiceBuilder};

use crate::drive::{Bare, runtime, shared};
use crate::report;

const CALLS: u32 = 500_000;
const ROUNDS: usize = 7;

/// An error type of its own, so that the services of the rows are not instantiated here.
#[derive(Debug)]
struct Denied(#[expect(dead_code, reason = "it is dropped")] Rejection);

impl From<Rejection> for Denied {
    fn from(rejection: Rejection) -> Self {
        Self(rejection)
    }
}

/// The calls per second of `threads`, each with a clone of its own.
#[expect(clippy::disallowed_methods, reason = "it measures wall-clock time")]
fn rate<S: Clone + Send>(threads: usize, shared: &S, call: fn(&mut S)) -> f64 {
    let barrier = Barrier::new(threads);
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let took = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|index| {
                let (mut service, barrier) = (shared.clone(), &barrier);
                let core = cores.get(index).copied();
                scope.spawn(move || {
                    let _runtime = runtime().enter();
                    core.map(core_affinity::set_for_current);
                    barrier.wait();
                    let start = Instant::now();
                    for _ in 0..CALLS {
                        call(&mut service);
                    }
                    start.elapsed()
                })
            })
            .collect();
        let took = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        took.max().expect("there are threads")
    });
    f64::from(CALLS) * threads as f64 / took.as_secs_f64()
}

/// The median over the rounds of the rate of two threads, as a multiple of the rate of one thread.
fn scaling<S: Clone + Send>(shared: &S, call: fn(&mut S)) -> (f64, f64) {
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let one = rate(1, shared, call);
            (rate(2, shared, call) / one, one)
        })
        .collect();
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    rounds[ROUNDS / 2]
}

pub(crate) fn print() {
    let mut table = report::table(&["two threads share", "", "of one", "ns alone"]);
    let mut add = |name: &str, (scaling, rate): (f64, f64)| {
        table.add_row([
            name,
            "",
            &format!("{scaling:.2}"),
            &format!("{:.1}", 1e9 / rate),
        ]);
    };
    /// One number per thread.
    #[derive(Clone)]
    struct Own(u64);
    let own = Own(0);
    add("nothing", scaling(&own, |own| own.0 = black_box(own.0 + 1)));
    static WORD: AtomicU64 = AtomicU64::new(0);
    add(
        "a fetch_add",
        scaling(&(), |()| {
            WORD.fetch_add(1, Relaxed);
        }),
    );
    let layer = CircuitBreakerLayer::new(CircuitBreaker::default()).plain();
    add(
        "seawall, breaker",
        scaling(&layer.layer(Bare::<Denied>::new()), shared),
    );
    let breaker = CircuitBreaker::default();
    add(
        "seawall, breaker's handle",
        scaling(&&breaker, |breaker| {
            if let Ok(permit) = breaker.try_acquire() {
                permit.success();
            }
        }),
    );
    let recloser = Recloser::default();
    add(
        "recloser",
        scaling(&&recloser, |breaker| {
            let _ = breaker.call(|| Ok::<_, BoxError>(black_box(7)));
        }),
    );
    let failsafe = Config::new().build();
    add(
        "failsafe",
        scaling(&&failsafe, |breaker| {
            let _ = breaker.call(|| Ok::<_, BoxError>(black_box(7)));
        }),
    );
    let resilience = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder();
    let resilience = resilience.build().expect("a breaker");
    add(
        "tower-resilience, breaker",
        scaling(&resilience.layer(Bare::<Denied>::new()), shared),
    );
    let layer = ConcurrencyLimitLayer::new(512).plain();
    add(
        "seawall, limit",
        scaling(&layer.layer(Bare::<Denied>::new()), shared),
    );
    let tower = ServiceBuilder::new().load_shed().concurrency_limit(512);
    add(
        "tower, limit",
        scaling(&tower.service(Bare::<BoxError>::new()), shared),
    );
    println!("\n{table}");
}
