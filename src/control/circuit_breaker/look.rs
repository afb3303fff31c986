//! What a circuit breaker says of itself.

#[cfg(all(test, seawall_loom))]
use loom::sync::atomic::Ordering;
#[cfg(not(all(test, seawall_loom)))]
use std::sync::atomic::Ordering;

use super::breaker::{Breaker, Spans};
use super::circuit::{Decision, Exceeded, Mode, Probes, era};
use super::counts::Counts;

/// What a breaker looks like at a time, whether or not a call has come to change its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) mode: Mode,
    /// Nanoseconds.
    pub(crate) since: u64,
    pub(crate) until: Option<u64>,
    pub(crate) transitions: u64,
    pub(crate) failed_recoveries: u32,
    pub(crate) probes: u32,
}

impl Breaker {
    /// The state at a time: one that is over by then is shown as what the next call will find.
    pub(crate) fn look(&self, now: u64, spans: &impl Spans) -> Look {
        let (circuit, probes) = {
            let locked = self.lock();
            let probes = Probes(self.probes.load(Ordering::Acquire));
            (locked.circuit.clone(), probes)
        };
        let mut look = Look {
            mode: circuit.mode,
            since: circuit.since,
            until: None,
            transitions: circuit.transitions,
            failed_recoveries: circuit.failed_recoveries,
            probes: 0,
        };
        match circuit.mode {
            Mode::Open if now < circuit.until => look.until = Some(circuit.until),
            Mode::Open => {
                look.mode = Mode::HalfOpen;
                look.since = circuit.until;
            }
            Mode::HalfOpen if now < circuit.until => look.probes = probes.outstanding(),
            Mode::HalfOpen => {
                look.since = circuit.until;
                if spans.thresholds().decide(probes, true) == Decision::Close {
                    look.mode = Mode::Closed;
                } else {
                    let failed_recoveries = circuit.failed_recoveries.saturating_add(1);
                    let open = spans.open(failed_recoveries, circuit.generation);
                    let until = circuit.until.saturating_add(open);
                    if now < until {
                        look.mode = Mode::Open;
                        look.until = Some(until);
                    } else {
                        look.since = until;
                    }
                }
            }
            _ => {}
        }
        look
    }

    /// What the window holds, or what its probes have said; while it is open, what made it so.
    pub(crate) fn counts(&self, now: u64) -> Counts {
        let word = self.word();
        let failed_recoveries = self.failed_recoveries.load(Ordering::Acquire);
        match word.mode() {
            Mode::HalfOpen => self.probes(),
            Mode::Open if failed_recoveries > 0 => self.probes(),
            Mode::Closed | Mode::ObserveOnly | Mode::Open => {
                self.window.counts(era(word.generation()), now)
            }
            Mode::ForcedOpen | Mode::ForcedClosed => Counts::default(),
        }
    }

    fn probes(&self) -> Counts {
        let probes = Probes(self.probes.load(Ordering::Acquire));
        Counts {
            calls: probes.done().into(),
            failures: probes.failed().into(),
            slow: probes.slow().into(),
            ..Counts::default()
        }
    }

    /// All calls that ever came back with a verdict.
    pub(crate) fn totals(&self) -> Counts {
        self.window.totals()
    }

    /// All calls that came back without one.
    pub(crate) fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }

    /// How often each of [`Exceeded::CAUSES`] was reached.
    pub(crate) fn crossed(&self) -> [u64; Exceeded::CAUSES.len()] {
        std::array::from_fn(|index| self.crossed[index].load(Ordering::Relaxed))
    }
}
