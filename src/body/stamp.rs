//! The progress of a response body, in one word.

/// The progress of a body: `| frames: 32 | polls: 31 | the connection waits for the body: 1 |`. A
/// wake of the body clears the last bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp(pub(super) u64);

impl Stamp {
    pub(super) const WAITS: u64 = 1;
    const POLLS: u64 = u32::MAX as u64 - Self::WAITS;

    /// The body is polled, and waits until it has a frame.
    pub(super) const fn polled(self) -> Self {
        let polls = (self.0 & Self::POLLS).wrapping_add(1 << 1) & Self::POLLS;
        Self(self.0 & !Self::POLLS | polls | Self::WAITS)
    }

    /// The body had a frame.
    pub(super) const fn with_frame(self) -> Self {
        Self(self.0.wrapping_add(1 << 32) & !Self::WAITS)
    }

    pub(super) const fn waits(self) -> bool {
        self.0 & Self::WAITS != 0
    }

    pub(super) const fn polls(self) -> u64 {
        self.0 & Self::POLLS
    }

    pub(super) const fn frames(self) -> u64 {
        self.0 >> 32
    }
}
