//! huge-loop: blocks of 1 to 64 MiB, a few alive, every OS page of each written.
//!
//! Imitates batch jobs that build one large buffer per item: decoded images, decompressed files, matrices. Unlike huge,
//! the blocks are used in full, so that what counts is whether memory comes back already faulted in, and in huge pages.
//! One operation is one block.

use serde::{Deserialize, Serialize};

use super::{Workload, check_positive, check_sizes};
use crate::child::Bench;
use crate::fail::Fail;
use crate::memory::{Slot, Table};
use crate::raw::{Extent, RawAllocator};
use crate::record::Series;
use crate::rng::XorShift64;

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct HugeLoop {
    /// Blocks
    #[arg(default_value_t = 300)]
    pub blocks: u64,
    /// Live blocks
    #[arg(default_value_t = 4)]
    pub live: usize,
    /// Bytes of the smallest block
    #[arg(long, default_value_t = 1 << 20)]
    pub min_size: usize,
    /// Bytes of the largest block
    #[arg(long, default_value_t = 64 << 20)]
    pub max_size: usize,
    /// Seed of the sizes
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl Workload for HugeLoop {
    const NAME: &'static str = "huge-loop";

    fn check(&mut self) -> Result<(), Fail> {
        check_sizes(self.min_size, self.max_size)?;
        check_positive("blocks", self.blocks)?;
        check_positive("live", self.live as u64)
    }

    fn title(&self) -> String {
        format!(
            "{} live, {}–{} KiB, all written",
            self.live,
            self.min_size >> 10,
            self.max_size >> 10
        )
    }

    fn peak_bytes(&self) -> u64 {
        (self.live * self.max_size) as u64
    }

    fn ops(&self) -> u64 {
        self.blocks
    }

    fn scale(&mut self, share: f64) {
        self.blocks = super::scaled(self.blocks, share);
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let mut slots = Table::<Slot>::new(self.live)?;
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: self.live,
            max_size: self.max_size,
        })?;
        let mut generator = XorShift64::new(self.seed, 0);
        let mut next = |slots: &mut [Slot], number: usize| {
            let size = super::burst::log_uniform(&mut generator, self.min_size, self.max_size);
            let i = number % self.live;
            replace(alloc, &mut slots[i], size, i)
        };
        let mut refused = 0;
        bench.start();
        if bench.series() == Series::Warm {
            refused += (0..self.live * 4).map(|n| next(&mut slots, n)).sum::<u64>();
        }
        bench.timed(|| {
            refused += (0..self.blocks as usize)
                .map(|n| next(&mut slots, n))
                .sum::<u64>();
            self.blocks
        });
        let mut check = Ok(());
        for (i, slot) in slots.iter().enumerate().filter(|(_, s)| !s.ptr.is_null()) {
            // SAFETY: the block is live, `o` lies within it, and every 4096th byte was written by `replace`.
            let read = |o: usize| unsafe { slot.ptr.add(o).read() };
            if (0..slot.size).step_by(4096).any(|o| read(o) != i as u8) {
                check = Err("verification failed: a live block lost its contents".to_owned());
            }
        }
        super::live_set::release(alloc, &mut slots);
        bench.count_failed(refused);
        bench.settle();
        check
    }
}

#[inline(never)]
fn replace(alloc: &RawAllocator, slot: &mut Slot, size: usize, i: usize) -> u64 {
    super::live_set::release(alloc, std::slice::from_mut(slot));
    let ptr = alloc.alloc(size, i);
    *slot = Slot { ptr, size };
    if ptr.is_null() {
        return 1;
    }
    for offset in (0..size).step_by(4096) {
        // SAFETY: within the block.
        unsafe { ptr.add(offset).write_volatile(i as u8) };
    }
    0
}
