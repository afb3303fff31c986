//! A condition that must hold for a time before it counts, and must be absent for a time before it
//! stops counting.

/// Times are nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hysteresis {
    on_after: u64,
    off_after: u64,
    is_on: bool,
    /// The first read since which the condition differs from `is_on`.
    other_since: Option<u64>,
}

// === impl Hysteresis ===

impl Hysteresis {
    /// Starts off. It turns on when the condition has held for `on_after`, and off when it has been
    /// absent for `off_after`.
    pub(crate) const fn new(on_after: u64, off_after: u64) -> Self {
        Self {
            on_after,
            off_after,
            is_on: false,
            other_since: None,
        }
    }

    /// Reads the condition, and returns whether it counts. The condition between two reads is
    /// unknown. It counts as unchanged if both reads return the same.
    pub(crate) fn look(&mut self, now: u64, holds: bool) -> bool {
        if holds == self.is_on {
            self.other_since = None;
            return self.is_on;
        }
        let since = *self.other_since.get_or_insert(now);
        let after = if holds { self.on_after } else { self.off_after };
        if now.saturating_sub(since) >= after {
            self.is_on = holds;
            self.other_since = None;
        }
        self.is_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_on_after_one_time_and_off_after_the_other() {
        let mut this = Hysteresis::new(10, 20);
        assert!(!this.look(0, false));
        assert!(!this.look(100, true));
        assert!(!this.look(109, true));
        assert!(this.look(110, true));
        assert!(this.look(200, false));
        assert!(this.look(219, false));
        assert!(!this.look(220, false));
    }

    #[test]
    fn an_interruption_begins_the_time_anew() {
        let mut this = Hysteresis::new(10, 10);
        assert!(!this.look(0, true));
        assert!(!this.look(9, false));
        assert!(!this.look(10, true));
        assert!(!this.look(19, true));
        assert!(this.look(20, true));
        assert!(this.look(21, false));
        assert!(this.look(30, true));
        assert!(this.look(31, false));
        assert!(this.look(40, false));
        assert!(!this.look(41, false));
    }

    #[test]
    fn without_a_time_it_is_the_condition() {
        let mut this = Hysteresis::new(0, 0);
        for (now, holds) in [(0, true), (0, false), (1, true), (1, false)] {
            assert_eq!(this.look(now, holds), holds);
        }
    }

    #[test]
    fn time_that_goes_back_changes_nothing() {
        let mut this = Hysteresis::new(10, 10);
        assert!(!this.look(100, true));
        assert!(!this.look(50, true));
        assert!(this.look(110, true));
    }
}
