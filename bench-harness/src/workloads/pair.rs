//! pair: allocate a block, write its first byte, free it, again and again.
//!
//! Imitates a program that builds one short-lived object at a time (a formatted string, a temporary vector): the most
//! recently freed block is always at hand, so that nothing but the two fast paths is measured. One operation is one
//! allocation with its free.

use serde::{Deserialize, Serialize};

use super::{Workload, check_positive, check_sizes, check_threads};
use crate::child::Bench;
use crate::fail::Fail;
use crate::raw::{Extent, RawAllocator};
use crate::record::Series;

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Pair {
    /// Bytes of the block
    #[arg(default_value_t = 48)]
    pub size: usize,
    /// Pairs per thread
    #[arg(default_value_t = 20_000_000)]
    pub pairs: u64,
    /// Threads, each for itself
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}

impl Workload for Pair {
    const NAME: &'static str = "pair";

    fn check(&mut self) -> Result<(), Fail> {
        check_sizes(self.size, self.size)?;
        check_positive("pairs", self.pairs)?;
        check_threads(self.threads)
    }

    fn title(&self) -> String {
        format!(
            "{} {}{}",
            self.size,
            self.pairs,
            super::threads_title(self.threads)
        )
    }

    fn peak_bytes(&self) -> u64 {
        (self.size * self.threads) as u64
    }

    fn ops(&self) -> u64 {
        self.pairs * self.threads as u64
    }

    fn scale(&mut self, share: f64) {
        self.pairs = super::scaled(self.pairs, share);
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: self.threads,
            max_size: self.size,
        })?;
        bench.start();
        let warm = bench.series() == Series::Warm;
        bench.timed_threads(self.threads, |thread, gate| {
            if warm {
                pairs(alloc, self.size, thread, self.pairs / 10);
            }
            gate.timed(|| pairs(alloc, self.size, thread, self.pairs));
        });
        bench.settle();
        Ok(())
    }
}

/// `count` pairs; stops at the first refusal. Answers how many were made.
#[inline(never)]
fn pairs(alloc: &RawAllocator, size: usize, slot: usize, count: u64) -> u64 {
    for done in 0..count {
        let block = alloc.alloc(size, slot);
        if block.is_null() {
            return done;
        }
        // SAFETY: the block has at least one byte, comes from this allocator with this size, and is forgotten.
        unsafe {
            block.write(done as u8);
            alloc.dealloc(block, size);
        }
    }
    count
}
