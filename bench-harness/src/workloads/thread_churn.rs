//! thread-churn: short-lived threads that each allocate a little, free it, and end.
//!
//! Imitates thread-per-request servers and test runners: what an allocator does when a thread starts and ends counts
//! more than its fast paths. One operation is one thread, from its start to its end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use super::{Workload, check_positive, check_sizes, check_threads};
use crate::child::Bench;
use crate::fail::Fail;
use crate::measure::timed_section;
use crate::raw::{Extent, RawAllocator};
use crate::record::Series;
use crate::rng::XorShift64;

/// The most blocks of one thread: they live on its stack.
const MOST: usize = 1024;

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct ThreadChurn {
    /// Threads one after another, per thread at a time
    #[arg(default_value_t = 3000)]
    pub count: u64,
    /// Blocks of each, at most 1024
    #[arg(default_value_t = 100)]
    pub blocks: usize,
    /// Bytes of the smallest block
    #[arg(long, default_value_t = 16)]
    pub min_size: usize,
    /// Bytes of the largest block
    #[arg(long, default_value_t = 1024)]
    pub max_size: usize,
    /// Threads at a time
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Seed of the sizes
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl Workload for ThreadChurn {
    const NAME: &'static str = "thread-churn";

    fn check(&mut self) -> Result<(), Fail> {
        check_sizes(self.min_size, self.max_size)?;
        check_positive("count", self.count)?;
        if !(1..=MOST).contains(&self.blocks) {
            return Err(Fail::usage(format!(
                "blocks {}: expected 1 to {MOST}",
                self.blocks
            )));
        }
        check_threads(self.threads)
    }

    fn title(&self) -> String {
        format!(
            "{} at a time, {} × {}–{} B each",
            self.threads, self.blocks, self.min_size, self.max_size
        )
    }

    fn peak_bytes(&self) -> u64 {
        (self.threads * (self.blocks * self.max_size + (4 << 20))) as u64
    }

    fn ops(&self) -> u64 {
        self.count * self.threads as u64
    }

    fn scale(&mut self, share: f64) {
        self.count = super::scaled(self.count, share);
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: self.blocks * self.threads,
            max_size: self.max_size,
        })?;
        let warm = bench.series() == Series::Warm;
        let (refused, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
        let one = |thread: usize, number: u64| {
            let (r, w) = self.life(alloc, thread, number);
            refused.fetch_add(r, Relaxed);
            wrong.fetch_add(w, Relaxed);
        };
        bench.start();
        bench.timed_threads(self.threads, |thread, gate| {
            let live = |count: u64| {
                for number in 0..count {
                    std::thread::scope(|s| {
                        s.spawn(|| timed_section(|| one(thread, number)));
                    });
                }
                count
            };
            if warm {
                live(self.count / 10);
            }
            gate.timed(|| live(self.count));
        });
        bench.count_failed(refused.into_inner());
        bench.settle();
        match wrong.into_inner() {
            0 => Ok(()),
            n => Err(format!(
                "verification failed: {n} blocks lost their contents"
            )),
        }
    }
}

impl ThreadChurn {
    /// What one thread does; answers refused allocations and blocks that lost their first byte.
    fn life(&self, alloc: &RawAllocator, thread: usize, number: u64) -> (u64, u64) {
        let mut blocks = [(std::ptr::null_mut::<u8>(), 0usize); MOST];
        let mut generator = XorShift64::new(self.seed + number, thread as u64);
        let (mut refused, mut wrong) = (0, 0);
        for (i, block) in blocks[..self.blocks].iter_mut().enumerate() {
            let size = generator.between(self.min_size, self.max_size);
            *block = (alloc.alloc(size, thread * self.blocks + i), size);
            if block.0.is_null() {
                refused += 1;
            } else {
                // SAFETY: the block has at least one byte.
                unsafe { block.0.write(i as u8) };
            }
        }
        for (i, &(ptr, size)) in blocks[..self.blocks].iter().enumerate() {
            if !ptr.is_null() {
                // SAFETY: allocated above with this size, freed once.
                unsafe {
                    wrong += u64::from(ptr.read() != i as u8);
                    alloc.dealloc(ptr, size);
                }
            }
        }
        (refused, wrong)
    }
}
