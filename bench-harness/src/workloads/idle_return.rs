//! idle-return: memory after a peak: threads fill it, free it and end, and the process sits still.
//!
//! Imitates a server after its busiest hour. What counts is resident memory 0, 1 and 5 seconds later, with no call into
//! the allocator meanwhile; throughput is that of the peak. One operation is one allocation or one free.

use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Workload, check_positive, check_sizes, check_threads};
use crate::child::Bench;
use crate::fail::Fail;
use crate::measure::rest;
use crate::memory::{Slot, Table};
use crate::raw::Extent;
use crate::rng::XorShift64;

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct IdleReturn {
    /// MiB of the peak, all threads together
    #[arg(default_value_t = 256)]
    pub mib: usize,
    /// Seconds of rest before memory is read for the last time
    #[arg(default_value_t = 5)]
    pub secs: u64,
    /// Bytes of the smallest block
    #[arg(long, default_value_t = 16)]
    pub min_size: usize,
    /// Bytes of the largest block
    #[arg(long, default_value_t = 1024)]
    pub max_size: usize,
    /// Threads
    #[arg(long, default_value_t = 4)]
    pub threads: usize,
    /// Seed of the sizes
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl IdleReturn {
    fn blocks(&self) -> usize {
        (self.mib << 20) / self.threads / self.min_size.midpoint(self.max_size)
    }
}

impl Workload for IdleReturn {
    const NAME: &'static str = "idle-return";

    fn check(&mut self) -> Result<(), Fail> {
        check_sizes(self.min_size, self.max_size)?;
        check_threads(self.threads)?;
        check_positive("mib", self.mib as u64)?;
        check_positive("blocks per thread", self.blocks() as u64)
    }

    fn title(&self) -> String {
        format!(
            "{} MiB on {} threads, {} s",
            self.mib, self.threads, self.secs
        )
    }

    fn peak_bytes(&self) -> u64 {
        ((self.mib as u64) * 3) << 19
    }

    fn ops(&self) -> u64 {
        (2 * self.blocks() * self.threads) as u64
    }

    fn scale(&mut self, share: f64) {
        self.mib = super::scaled(self.mib as u64, share) as usize;
        self.secs = if share < 1.0 {
            self.secs.min(1)
        } else {
            self.secs
        };
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let blocks = self.blocks();
        let mut tables = Vec::new();
        for _ in 0..self.threads {
            tables.push(Mutex::new(Table::<Slot>::new(blocks)?));
        }
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: blocks * self.threads,
            max_size: self.max_size,
        })?;
        bench.start();
        bench.timed_threads(self.threads, |thread, gate| {
            let mut slots = tables[thread].lock().unwrap_or_else(|e| e.into_inner());
            let mut generator = XorShift64::new(self.seed, thread as u64);
            gate.timed(|| {
                for (i, slot) in slots.iter_mut().enumerate() {
                    let size = generator.between(self.min_size, self.max_size);
                    *slot = Slot {
                        ptr: alloc.alloc(size, thread * blocks + i),
                        size,
                    };
                    if !slot.ptr.is_null() {
                        // SAFETY: the last byte of the block.
                        unsafe { slot.ptr.add(size - 1).write(1) };
                    }
                }
                super::live_set::release(alloc, &mut slots);
                2 * blocks as u64
            });
        });
        bench.sample_memory(0);
        for _ in 0..self.secs {
            rest(Duration::from_secs(1));
            bench.sample_memory(0);
        }
        bench.settle();
        Ok(())
    }
}
