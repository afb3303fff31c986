//! Values that change while other threads read them.

use crate::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use crate::sync::hint::spin_loop;

/// `N` words that change together while other threads read them: a sequence lock, whose readers
/// write nothing (Boehm, "Can seqlocks get along with programming language memory models?", 2012).
#[derive(Debug)]
pub(crate) struct Published<const N: usize> {
    /// Odd while the words are written.
    version: AtomicU64,
    words: [AtomicU64; N],
}

// === impl Published ===

impl<const N: usize> Published<N> {
    pub(crate) fn new(words: [u64; N]) -> Self {
        Self {
            version: AtomicU64::new(0),
            words: words.map(AtomicU64::new),
        }
    }

    /// Changes all words. The caller must ensure that no other thread calls this at the same time.
    pub(crate) fn set(&self, words: [u64; N]) {
        let version = self.version.load(Relaxed);
        self.version.store(version + 1, Relaxed);
        fence(Release);
        for (word, new) in self.words.iter().zip(words) {
            word.store(new, Relaxed);
        }
        self.version.store(version + 2, Release);
    }

    /// All words, as one call of [`set`](Self::set) wrote them.
    pub(crate) fn get(&self) -> [u64; N] {
        loop {
            let before = self.version.load(Acquire);
            let words = std::array::from_fn(|index| self.words[index].load(Relaxed));
            fence(Acquire);
            if before & 1 == 0 && self.version.load(Relaxed) == before {
                return words;
            }
            spin_loop();
        }
    }

    /// One word, for a reader that needs only this one.
    #[inline(always)]
    pub(crate) fn word(&self, index: usize) -> u64 {
        self.words[index].load(Relaxed)
    }
}
