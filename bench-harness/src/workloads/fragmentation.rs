//! fragmentation: grow, free all but every n-th block, grow with other sizes, again and again.
//!
//! Modelled on Robson's worst case (1971): survivors of each phase pin the memory around them, and the next phase's
//! sizes do not fit into the gaps of the last. Imitates long-lived caches in a program whose mix of sizes drifts. What
//! counts is memory held against live bytes over time; throughput is reported as well. One operation is one allocation
//! or one free.

use serde::{Deserialize, Serialize};

use super::{Workload, check_positive};
use crate::child::Bench;
use crate::fail::Fail;
use crate::memory::{Slot, Table};
use crate::raw::{Extent, RawAllocator};
use crate::rng::XorShift64;

/// Size ranges of the phases: each gap left by one phase is too small for the next, then it starts over.
const PHASES: [(usize, usize); 6] = [
    (16, 64),
    (65, 128),
    (129, 320),
    (321, 1000),
    (1001, 4000),
    (200, 260),
];

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Fragmentation {
    /// MiB alive at the end of each growth
    #[arg(default_value_t = 128)]
    pub mib: usize,
    /// One block in so many survives a phase
    #[arg(default_value_t = 8)]
    pub survivors: usize,
    /// Phases
    #[arg(default_value_t = 12)]
    pub phases: u64,
    /// Seed of sizes and survivors
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl Workload for Fragmentation {
    const NAME: &'static str = "fragmentation";

    fn check(&mut self) -> Result<(), Fail> {
        check_positive("mib", self.mib as u64)?;
        check_positive("survivors", self.survivors as u64)?;
        check_positive("phases", self.phases)
    }

    fn title(&self) -> String {
        format!(
            "{} MiB live, 1 in {} survives, {} phases",
            self.mib, self.survivors, self.phases
        )
    }

    fn peak_bytes(&self) -> u64 {
        (self.mib as u64) << 22
    }

    fn ops(&self) -> u64 {
        // Most blocks of a phase are new: its bytes over their mean size.
        let per_cycle: usize = PHASES
            .iter()
            .map(|p| (self.mib << 20) / p.0.midpoint(p.1))
            .sum();
        2 * per_cycle as u64 * self.phases / PHASES.len() as u64
    }

    fn scale(&mut self, share: f64) {
        self.mib = super::scaled(self.mib as u64, share) as usize;
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        // Blocks of the smallest phase, survivors of all others, and room to spare.
        let places = (self.mib << 20) / 30;
        let mut slots = Table::<Slot>::new(places)?;
        let alloc = bench.allocator();
        // Only first bytes are written, so that null needs no more than a cache line per slot.
        alloc.prepare(Extent {
            slots: places,
            max_size: 64,
        })?;
        let mut state = State {
            alloc,
            count: 0,
            live: 0,
            ops: 0,
            refused: 0,
            lost: 0,
        };
        let mut generator = XorShift64::new(self.seed, 0);
        bench.start();
        let mut points = Vec::with_capacity(self.phases as usize * 2);
        bench.timed(|| {
            for phase in 0..self.phases {
                let (min, max) = PHASES[(phase % PHASES.len() as u64) as usize];
                state.grow(&mut slots, self.mib << 20, &mut generator, min, max);
                points.push(crate::child::MemoryMoment::now(state.live));
                state.thin(&mut slots, self.survivors, &mut generator);
                points.push(crate::child::MemoryMoment::now(state.live));
            }
            state.ops
        });
        bench.note_memory(&points);
        state.lost += state.thin(&mut slots, usize::MAX, &mut generator);
        bench.count_failed(state.refused);
        bench.settle();
        // null's blocks go with their slots, which survivors change.
        if state.lost > 0 && alloc.name() != "null" {
            Err(format!(
                "verification failed: {} blocks lost their contents",
                state.lost
            ))
        } else {
            Ok(())
        }
    }
}

struct State {
    alloc: &'static RawAllocator,
    /// Slots in use, from the first.
    count: usize,
    live: usize,
    ops: u64,
    refused: u64,
    lost: u64,
}

impl State {
    fn grow(
        &mut self,
        slots: &mut [Slot],
        target: usize,
        generator: &mut XorShift64,
        min: usize,
        max: usize,
    ) {
        while self.live < target && self.count < slots.len() {
            let size = generator.between(min, max);
            let ptr = self.alloc.alloc(size, self.count);
            self.ops += 1;
            if ptr.is_null() {
                self.refused += 1;
                return;
            }
            // SAFETY: the block has at least one byte. The slot's number may change, the size does not.
            unsafe { ptr.write(size as u8) };
            slots[self.count] = Slot { ptr, size };
            self.count += 1;
            self.live += size;
        }
    }

    /// Frees all but one block in `survivors`, chosen at random; answers how many had lost their first byte.
    fn thin(&mut self, slots: &mut [Slot], survivors: usize, generator: &mut XorShift64) -> u64 {
        let (mut kept, mut lost) = (0, 0);
        for i in 0..self.count {
            let slot = slots[i];
            if survivors != usize::MAX && generator.below(survivors) == 0 {
                slots[kept] = slot;
                kept += 1;
                continue;
            }
            // SAFETY: a live block of at least one byte, from this allocator with this size; its slot is overwritten.
            unsafe {
                lost += u64::from(slot.ptr.read() != slot.size as u8);
                self.alloc.dealloc(slot.ptr, slot.size);
            }
            self.ops += 1;
            self.live -= slot.size;
        }
        self.count = kept;
        self.lost += lost;
        lost
    }
}
