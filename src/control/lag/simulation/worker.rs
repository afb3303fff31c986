//! A worker and the tasks that it polls.

use std::collections::VecDeque;

use super::setup::Us;

#[derive(Clone, Copy)]
pub(super) enum Task {
    Request {
        arrived: Us,
    },
    /// An HTTP/2 connection that has received requests.
    Connection(usize),
    /// A request that a connection has spawned.
    Spawned {
        arrived: Us,
        is_counted: bool,
    },
    /// A request whose await has ended.
    Resumed {
        arrived: Us,
        cost: f64,
    },
    Probe,
    Mark {
        of: usize,
    },
    Blocks(Us),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Absent,
    AwaitsTurn,
    Queued,
}

pub(super) struct Worker {
    pub(super) now: Us,
    pub(super) rest: f64,
    pub(super) polls: u64,
    pub(super) mean_poll: f64,
    pub(super) local: VecDeque<Task>,
    pub(super) newest: Option<Task>,
    pub(super) deferred: bool,
    pub(super) is_parked: bool,
    pub(super) is_searching: bool,
    pub(super) mark: Mark,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(index: usize) -> Self {
        Self {
            now: 0,
            rest: 0.0,
            polls: index as u64 * 7,
            mean_poll: 20.0,
            local: VecDeque::new(),
            newest: None,
            deferred: false,
            is_parked: false,
            is_searching: false,
            mark: Mark::Absent,
        }
    }

    pub(super) fn spend(&mut self, cost: f64) {
        let all = cost + self.rest;
        self.now += all as Us;
        self.rest = all.fract();
        self.mean_poll += 0.02 * (cost - self.mean_poll);
    }
}
