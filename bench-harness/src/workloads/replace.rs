//! replace: a large live set in which one random block at a time is freed and allocated anew.
//!
//! Imitates a cache or an in-memory database: far more blocks than fit the processor's caches, freed in no order at all,
//! so that locality of the blocks and of the allocator's own data decides. One operation is one replacement. The cold
//! series times the filling of the live set as well, one operation per block.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::live_set::{LiveSet, release};
use super::{Checker, Workload, check_positive, check_sizes, check_threads};
use crate::child::Bench;
use crate::fail::Fail;
use crate::memory::{Slot, Table};
use crate::raw::{Extent, RawAllocator};
use crate::record::Series;
use crate::rng::XorShift64;

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Replace {
    /// Live blocks per thread
    #[arg(default_value_t = 1_000_000)]
    pub live: usize,
    /// Replacements per thread
    #[arg(default_value_t = 4_000_000)]
    pub replacements: u64,
    /// Bytes of the smallest block
    #[arg(long, default_value_t = 16)]
    pub min_size: usize,
    /// Bytes of the largest block
    #[arg(long, default_value_t = 271)]
    pub max_size: usize,
    /// Threads, each with a live set of its own
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Seed of slots and sizes
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl Workload for Replace {
    const NAME: &'static str = "replace";

    fn check(&mut self) -> Result<(), Fail> {
        check_sizes(self.min_size, self.max_size)?;
        check_positive("live", self.live as u64)?;
        check_positive("replacements", self.replacements)?;
        check_threads(self.threads)
    }

    fn title(&self) -> String {
        let threads = super::threads_title(self.threads);
        format!(
            "{} live, {}–{} B{threads}",
            self.live, self.min_size, self.max_size
        )
    }

    fn peak_bytes(&self) -> u64 {
        (self.threads * self.live * (self.min_size.midpoint(self.max_size) + 40)) as u64
    }

    fn ops(&self) -> u64 {
        self.replacements * self.threads as u64
    }

    fn scale(&mut self, share: f64) {
        self.replacements = super::scaled(self.replacements, share);
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let mut tables = Vec::new();
        for _ in 0..self.threads {
            tables.push(Mutex::new(Table::<Slot>::new(self.live)?));
        }
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: self.live * self.threads,
            max_size: self.max_size,
        })?;
        bench.start();
        let warm = bench.series() == Series::Warm;
        let failed = Mutex::new(0);
        bench.timed_threads(self.threads, |thread, gate| {
            // Nobody else ever locks it.
            let mut slots = tables[thread].lock().unwrap_or_else(|e| e.into_inner());
            let mut generator = XorShift64::new(self.seed, thread as u64);
            let set = LiveSet {
                alloc,
                sizes: (self.min_size, self.max_size),
                base: thread * self.live,
            };
            let mut refused = 0;
            if warm {
                refused += set.fill(&mut slots, &mut generator);
            }
            gate.timed(|| {
                if !warm {
                    refused += set.fill(&mut slots, &mut generator);
                }
                refused += set.replace(&mut slots, &mut generator, self.replacements);
                self.replacements + if warm { 0 } else { self.live as u64 }
            });
            release(alloc, &mut slots);
            *failed.lock().unwrap_or_else(|e| e.into_inner()) += refused;
        });
        bench.count_failed(failed.into_inner().unwrap_or_else(|e| e.into_inner()));
        bench.settle();
        let mut first = tables
            .swap_remove(0)
            .into_inner()
            .unwrap_or_else(|e| e.into_inner());
        self.verify(alloc, &mut first)
    }
}

impl Replace {
    fn verify(&self, alloc: &RawAllocator, slots: &mut [Slot]) -> Result<(), String> {
        let mut check = Checker::default();
        let mut generator = XorShift64::new(self.seed, 0);
        for _ in 0..self.replacements.min(200_000) {
            let i = generator.below(slots.len());
            check.free(alloc, &mut slots[i], i);
            slots[i] = check.fill(alloc, generator.between(self.min_size, self.max_size), i);
        }
        for (i, slot) in slots.iter_mut().enumerate() {
            check.free(alloc, slot, i);
        }
        check.verdict()
    }
}
