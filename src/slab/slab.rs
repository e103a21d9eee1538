//! A slab: one slot, or a few, cut into blocks of one class, or a run of slots that is a single block.
//!
//! `carved - free_count` blocks are out: with the user, or in somebody's bins and batches. The owner's lock guards
//! every field. Blocks are carved from a rotated start, so that the first blocks of many slabs do not fall into one
//! set of the cache or of its TLB.
//!
//! The free blocks are chained in batches, in band, until OS pages of the slab go back to the kernel: from then on a bitmap
//! holds them (`holes`), until all are taken or the slab goes.

use super::batch::{self, Addresses, Batch, Block};
use super::holes::Holes;
use super::superslab::UNIT;
use crate::base::size_class;
use crate::base::units::{CACHE_LINE, SLOT, SLOT_SHIFT};
use core::ptr;

/// One slab's state, a cache line. All-zero is a valid "no slab here".
#[repr(C, align(64))]
pub(crate) struct Slab {
    pub(super) free: Option<Batch>,
    /// The free blocks of a slab with holes; `free` is `None` then, and every block counts as carved.
    pub(super) holes: Option<Holes>,
    pub(crate) next: *mut Slab,
    pub(crate) prev: *mut Slab,
    pub(crate) base: usize,
    pub(super) free_count: u16,
    /// Blocks carved since the slab was claimed.
    pub(super) carved: u16,
    pub(super) capacity: u16,
    /// Index of the block carved first.
    pub(super) start: u16,
    pub(crate) owner: u32,
    pub(crate) class: u8,
    /// Whether memory not yet carved is known to be zero.
    clean: bool,
    /// Which of the heap's lists holds the slab; 0 for none.
    pub(crate) bucket: u8,
    /// How many slots before this one the slab begins whose blocks lie in it; not 0 in the later slots of a slab of
    /// several blocks alone, while it is open.
    pub(crate) back: u8,
    pub(crate) rest: Rest,
    /// Pages of the slab are being given back. It is in no list, nothing is taken from it, and it stays a slab.
    pub(crate) going: bool,
}

/// For how long no block was taken from a slab or came back to it, as far as those know who look for holes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Rest {
    /// Some may have been since the last look.
    Stirred = 0,
    /// None was since the last look.
    Still,
    /// None was since the slab was looked at closely: all of its pages went that can go.
    Settled,
    /// The same, but its pages are parts of a huge page that is too much in use to be split.
    Held,
}

const _: () = assert!(
    size_of::<Slab>() == CACHE_LINE,
    "a slab's state is one cache line"
);

/// How many blocks a class with few has: one that gets fewer asks again soon.
const FEW: usize = 8;

/// What was taken from a slab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Taken {
    pub(crate) count: usize,
    /// The blocks are zero, and were never touched.
    pub(crate) zero: bool,
}

impl Slab {
    /// Sets the slab up for `class`; nothing of it is out.
    ///
    /// # Safety
    /// The caller claimed the slots and holds the lock of heap `owner`.
    pub(crate) unsafe fn open(this: *mut Slab, base: usize, class: usize, owner: u32, clean: bool) {
        let capacity = size_class::capacity(class);
        // Another cache line and another 4 KiB for each slot, in whole blocks. 29 and 7 are odd: neighbouring slots, which
        // neighbouring classes tend to get, go through all sets of the first-level cache and of its TLB, whose set is
        // the low bits of the page number (sixteen sets, and slots are sixteen pages apart).
        let line = ((base >> SLOT_SHIFT) * (7 * 64 + 29)) % (SLOT / CACHE_LINE);
        // What is used of several slots is counted from the first on.
        let size = size_class::size(class);
        let mut start = if size_class::slots(class) > 1 {
            0
        } else {
            (line * CACHE_LINE / size) % capacity
        };
        // A class of which one block is used is not to touch two pages. The block at the base lies in one.
        while size <= UNIT && start * size % UNIT + size > UNIT {
            start = (start + 1) % capacity;
        }
        // SAFETY: the caller has exclusive use of the slab.
        unsafe {
            this.write(Slab {
                free: None,
                holes: None,
                next: ptr::null_mut(),
                prev: ptr::null_mut(),
                base,
                free_count: 0,
                carved: 0,
                capacity: capacity as u16,
                start: start as u16,
                owner,
                class: class as u8,
                clean,
                bucket: 0,
                back: 0,
                rest: Rest::Stirred,
                going: false,
            });
        }
    }

