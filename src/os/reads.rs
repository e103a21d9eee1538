//! The words of the stack that a walk reads.

use crate::base::tuning::walks::WORDS;

/// Words that are compared before the first jump.
const GROUP: usize = 4;
const _: () = assert!(WORDS.is_multiple_of(GROUP), "the last group is whole");

/// Words, and how far above the stack pointer at the start they lie.
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

    /// Whether the first `count` words are as they were, which are above `sp`.
    ///
    /// # Safety
    /// They can be read.
    #[inline(always)]
    pub(super) unsafe fn are_there(&self, count: usize, sp: usize) -> bool {
        let (by, words) = (self.by.as_chunks().0, self.words.as_chunks().0);
        let groups = count.div_ceil(GROUP).min(WORDS / GROUP);
        for (by, words) in by[..groups].iter().zip(&words[..groups]) {
            let (by, words): (&[u32; GROUP], &[usize; GROUP]) = (by, words);
            let mut wrong = 0;
            for i in 0..GROUP {
                // SAFETY: the caller's promise.
                wrong |= unsafe { read(sp + by[i] as usize) } ^ words[i];
            }
            if wrong != 0 {
                return false;
            }
        }
        true
    }
}

/// The words that a walk's outcome depends on.
pub(super) struct Reads {
    /// Addresses and what was read there. Each address follows from what comes before it.
    pub(super) words: [[usize; 2]; WORDS],
    /// How many there are. If they are more than fit, the walk is not kept.
    pub(super) count: usize,
    /// The frame pointer at the start, if it matters.
    pub(super) first: Option<usize>,
    fp: FramePointer,
    /// Whether tables led to each of the words. Frame pointers may lead anywhere.
    pub(super) certain: bool,
}

/// Where the frame pointer of a step comes from. Most code keeps anything in that register, which matters if a step goes by it.
enum FramePointer {
    Start,
    Word([usize; 2]),
    /// It is among the words, or a rule says what it is.
    Settled,
}

impl Reads {
    pub(super) fn new() -> Reads {
        Reads {
            words: [[0; 2]; WORDS],
            count: 0,
            first: None,
            fp: FramePointer::Start,
            certain: true,
        }
    }

    /// A step depends on this word.
    pub(super) fn note(&mut self, at: usize, word: usize) {
        if let Some(place) = self.words.get_mut(self.count) {
            *place = [at, word];
        }
        self.count += 1;
    }

    /// The next step's frame pointer is this word, if there is one.
    pub(super) fn set_frame_pointer(&mut self, word: Option<[usize; 2]>) {
        self.fp = word.map_or(FramePointer::Settled, FramePointer::Word);
    }

    /// A step goes by the frame pointer, which is `value`.
    pub(super) fn use_frame_pointer(&mut self, value: usize) {
        match core::mem::replace(&mut self.fp, FramePointer::Settled) {
            FramePointer::Start => self.first = Some(value),
            FramePointer::Word([at, word]) => self.note(at, word),
            FramePointer::Settled => {}
        }
    }

    /// The outcome depends on more than words.
    pub(super) fn give_up(&mut self) {
        self.count = WORDS + 1;
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
