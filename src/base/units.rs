//! The fixed units of the address space and the arithmetic on them. Lengths are bytes, or [`Slots`].

use core::ops::{Add, AddAssign, Sub, SubAssign};

/// Bytes in a superslab; also its alignment, and the size of a huge page on x86_64 and aarch64 with 4 KiB pages.
pub(crate) const SUPERSLAB: usize = 2 << 20;
/// Bytes in a slot: the unit of the directory and of every slab.
pub(crate) const SLOT: usize = 64 << 10;
/// log2 of [`SLOT`].
pub(crate) const SLOT_SHIFT: u32 = 16;
/// log2 of [`SUPERSLAB`].
pub(crate) const SUPERSLAB_SHIFT: u32 = 21;
/// Slots in a superslab; one bit each in a `u32`.
pub(crate) const SLOTS: usize = SUPERSLAB / SLOT;
/// A cache line of every machine this runs on.
pub(crate) const CACHE_LINE: usize = 64;

const _: () = assert!(SLOTS == 32, "slot bitmaps are u32");
const _: () = assert!(
    1 << SLOT_SHIFT == SLOT && 1 << SUPERSLAB_SHIFT == SUPERSLAB,
    "shifts agree with sizes"
);

/// A number of slots: the length of a slab, or how many slots something has.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct Slots(usize);

impl Slots {
    pub(crate) const NONE: Slots = Slots(0);
    pub(crate) const ONE: Slots = Slots(1);
    /// Those of a superslab.
    pub(crate) const SUPERSLAB: Slots = Slots(SLOTS);

    #[inline(always)]
    pub(crate) const fn new(count: usize) -> Slots {
        Slots(count)
    }
    /// As many as bits are set, one for each slot.
    #[inline(always)]
    pub(crate) const fn in_bits(bits: u32) -> Slots {
        Slots(bits.count_ones() as usize)
    }
    #[inline(always)]
    pub(crate) const fn count(self) -> usize {
        self.0
    }
    #[inline(always)]
    pub(crate) const fn bytes(self) -> usize {
        self.0 * SLOT
    }
    /// The whole superslabs that they fill.
    #[inline(always)]
    pub(crate) const fn superslabs(self) -> usize {
        self.0 / SLOTS
    }
    #[inline(always)]
    pub(crate) const fn saturating_sub(self, other: Slots) -> Slots {
        Slots(self.0.saturating_sub(other.0))
    }
}

impl Add for Slots {
    type Output = Slots;
    #[inline(always)]
    fn add(self, other: Slots) -> Slots {
        Slots(self.0 + other.0)
    }
}

impl Sub for Slots {
    type Output = Slots;
    #[inline(always)]
    fn sub(self, other: Slots) -> Slots {
        Slots(self.0 - other.0)
    }
}

impl AddAssign for Slots {
    #[inline(always)]
    fn add_assign(&mut self, other: Slots) {
        self.0 += other.0;
    }
}

impl SubAssign for Slots {
    #[inline(always)]
    fn sub_assign(&mut self, other: Slots) {
        self.0 -= other.0;
    }
}

/// Rounds `n` up to a multiple of the power of two `to`; `None` on overflow.
pub(crate) const fn round_up(n: usize, to: usize) -> Option<usize> {
    debug_assert!(to.is_power_of_two());
    match n.checked_add(to - 1) {
        Some(m) => Some(m & !(to - 1)),
        None => None,
    }
}

/// The row of a table that a word belongs to; there is a power of two of them, 65,536 at most. Multiplicative hashing: the bits
/// that differ in any place reach the top ones.
#[inline]
pub(crate) const fn row(word: usize, rows: usize) -> usize {
    ((word as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48) as usize % rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding() {
        assert_eq!(round_up(0, SLOT), Some(0));
        assert_eq!(round_up(1, SLOT), Some(SLOT));
        assert_eq!(round_up(SLOT, SLOT), Some(SLOT));
        assert_eq!(round_up(usize::MAX, SLOT), None);
    }

    #[test]
    fn slots_are_counted_not_measured() {
        assert_eq!(Slots::in_bits(0x8000_0011), Slots::new(3));
        assert_eq!(Slots::new(3).bytes(), 3 * SLOT);
        let more = Slots::SUPERSLAB + Slots::new(SLOTS - 1);
        assert_eq!(
            (more.superslabs(), (more + Slots::ONE).superslabs()),
            (1, 2)
        );
        assert_eq!(Slots::ONE.saturating_sub(more), Slots::NONE);
    }
}
