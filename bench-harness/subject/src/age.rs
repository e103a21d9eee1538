//! Ageing: what the aged series does to a heap before the clock starts.
//!
//! A benchmark meets a heap on which nothing has happened; a program that has run for an hour does not. Each thread that
//! will be timed allocates and frees blocks of mixed sizes and lifetimes until many times its share of memory has gone
//! through its heap, in phases whose sizes drift, so that what survives of one phase lies between the gaps of the next.
//! Then all but one block in eight is freed, at random, and what is left stays in use to the end of the process. The pass is
//! seeded: every allocator gets the same calls.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::blocks::Slot;
use crate::memory::Table;
use crate::raw::RawAllocator;
use crate::rng::XorShift64;

/// Bytes alive at the height of each phase, all threads together.
pub const BYTES: usize = 48 << 20;

/// One block in so many is left in use.
pub const LEFT: usize = 8;

/// The sizes of the phases, drawn evenly on a logarithmic scale.
const PHASES: [(usize, usize); 4] = [(16, 2048), (64, 16 << 10), (24, 512), (16, 64 << 10)];

/// Bytes that ageing left in use, over all threads. Read once they have been joined or are waiting: Relaxed.
static KEPT: AtomicU64 = AtomicU64::new(0);

/// KiB that are still in use.
pub fn kept_kib() -> u64 {
    KEPT.load(Relaxed) >> 10
}

/// Ages the calling thread's heap with its part of [`BYTES`]. `null` has no heap; there is nothing to do for it.
pub fn age(alloc: &RawAllocator, thread: usize, threads: usize) -> Result<(), String> {
    if alloc.name == "null" {
        return Ok(());
    }
    let bytes = BYTES / threads.max(1);
    let mut slots = Table::<Slot>::new(bytes / 128 + 64)?;
    let mut generator = XorShift64::new(0xA6ED, thread as u64);
    for (low, high) in PHASES {
        let (mut live, mut through) = (slots.iter().map(|s| s.size).sum::<usize>(), 0);
        while through < 3 * bytes {
            // Lifetimes are mixed: a slot near the start is met ten times as often as one far off.
            let reach = if generator.below(10) == 0 { slots.len() } else { slots.len() / 10 };
            let i = generator.below(reach);
            live -= release(alloc, &mut slots[i]);
            let size = generator.log_between(low, high);
            through += size;
            if live + size <= bytes {
                slots[i] = Slot::take(alloc, size, 0, 1);
                live += slots[i].size;
            }
        }
    }
    let mut kept = 0;
    for slot in slots.iter_mut() {
        if generator.below(LEFT) == 0 {
            kept += slot.size;
        } else {
            release(alloc, slot);
        }
    }
    KEPT.fetch_add(kept as u64, Relaxed);
    Ok(())
}

/// Empties a slot; answers the bytes that were in it.
fn release(alloc: &RawAllocator, slot: &mut Slot) -> usize {
    slot.free(alloc);
    std::mem::replace(slot, Slot::EMPTY).size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::tests::{CALLS, COUNTED};

    #[test]
    fn ageing_leaves_an_eighth_and_repeats_itself() {
        let calls = || {
            let before = CALLS.with(|c| c.get());
            age(&COUNTED, 0, 8).unwrap();
            let after = CALLS.with(|c| c.get());
            (after.0 - before.0, after.1 - before.1, after.2 - before.2)
        };
        let (first, second) = (calls(), calls());
        assert_eq!(first, second, "every allocator gets the same calls");
        let (allocations, frees, held) = first;
        assert!(allocations > 1000 && frees < allocations);
        let share = held as f64 / (BYTES / 8) as f64;
        assert!((0.05..0.2).contains(&share), "{share}");
    }
}
