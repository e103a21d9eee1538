//! The words of the stack that a walk is told by.

use crate::base::tuning::walks::WORDS;

/// Words that are compared before the first jump.
const GROUP: usize = 4;
const _: () = assert!(WORDS.is_multiple_of(GROUP), "the last group is whole");

/// Words, and how far above a place of the stack they lie.
#[derive(Clone, Copy)]
pub(super) struct Words {
    by: [u32; WORDS],
    words: [usize; WORDS],
}

impl Words {
    #[inline(always)]
    pub(super) fn note(&mut self, i: usize, by: usize, word: usize) {
        (self.by[i], self.words[i]) = (by as u32, word);
    }

    /// How far up the last of `count` words lies, of which there is one.
    #[inline]
    pub(super) fn last(&self, count: usize) -> usize {
        self.by[count - 1] as usize
    }

    /// Fills the rest of the group that the last of `count` words is in with that one.
    #[inline]
    pub(super) fn fill_group(&mut self, count: usize) {
        for i in count..count.next_multiple_of(GROUP).min(WORDS) {
            self.note(i, self.by[i - 1] as usize, self.words[i - 1]);
        }
    }

    /// Whether something holds for each of the first `count` words, in the order in which they were read.
    pub(super) fn all(&self, count: usize, mut holds: impl FnMut(u32, usize) -> bool) -> bool {
        let mut words = self.by.iter().zip(&self.words).take(count);
        words.all(|(&by, &word)| holds(by, word))
    }

    /// Whether the first `count` words are as they were, which are above `from`.
    ///
    /// # Safety
    /// They can be read.
    #[inline(always)]
    pub(super) unsafe fn are_there(&self, count: usize, from: usize) -> bool {
        let (by, words) = (self.by.as_chunks().0, self.words.as_chunks().0);
        let groups = count.div_ceil(GROUP).min(WORDS / GROUP);
        for (by, words) in by[..groups].iter().zip(&words[..groups]) {
            let (by, words): (&[u32; GROUP], &[usize; GROUP]) = (by, words);
            let mut wrong = 0;
            for i in 0..GROUP {
                // SAFETY: the caller's promise.
                wrong |= unsafe { read(from + by[i] as usize) } ^ words[i];
            }
            if wrong != 0 {
                return false;
            }
        }
        true
    }
}

/// A word of the stack, or of whatever a damaged one leads to. Another thread may be writing it, which no read of the language
/// allows: this is one instruction, and what it says is compared or doubted.
///
/// # Safety
/// It can be read.
#[inline(always)]
pub(super) unsafe fn read(at: usize) -> usize {
    cfg_select! {
        all(target_arch = "x86_64", not(miri)) => {
            let word;
            // SAFETY: the caller's promise.
            unsafe { core::arch::asm!("mov {}, [{}]", lateout(reg) word, in(reg) at, options(nostack, preserves_flags, readonly)) };
            word
        }
        all(target_arch = "aarch64", not(miri)) => {
            let word;
            // SAFETY: the caller's promise.
            unsafe { core::arch::asm!("ldr {}, [{}]", lateout(reg) word, in(reg) at, options(nostack, preserves_flags, readonly)) };
            word
        }
        // SAFETY: the caller's promise.
        _ => unsafe { core::ptr::with_exposed_provenance::<usize>(at).read_volatile() },
    }
}

/// Without the bits that sign a return address on aarch64.
#[inline]
pub(super) fn address(word: usize) -> usize {
    if cfg!(target_arch = "aarch64") {
        word & ((1 << 48) - 1)
    } else {
        word
    }
}
