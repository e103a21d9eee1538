//! random-mixed: the benchmark of the report this project began with, draw for draw.
//!
//! Imitates a program with a fixed number of small objects of mixed sizes alive at a time, replaced at random: each
//! draw picks a slot, frees it when full and fills it when empty. One operation is one allocation or one free.
//! The size is 16 + (r & 0x3FF) of the same draw that picked the slot, as in the reference program.

use crate::bench::Bench;
use crate::blocks::{Slot, release, verify};
use crate::memory::Table;
use crate::raw::RawAllocator;
use crate::rng::XorShift32;
use crate::spec::Spec;

/// What the reference program adds to the seed of its prefault pass.
const PREFAULT_SEED: u32 = 0xDEAD_BEEF;

/// Operations of the prefault pass: a tenth of the timed part unless another number is asked for.
fn prefault(s: &Spec) -> u64 {
    match s.n("prefault") {
        u64::MAX => s.n("cycles") / 10,
        n => n,
    }
}

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (cycles, seed) = (s.n("cycles"), s.n("seed") as u32);
    let sizes = (s.size("min-size"), s.size("max-size"));
    let mut slots = Table::<Slot>::new(s.size("ws"))?;
    let alloc = bench.begin(slots.len(), sizes.1)?;
    if bench.is_warm() {
        pass(alloc, &mut slots, s.n("warmup"), seed, sizes);
        drain(alloc, &mut slots);
        alloc.prewarm(s.size("prewarm"));
        pass(alloc, &mut slots, prefault(s), seed.wrapping_add(PREFAULT_SEED), sizes);
    }
    bench.timed(|| {
        pass(alloc, &mut slots, cycles, seed, sizes);
        drain(alloc, &mut slots);
        cycles
    });
    bench.finish();
    verify(alloc, &mut slots, sizes, s.n("seed"));
    Ok(())
}

/// The reference's loop: `cycles` draws from `seed` over the slots as they are.
#[inline(never)]
fn pass(alloc: &RawAllocator, slots: &mut [Slot], cycles: u64, seed: u32, sizes: (usize, usize)) {
    let (min, max) = sizes;
    let ws = slots.len() as u32;
    let mut generator = XorShift32::new(seed);
    for _ in 0..cycles {
        let r = generator.draw();
        let i = (r % ws) as usize;
        let slot = &mut slots[i];
        if slot.is_empty() {
            let size = (16 + (r & 0x3FF) as usize).clamp(min, max);
            *slot = Slot::take(alloc, size, i, r as u8);
        } else {
            slot.free(alloc);
        }
    }
}

#[inline(never)]
fn drain(alloc: &RawAllocator, slots: &mut [Slot]) {
    release(alloc, slots);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::NULL;
    use crate::raw::tests::NULL_IN_USE;

    #[test]
    fn the_first_draws_are_the_references() {
        // Seed 1 draws 0x42021, 0x4080601, 0x9DCCA8C5 (see rng): with 4 slots, slot 1 filled, freed, filled.
        let _alone = NULL_IN_USE.lock().unwrap();
        let null = &NULL;
        null.prepare(4, 1039).unwrap();
        let mut slots = Table::<Slot>::new(4).unwrap();
        let full = |slots: &[Slot]| slots.iter().map(|s| !s.is_empty()).collect::<Vec<_>>();
        pass(null, &mut slots, 1, 1, (16, 1039));
        assert_eq!(slots[1].size, 16 + 0x21);
        assert_eq!(full(&slots), [false, true, false, false]);
        assert!(slots[1].has(0x21));
        drain(null, &mut slots);
        assert_eq!(full(&slots), [false; 4]);
        pass(null, &mut slots, 2, 1, (16, 1039));
        assert_eq!(full(&slots), [false; 4]);
        pass(null, &mut slots, 3, 1, (16, 1039));
        assert_eq!(slots[1].size, 16 + 0xC5);
        drain(null, &mut slots);
        for (limits, size) in [((16, 100), 100), ((300, 400), 300)] {
            pass(null, &mut slots, 3, 1, limits);
            assert_eq!(slots[1].size, size);
            drain(null, &mut slots);
        }
    }

    #[test]
    fn the_prefault_pass_is_a_tenth_unless_told() {
        let of = |line: &str| Spec::parse(&line.split(' ').collect::<Vec<_>>(), |_| None).map(|s| prefault(&s));
        assert_eq!(of("random-mixed 1000 256 42"), Ok(100));
        assert_eq!(of("random-mixed 1000 256 42 --prefault 0"), Ok(0));
        assert!(of("random-mixed 1000 256 0").unwrap_err().starts_with("seed 0:"));
        assert!(of("random-mixed 1 1 1 20 19").unwrap_err().contains("sizes 20 to 19"));
    }
}
