//! histogram: blocks of twelve sizes in the shares of a measured histogram, on four threads that each keep a window of the
//! latest blocks of every size.
//!
//! Imitates a message broker or a stream processor: records of a few fixed shapes come in, stay while the window they belong
//! to is open, and leave in the order in which they came. Twelve sizes at a time on four threads ask more of the processor's
//! caches than one: half of what an allocation costs here are misses in the fast paths' own data. One operation is one block
//! that takes the oldest one's place.

use super::blocks::{release, take};
use crate::bench::{self, Bench};
use crate::memory::{Sets, Slot};
use crate::raw::RawAllocator;
use crate::rng::XorShift64;
use crate::spec::Spec;

const SIZES: [usize; 12] = [16, 24, 32, 48, 64, 96, 128, 208, 320, 640, 1536, 4096];

/// The share of the blocks that has each size, in 256.
const SHARES: [usize; 12] = [48, 32, 44, 36, 28, 20, 16, 12, 8, 6, 4, 2];

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (blocks, window, threads) = (s.n("blocks"), s.size("window"), s.size("threads"));
    let mut drawn = [0u8; 256];
    let classes = SHARES.iter().enumerate().flat_map(|(class, share)| std::iter::repeat_n(class as u8, *share));
    drawn.iter_mut().zip(classes).for_each(|(d, class)| *d = class);
    let sets = Sets::new(threads, window * SIZES.len())?;
    let alloc = bench.begin(threads * window * SIZES.len(), 4096)?;
    let warm = bench.is_warm();
    bench.timed_threads(threads, |thread, gate| {
        let mut slots = sets.of(thread);
        let mut state = State {
            alloc,
            drawn: &drawn,
            generator: XorShift64::new(s.n("seed"), thread as u64),
            window,
            base: thread * window * SIZES.len(),
            at: [0; SIZES.len()],
            damaged: 0,
        };
        if warm {
            state.work(&mut slots, blocks / 4);
        }
        gate.timed(|| state.work(&mut slots, blocks));
        bench::damaged(state.damaged);
        release(alloc, &mut slots);
    });
    bench.finish()
}

struct State<'a> {
    alloc: &'a RawAllocator,
    drawn: &'a [u8; 256],
    generator: XorShift64,
    window: usize,
    base: usize,
    at: [usize; SIZES.len()],
    damaged: u64,
}

impl State<'_> {
    #[inline(never)]
    fn work(&mut self, slots: &mut [Slot], blocks: u64) -> u64 {
        for _ in 0..blocks {
            let class = self.drawn[self.generator.below(256)] as usize;
            let size = SIZES[class];
            let i = class * self.window + self.at[class];
            self.at[class] = if self.at[class] + 1 == self.window { 0 } else { self.at[class] + 1 };
            let old = slots[i].ptr;
            if !old.is_null() {
                // SAFETY: the window's oldest block, from this allocator with this size, forgotten below.
                unsafe {
                    self.damaged += u64::from(old.read() != class as u8);
                    self.alloc.dealloc(old, size);
                }
            }
            slots[i] = take(self.alloc, size, self.base + i, class as u8);
            if !slots[i].ptr.is_null() {
                // SAFETY: the last byte of the block.
                unsafe { slots[i].ptr.add(size - 1).write(class as u8) };
            }
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn shares_add_up() {
        assert_eq!(super::SHARES.iter().sum::<usize>(), 256);
    }
}
