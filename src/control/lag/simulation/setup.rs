//! The service of the simulation, and its results. Times are microseconds.

pub(super) type Us = u64;
pub(super) const MS: Us = 1000;

/// The durations of handlers, relative to their mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Handlers {
    /// Half of the mean for half of them, the mean for four tenths, 3.5 times the mean for one
    /// tenth.
    Mixed,
    Exponential,
    /// 0.05 times the mean for nine tenths, 9.55 times the mean for one tenth.
    Bimodal,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) workers: usize,
    pub(super) service: f64,
    pub(super) handlers: Handlers,
    pub(super) rejection: f64,
    /// The number of HTTP/2 connections over which the requests arrive. The task of a connection
    /// spawns a task for each request. 0 is HTTP/1: each request is a task that the driver wakes.
    pub(super) connections: usize,
    /// A request awaits for this long before it computes.
    pub(super) awaits: Us,
    /// All workers are blocked from this time on, for this long.
    pub(super) stall: Option<(Us, Us)>,
    /// This many requests arrive at the same time.
    pub(super) burst: Option<(Us, usize)>,
}

/// A duration in milliseconds, and a multiple of the capacity.
pub(super) type Phase = (u64, f64);

/// The result of a request.
#[derive(Clone, Copy)]
pub(super) struct Done {
    pub(super) arrived: Us,
    pub(super) end: Us,
    /// The time for which the handler computed.
    pub(super) cost: f64,
    pub(super) fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Served,
    Rejected,
    /// The client of the request has given up.
    GaveUp,
}

// === impl Setup ===

impl Setup {
    pub(super) fn new(service: f64, handlers: Handlers, workers: usize) -> Self {
        Self {
            workers,
            service,
            handlers,
            rejection: if service < 100.0 { 8.0 } else { 12.0 },
            connections: 0,
            awaits: 0,
            stall: None,
            burst: None,
        }
    }

    /// The goodput that no law can exceed.
    pub(super) fn bound(&self, load: f64) -> f64 {
        let p = self.rejection / self.service;
        ((1.0 - load * p) / (1.0 - p)).clamp(0.0, load)
    }
}
