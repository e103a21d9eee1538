//! A slab: one slot, or a few, cut into blocks of one class, or a run of slots that is a single block.
//!
//! `carved - free_count` blocks are *out*: with the program, or in some bin, outbox, stack or inbox. The owner's lock guards
//! every field but `run_is_free`. Without it, `base`, `class` and `back` may be read too as long as a block is out, because they
//! do not change meanwhile (`check`). A slab of one slot is carved from a rotated start, so that the first blocks of many slabs
//! do not fall into one set of the cache or of the TLB.
//!
//! A bit for each block says whether it is free in the slab (`Superslab::bits_of`). The slab keeps nothing in its free blocks.
//! So what a program writes there after a free changes nothing, a block that comes back twice is noticed, and OS pages that
//! hold only free blocks can go (`holes`).

use super::batch::Block;
use super::bits;
use super::holes::Pages;
use super::superslab::UNIT;
use crate::base::size_class::{self, CLASSES, Class, ClassByte};
use crate::base::tuning::bins::CARVED_LEAST;
use crate::base::units::{CACHE_LINE, SLOT, SLOT_SHIFT, Slots};
use core::sync::atomic::AtomicBool;
use core::{ptr, slice};

/// One slab's state, a cache line. All-zero is a valid "no slab here".
#[repr(C, align(64))]
pub(crate) struct Slab {
    /// A bit for each block, set if it is free here. The words belong to the slot's descriptor, and are all clear while no slab
    /// is open there.
    pub(super) free: *mut u64,
    /// OS pages of the slab that went back to the kernel. If there are any, every block counts as carved.
    pub(super) gone: Pages,
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
    pub(crate) class: ClassByte,
    /// Whether memory not yet carved is known to be zero.
    clean: bool,
    /// Which of the heap's lists holds the slab; 0 for none.
    pub(crate) bucket: u8,
    /// Distance in slots to the first slot of the slab whose blocks lie here. Above 0 only in the later slots of an open slab
    /// of several blocks.
    pub(crate) back: u8,
    pub(crate) rest: Rest,
    /// Pages of the slab are being given back. It is in no list, nothing is taken from it, and it stays a slab.
    pub(crate) going: bool,
    /// Of a run: it was freed and not allocated since, wherever it lies. Any thread writes this.
    pub(super) run_is_free: AtomicBool,
}

/// How long no block was taken from a slab or returned to it, as far as the search for holes knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Rest {
    /// A block may have been since the last look.
    Stirred = 0,
    /// None was since the last look.
    Still,
    /// None was since the slab was surveyed: no more of it can go.
    Settled,
    /// The same, but its pages are parts of a huge page that is too much in use to be split.
    Held,
}

const _: () = assert!(
    size_of::<Slab>() == CACHE_LINE,
    "a slab's state is one cache line"
);

/// Bits of a word.
const WORD: usize = u64::BITS as usize;

/// What was taken from a slab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Taken {
    pub(crate) count: usize,
    /// The blocks are known to be zero: they were never touched.
    pub(crate) zero: bool,
}

impl Slab {
    /// Sets the slab up for `class`; nothing of it is out.
    ///
    /// # Safety
    /// The caller claimed the slots and holds the lock of heap `owner`. `free` leads to a clear bit for each block, the slab's
    /// alone until it is closed.
    pub(crate) unsafe fn open(
        this: *mut Slab,
        base: usize,
        class: Class,
        owner: u32,
        clean: bool,
        free: *mut u64,
    ) {
        let capacity = size_class::capacity(class);
        // Moves by 29 cache lines and by 7 times 4 KiB for each slot, in whole blocks. Both numbers are odd, so neighbouring
        // slots, which neighbouring classes tend to get, go through all sets of the first-level cache and of its TLB. The TLB's
        // set is the low bits of the page number: sixteen sets, and slots are sixteen pages apart.
        let line = ((base >> SLOT_SHIFT) * (7 * 64 + 29)) % (SLOT / CACHE_LINE);
        // The used part of several slots is counted from the first on.
        let size = size_class::size(class);
        let mut start = if size_class::slots(class) > Slots::ONE {
            0
        } else {
            (line * CACHE_LINE / size) % capacity
        };
        // A class of which one block is used should not touch two pages. The block at the base lies in one.
        while size <= UNIT && start * size % UNIT + size > UNIT {
            start = (start + 1) % capacity;
        }
        // SAFETY: the caller has exclusive use of the slab.
        unsafe {
            this.write(Slab {
                free,
                gone: 0,
                next: ptr::null_mut(),
                prev: ptr::null_mut(),
                base,
                free_count: 0,
                carved: 0,
                capacity: capacity as u16,
                start: start as u16,
                owner,
                class: class.byte(),
                clean,
                bucket: 0,
                back: 0,
                rest: Rest::Stirred,
                going: false,
                run_is_free: AtomicBool::new(false),
            });
        }
    }