    /// Blocks out.
    #[inline]
    pub(crate) fn out(&self) -> usize {
        (self.carved - self.free_count) as usize
    }

    /// Blocks that can be taken.
    #[inline]
    pub(crate) fn available(&self) -> usize {
        (self.capacity - self.out() as u16) as usize
    }

    /// Bytes of the blocks that were ever handed out.
    #[inline]
    fn carved_bytes(&self) -> usize {
        self.carved as usize * size_class::size(self.class as usize)
    }

    /// Bytes of the blocks that were ever handed out, without the pages that are gone.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        match self.holes {
            None => self.carved_bytes(),
            // A slab of which a block is out holds more than the bytes behind its last block, which may be of a page that
            // is gone.
            Some(_) => self.carved_bytes().saturating_sub(self.gone_bytes()),
        }
    }

    /// Bytes of OS pages that hold the blocks carved so far, more or less: the first of them begins within one.
    pub(crate) fn touched(&self) -> usize {
        self.held_bytes() + 2048
    }

    /// The same, with the pages that are gone.
    pub(crate) fn ever_touched(&self) -> usize {
        self.carved_bytes() + 2048
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Takes up to `most` freed blocks, or where there are none up to `carve` new ones (at least 1), and writes their
    /// addresses from `to` upwards. New blocks are not touched; the last written is the first of them.
    ///
    /// # Safety
    /// `to` has room for `most` addresses, and for `carve`.
    pub(crate) unsafe fn take(
        &mut self,
        to: *mut *mut Block,
        most: usize,
        carve: usize,
        scratch: &mut Addresses,
    ) -> Option<Taken> {
        self.rest = Rest::Stirred;
        if self.free_count > 0 {
            // SAFETY: the caller has the room.
            let count = unsafe {
                match self.holes {
                    None => self.take_freed(to, most, scratch),
                    Some(holes) => self.take_from(holes, to, most, carve),
                }
            };
            return Some(Taken { count, zero: false });
        }
        let left = (self.capacity - self.carved) as usize;
        if left == 0 {
            return None;
        }
        let count = left.min(self.first_page(carve).max(1));
        // SAFETY: the caller has the room.
        unsafe { self.carve(to, count) };
        Some(Taken {
            count,
            zero: self.clean,
        })
    }

    /// # Safety
    /// `to` has room for `most` addresses, at least 1.
    unsafe fn take_freed(
        &mut self,
        to: *mut *mut Block,
        most: usize,
        scratch: &mut Addresses,
    ) -> usize {
        let size = size_class::size(self.class as usize);
        let mut got = 0;
        while got < most
            && let Some(batch) = self.free
        {
            // SAFETY: free blocks of ours, whose words only a stray write can have changed; that is looked for. The
            // caller has the room.
            unsafe {
                let (count, next) = batch.header();
                if count == 0
                    || count > batch::MOST.min(self.free_count as usize)
                    || next.is_some_and(|next| !self.is_block(next.head() as usize))
                    || (next.is_none() && count != self.free_count as usize)
                {
                    damaged(batch.head());
                }
                self.free = next;
                self.free_count -= count as u16;
                let fit = count.min(most - got);
                let last = if fit == count {
                    to.add(got + count - 1)
                } else {
                    scratch.first().add(count - 1)
                };
                let are_blocks = |some: &[*mut Block], _| self.may_be_blocks(some);
                let opened = batch.open(count, last, size, are_blocks);
                opened.unwrap_or_else(|block| damaged(block));
                if fit < count {
                    ptr::copy_nonoverlapping(last.sub(fit - 1), to.add(got), fit);
                    self.give(last.sub(fit), count - fit);
                }
                got += fit;
            }
        }
        got
    }

    /// Blocks of `carve` to be carved at once. Where that is a page's worth or less, and the slab's first, those up to the
    /// end of the OS page they begin in, if it holds enough: a class with a few blocks touches one page then.
    fn first_page(&self, carve: usize) -> usize {
        let size = size_class::size(self.class as usize);
        let first = self.base + self.start as usize * size;
        match (UNIT - first % UNIT) / size {
            fit if fit >= FEW && self.carved == 0 && carve * size <= UNIT => fit.min(carve),
            _ => carve,
        }
    }

    /// # Safety
    /// `to` has room for `count` addresses, and so many blocks were never carved.
    unsafe fn carve(&mut self, to: *mut *mut Block, count: usize) {
        let size = size_class::size(self.class as usize);
        let capacity = self.capacity as usize;
        for i in 0..count {
            let mut index = self.start as usize + self.carved as usize + (count - 1 - i);
            if index >= capacity {
                index -= capacity;
            }
            // SAFETY: the caller has the room.
            unsafe { *to.add(i) = (self.base + index * size) as *mut Block };
        }
        self.carved += count as u16;
    }

    /// Puts back the blocks at the `count` addresses up to and including `*last`.
    ///
    /// # Safety
    /// They are 1 to [`batch::MOST`] blocks of this slab that are out, and the caller owns them.
    #[inline]
    pub(crate) unsafe fn give(&mut self, last: *const *mut Block, count: usize) {
        // SAFETY: the caller owns the blocks.
        unsafe {
            if let Some(holes) = self.holes {
                self.give_to(holes, last, count);
            } else {
                let batch = Batch::of(last, count, size_class::size(self.class as usize));
                batch.set_link(self.free);
                self.free = Some(batch);
            }
        }
        self.rest = Rest::Stirred;
        self.free_count += count as u16;
    }

    /// The number of the block that starts at `addr`, if one does.
    pub(super) fn index(&self, addr: usize) -> Option<usize> {
        let offset = addr.wrapping_sub(self.base);
        let size = size_class::size(self.class as usize);
        let at = offset / size;
        (offset == at * size && at < self.capacity as usize).then_some(at)
    }

    /// Whether `addr` is the start of a block of this slab.
    pub(crate) fn is_block(&self, addr: usize) -> bool {
        self.index(addr).is_some()
    }

    /// Whether the addresses may be those of blocks of this slab.
    #[inline]
    fn may_be_blocks(&self, some: &[*mut Block]) -> bool {
        let size = size_class::size(self.class as usize);
        let starts = (self.capacity as usize - 1) * size + 1;
        let (mut bits, mut inside) = (0, true);
        for &block in some {
            bits |= block as usize;
            inside &= (block as usize).wrapping_sub(self.base) < starts;
        }
        inside && bits.is_multiple_of(size_of::<Block>())
    }

    /// Calls `found` with the number of each free block, which are in band. Returns whether all were read: not if words
    /// are damaged.
    pub(super) fn each_free(&self, scratch: &mut Addresses, mut found: impl FnMut(usize)) -> bool {
        let size = size_class::size(self.class as usize);
        let mut left = self.free_count as usize;
        let mut at = self.free;
        while let Some(batch) = at {
            let is_block = |&block: &*mut Block| self.is_block(block as usize);
            let are_blocks = |some: &[*mut Block], _| some.iter().all(is_block);
            if !self.is_block(batch.head() as usize) {
                return false;
            }
            // SAFETY: a block of ours, and each that it names is looked at before it is read.
            unsafe {
                let (count, next) = batch.header();
                if count == 0 || count > left.min(batch::MOST) {
                    return false;
                }
                let first = scratch.first();
                if batch
                    .open(count, first.add(count - 1), size, are_blocks)
                    .is_err()
                {
                    return false;
                }
                for i in 0..count {
                    self.index(*first.add(i) as usize)
                        .into_iter()
                        .for_each(&mut found);
                }
                left -= count;
                at = next;
            }
        }
        left == 0
    }
}

/// Ends the process: the words of a free block do not say what they said.
#[cold]
#[inline(never)]
pub(crate) fn damaged(block: *mut Block) -> ! {
    crate::os::message::fatal!(
        "block {block:p}: written to after it was freed, or freed twice; its free-list words are damaged"
    )
}

#[cfg(all(test, not(loom)))]
#[path = "slab_tests.rs"]
mod tests;
