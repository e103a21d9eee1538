//! huge: a few very large live blocks, one replaced at random, touched once per 64 KiB.
//!
//! Imitates image and matrix buffers, network receive buffers, large vectors made anew for each job. It comes from a
//! well-known weak spot: an allocator that maps and unmaps each such block spends its time in the kernel. One operation
//! is one replacement.

use serde::{Deserialize, Serialize};

use super::{Bound, Workload, check_positive, check_sizes};
use crate::child::Bench;
use crate::fail::Fail;
use crate::memory::{Slot, Table};
use crate::raw::{Extent, RawAllocator};
use crate::record::Series;
use crate::rng::XorShift64;

/// Distance between two touched bytes.
const STEP: usize = 64 << 10;

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Huge {
    /// Replacements
    #[arg(default_value_t = 2000)]
    pub replacements: u64,
    /// Live blocks
    #[arg(default_value_t = 20)]
    pub live: usize,
    /// Bytes of the smallest block
    #[arg(long, default_value_t = 5 << 20)]
    pub min_size: usize,
    /// Bytes of the largest block
    #[arg(long, default_value_t = 25 << 20)]
    pub max_size: usize,
    /// Seed of slots and sizes
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl Workload for Huge {
    const NAME: &'static str = "huge";
    const BOUND: Option<Bound> = Some(Bound::at_least(13.0, "thousand blocks per second"));

    fn check(&mut self) -> Result<(), Fail> {
        check_sizes(self.min_size, self.max_size)?;
        check_positive("replacements", self.replacements)?;
        check_positive("live", self.live as u64)
    }

    fn title(&self) -> String {
        format!(
            "{} live, {}–{} KiB",
            self.live,
            self.min_size >> 10,
            self.max_size >> 10
        )
    }

    fn peak_bytes(&self) -> u64 {
        (self.live * self.max_size) as u64
    }

    fn ops(&self) -> u64 {
        self.replacements
    }

    fn scale(&mut self, share: f64) {
        self.replacements = super::scaled(self.replacements, share);
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let mut slots = Table::<Slot>::new(self.live)?;
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: self.live,
            max_size: self.max_size,
        })?;
        let mut generator = XorShift64::new(self.seed, 0);
        let mut refused = 0;
        bench.start();
        if bench.series() == Series::Warm {
            for (i, slot) in slots.iter_mut().enumerate() {
                let size = generator.between(self.min_size, self.max_size);
                refused += replace(alloc, slot, size, i);
            }
        }
        bench.timed(|| {
            for _ in 0..self.replacements {
                let i = generator.below(self.live);
                let size = generator.between(self.min_size, self.max_size);
                refused += replace(alloc, &mut slots[i], size, i);
            }
            self.replacements
        });
        bench.note_figure(bench.ops() as f64 / bench.secs() / 1e3);
        let intact = slots.iter().enumerate().all(|(i, s)| is_intact(s, i));
        super::live_set::release(alloc, &mut slots);
        bench.count_failed(refused);
        bench.settle();
        if intact {
            Ok(())
        } else {
            Err("verification failed: a live block lost its contents".to_owned())
        }
    }
}

/// Frees the slot's block, if any, and fills it anew; 1 when the allocation was refused.
#[inline(never)]
fn replace(alloc: &RawAllocator, slot: &mut Slot, size: usize, i: usize) -> u64 {
    if !slot.ptr.is_null() {
        // SAFETY: the slot's block came from this allocator with this size and is forgotten below.
        unsafe { alloc.dealloc(slot.ptr, slot.size) };
    }
    let ptr = alloc.alloc(size, i);
    *slot = Slot { ptr, size };
    if ptr.is_null() {
        return 1;
    }
    for offset in (0..size).step_by(STEP) {
        // SAFETY: within the block.
        unsafe { ptr.add(offset).write_volatile(i as u8) };
    }
    0
}

fn is_intact(slot: &Slot, i: usize) -> bool {
    // SAFETY: every step was written by `replace`.
    slot.ptr.is_null()
        || (0..slot.size)
            .step_by(STEP)
            .all(|o| unsafe { slot.ptr.add(o).read_volatile() } == i as u8)
}
