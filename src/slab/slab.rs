//! A slab: one slot cut into blocks of one class, or a run of slots that is a single block.
//!
//! `carved - free_count` blocks are out: with the user, or in somebody's bins and batches. The owner's lock guards
//! every field. Blocks are carved from a rotated start, so that the first blocks of many slabs do not fall into one
//! set of the cache or of its TLB.

use super::batch::Block;
use super::superslab::UNIT;
use crate::base::size_class;
use crate::base::units::{CACHE_LINE, SLOT, SLOT_SHIFT};
use core::ptr;

/// One slab's state, a cache line. All-zero is a valid "no slab here".
#[repr(C, align(64))]
pub(crate) struct Slab {
    free: *mut Block,
    pub(crate) next: *mut Slab,
    pub(crate) prev: *mut Slab,
    pub(crate) base: usize,
    free_count: u16,
    /// Blocks that were ever handed out since the slab was claimed.
    carved: u16,
    capacity: u16,
    /// Index of the block carved first.
    start: u16,
    pub(crate) owner: u32,
    pub(crate) class: u8,
    /// Whether memory not yet carved is known to be zero.
    clean: bool,
    /// Which of the heap's lists holds the slab; 0 for none.
    pub(crate) bucket: u8,
}

const _: () = assert!(
    size_of::<Slab>() == CACHE_LINE,
    "a slab's state is one cache line"
);

/// Freed blocks up to this many leave a slab in one piece.
pub(crate) const TAKEN_WHOLE: usize = 1024;

/// How many blocks a class with few has: one that gets fewer asks again soon.
const FEW: usize = 8;

/// Blocks taken from a slab: a chain that ends in null.
pub(crate) struct Taken {
    pub(crate) head: *mut Block,
    pub(crate) count: usize,
    /// The first block is zero but for its link word.
    pub(crate) zero: bool,
}

