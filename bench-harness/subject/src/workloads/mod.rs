//! What is done with an allocator. `table` has a row for each workload; the files here do them.

pub mod batch;
pub mod false_sharing;
pub mod few;
pub mod fragmentation;
pub mod grow_vec;
pub mod hand_over;
pub mod histogram;
pub mod huge;
pub mod keepers;
pub mod live_set;
pub mod medium;
pub mod memory;
pub mod paths;
pub mod producer_consumer;
pub mod random_mixed;
pub mod replace;
pub mod thread_churn;

use crate::memory::Slot;
use crate::raw::{ALIGN, RawAllocator};
use crate::rng::XorShift64;

/// Fills blocks at both ends and checks them when they are freed, outside the clock.
#[derive(Debug, Default)]
pub struct Checker {
    first_error: Option<String>,
}

impl Checker {
    /// A fresh block for slot `i`, stamped with the slot's number at both ends.
    pub fn fill(&mut self, alloc: &RawAllocator, size: usize, i: usize) -> Slot {
        let ptr = alloc.alloc(size, i);
        if !ptr.is_null() {
            if !(ptr as usize).is_multiple_of(ALIGN) {
                self.fail(format!("block {ptr:p} of {size} bytes is not aligned to {ALIGN}"));
            }
            // SAFETY: the block has `size` bytes, at least one.
            unsafe {
                ptr.write(i as u8);
                ptr.add(size - 1).write(i as u8);
            }
        }
        Slot { ptr, size }
    }

    /// Checks the stamps of slot `i` and frees its block; an empty slot is left alone.
    pub fn free(&mut self, alloc: &RawAllocator, slot: &mut Slot, i: usize) {
        let Slot { ptr, size } = std::mem::replace(slot, Slot::EMPTY);
        if ptr.is_null() {
            return;
        }
        // SAFETY: the block has `size` bytes, is alive, and is forgotten above.
        unsafe {
            if (ptr.read(), ptr.add(size - 1).read()) != (i as u8, i as u8) {
                self.fail(format!("block {ptr:p} of {size} bytes lost its contents"));
            }
            alloc.dealloc(ptr, size);
        }
    }

    fn fail(&mut self, error: String) {
        self.first_error.get_or_insert(error);
    }

    /// The first thing that was wrong.
    pub fn verdict(self) -> Result<(), String> {
        self.first_error.map_or(Ok(()), |e| Err(format!("verification failed: {e}")))
    }
}

/// Outside the clock: replaces blocks of these sizes at random in empty slots, checks what they hold, and frees them.
pub fn verify(alloc: &RawAllocator, slots: &mut [Slot], sizes: (usize, usize), seed: u64) -> Result<(), String> {
    let mut check = Checker::default();
    let mut generator = XorShift64::new(seed, 0);
    for _ in 0..(2 * slots.len()).min(200_000) {
        let i = generator.below(slots.len());
        check.free(alloc, &mut slots[i], i);
        slots[i] = check.fill(alloc, generator.between(sizes.0, sizes.1), i);
    }
    for (i, slot) in slots.iter_mut().enumerate() {
        check.free(alloc, slot, i);
    }
    check.verdict()
}

/// Writes a byte every `step` bytes of a block.
pub fn touch(slot: &Slot, step: usize, byte: u8) {
    for offset in (0..slot.size).step_by(step) {
        // SAFETY: within the block.
        unsafe { slot.ptr.add(offset).write_volatile(byte) };
    }
}

/// Whether a block still has what [`touch`] wrote.
pub fn is_touched(slot: &Slot, step: usize, byte: u8) -> bool {
    // SAFETY: within the block.
    (0..slot.size).step_by(step).all(|offset| unsafe { slot.ptr.add(offset).read_volatile() } == byte)
}
