//! random-mixed: the benchmark of the report this project began with, draw for draw.
//!
//! Imitates a program with a fixed number of small objects of mixed sizes alive at a time, replaced at random: each
//! draw picks a slot, frees it when full and fills it when empty. One operation is one allocation or one free.
//! The size is 16 + (r & 0x3FF) of the same draw that picked the slot, as in the reference program.

use serde::{Deserialize, Serialize};

use super::{Workload, check_positive, check_sizes};
use crate::child::Bench;
use crate::fail::Fail;
use crate::memory::{Slot, Table};
use crate::options::env_number;
use crate::raw::{Extent, RawAllocator};
use crate::record::Series;
use crate::rng::XorShift32;

/// What the reference program adds to the seed of its prefault pass.
const PREFAULT_SEED: u32 = 0xDEAD_BEEF;

/// Parameters, in the order of the reference program's arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct RandomMixed {
    /// Operations in the timed part
    #[arg(default_value_t = 10_000_000)]
    pub cycles: u64,
    /// Number of slots: the most blocks alive at a time
    #[arg(default_value_t = 8192)]
    pub ws: u32,
    /// Seed of the generator, not 0
    #[arg(default_value_t = 1_234_567)]
    pub seed: u32,
    /// Sizes below are raised to this (default: HAKMEM_BENCH_MIN_SIZE or 16)
    pub min_size: Option<usize>,
    /// Sizes above are lowered to this (default: HAKMEM_BENCH_MAX_SIZE or 1039)
    pub max_size: Option<usize>,
    /// Operations of the warm-up pass of the warm series, drained before the clock (HAKMEM_BENCH_WARMUP).
    #[arg(skip)]
    #[serde(default)]
    pub warmup: u64,
    /// Operations of the prefault pass of the warm series, whose blocks stay (HAKMEM_BENCH_PREFAULT).
    #[arg(skip)]
    pub prefault: Option<u64>,
    /// Superslabs taken and populated before the clock in the warm series (HAKMEM_BENCH_PREWARM).
    #[arg(skip)]
    #[serde(default)]
    pub prewarm: usize,
}

impl RandomMixed {
    /// The case with everything else as by default.
    pub fn new(cycles: u64, ws: u32, seed: u32) -> Self {
        Self {
            cycles,
            ws,
            seed,
            min_size: None,
            max_size: None,
            warmup: 0,
            prefault: None,
            prewarm: 0,
        }
    }
}

impl Workload for RandomMixed {
    const NAME: &'static str = "random-mixed";

    fn check(&mut self) -> Result<(), Fail> {
        let min = env_number("HAKMEM_BENCH_MIN_SIZE")?.map(|n| n as usize);
        let max = env_number("HAKMEM_BENCH_MAX_SIZE")?.map(|n| n as usize);
        let min = *self.min_size.get_or_insert(min.unwrap_or(16));
        let max = *self.max_size.get_or_insert(max.unwrap_or(1039));
        check_sizes(min, max)?;
        check_positive("cycles", self.cycles)?;
        check_positive("ws", self.ws.into())?;
        if self.seed == 0 {
            return Err(Fail::usage(
                "seed 0: the generator would stay at 0; expected 1 to 4294967295",
            ));
        }
        self.warmup = env_number("HAKMEM_BENCH_WARMUP")?.unwrap_or(0);
        self.prefault = Some(env_number("HAKMEM_BENCH_PREFAULT")?.unwrap_or(self.cycles / 10));
        self.prewarm = env_number("HAKMEM_BENCH_PREWARM")?.unwrap_or(0) as usize;
        Ok(())
    }

    fn title(&self) -> String {
        let mut title = format!("{} {} {}", self.cycles, self.ws, self.seed);
        let sizes = (self.min_size.unwrap_or(16), self.max_size.unwrap_or(1039));
        if sizes != (16, 1039) {
            title += &format!(" {} {}", sizes.0, sizes.1);
        }
        title
    }

    fn peak_bytes(&self) -> u64 {
        u64::from(self.ws) * (self.max_size.unwrap_or(1039) as u64 + size_of::<Slot>() as u64)
    }

    fn ops(&self) -> u64 {
        self.cycles
    }

    fn scale(&mut self, share: f64) {
        self.cycles = super::scaled(self.cycles, share);
        self.prefault = self.prefault.map(|n| (n as f64 * share) as u64);
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let mut slots = Table::<Slot>::new(self.ws as usize)?;
        let sizes = (self.min_size.unwrap_or(16), self.max_size.unwrap_or(1039));
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: slots.len(),
            max_size: sizes.1,
        })?;
        let mut failed = 0;

        bench.start();
        if bench.series() == Series::Warm {
            failed += pass(alloc, &mut slots, self.warmup, self.seed, sizes);
            drain(alloc, &mut slots);
            alloc.prewarm(self.prewarm);
            let seed = self.seed.wrapping_add(PREFAULT_SEED);
            failed += pass(alloc, &mut slots, self.prefault.unwrap_or(0), seed, sizes);
        }
        bench.timed(|| {
            failed += pass(alloc, &mut slots, self.cycles, self.seed, sizes);
            drain(alloc, &mut slots);
            self.cycles
        });
        bench.count_failed(failed);
        bench.settle();
        verify(
            alloc,
            &mut slots,
            self.cycles.min(100_000),
            self.seed,
            sizes,
        )
    }
}

