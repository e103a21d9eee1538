//! What a slab does with holes: which pages can go, and how blocks are taken if some are gone.

use super::batch::Block;
use super::bits;
use super::holes::{Grid, Pages};
use super::slab::Slab;
use super::superslab::MOST_BLOCKS;
use crate::base::size_class;
use crate::os::sys;
use core::slice;

/// A bit for each free block of any slab.
type Map = [u64; bits::words(MOST_BLOCKS)];

/// Pages of a slab that can go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chance {
    /// Those that hold no block that is out.
    pub(crate) pages: Pages,
    /// Of these, those with blocks that were ever handed out. The others are resident only if something else touched them.
    pub(crate) used: Pages,
}

/// Neighbouring pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) addr: usize,
    pub(crate) len: usize,
    pub(crate) pages: Pages,
}

impl Slab {
    fn grid(&self) -> Grid {
        Grid::new(size_class::size(self.class.get()), self.capacity as usize)
    }

    pub(super) fn gone_bytes(&self) -> usize {
        self.grid().bytes(self.gone)
    }

    /// Which pages can go.
    pub(crate) fn survey(&self) -> Chance {
        let grid = self.grid();
        let capacity = self.capacity();
        let map: &mut Map = &mut [0; _];
        let map = &mut map[..bits::words(capacity)];
        let untouched = if self.carved < self.capacity {
            set_all(map, self.uncarved());
            grid.free_pages(map)
        } else {
            0
        };
        for (word, free) in map.iter_mut().zip(self.bits()) {
            *word |= free;
        }
        let pages = grid.free_pages(map) & !self.gone;
        Chance {
            pages,
            used: pages & !untouched,
        }
    }

    /// The numbers of the blocks that were never handed out.
    fn uncarved(&self) -> impl Iterator<Item = usize> + use<> {
        let (start, capacity) = (self.start as usize, self.capacity());
        (self.carved as usize..capacity).map(move |i| (start + i) % capacity)
    }

    /// Makes the blocks that were never handed out count as freed, as pages are about to go.
    pub(crate) fn carve_rest(&mut self) {
        let uncarved = self.uncarved();
        set_all(self.bits_mut(), uncarved);
        self.free_count += self.capacity - self.carved;
        self.carved = self.capacity;
    }

    /// Notes that pages which [`Slab::survey`] found are gone. No block was taken since.
    pub(crate) fn lost(&mut self, pages: Pages) {
        self.gone |= pages;
        debug_assert!(self.is_valid());
    }

    /// Takes blocks of a slab with holes. The last written has the lowest address.
    ///
    /// # Safety
    /// As for [`Slab::take`].
    #[cold]
    pub(super) unsafe fn take_resident(
        &mut self,
        to: *mut *mut Block,
        most: usize,
        carve: usize,
    ) -> usize {
        let (base, size) = (self.base, size_class::size(self.class.get()));
        let grid = self.grid();
        let mut count = 0;
        // SAFETY: the caller has room for `most` addresses, and is told of no more blocks.
        unsafe {
            let found = |at: usize| {
                to.add(count).write((base + at * size) as *mut Block);
                count += 1;
            };
            let mut gone = self.gone;
            let taken = grid.take(self.bits_mut(), &mut gone, most, carve, found);
            self.gone = gone;
            slice::from_raw_parts_mut(to, taken).reverse();
            taken
        }
    }

    /// Debug walker: as many bits are set as are counted, all of blocks that were handed out, and the pages that are gone hold
    /// only free blocks.
    pub(crate) fn is_valid(&self) -> bool {
        let capacity = self.capacity();
        let free = self.bits();
        let mut uncarved: Map = [0; _];
        set_all(&mut uncarved, self.uncarved());
        self.carved <= self.capacity
            && self.free_count <= self.carved
            && bits::count(free) == self.free_count as usize
            && bits::next_set(free, capacity).is_none()
            && free
                .iter()
                .zip(&uncarved)
                .all(|(free, new)| free & new == 0)
            && (self.gone == 0 || self.gone & !self.grid().free_pages(free) == 0)
    }
}

fn set_all(map: &mut [u64], blocks: impl Iterator<Item = usize>) {
    for at in blocks {
        let is_new = bits::set(map, at);
        debug_assert!(is_new, "a block that was never out does not come back");
    }
}

/// The runs of neighbours among these pages of a slab at `base`.
pub(crate) fn runs(base: usize, pages: Pages) -> impl Iterator<Item = Run> {
    let page = sys::page_size();
    let mut left = pages;
    core::iter::from_fn(move || {
        (left != 0).then(|| {
            let first = left.trailing_zeros();
            let count = (left >> first).trailing_ones();
            let pages = Pages::MAX >> (Pages::BITS - count) << first;
            left &= !pages;
            Run {
                addr: base + first as usize * page,
                len: count as usize * page,
                pages,
            }
        })
    })
}
