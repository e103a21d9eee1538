//! cache-sets: one hot object in each of many size classes, touched in turn.
//!
//! Imitates programs whose few hot objects differ in size (a server's state, an interpreter's frames, a game's systems).
//! An allocator whose first blocks of every class lie at the same offset of an aligned slab puts all of them into one set
//! of the first-level cache, where eight or twelve find room: every touch then misses. The objects are the first that are
//! taken of each class. One operation is one touch, a read and a write, and `bound` is the time of one.

use serde::{Deserialize, Serialize};

use super::{Bound, Workload, check_positive};
use crate::child::Bench;
use crate::fail::Fail;
use crate::memory::{Slot, Table};
use crate::raw::{Extent, RawAllocator};
use crate::record::Series;

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct CacheSets {
    /// Objects, each larger than the one before
    #[arg(default_value_t = 60)]
    pub classes: usize,
    /// Bytes of the smallest, and by how much each is larger than the one before
    #[arg(default_value_t = 16)]
    pub step: usize,
    /// Times each is touched
    #[arg(default_value_t = 3_000_000)]
    pub rounds: u64,
}

impl Workload for CacheSets {
    const NAME: &'static str = "cache-sets";
    const BOUND: Option<Bound> = Some(Bound::at_most(1.0, "ns per touch"));

    fn check(&mut self) -> Result<(), Fail> {
        check_positive("classes", self.classes as u64)?;
        check_positive("step", self.step as u64)?;
        check_positive("rounds", self.rounds)?;
        if self.classes.saturating_mul(self.step) > 1 << 20 {
            return Err(Fail::usage(format!(
                "classes {} × step {}: expected at most 1 MiB for the largest object",
                self.classes, self.step
            )));
        }
        Ok(())
    }

    fn title(&self) -> String {
        format!(
            "{} of {} to {} B",
            self.classes,
            self.step,
            self.classes * self.step
        )
    }

    fn peak_bytes(&self) -> u64 {
        (self.classes * self.classes * self.step) as u64
    }

    fn ops(&self) -> u64 {
        self.rounds * self.classes as u64
    }

    fn scale(&mut self, share: f64) {
        self.rounds = super::scaled(self.rounds, share);
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let mut slots = Table::<Slot>::new(self.classes)?;
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: self.classes,
            max_size: self.classes * self.step,
        })?;
        bench.start();
        let warm = bench.series() == Series::Warm;
        if warm {
            take(alloc, &mut slots, self.step);
            touch(&slots, self.rounds / 10);
        }
        bench.timed(|| {
            if !warm {
                take(alloc, &mut slots, self.step);
            }
            touch(&slots, self.rounds)
        });
        bench.count_failed(slots.iter().filter(|s| s.ptr.is_null()).count() as u64);
        bench.note_figure(bench.secs() * 1e9 / bench.ops().max(1) as f64);
        let touches = (self.rounds + if warm { self.rounds / 10 } else { 0 }) as u8;
        let mut intact = true;
        for slot in slots.iter().filter(|s| !s.ptr.is_null()) {
            // SAFETY: a live block of this size, freed once.
            unsafe {
                intact &= slot.ptr.read() == touches;
                alloc.dealloc(slot.ptr, slot.size);
            }
        }
        bench.settle();
        if intact {
            Ok(())
        } else {
            Err("verification failed: an object lost touches".to_owned())
        }
    }
}

fn take(alloc: &RawAllocator, slots: &mut [Slot], step: usize) {
    for (i, slot) in slots.iter_mut().enumerate() {
        let size = (i + 1) * step;
        let ptr = alloc.alloc(size, i);
        *slot = Slot { ptr, size };
        if !ptr.is_null() {
            // SAFETY: the block has at least one byte.
            unsafe { ptr.write(0) };
        }
    }
}

/// Touches every object so many times, in turn; answers how many touches there were.
#[inline(never)]
fn touch(slots: &[Slot], rounds: u64) -> u64 {
    if slots.iter().any(|s| s.ptr.is_null()) {
        return 0;
    }
    for _ in 0..rounds {
        for slot in slots {
            // SAFETY: the object is live and has at least one byte. Volatile, so that touches are not merged.
            unsafe {
                slot.ptr
                    .write_volatile(slot.ptr.read_volatile().wrapping_add(1))
            };
        }
    }
    rounds * slots.len() as u64
}
