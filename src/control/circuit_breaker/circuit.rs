//! The states of a circuit breaker and the ways between them, and what its thresholds and its probes say: no atomics.

use super::counts::Counts;

/// What a breaker is doing, whatever the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
    ObserveOnly,
}

/// Why a circuit breaker changed its state, or a threshold that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The failure rate of the window reached its threshold.
    FailureRate,
    /// The rate of slow calls in the window reached its threshold.
    SlowCallRate,
    /// So many calls in a row failed.
    ConsecutiveFailures,
    /// The open time is over: probes are let through.
    OpenTimeOver,
    /// The probes say that the dependency works.
    ProbesSucceeded,
    /// The probes say that it does not.
    ProbesFailed,
    /// The half-open time was over before enough probes had succeeded.
    HalfOpenTimeOver,
    /// The handle was told to.
    ByHand,
}

/// Flags of the thresholds that are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exceeded(u32);

/// When to open. Without a failure rate and a slow-call rate only consecutive failures do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Thresholds {
    pub(crate) failure_rate: Option<f64>,
    pub(crate) slow_rate: Option<f64>,
    pub(crate) minimum_calls: u64,
    pub(crate) consecutive_failures: Option<u32>,
    /// Probes in half-open.
    pub(crate) probes: u32,
}

/// What becomes of a half-open breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Undecided,
    Close,
    Reopen,
}

/// The most probes at once.
pub(crate) const MAX_PROBES: u32 = 1000;

/// The probes of one half-open generation in one word, so that no decision is taken on a torn view:
/// `| generation: 14 | outstanding: 10 | those with a head: 10 | done: 10 | failed: 10 | slow: 10 |`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probes(pub(crate) u64);

/// The state, as changed under a lock. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Circuit {
    pub(crate) mode: Mode,
    /// Changes with every change of state, and tells results of earlier ones apart. See [`era`].
    pub(crate) generation: u64,
    pub(crate) since: u64,
    /// When the open or the half-open time is over.
    pub(crate) until: u64,
    /// How often it opened again since it was last closed.
    pub(crate) failed_recoveries: u32,
    pub(crate) transitions: u64,
}

/// The state as calls read it: `| generation: 60 | calls are timed: 1 | mode: 3 |`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(super) u64);

/// One change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) from: Mode,
    pub(crate) to: Mode,
    pub(crate) cause: Cause,
    pub(crate) number: u64,
    /// How long it stays open, or half-open, at the most; nanoseconds.
    pub(crate) lasts: Option<u64>,
}

// === impl Word ===

impl Word {
    const MODE: u64 = 0b111;
    const TIMED: u64 = 0b1000;
    const GENERATION_SHIFT: u32 = 4;

    pub(super) const fn new(generation: u64, mode: Mode, timed: bool) -> Self {
        Self(generation << Self::GENERATION_SHIFT | (timed as u64) << 3 | mode as u64)
    }

    #[inline]
    pub(super) const fn mode(self) -> Mode {
        Mode::of_index(self.0 & Self::MODE)
    }

    /// Whether the call's duration matters.
    #[inline]
    pub(crate) const fn is_timed(self) -> bool {
        self.0 & Self::TIMED != 0
    }

    pub(super) const fn generation(self) -> u64 {
        self.0 >> Self::GENERATION_SHIFT
    }

    /// Nothing to ask: every call passes.
    #[inline]
    pub(crate) const fn lets_pass(self) -> bool {
        matches!(
            self.mode(),
            Mode::Closed | Mode::ForcedClosed | Mode::ObserveOnly
        )
    }
}

// === impl Mode ===

impl Mode {
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [Mode; 6] = [
        Mode::Closed,
        Mode::Open,
        Mode::HalfOpen,
        Mode::ForcedOpen,
        Mode::ForcedClosed,
        Mode::ObserveOnly,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Mode::Closed => "closed",
            Mode::Open => "open",
            Mode::HalfOpen => "half_open",
            Mode::ForcedOpen => "forced_open",
            Mode::ForcedClosed => "forced_closed",
            Mode::ObserveOnly => "observe_only",
        }
    }

    /// Three bits, of which only six values are ever stored.
    #[inline]
    pub(super) const fn of_index(index: u64) -> Mode {
        match index {
            0 => Mode::Closed,
            1 => Mode::Open,
            2 => Mode::HalfOpen,
            3 => Mode::ForcedOpen,
            4 => Mode::ForcedClosed,
            _ => Mode::ObserveOnly,
        }
    }
}

