//! Holes: OS pages of a slab in use that were given back to the kernel.
//!
//! The free blocks of a slab name each other by words inside them (`batch`), and those words would be lost with their
//! pages. A slab with holes therefore keeps its free blocks out of band: one bit for each block, and one for each OS page
//! that is gone. Nothing reads or writes the memory of a free block of such a slab.

use super::{bits, meta};
use crate::base::size_class;
use crate::base::units::SLOT;
use crate::os::sys;
use core::ptr::NonNull;
use core::slice;

/// Where a slab's blocks lie against OS pages. Pages are bits of a `u64`, from the slab's base on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Grid {
    size: usize,
    capacity: usize,
    page_shift: u32,
}

/// OS pages of a slab, one bit each.
pub(crate) type Pages = u64;

const _: () = {
    let mut class = 1;
    while class < size_class::SLAB_CLASSES {
        let pages = size_class::slots(class) * SLOT / (4 << 10);
        assert!(pages <= Pages::BITS as usize, "a bit for each page");
        class += 1;
    }
};

impl Grid {
    /// The grid of a slab of `capacity` blocks of `size` bytes.
    pub(crate) fn new(size: usize, capacity: usize) -> Grid {
        Grid {
            size,
            capacity,
            page_shift: sys::page_size().trailing_zeros(),
        }
    }

    /// Bytes of so many pages.
    pub(crate) fn bytes(self, pages: Pages) -> usize {
        (pages.count_ones() as usize) << self.page_shift
    }

    /// The pages that hold a part of block `at`.
    fn pages_of(self, at: usize) -> Pages {
        self.pages_of_bytes(at * self.size, (at + 1) * self.size)
    }

    /// The pages that hold a part of the bytes from `from` to `to`.
    fn pages_of_bytes(self, from: usize, to: usize) -> Pages {
        let (first, last) = (from >> self.page_shift, (to - 1) >> self.page_shift);
        Pages::MAX << first & Pages::MAX >> (Pages::BITS - 1 - last as u32)
    }

    /// The pages that hold free blocks and no others.
    pub(crate) fn free_pages(self, free: &[u64]) -> Pages {
        let mut pages = self.pages_of_bytes(0, self.capacity * self.size);
        let mut from = 0;
        while let Some(used) = bits::next_clear(free, from)
            && used < self.capacity
            && pages != 0
        {
            pages &= !self.pages_of(used);
            // What ends within the last of these pages frees none.
            let end = (((used + 1) * self.size - 1) >> self.page_shift) + 1;
            from = (used + 1).max((end << self.page_shift) / self.size);
        }
        pages
    }

    /// Calls `found` for the first free blocks, at most `most`, and clears their bits: for those of which no page is in
    /// `gone`, or if `refetch`, for any, whose pages are gone no more. Returns how many.
    fn take(
        self,
        free: &mut [u64],
        gone: &mut Pages,
        refetch: bool,
        most: usize,
        mut found: impl FnMut(usize),
    ) -> usize {
        let (mut from, mut count) = (0, 0);
        while count < most
            && let Some(at) = bits::next_set(free, from)
        {
            from = at + 1;
            let away = self.pages_of(at) & *gone;
            if away == 0 || refetch {
                *gone &= !away;
                bits::clear(free, at);
                found(at);
                count += 1;
            } else {
                // Every block that begins before the end of the last of these pages needs it too.
                let end = ((away.ilog2() + 1) as usize) << self.page_shift;
                from = from.max(end.div_ceil(self.size));
            }
        }
        count
    }

    /// Words of a [`Holes`] for this grid.
    fn words(self) -> usize {
        1 + bits::words(self.capacity)
    }
}

/// What a slab with holes knows out of band: a word of gone pages, then a bit for each block that is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Holes(NonNull<u64>);

impl Holes {
    /// The pages that are gone.
    ///
    /// # Safety
    /// The caller holds the lock of the heap that owns the slab, as for the other functions here.
    pub(crate) unsafe fn gone(self) -> Pages {
        // SAFETY: the first word is ours.
        unsafe { self.0.read() }
    }

    /// # Safety
    /// As for [`Holes::gone`].
    pub(crate) unsafe fn set_gone(self, pages: Pages) {
        // SAFETY: as above.
        unsafe { self.0.write(pages) }
    }

    /// The bits of the free blocks.
    ///
    /// # Safety
    /// As for [`Holes::gone`]; `grid` is that of the slab, and no other slice of them is alive.
    pub(crate) unsafe fn free<'a>(self, grid: Grid) -> &'a mut [u64] {
        // SAFETY: the words behind the first, of an allocation for this grid.
        unsafe { slice::from_raw_parts_mut(self.0.as_ptr().add(1), grid.words() - 1) }
    }

    /// Takes free blocks: up to `most` that are resident or, if there are none, up to `fresh` of which a part is gone.
    /// Their numbers go to `found`, ascending. Returns how many.
    ///
    /// # Safety
    /// As for [`Holes::free`].
    pub(crate) unsafe fn take(
        self,
        grid: Grid,
        most: usize,
        fresh: usize,
        mut found: impl FnMut(usize),
    ) -> usize {
        // SAFETY: the caller's promise.
        let (free, mut gone) = unsafe { (self.free(grid), self.gone()) };
        match grid.take(free, &mut gone, false, most, &mut found) {
            0 => {
                let count = grid.take(free, &mut gone, true, fresh.clamp(1, most), found);
                // SAFETY: the caller's promise.
                unsafe { self.set_gone(gone) };
                count
            }
            count => count,
        }
    }
}

/// Sizes in which the words come: with room for 64 blocks, 128, and so on to 4096.
const SIZES: usize = 7;

/// Words that no slab needs at present, by size.
#[repr(C)]
pub(crate) struct Unused([*mut u64; SIZES]);

/// The size for a grid, and its words.
fn size_of_words(grid: Grid) -> (usize, usize) {
    let bits = (grid.words() - 1).next_power_of_two();
    (bits.trailing_zeros() as usize, 1 + bits)
}

impl Unused {
    #[cfg(test)]
    pub(crate) const NONE: Unused = Unused([core::ptr::null_mut(); SIZES]);

    /// Words for a slab of this grid: no page gone and no block free. `None` when out of memory.
    pub(crate) fn get(&mut self, grid: Grid) -> Option<Holes> {
        let (size, words) = size_of_words(grid);
        let head = &mut self.0[size];
        let at = match NonNull::new(*head) {
            Some(at) => {
                // SAFETY: unused words are linked by their first, and are the caller's.
                unsafe {
                    *head = at.cast::<*mut u64>().read();
                    at.write_bytes(0, words);
                }
                at
            }
            None => meta::allocate_words(words)?,
        };
        Some(Holes(at))
    }

    /// Takes words back.
    ///
    /// # Safety
    /// They came from [`Unused::get`], of any heap, for this grid, and no slab uses them any more.
    pub(crate) unsafe fn put(&mut self, holes: Holes, grid: Grid) {
        let head = &mut self.0[size_of_words(grid).0];
        // SAFETY: the caller gives the words up.
        unsafe { holes.0.cast::<*mut u64>().write(*head) };
        *head = holes.0.as_ptr();
    }
}

#[cfg(all(test, not(loom)))]
#[path = "holes_tests.rs"]
mod tests;
