//! Decides whether there are too many panics.

use std::collections::VecDeque;

/// The last panics. Times are nanoseconds.
#[derive(Debug)]
pub(crate) struct PanicWindow {
    most: usize,
    window: u64,
    /// The times of fewer than `most` panics.
    times: VecDeque<u64>,
    has_escalated: bool,
}

// === impl PanicWindow ===

impl PanicWindow {
    pub(crate) fn new(most: u32, window: u64) -> Self {
        Self {
            most: most as usize,
            window,
            times: VecDeque::new(),
            has_escalated: false,
        }
    }

    /// Records a panic. Returns `true` once: for the panic that completes this number within the
    /// window.
    pub(crate) fn record(&mut self, now: u64) -> bool {
        if self.has_escalated {
            return false;
        }
        while let Some(first) = self.times.front() {
            if now.saturating_sub(*first) < self.window {
                break;
            }
            self.times.pop_front();
        }
        self.times.push_back(now);
        self.has_escalated = self.times.len() >= self.most;
        self.has_escalated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_escalates_once_for_so_many_within_the_window() {
        let mut window = PanicWindow::new(3, 10);
        assert!(!window.record(0));
        assert!(!window.record(5));
        // The first panic is as old as the window.
        assert!(!window.record(10));
        assert!(window.record(14));
        assert!(!window.record(14), "once");
    }

    #[test]
    fn one_may_be_too_many() {
        assert!(PanicWindow::new(1, 1).record(0));
    }
}