    /// Closes the slab, of which nothing is out, and clears its bits.
    pub(crate) fn close(&mut self) {
        // A word that is 0 may never have been written, and stays untouched.
        self.bits_mut()
            .iter_mut()
            .filter(|word| **word != 0)
            .for_each(|word| *word = 0);
    }

    /// The bits of the blocks that are free here.
    pub(super) fn bits(&self) -> &[u64] {
        // SAFETY: so many words are the slab's, by the promise made to `open`, and belong to the caller with it.
        unsafe { slice::from_raw_parts(self.free, bits::words(self.capacity())) }
    }

    /// The same, to be changed.
    pub(super) fn bits_mut(&mut self) -> &mut [u64] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts_mut(self.free, bits::words(self.capacity())) }
    }

    /// Blocks that are out.
    #[inline]
    pub(crate) fn allocated(&self) -> usize {
        (self.carved - self.free_count) as usize
    }

    /// Blocks that can be taken.
    #[inline]
    pub(crate) fn available(&self) -> usize {
        (self.capacity - self.allocated() as u16) as usize
    }

    /// Bytes of the blocks that were ever handed out.
    #[inline]
    fn carved_bytes(&self) -> usize {
        self.carved as usize * size_class::size(self.class.get())
    }

    /// The same, less the pages that are gone.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        match self.gone {
            0 => self.carved_bytes(),
            // Bytes behind the last block may lie in a page that is gone. A slab with a block out holds more than those.
            _ => self.carved_bytes().saturating_sub(self.gone_bytes()),
        }
    }

    /// Bytes of OS pages that hold the blocks carved so far, about: the first block begins within a page.
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

    /// Takes up to `most` freed blocks, or up to `carve` new ones (at least 1) if there are none, and writes their addresses
    /// from `to` upwards. New blocks are not touched. The last written is the block with the lowest address, or the first of
    /// the new ones.
    ///
    /// # Safety
    /// `to` has room for `most` addresses, and for `carve`.
    pub(crate) unsafe fn take(
        &mut self,
        to: *mut *mut Block,
        most: usize,
        carve: usize,
    ) -> Option<Taken> {
        self.rest = Rest::Stirred;
        if self.free_count > 0 {
            // SAFETY: the caller has the room.
            let count = unsafe {
                match self.gone {
                    0 => self.take_freed(to, most),
                    _ => self.take_resident(to, most, carve),
                }
            };
            self.free_count -= count as u16;
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
    /// `to` has room for `most` addresses, and no page is gone.
    unsafe fn take_freed(&mut self, to: *mut *mut Block, most: usize) -> usize {
        let (base, size) = (self.base, size_class::size(self.class.get()));
        let count = most.min(self.free_count as usize);
        let mut left = count;
        let mut first = base;
        for word in self.bits_mut() {
            let mut free = *word;
            while free != 0 && left > 0 {
                left -= 1;
                let block = first + free.trailing_zeros() as usize * size;
                // SAFETY: the caller has the room.
                unsafe { *to.add(left) = block as *mut Block };
                free &= free - 1;
            }
            *word = free;
            if left == 0 {
                break;
            }
            first += WORD * size;
        }
        debug_assert!(left == 0, "as many bits are set as are counted");
        count
    }

    /// How many of `carve` blocks are carved at once. If they are the slab's first, and a page's worth or less, only those up
    /// to the end of the OS page they begin in, if it holds enough: so a class with a few blocks touches one page.
    fn first_page(&self, carve: usize) -> usize {
        let size = size_class::size(self.class.get());
        let first = self.base + self.start as usize * size;
        match (UNIT - first % UNIT) / size {
            fit if fit >= CARVED_LEAST && self.carved == 0 && carve * size <= UNIT => {
                fit.min(carve)
            }
            _ => carve,
        }
    }

    /// # Safety
    /// `to` has room for `count` addresses, and so many blocks were never carved.
    unsafe fn carve(&mut self, to: *mut *mut Block, count: usize) {
        let size = size_class::size(self.class.get());
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

    /// Takes back the blocks at the `count` addresses up to and including `*last`. The error is the first of them that is no
    /// block of this slab, or is free here already.
    ///
    /// # Safety
    /// There are so many addresses, at most as many as blocks of the slab are out.
    #[inline]
    pub(crate) unsafe fn give(
        &mut self,
        last: *const *mut Block,
        count: usize,
    ) -> Result<(), *mut Block> {
        let blocks = Blocks::of(self.class.get());
        let base = self.base;
        let free = self.free;
        let all_carved = self.carved == self.capacity;
        if self.free_count == 0 && count > 0 {
            // Every word is clear, and may lie in a page that nothing has touched. It is written before it is read, as reading it
            // first costs one more page fault.
            // SAFETY: so many addresses, says the caller; the words have a bit for each block.
            unsafe {
                if let Some(at) = blocks.index((*last as usize).wrapping_sub(base)) {
                    *free.add(at / WORD) = 0;
                }
            }
        }
        for i in 0..count {
            // SAFETY: so many addresses, says the caller; the words have a bit for each block.
            unsafe {
                let block = *last.sub(i);
                let Some(at) = blocks.index((block as usize).wrapping_sub(base)) else {
                    return Err(block);
                };
                let (word, bit) = (free.add(at / WORD), 1 << (at % WORD));
                if *word & bit != 0 || !(all_carved || self.is_carved(at)) {
                    return Err(block);
                }
                *word |= bit;
            }
        }
        self.rest = Rest::Stirred;
        self.free_count += count as u16;
        Ok(())
    }

    /// Whether the block that starts at `addr` is free in the slab, or was never handed out.
    pub(crate) fn is_free(&self, addr: usize) -> bool {
        let Some(at) = Blocks::of(self.class.get()).index(addr.wrapping_sub(self.base)) else {
            return false;
        };
        // If nothing is free here, the words may never have been touched, and stay so.
        !self.is_carved(at) || (self.free_count > 0 && bits::is_set(self.bits(), at))
    }

    /// Whether the block of this number was ever handed out.
    fn is_carved(&self, at: usize) -> bool {
        let (start, capacity) = (self.start as usize, self.capacity());
        // In which turn it was carved, or will be.
        let turn = if at < start { at + capacity } else { at } - start;
        turn < self.carved as usize
    }
}

/// How the blocks of a slab lie. Computes their numbers from their addresses without a division.
#[derive(Clone, Copy)]
pub(crate) struct Blocks {
    pub(super) inverse: u64,
    pub(super) capacity: usize,
}

/// For each class, with 2^64 divided by its size, rounded up. An offset into a slab multiplied by that has the block's number
/// above bit 63. The bits below are so many 2^64ths of a block, so they are less than the factor if and only if the offset is a
/// multiple of the size (Lemire, Kaser, Kurz: Faster remainder by direct computation).
static BLOCKS: [Blocks; CLASSES] = {
    let mut blocks = [Blocks {
        inverse: 0,
        capacity: 0,
    }; CLASSES];
    let mut class = 1;
    while class < CLASSES {
        blocks[class] = Blocks {
            inverse: u64::MAX / size_class::SIZES[class] as u64 + 1,
            capacity: size_class::capacity(Class::new(class)),
        };
        class += 1;
    }
    blocks
};

impl Blocks {
    #[inline]
    pub(crate) fn of(class: Class) -> Blocks {
        BLOCKS[class]
    }

    /// The number of the block that starts `offset` bytes into the slab, if one does.
    #[inline(always)]
    pub(crate) fn index(self, offset: usize) -> Option<usize> {
        let product = offset as u128 * u128::from(self.inverse);
        let at = (product >> 64) as usize;
        (at < self.capacity && (product as u64) < self.inverse).then_some(at)
    }
}

#[cfg(all(test, not(loom)))]
#[path = "slab_tests.rs"]
mod tests;
