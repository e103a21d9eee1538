//! What a slab does with holes: which pages can go, how its free blocks come out of band, and how they are taken and put
//! back there.

use super::batch::{Addresses, Block};
use super::bits;
use super::holes::{Grid, Holes, Pages, Unused};
use super::slab::{Slab, damaged};
use crate::base::size_class;
use crate::os::sys;
use core::slice;

/// A bit for each free block of any slab.
pub(crate) type Map = [u64; bits::words(crate::base::units::SLOT / size_of::<Block>())];

/// Pages of a slab that can go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chance {
    /// Those that hold no block that is out.
    pub(crate) pages: Pages,
    /// Of these, those that hold blocks that were handed out at some time. The others are resident only if something else
    /// touched them.
    pub(crate) used: Pages,
}

/// Pages next to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) addr: usize,
    pub(crate) len: usize,
    pub(crate) pages: Pages,
}

impl Slab {
    fn grid(&self) -> Grid {
        Grid::new(
            size_class::size(self.class as usize),
            self.capacity as usize,
        )
    }

    pub(super) fn gone_bytes(&self) -> usize {
        // SAFETY: whoever has the slab holds its owner's lock.
        let gone = self.holes.map_or(0, |holes| unsafe { holes.gone() });
        self.grid().bytes(gone)
    }

    /// Looks at every free block, and notes them in `map` if they are in band.
    pub(crate) fn survey(&self, map: &mut Map, scratch: &mut Addresses) -> Chance {
        let grid = self.grid();
        if let Some(holes) = self.holes {
            // SAFETY: whoever has the slab holds its owner's lock.
            let pages = unsafe { grid.free_pages(holes.free(grid)) & !holes.gone() };
            return Chance { pages, used: pages };
        }
        let capacity = self.capacity as usize;
        let map = &mut map[..bits::words(capacity)];
        map.fill(0);
        for i in self.carved as usize..capacity {
            // Each of them is another.
            let _ = bits::set(map, (self.start as usize + i) % capacity);
        }
        let untouched = if self.carved < self.capacity {
            grid.free_pages(map)
        } else {
            0
        };
        let mut twice = None;
        let read = self.each_free(scratch, |at| {
            if !bits::set(map, at) {
                twice = Some(at);
            }
        });
        if let Some(at) = twice {
            damaged((self.base + at * size_class::size(self.class as usize)) as *mut Block);
        }
        if !read {
            damaged(
                self.free
                    .map_or(core::ptr::null_mut(), |batch| batch.head()),
            );
        }
        let pages = grid.free_pages(map);
        Chance {
            pages,
            used: pages & !untouched,
        }
    }

    /// Has the free blocks kept out of band, as [`Slab::survey`] has just noted them in `map`; so they are already if the
    /// slab has holes. Returns whether they are: not when out of memory.
    #[must_use]
    pub(crate) fn come_out_of_band(&mut self, map: &Map, unused: &mut Unused) -> bool {
        if self.holes.is_some() {
            return true;
        }
        let grid = self.grid();
        let Some(holes) = unused.get(grid) else {
            return false;
        };
        // SAFETY: whoever has the slab holds its owner's lock.
        let free = unsafe { holes.free(grid) };
        free.copy_from_slice(&map[..free.len()]);
        self.free_count += self.capacity - self.carved;
        self.carved = self.capacity;
        self.free = None;
        self.holes = Some(holes);
        true
    }

    /// The pages are gone, of those that [`Slab::survey`] found while nothing was taken since.
    pub(crate) fn lost(&mut self, pages: Pages) {
        if let Some(holes) = self.holes {
            // SAFETY: whoever has the slab holds its owner's lock.
            unsafe { holes.set_gone(holes.gone() | pages) };
        }
        debug_assert!(self.is_valid());
    }

    /// Puts the words away that the slab does not need any more: all of its blocks are out, or it goes.
    pub(crate) fn put_holes_away(&mut self, unused: &mut Unused) {
        if let Some(holes) = self.holes.take() {
            // SAFETY: they were this slab's.
            unsafe { unused.put(holes, self.grid()) };
        }
    }

    /// Whether the slab has holes but no free block, and so none that is a hole.
    #[inline]
    pub(crate) fn is_filled(&self) -> bool {
        self.holes.is_some() && self.free_count == 0
    }

    /// Takes blocks of a slab with holes. The last written has the lowest address.
    ///
    /// # Safety
    /// As for [`Slab::take`].
    #[cold]
    pub(super) unsafe fn take_from(
        &mut self,
        holes: Holes,
        to: *mut *mut Block,
        most: usize,
        carve: usize,
    ) -> usize {
        let (base, size) = (self.base, size_class::size(self.class as usize));
        let mut count = 0;
        // SAFETY: whoever has the slab holds its owner's lock. The caller has room for `most` addresses, and is told of no
        // more blocks.
        let taken = unsafe {
            let found = |at: usize| {
                to.add(count).write((base + at * size) as *mut Block);
                count += 1;
            };
            let taken = holes.take(self.grid(), most, carve, found);
            slice::from_raw_parts_mut(to, taken).reverse();
            taken
        };
        self.free_count -= taken as u16;
        taken
    }

    /// # Safety
    /// As for [`Slab::give`].
    #[cold]
    pub(super) unsafe fn give_to(&mut self, holes: Holes, last: *const *mut Block, count: usize) {
        // SAFETY: whoever has the slab holds its owner's lock; the caller has `count` addresses.
        unsafe {
            let free = holes.free(self.grid());
            for i in 0..count {
                let block = *last.sub(i);
                let at = self.index(block as usize);
                if !at.is_some_and(|at| bits::set(free, at)) {
                    damaged(block);
                }
            }
        }
    }

    /// Debug walker: the free batches have `free_count` blocks of this slab, and nothing else; or so many bits are set,
    /// and the pages that are gone hold free blocks alone.
    pub(crate) fn is_valid(&self) -> bool {
        let counts = self.carved <= self.capacity && self.free_count <= self.carved;
        let Some(holes) = self.holes else {
            let mut blocks = 0;
            let listed = self.each_free(&mut Addresses::new(), |_| blocks += 1);
            return counts && listed && blocks == self.free_count as usize;
        };
        let grid = self.grid();
        // SAFETY: whoever has the slab holds its owner's lock.
        let (free, gone) = unsafe { (holes.free(grid), holes.gone()) };
        counts
            && self.free.is_none()
            && self.carved == self.capacity
            && bits::count(free) == self.free_count as usize
            && bits::next_set(free, self.capacity as usize).is_none()
            && gone & !grid.free_pages(free) == 0
    }
}

/// The runs of these pages, of a slab at `base`.
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
