//! The live set that several workloads share: slots full of blocks, of which one at random is freed and allocated anew.
//!
//! Every block carries the number of its slot in its first byte, so that whoever frees it can tell whose it was.

use crate::memory::Slot;
use crate::raw::RawAllocator;
use crate::rng::XorShift64;

/// How one set is worked on.
#[derive(Debug, Clone, Copy)]
pub struct LiveSet<'a> {
    /// The allocator under test.
    pub alloc: &'a RawAllocator,
    /// Bytes of the smallest and of the largest block.
    pub sizes: (usize, usize),
    /// The number of the set's first slot among all slots of the run.
    pub base: usize,
}

impl LiveSet<'_> {
    /// A block for every slot. Answers how many allocations were refused.
    #[inline(never)]
    pub fn fill(&self, slots: &mut [Slot], generator: &mut XorShift64) -> u64 {
        slots.iter_mut().enumerate().map(|(i, slot)| self.put(slot, i, generator)).sum()
    }

    /// Frees the block of a random slot and allocates another, `count` times. Answers how many allocations were refused.
    #[inline(never)]
    pub fn replace(&self, slots: &mut [Slot], generator: &mut XorShift64, count: u64) -> u64 {
        let mut refused = 0;
        for _ in 0..count {
            let i = generator.below(slots.len());
            let size = generator.between(self.sizes.0, self.sizes.1);
            let slot = &mut slots[i];
            if !slot.ptr.is_null() {
                // SAFETY: the slot's block came from this allocator with this size and is forgotten below.
                unsafe { self.alloc.dealloc(slot.ptr, slot.size) };
            }
            refused += self.put_sized(slot, i, size);
        }
        refused
    }

    /// A block of a random size for slot `i`, which is empty; 1 when the allocation was refused.
    #[inline(always)]
    pub fn put(&self, slot: &mut Slot, i: usize, generator: &mut XorShift64) -> u64 {
        let size = generator.between(self.sizes.0, self.sizes.1);
        self.put_sized(slot, i, size)
    }

    #[inline(always)]
    fn put_sized(&self, slot: &mut Slot, i: usize, size: usize) -> u64 {
        let ptr = self.alloc.alloc(size, self.base + i);
        *slot = Slot { ptr, size };
        if ptr.is_null() {
            return 1;
        }
        // SAFETY: the block has at least one byte.
        unsafe { ptr.write(i as u8) };
        0
    }
}

/// Blocks whose first byte is not their slot's number.
pub fn damaged(slots: &[Slot]) -> u64 {
    // SAFETY: a block has at least one byte.
    let whole = |(i, s): &(usize, &Slot)| s.ptr.is_null() || unsafe { s.ptr.read() } == *i as u8;
    slots.iter().enumerate().filter(|s| !whole(s)).count() as u64
}

/// Frees every block that is there.
pub fn release(alloc: &RawAllocator, slots: &mut [Slot]) {
    for slot in slots {
        if !slot.ptr.is_null() {
            // SAFETY: the slot's block came from this allocator with this size and is forgotten here.
            unsafe { alloc.dealloc(slot.ptr, slot.size) };
            slot.ptr = std::ptr::null_mut();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::tests::COUNTED;

    #[test]
    fn blocks_are_replaced_marked_and_released() {
        let set = LiveSet { alloc: &COUNTED, sizes: (1, 100), base: 0 };
        let mut slots = vec![Slot::EMPTY; 300];
        let mut generator = XorShift64::new(7, 0);
        assert_eq!(set.fill(&mut slots, &mut generator), 0);
        let before: Vec<usize> = slots.iter().map(|s| s.size).collect();
        assert_eq!(set.replace(&mut slots, &mut generator, 1000), 0);
        assert_eq!(damaged(&slots), 0);
        let changed = slots.iter().zip(&before).filter(|(s, b)| s.size != **b);
        assert!(changed.count() > 200);
        // SAFETY: the block has at least one byte.
        unsafe { slots[9].ptr.write(10) };
        assert_eq!(damaged(&slots), 1);
        release(&COUNTED, &mut slots);
        assert!(slots.iter().all(|s| s.ptr.is_null()));
    }
}
