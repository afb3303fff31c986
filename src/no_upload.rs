//! The functions of `upload` without the feature `http`: there are no request bodies, and so a
//! service never waits for one.

use std::time::Duration;

use crate::outcome::Outcome;

#[derive(Clone, Copy)]
pub(crate) struct Report(u64);

pub(crate) struct Listening;

pub(crate) struct Detached;

pub(crate) struct Unheard;

impl Report {
    pub(crate) const NOTHING: Self = Self(0);
    pub(crate) const BITS: u32 = 59;

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) const fn is_present(self) -> bool {
        self.0 != 0
    }

    pub(crate) const fn kept_by_future(self) -> Self {
        self
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }
}

impl Detached {
    pub(crate) fn new() -> Self {
        Self
    }
}

impl Unheard {
    pub(crate) fn new() -> Self {
        Self
    }
}

impl Listening {
    pub(crate) fn new(_: Report) -> Self {
        Self
    }
}

pub(crate) fn rejecting<T>(drops: impl FnOnce() -> T) -> T {
    drops()
}

pub(crate) const fn end_poll() {}

pub(crate) const fn abandon() {}

pub(crate) const fn blame_callers_time() {}

pub(crate) const fn listen_to_end(_: Option<Report>) -> Option<Listening> {
    None
}

pub(crate) const fn reported() -> Report {
    Report::NOTHING
}

pub(crate) const fn waited_before() -> Duration {
    Duration::ZERO
}

pub(crate) const fn waited() -> Duration {
    Duration::ZERO
}

pub(crate) const fn is_callers_fault(_: bool) -> bool {
    false
}

pub(crate) const fn judged_call(outcome: Outcome) -> Outcome {
    outcome
}

pub(crate) const fn judged(outcome: Outcome, _: bool) -> Outcome {
    outcome
}
