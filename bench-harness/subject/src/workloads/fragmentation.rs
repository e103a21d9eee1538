//! fragmentation: grow, free all but every n-th block, grow with other sizes, again and again.
//!
//! Modelled on Robson's worst case (1971): survivors of each phase pin the memory around them, and the next phase's
//! sizes do not fit into the gaps of the last. Imitates long-lived caches in a program whose mix of sizes drifts. What
//! counts is the most memory held against the bytes alive; throughput is reported as well. One operation is one allocation
//! or one free.

use crate::bench::Bench;
use crate::blocks::{Slot, damaged};
use crate::memory::Table;
use crate::raw::RawAllocator;
use crate::rng::XorShift64;
use crate::spec::Spec;

/// Size ranges of the phases: each gap left by one phase is too small for the next, then it starts over.
const PHASES: [(usize, usize); 6] = [(16, 64), (65, 128), (129, 320), (321, 1000), (1001, 4000), (200, 260)];

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (bytes, survivors) = (s.size("mib") << 20, s.size("survivors"));
    // Blocks of the smallest phase, survivors of all others, and room to spare.
    let mut slots = Table::<Slot>::new(bytes / 30)?;
    // Only first bytes are written, so that null needs no more than a cache line per slot.
    let alloc = bench.begin(slots.len(), 64)?;
    let mut state = State { alloc, count: 0, live: 0, ops: 0, lost: 0 };
    let mut generator = XorShift64::new(s.n("seed"), 0);
    bench.timed(|| {
        for phase in 0..s.size("phases") {
            let (min, max) = PHASES[phase % PHASES.len()];
            state.grow(&mut slots, bytes, &mut generator, min, max);
            state.thin(&mut slots, survivors, &mut generator);
        }
        state.ops
    });
    state.thin(&mut slots, usize::MAX, &mut generator);
    damaged(state.lost);
    Ok(())
}

struct State {
    alloc: &'static RawAllocator,
    count: usize,
    live: usize,
    ops: u64,
    lost: u64,
}

impl State {
    fn grow(&mut self, slots: &mut [Slot], target: usize, generator: &mut XorShift64, min: usize, max: usize) {
        while self.live < target && self.count < slots.len() {
            let size = generator.between(min, max);
            // The slot's number may change, the size does not.
            slots[self.count] = Slot::take(self.alloc, size, self.count, size as u8);
            self.ops += 1;
            if slots[self.count].is_empty() {
                return;
            }
            self.count += 1;
            self.live += size;
        }
    }

    /// Frees all but one block in `survivors`, chosen at random, and counts those that had lost their first byte.
    fn thin(&mut self, slots: &mut [Slot], survivors: usize, generator: &mut XorShift64) {
        let (mut kept, mut lost) = (0, 0);
        for i in 0..self.count {
            let mut slot = slots[i];
            if survivors != usize::MAX && generator.below(survivors) == 0 {
                slots[kept] = slot;
                kept += 1;
                continue;
            }
            lost += u64::from(!slot.has(slot.size as u8));
            slot.free(self.alloc);
            self.ops += 1;
            self.live -= slot.size;
        }
        self.count = kept;
        self.lost += lost;
    }
}
