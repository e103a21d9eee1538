//! What several workloads do with blocks: take them marked, replace them at random, check them and free them.
//!
//! Every block carries the number of its slot in its first byte, so that whoever frees it can tell whose it was.

use crate::age::log_uniform;
use crate::memory::{Slot, Table};
use crate::raw::{ALIGN, RawAllocator};
use crate::rng::XorShift64;

/// A block for slot `i`, marked with `mark`; an empty slot where it is refused.
#[inline(always)]
pub fn take(alloc: &RawAllocator, size: usize, i: usize, mark: u8) -> Slot {
    let ptr = alloc.alloc(size, i);
    if ptr.is_null() {
        return Slot::EMPTY;
    }
    // SAFETY: the block has at least one byte.
    unsafe { ptr.write(mark) };
    Slot { ptr, size }
}

pub fn release(alloc: &RawAllocator, slots: &mut [Slot]) {
    for slot in slots {
        if !slot.ptr.is_null() {
            // SAFETY: the slot's block came from this allocator with this size and is forgotten here.
            unsafe { alloc.dealloc(slot.ptr, slot.size) };
            slot.ptr = std::ptr::null_mut();
        }
    }
}

/// Blocks whose first byte is not their slot's number.
pub fn damaged(slots: &[Slot]) -> u64 {
    // SAFETY: a block has at least one byte.
    let lost = |(i, s): &(usize, &Slot)| !s.ptr.is_null() && unsafe { s.ptr.read() } != *i as u8;
    slots.iter().enumerate().filter(lost).count() as u64
}

/// Sizes drawn ahead on a logarithmic scale: drawing one costs a logarithm.
pub fn drawn(count: usize, seed: u64, min: usize, max: usize) -> Result<Table<u32>, String> {
    let mut sizes = Table::<u32>::new(count)?;
    let mut generator = XorShift64::new(seed, 0);
    sizes.iter_mut().for_each(|size| *size = log_uniform(&mut generator, min, max) as u32);
    Ok(sizes)
}

/// How one set of slots full of blocks is worked on.
#[derive(Debug, Clone, Copy)]
pub struct LiveSet<'a> {
    pub alloc: &'a RawAllocator,
    /// Bytes of the smallest and of the largest block.
    pub sizes: (usize, usize),
    /// The number of the set's first slot among all slots of the run.
    pub base: usize,
}

impl LiveSet<'_> {
    #[inline(never)]
    pub fn fill(&self, slots: &mut [Slot], generator: &mut XorShift64) {
        slots.iter_mut().enumerate().for_each(|(i, slot)| self.put(slot, i, generator));
    }

    /// Frees the block of a random slot and allocates another, `count` times.
    #[inline(never)]
    pub fn replace(&self, slots: &mut [Slot], generator: &mut XorShift64, count: u64) {
        for _ in 0..count {
            let i = generator.below(slots.len());
            release(self.alloc, &mut slots[i..=i]);
            self.put(&mut slots[i], i, generator);
        }
    }

    /// A block of a random size for slot `i`, which is empty.
    #[inline(always)]
    pub fn put(&self, slot: &mut Slot, i: usize, generator: &mut XorShift64) {
        let size = generator.between(self.sizes.0, self.sizes.1);
        *slot = take(self.alloc, size, self.base + i, i as u8);
    }
}

/// Outside the clock: replaces blocks of these sizes at random in empty slots, with both ends written, checks what they hold
/// when they are freed, and frees them all.
pub fn verify(alloc: &RawAllocator, slots: &mut [Slot], sizes: (usize, usize), seed: u64) -> Result<(), String> {
    let mut wrong = None;
    let mut check = |slot: &mut Slot, i: usize| {
        let Slot { ptr, size } = *slot;
        // SAFETY: a live block of that size.
        if !ptr.is_null() && unsafe { (ptr.read(), ptr.add(size - 1).read()) } != (i as u8, i as u8) {
            wrong.get_or_insert(format!("block {ptr:p} of {size} bytes lost its contents"));
        }
        if !(ptr as usize).is_multiple_of(ALIGN) {
            wrong.get_or_insert(format!("block {ptr:p} of {size} bytes is not aligned to {ALIGN}"));
        }
        release(alloc, std::slice::from_mut(slot));
    };
    let mut generator = XorShift64::new(seed, 0);
    for _ in 0..(2 * slots.len()).min(200_000) {
        let i = generator.below(slots.len());
        check(&mut slots[i], i);
        slots[i] = take(alloc, generator.between(sizes.0, sizes.1), i, i as u8);
        if !slots[i].ptr.is_null() {
            // SAFETY: the last byte of the block.
            unsafe { slots[i].ptr.add(slots[i].size - 1).write(i as u8) };
        }
    }
    slots.iter_mut().enumerate().for_each(|(i, slot)| check(slot, i));
    wrong.map_or(Ok(()), |e| Err(format!("verification failed: {e}")))
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
        set.fill(&mut slots, &mut generator);
        let before: Vec<usize> = slots.iter().map(|s| s.size).collect();
        set.replace(&mut slots, &mut generator, 1000);
        assert_eq!(damaged(&slots), 0);
        let changed = slots.iter().zip(&before).filter(|(s, b)| s.size != **b);
        assert!(changed.count() > 200);
        // SAFETY: the block has at least one byte.
        unsafe { slots[9].ptr.write(10) };
        assert_eq!(damaged(&slots), 1);
        assert!(verify(&COUNTED, &mut slots, (1, 100), 7).unwrap_err().contains("lost its contents"));
        assert!(slots.iter().all(|s| s.ptr.is_null()));
        assert_eq!(verify(&COUNTED, &mut slots, (1, 100), 7), Ok(()));
    }
}