/// A hint, and no access: nothing happens where the OS page is not there yet.
#[inline]
fn fetch(addr: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(addr as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = addr;
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
        let start = (line * CACHE_LINE / size_class::size(class)) % capacity;
        // SAFETY: the caller has exclusive use of the slab.
        unsafe {
            this.write(Slab {
                free: ptr::null_mut(),
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
    pub(crate) fn carved_bytes(&self) -> usize {
        self.carved as usize * size_class::size(self.class as usize)
    }

    /// Bytes of OS pages that hold the blocks carved so far, more or less: the first of them begins within one.
    pub(crate) fn touched(&self) -> usize {
        self.carved_bytes() + 2048
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Takes the freed blocks, all in one piece unless they are very many: finding the middle of the list means a look into
    /// each, and they are cold. Where none was freed, new ones: `carve` (at least 1), or what is left.
    pub(crate) fn take(&mut self, most: usize, carve: usize) -> Option<Taken> {
        if self.free_count > 0 {
            let (head, mut count) = (self.free, self.free_count as usize);
            self.free = ptr::null_mut();
            if count > (4 * most).max(TAKEN_WHOLE) {
                // A bin that long would hide frees from every bound, and would be walked home as a whole.
                count = most;
                let mut last = head;
                // SAFETY: the free list holds more than `most` blocks of ours; the walk stays inside it.
                unsafe {
                    for _ in 1..most {
                        last = (*last).next.get();
                    }
                    self.free = (*last).next.get();
                    (*last).next.set(ptr::null_mut());
                }
            }
            self.free_count -= count as u16;
            return Some(Taken {
                head,
                count,
                zero: false,
            });
        }
        let left = (self.capacity - self.carved) as usize;
        (left > 0).then(|| self.carve(left.min(self.first_page(carve).max(1))))
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

    /// Takes a single block.
    pub(crate) fn take_one(&mut self) -> Option<Taken> {
        if self.free_count == 0 {
            return (self.carved < self.capacity).then(|| self.carve(1));
        }
        let head = self.free;
        // SAFETY: the free list holds free_count blocks of ours.
        self.free = unsafe { (*head).next.get() };
        self.free_count -= 1;
        Some(Taken {
            head,
            count: 1,
            zero: false,
        })
    }

    fn carve(&mut self, count: usize) -> Taken {
        let size = size_class::size(self.class as usize);
        let mut head: *mut Block = ptr::null_mut();
        for i in (0..count).rev() {
            let mut index = self.start as usize + self.carved as usize + i;
            if index >= self.capacity as usize {
                index -= self.capacity as usize;
            }
            let block = (self.base + index * size) as *mut Block;
            // SAFETY: block `index` lies inside the slab and was never handed out. The block that will be returned to
            // a caller at once (i == 0) gets its link too: the caller of a zeroed block clears that word.
            unsafe { (*block).next.set(head) };
            head = block;
        }
        self.carved += count as u16;
        // A class that asked for its first page may never ask for another.
        if self.carved_bytes() > 4096 {
            self.fetch_next(count);
        }
        Taken {
            head,
            count,
            zero: self.clean,
        }
    }

    /// Has the processor fetch the blocks that will be carved next. Their first words are written under the lock, whose
    /// release waits for every write before it: a cache miss for each block of memory that was never used. A program
    /// that fills 1 GiB of prewarmed memory took 1.6 times as long without, one that fills fresh huge pages 1.1 times.
    fn fetch_next(&self, count: usize) {
        let size = size_class::size(self.class as usize);
        let left = (self.capacity - self.carved) as usize;
        for i in 0..count.min(left) {
            let mut index = self.start as usize + self.carved as usize + i;
            if index >= self.capacity as usize {
                index -= self.capacity as usize;
            }
            fetch(self.base + index * size);
        }
    }

    /// Puts blocks back, chained from `first` to `last`.
    ///
    /// # Safety
    /// They are `count` blocks of this slab that are out, and the caller owns them.
    #[inline]
    pub(crate) unsafe fn give(&mut self, first: *mut Block, last: *mut Block, count: usize) {
        // SAFETY: the caller owns the blocks.
        unsafe { (*last).next.set(self.free) };
        self.free = first;
        self.free_count += count as u16;
    }

    /// Whether `addr` is the start of a block of this slab.
    pub(crate) fn is_block(&self, addr: usize) -> bool {
        let offset = addr.wrapping_sub(self.base);
        let size = size_class::size(self.class as usize);
        offset.is_multiple_of(size) && offset / size < self.capacity as usize
    }

    /// Debug walker: the free list has `free_count` distinct blocks of this slab and nothing else.
    pub(crate) fn is_valid(&self) -> bool {
        let mut count = 0;
        let mut at = self.free;
        while !at.is_null() {
            if !self.is_block(at as usize) || count == self.free_count {
                return false;
            }
            count += 1;
            // SAFETY: checked to be a block of ours just above.
            at = unsafe { (*at).next.get() };
        }
        count == self.free_count && self.carved <= self.capacity && self.free_count <= self.carved
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::collections::HashSet;

    #[test]
    fn take_and_give_keep_the_equation() {
        let layout = Layout::from_size_align(SLOT, SLOT).unwrap();
        for class in 1..size_class::SLAB_CLASSES {
            // SAFETY: a slot's worth of memory of our own, freed below.
            unsafe {
                let base = alloc_zeroed(layout) as usize;
                let mut slab: Slab = core::mem::zeroed();
                Slab::open(&raw mut slab, base, class, 7, true);
                let mut seen = HashSet::new();
                let mut blocks = std::vec::Vec::new();
                while let Some(taken) = slab.take(10, 4) {
                    assert!(taken.zero && taken.count <= 4);
                    let mut at = taken.head;
                    for _ in 0..taken.count {
                        assert!(slab.is_block(at as usize) && seen.insert(at as usize));
                        blocks.push(at);
                        at = (*at).next.get();
                    }
                    assert!(at.is_null());
                }
                assert_eq!(
                    (blocks.len(), slab.out(), slab.available()),
                    (slab.capacity(), slab.capacity(), 0)
                );
                for &block in blocks.iter().rev().skip(1) {
                    slab.give(block, block, 1);
                }
                assert!(slab.is_valid());
                assert_eq!(slab.out(), 1);
                if slab.capacity() > 1 {
                    let one = slab.take_one().unwrap();
                    assert_eq!((one.count, slab.out()), (1, 2));
                    slab.give(one.head, one.head, 1);
                    let again = slab.take(3, 4).unwrap();
                    let all = slab.capacity() - 1;
                    assert!(!again.zero && again.count == if all > TAKEN_WHOLE { 3 } else { all });
                    assert!(slab.is_valid());
                    slab.give(again.head, again.head, 1);
                    assert!(slab.is_valid());
                    (*slab.free).next.set((base + 1) as *mut Block);
                    assert!(!slab.is_valid(), "a damaged free list is seen");
                }
                dealloc(base as *mut u8, layout);
            }
        }
    }

    #[test]
    fn a_slab_begins_with_a_single_page() {
        let layout = Layout::from_size_align(64 * SLOT, SLOT).unwrap();
        // SAFETY: sixty-four slots of our own, freed below.
        unsafe {
            let memory = alloc_zeroed(layout) as usize;
            for (slot, class) in (0..64).flat_map(|slot| (1..65).map(move |class| (slot, class))) {
                let mut slab: Slab = core::mem::zeroed();
                Slab::open(&raw mut slab, memory + slot * SLOT, class, 7, false);
                let size = size_class::size(class);
                let first = slab.take(usize::MAX, UNIT / size).unwrap();
                let start = first.head as usize;
                let fit = (UNIT - start % UNIT) / size;
                assert_eq!(
                    first.count,
                    if fit >= FEW { fit } else { UNIT / size },
                    "class {class}"
                );
            }
            dealloc(memory as *mut u8, layout);
        }
    }
}
