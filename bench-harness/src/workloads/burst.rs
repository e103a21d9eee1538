//! burst: many blocks of many sizes, all freed, again and again with other sizes.
//!
//! Imitates a request, a compilation unit or a frame that builds a large and varied working set and drops it whole:
//! small sizes are the most frequent, large ones hold most of the bytes (sizes are drawn evenly on a logarithmic scale).
//! What is freed in one round should serve the next, though its sizes differ. One operation is one allocation or free.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::{Checker, Workload, check_positive, check_sizes, check_threads};
use crate::child::Bench;
use crate::fail::Fail;
use crate::memory::{Slot, Table};
use crate::raw::{Extent, RawAllocator};
use crate::record::Series;
use crate::rng::XorShift64;

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Burst {
    /// Blocks of a burst
    #[arg(default_value_t = 50_000)]
    pub blocks: usize,
    /// Bursts per thread
    #[arg(default_value_t = 40)]
    pub rounds: u64,
    /// Bytes of the smallest block
    #[arg(long, default_value_t = 16)]
    pub min_size: usize,
    /// Bytes of the largest block
    #[arg(long, default_value_t = 16384)]
    pub max_size: usize,
    /// Threads, each with bursts of its own
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Seed of the sizes
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl Workload for Burst {
    const NAME: &'static str = "burst";

    fn check(&mut self) -> Result<(), Fail> {
        check_sizes(self.min_size, self.max_size)?;
        check_positive("blocks", self.blocks as u64)?;
        check_positive("rounds", self.rounds)?;
        check_threads(self.threads)
    }

    fn title(&self) -> String {
        let threads = super::threads_title(self.threads);
        format!(
            "{} blocks, {}–{} B{threads}",
            self.blocks, self.min_size, self.max_size
        )
    }

    fn peak_bytes(&self) -> u64 {
        // The mean of an even distribution on a logarithmic scale.
        let (low, high) = (self.min_size as f64, self.max_size as f64);
        let mean = if high > low {
            (high - low) / (high / low).ln()
        } else {
            low
        };
        (self.threads * self.blocks * (mean as usize + 32)) as u64
    }

    fn ops(&self) -> u64 {
        self.rounds * (2 * self.blocks * self.threads) as u64
    }

    fn scale(&mut self, share: f64) {
        self.rounds = super::scaled(self.rounds, share);
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let mut tables = Vec::new();
        for _ in 0..self.threads {
            tables.push(Mutex::new(Table::<Slot>::new(self.blocks)?));
        }
        // Drawing sizes costs a logarithm: it is done before the clock, for a cycle of sizes that every round enters at
        // another place.
        let mut sizes = Table::<u32>::new(1 << 16)?;
        let mut generator = XorShift64::new(self.seed, 0);
        for size in sizes.iter_mut() {
            *size = log_uniform(&mut generator, self.min_size, self.max_size) as u32;
        }
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: self.blocks * self.threads,
            max_size: self.max_size,
        })?;
        let warm = bench.series() == Series::Warm;
        let failed = Mutex::new(0);
        bench.start();
        bench.timed_threads(self.threads, |thread, gate| {
            let mut slots = tables[thread].lock().unwrap_or_else(|e| e.into_inner());
            let base = thread * self.blocks;
            let mut refused = 0;
            if warm {
                refused += round(alloc, &mut slots, &sizes, 7 * thread + 31, base);
            }
            gate.timed(|| {
                for number in 0..self.rounds {
                    refused += round(
                        alloc,
                        &mut slots,
                        &sizes,
                        7 * thread + 7919 * number as usize,
                        base,
                    );
                }
                self.rounds * 2 * self.blocks as u64
            });
            *failed.lock().unwrap_or_else(|e| e.into_inner()) += refused;
        });
        bench.count_failed(failed.into_inner().unwrap_or_else(|e| e.into_inner()));
        bench.settle();
        let mut slots = tables
            .swap_remove(0)
            .into_inner()
            .unwrap_or_else(|e| e.into_inner());
        let mut check = Checker::default();
        for (i, slot) in slots.iter_mut().enumerate() {
            *slot = check.fill(alloc, sizes[i % sizes.len()] as usize, i);
        }
        for (i, slot) in slots.iter_mut().enumerate() {
            check.free(alloc, slot, i);
        }
        check.verdict()
    }
}

/// A size drawn evenly on a logarithmic scale, both ends included.
pub fn log_uniform(generator: &mut XorShift64, min: usize, max: usize) -> usize {
    let share = f64::from(generator.draw()) / f64::from(u32::MAX);
    let size = min as f64 * (max as f64 / min as f64).powf(share);
    (size.round() as usize).clamp(min, max)
}

#[inline(never)]
fn round(
    alloc: &RawAllocator,
    slots: &mut [Slot],
    sizes: &[u32],
    entry: usize,
    base: usize,
) -> u64 {
    let mut refused = 0;
    for (i, slot) in slots.iter_mut().enumerate() {
        let size = sizes[(entry + i) % sizes.len()] as usize;
        let ptr = alloc.alloc(size, base + i);
        *slot = Slot { ptr, size };
        if ptr.is_null() {
            refused += 1;
        } else {
            // SAFETY: the block has at least one byte.
            unsafe { ptr.write(i as u8) };
        }
    }
    super::live_set::release(alloc, slots);
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_sizes_lie_below_the_geometric_mean() {
        let mut generator = XorShift64::new(1, 1);
        let sizes: Vec<usize> = (0..10_000)
            .map(|_| log_uniform(&mut generator, 16, 16384))
            .collect();
        assert!(sizes.iter().all(|s| (16..=16384).contains(s)));
        let below = sizes.iter().filter(|s| **s < 512).count();
        assert!((4700..5300).contains(&below), "{below}");
        assert_eq!(log_uniform(&mut generator, 9, 9), 9);
    }
}
