//! cold-start: from the start of the process to its first thousand allocations.
//!
//! Imitates command-line tools, which live for milliseconds: an allocator that reserves, reads settings or starts threads
//! at its first use shows here. The clock starts in the parent, right before it starts the child, and the blocks are
//! freed afterwards, outside the clock. One operation is the whole start.

use serde::{Deserialize, Serialize};

use super::{Checker, Workload, check_positive, check_sizes};
use crate::child::Bench;
use crate::fail::Fail;
use crate::memory::{Slot, Table};
use crate::raw::Extent;
use crate::rng::XorShift64;

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct ColdStart {
    /// Allocations
    #[arg(default_value_t = 1000)]
    pub blocks: usize,
    /// Bytes of the smallest block
    #[arg(long, default_value_t = 16)]
    pub min_size: usize,
    /// Bytes of the largest block
    #[arg(long, default_value_t = 512)]
    pub max_size: usize,
    /// Seed of the sizes
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl Workload for ColdStart {
    const NAME: &'static str = "cold-start";

    fn check(&mut self) -> Result<(), Fail> {
        check_sizes(self.min_size, self.max_size)?;
        check_positive("blocks", self.blocks as u64)
    }

    fn title(&self) -> String {
        format!("{} × {}–{} B", self.blocks, self.min_size, self.max_size)
    }

    fn peak_bytes(&self) -> u64 {
        (self.blocks * (self.max_size + 32)) as u64
    }

    fn ops(&self) -> u64 {
        1
    }

    fn scale(&mut self, _share: f64) {}

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let mut slots = Table::<Slot>::new(self.blocks)?;
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: self.blocks,
            max_size: self.max_size,
        })?;
        let mut generator = XorShift64::new(self.seed, 0);
        let mut check = Checker::default();
        bench.start();
        bench.timed_since_spawn(|| {
            for (i, slot) in slots.iter_mut().enumerate() {
                *slot = check.fill(alloc, generator.between(self.min_size, self.max_size), i);
            }
            1
        });
        bench.count_failed(slots.iter().filter(|s| s.ptr.is_null()).count() as u64);
        for (i, slot) in slots.iter_mut().enumerate() {
            check.free(alloc, slot, i);
        }
        bench.settle();
        check.verdict()
    }
}