// === impl Cause ===

impl Cause {
    /// The cause as a label: lower case, stable, fit for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::FailureRate => "failure_rate",
            Cause::SlowCallRate => "slow_call_rate",
            Cause::ConsecutiveFailures => "consecutive_failures",
            Cause::OpenTimeOver => "open_time_over",
            Cause::ProbesSucceeded => "probes_succeeded",
            Cause::ProbesFailed => "probes_failed",
            Cause::HalfOpenTimeOver => "half_open_time_over",
            Cause::ByHand => "by_hand",
        }
    }
}

// === impl Exceeded ===

impl Exceeded {
    /// The thresholds, in the order in which they are named as the cause.
    pub(crate) const CAUSES: [Cause; 3] = [
        Cause::FailureRate,
        Cause::SlowCallRate,
        Cause::ConsecutiveFailures,
    ];

    pub(super) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    fn with(self, index: usize, reached: bool) -> Self {
        Self(self.0 | u32::from(reached) << index)
    }

    pub(crate) const fn has(self, index: usize) -> bool {
        self.0 & 1 << index != 0
    }

    pub(super) fn cause(self) -> Option<Cause> {
        (0..Self::CAUSES.len())
            .find(|index| self.has(*index))
            .map(|index| Self::CAUSES[index])
    }
}

// === impl Thresholds ===

impl Thresholds {
    /// What is reached by these counts and so many failures in a row.
    pub(crate) fn exceeded(&self, counts: &Counts, in_a_row: u32) -> Exceeded {
        let enough = counts.calls >= self.minimum_calls;
        let reached = |rate: Option<f64>, limit: Option<f64>| matches!((rate, limit), (Some(rate), Some(limit)) if enough && rate >= limit);
        Exceeded::default()
            .with(0, reached(counts.failure_rate(), self.failure_rate))
            .with(1, reached(counts.slow_rate(), self.slow_rate))
            .with(
                2,
                self.consecutive_failures
                    .is_some_and(|most| in_a_row >= most),
            )
    }

    /// What the probes say: as soon as the rest cannot change it; as the last word, with streams that have begun well taken
    /// for successes, and all else that is missing for failed.
    pub(crate) fn decide(&self, probes: Probes, is_last_word: bool) -> Decision {
        let all = if is_last_word {
            probes.outstanding() + probes.done()
        } else {
            self.probes.max(probes.outstanding() + probes.done())
        };
        // Without a failure rate one failed probe is one too many.
        let limit = |rate: Option<f64>, or: f64| rate.unwrap_or(or);
        let share = |part: u32| f64::from(part) / f64::from(all);
        let failure_limit = limit(self.failure_rate, f64::MIN_POSITIVE);
        let slow_limit = limit(self.slow_rate, f64::INFINITY);
        let begun = if is_last_word { probes.heads() } else { 0 };
        if probes.done() + begun == 0 {
            return if is_last_word {
                Decision::Reopen
            } else {
                Decision::Undecided
            };
        }
        if share(probes.failed()) >= failure_limit || share(probes.slow()) >= slow_limit {
            return Decision::Reopen;
        }
        let missing = all - probes.done() - begun;
        if share(probes.failed() + missing) < failure_limit
            && share(probes.slow() + missing) < slow_limit
        {
            return Decision::Close;
        }
        if is_last_word {
            Decision::Reopen
        } else {
            Decision::Undecided
        }
    }
}

// === impl Probes ===

impl Probes {
    const BITS: u32 = 10;
    const FIELD: u64 = (1 << Self::BITS) - 1;
    const TAG_SHIFT: u32 = 5 * Self::BITS;
    const OUTSTANDING: u64 = 1 << (4 * Self::BITS);
    const HEADS: u64 = 1 << (3 * Self::BITS);
    const DONE: u64 = 1 << (2 * Self::BITS);
    const FAILED: u64 = 1 << Self::BITS;
    const SLOW: u64 = 1;

