//! The time for which a worker goes on serving the request that it has started.

use super::Nanos;

/// The mean and the mean square of the handlers' polls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ServiceTime {
    polls: f64,
    mean: f64,
    square: f64,
}

/// Polls of handlers, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Polls {
    pub(crate) number: u64,
    /// Nanoseconds.
    pub(crate) sum: f64,
    pub(crate) squares: f64,
}

/// The number of polls over which the average is taken.
const AVERAGED: f64 = 256.0;

/// With fewer polls, the service time is unknown.
const KNOWN: f64 = 8.0;

// === impl ServiceTime ===

impl ServiceTime {
    pub(crate) fn on_polls(&mut self, polls: Polls) {
        if polls.number == 0 {
            return;
        }
        let number = polls.number as f64;
        self.polls += number;
        let weight = (number / self.polls.min(AVERAGED)).min(1.0);
        self.mean += weight * (polls.sum / number - self.mean);
        self.square += weight * (polls.squares / number - self.square);
    }

    /// The residual service time of one of several workers, E\[s²\] / (2 E\[s\]), divided by their
    /// number: the time that an arrival waits for the first of them if all are busy (the mean
    /// residual life of renewal theory). `None` if there are too few polls.
    pub(crate) fn residual(&self, workers: usize) -> Option<Nanos> {
        self.is_known()
            .then(|| (self.square / self.mean / 2.0 / workers.max(1) as f64) as Nanos)
    }

    /// The time in which several workers serve one request on average. `None` if there are too few
    /// polls.
    pub(crate) fn interval(&self, workers: usize) -> Option<Nanos> {
        self.is_known()
            .then(|| (self.mean / workers.max(1) as f64) as Nanos)
    }

    fn is_known(&self) -> bool {
        self.polls >= KNOWN && self.mean > 0.0
    }
}
