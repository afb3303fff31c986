//! The thread that reads the probes of all runtimes and sends them again.

use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;
use std::time::Duration;

use tokio::runtime;

use super::host::Host;
use super::probe::Probe;
use super::stamp;
use crate::sync::lock;
use crate::unwind;
use crate::{clock, observe};

/// The time between two readings if the lag was high recently.
const TICK: Duration = Duration::from_millis(10);
/// The time between two readings while the lag is low. It delays the detection of an overload.
const CALM_TICK: Duration = Duration::from_millis(20);
/// The time between two readings while the lag is low and no request arrives.
const IDLE_TICK: Duration = Duration::from_millis(100);

/// A lag below this is low.
const CALM: Duration = Duration::from_millis(5);
/// The time for which the lag must be low before there are fewer readings.
const CALM_FOR: Duration = Duration::from_millis(500);

/// A runtime that is this far behind is probably not driven, and needs no frequent readings.
const GIVEN_UP: Duration = Duration::from_secs(10);

static RUNTIMES: Mutex<Runtimes> = Mutex::new(Runtimes {
    probes: Vec::new(),
    is_running: false,
});

/// A runtime was added.
static ADDED: Condvar = Condvar::new();

struct Runtimes {
    probes: Vec<Weak<Probe>>,
    is_running: bool,
}

/// The probe of a runtime. The first call starts the probe, and the thread if necessary.
pub(crate) fn probe(of: &runtime::Handle) -> Arc<Probe> {
    let mut runtimes = lock(&RUNTIMES);
    // They are dropped without the lock, since the last handle of a probe calls the recorder.
    let live: Vec<_> = runtimes.probes.iter().filter_map(Weak::upgrade).collect();
    let of_runtime = |probe: &&Arc<Probe>| probe.runtime == of.id() && !probe.is_closed();
    let probe = live.iter().find(of_runtime).cloned().unwrap_or_else(|| {
        let probe = Probe::spawn(of);
        runtimes.probes.push(Arc::downgrade(&probe));
        probe
    });
    let mut error = None;
    if !runtimes.is_running {
        let thread = thread::Builder::new().name("seawall-lag".to_owned());
        error = thread.spawn(run).err();
        runtimes.is_running = error.is_none();
    }
    ADDED.notify_one();
    drop(runtimes);
    if let Some(error) = error {
        observe::sampler_failed(&error.to_string(), false);
    }
    probe
}

/// Runs until a panic, and reports it. The next runtime that is bound starts another thread.
fn run() {
    unwind::without_panics(read_all);
    lock(&RUNTIMES).is_running = false;
    observe::sampler_failed("the thread ended", true);
}

fn read_all() {
    let mut host = Host::new();
    let mut busy_at = Duration::ZERO;
    loop {
        let now = clock::monotonic();
        let host_is_short = host.is_short(now);
        let mut is_idle = true;
        let probes = probes();
        for probe in &probes {
            // The recorder, subscriber or signal of the user may panic here. The other probes are
            // still read.
            match unwind::without_panics(|| probe.tick(now, host_is_short)) {
                Some((lag, is_needed)) => {
                    is_idle &= !is_needed;
                    if (CALM..GIVEN_UP).contains(&lag) {
                        busy_at = now;
                    }
                }
                None => observe::sampler_failed("a reading panicked", false),
            }
        }
        stamp::on_readings();
        let has_probes = !probes.is_empty();
        drop(probes);
        let is_calm = now.saturating_sub(busy_at) >= CALM_FOR;
        let next = now
            + match (is_calm, is_idle) {
                (false, _) => TICK,
                (true, false) => CALM_TICK,
                (true, true) => IDLE_TICK,
            };
        let runtimes = lock(&RUNTIMES);
        if has_probes {
            // A probe that is added in between is already under way. Only a tick reads probes.
            let rest = next.saturating_sub(clock::monotonic());
            drop(ADDED.wait_timeout_while(runtimes, rest, |_| true));
        } else {
            let is_unused = |runtimes: &mut Runtimes| runtimes.probes.is_empty();
            drop(ADDED.wait_while(runtimes, is_unused));
        }
    }
}

/// The probes in use. It removes those of runtimes that have ended, and sets their metric to 0.
fn probes() -> Vec<Arc<Probe>> {
    let mut runtimes = lock(&RUNTIMES);
    let live = runtimes.probes.iter().filter_map(Weak::upgrade);
    let (closed, used): (Vec<_>, Vec<_>) = live.partition(|probe| probe.is_closed());
    runtimes.probes = used.iter().map(Arc::downgrade).collect();
    drop(runtimes);
    for probe in closed {
        unwind::without_panics(|| probe.show(Duration::ZERO));
    }
    used
}
