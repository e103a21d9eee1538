//! Blocks as workloads hold them: taken with a mark, replaced at random, checked, freed.
//!
//! A workload marks the first byte of a block, most of them with the number of its slot, so that whoever frees it can tell
//! whose it was.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::memory::{Table, Zeroed};
use crate::raw::{ALIGN, RawAllocator};
use crate::rng::XorShift64;

/// A block that is held, or none. Whoever sets the fields promises what the methods rest on: a slot that is not empty has a
/// live block of at least one byte, which came from the allocator under test with this size and nobody else frees.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Slot {
    /// The block, or null when the slot is empty.
    pub ptr: *mut u8,
    /// The size that was asked for; a sized free needs it, as in a Rust program.
    pub size: usize,
}
// SAFETY: null pointer, size zero.
unsafe impl Zeroed for Slot {}
// SAFETY: the block is whoever's who holds the slot; a slot is only an address and a number.
unsafe impl Send for Slot {}

impl Slot {
    pub const EMPTY: Slot = Slot { ptr: std::ptr::null_mut(), size: 0 };

    /// A block for the workload's slot `i` with `mark` in its first byte; an empty slot where it is refused.
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

    /// The same written in full.
    pub fn take_full(alloc: &RawAllocator, size: usize, i: usize, mark: u8) -> Slot {
        let slot = Slot::take(alloc, size, i, mark);
        if !slot.is_empty() {
            // SAFETY: the whole block.
            unsafe { slot.ptr.write_bytes(mark, size) };
        }
        slot
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.ptr.is_null()
    }

    /// Whether the block's first byte is the mark; so it is where there is no block.
    #[inline(always)]
    pub fn has(&self, mark: u8) -> bool {
        // SAFETY: the promise of the type.
        self.is_empty() || unsafe { self.ptr.read() } == mark
    }

    /// Notes the block as damaged unless its first byte is the mark.
    #[inline(always)]
    pub fn must_have(&self, mark: u8) {
        if !self.has(mark) {
            damaged(1);
        }
    }

    #[inline(always)]
    pub fn mark_end(&self, mark: u8) {
        if !self.is_empty() {
            // SAFETY: the promise of the type.
            unsafe { self.ptr.add(self.size - 1).write(mark) };
        }
    }

    /// Every `step`-th byte of the block; none where there is no block.
    pub fn places(&self, step: usize) -> impl Iterator<Item = *mut u8> {
        let Slot { ptr, size } = *self;
        (0..if ptr.is_null() { 0 } else { size }).step_by(step).map(move |offset| ptr.wrapping_add(offset))
    }

    /// Changes the block's size; false where that is refused, which leaves it as it was.
    pub fn resize(&mut self, alloc: &RawAllocator, size: usize) -> bool {
        // SAFETY: the promise of the type; sizes are at least 1.
        let ptr = unsafe { alloc.realloc(self.ptr, self.size, size) };
        if !ptr.is_null() {
            *self = Slot { ptr, size };
        }
        !ptr.is_null()
    }

    /// Frees the block, if there is one; the size stays.
    #[inline(always)]
    pub fn free(&mut self, alloc: &RawAllocator) {
        if !self.is_empty() {
            // SAFETY: the promise of the type, and the block is forgotten here.
            unsafe { alloc.dealloc(self.ptr, self.size) };
            self.ptr = std::ptr::null_mut();
        }
    }
}

#[inline(always)]
pub fn release(alloc: &RawAllocator, slots: &mut [Slot]) {
    slots.iter_mut().for_each(|slot| slot.free(alloc));
}

/// Blocks that lost their contents. Read once all threads have been joined: Relaxed.
static DAMAGED: AtomicU64 = AtomicU64::new(0);

/// So many blocks were not what had been written into them: the run fails for it.
pub fn damaged(blocks: u64) {
    DAMAGED.fetch_add(blocks, Relaxed);
}

pub fn all_damaged() -> u64 {
    DAMAGED.load(Relaxed)
}

/// Looks whether every block has its slot's number.
pub fn check(slots: &[Slot]) {
    slots.iter().enumerate().for_each(|(i, slot)| slot.must_have(i as u8));
}

/// A table of slots for each of so many threads.
pub fn tables(threads: usize, slots: usize) -> Result<Vec<Table<Slot>>, String> {
    (0..threads).map(|_| Table::new(slots)).collect()
}

/// Sizes drawn ahead on a logarithmic scale: drawing one costs a logarithm.
pub fn drawn(count: usize, seed: u64, min: usize, max: usize) -> Result<Table<u32>, String> {
    let mut sizes = Table::<u32>::new(count)?;
    let mut generator = XorShift64::new(seed, 0);
    sizes.iter_mut().for_each(|size| *size = generator.log_between(min, max) as u32);
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
            slots[i].free(self.alloc);
            self.put(&mut slots[i], i, generator);
        }
    }

    /// A block of a random size for slot `i`, which is empty.
    #[inline(always)]
    pub fn put(&self, slot: &mut Slot, i: usize, generator: &mut XorShift64) {
        let size = generator.between(self.sizes.0, self.sizes.1);
        *slot = Slot::take(self.alloc, size, self.base + i, i as u8);
    }
}

/// Outside the clock: replaces blocks of these sizes at random in empty slots, with both ends written, looks at both ends and
/// the alignment when they are freed, and frees them all.
pub fn verify(alloc: &RawAllocator, slots: &mut [Slot], sizes: (usize, usize), seed: u64) {
    let set = LiveSet { alloc, sizes, base: 0 };
    let check = |slot: &mut Slot, i: usize| {
        // SAFETY: the last byte of the block, by the promise of the type.
        let end = || unsafe { slot.ptr.add(slot.size - 1).read() };
        let whole = slot.is_empty() || slot.has(i as u8) && end() == i as u8;
        damaged(u64::from(!whole || !(slot.ptr as usize).is_multiple_of(ALIGN)));
        slot.free(alloc);
    };
    let mut generator = XorShift64::new(seed, 0);
    for _ in 0..(2 * slots.len()).min(200_000) {
        let i = generator.below(slots.len());
        check(&mut slots[i], i);
        set.put(&mut slots[i], i, &mut generator);
        slots[i].mark_end(i as u8);
    }
    slots.iter_mut().enumerate().for_each(|(i, slot)| check(slot, i));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::tests::COUNTED;

    #[test]
    fn blocks_are_replaced_marked_and_checked() {
        let set = LiveSet { alloc: &COUNTED, sizes: (2, 100), base: 0 };
        let mut slots = vec![Slot::EMPTY; 300];
        let mut generator = XorShift64::new(7, 0);
        set.fill(&mut slots, &mut generator);
        let before: Vec<usize> = slots.iter().map(|s| s.size).collect();
        set.replace(&mut slots, &mut generator, 1000);
        assert!(slots.iter().zip(&before).filter(|(s, b)| s.size != **b).count() > 200);
        check(&slots);
        release(&COUNTED, &mut slots);
        verify(&COUNTED, &mut slots, (2, 100), 7);
        assert_eq!(all_damaged(), 0);
        set.fill(&mut slots, &mut generator);
        // SAFETY: the block has at least one byte.
        unsafe { slots[9].ptr.write(10) };
        check(&slots);
        assert_eq!(all_damaged(), 1);
        slots.iter().enumerate().for_each(|(i, slot)| slot.mark_end(i as u8));
        verify(&COUNTED, &mut slots, (2, 100), 7);
        assert!(slots.iter().all(Slot::is_empty) && all_damaged() == 2);
    }
}
