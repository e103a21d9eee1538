//! The fixed units of the address space and the arithmetic on them. All lengths are bytes.

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
}
