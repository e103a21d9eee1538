//! Which kind of checked block serves a request.

#![forbid(unsafe_code)]

use super::fill::WORD;
use super::mode;
use crate::base::size_class::{self, CLASSES, Class, MIN_ALIGN, RUN_MAX, SLAB_CLASSES, SLAB_MAX};
use crate::base::tuning::checked as tuning;
use crate::base::units::{SLOT, Slots};

/// How the blocks of a checked slab lie: as those of a size class, or one block in a slot more than the largest class has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kind(u16);

impl Kind {
    /// All kinds, the unused class 0 included.
    pub(super) const COUNT: usize = CLASSES + 1;

    /// The kind for a size and an alignment that a size class serves: the smallest with a word behind the block.
    #[inline(always)]
    pub(super) fn of(size: usize, align: usize) -> Option<Kind> {
        let with_word = size + WORD;
        if with_word <= SLAB_MAX && align <= MIN_ALIGN {
            let class = size_class::of_size(with_word)?;
            return Some(Kind(class.index() as u16));
        }
        Kind::of_others(size, align)
    }

    #[inline(never)]
    fn of_others(size: usize, align: usize) -> Option<Kind> {
        let class = match size_class::of_layout(size + WORD, align) {
            Some(class) => class.index(),
            None if size <= RUN_MAX && align <= SLOT => CLASSES,
            None => return None,
        };
        Some(Kind(class as u16))
    }

    pub(super) fn all() -> impl Iterator<Item = Kind> {
        (1..Kind::COUNT).map(|class| Kind(class as u16))
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The size class its blocks are counted in: those of 1 MiB, which have a slot more, in that of the largest.
    pub(super) fn class(self) -> Class {
        Class::new(self.index().min(CLASSES - 1))
    }

    /// Whether a slab of it is one block.
    pub(super) fn is_run(self) -> bool {
        self.index() >= SLAB_CLASSES
    }

    /// Slots of a slab.
    pub(super) fn slots(self) -> Slots {
        self.block_slots() + Slots::new(usize::from(self.lead() == SLOT))
    }

    /// Slots that the blocks of a slab lie in.
    fn block_slots(self) -> Slots {
        if self.is_run() {
            Slots::new(self.index() - SLAB_CLASSES + 1)
        } else {
            size_class::slots(self.class())
        }
    }

    /// Blocks that the slots of a slab hold.
    fn places(self) -> usize {
        if self.is_run() {
            1
        } else {
            size_class::capacity(self.class())
        }
    }

    /// Bytes of a slab in front of its first block, so that what is written there damages nothing: the place of a block, or a
    /// slot of which the last OS page is touched. None if one slab in so many is checked and few blocks fit one.
    pub(super) fn lead(self) -> usize {
        if self.places() >= tuning::LEAD_FROM {
            self.stride()
        } else if mode::is_sampled() {
            0
        } else {
            SLOT
        }
    }

    /// Blocks of a slab.
    pub(super) fn capacity(self) -> usize {
        self.places() - usize::from(self.places() >= tuning::LEAD_FROM)
    }

    /// Bytes from one block to the next.
    pub(super) fn stride(self) -> usize {
        if self.is_run() {
            self.block_slots().bytes()
        } else {
            size_class::size(self.class())
        }
    }

    /// Bytes from a block of that size to the end of what guards it: to the next block, if there is one.
    pub(super) fn extent(self, size: usize) -> usize {
        if self.is_run() {
            self.stride().min((size + tuning::CANARY) / WORD * WORD)
        } else {
            self.stride()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_left_on_both_sides_of_every_block() {
        for size in (0..RUN_MAX).step_by(37).chain([RUN_MAX]) {
            for align in [1, 16, 64, 4096, SLOT] {
                let Some(kind) = Kind::of(size, align) else {
                    panic!("{size} at {align}");
                };
                assert!(
                    kind.stride() >= size + WORD
                        && kind.lead() >= WORD
                        && kind.slots().bytes() >= kind.lead() + kind.capacity() * kind.stride()
                );
                assert!(kind.lead().is_multiple_of(align.min(kind.stride())));
                let extent = kind.extent(size);
                assert!(extent >= size + WORD && extent <= kind.stride());
                assert!(
                    align <= 16 || kind.stride().is_multiple_of(align),
                    "{size} at {align}"
                );
            }
        }
        assert_eq!(Kind::of(RUN_MAX + 1, 16), None);
        assert_eq!(Kind::of(1, 2 * SLOT), None);
    }
}