    pub(super) const fn new(generation: u64) -> Self {
        // Eras one after the other are told apart, and so are the generations of one. An odd factor, of no other meaning.
        let tag = era(generation).wrapping_mul(0x9e5).wrapping_add(generation);
        Self(tag << Self::TAG_SHIFT)
    }

    pub(super) const fn is_of(self, generation: u64) -> bool {
        self.0 >> Self::TAG_SHIFT == Self::new(generation).0 >> Self::TAG_SHIFT
    }

    const fn field(self, unit: u64) -> u32 {
        ((self.0 / unit) & Self::FIELD) as u32
    }

    /// Calls that are out.
    pub(crate) const fn outstanding(self) -> u32 {
        self.field(Self::OUTSTANDING)
    }

    /// Calls that are out, but whose response has begun.
    pub(crate) const fn heads(self) -> u32 {
        self.field(Self::HEADS)
    }

    /// Calls that came back with a verdict.
    pub(crate) const fn done(self) -> u32 {
        self.field(Self::DONE)
    }

    pub(crate) const fn failed(self) -> u32 {
        self.field(Self::FAILED)
    }

    pub(crate) const fn slow(self) -> u32 {
        self.field(Self::SLOW)
    }

    /// One more, if there is a place: so many may be out or done in one generation.
    pub(super) fn enter(self, places: u32) -> Option<Self> {
        (self.outstanding() + self.done() < places).then_some(Self(self.0 + Self::OUTSTANDING))
    }

    /// The response of one has begun.
    #[allow(dead_code, reason = "without a protocol nothing begins before it ends")]
    pub(super) fn begin(self) -> Self {
        Self(self.0 + Self::HEADS)
    }

    /// One back without a verdict.
    pub(super) fn release(self, has_head: bool) -> Self {
        debug_assert!(self.outstanding() > 0, "no place is given back twice");
        debug_assert!(!has_head || self.heads() > 0, "no head is taken back twice");
        Self(self.0 - Self::OUTSTANDING - u64::from(has_head) * Self::HEADS)
    }

    /// One back with a verdict.
    pub(super) fn finish(self, has_head: bool, failed: bool, slow: bool) -> Self {
        Self(
            self.release(has_head).0
                + Self::DONE
                + u64::from(failed) * Self::FAILED
                + u64::from(slow) * Self::SLOW,
        )
    }
}

// === impl Circuit ===

/// Flaps between open and half-open that fit into one era; were there more, the next would begin, and harm nobody.
const FLAP_BITS: u32 = 28;

/// The part of a generation that changes only with a state in which calls are counted. Windows tell eras apart, and do not
/// see how long an outage was.
#[inline]
pub(super) const fn era(generation: u64) -> u64 {
    generation >> FLAP_BITS
}

impl Circuit {
    pub(super) fn new(now: u64) -> Self {
        Self {
            mode: Mode::Closed,
            generation: 0,
            since: now,
            until: u64::MAX,
            failed_recoveries: 0,
            transitions: 0,
        }
    }

    /// Changes the state, for so long if it is one that ends by itself. To the same state it changes nothing but the
    /// generation.
    pub(super) fn enter(
        &mut self,
        to: Mode,
        cause: Cause,
        now: u64,
        lasts: Option<u64>,
    ) -> Option<Change> {
        let from = self.mode;
        self.generation = match to {
            Mode::Closed | Mode::ObserveOnly => (era(self.generation) + 1) << FLAP_BITS,
            _ => self.generation + 1,
        };
        self.mode = to;
        self.until = lasts.map_or(u64::MAX, |lasts| now.saturating_add(lasts));
        match (from, to) {
            (Mode::HalfOpen, Mode::Open) => {
                self.failed_recoveries = self.failed_recoveries.saturating_add(1);
            }
            (Mode::Open, Mode::HalfOpen) => {}
            _ => self.failed_recoveries = 0,
        }
        if from == to {
            return None;
        }
        self.since = now;
        self.transitions += 1;
        Some(Change {
            from,
            to,
            cause,
            number: self.transitions,
            lasts,
        })
    }
}
