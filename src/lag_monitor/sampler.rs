//! The thread that reads the probes of all runtimes and sends them again.
//!
//! It keeps neither a runtime nor a handle alive, and is parked while there is no probe.

use std::num::NonZeroU64;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tokio::runtime;

use super::host::Host;
use super::probe::Probe;
use super::runtime_lag::RuntimeLag;
use super::stamp;
use crate::sync::lock;
use crate::{clock, observe};

const NAME: &str = "seawall-lag";

/// The time between two readings if the lag was high recently.
const TICK: Duration = Duration::from_millis(10);

/// The time between two readings while the lag is low: 50 a second. It delays the detection of an
/// overload.
const CALM_TICK: Duration = Duration::from_millis(20);

/// The time between two readings while the lag is low and no request arrives.
const IDLE_TICK: Duration = Duration::from_millis(100);

/// A lag below this is low.
const CALM: Duration = Duration::from_millis(5);

/// The time for which the lag must be low before there are fewer readings.
const CALM_FOR: Duration = Duration::from_millis(500);

/// A runtime that is this far behind is probably not driven, and needs no frequent readings.
const GIVEN_UP: Duration = Duration::from_secs(10);

static SAMPLER: Sampler = Sampler {
    runtimes: Mutex::new(Runtimes {
        all: Vec::new(),
        is_running: false,
    }),
    more: Condvar::new(),
};

struct Sampler {
    runtimes: Mutex<Runtimes>,
    more: Condvar,
}

struct Runtimes {
    all: Vec<Entry>,
    is_running: bool,
}

struct Entry {
    probe: Weak<Probe>,
    /// Keeps hooks until the runtime ends, even if all handles are dropped.
    pinned: Option<Arc<Probe>>,
}

/// The probe of a runtime. The first call starts the probe, and the thread if necessary.
pub(crate) fn probe(of: &runtime::Handle) -> Arc<Probe> {
    let mut runtimes = lock(&SAMPLER.runtimes);
    let known = runtimes.all.iter().find_map(|entry| {
        let probe = entry.probe.upgrade()?;
        (probe.lag().runtime() == of.id() && !probe.is_closed()).then_some(probe)
    });
    let probe = known.unwrap_or_else(|| {
        let probe = Probe::spawn(of);
        runtimes.all.push(Entry {
            probe: Arc::downgrade(&probe),
            pinned: None,
        });
        probe
    });
    if runtimes.is_running {
        SAMPLER.more.notify_one();
    } else {
        runtimes.is_running = start();
    }
    probe
}

/// The runtime with this number, if it has not ended.
pub(super) fn with_number(number: NonZeroU64) -> Option<Arc<RuntimeLag>> {
    let runtimes = lock(&SAMPLER.runtimes);
    let mut probes = runtimes
        .all
        .iter()
        .filter_map(|entry| entry.probe.upgrade());
    let found = probes.find(|probe| probe.lag().number() == number);
    drop(runtimes);
    found.map(|probe| probe.lag().clone())
}

/// Keeps a probe going until its runtime ends.
pub(super) fn pin(probe: &Arc<Probe>) {
    let mut runtimes = lock(&SAMPLER.runtimes);
    let same = |entry: &&mut Entry| std::ptr::eq(entry.probe.as_ptr(), Arc::as_ptr(probe));
    if let Some(entry) = runtimes.all.iter_mut().find(same) {
        entry.pinned = Some(probe.clone());
    }
}

fn start() -> bool {
    let thread = thread::Builder::new().name(NAME.to_owned());
    match thread.spawn(run) {
        Ok(_) => true,
        Err(error) => {
            observe::sampler_failed(&error.to_string());
            false
        }
    }
}

/// Reports the end of the thread on drop. The next runtime that is bound starts another thread.
struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        lock(&SAMPLER.runtimes).is_running = false;
        observe::sampler_failed("the thread ended");
    }
}

fn run() {
    let _running = Running;
    let mut host = Host::new();
    let mut busy_at = Duration::ZERO;
    let mut probes = Vec::new();
    loop {
        wait_for_probes(&mut probes);
        let now = clock::monotonic();
        let host_is_short = host.is_short(now);
        let mut is_idle = true;
        for probe in probes.drain(..) {
            // The recorder, subscriber or signal of the user may panic here. The other probes are
            // still read.
            let tick = AssertUnwindSafe(|| probe.tick(now, host_is_short));
            match panic::catch_unwind(tick) {
                Ok((lag, is_needed)) => {
                    is_idle &= !is_needed;
                    if (CALM..GIVEN_UP).contains(&lag) {
                        busy_at = now;
                    }
                }
                Err(_) => observe::sampler_failed("a reading panicked"),
            }
        }
        stamp::renew();
        let is_calm = now.saturating_sub(busy_at) >= CALM_FOR;
        let tick = match (is_calm, is_idle) {
            (false, _) => TICK,
            (true, false) => CALM_TICK,
            (true, true) => IDLE_TICK,
        };
        let next = now + tick;
        let mut runtimes = lock(&SAMPLER.runtimes);
        // A probe that is added in between is already under way. Only a tick reads probes.
        while let Some(rest) = next
            .checked_sub(clock::monotonic())
            .filter(|rest| !rest.is_zero())
        {
            runtimes = SAMPLER
                .more
                .wait_timeout(runtimes, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Collects the probes in use, and waits until there is at least one.
fn wait_for_probes(probes: &mut Vec<Arc<Probe>>) {
    let mut runtimes = lock(&SAMPLER.runtimes);
    loop {
        runtimes.all.retain(|entry| {
            let wanted = entry.probe.upgrade().filter(|probe| !probe.is_closed());
            let is_wanted = wanted.is_some();
            probes.extend(wanted);
            is_wanted
        });
        if !probes.is_empty() {
            return;
        }
        runtimes = SAMPLER
            .more
            .wait(runtimes)
            .unwrap_or_else(PoisonError::into_inner);
    }
}
