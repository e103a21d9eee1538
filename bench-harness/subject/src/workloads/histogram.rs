//! histogram: blocks of twelve sizes in the shares of a measured histogram, on four threads that each keep a window of the
//! latest blocks of every size.
//!
//! Imitates a message broker or a stream processor: records of a few fixed shapes come in, stay while the window they belong
//! to is open, and leave in the order in which they came. Twelve sizes at a time on four threads ask more of the processor's
//! caches than one: half of what an allocation costs here are misses in the fast paths' own data. One operation is one block
//! that takes the oldest one's place.

use crate::bench::Bench;
use crate::blocks::{Slot, damaged, release, tables};
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
    let places = window * SIZES.len();
    let mut sets = tables(threads, places)?;
    let alloc = bench.begin(threads * places, 4096)?;
    let warm = bench.is_warm();
    bench.timed_threads(&mut sets, |thread, slots, gate| {
        let generator = XorShift64::new(s.n("seed"), thread as u64);
        let (base, at) = (thread * places, [0; SIZES.len()]);
        let mut state = State { alloc, drawn: &drawn, generator, window, base, at, damaged: 0 };
        if warm {
            state.work(slots, blocks / 4);
        }
        gate.timed(|| state.work(slots, blocks));
        damaged(state.damaged);
        release(alloc, slots);
    });
    Ok(())
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
            // The window's oldest block.
            self.damaged += u64::from(!slots[i].has(class as u8));
            slots[i].free(self.alloc);
            slots[i] = Slot::take(self.alloc, size, self.base + i, class as u8);
            slots[i].mark_end(class as u8);
        }
        blocks
    }
}
