//! keepers: threads that build structures of many blocks, keep them, drop them and pass them on, and touch all of them.
//!
//! Imitates an application server as a whole: a structure is a session, a parsed document or a cached answer, of up to 24
//! blocks of 8 bytes to 8 KiB, written in full when it is made and read in full when it is met again. A third of the
//! structures change their thread. All of what is held is used, so that misses of the translation buffer count, and huge
//! pages gain. One operation is one block made, read or dropped.

use std::sync::Mutex;

use crate::bench::Bench;
use crate::blocks::{Slot, damaged, drawn, release, tables};
use crate::raw::RawAllocator;
use crate::rng::XorShift64;
use crate::spec::Spec;

/// The most blocks of a structure.
const BLOCKS: usize = 24;
/// Where structures wait for a thread that takes them over.
const PLACES: usize = 32;
type Passed = [Mutex<[Slot; BLOCKS]>; PLACES];
const DRAWN: usize = 1 << 14;

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (steps, kept, threads) = (s.n("steps"), s.size("kept"), s.size("threads"));
    let mut own = tables(threads, kept * BLOCKS)?;
    let passed: Passed = [const { Mutex::new([Slot::EMPTY; BLOCKS]) }; PLACES];
    let sizes = drawn(DRAWN, s.n("seed"), 8, 8192)?;
    let alloc = bench.begin((threads * kept + PLACES) * BLOCKS, 8192)?;
    let warm = bench.is_warm();
    bench.timed_threads(&mut own, |thread, slots, gate| {
        let generator = XorShift64::new(s.n("seed"), thread as u64 + 1);
        let mut keeper = Keeper { alloc, sizes: &sizes, generator, base: thread * kept * BLOCKS, damaged: 0 };
        if warm {
            keeper.work(slots, &passed, steps / 4);
        }
        gate.timed(|| keeper.work(slots, &passed, steps));
        release(alloc, slots);
        damaged(keeper.damaged);
    });
    passed.into_iter().for_each(|place| release(alloc, &mut place.into_inner().unwrap_or([Slot::EMPTY; BLOCKS])));
    Ok(())
}

struct Keeper<'a> {
    alloc: &'a RawAllocator,
    sizes: &'a [u32],
    generator: XorShift64,
    base: usize,
    damaged: u64,
}

impl Keeper<'_> {
    /// So many structures met; answers how many blocks were made, read or dropped.
    #[inline(never)]
    fn work(&mut self, slots: &mut [Slot], passed: &Passed, steps: u64) -> u64 {
        let mut ops = 0;
        for _ in 0..steps {
            let at = self.generator.below(slots.len() / BLOCKS) * BLOCKS;
            let structure = &mut slots[at..at + BLOCKS];
            if structure[0].is_empty() {
                ops += self.make(structure, at);
                continue;
            }
            match self.generator.below(6) {
                0 | 1 => {
                    let place = passed[self.generator.below(PLACES)].lock();
                    structure.swap_with_slice(&mut *place.unwrap_or_else(|e| e.into_inner()));
                }
                2 => {
                    ops += held(structure);
                    release(self.alloc, structure);
                }
                _ => ops += self.read(structure),
            }
        }
        ops
    }

    fn make(&mut self, structure: &mut [Slot], at: usize) -> u64 {
        let blocks = self.generator.between(1, BLOCKS);
        for (i, slot) in structure[..blocks].iter_mut().enumerate() {
            let size = self.sizes[self.generator.below(DRAWN)] as usize;
            *slot = Slot::take_full(self.alloc, size, self.base + at + i, size as u8);
            if slot.is_empty() {
                return i as u64;
            }
        }
        blocks as u64
    }

    fn read(&mut self, structure: &[Slot]) -> u64 {
        for slot in structure.iter().filter(|s| !s.is_empty()) {
            // SAFETY: the whole block, written when it was made; nobody else has it now.
            let bytes = unsafe { std::slice::from_raw_parts(slot.ptr, slot.size) };
            let sum: u64 = bytes.iter().map(|b| u64::from(*b)).sum();
            self.damaged += u64::from(sum != slot.size as u64 * u64::from(slot.size as u8));
        }
        held(structure)
    }
}

fn held(structure: &[Slot]) -> u64 {
    structure.iter().filter(|s| !s.is_empty()).count() as u64
}
