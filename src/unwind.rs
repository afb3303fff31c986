//! Panics of the user's policies, hooks and recorders: none of them prevents other work.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

/// Runs code that may panic, and discards its panic. `None` if it panicked.
pub(crate) fn without_panics<T>(run: impl FnOnce() -> T) -> Option<T> {
    let mut run = Some(run);
    let mut value = None;
    catch(&mut || value = run.take().map(|run| run()));
    value
}

/// It is not generic, so that it is compiled once.
fn catch(run: &mut dyn FnMut()) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(run)) {
        discard(payload);
    }
}

/// Drops a payload. If that panics too, the payload of the second panic is leaked.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(payload);
    }
}

/// Runs code in a destructor. While the thread unwinds, a second panic would abort the process, and
/// is discarded.
pub(crate) fn in_drop(run: impl FnOnce()) {
    if thread::panicking() {
        without_panics(run);
    } else {
        run();
    }
}

/// Calls both, also if the first panics. Then it unwinds after the second, whose panic is
/// discarded.
#[inline(always)]
pub(crate) fn both<T>(shared: &mut T, first: impl FnOnce(&mut T), second: impl FnOnce(&mut T)) {
    struct OnUnwind<'a, T, F: FnOnce(&mut T)> {
        shared: &'a mut T,
        second: Option<F>,
    }

    impl<T, F: FnOnce(&mut T)> Drop for OnUnwind<'_, T, F> {
        #[inline(always)]
        fn drop(&mut self) {
            if let Some(second) = self.second.take() {
                without_panics(|| second(self.shared));
            }
        }
    }

    let mut both = OnUnwind {
        shared,
        second: Some(second),
    };
    first(both.shared);
    if let Some(second) = both.second.take() {
        second(both.shared);
    }
}