/// The reference's loop: `cycles` draws from `seed` over the slots as they are. Answers how many allocations failed.
#[inline(never)]
fn pass(
    alloc: &RawAllocator,
    slots: &mut [Slot],
    cycles: u64,
    seed: u32,
    sizes: (usize, usize),
) -> u64 {
    let (min, max) = sizes;
    let ws = slots.len() as u32;
    let mut generator = XorShift32::new(seed);
    let mut failed = 0;
    for _ in 0..cycles {
        let r = generator.draw();
        let i = (r % ws) as usize;
        let slot = &mut slots[i];
        if slot.ptr.is_null() {
            let size = (16 + (r & 0x3FF) as usize).clamp(min, max);
            let block = alloc.alloc(size, i);
            if block.is_null() {
                failed += 1;
                continue;
            }
            // SAFETY: the block has at least one byte.
            unsafe { block.write(r as u8) };
            *slot = Slot { ptr: block, size };
        } else {
            // SAFETY: the slot's block came from this allocator with this size and is forgotten here.
            unsafe { alloc.dealloc(slot.ptr, slot.size) };
            slot.ptr = std::ptr::null_mut();
        }
    }
    failed
}

/// Frees every slot that is full.
#[inline(never)]
fn drain(alloc: &RawAllocator, slots: &mut [Slot]) {
    for slot in slots {
        if !slot.ptr.is_null() {
            // SAFETY: as in `pass`.
            unsafe { alloc.dealloc(slot.ptr, slot.size) };
            slot.ptr = std::ptr::null_mut();
        }
    }
}

/// The same draws outside the clock, with both ends of every block written and checked when it is freed.
fn verify(
    alloc: &RawAllocator,
    slots: &mut [Slot],
    cycles: u64,
    seed: u32,
    sizes: (usize, usize),
) -> Result<(), String> {
    let ws = slots.len() as u32;
    let mut generator = XorShift32::new(seed);
    let mut check = super::Checker::default();
    for _ in 0..cycles {
        let r = generator.draw();
        let i = (r % ws) as usize;
        if slots[i].ptr.is_null() {
            let size = (16 + (r & 0x3FF) as usize).clamp(sizes.0, sizes.1);
            slots[i] = check.fill(alloc, size, i);
        } else {
            check.free(alloc, &mut slots[i], i);
        }
    }
    for (i, slot) in slots.iter_mut().enumerate() {
        check.free(alloc, slot, i);
    }
    check.verdict()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subjects;

    #[test]
    fn the_first_draws_are_the_references() {
        // Seed 1 draws 0x42021, 0x4080601, 0x9DCCA8C5 (see rng): with 4 slots, slot 1 filled, freed, filled.
        let _alone = subjects::NULL_IN_USE.lock().unwrap();
        let null = subjects::find("null").unwrap();
        null.prepare(Extent {
            slots: 4,
            max_size: 1039,
        })
        .unwrap();
        let mut slots = Table::<Slot>::new(4).unwrap();
        let full = |slots: &[Slot]| slots.iter().map(|s| !s.ptr.is_null()).collect::<Vec<_>>();
        assert_eq!(pass(null, &mut slots, 1, 1, (16, 1039)), 0);
        assert_eq!(slots[1].size, 16 + 0x21);
        assert_eq!(full(&slots), [false, true, false, false]);
        // SAFETY: null's block of slot 1 is mapped memory.
        assert_eq!(unsafe { slots[1].ptr.read() }, 0x21);
        drain(null, &mut slots);
        assert_eq!(full(&slots), [false; 4]);
        assert_eq!(pass(null, &mut slots, 2, 1, (16, 1039)), 0);
        assert_eq!(full(&slots), [false; 4]);
        assert_eq!(pass(null, &mut slots, 3, 1, (16, 1039)), 0);
        assert_eq!(slots[1].size, 16 + 0xC5);
        drain(null, &mut slots);
        for (limits, size) in [((16, 100), 100), ((300, 400), 300)] {
            pass(null, &mut slots, 3, 1, limits);
            assert_eq!(slots[1].size, size);
            drain(null, &mut slots);
        }
    }

    #[test]
    fn environment_and_limits() {
        let mut w = RandomMixed::new(1000, 256, 42);
        w.check().unwrap();
        assert_eq!(
            (w.min_size, w.max_size, w.prefault, w.warmup),
            (Some(16), Some(1039), Some(100), 0)
        );
        assert!(
            RandomMixed::new(1000, 256, 0)
                .check()
                .unwrap_err()
                .line
                .starts_with("seed 0:")
        );
        assert!(RandomMixed::new(0, 256, 1).check().is_err());
        assert!(RandomMixed::new(1, 0, 1).check().is_err());
        let mut w = RandomMixed {
            min_size: Some(20),
            max_size: Some(19),
            ..RandomMixed::new(1, 1, 1)
        };
        assert!(w.check().unwrap_err().line.contains("sizes 20 to 19"));
    }
}
