//! Holes: OS pages of a slab in use that were given back to the kernel.
//!
//! Nothing reads or writes the memory of a block that is free in its slab. So a page that holds only free blocks can go. A bit
//! for each page says which are gone.

use super::bits;
use crate::base::size_class::{self, Class};
use crate::os::sys;

/// Where a slab's blocks lie relative to OS pages. Pages are bits of a `u64`, counted from the slab's base.
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
        let pages = size_class::slots(Class::new(class)).bytes() / (4 << 10);
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

    /// Bytes of these pages.
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
            // A block that ends within the last of these pages frees none.
            let end = (((used + 1) * self.size - 1) >> self.page_shift) + 1;
            from = (used + 1).max((end << self.page_shift) / self.size);
        }
        pages
    }

    /// Takes free blocks: up to `most` resident ones or, if there are none, up to `fresh` of which a part is gone; their pages
    /// then count as resident. Passes their numbers to `found`, ascending. Returns how many.
    pub(crate) fn take(
        self,
        free: &mut [u64],
        gone: &mut Pages,
        most: usize,
        fresh: usize,
        mut found: impl FnMut(usize),
    ) -> usize {
        match self.take_some(free, gone, false, most, &mut found) {
            0 => self.take_some(free, gone, true, fresh.clamp(1, most), found),
            count => count,
        }
    }

    /// Calls `found` for the first free blocks, at most `most`, and clears their bits: those with no page in `gone`; with
    /// `refetch`, any.
    fn take_some(
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
}

#[cfg(all(test, not(loom)))]
#[path = "holes_tests.rs"]
mod tests;
